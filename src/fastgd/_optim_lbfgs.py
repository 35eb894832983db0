"""L-BFGS over NumPy arrays: `fastgd.optim.LBFGS`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from . import _core
from ._checkpoint import Files
from ._hypers import Array
from ._lbfgs import (
    DEFAULTS,
    Minimizer,
    NotFinite,
    Settings,
    checked_nonfinite,
    checked_settings,
    with_settings,
)
from ._optimizer import _groups_of, _named

Closure = Callable[[], tuple[Any, Array | Sequence[Array | None]]]


def _setting(name: str) -> property:
    """Property that reads a setting, and sets it if it is good."""

    def get(self: "LBFGS") -> Any:
        return getattr(self._settings, name)

    def set_(self: "LBFGS", value: Any) -> None:
        self._settings = checked_settings({**self._settings._asdict(), name: value})

    return property(get, set_, doc=f"Argument `{name}`; may be assigned between steps.")


@with_settings
class LBFGS(Files):
    """L-BFGS: quasi-Newton steps for full batches; ``torch.optim.LBFGS``.

    It needs the loss and the gradient at points of its own choice, so ``step`` takes a function
    that works them out. All parameters together are one vector.

    Parameters
    ----------
    params : ndarray or iterable of ndarray, or of (name, ndarray)
        C-contiguous, writeable, all float32 or all float64, of any shape; updated in place.
    {settings}

    Attributes
    ----------
    params : list of ndarray
        The parameters.
    names : list of str or None
        Their names.
    t, skipped : int
        Steps done, and those that were ended because something was not finite.

    Raises
    ------
    TypeError, ValueError
        If a parameter cannot be updated in place, two overlap in memory, or a value is out of its
        domain.

    Notes
    -----
    ::

        d = -H g, H from the last pairs s = t * d, y = change of g, where y . s > 1e-10
        H0 = y . s / y . y of the last pair
        p += t * d
        t = lr, in the first iteration lr * min(1, 1 / sum(abs(g))); or by the line search

    If `closure` raises, or is interrupted, the parameters are at the last point that was accepted,
    and the next step goes on from there. Without line search the point that a step ends at is
    evaluated by the next one. Results have the same bits on any number of threads.

    References
    ----------
    Liu & Nocedal, "On the limited memory BFGS method for large scale optimization", Mathematical
    Programming 45, 1989.
    Nocedal & Wright, "Numerical optimization", 2nd edition, 2006, algorithms 7.4, 3.5 and 3.6.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optim import LBFGS
    >>> w = np.array([-1.2, 1.0])
    >>> def rosenbrock():
    ...     a, b = w[1] - w[0] ** 2, 1 - w[0]
    ...     return 100 * a**2 + b**2, np.array([-400 * w[0] * a - 2 * b, 200 * a])
    >>> opt = LBFGS(w, max_iter=50, line_search_fn="strong_wolfe")
    >>> opt.step(rosenbrock)
    24.199999999999996
    >>> w.round(3)
    array([1., 1.])
    """

    def __init__(
        self,
        params: Any,
        lr: float = DEFAULTS["lr"],
        max_iter: int = DEFAULTS["max_iter"],
        max_eval: int | None = DEFAULTS["max_eval"],
        tolerance_grad: float = DEFAULTS["tolerance_grad"],
        tolerance_change: float = DEFAULTS["tolerance_change"],
        history_size: int = DEFAULTS["history_size"],
        line_search_fn: str | None = DEFAULTS["line_search_fn"],
        *,
        nonfinite: str = "raise",
    ) -> None:
        self._settings: Settings = checked_settings(
            {
                "lr": lr,
                "max_iter": max_iter,
                "max_eval": max_eval,
                "tolerance_grad": tolerance_grad,
                "tolerance_change": tolerance_change,
                "history_size": history_size,
                "line_search_fn": line_search_fn,
            }
        )
        self.nonfinite = nonfinite
        self.params, self.names = _checked_params(params)
        self.t = self.skipped = 0
        self._size = sum(param.size for param in self.params)
        self._minimizer = Minimizer(self._size, self.params[0].dtype, self.history_size)

    lr = _setting("lr")
    max_iter = _setting("max_iter")
    max_eval = _setting("max_eval")
    tolerance_grad = _setting("tolerance_grad")
    tolerance_change = _setting("tolerance_change")
    history_size = _setting("history_size")
    line_search_fn = _setting("line_search_fn")

    @property
    def nonfinite(self) -> str:
        """What to do about a loss or gradient that is not finite."""
        return self._nonfinite

    @nonfinite.setter
    def nonfinite(self, value: str) -> None:
        self._nonfinite = checked_nonfinite(value)

    def step(self, closure: Closure) -> float:
        """Take up to `max_iter` iterations.

        Parameters
        ----------
        closure : callable
            Returns the loss, a number, and its gradients at the parameters as they are: an array
            for each parameter, of its shape and dtype, or None where the gradient is zero; the
            array itself may be returned if there is one parameter. Called without arguments.

        Returns
        -------
        float
            The loss before the first iteration.

        Raises
        ------
        TypeError, ValueError
            If what `closure` returns does not fit.
        NonFiniteError
            If a loss or gradient is not finite and ``nonfinite="raise"``. After this and any other
            error the parameters are at the last point that was accepted.
        """
        if not callable(closure):
            raise TypeError(f"closure must be callable; got {closure!r:.80}")
        if self._minimizer.history.size != self.history_size:
            self._minimizer = self._restored(self._minimizer.saved(), self.history_size)
        space = _Arrays(self.params, closure)
        try:
            self._minimizer.step(space, self._settings)
        except NotFinite as found:
            self.skipped += 1
            if self.nonfinite == "raise":
                shapes = [param.shape for param in self.params]
                raise found.as_error(shapes, self.names, self.t + 1) from None
        else:
            self.t += 1
        return space.losses[0]

    def zero_grad(self) -> None:
        """Do nothing: gradients come from the closure, and none is kept."""

    @property
    def state(self) -> list[dict[str, Any]]:
        """The states by torch's names, which are the first parameter's: the live arrays."""
        return [self._minimizer.saved(), *({} for _ in self.params[1:])]

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{name}={value!r}" for name, value in self._settings._asdict().items()
        )
        return f"LBFGS({len(self.params)} params, {settings})"

    # ---- saved states ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the optimizer would need to go on: a copy.

        Returns
        -------
        dict
            In the layout and with the names of ``torch.optim.LBFGS``; ``fastgd`` holds what torch
            has no place for, steps done and ended early.

        Examples
        --------
        >>> import numpy as np
        >>> from fastgd.optim import LBFGS
        >>> w = np.array([2.0, 1.0])
        >>> opt = LBFGS(w, lr=0.5)
        >>> _ = opt.step(lambda: (w @ w, 2 * w))
        >>> sorted(opt.state_dict()["state"][0])[:5]
        ['H_diag', 'al', 'd', 'func_evals', 'n_iter']
        """
        group = self._settings._asdict() | {"params": list(range(len(self.params)))}
        return {
            "state": {0: copied(self._minimizer.saved())},
            "param_groups": [group],
            "fastgd": {"t": self.t, "skipped": self.skipped},
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from where another L-BFGS was, of torch or here, with as many parameters.

        Parameters
        ----------
        state_dict : dict
            From ``state_dict``.

        Raises
        ------
        ValueError, TypeError
            If it does not fit; nothing has been changed then.
        """
        try:
            groups = state_dict["param_groups"]
            if len(groups) != 1:
                raise ValueError(f"state_dict must have one group; got {len(groups)}")
            group = groups[0]
            if list(group["params"]) != list(range(len(self.params))):
                raise ValueError(
                    f"state_dict must be of {len(self.params)} parameters; got {group['params']}"
                )
            settings = checked_settings({name: group[name] for name in DEFAULTS})
            more = state_dict.get("fastgd") or {}
            t, skipped = int(more.get("t", 0)), int(more.get("skipped", 0))
            minimizer = self._restored(state_dict["state"].get(0, {}), settings.history_size)
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"state_dict must be from the state_dict() of LBFGS; got {error!r}"
            ) from error
        self._settings, self._minimizer, self.t, self.skipped = settings, minimizer, t, skipped

    def _restored(self, state: Mapping[str, Any], history_size: int) -> Minimizer:
        return Minimizer.from_saved(self._size, self.params[0].dtype, history_size, state)


class _Arrays:
    """Arrays as one vector, and the function to minimise."""

    def __init__(self, params: list[Array], closure: Closure) -> None:
        self.params = params
        self.closure = closure
        self.losses: list[float] = []

    def load(self, x: Array) -> None:
        """Copy the parameters to `x`."""
        for param, part in self._parts(x):
            part[...] = param

    def store(self, x: Array) -> None:
        """Copy `x` to the parameters."""
        for param, part in self._parts(x):
            param[...] = part

    def evaluate(self, grad: Array) -> float:
        """Call the closure; copy what it returns to `grad`."""
        returned = self.closure()
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            raise TypeError(f"closure must return (loss, grads); got {returned!r:.80}")
        loss, grads = returned
        if isinstance(grads, np.ndarray | np.generic) and len(self.params) == 1:
            grads = [grads]
        if not isinstance(grads, tuple | list) or len(grads) != len(self.params):
            raise TypeError(
                f"grads must be a sequence of {len(self.params)} arrays; got {grads!r:.80}"
            )
        for i, ((param, part), given) in enumerate(zip(self._parts(grad), grads, strict=True)):
            if given is None:
                part[...] = 0
            elif (
                not isinstance(given, np.ndarray | np.generic)
                or given.shape != param.shape
                or given.dtype != param.dtype
            ):
                raise TypeError(
                    f"grads[{i}] must be None or an array of {param.dtype} of shape {param.shape}; "
                    f"got {getattr(given, 'dtype', type(given).__name__)} of shape "
                    f"{np.shape(given)}"
                )
            else:
                part[...] = given
        self.losses.append(_loss(loss))
        return self.losses[-1]

    def _parts(self, vector: Array) -> list[tuple[Array, Array]]:
        """Pair each parameter with its part of a vector."""
        parts, end = [], 0
        for param in self.params:
            begin, end = end, end + param.size
            parts.append((param, vector[begin:end].reshape(param.shape)))
        return parts


def _loss(value: Any) -> float:
    if np.ndim(value) == 0 and not isinstance(value, str | bytes):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    raise TypeError(f"the loss must be a number; got {value!r:.80}")


def _checked_params(params: Any) -> tuple[list[Array], list[str] | None]:
    """Return parameters and names; refuse what cannot be updated in place."""
    groups = _groups_of(params)
    if len(groups) != 1:
        raise ValueError(f"params must be one group; got {len(groups)}")
    group = groups[0]
    if more := group.keys() - {"params", "param_names"}:
        raise ValueError(f"params must be one group without settings; got {sorted(more)}")
    arrays, names = _named(group["params"], 0)
    if not arrays:
        raise ValueError("params must hold at least one array; got an empty list")
    if names and (len(names) != len(arrays) or len(set(names)) != len(names)):
        raise ValueError(f"params must be named all or none, differently; got {names}")
    n = len(arrays)
    hypers = [0.0] * len(_core.RULES["sgd"]["hypers"])
    _core.Stepper("sgd", arrays, [0] * n, [hypers], [(None,)] * n, None)  # checks the buffers
    for i, array in enumerate(arrays):
        if array.dtype != arrays[0].dtype:
            raise TypeError(
                f"params must be of one dtype; params[0] is {arrays[0].dtype}, params[{i}] "
                f"{array.dtype}"
            )
    return arrays, names or None


def copied(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state with copies of its arrays."""

    def copy(value: Any) -> Any:
        if isinstance(value, list):
            return [copy(v) for v in value]
        return value.copy() if isinstance(value, np.ndarray) else value

    return {name: copy(value) for name, value in saved.items()}
