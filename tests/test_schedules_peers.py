"""`fastgd.schedules`: the curves of torch, optax and Vowpal Wabbit."""

import math
import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from schedule_functions import MANY, N_STEPS, nearly_one, saw

from fastgd import schedules
from fastgd.schedules import (
    ReduceLROnPlateau,
    constant,
    cosine,
    cosine_restarts,
    custom,
    cyclic,
    exponential,
    inverse_power,
    join,
    linear,
    multi_step,
    multiplicative,
    one_cycle,
    piecewise,
    polynomial,
    product,
    step,
    swa,
    warmup,
)

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


@pytest.fixture
def optax(jax):
    return pytest.importorskip("optax")


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
