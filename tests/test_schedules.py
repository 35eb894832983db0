"""`fastgd.schedules`: the specification's rates, values at borders and ends, and properties.

Every schedule counts from 0, the first update; `reference` and scikit-learn count from 1.
"""

import math
import operator
import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from schedule_functions import MANY, nearly_one, saw

from fastgd import _core, reference, schedules
from fastgd.schedules import (
    ReduceLROnPlateau,
    clip,
    constant,
    cosine,
    cosine_restarts,
    custom,
    cyclic,
    exponential,
    inverse_power,
    inverse_sqrt,
    invscaling,
    join,
    linear,
    multi_step,
    multiplicative,
    one_cycle,
    optimal,
    piecewise,
    polynomial,
    product,
    step,
    swa,
    warmup,
    wsd,
)

STEPS = np.array([0, 1, 2, 3, 10, 1000, 10**6, 10**12])
CASES = {
    "constant": [(0.1,), (1e-300,), (0.0,)],
    "invscaling": [(0.1,), (0.5, 0.5), (1.0, 0.25), (2.0, 1.0), (0.1, 0.0)],
    "optimal": [(alpha, loss) for alpha in (1e-7, 1e-4, 0.3, 20.0) for loss in _core.LOSSES],
}

# Every factory, with each of its options. What is multiplicative is tried for fewer steps.
EXAMPLES = {
    "clip": [(clip, (cosine(1.0, 20), 0.2, 0.7)), (clip, (cosine(1.0, 20),))],
    "constant": [(constant, (0.1,)), (partial(constant, factor=0.3, total_iters=4), (0.1,))],
    "cosine": [
        (cosine, (0.1, 7)),
        (cosine, (0.1, 50, 0.01)),
        (partial(cosine, exponent=2.5), (0.1, 50)),
        (partial(cosine, exponent=0.5, cycle=False), (0.1, 50, 0.02)),
    ],
    "cosine_restarts": [(cosine_restarts, (0.1, 7)), (cosine_restarts, (0.1, 7, 3, 0.01))],
    "custom": [(custom, (0.1, saw))],
    "cyclic": [
        (cyclic, (0.1, 0.2, 7)),
        (cyclic, (0.1, 0.2, 7, 3, "triangular2")),
        (cyclic, (0.9, 0.8, 7, None, "exp_range", 0.99)),
        (partial(cyclic, scale_fn=saw), (0.1, 0.2, 7)),
        (partial(cyclic, scale_fn=saw, scale_mode="iterations"), (0.1, 0.2, 7)),
    ],
    "exponential": [
        (exponential, (0.1, 0.9)),
        (partial(exponential, transition_steps=7, staircase=True), (0.1, 0.5)),
        (partial(exponential, transition_begin=9, end_value=0.02), (0.1, 0.7)),
        (partial(exponential, end_value=0.3), (0.1, 1.1)),
    ],
    "inverse_power": [(inverse_power, (0.1,)), (inverse_power, (0.1, 0.75, 100.0))],
    "inverse_sqrt": [(inverse_sqrt, (0.1, 30))],
    "invscaling": [(invscaling, case) for case in CASES["invscaling"]],
    "join": [
        (join, ([0.3, exponential(0.2, 0.9), cosine(0.1, 5)], [10, 60])),
        (join, ([cosine(0.1, 5)], [])),
        (join, ([0.3, 0.2, 0.1], [0, 5])),
    ],
    "linear": [(linear, (0.1,)), (linear, (0.1, 0.2, 0.7, 33))],
    "multi_step": [(multi_step, (0.1, [80, 30, 30])), (multi_step, (0.1, [], 0.5))],
    "multiplicative": [(multiplicative, (0.1, nearly_one))],
    "one_cycle": [
        (one_cycle, (0.1, 200)),
        (one_cycle, (0.1, 123, 0.2, "linear")),
        (partial(one_cycle, three_phase=True, div_factor=5.0, final_div_factor=9.0), (0.1, 200)),
    ],
    "optimal": [(optimal, case) for case in CASES["optimal"]],
    "piecewise": [
        (piecewise, (0.1, {90: 0.5, 20: 2.0, 0: 3.0}, kind))
        for kind in ("constant", "linear", "cosine")
    ],
    "polynomial": [
        (polynomial, (0.1,)),
        (polynomial, (0.1, 50, 0.9)),
        (partial(polynomial, end_value=0.3, transition_begin=9), (0.1, 50, 2)),
    ],
    "product": [(product, ([cosine(0.1, 20), exponential(1.0, 0.99), 0.5],))],
    "step": [(step, (0.1, 30)), (step, (0.1, 7, 0.5))],
    "swa": [(swa, (0.1, 0.05)), (swa, (0.1, 0.2, 30, "linear")), (swa, (0.1, 0.05, 0))],
    "warmup": [(warmup, (cosine(0.1, 20), 9)), (warmup, (0.1, 9, 0.02)), (warmup, (0.1, 0))],
    "wsd": [
        (partial(wsd, decay=kind, end_value=0.001), (0.1, 150, 20, 50))
        for kind in ("sqrt", "linear", "cosine", "exponential")
    ]
    + [(wsd, (0.1, 50, 0, 0))],
}
ALL = [
    pytest.param(make(*arguments), id=f"{name}{i}")
    for name, cases in EXAMPLES.items()
    for i, (make, arguments) in enumerate(cases)
]


