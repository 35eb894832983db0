"""Hyper-parameters as the rules' rows have them and as people give them; states to keep."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core

_LINE = 64  # bytes of a cache line

Array = NDArray[Any]

# ---- hyper-parameters, from the rule's row -------------------------------------------------------

DOMAINS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "nonnegative": ("a finite number, 0 or more", lambda v: math.isfinite(v) and v >= 0),
    "unit": ("a number, 0 or more and below 1", lambda v: 0 <= v < 1),
    "above_one": ("a finite number above 1", lambda v: math.isfinite(v) and v > 1),
    "positive": ("a finite number above 0", lambda v: math.isfinite(v) and v > 0),
    "inside_unit": ("a number above 0 and below 1", lambda v: 0 < v < 1),
    "optional": ("None, or a finite number, 0 or more", lambda v: math.isfinite(v) and v >= 0),
    "nonpositive": ("a finite number, 0 or less", lambda v: math.isfinite(v) and v <= 0),
    "at_least_one": ("a finite number, 1 or more", lambda v: math.isfinite(v) and v >= 1),
    "optional_unit": ("None, or a number, 0 or more and below 1", lambda v: 0 <= v < 1),
    "flag": ("True or False", lambda v: v in (0, 1)),
    "real": ("a finite number", math.isfinite),
    "count": ("a whole number from 0 to 99", lambda v: 0 <= v < 100 and v == int(v)),
}

CHOICES: dict[str, tuple[Any, ...]] = {"adjust_lr": (None, "original", "match_rms_adamw")}
"""By domain, what stands for the numbers 0, 1, ..."""

VECTOR_RULES = tuple(name for name, row in _core.RULES.items() if row["kind"] != "matrix")
"""The rules that take parameters of any shape."""

LINEAR_RULES = (*VECTOR_RULES, *_core.ONLINE_RULES)
"""The rules of linear models: those, and what sees their rows."""

MEANINGS = {
    "lr": "Learning rate.",
    "momentum": "Factor of the past in the running sum or average of gradients; 0 keeps none.",
    "dampening": "Part of each gradient that does not enter the momentum.",
    "weight_decay": "Decay of the parameters; where it enters, the formula says.",
    "nesterov": "Look ahead by one step of the momentum.",
    "maximize": "Step up the gradient instead of down. Keyword-only.",
    "betas": "Decay rates of the running averages, in the order in which the formula names them.",
    "eps": "Keeps the division from blowing up; where it enters, the formula says.",
    "eps_root": "The same, inside the root.",
    "amsgrad": "Divide by the largest second average so far.",
    "decoupled_weight_decay": "Decay the parameter itself (AdamW), not through the gradient.",
    "momentum_decay": "How fast the momentum approaches its final value.",
    "lr_decay": "Learning rate in step t: ``lr / (1 + (t - 1) * lr_decay)``.",
    "initial_accumulator_value": "What the sum of squares starts with.",
    "rho": "Decay rate of the averages of squares.",
    "alpha": "Smoothing constant of the rule's average; see the formula.",
    "centered": "Divide by the standard deviation of the gradient instead of its root mean square.",
    "etas": "Factors of the step size where the gradient turned, and where it did not.",
    "step_sizes": "Smallest and largest step size.",
    "lambd": "Decay term of the learning rate and of the parameters.",
    "beta": "Where between z and their average the gradient is taken (FTRL: see the paper).",
    "l1": "Strength of the L1 penalty, which makes weights exactly zero.",
    "l2": "Strength of the L2 penalty.",
    "weight_lr_power": "How much more a step with a large learning rate weighs in the average.",
    "trust_coefficient": "Length of a step for each unit of the parameter's length.",
    "t0": "Step at which averaging starts.",
    "beta3": "Decay rate of the estimate; None is the square root of beta2.",
    "safeguard_warmup": "Leave the learning rate out of the sum of gradients, for a warm-up.",
    "d0": "Where the estimate of the distance to the solution starts; smaller than any expected.",
    "d_coef": "Factor of that estimate.",
    "beta2_decay": "How the average of squares forgets: in step t a part of ``t**beta2_decay``.",
    "d": "Largest root mean square of a step, in units of the learning rate.",
    "ns_coefficients": "Those of the iteration: a, b and c of the formula.",
    "ns_steps": "How often to iterate.",
    "adjust_lr_fn": (
        'How the step follows the shape (rows, columns): ``None`` and ``"original"``\n'
        '``lr * sqrt(max(1, rows / columns))``, ``"match_rms_adamw"``\n'
        "``lr * 0.2 * sqrt(max(rows, columns))``."
    ),
    "use_muon": "Make matrices orthonormal; else SGD alone.",
    "muon": "Part of `lr` in the step along the orthonormal matrix.",
    "sgd": "Part of `lr` in the other half of the step, where `use_muon` is true.",
}


def tuple_name(name: str) -> str | None:
    """Name of the tuple that a row's hyper-parameter is an element of: beta1 -> betas."""
    match = re.fullmatch(r"(\w{2,})[1-9]", name)  # l1 and l2 are penalties, not a tuple
    return match[1].removesuffix("s") + "s" if match else None


