"""Schedules that come back: cosines, restarts, triangles, one cycle."""

import math
from collections.abc import Callable
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
    whole,
)


def cosine(
    lr: float, T_max: int, eta_min: float = 0.0, *, exponent: float = 1.0, cycle: bool = True
) -> Schedule:
    r"""Half a cosine from `lr` down to `eta_min`.

    ``eta_min + (lr - eta_min) * ((1 + cos(pi * step / T_max)) / 2) ** exponent`` (I. Loshchilov &
    F. Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, eq. 5).

    Parameters
    ----------
    lr : float
        Value of the first step.
    T_max : int
        Steps of the descent, at least 1.
    eta_min : float, default=0.0
        Value at step `T_max`.
    exponent : float, default=1.0
        Bends the curve; above 0. (optax)
    cycle : bool, default=True
        After `T_max`, climb up to `lr` again and so on, as in torch; False holds `eta_min`, as in
        optax.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import cosine
    >>> cosine(1.0, 4)([0, 2, 4, 8]).round(12)
    array([1. , 0.5, 0. , 1. ])
    >>> cosine(1.0, 4, 0.1, cycle=False)([4, 8])
    array([0.1, 0.1])
    """
    return Closed(
        _cosine,
        (
            real("lr", lr),
            whole("T_max", T_max),
            real("eta_min", eta_min),
            positive("exponent", exponent),
            bool(cycle),
        ),
    )


def _cosine(t: Array, lr: float, T_max: int, eta_min: float, exponent: float, cycle: bool) -> Array:
    left = np.abs(T_max - np.mod(t, 2 * T_max)) if cycle else np.maximum(T_max - t, 0.0)
    if exponent == 1.0:
        return anneal(eta_min, lr, left / T_max, "cos")
    weight = np.power(np.sin(np.pi / 2.0 * (left / T_max)), 2.0 * exponent)
    return lr * weight + eta_min * (1.0 - weight)


