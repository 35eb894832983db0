"""`fastgd.schedules`: learning rates of the specification, for one step or for many."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fastgd import _core, reference, schedules

STEPS = np.array([1, 2, 3, 10, 1000, 10**6, 10**12])
CASES = {
    "constant": [(0.1,), (1e-300,), (0.0,)],
    "invscaling": [(0.1,), (0.5, 0.5), (1.0, 0.25), (2.0, 1.0), (0.1, 0.0)],
    "optimal": [(alpha, loss) for alpha in (1e-7, 1e-4, 0.3, 20.0) for loss in _core.LOSSES],
}


def test_every_schedule_has_a_specification():
    """Protects the table: what one can name is specified and tested here."""
    assert schedules.SCHEDULES.keys() == reference.SCHEDULES.keys() == CASES.keys()
    assert set(schedules.__all__) == {*schedules.SCHEDULES, "SCHEDULES"}


@pytest.mark.parametrize(
    ("name", "arguments"), [(name, case) for name, cases in CASES.items() for case in cases]
)
def test_schedules_follow_the_specification(name, arguments):
    """Protects the formulas, up to steps that no int32 holds."""
    parameter = (0.1,) if "huber" in arguments else ()  # the specification's default
    schedule = schedules.SCHEDULES[name](*arguments, *parameter)
    expected = reference.SCHEDULES[name](*arguments)
    for step in STEPS.tolist():
        assert_allclose(schedule(step), expected(step), rtol=4e-16, atol=0)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_arrays_give_the_bits_of_single_steps(name, assert_same_bits):
    """Protects blocks of updates: their learning rates are those of one update at a time."""
    for arguments in CASES[name]:
        schedule = schedules.SCHEDULES[name](*arguments)
        together = schedule(STEPS)
        assert together.dtype == np.float64
        assert_same_bits(together, np.array([schedule(step) for step in STEPS.tolist()]))
        assert_same_bits(schedule(STEPS.tolist()), together)
        assert_same_bits(schedule(STEPS.reshape(-1, 1)), together.reshape(-1, 1))
        assert schedule(np.empty(0, dtype=int)).shape == (0,)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_single_steps_give_a_number(name):
    """Protects ``opt.lr = schedule(t)``: not an array, and float64 for any kind of integer."""
    schedule = schedules.SCHEDULES[name](*CASES[name][0])
    for step in (3, np.int32(3), np.array(3)):
        assert isinstance(schedule(step), float)
        assert schedule(step) == schedule(3)


@given(
    eta0=st.floats(1e-6, 1e3), power_t=st.floats(0, 2), step=st.integers(1, 2**40)
)  # fmt: skip
def test_invscaling_follows_the_specification(eta0, power_t, step):
    """Protects any exponent: the square root that stands for 1/2 is no other formula."""
    expected = reference.invscaling(eta0, power_t)(step)
    assert_allclose(schedules.invscaling(eta0, power_t)(step), expected, rtol=1e-14)


def test_defaults():
    """Protects the defaults: square root, and hinge."""
    assert schedules.invscaling(1.0)(4) == 0.5
    assert schedules.optimal(1e-3)(5) == schedules.optimal(1e-3, "hinge", 0.0)(5)


def test_optimal_starts_as_scikit_learn_does():
    """Protects t0, by its formula: 1 / (alpha eta0), with eta0 the size of a typical weight."""
    for alpha in (1e-6, 1e-4, 0.5):
        eta0 = alpha**-0.25  # over the slope of the hinge at -typical weight, which counts as 1
        assert schedules.optimal(alpha)(1) == pytest.approx(eta0, rel=1e-14)


def test_optimal_has_the_same_bits_on_every_isa(isa, assert_same_bits):
    """Protects reproducibility: t0 comes from a kernel."""
    rate = schedules.optimal(1e-4, "log_loss")(STEPS)
    _core.use_isa(_core.ISAS[0])
    assert_same_bits(schedules.optimal(1e-4, "log_loss")(STEPS), rate)


def test_optimal_heeds_the_slope_of_the_loss(monkeypatch):
    """Protects t0 for a loss that rises steeply there: none of the table does, a new row may."""
    alpha = 1 / 16  # the typical weight is 2

    def steep(loss, y, prediction, parameter):
        assert (loss, y.tolist(), prediction.tolist(), parameter) == ("hinge", [1.0], [-2.0], 0.5)
        return None, np.array([8.0])

    monkeypatch.setattr(_core, "evaluate_loss", steep)
    assert schedules.optimal(alpha, "hinge", 0.5)(1) == 2 / 8


@pytest.mark.parametrize("alpha", [0, 0.0, -1e-4, math.nan])
def test_optimal_needs_a_penalty(alpha):
    """Protects from a learning rate that is infinite: without penalty there is no optimal one."""
    with pytest.raises(ValueError, match=f"^alpha must .*; got {alpha}$"):
        schedules.optimal(alpha)


def test_optimal_refuses_an_unknown_loss():
    """Protects from a KeyError that does not say what it is about."""
    with pytest.raises(ValueError, match=r"^loss must be one of hinge, .*; got 'hing'$"):
        schedules.optimal(1e-4, "hing")