def test_every_schedule_has_a_specification():
    """Protects the table: what estimators take is specified and tested here."""
    assert schedules.SCHEDULES.keys() == reference.SCHEDULES.keys() == CASES.keys()
    assert set(schedules.__all__) == {*EXAMPLES, "ReduceLROnPlateau", "SCHEDULES", "Schedule"}


# ---- what holds for every schedule ---------------------------------------------------------------


@pytest.mark.parametrize("schedule", ALL)
def test_arrays_give_the_bits_of_single_steps(schedule, assert_same_bits):
    """Protects blocks of updates: their values are those of one update at a time."""
    steps = MANY if repr(schedule).startswith("multiplicative") else np.concatenate([MANY, STEPS])
    together = schedule(steps)
    assert together.dtype == np.float64
    assert np.isfinite(together).all()
    assert_same_bits(together, np.array([schedule(s) for s in steps.tolist()]))
    assert_same_bits(schedule(steps.tolist()), together)
    assert_same_bits(schedule(steps.astype(np.float64)), together)
    assert_same_bits(schedule(steps.reshape(-1, 1)), together.reshape(-1, 1))
    assert_same_bits(schedule(steps[::-3]), together[::-3])
    assert schedule(np.empty((0, 2), dtype=int)).shape == (0, 2)


@pytest.mark.parametrize("schedule", ALL)
def test_single_steps_give_a_number(schedule):
    """Protects ``opt.lr = schedule(t)``: not an array, and float64 for any kind of integer."""
    for one in (3, 3.0, np.int32(3), np.array(3)):
        assert isinstance(schedule(one), float)
        assert schedule(one) == schedule(3)


@pytest.mark.parametrize("schedule", ALL)
def test_schedules_can_be_pickled(schedule, assert_same_bits):
    """Protects optimizers in checkpoints and in other processes, and says what a schedule is."""
    again = pickle.loads(pickle.dumps(schedule))
    assert again == schedule
    assert repr(again) == repr(schedule)
    assert_same_bits(again(MANY), schedule(MANY))


@pytest.mark.parametrize("schedule", ALL)
@pytest.mark.parametrize("steps", [-1, [0, -0.5], [1.0, math.nan]])
def test_steps_before_the_first_are_refused(schedule, steps):
    """Protects from a count that began at -1: powers and cosines would go on as if it were one."""
    with pytest.raises(ValueError, match=r"^step must be 0 \(the first update\) or more; got "):
        schedule(steps)


def test_schedules_are_what_they_are_made_of():
    """Protects the reader of a log, and whoever compares settings."""
    text = "cosine(lr=0.1, T_max=10, eta_min=0.0, exponent=1.0, cycle=True)"
    assert repr(cosine(0.1, 10)) == text
    assert repr(product([cosine(0.1, 10)])) == f"product(schedules=({text},))"
    assert cosine(0.1, 10) == cosine(0.1, 1e1)
    assert cosine(0.1, 10) != cosine(0.1, 11)
    assert len({cosine(0.1, 10), cosine(0.1, 10), step(0.1, 10)}) == 2
    assert join([1, 2], [3]) == join([constant(1.0), 2.0], (3,))


