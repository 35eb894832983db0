"""`fastgd.schedules`: what is refused, and how."""

import math

import pytest

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


@pytest.mark.parametrize("alpha", [0, 0.0, -1e-4, math.nan])
def test_optimal_needs_a_penalty(alpha):
    """Protects from a learning rate that is infinite: without penalty there is no optimal one."""
    with pytest.raises(ValueError, match=f"^alpha must .*; got {alpha}$"):
        optimal(alpha)


def test_optimal_refuses_an_unknown_loss():
    """Protects from a KeyError that does not say what it is about."""
    with pytest.raises(ValueError, match=r"^loss must be one of hinge, .*; got 'hing'$"):
        optimal(1e-4, "hing")


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
