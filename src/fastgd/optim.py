"""Optimizers over lists of NumPy arrays, with torch.optim's names, defaults and numerics.

The classes are made from the rows of ``csrc/optim_rules.h``: signature, hyper-parameters, their
defaults and domains, and the states come from there. One ``step`` is one call into C for the whole
list of parameters.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, Signature
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from . import _core

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]

Array = NDArray[Any]

_DOMAINS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "nonnegative": ("a finite number, 0 or more", lambda v: math.isfinite(v) and v >= 0),
    "unit": ("a number, 0 or more and below 1", lambda v: 0 <= v < 1),
    "flag": ("True or False", lambda v: v in (0, 1)),
    "real": ("a finite number", math.isfinite),
}


def _number(name: str, value: Any, domain: str) -> float:
    """Return hyper-parameter `name` as a float if it lies in its domain, else raise."""
    words, allowed = _DOMAINS[domain]
    try:
        # float() would also read a number out of a string
        number = float(value) if not isinstance(value, str | bytes) else None
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise TypeError(f"{name} must be {words}; got {value!r}")
    if not allowed(number):
        raise ValueError(f"{name} must be {words}; got {value!r}")
    return number


def _is_beta(name: str) -> bool:
    """Whether the row's hyper-parameter is one of the tuple that torch calls ``betas``."""
    return name.startswith("beta") and name[4:].isdigit()


def _defaults(rule: str) -> dict[str, Any]:
    """Public hyper-parameters of a rule with their defaults, in order."""
    defaults: dict[str, Any] = {}
    for name, value, domain in _core.RULES[rule]["hypers"]:
        if _is_beta(name):
            defaults["betas"] = (*defaults.get("betas", ()), value)
        else:
            defaults[name] = bool(value) if domain == "flag" else value
    return defaults


def hyper_values(rule: str, given: Mapping[str, Any]) -> list[float]:
    """Values of a rule's hyper-parameters in the order of its row, checked.

    Parameters
    ----------
    rule : str
        A key of ``fastgd._core.RULES``.
    given : mapping
        Public names (``betas`` is a tuple) to values; the others keep their defaults.

    Returns
    -------
    list of float

    Raises
    ------
    TypeError, ValueError
        If a name is not one of the rule's, or a value lies outside its domain.
    """
    settings = _defaults(rule)
    unknown = [name for name in given if name not in settings]
    if unknown:
        raise TypeError(
            f"{unknown[0]!r} must be a hyper-parameter of {rule!r}, one of {', '.join(settings)}"
        )
    settings.update(given)
    betas = settings.get("betas", ())
    n_betas = sum(_is_beta(name) for name, _, _ in _core.RULES[rule]["hypers"])
    if not isinstance(betas, tuple | list) or len(betas) != n_betas:
        raise TypeError(f"betas must be a tuple of {n_betas} numbers; got {betas!r}")
    values = [
        _number(
            f"betas[{int(name[4:]) - 1}]" if _is_beta(name) else name,
            betas[int(name[4:]) - 1] if _is_beta(name) else settings[name],
            domain,
        )
        for name, _, domain in _core.RULES[rule]["hypers"]
    ]
    if settings.get("nesterov") and (settings["momentum"] == 0 or settings["dampening"] != 0):
        raise ValueError(
            "nesterov must be False without momentum or with dampening; got "
            f"momentum={settings['momentum']}, dampening={settings['dampening']}"
        )
    return values


def _aligned_zeros(like: Array) -> Array:
    """Zeros on a cache line: NumPy's own arrays are not, which costs a few per cent of a step."""
    memory = np.zeros(like.nbytes + 64, np.uint8)
    start = -memory.__array_interface__["data"][0] % 64
    return memory[start : start + like.nbytes].view(like.dtype).reshape(like.shape)


def make_states(rule: str, values: list[float], like: Array) -> tuple[Array | None, ...]:
    """Zeros for each state of `rule`; None for one that these hyper-parameters do not keep."""
    kept = {"always": True}
    kept.update(
        (name, value != 0)
        for (name, _, _), value in zip(_core.RULES[rule]["hypers"], values, strict=True)
    )
    return tuple(
        _aligned_zeros(like) if kept[kept_if] else None
        for _, kept_if in _core.RULES[rule]["states"]
    )


def _hyper_property(name: str, index: int, domain: str) -> property:
    """Property that reads and writes one hyper-parameter where the C code reads it."""

    def get(self: "Optimizer") -> float | bool:
        value = self.hyper(index)
        return bool(value) if domain == "flag" else value

    def set_(self: "Optimizer", value: Any) -> None:
        self._change({name: value})

    return property(get, set_, doc=f"Hyper-parameter `{name}`; may be assigned between steps.")