# ---- scikit-learn's ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"), [(name, case) for name, cases in CASES.items() for case in cases]
)
def test_schedules_follow_the_specification(name, arguments):
    """Protects the formulas, up to steps that no int32 holds."""
    parameter = (0.1,) if "huber" in arguments else ()  # the specification's default
    schedule = schedules.SCHEDULES[name](*arguments, *parameter)
    expected = reference.SCHEDULES[name](*arguments)
    for t in STEPS.tolist():
        assert_allclose(schedule(t), expected(t + 1), rtol=4e-16, atol=0)


@given(
    eta0=st.floats(1e-6, 1e3), power_t=st.floats(0, 2), t=st.integers(0, 2**40)
)  # fmt: skip
def test_invscaling_follows_the_specification(eta0, power_t, t):
    """Protects any exponent: the square root that stands for 1/2 is no other formula."""
    expected = reference.invscaling(eta0, power_t)(t + 1)
    assert_allclose(invscaling(eta0, power_t)(t), expected, rtol=1e-14)


def test_defaults():
    """Protects the defaults: square root, and hinge."""
    assert invscaling(1.0)(3) == 0.5
    assert optimal(1e-3)(5) == optimal(1e-3, "hinge", 0.0)(5)


def test_optimal_starts_as_scikit_learn_does():
    """Protects t0, by its formula: 1 / (alpha eta0), with eta0 the size of a typical weight."""
    for alpha in (1e-6, 1e-4, 0.5):
        eta0 = alpha**-0.25  # over the slope of the hinge at -typical weight, which counts as 1
        assert optimal(alpha)(0) == pytest.approx(eta0, rel=1e-14)


def test_optimal_has_the_same_bits_on_every_isa(isa, assert_same_bits):
    """Protects reproducibility: t0 comes from a kernel."""
    rate = optimal(1e-4, "log_loss")(STEPS)
    _core.use_isa(_core.ISAS[0])
    assert_same_bits(optimal(1e-4, "log_loss")(STEPS), rate)


def test_optimal_heeds_the_slope_of_the_loss(monkeypatch):
    """Protects t0 for a loss that rises steeply there: none of the table does, a new row may."""
    alpha = 1 / 16  # the typical weight is 2

    def steep(loss, y, prediction, parameter):
        assert (loss, y.tolist(), prediction.tolist(), parameter) == ("hinge", [1.0], [-2.0], 0.5)
        return None, np.array([8.0])

    monkeypatch.setattr(_core, "evaluate_loss", steep)
    assert optimal(alpha, "hinge", 0.5)(0) == 2 / 8


