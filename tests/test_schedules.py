"""`fastgd.schedules`: the specification's rates, and the curves of torch, optax and Vowpal Wabbit.

Every schedule counts from 0, the first update; `reference` and scikit-learn count from 1.
"""

import math
import operator
import pickle
import warnings
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

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

N_STEPS = 200
MANY = np.arange(N_STEPS)
STEPS = np.array([0, 1, 2, 3, 10, 1000, 10**6, 10**12])
CASES = {
    "constant": [(0.1,), (1e-300,), (0.0,)],
    "invscaling": [(0.1,), (0.5, 0.5), (1.0, 0.25), (2.0, 1.0), (0.1, 0.0)],
    "optimal": [(alpha, loss) for alpha in (1e-7, 1e-4, 0.3, 20.0) for loss in _core.LOSSES],
}


def saw(number):
    """Serve as a function of one number that can be pickled."""
    return 1.0 / (1.0 + number % 7)


def nearly_one(number):
    """Serve as a factor of many steps."""
    return 1.0 - 0.1 / (1.0 + number)


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


@pytest.mark.parametrize("alpha", [0, 0.0, -1e-4, math.nan])
def test_optimal_needs_a_penalty(alpha):
    """Protects from a learning rate that is infinite: without penalty there is no optimal one."""
    with pytest.raises(ValueError, match=f"^alpha must .*; got {alpha}$"):
        optimal(alpha)


def test_optimal_refuses_an_unknown_loss():
    """Protects from a KeyError that does not say what it is about."""
    with pytest.raises(ValueError, match=r"^loss must be one of hinge, .*; got 'hing'$"):
        optimal(1e-4, "hing")


# ---- torch ---------------------------------------------------------------------------------------

LR = 0.3
# name in torch, its arguments, ours. torch multiplies the last value by a ratio, which drifts.
TORCH = [
    ("LambdaLR", {"lr_lambda": saw}, custom(LR, saw)),
    ("MultiplicativeLR", {"lr_lambda": nearly_one}, multiplicative(LR, nearly_one)),
    ("StepLR", {"step_size": 30}, step(LR, 30)),
    ("StepLR", {"step_size": 1, "gamma": 0.97}, step(LR, 1, 0.97)),
    ("MultiStepLR", {"milestones": [50, 20, 50]}, multi_step(LR, [50, 20, 50])),
    ("MultiStepLR", {"milestones": [1], "gamma": 2.0}, multi_step(LR, [1], 2.0)),
    ("ConstantLR", {}, constant(LR, factor=1 / 3, total_iters=5)),
    ("ConstantLR", {"factor": 0.7, "total_iters": 40}, constant(LR, factor=0.7, total_iters=40)),
    ("LinearLR", {}, linear(LR)),
    ("LinearLR", {"start_factor": 0.01, "total_iters": 99}, linear(LR, 0.01, total_iters=99)),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.1}, linear(LR, 1.0, 0.1)),
    ("ExponentialLR", {"gamma": 0.97}, exponential(LR, 0.97)),
    ("ExponentialLR", {"gamma": 1.01}, exponential(LR, 1.01)),
    ("PolynomialLR", {}, polynomial(LR)),
    ("PolynomialLR", {"total_iters": 150, "power": 0.9}, polynomial(LR, 150, 0.9)),
    ("PolynomialLR", {"total_iters": 300, "power": 3.0}, polynomial(LR, 300, 3.0)),
    ("CosineAnnealingLR", {"T_max": 300}, cosine(LR, 300)),
    ("CosineAnnealingLR", {"T_max": 30, "eta_min": 0.01}, cosine(LR, 30, 0.01)),
    ("CosineAnnealingLR", {"T_max": 1}, cosine(LR, 1)),
    ("CosineAnnealingWarmRestarts", {"T_0": 9}, cosine_restarts(LR, 9)),
    (
        "CosineAnnealingWarmRestarts",
        {"T_0": 3, "T_mult": 3, "eta_min": 0.01},
        cosine_restarts(LR, 3, 3, 0.01),
    ),
    ("CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 2}, cosine_restarts(LR, 1, 2)),
    (
        "CyclicLR",
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 13},
        cyclic(0.1, 0.5, 13),
    ),
    (
        "CyclicLR",
        {
            "base_lr": 0.1,
            "max_lr": 0.5,
            "step_size_up": 5,
            "step_size_down": 8,
            "mode": "triangular2",
        },
        cyclic(0.1, 0.5, 5, 8, "triangular2"),
    ),
    (
        "CyclicLR",
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 7, "mode": "exp_range", "gamma": 0.99},
        cyclic(0.1, 0.5, 7, None, "exp_range", 0.99),
    ),
    (
        "CyclicLR",
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 7, "scale_fn": saw},
        cyclic(0.1, 0.5, 7, scale_fn=saw),
    ),
    (
        "CyclicLR",
        {
            "base_lr": 0.1,
            "max_lr": 0.5,
            "step_size_up": 7,
            "scale_fn": saw,
            "scale_mode": "iterations",
        },
        cyclic(0.1, 0.5, 7, scale_fn=saw, scale_mode="iterations"),
    ),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 200}, one_cycle(0.5, 200)),
    ("OneCycleLR", {"max_lr": 0.5, "epochs": 8, "steps_per_epoch": 25}, one_cycle(0.5, 8 * 25)),
    (
        "OneCycleLR",
        {"max_lr": 0.5, "total_steps": 203, "pct_start": 0.17, "anneal_strategy": "linear"},
        one_cycle(0.5, 203, 0.17, "linear"),
    ),
    (
        "OneCycleLR",
        {"max_lr": 0.5, "total_steps": 200, "three_phase": True, "div_factor": 3.0},
        one_cycle(0.5, 200, three_phase=True, div_factor=3.0),
    ),
    (
        "OneCycleLR",
        {"max_lr": 0.5, "total_steps": 200, "pct_start": 0.0, "final_div_factor": 7.0},
        one_cycle(0.5, 200, 0.0, final_div_factor=7.0),
    ),
    (
        "OneCycleLR",
        {"max_lr": 0.5, "total_steps": 200, "pct_start": 1.0},
        one_cycle(0.5, 200, 1.0),
    ),
    (
        "OneCycleLR",
        {"max_lr": 0.5, "total_steps": 200, "pct_start": 0.001, "three_phase": True},
        one_cycle(0.5, 200, 0.001, three_phase=True),
    ),
    ("SWALR", {"swa_lr": 0.05}, swa(LR, 0.05)),
    ("SWALR", {"swa_lr": 0.5, "anneal_epochs": 90}, swa(LR, 0.5, 90)),
    (
        "SWALR",
        {"swa_lr": 0.05, "anneal_epochs": 7, "anneal_strategy": "linear"},
        swa(LR, 0.05, 7, "linear"),
    ),
    ("SWALR", {"swa_lr": 0.05, "anneal_epochs": 0}, swa(LR, 0.05, 0)),
]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def scheduler(torch, optimizer, name, arguments):
    """Make one of torch's schedulers, which live in two modules."""
    module = torch.optim.swa_utils if name == "SWALR" else torch.optim.lr_scheduler
    return getattr(module, name)(optimizer, **arguments)


