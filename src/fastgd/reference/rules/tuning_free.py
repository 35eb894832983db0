"""Rules that need no schedule for the learning rate, or no learning rate."""

import math
from collections.abc import Sequence

from ._common import State, Vector, descent

# ---- no schedule: an average takes its place -----------------------------------------------------


def schedule_free_sgd(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1.0,
    beta: float = 0.9,
    weight_decay: float = 0.0,
    weight_lr_power: float = 2.0,
    maximize: bool = False,
) -> None:
    """Take one step of schedule-free SGD, as optax.contrib.schedule_free_sgd.

    There are three points (Defazio et al., 2024): z, which plain SGD moves, x, the average of all
    z, which is the result, and y = beta x + (1 - beta) z between them, where the gradient is taken
    and which `param` holds:

    z <- z - lr (grad + weight_decay y), x <- (1 - c) x + c z, y <- beta x + (1 - beta) z.

    The weight of this z in the average is c = w / weight_sum, with w = lr_max^weight_lr_power, the
    largest learning rate so far, so that steps of a warm-up count little, and weight_sum the sum of
    all w, this one included. x is not remembered but had from y and z, by `schedule_free_eval`.

    Parameters
    ----------
    param, grad, t, maximize
        As in `sgd`; `param` is y, and the gradient is to be taken there.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"z"`` and, lists of one number,
        ``"weight_sum"`` and ``"lr_max"``. Start with an empty one.
    lr : float, default=1
        Learning rate. It may change from step to step, for a warm-up.
    beta : float, default=0.9
        Where the gradient is taken: at the average (1), or at z (near 0; 0 itself would lose x).
    weight_decay : float, default=0
        Adds ``weight_decay * param`` to the gradient.
    weight_lr_power : float, default=2
        How much more a step with a large learning rate weighs.

    Examples
    --------
    >>> param, state = [8.0], {}
    >>> for t, grad in enumerate([4.0, 2.0], 1):
    ...     schedule_free_sgd(param, [grad], state, t, lr=1.0, beta=0.5)
    ...     print(param, schedule_free_eval(param, state, 0.5), state)
    [4.0] [4.0] {'z': [4.0], 'weight_sum': [1.0], 'lr_max': [1.0]}
    [2.5] [3.0] {'z': [2.0], 'weight_sum': [2.0], 'lr_max': [1.0]}
    """
    g = descent(grad, param, weight_decay, maximize)
    _schedule_free(param, g, state, lr, beta, weight_lr_power)


def schedule_free_adamw(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 2.5e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    weight_lr_power: float = 2.0,
    maximize: bool = False,
) -> None:
    """Take one step of schedule-free AdamW, as optax.contrib.schedule_free_adamw.

    As `schedule_free_sgd` with beta1 for beta, but z moves like AdamW without momentum
    (Defazio et al., 2024, Algorithm 1): v <- beta2 v + (1 - beta2) grad^2, then
    z <- z - lr (grad / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay y).

    Parameters
    ----------
    param, grad, maximize, weight_lr_power
        As in `schedule_free_sgd`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"exp_avg_sq"`` (v), ``"z"`` and, lists of one
        number, ``"weight_sum"`` and ``"lr_max"``. Start with an empty one.
    t : int
        Number of this step, from 1 on.
    lr : float, default=2.5e-3
        Learning rate. It may change from step to step, for a warm-up.
    betas : (float, float), default=(0.9, 0.999)
        Where the gradient is taken, and memory of the average squared gradient.
    eps : float, default=1e-8
        Keeps the division sane where gradients are tiny.
    weight_decay : float, default=0
        Part of y by which z decays in a step with learning rate 1.

    Examples
    --------
    >>> param, state = [8.0], {}
    >>> schedule_free_adamw(param, [4.0], state, 1, lr=0.5, eps=0.0)
    >>> param, state["z"], schedule_free_eval(param, state, 0.9)
    ([7.5], [7.5], [7.5])
    """
    beta1, beta2 = betas
    g = descent(grad, param, 0.0, maximize)
    v = state.setdefault("exp_avg_sq", [0.0] * len(param))
    u = [0.0] * len(param)
    for i, gi in enumerate(g):
        v[i] = beta2 * v[i] + (1 - beta2) * gi * gi
        u[i] = gi / (math.sqrt(v[i] / (1 - beta2**t)) + eps) + weight_decay * param[i]
    _schedule_free(param, u, state, lr, beta1, weight_lr_power)


def _schedule_free(
    y: Vector, step: Sequence[float], state: State, lr: float, beta: float, weight_lr_power: float
) -> None:
    """Move z by -lr step, take it into the average x, and y with them."""
    z = state.setdefault("z", list(y))
    x = schedule_free_eval(y, state, beta)
    lr_max = max(lr, state.get("lr_max", [0.0])[0])
    weight = lr_max**weight_lr_power
    weight_sum = state.get("weight_sum", [0.0])[0] + weight
    c = weight / weight_sum if weight_sum != 0 else 0.0
    for i, si in enumerate(step):
        z[i] -= lr * si
        x[i] = (1 - c) * x[i] + c * z[i]
        y[i] = beta * x[i] + (1 - beta) * z[i]
    state["weight_sum"], state["lr_max"] = [weight_sum], [lr_max]


