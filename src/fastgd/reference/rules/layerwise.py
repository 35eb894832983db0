"""Rules that see a parameter as a whole: the length of a step follows that of the parameter."""

import math
import sys
from collections.abc import Sequence

from ._common import State, Vector, descent, norm


def lars(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    trust_coefficient: float = 1e-3,
    eps: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> None:
    """Take one step of LARS, layer-wise scaled momentum, as optax.lars.

    With u = grad + weight_decay param and Euclidean norms, the trust ratio is
    r = trust_coefficient |param| / (|u| + eps), or 1 where one of the two is zero. Then, the
    learning rate inside, buffer <- momentum buffer + lr r u and param <- param - buffer; with
    nesterov param <- param - (lr r u + momentum buffer).

    (You et al., 2017, Algorithm 1, but for the denominator, which in the paper is
    |grad| + weight_decay |param|.)

    Parameters
    ----------
    param, grad, t, maximize
        As in `sgd`. `param` is one layer: weights of one matrix, or biases.
    state : dict of str to list of float
        What the rule remembers, updated in place: with momentum ``"momentum_buffer"``. Start with
        an empty one.
    lr : float, default=0.1
        Learning rate, on top of the trust ratio. (optax has no default.)
    momentum : float, default=0.9
        How much of the speed is kept from step to step.
    weight_decay : float, default=0
        Adds ``weight_decay * param`` to the gradient.
    trust_coefficient : float, default=1e-3
        The length of a step for each unit of the parameter's length.
    eps : float, default=0
        Keeps the ratio small where gradients are tiny.
    nesterov : bool, default=False
        Look ahead.

    Examples
    --------
    A parameter of length 5, a gradient of length 10:

    >>> param, state = [3.0, 4.0], {}
    >>> lars(param, [10.0, 0.0], state, 1, lr=0.5, trust_coefficient=0.125)
    >>> param, state
    ([2.6875, 4.0], {'momentum_buffer': [0.3125, 0.0]})
    """
    u = descent(grad, param, weight_decay, maximize)
    param_norm, update_norm = norm(param), norm(u)
    ratio = 1.0
    if param_norm != 0 and update_norm != 0:
        ratio = trust_coefficient * param_norm / (update_norm + eps)
    buffer = [0.0] * len(param)
    if momentum != 0:
        buffer = state.setdefault("momentum_buffer", buffer)
    for i, ui in enumerate(u):
        step = lr * ratio * ui
        buffer[i] = momentum * buffer[i] + step
        param[i] -= step + momentum * buffer[i] if nesterov else buffer[i]


def lamb(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    eps_root: float = 0.0,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Take one step of LAMB, layer-wise scaled Adam, as optax.lamb (You et al., 2020, Algorithm 2).

    With m^ and v^ as in `adam`, u = m^ / (sqrt(v^ + eps_root) + eps) + weight_decay param and
    param <- param - lr |param| / |u| u, with Euclidean norms, or - lr u where one of the two is
    zero. (The paper's phi is the identity here; its v^ has no eps_root.)

    Parameters
    ----------
    param, grad, t, maximize
        As in `adam`. `param` is one layer: weights of one matrix, or biases.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"exp_avg"`` (m) and ``"exp_avg_sq"`` (v). Start
        with an empty one.
    lr : float, default=1e-3
        Learning rate: the length of a step for each unit of the parameter's length. (optax has no
        default; this is the usual one.)
    betas : (float, float), default=(0.9, 0.999)
        Memory of the average gradient and of the average squared gradient.
    eps : float, default=1e-6
        Keeps the division sane where gradients are tiny, outside the root.
    eps_root : float, default=0
        The same inside the root.
    weight_decay : float, default=0
        How much of the parameter is added to the direction of the step.

    Examples
    --------
    Adam would go the same way along both, here by a tenth of the parameter's length in all:

    >>> param, state = [3.0, 4.0], {}
    >>> lamb(param, [10.0, 1.0], state, 1, lr=0.1, eps=0.0)
    >>> [round(p, 6) for p in param]
    [2.646447, 3.646447]
    """
    beta1, beta2 = betas
    g = descent(grad, param, 0.0, maximize)
    m = state.setdefault("exp_avg", [0.0] * len(param))
    v = state.setdefault("exp_avg_sq", [0.0] * len(param))
    u = [0.0] * len(param)
    for i, gi in enumerate(g):
        m[i] = beta1 * m[i] + (1 - beta1) * gi
        v[i] = beta2 * v[i] + (1 - beta2) * gi * gi
        m_hat, v_hat = m[i] / (1 - beta1**t), v[i] / (1 - beta2**t)
        u[i] = m_hat / (math.sqrt(v_hat + eps_root) + eps) + weight_decay * param[i]
    param_norm, update_norm = norm(param), norm(u)
    ratio = 1.0 if param_norm == 0 or update_norm == 0 else param_norm / update_norm
    param[:] = [p - lr * ratio * ui for p, ui in zip(param, u, strict=True)]


# ---- matrices: rows of `param`, one after the other ----------------------------------------------


def adafactor(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    shape: tuple[int, ...] | None = None,
    lr: float = 1e-2,
    beta2_decay: float = -0.8,
    eps: tuple[float | None, float] = (None, 1e-3),
    d: float = 1.0,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> None:
    """Take one step of Adafactor, as torch.optim.Adafactor (Shazeer and Stern, 2018).

    Of a matrix only the mean squares of its rows and of its columns are remembered, averaged with
    beta2 = 1 - t^beta2_decay (section 7.2), and v, the mean square of each gradient, is estimated
    as row col / mean(row) (Algorithm 4); of a vector it is remembered itself (Algorithm 5). A
    tensor is a stack of matrices, its last two axes.

    The step u = grad / sqrt(max(v, eps1^2)) is shortened to a root mean square of d (section 6) and
    follows the size of the parameter (section 8): with RMS the root mean square,

    param <- (1 - lr weight_decay) param - rho max(eps2, RMS(param)) u / max(1, RMS(u) / d) where
    rho = min(lr, 1 / sqrt(t)) and RMS(param) is that before the decay.

    (The paper adds eps1 to grad^2 where torch cuts off, and it has no weight decay. The mean of the
    rows, by which torch divides, is at least eps1.)

    Parameters
    ----------
    param, grad, maximize
        As in `sgd`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"row_var"`` and ``"col_var"``, for each matrix
        of the stack as many numbers as it has rows and columns, or for a vector ``"variance"``.
        Start with an empty one.
    t : int
        Number of this step, from 1 on.
    shape : tuple of int, optional
        Shape of the tensor of which `param` is the elements, the last axis running fastest. A
        vector by default.
    lr : float, default=1e-2
        Largest learning rate.
    beta2_decay : float, default=-0.8
        How fast the averages get a longer memory.
    eps : (float or None, float), default=(None, 1e-3)
        Smallest root mean square of a gradient and of a parameter. None is the distance from 1 to
        the next number of the parameter's type, here float64.
    d : float, default=1
        Largest root mean square of a step.
    weight_decay : float, default=0
        Part of each parameter that decays in a step with learning rate 1.

    Examples
    --------
    A matrix whose squares are rows times columns is remembered exactly:

    >>> param, state = [1.0, 1.0, 1.0, 1.0], {}
    >>> adafactor(param, [1.0, -2.0, 2.0, 4.0], state, 1, shape=(2, 2), lr=0.25)
    >>> param, state
    ([0.75, 1.25, 0.75, 0.75], {'row_var': [2.5, 10.0], 'col_var': [2.5, 10.0]})
    """
    g = descent(grad, param, 0.0, maximize)
    eps1 = sys.float_info.epsilon if eps[0] is None else eps[0]
    forget = t**beta2_decay
    step = min(lr, 1 / math.sqrt(t)) * max(eps[1], _root_mean_square(param))
    if weight_decay != 0:
        param[:] = [(1 - lr * weight_decay) * p for p in param]

    v = [0.0] * len(param)
    if shape is None or len(shape) < 2:
        variance = state.setdefault("variance", [0.0] * len(param))
        for i, gi in enumerate(g):
            v[i] = variance[i] = (1 - forget) * variance[i] + forget * gi * gi
    else:
        rows, cols = shape[-2:]
        stack = math.prod(shape[:-2])
        row_var = state.setdefault("row_var", [0.0] * (stack * rows))
        col_var = state.setdefault("col_var", [0.0] * (stack * cols))
        for k in range(stack if param else 0):
            first = k * rows * cols
            squares = [
                [g[first + i * cols + j] * g[first + i * cols + j] for j in range(cols)]
                for i in range(rows)
            ]
            for i in range(rows):
                mean = sum(squares[i]) / cols
                row_var[k * rows + i] = (1 - forget) * row_var[k * rows + i] + forget * mean
            for j in range(cols):
                mean = sum(squares[i][j] for i in range(rows)) / rows
                col_var[k * cols + j] = (1 - forget) * col_var[k * cols + j] + forget * mean
            mean_row = max(sum(row_var[k * rows : (k + 1) * rows]) / rows, eps1)
            for i in range(rows):
                for j in range(cols):
                    v[first + i * cols + j] = (
                        row_var[k * rows + i] * col_var[k * cols + j] / mean_row
                    )

    u = [gi / math.sqrt(max(vi, eps1 * eps1)) for gi, vi in zip(g, v, strict=True)]
    step /= max(1.0, _root_mean_square(u) / d)
    param[:] = [p - step * ui for p, ui in zip(param, u, strict=True)]


def _root_mean_square(x: Sequence[float]) -> float:
    """Return the root of the mean square, 0 of nothing."""
    return norm(x) / math.sqrt(len(x)) if x else 0.0