# ---- values that need no peer --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (constant(2.0), {0: 2.0, 9: 2.0}),
        (constant(2.0, factor=0.5, total_iters=3), {0: 1.0, 2: 1.0, 3: 2.0}),
        (invscaling(2.0), {0: 2.0, 3: 1.0, 99: 0.2}),
        (inverse_power(2.0, 1.0, 3.0), {0: 1.5, 2: 1.0, 9: 6 / 13}),
        (inverse_power(2.0, 0.0), {0: 2.0, 9: 2.0}),
        (inverse_sqrt(2.0, 4), {0: 0.5, 3: 2.0, 15: 1.0, 63: 0.5}),
        (inverse_sqrt(2.0, 1), {0: 2.0, 3: 1.0}),
        (step(2.0, 3, 0.5), {0: 2.0, 2: 2.0, 3: 1.0, 6: 0.5}),
        (step(2.0, 3, 0.0), {0: 2.0, 2: 2.0, 3: 0.0}),
        (multi_step(2.0, [3, 5], 0.5), {2: 2.0, 3: 1.0, 4: 1.0, 5: 0.5, 99: 0.5}),
        (linear(2.0, 0.5, 1.0, 2), {0: 1.0, 1: 1.5, 2: 2.0, 3: 2.0}),
        (linear(0.3, 0.0, 1.0, 7), {0: 0.0, 7: 0.3}),
        (polynomial(2.0, 4, 2), {0: 2.0, 2: 0.5, 4: 0.0, 5: 0.0}),
        (polynomial(0.1, 7, 0.9, end_value=0.03, transition_begin=5), {5: 0.1, 12: 0.03}),
        (exponential(2.0, 0.5, transition_begin=2), {0: 2.0, 2: 2.0, 3: 1.0, 5: 0.25}),
        (exponential(2.0, 0.0), {0: 2.0, 1: 0.0}),
        (exponential(2.0, 2.0, end_value=5.0), {0: 2.0, 1: 4.0, 2: 5.0, 10**6: 5.0}),
        (cosine(0.1, 7, 0.03), {0: 0.1, 7: 0.03, 14: 0.1, 7 + 14 * 10**9: 0.03}),
        (cosine(0.1, 7, 0.03, cycle=False), {0: 0.1, 7: 0.03, 14: 0.03}),
        (cosine(0.1, 7, 0.03, exponent=3, cycle=False), {0: 0.1, 7: 0.03, 8: 0.03}),
        (cosine_restarts(0.1, 3, 2, 0.01), {0: 0.1, 3: 0.1, 9: 0.1, 3 * (2**40 - 1): 0.1}),
        (cosine_restarts(0.1, 5), {0: 0.1, 5: 0.1, 5 * 10**12: 0.1}),
        (cyclic(0.1, 0.3, 2, 3), {0: 0.1, 2: 0.3, 5: 0.1, 7: 0.3, 10: 0.1}),
        (cyclic(0.0, 1.0, 2, None, "triangular2"), {2: 1.0, 6: 0.5, 10: 0.25}),
        (cyclic(0.0, 1.0, 2, None, "exp_range", 0.5), {2: 0.25, 3: 0.0625, 4: 0.0}),
        (one_cycle(0.1, 10), {0: 0.1 / 25, 2: 0.1, 9: 0.1 / 25 / 1e4, 10: 0.1 / 25 / 1e4}),
        (one_cycle(0.1, 1), {0: 0.1 / 25 / 1e4, 7: 0.1 / 25 / 1e4}),
        (one_cycle(0.1, 10, 0.1), {0: 0.1, 9: 0.1 / 25 / 1e4}),
        (one_cycle(0.1, 20, three_phase=True), {0: 0.1 / 25, 5: 0.1, 10: 0.1 / 25}),
        (swa(0.1, 0.05, 4), {0: 0.1, 4: 0.05, 99: 0.05}),
        (swa(0.1, 0.05, 0), {0: 0.05, 4: 0.05}),
        (piecewise(1.0, {2: 0.5, 4: 0.5}), {1: 1.0, 2: 0.5, 3: 0.5, 4: 0.25}),
        (piecewise(1.0, {2: 0.5, 4: 4.0}, "linear"), {1: 0.75, 2: 0.5, 3: 1.25, 4: 2.0, 5: 2.0}),
        (piecewise(1.0, {2: 3.0}, "cosine"), {0: 1.0, 2: 3.0, 3: 3.0}),
        (wsd(0.1, 20, 5, 10), {0: 0.0, 5: 0.1, 10: 0.1, 20: 0.0, 21: 0.0}),
        (wsd(1.0, 20, 0, 16), {0: 1.0, 4: 1.0, 8: 0.5, 13: 0.25, 20: 0.0}),
        (wsd(1.0, 8, 2, 4, decay="exponential", end_value=1 / 16), {4: 1.0, 5: 0.5, 8: 1 / 16}),
        (wsd(1.0, 8, 8, 0, start_value=0.5, end_value=0.25), {0: 0.5, 7: 0.9375, 8: 0.25}),
        (custom(2.0, math.sqrt), {0: 0.0, 4: 4.0}),
        (multiplicative(2.0, float), {0: 2.0, 1: 2.0, 2: 4.0, 4: 48.0}),
        (join([1, exponential(2.0, 0.5)], [3]), {2: 1.0, 3: 2.0, 4: 1.0}),
        (join([1, lambda t: 2 * t, 3], [3, 3]), {2: 1.0, 3: 3.0}),
        (join([lambda t: 7, cosine(1.0, 3)], [2]), {1: 7.0, 5: 0.0}),
        (product([3, lambda t: t + 1, linear(1.0, 0.5, 1.0, 2)]), {0: 1.5, 1: 4.5, 2: 9.0}),
        (clip(lambda t: t, 1, 3), {0: 1.0, 2: 2.0, 4: 3.0}),
        (clip(lambda t: t, high=3), {0: 0.0, 4: 3.0}),
        (warmup(exponential(4.0, 0.5), 2), {0: 0.0, 1: 2.0, 2: 4.0, 3: 2.0}),
        (warmup(4.0, 2, 8.0), {0: 8.0, 1: 6.0, 2: 4.0}),
        (product([0.1, linear(1.0, 1 / 4, 1.0, 3)]), {0: 0.025, 3: 0.1, 4: 0.1}),
    ],
)
def test_values(schedule, expected):
    """Protects borders and ends: those that can be named are met exactly, or to the last bit."""
    for t, value in expected.items():
        assert schedule(t) == pytest.approx(value, rel=3e-16, abs=0), t