def schedule_free_eval(param: Sequence[float], state: State, beta: float = 0.9) -> Vector:
    """Return the result of a schedule-free rule, x = (y - (1 - beta) z) / beta.

    Parameters
    ----------
    param : sequence of float
        y, what the rule updates.
    state : dict of str to list of float
        What the rule remembers.
    beta : float, default=0.9
        That of the rule; for `schedule_free_adamw` the first of its betas.

    Returns
    -------
    list of float
        x, the parameters to use.

    Examples
    --------
    >>> schedule_free_eval([2.5], {"z": [2.0]}, beta=0.5)
    [3.0]
    """
    return [(y - (1 - beta) * z) / beta for y, z in zip(param, state["z"], strict=True)]


# ---- no learning rate: it is estimated -----------------------------------------------------------


def prodigy(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    beta3: float | None = None,
    eps: float = 1e-8,
    d0: float = 1e-6,
    d_coef: float = 1.0,
    weight_decay: float = 0.0,
    safeguard_warmup: bool = False,
    maximize: bool = False,
) -> None:
    """Take one step of Prodigy, as optax.contrib.prodigy (Mishchenko and Defazio, 2024).

    Adam, the version for it, with a learning rate d that grows to the distance from the start p0 to
    the solution: as long as going on from p0 is downhill, the solution is further than thought.
    With rate = lr d sqrt(1 - beta2^t) / (1 - beta1^t), one after the other:

    m <- beta1 m + (1 - beta1) d grad, v <- beta2 v + (1 - beta2) (d grad)^2,
    s <- beta3 s + rate d / d0 grad, r <- beta3 r + rate d / d0 grad . (p0 - param),
    d <- max(d, d_coef r / (sum of abs(s))),
    param <- param - rate (m / (sqrt(v) + d eps) + weight_decay param).

    The new d is that of eps; the rate has the old one. (optax's rate has a bias correction, the
    paper's has none, and the paper's eps has the old d; s and r are divided by d0, which cancels.)
    While s is zero, which it is as long as all gradients are, d stays as it is, where optax gets
    nan.

    Parameters
    ----------
    param, grad, t, maximize
        As in `adam`. d is one for all of the model: `param` is to be all parameters.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"exp_avg"`` (m), ``"exp_avg_sq"`` (v),
        ``"grad_sum"`` (s), ``"params0"`` (p0) and, lists of one number, ``"d"`` and
        ``"numerator_weighted"`` (r). Start with an empty one.
    lr : float, default=1
        Factor on the learning rate, for a schedule.
    betas : (float, float), default=(0.9, 0.999)
        Memory of the average gradient and of the average squared gradient.
    beta3 : float, optional
        Memory of the estimate; the square root of beta2 by default.
    eps : float, default=1e-8
        Keeps the division sane where gradients are tiny.
    d0 : float, default=1e-6
        Where the estimate starts; smaller than any distance one expects.
    d_coef : float, default=1
        Factor on the estimate.
    weight_decay : float, default=0
        Part of each parameter that decays in a step with learning rate 1.
    safeguard_warmup : bool, default=False
        Leave lr and the bias correction out of s: d for the rate in it.

    Examples
    --------
    The minimum of (w - 3)^2 is 3 away from the start:

    >>> param, state = [0.0], {}
    >>> for t in range(1, 201):
    ...     prodigy(param, [2.0 * (param[0] - 3.0)], state, t)
    >>> round(param[0], 2), 1.0 < state["d"][0] < 3.0
    (3.0, True)
    """
    beta1, beta2 = betas
    if beta3 is None:
        beta3 = math.sqrt(beta2)
    g = descent(grad, param, 0.0, maximize)
    m = state.setdefault("exp_avg", [0.0] * len(param))
    v = state.setdefault("exp_avg_sq", [0.0] * len(param))
    s = state.setdefault("grad_sum", [0.0] * len(param))
    p0 = state.setdefault("params0", list(param))
    (d,) = state.get("d", [d0])
    (r,) = state.get("numerator_weighted", [0.0])

    rate = lr * d * math.sqrt(1 - beta2**t) / (1 - beta1**t)
    distance = sum(gi * (start - p) for gi, start, p in zip(g, p0, param, strict=True))
    r = beta3 * r + rate * d / d0 * distance
    for i, gi in enumerate(g):
        m[i] = beta1 * m[i] + (1 - beta1) * d * gi
        v[i] = beta2 * v[i] + (1 - beta2) * d * gi * d * gi
        s[i] = beta3 * s[i] + (d if safeguard_warmup else rate) * d / d0 * gi
    s_norm = sum(abs(si) for si in s)
    if s_norm != 0:
        d = max(d, d_coef * r / s_norm)
    for i, (mi, vi) in enumerate(zip(m, v, strict=True)):
        param[i] -= rate * (mi / (math.sqrt(vi) + d * eps) + weight_decay * param[i])
    state["d"], state["numerator_weighted"] = [d], [r]