def torch_optimizer(torch):
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    return torch.optim.SGD([weight], lr=LR, momentum=0.9)


def torch_values(optimizer, lr_scheduler, n_steps=N_STEPS, name="lr"):
    """Record what the optimizer would use at each of its first updates."""
    values = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SequentialLR about itself
        for i in range(n_steps):
            if i:
                lr_scheduler.step()
            values.append(optimizer.param_groups[0][name])
            optimizer.step()
    return np.array(values)


def assert_close_to_torch(ours, theirs):
    # 1e-12 but for values near 0: there torch's differences of numbers near 1 leave an error that
    # is small beside the largest value
    assert_allclose(ours, theirs, rtol=1e-12, atol=3e-15)


@pytest.mark.parametrize(("name", "arguments", "ours"), TORCH)
def test_schedules_are_those_of_torch(torch, name, arguments, ours):
    """Protects the table of names: a scheduler of torch may be replaced."""
    optimizer = torch_optimizer(torch)
    lr_scheduler = scheduler(torch, optimizer, name, arguments)
    assert_close_to_torch(ours(MANY), torch_values(optimizer, lr_scheduler))


def test_the_table_has_every_scheduler_of_torch(torch):
    """Protects completeness, and against a scheduler that torch adds."""
    known = {name for name, _, _ in TORCH} | {"SequentialLR", "ChainedScheduler"}
    known |= {"ReduceLROnPlateau", "LRScheduler"}
    theirs = {*torch.optim.lr_scheduler.__all__, "SWALR"}
    assert theirs == known
    assert all(name in schedules.__doc__ for name in theirs - {"LRScheduler"})