def public(rule: str, values: Sequence[Any]) -> dict[str, Any]:
    """Hyper-parameters by their public names, from those of the row; it has NaN for None."""
    found: dict[str, Any] = {}
    for (name, _, domain), given in zip(_core.RULES[rule]["hypers"], values, strict=True):
        value = None if domain.startswith("optional") and given != given else given
        if together := tuple_name(name):
            found[together] = (*found.get(together, ()), value)
        else:
            found[name.rstrip("_")] = _public_value(value, domain)
    return found


def _public_value(value: Any, domain: str) -> Any:
    """Return the value of a row's hyper-parameter as people give it; schedules as they are."""
    if callable(value):
        return value
    if domain in CHOICES:
        return CHOICES[domain][int(value)]
    return bool(value) if domain == "flag" else int(value) if domain == "count" else value


def defaults(rule: str) -> dict[str, Any]:
    """Public hyper-parameters of a rule with their defaults, in order."""
    return public(rule, [value for _, value, _ in _core.RULES[rule]["hypers"]])


def number(name: str, value: Any, domain: str) -> float:
    """Return hyper-parameter `name` as a float if it lies in its domain, else raise."""
    if value is None and domain.startswith("optional"):
        return math.nan
    if domain in CHOICES:
        if value in CHOICES[domain]:
            return CHOICES[domain].index(value)
        raise ValueError(f"{name} must be one of {CHOICES[domain]}; got {value!r}")
    words, allowed = DOMAINS[domain]
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


