"""What every schedule is, and the checks of their arguments."""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

Schedule = Callable[[Any], Any]
Array = NDArray[np.float64]


def steps_of(step: Any) -> Array:
    """Return steps as a float64 array, checked."""
    t = np.asarray(step, dtype=np.float64)
    if t.size and not t.min() >= 0:
        raise ValueError(f"step must be 0 (the first update) or more; got {t.min():g}")
    return t


@dataclass(frozen=True, repr=False)
class Closed:
    """A formula of the module and its constants: f(steps, *constants) -> values.

    One step takes the way of many, because NumPy's scalars round powers differently than its
    arrays do.
    """

    formula: Callable[..., Array]
    constants: tuple[Any, ...]

    def __call__(self, step: Any) -> Any:
        """Value at a step, or at each of many."""
        t = steps_of(step)
        return self.formula(t.reshape(-1), *self.constants).reshape(t.shape)[()]

    def __repr__(self) -> str:
        """Name and constants."""
        names = list(signature(self.formula).parameters)[1:]
        pairs = zip(names, self.constants, strict=True)
        text = ", ".join(f"{name}={value!r}" for name, value in pairs)
        return f"{self.formula.__name__.removeprefix('_')}({text})"


def values_of(schedule: Schedule, t: Array) -> Array:
    """Return what a schedule gives at the steps t, be it one of ours or the user's own."""
    return np.broadcast_to(np.asarray(schedule(t), dtype=np.float64), t.shape)


def calls_of(function: Callable[[Any], Any], t: Array) -> Array:
    """Return what a function of one number gives at each step; whole steps are given as int."""
    numbers = (int(s) if s.is_integer() else s for s in t.tolist())
    return np.array([float(function(s)) for s in numbers], dtype=np.float64)


def anneal(start: Any, end: Any, x: Array, strategy: str) -> Array:
    """From start to end as x goes from 0 to 1; exactly start and end there, and near to them."""
    if strategy == "linear":
        return np.asarray(start * (1.0 - x) + end * x)
    if strategy == "sqrt":
        return np.asarray(start * (1.0 - np.sqrt(x)) + end * np.sqrt(x))
    if strategy == "exponential":
        return np.asarray(np.power(start, 1.0 - x) * np.power(end, x))
    # (1 + cos(pi x)) / 2 and (1 - cos(pi x)) / 2, without their cancellation
    half = np.pi / 2.0
    return np.asarray(start * np.sin(half * (1.0 - x)) ** 2 + end * np.sin(half * x) ** 2)


def real(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Argument `name` as a finite float from low to high."""
    words = "a finite number"
    if low > -math.inf and high < math.inf:
        words = f"a number from {low:g} to {high:g}"
    elif low > -math.inf:
        words = f"a finite number of at least {low:g}"
    try:
        number = None if isinstance(value, str | bytes) else float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise TypeError(f"{name} must be {words}; got {value!r}")
    if not (math.isfinite(number) and low <= number <= high):
        raise ValueError(f"{name} must be {words}; got {value!r}")
    return number


def positive(name: str, value: Any) -> float:
    """Argument `name` as a finite float above 0."""
    number = real(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be above 0; got {value!r}")
    return number


def whole(name: str, value: Any, low: int = 1) -> int:
    """Argument `name` as an int of at least low; 1e4 will do."""
    try:
        number = int(value) if isinstance(value, float) and value.is_integer() else None
        number = operator.index(value) if number is None else number
    except TypeError:
        raise TypeError(f"{name} must be a whole number of at least {low}; got {value!r}") from None
    if number < low:
        raise ValueError(f"{name} must be a whole number of at least {low}; got {value!r}")
    return number


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Argument `name` as one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
    return str(value)


def function_of(name: str, value: Any) -> Callable[[Any], Any]:
    """Argument `name` as a function."""
    if not callable(value):
        raise TypeError(f"{name} must be a function of the step; got {value!r}")
    return value  # type: ignore[no-any-return]
