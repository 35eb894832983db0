"""Updates that see the row itself, not only its gradient: those of Vowpal Wabbit.

`vw` learns one row; `invariant_step` says how far the row's importance takes its prediction.
"""

import math
from collections.abc import Callable, Sequence
from math import copysign
from typing import Any

from .linear_model import cut_off, linear_prediction
from .losses import LOSSES
from .rules import Vector

Path = Callable[..., float]

# ---- how far importance takes a prediction -------------------------------------------------------


def _linear(slope: float, distance: float, h: float, s: float) -> float:
    """Go down a constant slope, and stop where it ends, at `distance`."""
    return distance / s if h * slope * s > distance else h * slope


def _square(curvature: float, distance: float, h: float, s: float) -> float:
    """Go down curvature / 2 distance^2: what is left of the distance falls exponentially."""
    time = curvature * h * s
    return curvature * distance * h * (-math.expm1(-time) / time if time else 1.0)


def _huber(curvature: float, bend: float, distance: float, h: float, s: float) -> float:
    """Go down a slope that is constant as far as `bend` from the end, and then a square."""
    straight = distance - bend
    if straight <= 0.0:
        return _square(curvature, distance, h, s)
    slope = curvature * bend
    if h * slope * s <= straight:
        return h * slope
    return straight / s + _square(curvature, bend, h - straight / (slope * s), s)


def _log_loss(p: float, y: float, h: float, s: float) -> float:
    """Solve z1 + exp(z1) = z + exp(z) + h s for the margin: w + log w = that, w = exp(z1)."""
    z, time = y * p, h * s
    a = math.exp(min(z, 700.0))
    if time == 0.0:
        return y * h / (1.0 + a)
    low, high = 0.0, min(time / (1.0 + a), math.log(time + a) - z + 1.0)
    for _ in range(2000):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if middle + a * math.expm1(middle) < time else (low, middle)
    return y * high / s


def _log_step(slope: float, time: float, s: float) -> float:
    """Step that multiplies exp(prediction) by 1 + slope time."""
    factor = slope * time
    return math.log1p(factor) / s if factor else 0.0


def _poisson(p: float, y: float, h: float, s: float) -> float:
    """Follow exp(-p), which goes to 1 / y exponentially, with rate y."""
    time = -math.expm1(-y * h * s) / y if y else h * s
    e = math.exp(p)
    factor = (e - y) * time
    kept = math.exp(-y * h * s) + e * time  # the same, where nearly nothing is left of 1
    return -(math.log1p(factor) if abs(factor) < 0.5 else math.log(kept)) / s if s else h * (y - e)


def _gamma(p: float, y: float, h: float, s: float) -> float:
    """Follow exp(p), which goes to y exponentially."""
    time, r = -math.expm1(-h * s), y * math.exp(-p)
    factor = (r - 1.0) * time
    kept = math.exp(-h * s) + r * time
    change = math.log1p(factor) if abs(factor) < 0.5 else math.log(kept)
    return change / s if s else h * (r - 1.0)


def _implicit(p: float, y: float, h: float, s: float, loss: str, *own: float) -> float:
    """Take the gradient where the step ends (Kulis and Bartlett, 2010, eq. 2), by halving.

    Between the last change that is too small and the first that is not, of min(h s abs(loss'), 1),
    its double, and so on.
    """
    down = -1.0 if LOSSES[loss](p, y, *own)[1] > 0.0 else 1.0

    def beyond(change: float) -> float:
        return change + down * h * s * LOSSES[loss](p + down * change, y, *own)[1]

    low, high = 0.0, min(-beyond(0.0), 1.0)
    while beyond(high) < 0.0:
        low, high = high, 2.0 * high
    while low < (middle := 0.5 * (low + high)) < high:
        low, high = (middle, high) if beyond(middle) < 0.0 else (low, middle)
    return down * high / s if s else -h * LOSSES[loss](p, y, *own)[1]


