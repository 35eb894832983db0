"""The executable specification of fastgd: every formula once, in plain Python.

Read it like a textbook, from the top: gradient descent in three lines, then its anatomy,
**loss -> gradient -> update rule**, repeated over **batches** drawn by a **sampler** with a
**schedule** for the learning rate. The tests hold the C kernels to what is computed here, and the
benchmarks measure how much faster they are. Vectors are lists of floats; nothing but `math` is
used to compute. Nothing is checked either: bad input is refused in words by the public classes
(`fastgd.optim`, `fastgd.linear_model`), not here.

The parts, each a plain function and, by name, a row of a table:

======================  ==========================================================================
`gradient_descent`      the idea itself
`LOSSES`                `squared_error`, `log_loss`, `hinge`, `huber`
`RULES`                 `sgd`, `adam`, `adamw`
`SCHEDULES`             `constant`, `invscaling`, `optimal`
sampler                 `xorshift32`, `shuffle`, `rows`
linear model            `linear_prediction`, `linear_gradient`, `linear_step`, `train_linear`
======================  ==========================================================================

References
----------
Bottou (2010), Large-scale machine learning with stochastic gradient descent, COMPSTAT.
Bottou (2012), Stochastic gradient descent tricks, Neural Networks: Tricks of the Trade.
Durstenfeld (1964), Algorithm 235: random permutation, Communications of the ACM 7(7).
Hastie, Tibshirani, Friedman (2009), The elements of statistical learning, 2nd edition.
Huber (1964), Robust estimation of a location parameter, Ann. Math. Statist. 35(1).
Kingma, Ba (2015), Adam: a method for stochastic optimization, ICLR.
Loshchilov, Hutter (2019), Decoupled weight decay regularization, ICLR.
Mächler (2012), Accurately computing log(1 - exp(-|a|)), vignette of the R package Rmpfr.
Marsaglia (2003), Xorshift RNGs, Journal of Statistical Software 8(14).
Polyak (1964), Some methods of speeding up the convergence of iteration methods, USSR Comput.
Math. Math. Phys. 4(5).
Polyak, Juditsky (1992), Acceleration of stochastic approximation by averaging, SIAM J. Control
Optim. 30(4).
Robbins, Monro (1951), A stochastic approximation method, Ann. Math. Statist. 22(3).
Shalev-Shwartz, Singer, Srebro (2007), Pegasos: primal estimated sub-gradient solver for SVM, ICML.
Sutskever, Martens, Dahl, Hinton (2013), On the importance of initialization and momentum in deep
learning, ICML.
Xu, Qiu, Yuan, Jiang, Renggli, Gan, Kara, Li, Liu, Wu, Ye, Zhang (2022), In-database machine
learning with CorgiPile: stochastic gradient descent without full data shuffle, SIGMOD.
"""

import math
from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "BLOCK",
    "LOSSES",
    "RULES",
    "SCHEDULES",
    "adam",
    "adamw",
    "constant",
    "gradient_descent",
    "hinge",
    "huber",
    "invscaling",
    "linear_gradient",
    "linear_prediction",
    "linear_step",
    "log_loss",
    "optimal",
    "rows",
    "sgd",
    "shuffle",
    "squared_error",
    "train_linear",
    "xorshift32",
]

Vector = list[float]
State = dict[str, Vector]
"""What a rule remembers of one parameter: its names are those of torch.optim."""
Loss = Callable[..., tuple[float, float]]
Rule = Callable[..., None]
Schedule = Callable[[float], float]

BLOCK = 64
"""Neighbouring rows that stay together when `train_linear` shuffles blocks."""


# ---- the idea ------------------------------------------------------------------------------------