def elements(rule: str, given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Hyper-parameters in the order of the row, each with the name to use in an error."""
    settings = defaults(rule)
    for name in given:
        if name not in settings:
            raise TypeError(
                f"{name!r} must be a hyper-parameter of {rule!r}, one of {', '.join(settings)}"
            )
    settings.update(given)
    for name, default in defaults(rule).items():
        value = settings[name]
        if isinstance(default, tuple) and (
            not isinstance(value, tuple | list) or len(value) != len(default)
        ):
            raise TypeError(f"{name} must be a tuple of {len(default)} numbers; got {value!r}")
    elements = []
    for name, _, _ in _core.RULES[rule]["hypers"]:
        if together := tuple_name(name):
            k = int(name[-1]) - 1
            elements.append((f"{together}[{k}]", settings[together][k]))
        else:
            elements.append((name.rstrip("_"), settings[name.rstrip("_")]))
    return elements


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
    row = _core.RULES[rule]["hypers"]
    values = [
        number(name, value, domain)
        for (name, value), (_, _, domain) in zip(elements(rule, given), row, strict=True)
    ]
    found = {name: value for (name, _, _), value in zip(row, values, strict=True)}
    no_use = "dampening" in found and (found["momentum"] == 0 or found["dampening"] != 0)
    if no_use and found["nesterov"]:
        raise ValueError(
            "nesterov must be False without momentum or with dampening; got "
            f"momentum={found['momentum']}, dampening={found['dampening']}"
        )
    return values


def check_shape(rule: str, shape: Sequence[int], name: str) -> None:
    """Refuse, by name, a parameter that is no matrix if `rule` takes nothing else."""
    is_matrix_rule = rule in _core.RULES and rule not in VECTOR_RULES  # nor one of the user's own
    if is_matrix_rule and len(shape) not in (2, 4):
        raise ValueError(
            f"{name} must be a matrix or the filters of a convolution, with 2 or 4 dimensions, for "
            f"{rule!r}; got shape {tuple(shape)}"
        )


# ---- states --------------------------------------------------------------------------------------


def zeros_like(arrays: Sequence[Array]) -> list[Array]:
    """Zeros like each array, laid out as ``zeros_of`` does it."""
    return zeros_of([(a.shape, a.dtype) for a in arrays])


def zeros_of(kinds: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]) -> list[Array]:
    """Zeros of each shape and dtype, behind each other in one piece of memory, on cache lines.

    NumPy's own arrays are not on one, which costs a few per cent of a step; and one large piece
    comes in large pages, which saves a step over many small tensors a tenth of its time.
    """
    lengths = [math.prod(shape) * dtype.itemsize for shape, dtype in kinds]
    sizes = [-(-length // _LINE) * _LINE for length in lengths]
    memory = np.zeros(sum(sizes) + _LINE, np.uint8)
    at = -memory.__array_interface__["data"][0] % _LINE
    made = []
    for (shape, dtype), length, size in zip(kinds, lengths, sizes, strict=True):
        made.append(memory[at : at + length].view(dtype).reshape(shape))
        at += size
    return made


def kept_states(rule: str, values: Sequence[float]) -> list[bool]:
    """Which of the states of `rule` these hyper-parameters keep, in the order of its row."""
    kept = dict.fromkeys(("always", "vector", "rows", "columns"), True)
    kept.update(
        (name, value != 0)
        for (name, _, _), value in zip(_core.RULES[rule]["hypers"], values, strict=True)
    )
    return [kept[kept_if] for _, kept_if in _core.RULES[rule]["states"]]


def make_states(rule: str, values: Sequence[float], like: Array) -> tuple[Array | None, ...]:
    """Zeros for each state of `rule`; None for one that these hyper-parameters do not keep."""
    return all_states(rule, [values], [like])[0]


def all_states(
    rule: str, values: Sequence[Sequence[float]], params: Sequence[Array]
) -> list[tuple[Array | None, ...]]:
    """States of all parameters, each with its own values of the hyper-parameters."""
    return zeros_where(rule, [kept_states(rule, own) for own in values], params)


def zeros_where(
    rule: str, kept: Sequence[Sequence[bool]], params: Sequence[Array]
) -> list[tuple[Array | None, ...]]:
    """Zeros for the states that each parameter keeps, of those that its shape has."""
    rows = [kept_if for _, kept_if in _core.RULES[rule]["states"]]
    shapes = [
        [_core.state_shape(row, p.shape) if k else None for row, k in zip(rows, mine, strict=True)]
        for p, mine in zip(params, kept, strict=True)
    ]
    made = iter(
        zeros_of(
            [
                (s, p.dtype)
                for p, mine in zip(params, shapes, strict=True)
                for s in mine
                if s is not None
            ]
        )
    )
    return [tuple(None if s is None else next(made) for s in mine) for mine in shapes]


# ---- targets, from the loss's row ----------------------------------------------------------------


def target_domain(loss: str, parameter: float) -> str:
    """Domain of the targets of a loss: "sign", or one of ``_hypers.DOMAINS``."""
    domain = _core.LOSSES[loss]["targets"]
    if domain != "power":
        return domain
    return "real" if parameter <= 0 else "nonnegative" if parameter < 2 else "positive"


def in_domain(y: Array, loss: str, parameter: float) -> None:
    """Refuse targets that a loss does not have, as Poisson's negative ones."""
    domain = target_domain(loss, parameter)
    lowest = y.min() if domain in ("nonnegative", "positive") else 1.0
    if lowest < 0 or (domain == "positive" and not lowest > 0):
        words, _ = DOMAINS[domain]
        raise ValueError(f"y must hold {words} each with loss={loss!r}; got {lowest}")
