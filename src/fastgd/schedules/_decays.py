"""Schedules that go one way: scikit-learn's learning rates, powers, lines, exponentials, pieces."""

from collections.abc import Iterable, Mapping

import numpy as np

from .. import _core
from ._base import Array, Closed, Schedule, anneal, choice, positive, real, whole


def constant(eta0: float, *, factor: float = 1.0, total_iters: int = 0) -> Schedule:
    """`eta0` at every step, or `factor` times it for the first `total_iters` of them.

    Parameters
    ----------
    eta0 : float
        The value.
    factor : float, default=1.0
        Factor of the first steps. torch's ConstantLR has 1/3.
    total_iters : int, default=0
        Number of the first steps. torch's ConstantLR has 5.

    Returns
    -------
    Schedule
        step (0, 1, ...; scalar or array) -> value (float64, same shape).

    Examples
    --------
    >>> from fastgd.schedules import constant
    >>> constant(0.1)([0, 1, 2])
    array([0.1, 0.1, 0.1])
    >>> constant(0.1, factor=0.5, total_iters=2)([0, 1, 2])
    array([0.05, 0.05, 0.1 ])
    """
    return Closed(
        _constant,
        (real("eta0", eta0), real("factor", factor), whole("total_iters", total_iters, 0)),
    )


def _constant(t: Array, eta0: float, factor: float, total_iters: int) -> Array:
    return eta0 * np.where(t < total_iters, factor, 1.0)


def invscaling(eta0: float, power_t: float = 0.5) -> Schedule:
    """Inverse scaling, ``eta0 / (step + 1) ** power_t``.

    Parameters
    ----------
    eta0 : float
        Value of the first step.
    power_t : float, default=0.5
        How fast it falls. Robbins & Monro (1951) ask for more than 0.5 and at most 1.

    Returns
    -------
    Schedule
        step (0, 1, ...; scalar or array) -> value (float64, same shape).

    Examples
    --------
    >>> from fastgd.schedules import invscaling
    >>> invscaling(1.0, 0.5)([0, 3, 15])
    array([1.  , 0.5 , 0.25])
    """
    return Closed(_invscaling, (real("eta0", eta0), real("power_t", power_t)))


def _invscaling(t: Array, eta0: float, power_t: float) -> Array:
    return eta0 / (np.sqrt(t + 1.0) if power_t == 0.5 else np.power(t + 1.0, power_t))


def optimal(alpha: float, loss: str = "hinge", loss_parameter: float | None = None) -> Schedule:
    """Bottou's schedule, ``1 / (alpha * (t0 + step))``, with scikit-learn's heuristic for t0.

    t0 is such that the first step is about as large as the weights are expected to be
    (L. Bottou, "Stochastic gradient descent tricks", 2012, sec. 5.2; scikit-learn's SGDClassifier).

    Parameters
    ----------
    alpha : float
        Strength of the L2 penalty, above 0.
    loss : str, default="hinge"
        Name of the loss, whose derivative sets t0.
    loss_parameter : float, optional
        The loss's own parameter (epsilon of "huber"); by default that of its row.

    Returns
    -------
    Schedule
        step (0, 1, ...; scalar or array) -> value (float64, same shape).

    Raises
    ------
    ValueError
        If `alpha` is not above 0, or there is no such loss.

    Examples
    --------
    >>> from fastgd.schedules import optimal
    >>> float(optimal(0.0001)(0))
    10.0
    """
    if loss not in _core.LOSSES:
        raise ValueError(f"loss must be one of {', '.join(_core.LOSSES)}; got {loss!r}")
    if not alpha > 0:
        raise ValueError(f'alpha must be above 0 for the "optimal" schedule; got {alpha}')
    typical_weight = np.sqrt(1.0 / np.sqrt(alpha))
    _, derivative = _core.evaluate_loss(
        loss, np.ones(1), np.array([-typical_weight]), loss_parameter
    )
    # scikit-learn calls gradient(y_true=1, y_pred=-w): at most 1 for a classifier's loss
    t0 = 1.0 / (typical_weight / max(1.0, derivative[0]) * alpha)
    return Closed(_optimal, (float(alpha), float(t0)))