def gradient_descent(
    gradient: Callable[[float], float], w: float, lr: float = 0.1, steps: int = 1
) -> float:
    """Minimise a function of one number by walking against its gradient.

    ``w <- w - lr * gradient(w)``, `steps` times (Cauchy, 1847).

    Parameters
    ----------
    gradient : callable
        The derivative of the function to minimise.
    w : float
        Where to start.
    lr : float, default=0.1
        The learning rate: how far a step goes for each unit of slope.
    steps : int, default=1
        How many steps to take.

    Returns
    -------
    float
        Where the walk ends.

    Examples
    --------
    The function (w - 2)^2 is least at 2. Its gradient at 5 is 6, so a step of a tenth of that leads
    to 4.4, and enough of them to the minimum:

    >>> def gradient(w):
    ...     return 2.0 * (w - 2.0)
    >>> gradient(5.0)
    6.0
    >>> gradient_descent(gradient, 5.0, lr=0.1)
    4.4
    >>> round(gradient_descent(gradient, 5.0, lr=0.1, steps=100), 6)
    2.0
    """
    for _ in range(steps):
        w -= lr * gradient(w)
    return w


# ---- losses: (prediction p, target y) -> (value, derivative with respect to p) -------------------


def squared_error(p: float, y: float) -> tuple[float, float]:
    """Half the squared error, for regression.

    value = (p - y)^2 / 2, derivative = p - y (Bottou, 2010, Table 1, Adaline).

    Parameters
    ----------
    p : float
        Prediction.
    y : float
        Target.

    Returns
    -------
    value, derivative : float
        The loss and its derivative with respect to `p`.

    Examples
    --------
    >>> squared_error(5.0, 2.0)
    (4.5, 3.0)
    """
    r = p - y
    return 0.5 * r * r, r


def log_loss(p: float, y: float) -> tuple[float, float]:
    """Logistic loss, for binary classification (logistic regression).

    With the margin z = y p: value = log(1 + exp(-z)), derivative = -y / (1 + exp(z))
    (Hastie et al., 2009, eq. 10.18, at p = 2 f).

    Only exponentials of negative numbers are taken, so that nothing overflows and no digit is lost
    for whatever z (the same end as Mächler, 2012, eq. 10): for z < 0,
    log(1 + exp(-z)) = -z + log(1 + exp(z)) and 1 / (1 + exp(z)) is fine as it is.

    Parameters
    ----------
    p : float
        Prediction, the log-odds of the positive class.
    y : float
        Target, -1 or +1.

    Returns
    -------
    value, derivative : float
        The loss and its derivative with respect to `p`.

    Examples
    --------
    >>> value, derivative = log_loss(0.0, 1.0)
    >>> round(value, 6), derivative
    (0.693147, -0.5)
    >>> log_loss(-1e6, 1.0)
    (1000000.0, -1.0)
    """
    z = y * p
    e = math.exp(-abs(z))
    if z >= 0:
        return math.log1p(e), -y * e / (1.0 + e)
    return math.log1p(e) - z, -y / (1.0 + e)


def hinge(p: float, y: float) -> tuple[float, float]:
    """Hinge loss, for binary classification (support vector machines).

    With the margin z = y p: value = max(0, 1 - z) (Shalev-Shwartz et al., 2007, eq. 2),
    derivative = -y where z <= 1, else 0. At the corner z = 1, where any number from -y to 0 is a
    subgradient, this takes -y, as scikit-learn does.

    Parameters
    ----------
    p : float
        Prediction.
    y : float
        Target, -1 or +1.

    Returns
    -------
    value, derivative : float
        The loss and its (sub)derivative with respect to `p`.

    Examples
    --------
    >>> hinge(0.25, 1.0)
    (0.75, -1.0)
    >>> hinge(-3.0, -1.0)
    (0.0, 0.0)
    """
    z = y * p
    return (1.0 - z, -y) if z <= 1.0 else (0.0, 0.0)


def huber(p: float, y: float, epsilon: float = 0.1) -> tuple[float, float]:
    """Huber loss, for regression with outliers.

    With the residual r = p - y: value = r^2 / 2 and derivative = r where abs(r) <= epsilon, else
    value = epsilon (abs(r) - epsilon / 2) and derivative = epsilon sign(r)
    (Huber, 1964; Hastie et al., 2009, eq. 10.23, halved).

    Parameters
    ----------
    p : float
        Prediction.
    y : float
        Target.
    epsilon : float, default=0.1
        Where the square gives way to the straight line, in the unit of `y`.

    Returns
    -------
    value, derivative : float
        The loss and its derivative with respect to `p`.

    Examples
    --------
    >>> huber(2.5, 2.0, epsilon=1.0)
    (0.125, 0.5)
    >>> huber(-2.0, 2.0, epsilon=1.0)
    (3.5, -1.0)
    """
    r = p - y
    if abs(r) <= epsilon:
        return 0.5 * r * r, r
    return epsilon * (abs(r) - 0.5 * epsilon), math.copysign(epsilon, r)