def test_halves_of_a_step():
    """Protects schedules over epochs: half an epoch is a step, too."""
    assert linear(1.0, 0.0, 1.0, 2)([0.5, 1.5]).tolist() == [0.25, 0.75]
    assert cyclic(0.0, 1.0, 1)(0.5) == 0.5
    assert custom(2.0, lambda s: s)(0.5) == 1.0
    with pytest.raises(ValueError, match=r"^step must be a whole number for a "):
        multiplicative(1.0, float)(0.5)


def test_functions_are_given_whole_numbers():
    """Protects functions that index a list with the step."""
    given_steps = []
    custom(1.0, lambda s: given_steps.append(s) or 1.0)(np.array([3, 0]))
    multiplicative(1.0, lambda s: given_steps.append(s) or 1.0)(np.array([2, 1]))
    cyclic(0, 1, 2, scale_fn=lambda s: given_steps.append(s) or 1.0)(np.array([0, 9]))
    assert given_steps == [3, 0, 1, 2, 1, 3]
    assert all(type(s) is int for s in given_steps)


def test_multiplicative_goes_on_where_it_was():
    """Protects from a training that is quadratic in its steps, and from a product taken twice."""
    calls = []
    schedule = multiplicative(1.0, lambda s: calls.append(s) or 0.5)
    assert [schedule(t) for t in (0, 1, 2, 2, 4)] == [1, 0.5, 0.25, 0.25, 0.0625]
    assert calls == [1, 2, 3, 4]
    assert schedule([3, 1]).tolist() == [0.125, 0.5]
    assert calls == [1, 2, 3, 4, 1, 2, 3]


def test_values_are_the_callers_to_change():
    """Protects the user's own arrays, and whoever scales what came back."""
    table = np.array([1.0, 2.0])
    for schedule in (
        warmup(lambda t: table, 0),
        join([lambda t: table], []),
        clip(lambda t: table),
    ):
        values = schedule([0, 1])
        values *= 2
        assert table.tolist() == [1, 2]


def test_a_joined_schedule_is_not_asked_for_steps_of_others():
    """Protects functions that only know their own steps."""
    table = np.array([5.0, 6.0])
    schedule = join([lambda t: table[t.astype(int)], 1.0], [2])
    assert schedule([0, 1, 2, 3]).tolist() == [5, 6, 1, 1]
    assert schedule(3) == 1


def test_plateau_is_a_schedule():
    """Protects its use for a hyper-parameter, by itself and in a product."""
    plateau = ReduceLROnPlateau(1.0, factor=0.5, patience=0)
    both = product([cosine(0.1, 10), plateau])
    warm = warmup(plateau, 4)
    assert isinstance(plateau(3), float)
    assert plateau([[0], [1]]).tolist() == [[1.0], [1.0]]
    plateau.step(1.0)
    assert plateau.step(1.0) == 0.5
    assert both(0) == 0.05
    assert warm([2, 4]).tolist() == [0.25, 0.5]
    assert pickle.loads(pickle.dumps(plateau)) == plateau