@pytest.mark.parametrize("milestones", [[20, 70], [1, 2], [50, 51]])
def test_join_is_sequential_lr(torch, milestones):
    """Protects that each schedule starts anew at its milestone."""
    optimizer = torch_optimizer(torch)
    parts = [
        ("LinearLR", {"start_factor": 0.1, "total_iters": 20}),
        ("StepLR", {"step_size": 9, "gamma": 0.5}),
        ("ExponentialLR", {"gamma": 0.9}),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = torch.optim.lr_scheduler.SequentialLR(
            optimizer, [scheduler(torch, optimizer, *part) for part in parts], milestones
        )
    ours = join(
        [linear(LR, 0.1, total_iters=20), step(LR, 9, 0.5), exponential(LR, 0.9)], milestones
    )
    assert_close_to_torch(ours(MANY), torch_values(optimizer, theirs))


def test_product_is_chained_scheduler(torch):
    """Protects that factors multiply."""
    optimizer = torch_optimizer(torch)
    parts = [
        ("ConstantLR", {"factor": 0.1, "total_iters": 20}),
        ("ExponentialLR", {"gamma": 0.98}),
        ("StepLR", {"step_size": 50, "gamma": 0.5}),
    ]
    theirs = torch.optim.lr_scheduler.ChainedScheduler(
        [scheduler(torch, optimizer, *part) for part in parts]
    )
    ours = product(
        [constant(LR, factor=0.1, total_iters=20), exponential(1.0, 0.98), step(1.0, 50, 0.5)]
    )
    assert_close_to_torch(ours(MANY), torch_values(optimizer, theirs))


@pytest.mark.parametrize(
    ("name", "arguments", "ours"),
    [
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 13}, cyclic(0.9, 0.8, 13)),
        (
            "OneCycleLR",
            {"max_lr": 0.5, "total_steps": 200},
            one_cycle(0.85, 200, div_factor=0.85 / 0.95, final_div_factor=1),
        ),
        (
            "OneCycleLR",
            {"max_lr": 0.5, "total_steps": 200, "three_phase": True, "anneal_strategy": "linear"},
            one_cycle(
                *(0.85, 200, 0.3, "linear"),
                div_factor=0.85 / 0.95,
                final_div_factor=1,
                three_phase=True,
            ),
        ),
    ],
)
def test_momentum_cycles_as_in_torch(torch, name, arguments, ours):
    """Protects what the docstrings promise about the momentum."""
    optimizer = torch_optimizer(torch)
    lr_scheduler = scheduler(torch, optimizer, name, arguments)
    assert_close_to_torch(ours(MANY), torch_values(optimizer, lr_scheduler, name="momentum"))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"patience": 0, "factor": 0.5},
        {"patience": 2, "cooldown": 3, "factor": 0.7, "min_lr": 0.05},
        {"patience": 1, "threshold": 0.3, "factor": 0.9, "eps": 0.02},
        {"mode": "max", "patience": 2, "threshold": 0.01},
        {"mode": "max", "patience": 2, "threshold": 0.1, "threshold_mode": "abs", "factor": 0.8},
        {"patience": 3, "threshold": 0.1, "threshold_mode": "abs", "factor": 0.8},
    ],
)
def test_plateau_is_that_of_torch(torch, rng, arguments):
    """Protects each counter of it: the same metrics give the same bits, NaN and a reload."""
    optimizer = torch_optimizer(torch)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **arguments)
    ours = ReduceLROnPlateau(LR, **arguments)
    metrics = 1 / np.arange(1, 60) + 0.3 * rng.random(59)
    metrics[[5, 33]] = math.nan, -math.inf if arguments.get("mode") == "max" else math.inf
    for i, metric in enumerate(metrics):
        theirs.step(metric)
        if i == 20:
            saved = pickle.loads(pickle.dumps(ours.state_dict()))
            ours = ReduceLROnPlateau(77.0)
            ours.load_state_dict(saved)
        assert ours.step(metric) == ours.lr == optimizer.param_groups[0]["lr"]
        state = theirs.state_dict()
        for name in ("best", "num_bad_epochs", "cooldown_counter", "last_epoch"):
            assert getattr(ours, name) == state[name]
    assert ours.lr < LR


# ---- optax ---------------------------------------------------------------------------------------