LOSSES: dict[str, Loss] = {
    "squared_error": squared_error,
    "log_loss": log_loss,
    "hinge": hinge,
    "huber": huber,
}
"""The losses by name."""


# ---- update rules: change param and state in place, given the gradient ---------------------------


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
    if maximize:
        grad = [-g for g in grad]
    if weight_decay != 0:
        grad = [g + weight_decay * p for g, p in zip(grad, param, strict=True)]
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


def adam(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Take one step of Adam, as torch.optim.Adam (Kingma and Ba, 2015, Algorithm 1).

    Moving averages of the gradient, m <- beta1 m + (1 - beta1) g, and of its square,
    v <- beta2 v + (1 - beta2) g^2, start at zero and are therefore too small at first; divided by
    1 - beta^t they are not. Then param <- param - lr m^ / (sqrt(v^) + eps).

    Parameters
    ----------
    param : list of float
        The parameters, updated in place.
    grad : sequence of float
        The gradient, as long as `param`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"exp_avg"`` (m) and ``"exp_avg_sq"`` (v),
        created on first use. Start with an empty one.
    t : int
        Number of this step, from 1 on.
    lr : float, default=1e-3
        Learning rate; about the largest change of a parameter in one step.
    beta1 : float, default=0.9
        Memory of the average gradient.
    beta2 : float, default=0.999
        Memory of the average squared gradient.
    eps : float, default=1e-8
        Keeps the division sane where gradients are tiny.
    weight_decay : float, default=0
        Adds ``weight_decay * param`` to the gradient (L2 regularisation).
    maximize : bool, default=False
        Climb instead of descend.

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
    if maximize:
        grad = [-g for g in grad]
    if weight_decay != 0:
        grad = [g + weight_decay * p for g, p in zip(grad, param, strict=True)]
    m = state.get("exp_avg", [0.0] * len(param))
    v = state.get("exp_avg_sq", [0.0] * len(param))
    m = [beta1 * mi + (1 - beta1) * g for mi, g in zip(m, grad, strict=True)]
    v = [beta2 * vi + (1 - beta2) * g * g for vi, g in zip(v, grad, strict=True)]
    state["exp_avg"], state["exp_avg_sq"] = m, v

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
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
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
        What the rule remembers, updated in place: ``"exp_avg"`` and ``"exp_avg_sq"``, created on
        first use. Start with an empty one.
    t : int
        Number of this step, from 1 on.
    lr, beta1, beta2, eps, maximize
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
    param[:] = [(1 - lr * weight_decay) * p for p in param]
    adam(param, grad, state, t, lr=lr, beta1=beta1, beta2=beta2, eps=eps, maximize=maximize)


RULES: dict[str, Rule] = {"sgd": sgd, "adam": adam, "adamw": adamw}
"""The update rules by name."""


# ---- schedules: hyper-parameters -> (number of the update, from 1 on -> learning rate) -----------


def constant(eta0: float) -> Schedule:
    """Keep the learning rate at eta0.

    Parameters
    ----------
    eta0 : float
        Learning rate.

    Returns
    -------
    callable
        Number of the update (from 1 on) to learning rate.

    Examples
    --------
    >>> constant(0.5)(1000)
    0.5
    """
    return lambda t: eta0


def invscaling(eta0: float, power_t: float = 0.5) -> Schedule:
    """Let the learning rate fall as eta0 / t^power_t.

    Stochastic approximation converges for 1/2 < power_t <= 1 (Robbins and Monro, 1951), and with
    averaging for slower rates as well (Polyak and Juditsky, 1992).

    Parameters
    ----------
    eta0 : float
        Learning rate of the first update.
    power_t : float, default=0.5
        How fast it falls.

    Returns
    -------
    callable
        Number of the update (from 1 on) to learning rate.

    Examples
    --------
    >>> rate = invscaling(0.5)
    >>> rate(1), rate(4), rate(100)
    (0.5, 0.25, 0.05)
    """
    return lambda t: eta0 / t**power_t


def optimal(alpha: float, loss: str = "hinge") -> Schedule:
    """Let the learning rate fall as 1 / (alpha (t0 + t - 1)), scikit-learn's ``"optimal"``.

    This is eta0 / (1 + eta0 alpha (t - 1)), the fastest fall that suits a strongly convex objective
    (Bottou, 2012), where t0 = 1 / (eta0 alpha) is chosen so that the first updates are of the size
    of the weights one expects, typw = alpha^(-1/4): eta0 = typw / max(1, loss'(p=-typw, y=1)).

    Parameters
    ----------
    alpha : float
        Strength of the regularisation; greater than zero.
    loss : str, default="hinge"
        Name of the loss.

    Returns
    -------
    callable
        Number of the update (from 1 on) to learning rate.

    Examples
    --------
    >>> rate = optimal(1e-4)
    >>> round(rate(1), 9), round(rate(10_001), 9)
    (10.0, 0.909090909)
    """
    typw = math.sqrt(1.0 / math.sqrt(alpha))
    _, derivative = LOSSES[loss](-typw, 1.0)
    eta0 = typw / max(1.0, derivative)
    t0 = 1.0 / (eta0 * alpha)
    return lambda t: 1.0 / (alpha * (t0 + t - 1))


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "invscaling": invscaling,
    "optimal": optimal,
}
"""The schedules by name."""


