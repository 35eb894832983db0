"""A learning rate for each parameter, from the squares of its past gradients."""

import math
from collections.abc import Sequence

from ._common import State, Vector, descent, root, sign


def adagrad(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
) -> None:
    """Take one step of AdaGrad, as torch.optim.Adagrad (Duchi et al., 2011, Figure 1, diagonal).

    sum <- sum + grad^2, then param <- param - rate grad / (sqrt(sum) + eps) with
    rate = lr / (1 + (t - 1) lr_decay). Rare features keep a large learning rate.

    Parameters
    ----------
    param, grad, weight_decay, maximize
        As in `sgd`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"sum"``. Start with an empty one.
    t : int
        Number of this step, from 1 on.
    lr : float, default=1e-2
        Learning rate.
    lr_decay : float, default=0
        How fast the learning rate falls on top of that.
    initial_accumulator_value : float, default=0
        Where the sum starts.
    eps : float, default=1e-10
        Keeps the division sane where all gradients were tiny.

    Examples
    --------
    >>> param, state = [1.0, 1.0], {}
    >>> adagrad(param, [3.0, 0.5], state, 1, lr=0.5, eps=0.0)
    >>> adagrad(param, [4.0, 0.0], state, 2, lr=0.5, eps=0.0)
    >>> param, state
    ([0.09999999999999998, 0.5], {'sum': [25.0, 0.25]})
    """
    g = descent(grad, param, weight_decay, maximize)
    total = state.setdefault("sum", [initial_accumulator_value] * len(param))
    rate = lr / (1 + (t - 1) * lr_decay)
    for i, gi in enumerate(g):
        total[i] += gi * gi
        param[i] -= rate * gi / (math.sqrt(total[i]) + eps)