def cosine_restarts(lr: float, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> Schedule:
    """Half cosines from `lr` down to `eta_min`, one after the other: SGDR.

    The i-th (from 0) takes ``T_0 * T_mult ** i`` steps (I. Loshchilov & F. Hutter, "SGDR:
    stochastic gradient descent with warm restarts", 2017, sec. 3).

    Parameters
    ----------
    lr : float
        Value at each start.
    T_0 : int
        Steps of the first, at least 1.
    T_mult : int, default=1
        How many times as long each next one is, at least 1.
    eta_min : float, default=0.0
        What the value falls to; it starts anew before it is there.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import cosine_restarts
    >>> cosine_restarts(1.0, 2, T_mult=2)([0, 1, 2, 4, 6]).round(12)
    array([1. , 0.5, 1. , 0.5, 1. ])
    """
    return Closed(
        _cosine_restarts,
        (
            real("lr", lr),
            whole("T_0", T_0),
            whole("T_mult", T_mult),
            real("eta_min", eta_min),
        ),
    )


def _cosine_restarts(t: Array, lr: float, T_0: int, T_mult: int, eta_min: float) -> Array:
    if T_mult == 1:
        return anneal(lr, eta_min, np.mod(t, T_0) / T_0, "cos")

    def start(cycle: Array) -> Array:
        return T_0 * ((np.power(float(T_mult), cycle) - 1.0) / (T_mult - 1.0))

    cycle = np.floor(np.log1p(t * ((T_mult - 1.0) / T_0)) / math.log(T_mult))
    cycle = cycle - (start(cycle) > t)  # the logarithm may have been rounded over the border
    cycle = cycle + (start(cycle + 1.0) <= t)
    length = T_0 * np.power(float(T_mult), cycle)
    return anneal(lr, eta_min, (t - start(cycle)) / length, "cos")


def cyclic(
    base_lr: float,
    max_lr: float,
    step_size_up: int = 2000,
    step_size_down: int | None = None,
    mode: str = "triangular",
    gamma: float = 1.0,
    *,
    scale_fn: Callable[[Any], float] | None = None,
    scale_mode: str = "cycle",
) -> Schedule:
    """Up and down between `base_lr` and `max_lr`, in straight lines.

    L. N. Smith, "Cyclical learning rates for training neural networks", 2017. torch's CyclicLR
    also moves the momentum, the other way: that is ``cyclic(max_momentum, base_momentum, ...)``.

    Parameters
    ----------
    base_lr : float
        Value at both ends of a cycle.
    max_lr : float
        Value at the top of the first cycle; it may be the lower one.
    step_size_up : int, default=2000
        Steps from the start of a cycle to its top, at least 1.
    step_size_down : int or None, default=None
        Steps from there to the end of the cycle; None stands for `step_size_up`.
    mode : {"triangular", "triangular2", "exp_range"}, default="triangular"
        Height of the tops: the same, half as high with each cycle, or times ``gamma ** step``.
    gamma : float, default=1.0
        For "exp_range"; at least 0.
    scale_fn : callable or None, default=None
        Number -> factor of the height, instead of `mode`.
    scale_mode : {"cycle", "iterations"}, default="cycle"
        What `scale_fn` is given: the number of the cycle, counted from 1, or the step.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import cyclic
    >>> cyclic(0.0, 1.0, step_size_up=2, mode="triangular2")([0, 1, 2, 3, 4, 6])
    array([0. , 0.5, 1. , 0.5, 0. , 0.5])
    """
    up = whole("step_size_up", step_size_up)
    return Closed(
        _cyclic,
        (
            real("base_lr", base_lr),
            real("max_lr", max_lr),
            up,
            up if step_size_down is None else whole("step_size_down", step_size_down),
            choice("mode", mode, ("triangular", "triangular2", "exp_range")),
            real("gamma", gamma, 0),
            None if scale_fn is None else function_of("scale_fn", scale_fn),
            choice("scale_mode", scale_mode, ("cycle", "iterations")),
        ),
    )


def _cyclic(
    t: Array,
    base_lr: float,
    max_lr: float,
    step_size_up: int,
    step_size_down: int,
    mode: str,
    gamma: float,
    scale_fn: Callable[[Any], float] | None,
    scale_mode: str,
) -> Array:
    cycle, x = np.divmod(t, step_size_up + step_size_down)
    height = np.where(
        x <= step_size_up, x / step_size_up, (step_size_up + step_size_down - x) / step_size_down
    )
    if scale_fn is not None:
        height = height * calls_of(scale_fn, cycle + 1.0 if scale_mode == "cycle" else t)
    elif mode == "triangular2":
        height = height * np.power(0.5, cycle)
    elif mode == "exp_range":
        height = height * np.power(gamma, t)
    return anneal(base_lr, max_lr, height, "linear")


def one_cycle(
    max_lr: float,
    total_steps: int,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    *,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """Up from ``max_lr / div_factor``, then down to ``max_lr / div_factor / final_div_factor``.

    L. N. Smith & N. Topin, "Super-convergence: very fast training of neural networks using large
    learning rates", 2019; the borders are those of torch's OneCycleLR: the top is at
    ``pct_start * total_steps - 1``, the end at ``total_steps - 1``. From there on the value holds.
    torch also moves the momentum, the other way: that is
    ``one_cycle(base_momentum, ..., div_factor=base_momentum / max_momentum, final_div_factor=1)``.

    Parameters
    ----------
    max_lr : float
        Value at the top.
    total_steps : int
        Steps of the cycle, at least 1.
    pct_start : float, default=0.3
        Part of them that goes up, from 0 to 1.
    anneal_strategy : {"cos", "linear"}, default="cos"
        Shape of the way up and of that down.
    div_factor : float, default=25.0
        What `max_lr` is divided by at the start; above 0.
    final_div_factor : float, default=1e4
        What the first value is divided by at the end; above 0.
    three_phase : bool, default=False
        Go down to the first value as fast as up, and from there to the last one; `pct_start` is
        at most 0.5 then.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import one_cycle
    >>> one_cycle(1.0, 10)([0, 2, 9])
    array([4.e-02, 1.e+00, 4.e-06])
    """
    top = real("max_lr", max_lr)
    n = whole("total_steps", total_steps)
    start = top / positive("div_factor", div_factor)
    end = start / positive("final_div_factor", final_div_factor)
    up = real("pct_start", pct_start, 0, 0.5 if three_phase else 1) * n
    strategy = choice("anneal_strategy", anneal_strategy, ("cos", "linear"))
    nodes: tuple[tuple[float, ...], tuple[float, ...]]
    if three_phase:
        nodes = ((0.0, up - 1.0, 2.0 * up - 2.0, n - 1.0), (start, top, start, end))
    else:
        nodes = ((0.0, up - 1.0, n - 1.0), (start, top, end))
    return Closed(_one_cycle, (*nodes, strategy))


def _one_cycle(
    t: Array, steps: tuple[float, ...], values: tuple[float, ...], anneal_strategy: str
) -> Array:
    t = np.minimum(t, steps[-1])
    phase = np.zeros(t.shape, dtype=np.intp)
    for border in steps[1:-1]:  # not in order where less than one step goes up
        phase += t > border
    first, length = np.array(steps)[phase], np.diff(steps)[phase]
    x = np.where(length > 0, (t - first) / np.where(length > 0, length, 1.0), 1.0)
    height = np.array(values)
    return anneal(height[phase], height[phase + 1], x, anneal_strategy)