# ---- sampler: the order in which rows are used ---------------------------------------------------


def xorshift32(seed: int) -> int:
    """Return the next state of a 32-bit xorshift generator.

    Marsaglia (2003), shifts 13, 17, 5. Zero, from which it would never get away, counts as 1.

    Parameters
    ----------
    seed : int
        State, 0 <= seed < 2^32.

    Returns
    -------
    int
        The next state, 0 < state < 2^32.

    Examples
    --------
    >>> xorshift32(1)
    270369
    >>> xorshift32(xorshift32(0))
    67634689
    """
    seed = seed or 1
    seed ^= seed << 13 & 0xFFFFFFFF
    seed ^= seed >> 17
    seed ^= seed << 5 & 0xFFFFFFFF
    return seed


def shuffle(order: list[int], seed: int) -> None:
    """Shuffle a list in place, exactly as scikit-learn's SGD shuffles its rows.

    Each place from the first on is swapped with itself or a later one, drawn at random
    (Durstenfeld, 1964). The same seed gives the same permutation of places; training uses one seed
    for all epochs and gets new orders because it shuffles what the epoch before has left.

    Parameters
    ----------
    order : list of int
        What to shuffle.
    seed : int
        Seed, 0 <= seed < 2^32.

    Examples
    --------
    >>> order = [0, 1, 2, 3, 4, 5]
    >>> shuffle(order, seed=7)
    >>> order
    [3, 1, 5, 4, 2, 0]
    >>> shuffle(order, seed=7)
    >>> order
    [4, 1, 0, 2, 5, 3]
    """
    n = len(order)
    for i in range(n - 1):
        seed = xorshift32(seed)
        j = i + seed % 2**31 % (n - i)
        order[i], order[j] = order[j], order[i]


def rows(order: Sequence[int], block: int, n: int) -> Iterator[int]:
    """Yield the rows of one epoch, block by block.

    Block number k holds the neighbouring rows k block, k block + 1, ...; the last may be shorter.
    Rows of a block stay together and in order: reading memory in stretches is several times as fast
    as hopping, and shuffled blocks are nearly as good for training as shuffled rows
    (Xu et al., 2022). With block = 1 this is `order` itself.

    Parameters
    ----------
    order : sequence of int
        Block numbers, each of 0 ... ceil(n / block) - 1 once.
    block : int
        Rows in a block.
    n : int
        Rows in all.

    Yields
    ------
    int
        Index of a row; each of 0 ... n - 1 once.

    Examples
    --------
    >>> list(rows([2, 0, 1], block=3, n=8))
    [6, 7, 0, 1, 2, 3, 4, 5]
    """
    for number in order:
        yield from range(number * block, min((number + 1) * block, n))


