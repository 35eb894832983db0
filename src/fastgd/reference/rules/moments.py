"""Adam and its kin: an average gradient over an average of its size."""

import math
from collections.abc import Sequence

from ._common import State, Vector, descent, sign


def adam(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> None:
    """Take one step of Adam, as torch.optim.Adam (Kingma and Ba, 2015, Algorithm 1).

    Moving averages of the gradient, m <- beta1 m + (1 - beta1) g, and of its square,
    v <- beta2 v + (1 - beta2) g^2, start at zero and are therefore too small at first; divided by
    1 - beta^t they are not. Then param <- param - lr m^ / (sqrt(v^) + eps).

    With amsgrad the largest v so far takes the place of v (Reddi et al., 2018, Algorithm 2, but for
    the bias correction, which torch does after the maximum), so that the steps cannot grow again.

    Parameters
    ----------
    param : list of float
        The parameters, updated in place.
    grad : sequence of float
        The gradient, as long as `param`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"exp_avg"`` (m) and ``"exp_avg_sq"`` (v),
        with amsgrad ``"max_exp_avg_sq"``, created on first use. Start with an empty one.
    t : int
        Number of this step, from 1 on.
    lr : float, default=1e-3
        Learning rate; about the largest change of a parameter in one step.
    betas : (float, float), default=(0.9, 0.999)
        Memory of the average gradient and of the average squared gradient.
    eps : float, default=1e-8
        Keeps the division sane where gradients are tiny.
    weight_decay : float, default=0
        Adds ``weight_decay * param`` to the gradient (L2 regularisation).
    amsgrad : bool, default=False
        Divide by the largest average squared gradient so far.
    maximize : bool, default=False
        Climb instead of descend.
    decoupled_weight_decay : bool, default=False
        Decay the parameters themselves, as `adamw`.

    Examples
    --------
    The first step has the length lr, however steep the slope:

    >>> param, state = [1.0, 1.0], {}
    >>> adam(param, [1000.0, -0.001], state, 1, lr=0.1)
    >>> [round(p, 4) for p in param]
    [0.9, 1.1]
    >>> sorted(state)
    ['exp_avg', 'exp_avg_sq']
    """
    if decoupled_weight_decay:
        param[:] = [(1 - lr * weight_decay) * p for p in param]
        weight_decay = 0.0
    grad = descent(grad, param, weight_decay, maximize)
    beta1, beta2 = betas
    m = state.get("exp_avg", [0.0] * len(param))
    v = state.get("exp_avg_sq", [0.0] * len(param))
    m = [beta1 * mi + (1 - beta1) * g for mi, g in zip(m, grad, strict=True)]
    v = [beta2 * vi + (1 - beta2) * g * g for vi, g in zip(v, grad, strict=True)]
    state["exp_avg"], state["exp_avg_sq"] = m, v
    if amsgrad:
        largest = state.get("max_exp_avg_sq", [0.0] * len(param))
        v = state["max_exp_avg_sq"] = [max(vi, li) for vi, li in zip(v, largest, strict=True)]

    step = lr / (1 - beta1**t)
    scale = math.sqrt(1 - beta2**t)
    param[:] = [
        p - step * mi / (math.sqrt(vi) / scale + eps) for p, mi, vi in zip(param, m, v, strict=True)
    ]


def adamw(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    maximize: bool = False,
) -> None:
    """Take one step of AdamW, as torch.optim.AdamW (Loshchilov and Hutter, 2019, Algorithm 2).

    Adam, but the weights decay by themselves, param <- (1 - lr weight_decay) param, and the decay
    is no part of the gradient that the moving averages see.

    Parameters
    ----------
    param : list of float
        The parameters, updated in place.
    grad : sequence of float
        The gradient, as long as `param`.
    state : dict of str to list of float
        What the rule remembers, updated in place: that of `adam`. Start with an empty one.
    t : int
        Number of this step, from 1 on.
    lr, betas, eps, amsgrad, maximize
        As in `adam`.
    weight_decay : float, default=1e-2
        Part of each parameter that decays in a step with learning rate 1.

    Examples
    --------
    >>> param, state = [1.0, 1.0], {}
    >>> adamw(param, [1000.0, 0.0], state, 1, lr=0.1, weight_decay=0.5)
    >>> [round(p, 4) for p in param]
    [0.85, 0.95]
    """
    adam(
        param,
        grad,
        state,
        t,
        lr=lr,
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        amsgrad=amsgrad,
        maximize=maximize,
        decoupled_weight_decay=True,
    )


def nadam(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> None:
    """Take one step of NAdam, Adam that looks ahead, as torch.optim.NAdam.

    Dozat (2016), Algorithm 2, with the momentum of step t,
    mu(t) = beta1 (1 - 0.96^(t momentum_decay) / 2), and P, the product of all momenta so far:
    m and v as in `adam`, then param <- param - lr step / (sqrt(v / (1 - beta2^t)) + eps) with
    step = (1 - mu(t)) / (1 - P) grad + mu(t + 1) / (1 - P mu(t + 1)) m. (The paper's m is made with
    mu(t) where torch's is made with beta1.)

    Parameters
    ----------
    param, grad, t, eps, maximize
        As in `adam`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"exp_avg"`` (m), ``"exp_avg_sq"`` (v) and, a
        list of one number, ``"mu_product"`` (P). Start with an empty one.
    lr : float, default=2e-3
        Learning rate.
    betas : (float, float), default=(0.9, 0.999)
        Memory of the average gradient and of the average squared gradient.
    weight_decay : float, default=0
        Adds ``weight_decay * param`` to the gradient (L2 regularisation).
    momentum_decay : float, default=4e-3
        How fast the momentum rises from beta1 / 2 to beta1.
    decoupled_weight_decay : bool, default=False
        Let the weights decay by themselves instead, as in `adamw`.

    Examples
    --------
    >>> param, state = [1.0], {}
    >>> nadam(param, [8.0], state, 1, lr=0.25, betas=(0.5, 0.75), eps=0.0, momentum_decay=0.0)
    >>> param, state["exp_avg"], state["exp_avg_sq"], state["mu_product"]
    ([0.7166666666666667], [4.0], [16.0], [0.25])
    """
    beta1, beta2 = betas
    if decoupled_weight_decay:
        param[:] = [(1 - lr * weight_decay) * p for p in param]
        weight_decay = 0.0
    g = descent(grad, param, weight_decay, maximize)
    m = state.setdefault("exp_avg", [0.0] * len(param))
    v = state.setdefault("exp_avg_sq", [0.0] * len(param))
    mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    product = state.get("mu_product", [1.0])[0] * mu
    state["mu_product"] = [product]
    of_gradient = lr * (1 - mu) / (1 - product)
    of_average = lr * mu_next / (1 - product * mu_next)
    for i, gi in enumerate(g):
        m[i] = beta1 * m[i] + (1 - beta1) * gi
        v[i] = beta2 * v[i] + (1 - beta2) * gi * gi
        scale = math.sqrt(v[i] / (1 - beta2**t)) + eps
        param[i] -= of_gradient * gi / scale + of_average * m[i] / scale


def radam(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> None:
    """Take one step of RAdam, Adam with a warm-up of its own, as torch.optim.RAdam.

    Liu et al. (2020), Algorithm 2. The average squared gradient of a few steps varies much, as if
    it were made from rho = rho_inf - 2 t beta2^t / (1 - beta2^t) gradients, where
    rho_inf = 2 / (1 - beta2) - 1. While rho <= 5 (in the paper 4) the step is lr m^ alone; then it
    is lr r m^ sqrt(1 - beta2^t) / (sqrt(v) + eps), with m^ = m / (1 - beta1^t), m and v as in
    `adam`, and r^2 = (rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho).

    Parameters
    ----------
    param, grad, t, lr, maximize
        As in `adam`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"exp_avg"`` (m) and ``"exp_avg_sq"`` (v). Start
        with an empty one.
    betas : (float, float), default=(0.9, 0.999)
        Memory of the average gradient and of the average squared gradient.
    eps : float, default=1e-8
        Keeps the division sane where gradients are tiny; added before the bias correction.
    weight_decay : float, default=0
        Adds ``weight_decay * param`` to the gradient (L2 regularisation).
    decoupled_weight_decay : bool, default=False
        Let the weights decay by themselves instead, as in `adamw`.

    Examples
    --------
    >>> param, state = [1.0], {}
    >>> radam(param, [0.5], state, 1, lr=0.25)  # while it warms up, this is plain momentum
    >>> param
    [0.875]
    """
    beta1, beta2 = betas
    if decoupled_weight_decay:
        param[:] = [(1 - lr * weight_decay) * p for p in param]
        weight_decay = 0.0
    g = descent(grad, param, weight_decay, maximize)
    m = state.setdefault("exp_avg", [0.0] * len(param))
    v = state.setdefault("exp_avg_sq", [0.0] * len(param))
    correction1, correction2 = 1 - beta1**t, 1 - beta2**t
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / correction2
    if rho > 5:
        r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    for i, gi in enumerate(g):
        m[i] = beta1 * m[i] + (1 - beta1) * gi
        v[i] = beta2 * v[i] + (1 - beta2) * gi * gi
        step = lr * m[i] / correction1
        if rho > 5:
            step *= r * math.sqrt(correction2) / (math.sqrt(v[i]) + eps)
        param[i] -= step


def adamax(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Take one step of AdaMax, as torch.optim.Adamax (Kingma and Ba, 2015, Algorithm 2).

    Adam, but divided by the largest gradient in memory, u <- max(beta2 u, abs(grad) + eps):
    param <- param - lr / (1 - beta1^t) m / u. (The paper has no eps.)

    Parameters
    ----------
    param, grad, t, weight_decay, maximize
        As in `adam`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"exp_avg"`` (m) and ``"exp_inf"`` (u). Start
        with an empty one.
    lr : float, default=2e-3
        Learning rate; the largest change of a parameter in one step.
    betas : (float, float), default=(0.9, 0.999)
        Memory of the average gradient and of the largest one.
    eps : float, default=1e-8
        Keeps the division sane where gradients are zero.

    Examples
    --------
    >>> param, state = [1.0], {}
    >>> adamax(param, [8.0], state, 1, lr=0.25, betas=(0.5, 0.75), eps=0.0)
    >>> adamax(param, [1.0], state, 2, lr=0.25, betas=(0.5, 0.75), eps=0.0)
    >>> param, state
    ([0.6111111111111112], {'exp_avg': [2.5], 'exp_inf': [6.0]})
    """
    beta1, beta2 = betas
    g = descent(grad, param, weight_decay, maximize)
    m = state.setdefault("exp_avg", [0.0] * len(param))
    u = state.setdefault("exp_inf", [0.0] * len(param))
    for i, gi in enumerate(g):
        m[i] = beta1 * m[i] + (1 - beta1) * gi
        u[i] = max(abs(gi) + eps, beta2 * u[i])
        param[i] -= lr / (1 - beta1**t) * m[i] / u[i]


def adabelief(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-16,
    eps_root: float = 1e-16,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Take one step of AdaBelief, as optax.adabelief (Zhuang et al., 2020, Algorithm 2).

    Adam, but divided by how far gradients are from their average, with m as in `adam`:
    s <- beta2 s + (1 - beta2) (grad - m)^2 + eps_root, s^ = s / (1 - beta2^t), then
    param <- param - lr (m^ / (sqrt(s^) + eps) + weight_decay param).

    Parameters
    ----------
    param, grad, t, maximize
        As in `adam`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"exp_avg"`` (m) and ``"exp_avg_var"`` (s, the
        eps_root of every step included). Start with an empty one.
    lr : float, default=1e-3
        Learning rate. (optax has no default; this is the paper's.)
    betas : (float, float), default=(0.9, 0.999)
        Memory of the average gradient and of the average squared distance from it.
    eps : float, default=1e-16
        Keeps the division sane, outside the root. (The paper has one eps for both.)
    eps_root : float, default=1e-16
        The same inside the root.
    weight_decay : float, default=0
        Part of each parameter that decays in a step with learning rate 1. (optax has none.)

    Examples
    --------
    >>> param, state = [1.0], {}
    >>> adabelief(param, [8.0], state, 1, lr=0.25, betas=(0.5, 0.75), eps=0.0, eps_root=0.0)
    >>> param, state
    ([0.5], {'exp_avg': [4.0], 'exp_avg_var': [4.0]})
    """
    beta1, beta2 = betas
    g = descent(grad, param, 0.0, maximize)
    m = state.setdefault("exp_avg", [0.0] * len(param))
    s = state.setdefault("exp_avg_var", [0.0] * len(param))
    for i, gi in enumerate(g):
        m[i] = beta1 * m[i] + (1 - beta1) * gi
        s[i] = beta2 * s[i] + (1 - beta2) * (gi - m[i]) * (gi - m[i]) + eps_root
        m_hat, s_hat = m[i] / (1 - beta1**t), s[i] / (1 - beta2**t)
        param[i] -= lr * (m_hat / (math.sqrt(s_hat) + eps) + weight_decay * param[i])


def yogi(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1e-2,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-3,
    initial_accumulator_value: float = 1e-6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Take one step of Yogi, as optax.yogi (Zaheer et al., 2018, Algorithm 2).

    Adam, but the average squared gradient moves by no more than the new square, however large it
    is: v <- v - (1 - beta2) sign(v - grad^2) grad^2, with m as in `adam`. Then
    param <- param - lr (m^ / (sqrt(v^) + eps) + weight_decay param). (The paper does not correct
    the bias; optax divides m by 1 - beta1^t and v by 1 - beta2^t, and starts both, m too, at
    initial_accumulator_value.)

    Parameters
    ----------
    param, grad, t, maximize
        As in `adam`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"exp_avg"`` (m) and ``"exp_avg_sq"`` (v). Start
        with an empty one.
    lr : float, default=1e-2
        Learning rate. (optax has no default; this is the paper's.)
    betas : (float, float), default=(0.9, 0.999)
        Memory of the average gradient and of the squared gradient.
    eps : float, default=1e-3
        Keeps the steps from growing where gradients are tiny.
    initial_accumulator_value : float, default=1e-6
        Where m and v start.
    weight_decay : float, default=0
        Part of each parameter that decays in a step with learning rate 1. (optax has none.)

    Examples
    --------
    >>> param, state = [1.0], {}
    >>> options = {"eps": 0.0, "initial_accumulator_value": 0.0}
    >>> yogi(param, [8.0], state, 1, lr=0.25, betas=(0.5, 0.75), **options)
    >>> param, state
    ([0.75], {'exp_avg': [4.0], 'exp_avg_sq': [16.0]})
    >>> yogi(param, [2.0], state, 2, lr=0.25, betas=(0.5, 0.75), **options)
    >>> state
    {'exp_avg': [3.0], 'exp_avg_sq': [15.0]}
    """
    beta1, beta2 = betas
    g = descent(grad, param, 0.0, maximize)
    m = state.setdefault("exp_avg", [initial_accumulator_value] * len(param))
    v = state.setdefault("exp_avg_sq", [initial_accumulator_value] * len(param))
    for i, gi in enumerate(g):
        m[i] = beta1 * m[i] + (1 - beta1) * gi
        v[i] -= (1 - beta2) * sign(v[i] - gi * gi) * gi * gi
        m_hat, v_hat = m[i] / (1 - beta1**t), v[i] / (1 - beta2**t)
        param[i] -= lr * (m_hat / (math.sqrt(v_hat) + eps) + weight_decay * param[i])


def adan(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
    eps: float = 1e-8,
    eps_root: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Take one step of Adan, as optax.adan (Xie et al., 2022, Algorithm 1).

    With the change of the gradient since the step before, diff (0 in the first step), and optax's
    betas, which are one minus the paper's:

    m <- beta1 m + (1 - beta1) grad, v <- beta2 v + (1 - beta2) diff,
    n <- beta3 n + (1 - beta3) (grad + (1 - beta2) diff)^2, each corrected for its bias, then
    param <- param - lr ((m^ + (1 - beta2) v^) / (sqrt(n^ + eps_root) + eps) + weight_decay param).

    The paper looks ahead by its 1 - beta2, which is optax's beta2 and what the paper's own code
    does; optax by 1 - beta2, and so does this. The paper also divides by 1 + lr weight_decay where
    optax subtracts.

    Parameters
    ----------
    param, grad, t, maximize
        As in `adam`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"exp_avg"`` (m), ``"exp_avg_diff"`` (v),
        ``"exp_avg_sq"`` (n) and ``"previous_grad"``. Start with an empty one.
    lr : float, default=1e-3
        Learning rate. (optax has no default; this is the one of the paper's code.)
    betas : (float, float, float), default=(0.98, 0.92, 0.99)
        Memory of the average gradient, of its average change, and of the average square.
    eps : float, default=1e-8
        Keeps the division sane where gradients are tiny, outside the root.
    eps_root : float, default=1e-8
        The same inside the root.
    weight_decay : float, default=0
        Part of each parameter that decays in a step with learning rate 1.

    Examples
    --------
    >>> param, state = [1.0], {}
    >>> for t, grad in enumerate([8.0, 4.0], 1):
    ...     adan(param, [grad], state, t, lr=0.25, betas=(0.5, 0.5, 0.75), eps=0.0, eps_root=0.0)
    >>> state["exp_avg"], state["exp_avg_diff"], state["exp_avg_sq"], state["previous_grad"]
    ([4.0], [-2.0], [13.0], [4.0])
    """
    beta1, beta2, beta3 = betas
    g = descent(grad, param, 0.0, maximize)
    m = state.setdefault("exp_avg", [0.0] * len(param))
    v = state.setdefault("exp_avg_diff", [0.0] * len(param))
    n = state.setdefault("exp_avg_sq", [0.0] * len(param))
    previous = state.setdefault("previous_grad", list(g))
    for i, gi in enumerate(g):
        diff = gi - previous[i]
        ahead = gi + (1 - beta2) * diff
        m[i] = beta1 * m[i] + (1 - beta1) * gi
        v[i] = beta2 * v[i] + (1 - beta2) * diff
        n[i] = beta3 * n[i] + (1 - beta3) * ahead * ahead
        m_hat, v_hat, n_hat = m[i] / (1 - beta1**t), v[i] / (1 - beta2**t), n[i] / (1 - beta3**t)
        step = (m_hat + (1 - beta2) * v_hat) / (math.sqrt(n_hat + eps_root) + eps)
        param[i] -= lr * (step + weight_decay * param[i])
        previous[i] = gi


def sparse_adam(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    indices: Sequence[int] | None = None,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    maximize: bool = False,
) -> None:
    """Take one step of lazy Adam on some rows of a matrix, as torch.optim.SparseAdam.

    Rows without gradient are left as they are, and so is what is remembered of them: neither decay
    their averages, nor do they move on from old speed. Every row has the bias correction of step t,
    however often it was touched. For the others, m and v as in `adam`, then
    param <- param - lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps).

    Parameters
    ----------
    param : list of float
        The parameters, row after row, updated in place.
    grad : sequence of float
        The gradient of the rows touched only, row after row, in the order of `indices`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"exp_avg"`` (m) and ``"exp_avg_sq"`` (v), both
        of all rows. Start with an empty one.
    t : int
        Number of this step, from 1 on.
    indices : sequence of int, optional
        The rows touched. The gradients of a row named more than once are added up. By default
        `grad` is as long as `param` and all of it is touched.
    lr, maximize
        As in `adam`.
    betas : (float, float), default=(0.9, 0.999)
        Memory of the average gradient and of the average squared gradient.
    eps : float, default=1e-8
        Keeps the division sane where gradients are tiny; added before the bias correction.

    Examples
    --------
    Three rows of two, of which the last is touched:

    >>> param, state = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], {}
    >>> sparse_adam(param, [1.0, -1.0], state, 1, indices=[2], lr=0.5, eps=0.0)
    >>> [round(p, 4) for p in param]
    [1.0, 2.0, 3.0, 4.0, 4.5, 6.5]
    """
    beta1, beta2 = betas
    g = descent(grad, param, 0.0, maximize)
    m = state.setdefault("exp_avg", [0.0] * len(param))
    v = state.setdefault("exp_avg_sq", [0.0] * len(param))
    if indices is None:
        indices = range(len(param))

    total: dict[int, float] = {}  # place in param -> gradient
    for k, row in enumerate(indices):
        width = len(g) // len(indices)
        for j in range(width):
            place = row * width + j
            total[place] = total.get(place, 0.0) + g[k * width + j]

    step = lr * math.sqrt(1 - beta2**t) / (1 - beta1**t)
    for i, gi in total.items():
        m[i] = beta1 * m[i] + (1 - beta1) * gi
        v[i] = beta2 * v[i] + (1 - beta2) * gi * gi
        param[i] -= step * m[i] / (math.sqrt(v[i]) + eps)