# name in optax, its arguments, ours
OPTAX = [
    ("constant_schedule", (0.3,), constant(0.3)),
    ("linear_schedule", (0.3, 0.1, 50), polynomial(0.3, 50, end_value=0.1)),
    (
        "linear_schedule",
        (0.1, 0.3, 50, 20),
        polynomial(0.1, 50, end_value=0.3, transition_begin=20),
    ),
    ("polynomial_schedule", (0.3, 0.1, 2.5, 77), polynomial(0.3, 77, 2.5, end_value=0.1)),
    (
        "polynomial_schedule",
        (0.3, 0.0, 0.9, 99, 33),
        polynomial(0.3, 99, 0.9, transition_begin=33),
    ),
    ("exponential_decay", (0.3, 10, 0.9), exponential(0.3, 0.9, transition_steps=10)),
    (
        "exponential_decay",
        (0.3, 10, 0.5, 7, True, 0.01),
        exponential(
            0.3, 0.5, transition_steps=10, transition_begin=7, staircase=True, end_value=0.01
        ),
    ),
    (
        "exponential_decay",
        (0.3, 10, 1.5, 0, False, 0.9),
        exponential(0.3, 1.5, transition_steps=10, end_value=0.9),
    ),
    ("cosine_decay_schedule", (0.3, 120), cosine(0.3, 120, cycle=False)),
    (
        "cosine_decay_schedule",
        (0.3, 120, 0.1, 2.0),
        cosine(0.3, 120, 0.1 * 0.3, exponent=2.0, cycle=False),
    ),
    (
        "piecewise_constant_schedule",
        (0.3, {100: 0.1, 20: 0.5}),
        piecewise(0.3, {100: 0.1, 20: 0.5}),
    ),
    ("piecewise_constant_schedule", (0.3, {}), piecewise(0.3, {})),
    (
        "piecewise_interpolate_schedule",
        ("linear", 0.3, {100: 0.1, 20: 2.0}),
        piecewise(0.3, {100: 0.1, 20: 2.0}, "linear"),
    ),
    (
        "piecewise_interpolate_schedule",
        ("cosine", 0.3, {100: 0.1, 20: 2.0}),
        piecewise(0.3, {100: 0.1, 20: 2.0}, "cosine"),
    ),
    (
        "piecewise_interpolate_schedule",
        ("linear", 0.3, {0: 0.5, 20: 2.0}),
        piecewise(0.3, {0: 0.5, 20: 2.0}, "linear"),
    ),
    (
        "cosine_onecycle_schedule",
        (150, 0.3),
        piecewise(0.3 / 25, {45: 25, 150: 1 / 25 / 1e4}, "cosine"),
    ),
    (
        "linear_onecycle_schedule",
        (150, 0.3),
        piecewise(0.3 / 25, {45: 25, int(0.85 * 150): 1 / 25, 150: 1 / 1e4}, "linear"),
    ),
    ("warmup_constant_schedule", (0.01, 0.3, 25), warmup(constant(0.3), 25, 0.01)),
    (
        "warmup_cosine_decay_schedule",
        (0.0, 0.3, 25, 125, 0.01, 1.5),
        warmup(cosine(0.3, 100, 0.01, exponent=1.5, cycle=False), 25),
    ),
    (
        "warmup_exponential_decay_schedule",
        (0.01, 0.3, 25, 10, 0.8, 5, False, 0.02),
        warmup(
            exponential(0.3, 0.8, transition_steps=10, transition_begin=5, end_value=0.02), 25, 0.01
        ),
    ),
    (
        "sgdr_schedule",
        (
            [
                {"init_value": 0.0, "peak_value": 0.3, "warmup_steps": 10, "decay_steps": 60},
                {"init_value": 0.1, "peak_value": 0.2, "warmup_steps": 5, "decay_steps": 90},
            ],
        ),
        join(
            [
                warmup(cosine(0.3, 50, cycle=False), 10),
                warmup(cosine(0.2, 85, cycle=False), 5, 0.1),
            ],
            [60],
        ),
    ),
]