# ---- properties ----------------------------------------------------------------------------------

values = st.floats(1e-8, 1e4)
lengths = st.integers(1, 10**6)
any_steps = st.integers(0, 10**9)
within = partial(math.isclose, rel_tol=4e-15)  # of two products and their sum


def assert_between(value, a, b):
    low, high = min(a, b), max(a, b)
    assert low <= value <= high or within(value, low) or within(value, high)


@given(lr=values, end=values, n=lengths, t=any_steps, power=st.floats(0.1, 5))
def test_values_stay_between_their_ends(lr, end, n, t, power):
    """Protects from over- and undershooting, however far apart the ends and late the step."""
    for schedule in (
        polynomial(lr, n, power, end_value=end),
        cosine(lr, n, end),
        cosine(lr, n, end, exponent=power, cycle=False),
        cosine_restarts(lr, n, 2, end),
        cyclic(lr, end, n, 2 * n),
        cyclic(lr, end, n, mode="triangular2"),
        swa(lr, end, n),
        swa(lr, end, n, "linear"),
        warmup(lr, n, end),
        wsd(lr, 3 * n, n, n, start_value=lr, end_value=end),
        piecewise(lr, {n: end / lr}, "cosine"),
    ):
        assert_between(schedule(t), lr, end)


@given(
    lr=values,
    n=st.integers(4, 10**5),
    pct=st.floats(0.25, 0.5),
    strategy=st.sampled_from(["cos", "linear"]),
    three_phase=st.booleans(),
    data=st.data(),
)
def test_one_cycle_rises_and_then_falls(lr, n, pct, strategy, three_phase, data):
    """Protects the shape: no step before the top is above a later one, and the reverse after it."""
    schedule = one_cycle(lr, n, pct, strategy, three_phase=three_phase)
    a, b = sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
    first, second = schedule(a), schedule(b)
    if b <= pct * n - 1:
        assert first <= second * (1 + 1e-14)
    if a >= pct * n - 1:
        assert second <= first * (1 + 1e-14)
    assert_between(first, lr / 25 / 1e4, lr)


@given(T_0=st.integers(1, 1000), T_mult=st.integers(2, 10), cycle=st.integers(0, 12))
def test_restarts_are_where_whole_numbers_say(T_0, T_mult, cycle):
    """Protects the closed form: a logarithm rounded over a border would miss the restart."""
    start = T_0 * (T_mult**cycle - 1) // (T_mult - 1)
    schedule = cosine_restarts(1.0, T_0, T_mult)
    length = T_0 * T_mult**cycle
    assert schedule(start) == 1.0
    before_end = math.sin(math.pi / 2 / length) ** 2
    assert schedule(start + length - 1) == pytest.approx(before_end, rel=1e-12)


@given(
    n=st.integers(10, 10**6),
    warm=st.floats(0.01, 0.5),
    decay=st.sampled_from(["linear", "cosine"]),
    t=st.integers(0, 10**6),
)
def test_wsd_has_no_jumps(n, warm, decay, t):
    """Protects the seams: no step is larger than the steepest slope."""
    n_warm, n_decay = math.ceil(warm * n), math.ceil(0.3 * n)
    schedule = wsd(1.0, n, n_warm, n_decay, decay=decay)
    change = abs(schedule(t + 1) - schedule(t))
    assert change <= max(1 / n_warm, math.pi / 2 / n_decay) * (1 + 1e-9)


@given(boundary=st.integers(0, 10**6), t=any_steps)
def test_join_shifts(boundary, t):
    """Protects the count of what comes later."""
    later = exponential(1.0, 0.999999)
    joined = join([2.0, later], [boundary])
    assert joined(t) == (2.0 if t < boundary else later(t - boundary))


@given(t=any_steps, n=lengths)
def test_schedules_combine_as_numbers_do(t, n):
    """Protects product and clip."""
    a, b = cosine(1.0, n), inverse_power(0.5)
    assert product([a, b])(t) == operator.mul(a(t), b(t))
    assert clip(a, 0.25, 0.5)(t) == min(max(a(t), 0.25), 0.5)