# ---- linear model --------------------------------------------------------------------------------


def linear_prediction(x: Sequence[float], w: Sequence[float], b: float) -> float:
    """Predict with a linear model: x . w + b.

    Parameters
    ----------
    x : sequence of float
        One row of data.
    w : sequence of float
        Weights, as long as `x`.
    b : float
        Intercept.

    Returns
    -------
    float
        The prediction.

    Examples
    --------
    >>> linear_prediction([1.0, 2.0], [10.0, 100.0], 0.5)
    210.5
    """
    return sum(xj * wj for xj, wj in zip(x, w, strict=True)) + b


def _loss_function(loss: str, epsilon: float) -> Loss:
    """Return the loss of that name as a function of prediction and target alone."""
    return (lambda p, y: huber(p, y, epsilon)) if loss == "huber" else LOSSES[loss]


def linear_gradient(
    X: Sequence[Sequence[float]],
    y: Sequence[float],
    w: Sequence[float],
    b: float,
    rows: Sequence[int],
    loss: str,
    *,
    epsilon: float = 0.1,
    sample_weight: Sequence[float] | None = None,
) -> tuple[float, Vector, float]:
    """Mean loss of a linear model over some rows, and its gradient.

    By the chain rule, with p_i = x_i . w + b and s_i the weight of row i, the gradient is the mean
    over the rows of s_i loss'(p_i, y_i) x_i, and of s_i loss'(p_i, y_i) for the intercept
    (Bottou, 2010, section 2.1). Regularisation is not in it.

    Parameters
    ----------
    X : sequence of sequence of float, shape (n_samples, n_features)
        Data.
    y : sequence of float, shape (n_samples,)
        Targets; -1 or +1 for the losses of classification.
    w : sequence of float, shape (n_features,)
        Weights.
    b : float
        Intercept.
    rows : sequence of int
        The rows to use: a batch.
    loss : str
        Name of the loss.
    epsilon : float, default=0.1
        Where the Huber loss turns straight.
    sample_weight : sequence of float, shape (n_samples,), optional
        Weight of each row, 1 by default. The mean divides by the number of rows all the same.

    Returns
    -------
    value : float
        Mean weighted loss.
    gradient_w : list of float, shape (n_features,)
        Its gradient with respect to the weights.
    gradient_b : float
        Its gradient with respect to the intercept.

    Examples
    --------
    >>> X, y = [[1.0, 0.0], [0.0, 2.0]], [1.0, -1.0]
    >>> linear_gradient(X, y, [0.0, 0.0], 0.0, [0, 1], "squared_error")
    (0.5, [-0.5, 1.0], 0.0)
    """
    value_and_derivative = _loss_function(loss, epsilon)
    value = gradient_b = 0.0
    gradient_w = [0.0] * len(w)
    for i in rows:
        loss_value, derivative = value_and_derivative(linear_prediction(X[i], w, b), y[i])
        if sample_weight is not None:
            loss_value *= sample_weight[i]
            derivative *= sample_weight[i]
        value += loss_value
        gradient_b += derivative
        gradient_w = [g + derivative * xj for g, xj in zip(gradient_w, X[i], strict=True)]
    m = len(rows)
    return value / m, [g / m for g in gradient_w], gradient_b / m


