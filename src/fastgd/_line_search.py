"""Line search: how far to go along a direction.

Nocedal & Wright, Numerical Optimization, 2nd ed., 2006, section 3.5, in the form that
``torch.optim.LBFGS`` (and before it minFunc, Schmidt 2005) gave it. All that is known of a point is
a `Point`; who evaluates it is not known here.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

C1, C2 = 1e-4, 0.9  # of the Wolfe conditions


class Point(NamedTuple):
    """What is known at the distance `t` along the direction.

    Attributes
    ----------
    t : float
        Where.
    loss, slope : float
        Value there, and its derivative along the direction.
    grad : object
        The gradient, of which nothing is asked here.
    largest, total : float
        Largest absolute value and sum of the absolute values in the gradient.
    """

    t: float
    loss: float
    slope: float
    grad: Any
    largest: float
    total: float


Trial = Callable[[float, tuple[Point, ...]], Point]


def cubic_minimum(a: Point, b: Point, bounds: tuple[float, float] | None = None) -> float:
    """Minimum of the cubic through two points with their slopes, eq. (3.59), within the bounds.

    Where there is none, the middle of the bounds; without bounds, the points are.
    """
    left, right = (a, b) if a.t <= b.t else (b, a)
    low, high = bounds or (left.t, right.t)
    middle = (low + high) / 2
    width = right.t - left.t
    if width == 0:
        return middle
    d1 = left.slope + right.slope - 3 * (left.loss - right.loss) / (left.t - right.t)
    square = d1 * d1 - left.slope * right.slope
    if not 0 <= square < math.inf:
        return middle
    d2 = math.sqrt(square)
    below = right.slope - left.slope + 2 * d2
    if below == 0:
        return middle
    return min(max(right.t - width * ((right.slope + d2 - d1) / below), low), high)


def strong_wolfe(
    trial: Trial,
    start: Point,
    t: float,
    *,
    reach: float,
    tolerance_change: float,
    max_trials: int,
) -> Point:
    """Find a point that satisfies the strong Wolfe conditions (3.7), algorithm 3.5.

    Parameters
    ----------
    trial : callable
        Evaluates ``(t, held)``; the points in `held` are still needed.
    start : Point
        At 0; its slope is negative.
    t : float
        First guess.
    reach : float
        Largest absolute value in the direction.
    tolerance_change : float
        The search ends when no parameter would change by more.
    max_trials : int
        It also ends when there have been so many more trials than the first.

    Returns
    -------
    Point
        The best known, if the search ended before one was found.
    """
    before, new = start, trial(t, ())
    trials = 0
    while trials < max_trials:
        if _too_high(new, start) or (trials > 1 and new.loss >= before.loss):
            break
        if _flat_enough(new, start):
            return new
        if new.slope >= 0:
            break
        bounds = new.t + 0.01 * (new.t - before.t), new.t * 10
        before, new = new, trial(cubic_minimum(before, new, bounds), (new,))
        trials += 1
    else:
        before = start
    return _zoom(trial, start, [before, new], trials, reach, tolerance_change, max_trials)


def _too_high(point: Point, start: Point) -> bool:
    """Whether the decrease is not sufficient, eq. (3.7a)."""
    return point.loss > start.loss + C1 * point.t * start.slope


def _flat_enough(point: Point, start: Point) -> bool:
    """Whether the curvature condition holds, eq. (3.7b)."""
    return abs(point.slope) <= -C2 * start.slope


def _zoom(
    trial: Trial,
    start: Point,
    ends: list[Point],
    trials: int,
    reach: float,
    tolerance_change: float,
    max_trials: int,
) -> Point:
    """Shrink an interval that holds such a point until it is found, algorithm 3.6."""
    low = _lower(ends)
    stuck = False
    while trials < max_trials and abs(ends[1].t - ends[0].t) * reach >= tolerance_change:
        t, stuck = _away_from_ends(cubic_minimum(ends[0], ends[1]), ends, stuck)
        new = trial(t, tuple(ends))
        trials += 1
        high = 1 - low
        if _too_high(new, start) or new.loss >= ends[low].loss:
            ends[high] = new
            low = _lower(ends)
            continue
        if _flat_enough(new, start):
            return new
        if new.slope * (ends[high].t - ends[low].t) >= 0:
            ends[high] = ends[low]
        ends[low] = new
    return ends[low]


def _lower(ends: list[Point]) -> int:
    return 0 if ends[0].loss <= ends[1].loss else 1


def _away_from_ends(t: float, ends: list[Point], stuck: bool) -> tuple[float, bool]:
    """Keep a trial a tenth of the interval away from its ends, from the second such time on.

    Returns `t`, and whether it was let come that near this time.
    """
    left, right = sorted((ends[0].t, ends[1].t))
    margin = 0.1 * (right - left)
    if min(right - t, t - left) >= margin:
        return t, False
    if not stuck and left < t < right:
        return t, True
    return (right - margin if abs(t - right) < abs(t - left) else left + margin), False
