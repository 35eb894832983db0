"""Steps along the gradient or its sign, from a memory of past gradients or a step of their own."""

from collections.abc import Sequence

from ._common import State, Vector, descent, sign


def sgd(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> None:
    """Take one step of stochastic gradient descent, with momentum if wanted, as torch.optim.SGD.

    Plain: param <- param - lr grad (Robbins and Monro, 1951).

    With momentum the steps build up speed: buffer <- momentum buffer + (1 - dampening) grad, then
    param <- param - lr buffer (Polyak, 1964; Sutskever et al., 2013, eqs. 1 and 2, with the
    learning rate taken out of the buffer). The first gradient fills the buffer undampened.

    With nesterov the step looks ahead: param <- param - lr (grad + momentum buffer)
    (Sutskever et al., 2013, eqs. 3 and 4, written for the point where the gradient is taken).

    Parameters
    ----------
    param : list of float
        The parameters, updated in place.
    grad : sequence of float
        The gradient, as long as `param`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"momentum_buffer"``, created on first use.
        Start with an empty one.
    t : int
        Number of this step, from 1 on. This rule does not depend on it.
    lr : float, default=1e-3
        Learning rate.
    momentum : float, default=0
        How much of the speed is kept from step to step.
    dampening : float, default=0
        How much of a gradient is kept out of the buffer.
    weight_decay : float, default=0
        Adds ``weight_decay * param`` to the gradient (L2 regularisation).
    nesterov : bool, default=False
        Look ahead. Has an effect only with momentum.
    maximize : bool, default=False
        Climb instead of descend.

    Examples
    --------
    >>> param, state = [1.0, 2.0], {}
    >>> sgd(param, [4.0, -8.0], state, 1, lr=0.125, momentum=0.5)
    >>> param, state
    ([0.5, 3.0], {'momentum_buffer': [4.0, -8.0]})
    >>> sgd(param, [2.0, 0.0], state, 2, lr=0.125, momentum=0.5)
    >>> param, state
    ([0.0, 3.5], {'momentum_buffer': [4.0, -4.0]})
    """
    grad = descent(grad, param, weight_decay, maximize)
    if momentum != 0:
        if "momentum_buffer" in state:
            buffer = [
                momentum * m + (1 - dampening) * g
                for m, g in zip(state["momentum_buffer"], grad, strict=True)
            ]
        else:
            buffer = list(grad)
        state["momentum_buffer"] = buffer
        grad = [g + momentum * m for g, m in zip(grad, buffer, strict=True)] if nesterov else buffer
    param[:] = [p - lr * g for p, g in zip(param, grad, strict=True)]


def asgd(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Take one step of averaged stochastic gradient descent, as torch.optim.ASGD.

    param <- (1 - lambd eta) param - eta grad, and beside it the average of the path,
    ax <- ax + mu (param - ax), which is the result (Polyak and Juditsky, 1992; with
    the learning rate of Xu, 2011, eq. 8): eta = lr / (1 + lambd lr t)^alpha and
    mu = 1 / max(1, t - t0) of one step are used in the next; the first has eta = lr and mu = 1.
    While mu = 1, which is up to step t0 + 2, ax is param itself.

    Parameters
    ----------
    param, grad, t, weight_decay, maximize
        As in `sgd`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"ax"``, the average, and, lists of one number,
        ``"eta"`` and ``"mu"`` of the next step. Start with an empty one.
    lr : float, default=1e-2
        Learning rate at the start.
    lambd : float, default=1e-4
        Strength of the decay of weights and learning rate.
    alpha : float, default=0.75
        Exponent of the fall of the learning rate.
    t0 : float, default=1e6
        The step from which on to average.

    Examples
    --------
    >>> param, state = [1.0], {}
    >>> for t in (1, 2, 3):
    ...     asgd(param, [1.0], state, t, lr=0.25, lambd=0.0, t0=0.0)
    >>> param, state
    ([0.25], {'ax': [0.375], 'eta': [0.25], 'mu': [0.3333333333333333]})
    """
    g = descent(grad, param, weight_decay, maximize)
    ax = state.setdefault("ax", [0.0] * len(param))
    (eta,) = state.get("eta", [lr])
    (mu,) = state.get("mu", [1.0])
    for i, gi in enumerate(g):
        param[i] = (1 - lambd * eta) * param[i] - eta * gi
        ax[i] = param[i] if mu == 1 else ax[i] + mu * (param[i] - ax[i])
    state["eta"] = [lr / (1 + lambd * lr * t) ** alpha]
    state["mu"] = [1 / max(1.0, t - t0)]


def signum(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1e-3,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Take one step of Signum, which knows up and down but not how steep.

    m <- momentum m + (1 - momentum) grad, then param <- param - lr (sign(m) + weight_decay param)
    (Bernstein et al., 2018, Algorithm 2). Without momentum this is SignSGD (Algorithm 1).

    Parameters
    ----------
    param, grad, t, maximize
        As in `sgd`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"exp_avg"`` (m), created on first use, without
        momentum too. Start with an empty one.
    lr : float, default=1e-3
        Learning rate: the length of a step of each parameter.
    momentum : float, default=0.9
        Memory of the average gradient.
    weight_decay : float, default=0
        Part of each parameter that decays in a step with learning rate 1.

    Examples
    --------
    >>> param, state = [1.0, 1.0, 1.0], {}
    >>> signum(param, [1000.0, -0.001, 0.0], state, 1, lr=0.25)
    >>> param
    [0.75, 1.25, 1.0]
    """
    g = descent(grad, param, 0.0, maximize)
    m = state.setdefault("exp_avg", [0.0] * len(param))
    for i, gi in enumerate(g):
        m[i] = momentum * m[i] + (1 - momentum) * gi
        param[i] -= lr * (sign(m[i]) + weight_decay * param[i])


def lion(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1e-4,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Take one step of Lion (Chen et al., 2023, Algorithm 2).

    The step is the sign of a mixture of memory and gradient,
    param <- param - lr (sign(beta1 m + (1 - beta1) grad) + weight_decay param), and what is then
    remembered is a slower mixture, m <- beta2 m + (1 - beta2) grad.

    Parameters
    ----------
    param, grad, t, maximize
        As in `sgd`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"exp_avg"`` (m), created on first use. Start
        with an empty one.
    lr : float, default=1e-4
        Learning rate: the length of a step of each parameter.
    betas : (float, float), default=(0.9, 0.99)
        Weight of the memory in the step, and memory of the average gradient.
    weight_decay : float, default=0
        Part of each parameter that decays in a step with learning rate 1.

    Examples
    --------
    >>> param, state = [1.0], {}
    >>> lion(param, [8.0], state, 1, lr=0.25, betas=(0.5, 0.75))
    >>> param, state
    ([0.75], {'exp_avg': [2.0]})

    The memory of the first gradient outweighs a small one the other way:

    >>> lion(param, [-1.0], state, 2, lr=0.25, betas=(0.5, 0.75))
    >>> param
    [0.5]
    """
    beta1, beta2 = betas
    g = descent(grad, param, 0.0, maximize)
    m = state.setdefault("exp_avg", [0.0] * len(param))
    for i, gi in enumerate(g):
        direction = sign(beta1 * m[i] + (1 - beta1) * gi)
        param[i] -= lr * (direction + weight_decay * param[i])
        m[i] = beta2 * m[i] + (1 - beta2) * gi


def rprop(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1e-2,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50.0),
    maximize: bool = False,
) -> None:
    """Take one step of resilient propagation, as torch.optim.Rprop.

    Each parameter has a step size of its own. It grows by a factor while the gradient keeps its
    sign and shrinks by another when the sign changes: then a minimum was passed, this step is
    left out and the sign forgotten (Riedmiller and Braun, 1993, in the form that Igel and Hüsken,
    2000, call iRprop-). For gradients of the whole data, not of batches.

    Parameters
    ----------
    param, grad, t, maximize
        As in `sgd`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"prev"``, the gradient before or 0 where it is
        forgotten, and ``"step_size"``. Start with an empty one.
    lr : float, default=1e-2
        The step sizes at the start; without effect later.
    etas : (float, float), default=(0.5, 1.2)
        Factors by which a step size shrinks and grows.
    step_sizes : (float, float), default=(1e-6, 50)
        The smallest and the largest step size.

    Examples
    --------
    >>> param, state = [1.0], {}
    >>> for t, grad in enumerate([3.0, 5.0, -1.0], 1):
    ...     rprop(param, [grad], state, t, lr=0.25, etas=(0.5, 2.0))
    ...     print(param, state)
    [0.75] {'prev': [3.0], 'step_size': [0.25]}
    [0.25] {'prev': [5.0], 'step_size': [0.5]}
    [0.25] {'prev': [0.0], 'step_size': [0.25]}
    """
    shrink, grow = etas
    smallest, largest = step_sizes
    g = descent(grad, param, 0.0, maximize)
    prev = state.setdefault("prev", [0.0] * len(param))
    step_size = state.setdefault("step_size", [lr] * len(param))
    for i, gi in enumerate(g):
        agreement = gi * prev[i]
        factor = grow if agreement > 0 else shrink if agreement < 0 else 1.0
        step_size[i] = min(max(step_size[i] * factor, smallest), largest)
        if agreement < 0:
            gi = 0.0
        param[i] -= sign(gi) * step_size[i]
        prev[i] = gi