def linear_step(
    w: Vector,
    b: Vector,
    gradient_w: Sequence[float],
    gradient_b: float,
    state: tuple[State, State],
    t: int,
    *,
    lr: float,
    alpha: float = 0.0,
    optimizer: str | tuple[str, dict[str, float]] = "sgd",
    fit_intercept: bool = True,
) -> None:
    """Update a linear model in place, given the gradient of the data term.

    The objective is mean loss + alpha/2 ||w||^2. Its gradient, that of the data term + alpha w for
    the weights and without regularisation for the intercept, goes through the update rule.

    Plain sgd does the same step in scikit-learn's form, w <- max(0, 1 - lr alpha) w - lr gradient:
    a regularisation too strong for the learning rate takes the weights to zero, not beyond.

    A ``weight_decay`` among the hyper-parameters of the rule (AdamW has one by default) comes on
    top of alpha and applies to all that the rule updates, the intercept included.

    Parameters
    ----------
    w : list of float, shape (n_features,)
        Weights, updated in place.
    b : list of float, shape (1,)
        Intercept, updated in place.
    gradient_w, gradient_b
        As from `linear_gradient`.
    state : tuple of two dicts
        What the rule remembers of the weights and of the intercept, updated in place.
    t : int
        Number of this update, from 1 on.
    lr : float
        Learning rate.
    alpha : float, default=0
        Strength of the L2 regularisation.
    optimizer : str or (str, dict), default="sgd"
        Name of the rule, or that and its hyper-parameters but for lr.
    fit_intercept : bool, default=True
        Whether to update the intercept.

    Examples
    --------
    >>> w, b = [1.0, -1.0], [0.0]
    >>> linear_step(w, b, [2.0, 0.0], 1.0, ({}, {}), 1, lr=0.25, alpha=1.0)
    >>> w, b
    ([0.25, -0.75], [-0.25])
    """
    name, options = (optimizer, {}) if isinstance(optimizer, str) else optimizer
    plain = name == "sgd" and not any(
        options.get(key) for key in ("momentum", "weight_decay", "maximize")
    )
    rule = RULES[name]
    if plain:
        scale = max(0.0, 1.0 - lr * alpha)
        w[:] = [scale * wj - lr * g for wj, g in zip(w, gradient_w, strict=True)]
    else:
        gradient_w = [g + alpha * wj for wj, g in zip(w, gradient_w, strict=True)]
        rule(w, gradient_w, state[0], t, lr=lr, **options)
    if fit_intercept:
        rule(b, [gradient_b], state[1], t, lr=lr, **options)


# `train_linear` has an argument called shuffle, as the estimators have
_shuffle = shuffle