def _betas_property(indices: list[int]) -> property:
    """Do the same for the tuple of betas."""

    def get(self: "Optimizer") -> tuple[float, ...]:
        return tuple(self.hyper(i) for i in indices)

    def set_(self: "Optimizer", value: Any) -> None:
        self._change({"betas": value})

    return property(get, set_, doc="Hyper-parameter `betas`; may be assigned between steps.")


class Optimizer(_core.Stepper):
    """Base of the optimizers: everything but the rule.

    Subclasses name their rule, ``class SGD(Optimizer, rule="sgd")``, and get its signature.
    """

    rule_name: ClassVar[str]
    __signature__: ClassVar[Signature]

    def __init_subclass__(cls, rule: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if rule is None:  # a subclass of SGD is SGD still
            return
        cls.rule_name = rule
        parameters = [Parameter("params", Parameter.POSITIONAL_OR_KEYWORD)]
        for name, default in _defaults(rule).items():
            # as in torch, what comes after the method's own arguments goes by keyword
            kind = Parameter.KEYWORD_ONLY if name == "maximize" else parameters[0].kind
            parameters.append(Parameter(name, kind, default=default))
        cls.__signature__ = Signature(parameters)
        hypers = _core.RULES[rule]["hypers"]
        for index, (name, _, domain) in enumerate(hypers):
            if not _is_beta(name):
                setattr(cls, name, _hyper_property(name, index, domain))
        betas = [index for index, (name, _, _) in enumerate(hypers) if _is_beta(name)]
        if betas:
            cls.betas = _betas_property(betas)  # type: ignore[attr-defined]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not hasattr(self, "rule_name"):
            raise TypeError(f"{type(self).__name__} must be subclassed with a rule, as SGD is")
        settings = self.__signature__.bind(*args, **kwargs).arguments
        params = settings.pop("params")
        if not isinstance(params, Iterable):
            raise TypeError(
                f"params must be an array or an iterable of arrays; got {type(params).__name__}"
            )
        params = [params] if isinstance(params, np.ndarray) else list(params)
        if not params:
            raise ValueError("params must hold at least one array; got an empty list")
        for i, param in enumerate(params):
            if not isinstance(param, np.ndarray):
                raise TypeError(f"params[{i}] must be a NumPy array; got {type(param).__name__}")
        values = hyper_values(self.rule_name, settings)
        states = [make_states(self.rule_name, values, param) for param in params]
        super().__init__(self.rule_name, params, states, values)

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _defaults(self.rule_name)}

    def _change(self, changes: Mapping[str, Any]) -> None:
        """Check the hyper-parameters as a whole, then set them; make states that are now kept."""
        values = hyper_values(self.rule_name, {**self._settings(), **changes})
        states = [
            tuple(
                new if old is None else old
                for old, new in zip(have, make_states(self.rule_name, values, param), strict=True)
            )
            for have, param in zip(self.states, self.params, strict=True)
        ]
        if any(new is not old for s, t in zip(states, self.states, strict=True)
               for new, old in zip(s, t, strict=True)):  # fmt: skip
            self.set_states(states)
            self.since = self.t
        for index, value in enumerate(values):
            self.set_hyper(index, value)

    @property
    def state(self) -> list[dict[str, Array]]:
        """The states of each parameter by name, as torch names them: the live arrays."""
        names = [name for name, _ in _core.RULES[self.rule_name]["states"]]
        return [
            {name: a for name, a in zip(names, states, strict=True) if a is not None}
            for states in self.states
        ]

    def state_dict(self) -> dict[str, Any]:
        """Everything that the optimizer would need to go on: a copy.

        Returns
        -------
        dict
            In torch's layout: ``state`` maps a parameter's index to ``step`` and its states,
            ``param_groups`` is a list of one dict of hyper-parameters.

        Examples
        --------
        >>> import numpy as np
        >>> from fastgd.optim import AdamW
        >>> opt = AdamW(np.zeros(3))
        >>> opt.state_dict()["param_groups"][0]["betas"]
        (0.9, 0.999)
        """
        return {
            "state": {
                i: {"step": self.t} | {name: a.copy() for name, a in states.items()}
                for i, states in enumerate(self.state)
            },
            "param_groups": [self._settings() | {"params": list(range(len(self.params)))}],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from where another optimizer of the same rule and shapes was.

        Parameters
        ----------
        state_dict : dict
            From :meth:`state_dict`.

        Raises
        ------
        ValueError, TypeError
            If it does not fit; nothing has been changed then.
        """
        try:
            (group,) = state_dict["param_groups"]
            settings = {name: group[name] for name in _defaults(self.rule_name)}
            saved = dict(state_dict["state"])
            steps = {int(states["step"]) for states in saved.values()}
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"state_dict must be from the state_dict() of {type(self).__name__}; got {error!r}"
            ) from error
        if saved.keys() != set(range(len(self.params))) or len(steps) != 1 or min(steps) < 0:
            raise ValueError(
                f"state_dict must hold {len(self.params)} parameters, numbered from 0, after one "
                f"number of steps; got {list(saved)} after {sorted(steps)}"
            )
        values = hyper_values(self.rule_name, settings)
        names = [name for name, _ in _core.RULES[self.rule_name]["states"]]
        states = []
        for i, param in enumerate(self.params):
            fresh = make_states(self.rule_name, values, param)
            for name, array in zip(names, fresh, strict=True):
                if array is None:
                    continue
                given = np.asarray(saved[i].get(name))
                if given.shape != param.shape or given.dtype.kind not in "fiu":
                    raise ValueError(
                        f"state_dict must hold {name} of shape {param.shape} for params[{i}]; "
                        f"got {given.dtype} of shape {given.shape}"
                    )
                array[...] = given
            states.append(fresh)
        self.set_states(states)
        for index, value in enumerate(values):
            self.set_hyper(index, value)
        self.t, self.since = steps.pop(), 0

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self._settings().items())
        return f"{type(self).__name__}({len(self.params)} params, {settings})"


class SGD(Optimizer, rule="sgd"):
    """Stochastic gradient descent, with momentum if asked; ``torch.optim.SGD``.

    Parameters
    ----------
    params : ndarray or iterable of ndarray
        C-contiguous, writeable, all float32 or all float64, of any shape; updated in place.
    lr : float, default=1e-3
        Learning rate.
    momentum : float, default=0
        Factor of the sum of past gradients; 0 keeps no state.
    dampening : float, default=0
        Part of each gradient that does not enter that sum.
    weight_decay : float, default=0
        L2 penalty, added to the gradient as ``weight_decay * param``.
    nesterov : bool, default=False
        Look ahead by one step of the momentum.
    maximize : bool, default=False
        Step up the gradient instead of down. Keyword-only.

    Raises
    ------
    TypeError, ValueError
        If a parameter cannot be updated in place, two overlap in memory, or a value is out of
        its domain.

    References
    ----------
    Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep
    learning", ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optim import SGD
    >>> w = np.array([5.0])
    >>> opt = SGD(w, lr=0.1)
    >>> opt.step(2 * (w - 2))
    >>> w
    array([4.4])
    """


class Adam(Optimizer, rule="adam"):
    """Adam; ``torch.optim.Adam``.

    Parameters
    ----------
    params : ndarray or iterable of ndarray
        C-contiguous, writeable, all float32 or all float64, of any shape; updated in place.
    lr : float, default=1e-3
        Learning rate.
    betas : (float, float), default=(0.9, 0.999)
        Decay rates of the averages of the gradient and of its square.
    eps : float, default=1e-8
        Added to the root of the second average.
    weight_decay : float, default=0
        L2 penalty, added to the gradient as ``weight_decay * param``.
    maximize : bool, default=False
        Step up the gradient instead of down. Keyword-only.

    Raises
    ------
    TypeError, ValueError
        If a parameter cannot be updated in place, two overlap in memory, or a value is out of
        its domain.

    References
    ----------
    Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optim import Adam
    >>> w = [np.ones(2), np.zeros((2, 3))]
    >>> opt = Adam(w, lr=0.5)
    >>> opt.step([np.ones(2), np.ones((2, 3))])
    >>> w[0].round(6)
    array([0.5, 0.5])
    """


class AdamW(Optimizer, rule="adamw"):
    """Adam with decoupled weight decay; ``torch.optim.AdamW``.

    Parameters
    ----------
    params : ndarray or iterable of ndarray
        C-contiguous, writeable, all float32 or all float64, of any shape; updated in place.
    lr : float, default=1e-3
        Learning rate.
    betas : (float, float), default=(0.9, 0.999)
        Decay rates of the averages of the gradient and of its square.
    eps : float, default=1e-8
        Added to the root of the second average.
    weight_decay : float, default=1e-2
        Each step takes ``lr * weight_decay`` of the parameter away, beside the gradient's step.
    maximize : bool, default=False
        Step up the gradient instead of down. Keyword-only.

    Raises
    ------
    TypeError, ValueError
        If a parameter cannot be updated in place, two overlap in memory, or a value is out of
        its domain.

    References
    ----------
    Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optim import AdamW
    >>> w = np.ones(3, dtype=np.float32)
    >>> opt = AdamW(w, lr=0.1, weight_decay=0.1)
    >>> opt.step(np.ones(3, dtype=np.float32))
    >>> w.round(3)
    array([0.89, 0.89, 0.89], dtype=float32)
    """