@pytest.fixture(scope="module")
def optax():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jax = pytest.importorskip("jax")
        optax = pytest.importorskip("optax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield optax
    jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize(("name", "arguments", "ours"), OPTAX)
def test_schedules_are_those_of_optax(optax, name, arguments, ours):
    """Protects the table of names: a schedule of optax may be replaced."""
    theirs = getattr(optax, name)(*arguments)
    values = np.array([float(theirs(np.int64(t))) for t in MANY])
    assert_allclose(ours(MANY), values, rtol=1e-12, atol=3e-16)


def test_join_is_that_of_optax(optax):
    """Protects the border: the step at it is the next schedule's first."""
    theirs = optax.join_schedules(
        [optax.linear_schedule(0.0, 0.3, 20), optax.exponential_decay(0.3, 5, 0.9)], [20]
    )
    ours = join(
        [polynomial(0.0, 20, end_value=0.3), exponential(0.3, 0.9, transition_steps=5)], [20]
    )
    values = np.array([float(theirs(np.int64(t))) for t in MANY])
    assert_allclose(ours(MANY), values, rtol=1e-12, atol=0)


def test_the_table_has_every_schedule_of_optax(optax):
    """Protects completeness."""
    theirs = {
        s for s in dir(optax.schedules) if s.endswith(("_schedule", "_decay")) and s[0] != "_"
    }
    assert theirs == {name for name, _, _ in OPTAX}


# ---- Vowpal Wabbit -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lr", "power_t", "initial_t"), [(1.0, 1.0, 1.0), (0.5, 0.5, 10.0), (2.0, 0.25, 0.5)]
)
def test_inverse_power_is_that_of_vowpal_wabbit(lr, power_t, initial_t):
    """Protects the formula and where it starts: VW, which computes in float32, takes such steps.

    The quantile loss of a far target has the slope 1/2, so that the weight of a feature that is 1
    grows by half the learning rate.
    """
    vw = pytest.importorskip("vowpalwabbit").Workspace(
        "--sgd --noconstant --loss_function quantile --quantile_tau 0.5 --quiet --holdout_off -b 1 "
        f"--min_prediction=-1e9 --max_prediction=1e9 -l {lr} --power_t {power_t} "
        f"--initial_t {initial_t}"
    )
    weights = [0.0]
    for _ in range(20):
        vw.learn("1000 | 0:1")
        weights.append(vw.predict("| 0:1"))
    vw.finish()
    rates = inverse_power(lr, power_t, initial_t)(np.arange(20))
    assert_allclose(2 * np.diff(weights), rates, rtol=2e-5)


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


