"""The line search: the Wolfe conditions, the specification, and where a cubic has no minimum."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgd import reference
from fastgd._line_search import C1, C2, Point, cubic_minimum, strong_wolfe


def along(value, slope):
    """Trial function of a function of one number and its derivative; counts its calls."""

    def trial(t, held=()):
        trial.calls += 1
        return Point(t, value(t), slope(t), None, 0.0, 0.0)

    trial.calls = 0
    return trial


@st.composite
def valleys(draw):
    """Functions that fall at 0 and rise far away, with ripples of any size on their way."""
    place = draw(st.floats(0.1, 20))
    height, ripple = draw(st.floats(0.1, 100)), draw(st.floats(0, 0.5))
    wave = draw(st.floats(0.1, 5))

    def value(t):
        return height * ((t / place - 1) ** 2 + ripple * math.sin(wave * t) ** 2)

    def slope(t):
        return height * (2 * (t / place - 1) / place + ripple * wave * math.sin(2 * wave * t))

    return value, slope


@given(valleys(), st.floats(1e-3, 1e3))
def test_the_wolfe_conditions_hold(valley, t):
    """Protects the purpose; in rare cases it gives up, and says how by where it stands."""
    trial = along(*valley)
    start = trial(0.0)
    found = strong_wolfe(trial, start, t, reach=1.0, tolerance_change=1e-12, max_trials=60)
    assert found.loss <= start.loss + C1 * found.t * start.slope
    assert abs(found.slope) <= -C2 * start.slope
    assert found.t > 0


@given(valleys(), st.floats(1e-3, 1e3), st.integers(0, 6), st.sampled_from([1e-9, 0.5]))
def test_agrees_with_the_specification(valley, t, max_trials, tolerance_change):
    """Protects each trial: where it is, and when they end."""
    trial = along(*valley)
    start = trial(0.0)
    found = strong_wolfe(
        trial, start, t, reach=1.5, tolerance_change=tolerance_change, max_trials=max_trials
    )
    value, slope = valley
    expected, calls = reference.strong_wolfe(
        lambda t: (t, value(t), [], slope(t)),
        (0.0, start.loss, [], start.slope),
        t,
        1.5,
        tolerance_change,
        max_trials,
    )
    assert found.t == pytest.approx(expected[0], rel=1e-9)
    assert trial.calls - 1 == calls


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((1.0, 0.0, -1.0), (1.0, 0.0, -1.0)),  # one place
        ((0.0, 0.0, 1.0), (2.0, 2.0, 1.0)),  # a straight line: 0 / 0
        ((0.0, 0.0, 1.0), (2.0, 6.5, 9.0)),  # rises everywhere
        ((0.0, -1e300, 1e200), (2.0, 1e300, 1e200)),  # squares overflow
    ],
)
def test_without_a_minimum_the_middle_is_tried(a, b):
    """Protects the next trial from being nowhere."""
    one, other = (Point(t, loss, slope, None, 0.0, 0.0) for t, loss, slope in (a, b))
    for first, second in ((one, other), (other, one)):
        assert cubic_minimum(first, second) == (a[0] + b[0]) / 2
        assert cubic_minimum(first, second, (3.0, 5.0)) == 4.0
