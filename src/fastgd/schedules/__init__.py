"""Schedules of hyper-parameters: pure functions, step -> value.

A schedule is a callable that takes the number of the update and returns the value of that update,
a learning rate as a rule. **Steps count from 0 everywhere**: ``schedule(0)`` is the value of the
first update, as in torch and in optax. A step is a number, or an array of any shape; what comes
back is float64 of that shape, with the same bits whether one asks for one step or for many. The
unit is the caller's: a schedule over epochs is ``schedule(epoch)``, and half an epoch is fine.

Each is a closed form of the step, so that nothing drifts and there is no state to save; training
goes on by asking for the next step. (`multiplicative` is a running product by its nature, and
`ReduceLROnPlateau` listens to a metric.) They compare equal if their arguments do, print what they
are, and can be pickled if the functions given to them can.

The first argument is the value to start from or to come back to, whatever the hyper-parameter; it
is called `lr` because torch's other arguments are (`max_lr`, `swa_lr`), and those keep their names.

=============================== ==================================================================
torch.optim.lr_scheduler        here
=============================== ==================================================================
LambdaLR                        ``custom(lr, lr_lambda)``
MultiplicativeLR                ``multiplicative(lr, lr_lambda)``
StepLR                          ``step(lr, step_size, gamma)``
MultiStepLR                     ``multi_step(lr, milestones, gamma)``
ConstantLR                      ``constant(lr, factor=, total_iters=)``
LinearLR                        ``linear(lr, start_factor, end_factor, total_iters)``
ExponentialLR                   ``exponential(lr, gamma)``
PolynomialLR                    ``polynomial(lr, total_iters, power)``
CosineAnnealingLR               ``cosine(lr, T_max, eta_min)``
CosineAnnealingWarmRestarts     ``cosine_restarts(lr, T_0, T_mult, eta_min)``
CyclicLR                        ``cyclic(base_lr, max_lr, ...)``, also for its momentum
OneCycleLR                      ``one_cycle(max_lr, total_steps, ...)``, also for its momentum
SequentialLR                    ``join(schedules, milestones)``
ChainedScheduler                ``product(schedules)``, all but the first with a `lr` of 1
ReduceLROnPlateau               ``ReduceLROnPlateau(lr, ...)``
swa_utils.SWALR                 ``swa(lr, swa_lr, anneal_epochs, anneal_strategy)``
=============================== ==================================================================

=============================== ==================================================================
optax                           here
=============================== ==================================================================
constant_schedule               ``constant(value)``
linear_schedule                 ``polynomial(init, steps, end_value=, transition_begin=)``
polynomial_schedule             ``polynomial(init, steps, power, end_value=, transition_begin=)``
exponential_decay               ``exponential(init, rate, transition_steps=, staircase=, ...)``
cosine_decay_schedule           ``cosine(init, steps, alpha * init, exponent=, cycle=False)``
piecewise_constant_schedule     ``piecewise(init, boundaries_and_scales)``
piecewise_interpolate_schedule  ``piecewise(init, boundaries_and_scales, interpolate_type)``
cosine_onecycle_schedule        ``piecewise(peak / div, {up: div, n: 1 / div / final}, "cosine")``
linear_onecycle_schedule        ``piecewise(peak / div, {up: div, down: 1 / div, n: 1 / final})``
                                with "linear"
join_schedules                  ``join(schedules, boundaries)``
warmup_constant_schedule        ``warmup(constant(peak), steps, init)``
warmup_cosine_decay_schedule    ``warmup(cosine(peak, n - steps, ..., cycle=False), steps, init)``
warmup_exponential_decay_s.     ``warmup(exponential(peak, ...), steps, init)``
sgdr_schedule                   ``join`` of such ``warmup(cosine(...))``
=============================== ==================================================================

scikit-learn's learning rates are `constant`, `invscaling` and `optimal`: those alone are in
`SCHEDULES`, which the estimators and the command line choose from. Vowpal Wabbit's is
`inverse_power`, that of "Attention is all you need" `inverse_sqrt`, and warm-up, plateau and decay
`wsd`. ``product([schedule, linear(1.0, 1 / n, 1.0, n - 1)])`` is the other kind of warm-up, which
holds the schedule down instead of putting it off.
"""

from collections.abc import Callable

from ._base import Schedule
from ._compose import clip, custom, join, multiplicative, product, warmup, wsd
from ._cycles import cosine, cosine_restarts, cyclic, one_cycle
from ._decays import (
    constant,
    exponential,
    inverse_power,
    inverse_sqrt,
    invscaling,
    linear,
    multi_step,
    optimal,
    piecewise,
    polynomial,
    step,
    swa,
)
from ._plateau import ReduceLROnPlateau

__all__ = [
    "SCHEDULES",
    "ReduceLROnPlateau",
    "Schedule",
    "clip",
    "constant",
    "cosine",
    "cosine_restarts",
    "custom",
    "cyclic",
    "exponential",
    "inverse_power",
    "inverse_sqrt",
    "invscaling",
    "join",
    "linear",
    "multi_step",
    "multiplicative",
    "one_cycle",
    "optimal",
    "piecewise",
    "polynomial",
    "product",
    "step",
    "swa",
    "warmup",
    "wsd",
]

SCHEDULES: dict[str, Callable[..., Schedule]] = {
    f.__name__: f for f in (constant, invscaling, optimal)
}