def test_plateau_refuses_a_foreign_state():
    """Protects from half a state."""
    plateau = ReduceLROnPlateau(1.0)
    before = plateau.state_dict()
    with pytest.raises(
        ValueError, match=r"^state_dict must hold .*; missing or unknown: best, bes"
    ):
        plateau.load_state_dict({**{k: v for k, v in before.items() if k != "best"}, "best_": 1})
    with pytest.raises(ValueError, match=r"^factor must be below 1; got 2"):
        plateau.load_state_dict(before | {"factor": 2.0})
    assert plateau.state_dict() == before


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: constant("0.1"), TypeError, "eta0 must be a finite number; got '0.1'"),
        (lambda: constant(None), TypeError, "eta0 must be a finite number; got None"),
        (lambda: constant(math.nan), ValueError, "eta0 must be a finite number; got nan"),
        (lambda: constant(10**400), ValueError, "eta0 must be a finite number; got 1000"),
        (
            lambda: constant(1, total_iters=-1),
            ValueError,
            "total_iters must be a whole number of at least 0; got -1",
        ),
        (lambda: invscaling(1, math.inf), ValueError, "power_t must be a finite number; got inf"),
        (lambda: inverse_power(1, 1, 0), ValueError, "initial_t must be above 0; got 0"),
        (
            lambda: inverse_sqrt(1, 0),
            ValueError,
            "warmup_steps must be a whole number of at least 1; got 0",
        ),
        (
            lambda: step(1, 2.5),
            TypeError,
            "step_size must be a whole number of at least 1; got 2.5",
        ),
        (
            lambda: step(1, 2, -0.5),
            ValueError,
            "gamma must be a finite number of at least 0; got -0.5",
        ),
        (
            lambda: multi_step(1, [3, "4"]),
            TypeError,
            r"milestones\[1\] must be a whole number of at least 0; got '4'",
        ),
        (
            lambda: multi_step(1, 3),
            TypeError,
            "milestones must be a list of whole numbers; got 3",
        ),
        (lambda: linear(1, None), TypeError, "start_factor must be a finite number; got None"),
        (lambda: polynomial(1, 3, 0), ValueError, "power must be above 0; got 0"),
        (
            lambda: exponential(1, -1),
            ValueError,
            "gamma must be a finite number of at least 0; got -1",
        ),
        (
            lambda: exponential(1, 0.5, end_value=math.nan),
            ValueError,
            "end_value must be a finite number; got nan",
        ),
        (lambda: cosine(1, 0), ValueError, "T_max must be a whole number of at least 1; got 0"),
        (lambda: cosine(1, 3, exponent=0), ValueError, "exponent must be above 0; got 0"),
        (
            lambda: cosine_restarts(1, 3, 1.5),
            TypeError,
            "T_mult must be a whole number of at least 1; got 1.5",
        ),
        (
            lambda: cyclic(0, 1, 3, mode="saw"),
            ValueError,
            "mode must be one of triangular, triangular2, exp_range; got 'saw'",
        ),
        (
            lambda: cyclic(0, 1, 3, scale_fn=1),
            TypeError,
            "scale_fn must be a function of the step; got 1",
        ),
        (
            lambda: one_cycle(1, 9, 1.5),
            ValueError,
            "pct_start must be a number from 0 to 1; got 1.5",
        ),
        (
            lambda: one_cycle(1, 9, 0.6, three_phase=True),
            ValueError,
            "pct_start must be a number from 0 to 0.5; got 0.6",
        ),
        (
            lambda: one_cycle(1, 9, anneal_strategy="cosine"),
            ValueError,
            "anneal_strategy must be one of cos, linear; got 'cosine'",
        ),
        (
            lambda: swa(1, 1, -1),
            ValueError,
            "anneal_epochs must be a whole number of at least 0; got -1",
        ),
        (
            lambda: piecewise(1, [3]),
            TypeError,
            r"boundaries_and_scales must be a dict of step to scale; got \[3\]",
        ),
        (
            lambda: piecewise(1, {3: -1}),
            ValueError,
            r"boundaries_and_scales\[3\] must be a finite number of at least 0; got -1",
        ),
        (
            lambda: piecewise(1, {-3: 1}),
            ValueError,
            "a step of boundaries_and_scales must be a whole number of at least 0; got -3",
        ),
        (
            lambda: piecewise(1, {}, "cubic"),
            ValueError,
            "interpolate_type must be one of constant, linear, cosine; got 'cubic'",
        ),
        (
            lambda: wsd(1, 10, 6, 5),
            ValueError,
            "warmup_steps and decay_steps must be at most total_steps=10 together; got 6 and 5",
        ),
        (
            lambda: wsd(1, 10, 1, 1, decay="exponential"),
            ValueError,
            "end_value must be above 0; got 0.0",
        ),
        (
            lambda: wsd(1, 10, 1, 1, decay="cubic"),
            ValueError,
            "decay must be one of sqrt, linear, cosine, exponential; got 'cubic'",
        ),
        (lambda: custom(1, 2), TypeError, "lr_lambda must be a function of the step; got 2"),
        (
            lambda: multiplicative(1, 2),
            TypeError,
            "lr_lambda must be a function of the step; got 2",
        ),
        (lambda: join([], []), ValueError, "schedules must hold at least one schedule; got none"),
        (lambda: join(1, []), TypeError, "schedules must be a list of schedules; got 1"),
        (
            lambda: join([1, "2"], [3]),
            TypeError,
            r"schedules\[1\] must be a schedule or a number; got '2'",
        ),
        (
            lambda: join([1, 2], 3),
            TypeError,
            "boundaries must be a list of whole numbers; got 3",
        ),
        (
            lambda: join([1, 2], [3, 4]),
            ValueError,
            "boundaries must be one fewer than the 2 schedules; got 2",
        ),
        (
            lambda: join([1, 2, 3], [4, 3]),
            ValueError,
            r"boundaries must be in ascending order; got \[4, 3\]",
        ),
        (lambda: product([]), ValueError, "schedules must hold at least one schedule; got none"),
        (lambda: clip(1, 3, 2), ValueError, "low must be at most high=2; got 3"),
        (
            lambda: clip(None),
            TypeError,
            "schedule must be a schedule or a number; got None",
        ),
        (
            lambda: warmup(1, -1),
            ValueError,
            "warmup_steps must be a whole number of at least 0; got -1",
        ),
        (lambda: ReduceLROnPlateau(1, "mean"), ValueError, "mode must be one of min, max; got 'me"),
        (lambda: ReduceLROnPlateau(1, factor=1), ValueError, "factor must be below 1; got 1"),
        (
            lambda: ReduceLROnPlateau(1, threshold_mode="x"),
            ValueError,
            "threshold_mode must be one of rel, abs; got 'x'",
        ),
        (
            lambda: ReduceLROnPlateau(1, patience=-1),
            ValueError,
            "patience must be a whole number of at least 0; got -1",
        ),
    ],
)
def test_errors(make, error, message):
    """Protects the user's time: which argument, what it must be, what it was."""
    with pytest.raises(error, match=f"^{message}"):
        make()


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
