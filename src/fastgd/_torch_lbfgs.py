"""L-BFGS over torch's CPU tensors: `fastgd.torch.LBFGS`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
from ._tensors import FIT, fits, kind, plain, team

_OWN = ("t", "skipped", "_nonfinite")


@with_settings
class LBFGS(torch.optim.LBFGS):
    """L-BFGS: quasi-Newton steps for full batches; ``torch.optim.LBFGS``.

    A subclass of torch's class with its arguments, states, hooks and checkpoints, whose steps are
    worked out in C. There is one group, and all its parameters have one dtype.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor), or of one dict
        CPU tensors, updated in place; complex numbers count as two.
    {settings}

    Attributes
    ----------
    t, skipped : int
        Steps done, and those that were ended because something was not finite.

    Raises
    ------
    TypeError, ValueError
        If a parameter cannot be updated in place, or a value is out of its domain.

    Notes
    -----
    The formulas are those of :class:`fastgd.optim.LBFGS`. In the states numbers are Python's, in
    double precision whatever the parameters are. ``state["t"]`` is 0 after a step that found no
    way down; torch keeps `lr` there.

    Examples
    --------
    >>> import torch
    >>> from fastgd.torch import LBFGS
    >>> w = torch.tensor([5.0, -3.0], requires_grad=True)
    >>> opt = LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     opt.zero_grad()
    ...     loss = (w - 2).square().sum()
    ...     loss.backward()
    ...     return loss
    >>> _ = opt.step(closure)
    >>> [round(x, 4) for x in w.tolist()]
    [2.0, 2.0]
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = DEFAULTS["lr"],
        max_iter: int = DEFAULTS["max_iter"],
        max_eval: int | None = DEFAULTS["max_eval"],
        tolerance_grad: float = DEFAULTS["tolerance_grad"],
        tolerance_change: float = DEFAULTS["tolerance_change"],
        history_size: int = DEFAULTS["history_size"],
        line_search_fn: str | None = DEFAULTS["line_search_fn"],
        *,
        nonfinite: str = "raise",
    ) -> None:
        self.nonfinite = nonfinite
        self.t = self.skipped = 0
        self._forget()
        super().__init__(
            params,
            lr,
            max_iter,
            max_eval,
            tolerance_grad,
            tolerance_change,
            history_size,
            line_search_fn,
        )
        _checked(self.param_groups[0])

    def _forget(self) -> None:
        """Take what is carried on from the states in the next step."""
        self._minimizer: Minimizer | None = None
        self._listed: Any = None  # what was put into the states, to see whether it is there still

    @property
    def nonfinite(self) -> str:
        """What to do about a loss or gradient that is not finite."""
        return self._nonfinite

    @nonfinite.setter
    def nonfinite(self, value: str) -> None:
        self._nonfinite = checked_nonfinite(value)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take up to `max_iter` iterations.

        Parameters
        ----------
        closure : callable
            Clears the gradients, works them out and returns the loss. Called without arguments.
            It must be given.

        Returns
        -------
        object
            What `closure` returned the first time.

        Raises
        ------
        TypeError, ValueError
            If parameters, gradients or settings do not fit.
        NonFiniteError
            If a loss or gradient is not finite and ``nonfinite="raise"``. After this and any other
            error the parameters are at the last point that was accepted.
        """
        if not callable(closure):
            raise TypeError(f"closure must be callable; got {closure!r:.80}")
        if len(self.param_groups) != 1:
            raise ValueError(f"param_groups must hold one group; got {len(self.param_groups)}")
        group = self.param_groups[0]
        settings = _checked(group)
        space = _Tensors(group["params"], closure)
        state = self.state[group["params"][0]]
        minimizer = self._current(state, space, settings.history_size)
        minimizer.n_threads = team()
        try:
            minimizer.step(space, settings)
        except NotFinite as found:
            self.skipped += 1
            if self.nonfinite == "raise":
                shapes = [tuple(real.shape) for real in space.reals]
                raise found.as_error(shapes, group.get("param_names"), self.t + 1) from None
        else:
            self.t += 1
        finally:
            self._show(state, minimizer)
        return space.returned[0]

    def _current(self, state: Mapping[str, Any], space: "_Tensors", size: int) -> Minimizer:
        """Return what went on so far; from the states, if those or a setting were changed."""
        found = self._minimizer
        is_ours = state.get("old_dirs") is self._listed
        if found is None or not is_ours or found.history.size != size:
            given = {name: _taken(value) for name, value in state.items()}
            found = Minimizer.from_saved(space.size, space.dtype, size, given)
        return found

    def _show(self, state: dict[str, Any], minimizer: Minimizer) -> None:
        """Put what is carried on into the states: tensors on the memory that it is in."""
        state.update(_shown(minimizer.saved()))
        self._minimizer, self._listed = minimizer, state.get("old_dirs")

    # ---- saved states ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the optimizer would need to go on: a copy.

        Returns
        -------
        dict
            As torch's class, which can load it; ``"fastgd"`` holds what torch has no place for,
            steps done and ended early.
        """
        saved: dict[str, Any] = super().state_dict()
        state = {i: _copied(own) for i, own in saved["state"].items()}
        return {**saved, "state": state, "fastgd": {"t": self.t, "skipped": self.skipped}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from where another L-BFGS was.

        Parameters
        ----------
        state_dict : dict
            From :meth:`state_dict`, from torch's class, or from `fastgd.optim.LBFGS` with as many
            parameters.
        """
        state = {i: _shown(own) for i, own in state_dict["state"].items()}
        super().load_state_dict({**state_dict, "state": state})
        ours = state_dict.get("fastgd") or {}
        self.t, self.skipped = int(ours.get("t", 0)), int(ours.get("skipped", 0))

    def __getstate__(self) -> dict[str, Any]:
        saved: dict[str, Any] = super().__getstate__()
        saved["state"] = {param: _copied(own) for param, own in self.state.items()}
        return {**saved, **{name: self.__dict__[name] for name in _OWN}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._params, self._numel_cache = self.param_groups[0]["params"], None
        self._forget()


class _Tensors:
    """Tensors as one vector, and the function to minimise."""

    def __init__(self, params: list[Tensor], closure: Callable[[], Any]) -> None:
        self.params = params
        self.reals = [_real(param) for param in params]
        self.sizes = [real.numel() for real in self.reals]
        self.size = sum(self.sizes)
        self.dtype = str(self.reals[0].dtype).removeprefix("torch.")
        self.closure = torch.enable_grad()(closure)
        self.returned: list[Any] = []

    def load(self, x: Array) -> None:
        """Copy the parameters to `x`."""
        torch.cat([real.reshape(-1) for real in self.reals], out=torch.from_numpy(x))

    def store(self, x: Array) -> None:
        """Copy `x` to the parameters."""
        parts = torch.split(torch.from_numpy(x), self.sizes)
        for real, part in zip(self.reals, parts, strict=True):
            real.copy_(part.view(real.shape))

    def evaluate(self, grad: Array) -> float:
        """Call the closure; copy the gradients to `grad`."""
        returned = self.closure()
        loss = float(returned)
        parts = torch.split(torch.from_numpy(grad), self.sizes)
        for i, (param, part) in enumerate(zip(self.params, parts, strict=True)):
            if param.grad is None:
                part.zero_()
                continue
            given = param.grad.to_dense() if param.grad.is_sparse else param.grad
            if given.dtype != param.dtype or given.shape != param.shape:
                raise TypeError(
                    f"the gradient of params[{i}] must be {kind(param)}; got {kind(given)}"
                )
            real = _real(given)
            part.view(real.shape).copy_(real)
        self.returned.append(returned)
        return loss


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _checked(group: Mapping[str, Any]) -> Settings:
    """Check a group and return its settings."""
    params = group["params"]
    for i, param in enumerate(params):
        if not fits(param):
            name = f" ({group['param_names'][i]})" if "param_names" in group else ""
            raise TypeError(f"params[{i}]{name} must be {FIT}; got {kind(param)}")
        if param.dtype != params[0].dtype:
            raise TypeError(
                f"params must be of one dtype; params[0] is {params[0].dtype}, params[{i}] "
                f"{param.dtype}"
            )
    return checked_settings({name: plain(group[name]) for name in DEFAULTS})


def _shown(value: Any) -> Any:
    """Return a state with tensors for arrays."""
    if isinstance(value, dict):
        return {name: _shown(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_shown(v) for v in value]
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _taken(value: Any) -> Any:
    """Return a state with arrays for tensors; 0-d ones and others stay."""
    if isinstance(value, list | tuple):
        return [_taken(v) for v in value]
    return value.detach().numpy() if isinstance(value, Tensor) and value.ndim else value


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state with copies of its tensors, which lie in one piece of memory."""

    def copy(value: Any) -> Any:
        if isinstance(value, list):
            return [copy(v) for v in value]
        return value.clone() if isinstance(value, Tensor) else value

    return {name: copy(value) for name, value in state.items()}