def _optimal(t: Array, alpha: float, t0: float) -> Array:
    # scikit-learn counts from 1, and subtracts it last: its rounding is kept
    return 1.0 / (alpha * (t0 + (t + 1.0) - 1.0))


def inverse_power(lr: float, power_t: float = 0.5, initial_t: float = 1.0) -> Schedule:
    r"""Vowpal Wabbit's decay, :math:`lr (t_0 / (t_0 + step + 1))^p`.

    The source is the formula of VW's wiki, "Command line arguments", and ``reductions/gd.cc`` with
    ``--sgd``: the example at hand counts, so the first value is already below `lr`. VW's
    ``--decay_learning_rate d`` is ``product([inverse_power(...), step(1.0, n, d)])`` with the
    number n of examples in a pass.

    Parameters
    ----------
    lr : float
        What the rate would be before the first step: ``--learning_rate``.
    power_t : float, default=0.5
        p, how fast it falls: ``--power_t``.
    initial_t : float, default=1.0
        t0, above 0; the larger, the later it falls: ``--initial_t``.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import inverse_power
    >>> inverse_power(1.0, power_t=0.5, initial_t=1.0)([0, 2, 8])
    array([0.70710678, 0.5       , 0.31622777])
    """
    return Closed(
        _inverse_power,
        (real("lr", lr), real("power_t", power_t), positive("initial_t", initial_t)),
    )


def _inverse_power(t: Array, lr: float, power_t: float, initial_t: float) -> Array:
    return lr * np.power(initial_t / (initial_t + t + 1.0), power_t)


def inverse_sqrt(lr: float, warmup_steps: int) -> Schedule:
    r"""Linear warm-up, then the inverse square root of the step: "Noam" decay.

    With s = step + 1 and w = `warmup_steps`: ``lr * min(s / w, sqrt(w / s))``
    (A. Vaswani et al., "Attention is all you need", 2017, eq. 3, whose `lr` is
    ``(d_model * w) ** -0.5``).

    Parameters
    ----------
    lr : float
        The largest value, that of the step before the `warmup_steps`-th.
    warmup_steps : int
        Steps until then, at least 1.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import inverse_sqrt
    >>> inverse_sqrt(1.0, 4)([0, 1, 3, 15])
    array([0.25, 0.5 , 1.  , 0.5 ])
    """
    return Closed(_inverse_sqrt, (real("lr", lr), whole("warmup_steps", warmup_steps)))


def _inverse_sqrt(t: Array, lr: float, warmup_steps: int) -> Array:
    return lr * np.minimum((t + 1.0) / warmup_steps, np.sqrt(warmup_steps / (t + 1.0)))