def train_linear(
    X: Sequence[Sequence[float]],
    y: Sequence[float],
    w: Sequence[float],
    b: float,
    *,
    loss: str,
    epsilon: float = 0.1,
    penalty: str | None = "l2",
    alpha: float = 1e-4,
    fit_intercept: bool = True,
    max_iter: int = 1,
    tol: float | None = None,
    n_iter_no_change: int = 5,
    shuffle: bool | str = True,
    seed: int = 1,
    block: int = BLOCK,
    learning_rate: str = "constant",
    eta0: float = 0.01,
    power_t: float = 0.5,
    batch_size: int = 1,
    optimizer: str | tuple[str, dict[str, float]] = "sgd",
    sample_weight: Sequence[float] | None = None,
    t: int = 0,
    state: tuple[State, State] | None = None,
) -> tuple[Vector, float, Vector]:
    """Train a linear model: the whole loop.

    For each epoch: put the rows in order, cut them into batches (the last may be smaller), and for
    each batch compute the gradient (`linear_gradient`) and update (`linear_step`). With batch size
    1 and plain sgd this is scikit-learn's SGDClassifier and SGDRegressor, but for two details:
    scikit-learn cuts loss derivatives off at 1e12, and it counts the regularisation of its
    objective row by row, not at the end of the epoch. Diverging training gives inf and nan here.

    Parameters
    ----------
    X : sequence of sequence of float, shape (n_samples, n_features)
        Data.
    y : sequence of float, shape (n_samples,)
        Targets; -1 or +1 for the losses of classification.
    w : sequence of float, shape (n_features,)
        Weights to start from; left as they are.
    b : float
        Intercept to start from.
    loss : str
        Name of the loss, a key of `LOSSES`.
    epsilon : float, default=0.1
        Where the Huber loss turns straight.
    penalty : {"l2", None}, default="l2"
        Whether to regularise.
    alpha : float, default=1e-4
        Strength of the regularisation; the schedule ``"optimal"`` depends on it too.
    fit_intercept : bool, default=True
        Whether to train the intercept.
    max_iter : int, default=1
        Epochs, at most.
    tol : float, optional
        Stop after `n_iter_no_change` epochs in a row whose objective is not below the best so far
        by `tol`. By default all epochs are done.
    n_iter_no_change : int, default=5
        See `tol`.
    shuffle : {True, False, "block"}, default=True
        Order of the rows: a new one for each epoch, as they are, or blocks of neighbours in a new
        order for each epoch.
    seed : int, default=1
        Seed of the shuffling, 0 <= seed < 2^32.
    block : int, default=BLOCK
        Rows in a block, for ``shuffle="block"``.
    learning_rate : {"constant", "invscaling", "optimal"}, default="constant"
        Name of the schedule, a key of `SCHEDULES`.
    eta0 : float, default=0.01
        Learning rate at the start, for constant and invscaling.
    power_t : float, default=0.5
        Exponent of invscaling.
    batch_size : int, default=1
        Rows in a batch.
    optimizer : str or (str, dict), default="sgd"
        Name of the update rule, a key of `RULES`, or that and its hyper-parameters but for lr.
    sample_weight : sequence of float, shape (n_samples,), optional
        Weight of each row, 1 by default.
    t : int, default=0
        Updates done before: the schedule goes on from there.
    state : tuple of two dicts, optional
        What the rule remembers of the weights and of the intercept, updated in place. To go on with
        a training, give it the tuple of the time before, and `t`.

    Returns
    -------
    w : list of float, shape (n_features,)
        Trained weights.
    b : float
        Trained intercept.
    loss_curve : list of float, shape (n_epochs,)
        The objective of each epoch: the mean over the rows of the weighted loss, each at the time
        when the row is used, before the update, + alpha/2 ||w||^2 at the end of the epoch.

    Examples
    --------
    Learn y = 2 x - 1 from five points:

    >>> X = [[-2.0], [-1.0], [0.0], [1.0], [2.0]]
    >>> y = [2.0 * x - 1.0 for (x,) in X]
    >>> w, b, loss_curve = train_linear(
    ...     X, y, [0.0], 0.0, loss="squared_error", penalty=None, eta0=0.1, max_iter=50
    ... )
    >>> round(w[0], 3), round(b, 3), len(loss_curve)
    (2.0, -1.0, 50)
    """
    n = len(X)
    schedule_options: dict[str, tuple[float | str, ...]] = {
        "constant": (eta0,),
        "invscaling": (eta0, power_t),
        "optimal": (alpha, loss),
    }
    schedule = SCHEDULES[learning_rate](*schedule_options[learning_rate])
    decay = alpha if penalty == "l2" else 0.0
    block = block if shuffle == "block" else 1
    order = list(range(math.ceil(n / block)))
    state = ({}, {}) if state is None else state

    w, bias = list(w), [b]
    loss_curve: Vector = []
    best, epochs_without_progress = math.inf, 0
    for _ in range(max_iter):
        if shuffle:
            _shuffle(order, seed)
        visit = list(rows(order, block, n))
        loss_sum = 0.0
        for start in range(0, n, batch_size):
            batch = visit[start : start + batch_size]
            value, gradient_w, gradient_b = linear_gradient(
                X, y, w, bias[0], batch, loss, epsilon=epsilon, sample_weight=sample_weight
            )
            loss_sum += value * len(batch)
            t += 1
            linear_step(
                w,
                bias,
                gradient_w,
                gradient_b,
                state,
                t,
                lr=schedule(t),
                alpha=decay,
                optimizer=optimizer,
                fit_intercept=fit_intercept,
            )
        objective = loss_sum / n + 0.5 * decay * sum(wj * wj for wj in w)
        loss_curve.append(objective)

        # scikit-learn's rule to stop: no progress by tol for some epochs in a row
        if tol is not None and objective > best - tol:
            epochs_without_progress += 1
        else:
            epochs_without_progress = 0
        best = min(best, objective)
        if epochs_without_progress >= n_iter_no_change:
            break
    return w, bias[0], loss_curve