def adadelta(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Take one step of Adadelta, as torch.optim.Adadelta (Zeiler, 2012, Algorithm 1).

    With v <- rho v + (1 - rho) grad^2 the step is delta = sqrt(u + eps) / sqrt(v + eps) grad, where
    u <- rho u + (1 - rho) delta^2 is the average square of the steps before: steps have the unit of
    the parameters. Then param <- param - lr delta.

    Parameters
    ----------
    param, grad, t, weight_decay, maximize
        As in `sgd`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"square_avg"`` (v) and ``"acc_delta"`` (u).
        Start with an empty one.
    lr : float, default=1
        Factor on the step; the paper has none.
    rho : float, default=0.9
        Memory of the two averages.
    eps : float, default=1e-6
        Starts the steps off, and keeps the division sane.

    Examples
    --------
    >>> param, state = [1.0], {}
    >>> adadelta(param, [8.0], state, 1, rho=0.75, eps=1.0)
    >>> round(param[0], 6), state["square_avg"]
    (-0.940285, [16.0])
    """
    g = descent(grad, param, weight_decay, maximize)
    v = state.setdefault("square_avg", [0.0] * len(param))
    u = state.setdefault("acc_delta", [0.0] * len(param))
    for i, gi in enumerate(g):
        v[i] = rho * v[i] + (1 - rho) * gi * gi
        delta = math.sqrt(u[i] + eps) / math.sqrt(v[i] + eps) * gi
        u[i] = rho * u[i] + (1 - rho) * delta * delta
        param[i] -= lr * delta


def rmsprop(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    maximize: bool = False,
) -> None:
    """Take one step of RMSprop, as torch.optim.RMSprop (Tieleman and Hinton, 2012, lecture 6.5).

    v <- alpha v + (1 - alpha) grad^2, then param <- param - lr grad / (sqrt(v) + eps).

    Centered, the average gradient a <- alpha a + (1 - alpha) grad is taken out, so that v - a^2, an
    estimate of the variance, stands for v (Graves, 2013, eqs. 38 to 40). Where rounding makes that
    negative, the parameter becomes nan, as in torch.

    With momentum: buffer <- momentum buffer + grad / (sqrt(v) + eps), then
    param <- param - lr buffer.

    Parameters
    ----------
    param, grad, t, weight_decay, maximize
        As in `sgd`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"square_avg"`` (v); centered ``"grad_avg"`` (a)
        and with momentum ``"momentum_buffer"``. Start with an empty one.
    lr : float, default=1e-2
        Learning rate.
    alpha : float, default=0.99
        Memory of the averages.
    eps : float, default=1e-8
        Keeps the division sane where gradients are tiny.
    momentum : float, default=0
        How much of the speed is kept from step to step.
    centered : bool, default=False
        Divide by the standard deviation of the gradient, not by its root mean square.

    Examples
    --------
    >>> param, state = [1.0], {}
    >>> rmsprop(param, [8.0], state, 1, lr=0.25, alpha=0.75, eps=0.0)
    >>> param, state
    ([0.5], {'square_avg': [16.0]})
    """
    g = descent(grad, param, weight_decay, maximize)
    zeros = [0.0] * len(param)
    v = state.setdefault("square_avg", list(zeros))
    if centered:
        a = state.setdefault("grad_avg", list(zeros))
    if momentum > 0:
        buffer = state.setdefault("momentum_buffer", list(zeros))
    for i, gi in enumerate(g):
        v[i] = alpha * v[i] + (1 - alpha) * gi * gi
        variance = v[i]
        if centered:
            a[i] = alpha * a[i] + (1 - alpha) * gi
            variance = v[i] - a[i] * a[i]
        step = gi / (root(variance) + eps)
        if momentum > 0:
            step = buffer[i] = momentum * buffer[i] + step
        param[i] -= lr * step


def ftrl(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 0.1,
    beta: float = 1.0,
    l1: float = 0.0,
    l2: float = 0.0,
    maximize: bool = False,
) -> None:
    """Take one step of FTRL-Proximal, "follow the regularised leader".

    McMahan et al. (2013), Algorithm 1, with lr for alpha and sum for n, for each parameter w:

    sigma = (sqrt(sum + grad^2) - sqrt(sum)) / lr, z <- z + grad - sigma w,
    sum <- sum + grad^2, then w = 0 where abs(z) <= l1, else
    w = -(z - sign(z) l1) / ((beta + sqrt(sum)) / lr + l2).

    The weights follow from z and sum alone. In the paper z starts at 0, and so do they; here z
    starts where the formula gives the weights of the start, z = -w (beta / lr + l2) - sign(w) l1,
    so that a weight whose feature was not seen yet stays as it was. That holds as long as the
    hyper-parameters do: a schedule for lr moves unseen weights, too.

    Parameters
    ----------
    param, grad, t, maximize
        As in `sgd`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"z"`` and ``"sum"`` (the paper's n), created on
        first use. Start with an empty one.
    lr : float, default=0.1
        The paper's alpha. With beta = 1, the learning rate of a weight's first step.
    beta : float, default=1
        Keeps the first steps small; greater than zero, for one needs z from weights at the start.
    l1 : float, default=0
        Strength of the L1 regularisation: weights that are worth less are exactly zero.
    l2 : float, default=0
        Strength of the L2 regularisation.

    Examples
    --------
    >>> param, state = [0.0, 0.0, 5.0], {}
    >>> ftrl(param, [3.0, 0.5, 0.0], state, 1, lr=0.5, beta=1.0, l1=1.0)
    >>> param, state
    ([-0.25, -0.0, 5.0], {'z': [3.0, 0.5, -11.0], 'sum': [9.0, 0.25, 0.0]})
    """
    g = descent(grad, param, 0.0, maximize)
    z = state.setdefault("z", [-w * (beta / lr + l2) - sign(w) * l1 for w in param])
    total = state.setdefault("sum", [0.0] * len(param))
    for i, gi in enumerate(g):
        sigma = (math.sqrt(total[i] + gi * gi) - math.sqrt(total[i])) / lr
        z[i] += gi - sigma * param[i]
        total[i] += gi * gi
        excess = z[i] - sign(z[i]) * l1 if abs(z[i]) > l1 else 0.0
        param[i] = -excess / ((beta + math.sqrt(total[i])) / lr + l2)