def step(lr: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """Multiply by `gamma` every `step_size` steps: ``lr * gamma ** (step // step_size)``.

    Parameters
    ----------
    lr : float
        Value of the first steps.
    step_size : int
        Steps of one value, at least 1.
    gamma : float, default=0.1
        Factor, at least 0.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import step
    >>> step(1.0, step_size=2, gamma=0.5)([0, 1, 2, 3, 4])
    array([1.  , 1.  , 0.5 , 0.5 , 0.25])
    """
    return Closed(_step, (real("lr", lr), whole("step_size", step_size), real("gamma", gamma, 0)))


def _step(t: Array, lr: float, step_size: int, gamma: float) -> Array:
    return lr * np.power(gamma, np.floor(t / step_size))


def multi_step(lr: float, milestones: Iterable[int], gamma: float = 0.1) -> Schedule:
    """Multiply by `gamma` at each of the milestones.

    Parameters
    ----------
    lr : float
        Value before the first milestone.
    milestones : iterable of int
        Steps, in any order; one that is named twice counts twice.
    gamma : float, default=0.1
        Factor, at least 0.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import multi_step
    >>> multi_step(1.0, [2, 3], gamma=0.5)([0, 1, 2, 3, 4])
    array([1.  , 1.  , 0.5 , 0.25, 0.25])
    """
    if not isinstance(milestones, Iterable):
        raise TypeError(f"milestones must be a list of whole numbers; got {milestones!r}")
    steps = sorted(whole(f"milestones[{i}]", m, 0) for i, m in enumerate(milestones))
    return Closed(_multi_step, (real("lr", lr), tuple(steps), real("gamma", gamma, 0)))


def _multi_step(t: Array, lr: float, milestones: tuple[int, ...], gamma: float) -> Array:
    passed = np.searchsorted(np.array(milestones, dtype=np.float64), t, side="right")
    return lr * np.power(gamma, passed.astype(np.float64))


def linear(
    lr: float, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
) -> Schedule:
    """From ``lr * start_factor`` in a straight line to ``lr * end_factor``, which then holds.

    Parameters
    ----------
    lr : float
        What the factors multiply.
    start_factor, end_factor : float, default=1/3 and 1.0
        Factor at step 0, and from step `total_iters` on.
    total_iters : int, default=5
        Steps from the one to the other, at least 1.

    Returns
    -------
    Schedule

    See Also
    --------
    polynomial : Takes the two values instead of factors.

    Examples
    --------
    >>> from fastgd.schedules import linear
    >>> linear(1.0, start_factor=0.5, total_iters=4)([0, 1, 2, 3, 4, 5])
    array([0.5  , 0.625, 0.75 , 0.875, 1.   , 1.   ])
    """
    lr = real("lr", lr)
    start = lr * real("start_factor", start_factor)
    end = lr * real("end_factor", end_factor)
    return Closed(_annealed, (start, end, whole("total_iters", total_iters), "linear"))


def _annealed(t: Array, start: float, end: float, n_steps: int, strategy: str) -> Array:
    return anneal(start, end, np.minimum(t / n_steps, 1.0), strategy)


def polynomial(
    lr: float,
    total_iters: int = 5,
    power: float = 1.0,
    *,
    end_value: float = 0.0,
    transition_begin: int = 0,
) -> Schedule:
    """From `lr` to `end_value` as ``(1 - x) ** power`` falls, x going from 0 to 1.

    Parameters
    ----------
    lr : float
        Value until step `transition_begin`.
    total_iters : int, default=5
        Steps that the change takes, at least 1.
    power : float, default=1.0
        Above 0. 1 is a straight line, 0.9 the "poly" of semantic segmentation.
    end_value : float, default=0.0
        Value from then on; it may be the larger one.
    transition_begin : int, default=0
        First step of the change.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import polynomial
    >>> polynomial(1.0, 4, power=2)([0, 1, 2, 3, 4])
    array([1.    , 0.5625, 0.25  , 0.0625, 0.    ])
    """
    return Closed(
        _polynomial,
        (
            real("lr", lr),
            whole("total_iters", total_iters),
            positive("power", power),
            real("end_value", end_value),
            whole("transition_begin", transition_begin, 0),
        ),
    )


def _polynomial(
    t: Array, lr: float, total_iters: int, power: float, end_value: float, transition_begin: int
) -> Array:
    left = np.clip((transition_begin + total_iters - t) / total_iters, 0.0, 1.0)
    left = left if power == 1.0 else np.power(left, power)
    return lr * left + end_value * (1.0 - left)


def exponential(
    lr: float,
    gamma: float,
    *,
    transition_steps: int = 1,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> Schedule:
    """Exponential decay, ``lr * gamma ** ((step - transition_begin) / transition_steps)``.

    Parameters
    ----------
    lr : float
        Value until step `transition_begin`.
    gamma : float
        Factor for every `transition_steps` steps, at least 0; above 1 the value grows.
    transition_steps : int, default=1
        Steps that the factor is for, at least 1.
    transition_begin : int, default=0
        Steps before the decay.
    staircase : bool, default=False
        Round the exponent down.
    end_value : float or None, default=None
        Where the decay stops: a lower bound if `gamma` is below 1, else an upper one.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import exponential
    >>> exponential(1.0, 0.5, end_value=0.2)([0, 1, 2, 3])
    array([1.  , 0.5 , 0.25, 0.2 ])
    """
    return Closed(
        _exponential,
        (
            real("lr", lr),
            real("gamma", gamma, 0),
            whole("transition_steps", transition_steps),
            whole("transition_begin", transition_begin, 0),
            bool(staircase),
            None if end_value is None else real("end_value", end_value),
        ),
    )


def _exponential(
    t: Array,
    lr: float,
    gamma: float,
    transition_steps: int,
    transition_begin: int,
    staircase: bool,
    end_value: float | None,
) -> Array:
    exponent = np.maximum(t - transition_begin, 0.0) / transition_steps
    with np.errstate(over="ignore"):
        value = lr * np.power(gamma, np.floor(exponent) if staircase else exponent)
    if end_value is None:
        return value
    return np.maximum(value, end_value) if gamma < 1 else np.minimum(value, end_value)


def swa(
    lr: float, swa_lr: float, anneal_epochs: int = 10, anneal_strategy: str = "cos"
) -> Schedule:
    """From `lr` to `swa_lr`, which then holds while weights are averaged.

    P. Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018.
    It starts at step 0: ``join([schedule, swa(schedule(n), swa_lr)], [n])`` starts it at step n.

    Parameters
    ----------
    lr : float
        Value of the first step.
    swa_lr : float
        Value from step `anneal_epochs` on; it may be the larger one.
    anneal_epochs : int, default=10
        Steps from the one to the other; 0 is `swa_lr` at once.
    anneal_strategy : {"cos", "linear"}, default="cos"
        Shape of the way.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import swa
    >>> swa(1.0, 0.5, 4, "linear")([0, 1, 2, 4, 100])
    array([1.   , 0.875, 0.75 , 0.5  , 0.5  ])
    """
    n_steps = whole("anneal_epochs", anneal_epochs, 0)
    strategy = choice("anneal_strategy", anneal_strategy, ("cos", "linear"))
    lr, swa_lr = real("lr", lr), real("swa_lr", swa_lr)
    return Closed(_annealed, (lr if n_steps else swa_lr, swa_lr, max(1, n_steps), strategy))


def piecewise(
    lr: float, boundaries_and_scales: Mapping[int, float], interpolate_type: str = "constant"
) -> Schedule:
    """Values at given steps, and how to go from one to the next.

    Parameters
    ----------
    lr : float
        Value at step 0.
    boundaries_and_scales : dict of int to float
        Step -> what the value so far is multiplied with there, at least 0.
    interpolate_type : {"constant", "linear", "cosine"}, default="constant"
        Hold each value until the next step that is named, or go there in a straight line or in
        half a cosine.

    Returns
    -------
    Schedule

    Examples
    --------
    >>> from fastgd.schedules import piecewise
    >>> piecewise(1.0, {2: 0.5, 4: 0.5})([0, 1, 2, 3, 4, 5])
    array([1.  , 1.  , 0.5 , 0.5 , 0.25, 0.25])
    >>> piecewise(1.0, {2: 0.5, 4: 0.5}, "linear")([0, 1, 2, 3, 4, 5])
    array([1.   , 0.75 , 0.5  , 0.375, 0.25 , 0.25 ])
    """
    if not isinstance(boundaries_and_scales, Mapping):
        raise TypeError(
            f"boundaries_and_scales must be a dict of step to scale; got {boundaries_and_scales!r}"
        )
    steps, values = [0], [real("lr", lr)]
    named = {
        whole("a step of boundaries_and_scales", boundary, 0): real(
            f"boundaries_and_scales[{boundary!r}]", scale, 0
        )
        for boundary, scale in boundaries_and_scales.items()
    }
    for boundary, scale in sorted(named.items()):
        steps.append(boundary)
        values.append(values[-1] * scale)
    kind = choice("interpolate_type", interpolate_type, ("constant", "linear", "cosine"))
    return Closed(_piecewise, (tuple(steps), tuple(values), kind))


def _piecewise(
    t: Array, steps: tuple[int, ...], values: tuple[float, ...], interpolate_type: str
) -> Array:
    at, value = np.array(steps, dtype=np.float64), np.array(values)
    piece = np.searchsorted(at[1:], t, side="right")
    if interpolate_type == "constant":
        return value[piece]
    last = len(steps) - 1
    following = np.minimum(piece + 1, last)
    x = (t - at[piece]) / np.maximum(at[following] - at[piece], 1.0)
    x = np.where(piece < last, x, 0.0)
    return anneal(value[piece], value[following], x, interpolate_type)