PATHS: dict[str, Path] = {
    "hinge": lambda p, y, h, s: y * _linear(1.0, max(0.0, 1.0 - y * p), h, s),
    "log_loss": _log_loss,
    "modified_huber": lambda p, y, h, s: y * _huber(2.0, 2.0, max(0.0, 1.0 - y * p), h, s),
    "squared_hinge": lambda p, y, h, s: y * _square(2.0, max(0.0, 1.0 - y * p), h, s),
    "perceptron": lambda p, y, h, s: y * h if y * p <= 0.0 else 0.0,
    "focal": lambda p, y, h, s, own=2.0: _implicit(p, y, h, s, "focal", own),
    "squared_error": lambda p, y, h, s: _square(1.0, y - p, h, s),
    "huber": lambda p, y, h, s, own=0.1: copysign(_huber(1.0, own, abs(y - p), h, s), y - p),
    "epsilon_insensitive": lambda p, y, h, s, own=0.1: copysign(
        _linear(1.0, max(0.0, abs(y - p) - own), h, s), y - p
    ),
    "squared_epsilon_insensitive": lambda p, y, h, s, own=0.1: copysign(
        _square(2.0, max(0.0, abs(y - p) - own), h, s), y - p
    ),
    "pinball": lambda p, y, h, s, own=0.5: copysign(
        _linear(own if y >= p else 1.0 - own, abs(y - p), h, s), y - p
    ),
    "expectile": lambda p, y, h, s, own=0.5: _square(
        2.0 * (own if y >= p else 1.0 - own), y - p, h, s
    ),
    "poisson": _poisson,
    "gamma": _gamma,
    "tweedie": lambda p, y, h, s, own=1.5: _implicit(p, y, h, s, "tweedie", own),
}


def invariant_step(
    p: float, y: float, loss: str, h: float, s: float, loss_parameter: float | None = None
) -> float:
    """Step of a row of importance `h`, such that twice the importance is the row twice.

    Instead of -h loss'(p), the step of many rows of importance dh one after the other:
    the prediction moves by dp/dh = -s loss'(p) from 0 to h, and the step is what it moves, divided
    by s (Karampatziakis and Langford, 2011, eq. 3 and table 1). Where the loss is piecewise linear
    or quadratic, logistic, Poisson or gamma, the solution is exact. ``"focal"`` and ``"tweedie"``
    have none in closed form and take the implicit step, whose gradient is that at its end. The
    perceptron takes the plain step: from weights of zero, where its loss ends, it would not move.

    Parameters
    ----------
    p : float
        Prediction.
    y : float
        Target; -1 or +1 for the losses of classification.
    loss : str
        Name of the loss.
    h : float
        Learning rate times the row's weight.
    s : float
        What a step of 1 moves the prediction by.
    loss_parameter : float, optional
        The loss's own parameter, if it has one.

    Returns
    -------
    float
        The step: the weights of the row's features move by so much times their rates and values.

    Examples
    --------
    However large the importance, the prediction does not pass the target:

    >>> [round(0.5 * invariant_step(0.0, 1.0, "squared_error", h, 0.5), 3) for h in (0.1, 1, 100)]
    [0.049, 0.393, 1.0]

    Twice the importance is the row twice:

    >>> once = 0.5 * invariant_step(0.0, 1.0, "log_loss", 3.0, 0.5)
    >>> twice = once + 0.5 * invariant_step(once, 1.0, "log_loss", 3.0, 0.5)
    >>> abs(0.5 * invariant_step(0.0, 1.0, "log_loss", 6.0, 0.5) - twice) < 1e-12
    True
    """
    own = () if loss_parameter is None else (loss_parameter,)
    return PATHS[loss](p, y, h, s, *own)


# ---- one row -------------------------------------------------------------------------------------


