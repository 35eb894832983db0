"""Schedules made of functions and of other schedules."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from ._base import (
    Array,
    Closed,
    Schedule,
    anneal,
    calls_of,
    choice,
    function_of,
    positive,
    real,
    steps_of,
    values_of,
    whole,
)
from ._decays import _annealed, constant


def _schedule(name: str, value: Any) -> Schedule:
    """Argument `name` as a schedule; a number is a constant one."""
    if callable(value):
        return value  # type: ignore[no-any-return]
    try:
        return constant(real(name, value))
    except TypeError:
        raise TypeError(f"{name} must be a schedule or a number; got {value!r}") from None


def _schedules(schedules: Any) -> tuple[Schedule, ...]:
    """Return the argument `schedules` as a tuple of them."""
    if not isinstance(schedules, Iterable):
        raise TypeError(f"schedules must be a list of schedules; got {schedules!r}")
    found = tuple(_schedule(f"schedules[{i}]", s) for i, s in enumerate(schedules))
    if not found:
        raise ValueError("schedules must hold at least one schedule; got none")
    return found


def custom(lr: float, lr_lambda: Callable[[int], float]) -> Schedule:
    """`lr` times a function of yours.

    A function that takes arrays is a schedule as it is; this is for one that takes a number.

    Parameters
    ----------
    lr : float
        What the function's value is multiplied with.
    lr_lambda : callable
        step (int) -> factor. For the schedule to be pickled, no lambda.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import custom
    >>> custom(0.5, lambda step: 1 if step < 2 else 0.1)([0, 1, 2])
    array([0.5 , 0.5 , 0.05])
    """
    return Closed(_custom, (real("lr", lr), function_of("lr_lambda", lr_lambda)))


def _custom(t: Array, lr: float, lr_lambda: Callable[[int], float]) -> Array:
    return lr * calls_of(lr_lambda, t)


def multiplicative(lr: float, lr_lambda: Callable[[int], float]) -> Schedule:
    """`lr` times a function of yours at step 1, at step 2, ..., up to the step at hand.

    There is no closed form for that: a step costs as many calls as it is away from the last one
    asked for, and a step before that one starts over.

    Parameters
    ----------
    lr : float
        Value at step 0.
    lr_lambda : callable
        step (int, from 1 on) -> factor. For the schedule to be pickled, no lambda.

    Returns
    -------
    Schedule
        Of whole steps.

    Examples
    --------
    >>> from fastgd.schedules import multiplicative
    >>> multiplicative(1.0, lambda step: 0.5 if step < 3 else 1)([0, 1, 2, 3])
    array([1.  , 0.5 , 0.25, 0.25])
    """
    return _Multiplicative(real("lr", lr), function_of("lr_lambda", lr_lambda))


@dataclass(repr=False, unsafe_hash=True)
class _Multiplicative:
    lr: float
    lr_lambda: Callable[[int], float]
    # step and product: replaced as one, so that threads do not mix them up
    _last: tuple[int, float] = field(default=(0, 1.0), compare=False)

    def __call__(self, step: Any) -> Any:
        """Value at a step, or at each of many."""
        t = steps_of(step)
        if (t != np.floor(t)).any():
            raise ValueError("step must be a whole number for a multiplicative schedule")
        values = np.empty(t.size)
        flat = t.reshape(-1)
        at, product = self._last
        for i in np.argsort(flat, kind="stable"):
            if flat[i] < at:
                at, product = 0, 1.0
            while at < flat[i]:
                at += 1
                product *= float(self.lr_lambda(at))
            values[i] = self.lr * product
        self._last = at, product
        return values.reshape(t.shape)[()]

    def __repr__(self) -> str:
        """Name and constants."""
        return f"multiplicative(lr={self.lr!r}, lr_lambda={self.lr_lambda!r})"


def join(schedules: Sequence[Schedule | float], boundaries: Sequence[int]) -> Schedule:
    """One schedule after the other; each counts from 0 when its turn comes.

    Parameters
    ----------
    schedules : sequence of Schedule or float
        At least one; a number is a constant schedule.
    boundaries : sequence of int
        First step of each but the first, in ascending order.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import exponential, join
    >>> join([1.0, exponential(1.0, 0.5)], [2])([0, 1, 2, 3, 4])
    array([1.  , 1.  , 1.  , 0.5 , 0.25])
    """
    parts = _schedules(schedules)
    if not isinstance(boundaries, Iterable):
        raise TypeError(f"boundaries must be a list of whole numbers; got {boundaries!r}")
    starts = tuple(whole(f"boundaries[{i}]", b, 0) for i, b in enumerate(boundaries))
    if len(starts) != len(parts) - 1:
        raise ValueError(
            f"boundaries must be one fewer than the {len(parts)} schedules; got {len(starts)}"
        )
    if any(a > b for a, b in pairwise(starts)):
        raise ValueError(f"boundaries must be in ascending order; got {list(starts)}")
    return Closed(_join, (parts, starts))


def _join(t: Array, schedules: tuple[Schedule, ...], boundaries: tuple[int, ...]) -> Array:
    turn = np.searchsorted(np.array(boundaries, dtype=np.float64), t, side="right")
    values = np.empty_like(t)
    for i in np.unique(turn):
        mine = turn == i
        values[mine] = values_of(schedules[i], t[mine] - (boundaries[i - 1] if i else 0))
    return values


def product(schedules: Sequence[Schedule | float]) -> Schedule:
    """All schedules multiplied with each other.

    Parameters
    ----------
    schedules : sequence of Schedule or float
        At least one; a number is a constant factor.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import exponential, linear, product
    >>> product([exponential(1.0, 0.5), linear(1.0, 0.5, 1.0, 2)])([0, 1, 2])
    array([0.5  , 0.375, 0.25 ])
    """
    return Closed(_product, (_schedules(schedules),))


def _product(t: Array, schedules: tuple[Schedule, ...]) -> Array:
    values = np.ones_like(t)
    for schedule in schedules:
        values = values * values_of(schedule, t)
    return values


def clip(schedule: Schedule, low: float | None = None, high: float | None = None) -> Schedule:
    """Keep a schedule between two bounds.

    Parameters
    ----------
    schedule : Schedule
        The schedule.
    low, high : float or None, default=None
        The bounds; None is no bound.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import clip, exponential
    >>> clip(exponential(1.0, 0.5), low=0.3)([0, 1, 2])
    array([1. , 0.5, 0.3])
    """
    low = -math.inf if low is None else real("low", low)
    high = math.inf if high is None else real("high", high)
    if low > high:
        raise ValueError(f"low must be at most high={high:g}; got {low:g}")
    return Closed(_clip, (_schedule("schedule", schedule), low, high))


def _clip(t: Array, schedule: Schedule, low: float, high: float) -> Array:
    return np.clip(values_of(schedule, t), low, high)


def warmup(schedule: Schedule | float, warmup_steps: int, start_value: float = 0.0) -> Schedule:
    """In a straight line from `start_value` to where a schedule starts, then the schedule.

    Parameters
    ----------
    schedule : Schedule or float
        What follows; its step 0 is our step `warmup_steps`. A number is a constant schedule.
    warmup_steps : int
        Steps of the warm-up; 0 is none.
    start_value : float, default=0.0
        Value of step 0. With 0 the first update does nothing.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import step, warmup
    >>> warmup(step(1.0, 2, 0.5), 4)([0, 1, 2, 3, 4, 5, 6])
    array([0.  , 0.25, 0.5 , 0.75, 1.  , 1.  , 0.5 ])
    """
    return Closed(
        _warmup,
        (
            _schedule("schedule", schedule),
            whole("warmup_steps", warmup_steps, 0),
            real("start_value", start_value),
        ),
    )


def _warmup(t: Array, schedule: Schedule, warmup_steps: int, start_value: float) -> Array:
    after = values_of(schedule, np.maximum(t - warmup_steps, 0.0))
    if not warmup_steps:
        return after.copy()  # it may be someone else's
    x = np.minimum(t / warmup_steps, 1.0)
    return np.where(x < 1.0, anneal(start_value, after, x, "linear"), after)


def wsd(
    lr: float,
    total_steps: int,
    warmup_steps: int,
    decay_steps: int,
    *,
    decay: str = "sqrt",
    start_value: float = 0.0,
    end_value: float = 0.0,
) -> Schedule:
    """Warm-up, stable, decay: up in a straight line, hold, and down at the end.

    S. Hu et al., "MiniCPM: unveiling the potential of small language models with scalable training
    strategies", 2024, sec. 4. What is trained up to the decay can be trained on; only the decay
    depends on where training ends.

    Parameters
    ----------
    lr : float
        Value between warm-up and decay.
    total_steps : int
        Step at which `end_value` is reached, at least 1.
    warmup_steps, decay_steps : int
        Steps of the first and of the last part; together at most `total_steps`.
    decay : {"sqrt", "linear", "cosine", "exponential"}, default="sqrt"
        Shape of the decay. "sqrt" goes down as 1 - sqrt(x), the best of those that A. Hägele et
        al., "Scaling laws and compute-optimal training beyond fixed training durations", 2024,
        tried; "exponential" is that of MiniCPM and takes an `end_value` above 0.
    start_value, end_value : float, default=0.0
        Value of step 0 and from step `total_steps` on.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import wsd
    >>> wsd(1.0, 10, 2, 4, decay="linear")([0, 1, 2, 6, 7, 8, 10, 11])
    array([0.  , 0.5 , 1.  , 1.  , 0.75, 0.5 , 0.  , 0.  ])
    """
    lr, end = real("lr", lr), real("end_value", end_value)
    n = whole("total_steps", total_steps)
    n_decay = whole("decay_steps", decay_steps, 0)
    n_warmup = whole("warmup_steps", warmup_steps, 0)
    if n_warmup + n_decay > n:
        raise ValueError(
            f"warmup_steps and decay_steps must be at most total_steps={n} together; got "
            f"{n_warmup} and {n_decay}"
        )
    if choice("decay", decay, ("sqrt", "linear", "cosine", "exponential")) == "exponential":
        lr, end = positive("lr", lr), positive("end_value", end_value)
    up = Closed(_annealed, (real("start_value", start_value), lr, max(1, n_warmup), "linear"))
    down = Closed(_annealed, (lr if n_decay else end, end, max(1, n_decay), decay))
    return join([up, lr, down], [n_warmup, n - n_decay])
