"""What a step does beside its rule: the options that `optim` and `torch` share, and its report."""

import math
from collections.abc import Mapping
from inspect import Parameter
from numbers import Integral
from typing import Any, NamedTuple

from . import _core
from ._hypers import MEANINGS, number
from ._low_precision import checked_rounding, checked_state_dtype
from .projections import Projection


class Option(NamedTuple):
    """An option's default, what it may be, and what it means."""

    default: Any
    kind: str
    meaning: str


OPTIONS: dict[str, Option] = {
    "max_norm": Option(
        None,
        "float",
        "Scale all gradients down so that their Euclidean norm together is at most this, as\n"
        "``torch.nn.utils.clip_grad_norm_``; the gradients themselves stay as they are.\n"
        "Keyword-only, as the following.",
    ),
    "centralize": Option(
        False,
        "bool",
        "Take from the gradient (after `max_norm`) of each parameter of two or more dimensions\n"
        "its mean over all of them but the first (Yong et al., ECCV 2020).",
    ),
    "agc": Option(
        None,
        "float",
        "Adaptive gradient clipping (Brock et al., ICML 2021): scale each unit of the gradients\n"
        "(after `centralize`) down to at most `agc` times the norm of the parameter's unit, or\n"
        "times 1e-3 where that is less. A unit is what shares the first index: a row, a filter;\n"
        "all of a parameter with one dimension or none. 0.01 is common.",
    ),
    "clip_value": Option(
        None,
        "float",
        "Cut each element of the gradients (after `agc`) to ``[-clip_value, clip_value]``.",
    ),
    "nonfinite": Option(
        "raise",
        '{"raise", "skip", "apply"}',
        "What to do about a gradient that is NaN or infinite: raise :class:`NonFiniteError`,\n"
        "leave the step out (``last_step.skipped``), both with nothing changed; or take the step\n"
        "all the same and save one pass over the gradients.",
    ),
    "lookahead": Option(
        None,
        "tuple of (int, float)",
        "Keep slow weights (Zhang et al., NeurIPS 2019): with ``(k, alpha)``, in each step whose\n"
        "number is a multiple of k, ``slow += alpha * (param - slow)`` and ``param = slow``. A\n"
        "parameter that rests in such a step waits for the next. (5, 0.5) is common.",
    ),
    "projection": Option(
        None,
        "Projection",
        "Move each parameter back to a set after the update, before it is averaged:\n"
        'one of :mod:`fastgd.projections`. A group\'s key ``"projection"`` goes before.',
    ),
    "ema_decay": Option(
        None,
        "float or callable",
        "Keep an exponential moving average of each parameter in ``ema``:\n"
        "``ema = decay * ema + (1 - decay) * param`` after each step. A callable gets the number\n"
        "of the step, from 1 on, and returns the decay; :func:`fastgd.optim.swa` is one.",
    ),
    "report_norms": Option(
        False,
        "bool",
        "Work out both norms of ``last_step`` in every step, also where nothing else needs them.",
    ),
    "state_dtype": Option(
        None,
        '{None, "bfloat16", "int8"}',
        "What the states are kept in: the parameter's dtype (float32 for one of 16 bits);\n"
        "bfloat16 (arrays of uint16); or 8 bits an element with a scale for every 256 (arrays of\n"
        "uint8; for Adam, AdamW, Lion and SGD). The step is computed as ever, its states are\n"
        "then rounded stochastically.",
    ),
    "rounding": Option(
        "nearest",
        '{"nearest", "stochastic"}',
        "How parameters of float16 and bfloat16 are rounded: to nearest, from a float32 master\n"
        'copy that is what is updated (state ``"master"``); or stochastically, without one.',
    ),
}
OPTION_DEFAULTS = {name: option.default for name, option in OPTIONS.items()}


class StepReport(NamedTuple):
    """What the last step was like.

    Attributes
    ----------
    grad_norm : float
        Euclidean norm of all gradients together, unscaled and before clipping; NaN if no option
        needed it.
    clip_factor : float
        What `max_norm` multiplied them by; 1 if they were short enough.
    update_norm : float
        Norm of the change that the rule makes to all parameters together; NaN without
        ``report_norms=True``.
    skipped : bool
        Whether the step was left out because a gradient was not finite.
    """

    grad_norm: float
    clip_factor: float
    update_norm: float
    skipped: bool


# ---- their values --------------------------------------------------------------------------------


def checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a step, checked."""
    checked = dict(options)
    for name in ("max_norm", "agc", "clip_value"):
        if checked[name] is not None:
            checked[name] = number(name, checked[name], "nonnegative")
    if checked["nonfinite"] not in ("raise", "skip", "apply"):
        raise ValueError(
            f'nonfinite must be "raise", "skip" or "apply"; got {checked["nonfinite"]!r}'
        )
    if checked["ema_decay"] is not None and not callable(checked["ema_decay"]):
        checked["ema_decay"] = checked_decay(checked["ema_decay"])
    if checked["lookahead"] is not None:
        checked["lookahead"] = _checked_lookahead(checked["lookahead"])
    check_projection(checked["projection"])
    for name in ("centralize", "report_norms"):
        checked[name] = bool(number(name, checked[name], "flag"))
    checked["state_dtype"] = checked_state_dtype(checked["state_dtype"])
    checked["rounding"] = checked_rounding(checked["rounding"])
    return checked


def checked_decay(value: Any) -> float:
    """Return the decay of a moving average as a float if it is one, else raise."""
    decay = number("ema_decay", value, "nonnegative")
    if decay > 1:
        raise ValueError(f"ema_decay must be a number from 0 to 1; got {value!r}")
    return decay


def _checked_lookahead(value: Any) -> tuple[int, float]:
    """Return (k, alpha) if these are a period and a share, else raise."""
    words = "(k, alpha), a whole number from 1 on and a number from 0 to 1"
    if not isinstance(value, tuple | list) or len(value) != 2 or not isinstance(value[0], Integral):
        raise TypeError(f"lookahead must be {words}; got {value!r}")
    k, alpha = int(value[0]), number("alpha of lookahead", value[1], "real")
    if k < 1 or not 0 <= alpha <= 1:
        raise ValueError(f"lookahead must be {words}; got {value!r}")
    return k, alpha


def check_projection(value: Any) -> None:
    """Raise if this is no projection, nor None."""
    if value is not None and not isinstance(value, Projection):
        raise TypeError(f"projection must be None or one of fastgd.projections; got {value!r}")


def hand_over(stepper: _core.Stepper, options: Mapping[str, Any]) -> None:
    """Tell C what was chosen; the options are checked."""
    stepper.skips = options["nonfinite"] == "skip"
    stepper.configure(
        max_norm=_limit(options["max_norm"]),
        centralize=options["centralize"],
        agc=_limit(options["agc"]),
        clip_value=_limit(options["clip_value"]),
        guard=options["nonfinite"] != "apply",
        norms=options["report_norms"],
    )
    stepper.set_lookahead(*(options["lookahead"] or (0, 0.0)))
    decay = options["ema_decay"]
    if decay is not None and not callable(decay):
        stepper.set_average_weight(1.0 - decay)


def _limit(given: float | None) -> float:
    return math.inf if given is None else given


# ---- as attributes, and in words -----------------------------------------------------------------


def option_property(name: str, meaning: str = "", *, fixed: bool = False) -> property:
    """Property that reads an option from `_options`, and sets it by `_configure` if it may."""

    def get(self: Any) -> Any:
        return self._options[name]

    def set_(self: Any, value: Any) -> None:
        self._configure({**self._options, name: value})

    text = meaning or OPTIONS[name].meaning
    if fixed:
        return property(get, doc=f"{text}\n\nStays as it was given.")
    return property(get, set_, doc=f"{text}\n\nMay be assigned between steps.")


class StepOptions:
    """The options as attributes, for a class with `_options` and `_configure`."""

    max_norm = option_property("max_norm")
    centralize = option_property("centralize")
    agc = option_property("agc")
    clip_value = option_property("clip_value")
    nonfinite = option_property("nonfinite")
    lookahead = option_property("lookahead")
    projection = option_property("projection")
    ema_decay = option_property("ema_decay")
    report_norms = option_property("report_norms")
    state_dtype = option_property("state_dtype", fixed=True)
    rounding = option_property("rounding", fixed=True)


def entry(name: str, kind: str, default: Any, meaning: str) -> str:
    """Return the numpydoc entry of a parameter."""
    text = meaning.replace("\n", "\n    ")
    given = "" if default is Parameter.empty else f", default={default!r}".replace("e-0", "e-")
    return f"{name} : {kind}{given}\n    {text}"


def option_entry(name: str) -> str:
    """Return the numpydoc entry of an option."""
    option = OPTIONS[name]
    return entry(name, option.kind, option.default, option.meaning)


_UNKNOWN = "What it means, the rule says."


def hyper_entry(name: str, default: Any) -> str:
    """Return the numpydoc entry of a hyper-parameter."""
    kind = f"tuple of {len(default)} float" if isinstance(default, tuple) else "float"
    kind = "bool" if isinstance(default, bool) else kind
    return entry(name, kind, default, MEANINGS.get(name, _UNKNOWN))