def vw(
    x: Sequence[float],
    y: float,
    w: Vector,
    b: Vector,
    state: dict[str, Any],
    *,
    loss: str,
    loss_parameter: float | None = None,
    sample_weight: float = 1.0,
    lr: float = 0.5,
    alpha: float = 0.0,
    fit_intercept: bool = True,
    power_t: float = 0.5,
    adaptive: bool = True,
    normalized: bool = True,
    invariant: bool = True,
) -> float:
    """Learn one row as Vowpal Wabbit does by default, in place.

    The intercept is the weight of one more feature, whose value is 1. Each feature that is not zero
    has its own rate, and the row one step:

    * `adaptive`: a rate falls with the sum of the feature's squared gradients, weighted with h, the
      row's weight (Duchi et al., 2011, figure 1; McMahan and Streeter, 2010). Without it, `lr` is
      divided by (the sum of the rows' weights)^power_t.
    * `normalized`: a rate follows the largest value of the feature, and all of them the number of
      features, so that the scale of a feature does not matter (Ross, Mineiro and Langford, 2013,
      algorithms 1 and 2). Where a feature grows, its weight first becomes what it would be, had the
      feature been so large before.
    * `invariant`: the step is that of `invariant_step`, else -h lr loss'(p).

    Rows without gradient or weight change nothing but the sum of the weights, and the decay: the
    weights, not the intercept, are first multiplied by max(0, 1 - lr alpha).

    Parameters
    ----------
    x : sequence of float, shape (n_features,)
        One row of data.
    y : float
        Target; -1 or +1 for the losses of classification.
    w : list of float, shape (n_features,)
        Weights, updated in place.
    b : list of float, shape (1,)
        Intercept, updated in place.
    state : dict
        What is remembered, updated in place: ``"sum"`` and ``"largest"`` of each feature, then of
        the intercept; the weights of all rows, ``"seen"``, and of those that had a gradient,
        ``"learned"``, and their normalized squares, ``"norm"``. Start with an empty one.
    loss, loss_parameter
        As in `linear_gradient`.
    sample_weight : float, default=1
        Weight of the row.
    lr : float, default=0.5
        Learning rate.
    alpha : float, default=0
        Strength of the L2 regularisation.
    fit_intercept : bool, default=True
        Whether to update the intercept.
    power_t : float, default=0.5
        How fast the rates fall.
    adaptive, normalized, invariant : bool, default=True
        See above.

    Returns
    -------
    float
        Weighted loss of the row before the update.

    Notes
    -----
    With g = loss'(p), and q = `power_t` where `adaptive`, else 0::

        sum += h * g**2 * x**2
        largest = max(largest, abs(x))
        rate = sum**-q * largest**(2 * q - 2)
        factor = mean(h * sum((x / largest)**2))**(q - 1)
        w += factor * step * rate * x

    The powers are those of vowpalwabbit 9.11, and so is that a row is predicted before weights are
    rescaled. Beside that, its squared error is twice ours; it keeps predictions within the range of
    the labels unless told otherwise; and without `adaptive` q is 0 there only if `power_t` is 1/2.

    References
    ----------
    Karampatziakis, Langford (2011), Online importance weight aware updates, UAI; Ross, Mineiro,
    Langford (2013), Normalized online learning, UAI.

    Examples
    --------
    The scale of a feature does not matter, and the first step goes far enough to be of use:

    >>> for scale in (1.0, 1000.0):
    ...     w, b = [0.0, 0.0], [0.0]
    ...     _ = vw([1.0, 2.0 * scale], 1.0, w, b, {}, loss="squared_error")
    ...     print([round(v, 6) for v in (w[0], w[1] * scale, b[0])])
    [0.193127, 0.096563, 0.193127]
    [0.193127, 0.096563, 0.193127]
    """
    own = () if loss_parameter is None else (loss_parameter,)
    p = linear_prediction(x, w, b[0])
    value, g = LOSSES[loss](p, y, *own)
    g = cut_off(g)
    state["seen"] = state.get("seen", 0.0) + sample_weight
    if not adaptive and state["seen"] > 0.0:
        lr *= state["seen"] ** -power_t
    decay = max(0.0, 1.0 - lr * alpha)
    if g == 0.0 or sample_weight == 0.0:
        w[:] = [decay * wj for wj in w]
        return sample_weight * value

    weights, values = [*w, b[0]], [*x, float(fit_intercept)]
    square = sample_weight * g * g
    rates, squares = _rates(weights, values, state, square, power_t, adaptive, normalized)
    factor = 1.0
    if normalized:
        state["learned"] = state.get("learned", 0.0) + sample_weight
        state["norm"] = state.get("norm", 0.0) + sample_weight * squares
        mean = state["norm"] / state["learned"]
        factor = mean ** (power_t - 1.0 if adaptive else -1.0) if mean > 0.0 else 0.0
    s = factor * sum(rate * xj * xj for rate, xj in zip(rates, values, strict=True))
    h = lr * sample_weight
    step = factor * (invariant_step(p, y, loss, h, s, loss_parameter) if invariant else -h * g)
    moved = [step * rate * xj for rate, xj in zip(rates, values, strict=True)]
    w[:] = [decay * wj + m for wj, m in zip(weights[:-1], moved[:-1], strict=True)]
    b[0] = weights[-1] + moved[-1]
    return sample_weight * value


def _rates(
    weights: Vector,
    values: Sequence[float],
    state: dict[str, Any],
    square: float,
    power_t: float,
    adaptive: bool,
    normalized: bool,
) -> tuple[Vector, float]:
    """Move on what is remembered of each feature; return their rates and normalized squares."""
    sums = state.setdefault("sum", [0.0] * len(values))
    largest = state.setdefault("largest", [0.0] * len(values))
    rates, squares = [0.0] * len(values), 0.0
    power = power_t if adaptive else 0.0
    for j, xj in enumerate(values):
        if xj == 0.0:
            continue
        rates[j] = 1.0
        if adaptive:
            sums[j] += square * xj * xj
            rates[j] = sums[j] ** -power_t if sums[j] > 0.0 else 0.0
        if normalized:
            if abs(xj) > largest[j]:
                if largest[j] > 0.0:
                    weights[j] *= (largest[j] / abs(xj)) ** (2.0 - 2.0 * power)
                largest[j] = abs(xj)
            rates[j] *= largest[j] ** (2.0 * power - 2.0)
            squares += (xj / largest[j]) ** 2
    return rates, squares


ONLINE_RULES: dict[str, Callable[..., float]] = {"vw": vw}
"""Rules that see the rows of a linear model, by name."""
