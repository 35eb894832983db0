"""Rules that see a parameter as a whole: its norm, or the matrix that it is."""

import math
import sys
from collections.abc import Sequence

from ._common import State, Vector, descent, norm

Matrix = list[Vector]


# ---- the length of a step follows the length of the parameter ------------------------------------


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


def newton_schulz(
    g: Sequence[float],
    shape: tuple[int, int],
    *,
    coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    steps: int = 5,
    eps: float = 1e-7,
    normalize: bool = True,
) -> Vector:
    """Make the rows or columns of a matrix nearly orthonormal, by Newton-Schulz iteration.

    X <- g / max(|g|, eps) with the Frobenius norm, so that no singular value is above 1, then a few
    times X <- a X + (b A + c A A) X with A = X X'. Singular vectors stay; a singular value s
    becomes a s + b s^3 + c s^5, and with these coefficients all but the tiniest get to about
    0.7 to 1.2 in five steps (Jordan et al., 2024). A matrix with more rows than columns is
    transposed meanwhile, so that A is small.

    Parameters
    ----------
    g : sequence of float
        Elements of the matrix, row after row.
    shape : (int, int)
        Numbers of its rows and columns.
    coefficients : (float, float, float), default=(3.4445, -4.7750, 2.0315)
        a, b and c. With (15/8, -10/8, 3/8) the singular values converge to 1, slowly.
    steps : int, default=5
        How often to iterate.
    eps : float, default=1e-7
        Smallest norm to divide by.
    normalize : bool, default=True
        Divide by the norm; else it must be 1 at most.

    Returns
    -------
    list of float
        The elements of the result, row after row.

    Examples
    --------
    >>> [round(x, 3) for x in newton_schulz([3.0, 0.0, 0.0, -4.0], (2, 2))]
    [0.723, 0.0, 0.0, -1.119]
    >>> slow = newton_schulz(
    ...     [3.0, 0.0, 0.0, -4.0], (2, 2), coefficients=(15 / 8, -10 / 8, 3 / 8), steps=20
    ... )
    >>> [round(x, 3) for x in slow]
    [1.0, 0.0, 0.0, -1.0]
    """
    a, b, c = coefficients
    rows, cols = shape
    length = max(norm(g), eps) if normalize else 1.0
    X = [[g[i * cols + j] / length for j in range(cols)] for i in range(rows)]
    if rows > cols:
        X = _transpose(X)
    for _ in range(steps):
        A = _product(X, _transpose(X))
        B = _sum(b, A, c, _product(A, A))
        X = _sum(a, X, 1.0, _product(B, X))
    if rows > cols:
        X = _transpose(X)
    return [x for row in X for x in row]


def _transpose(A: Matrix) -> Matrix:
    """Return the matrix with rows for columns."""
    return [list(column) for column in zip(*A, strict=True)]


def _product(A: Matrix, B: Matrix) -> Matrix:
    """Return the matrix product A B."""
    columns = _transpose(B)
    return [
        [sum(x * y for x, y in zip(row, column, strict=True)) for column in columns] for row in A
    ]


def _sum(a: float, A: Matrix, b: float, B: Matrix) -> Matrix:
    """Return a A + b B."""
    return [
        [a * x + b * y for x, y in zip(row_a, row_b, strict=True)]
        for row_a, row_b in zip(A, B, strict=True)
    ]


def muon(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    shape: tuple[int, ...] | None = None,
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    eps: float = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: str | None = None,
    maximize: bool = False,
) -> None:
    """Take one step of Muon, momentum made orthonormal, as torch.optim.Muon (Jordan et al., 2024).

    buffer <- momentum buffer + (1 - momentum) grad, u = buffer, or with nesterov
    (1 - momentum) grad + momentum buffer, then with U = `newton_schulz` of u
    param <- (1 - lr weight_decay) param - rate U. Steps are thus about as large in all directions,
    however small the gradient is in some.

    The rate depends on the shape: lr sqrt(max(1, rows / cols)), "original", or
    lr 0.2 sqrt(max(rows, cols)), "match_rms_adamw", after which a step has the size of one of AdamW
    (Liu et al., 2025, eq. 4).

    torch iterates in bfloat16, which has three digits; this in float64.

    Parameters
    ----------
    param, grad, t, maximize
        As in `sgd`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"momentum_buffer"``. Start with an empty one.
    shape : tuple of int, optional
        Shape of the tensor of which `param` is the elements, the last axis running fastest, taken
        as the matrix of its first dimension and all others. One row by default. (torch refuses all
        but matrices.)
    lr : float, default=1e-3
        Learning rate.
    weight_decay : float, default=0.1
        Part of each parameter that decays in a step with learning rate 1.
    momentum : float, default=0.95
        Memory of the average gradient.
    nesterov : bool, default=True
        Look ahead.
    ns_coefficients, eps, ns_steps
        Those of `newton_schulz`.
    adjust_lr_fn : {None, "original", "match_rms_adamw"}, default=None
        How the rate depends on the shape; None is "original".

    Examples
    --------
    >>> param, state = [0.0, 0.0, 0.0, 0.0], {}
    >>> muon(param, [3.0, 0.0, 0.0, -4.0], state, 1, shape=(2, 2), lr=1.0)
    >>> [round(p, 3) for p in param]
    [-0.723, 0.0, 0.0, 1.119]
    """
    rows, cols = (1, len(param)) if shape is None else (shape[0], math.prod(shape[1:]))
    u = _muon_direction(descent(grad, param, 0.0, maximize), state, momentum, nesterov)
    U = newton_schulz(u, (rows, cols), coefficients=ns_coefficients, steps=ns_steps, eps=eps)
    if adjust_lr_fn == "match_rms_adamw":
        rate = lr * 0.2 * math.sqrt(max(rows, cols))
    else:
        rate = lr * math.sqrt(max(1.0, rows / cols))
    param[:] = [(1 - lr * weight_decay) * p - rate * x for p, x in zip(param, U, strict=True)]


def _muon_direction(g: Vector, state: State, momentum: float, nesterov: bool) -> Vector:
    """Move the average gradient on and return what Muon makes orthonormal."""
    buffer = state.setdefault("momentum_buffer", [0.0] * len(g))
    for i, gi in enumerate(g):
        buffer[i] = momentum * buffer[i] + (1 - momentum) * gi
    if not nesterov:
        return buffer
    return [(1 - momentum) * gi + momentum * m for gi, m in zip(g, buffer, strict=True)]


def musgd(
    param: Vector,
    grad: Sequence[float],
    state: State,
    t: int,
    *,
    shape: tuple[int, ...] | None = None,
    lr: float = 1e-3,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    use_muon: bool = False,
    muon: float = 0.5,
    sgd: float = 0.5,
    maximize: bool = False,
) -> None:
    """Take one step of MuSGD, Muon and then SGD, as ultralytics.optim.MuSGD (YOLO26, 2025).

    With `use_muon`, first param <- param - lr muon scale U, where U is `newton_schulz` of what
    `muon` takes, a tensor being the matrix of its first dimension and all others, and
    scale = sqrt(max(1, s / t)) with s and t the last two dimensions of the tensor. Then SGD with
    momentum and the rate lr sgd, whose g = grad + weight_decay param sees the parameter as it is
    now. What has fewer than two dimensions takes the second half only.

    Without `use_muon`, SGD with the rate lr.

    (Ultralytics iterates in bfloat16, this in float64; and it divides by the norm + 1e-7.)

    Parameters
    ----------
    param, grad, t, maximize
        As in `sgd`.
    state : dict of str to list of float
        What the rule remembers, updated in place: ``"momentum_buffer"``, and with `use_muon`
        ``"momentum_buffer_SGD"``. Start with an empty one.
    shape : tuple of int, optional
        Shape of the tensor of which `param` is the elements, the last axis running fastest. A
        vector by default.
    lr : float, default=1e-3
        Learning rate.
    momentum : float, default=0
        Memory of the average gradient and of the sum of gradients.
    weight_decay : float, default=0
        Strength of the L2 penalty in the second half.
    nesterov : bool, default=False
        Look ahead.
    use_muon : bool, default=False
        Whether there is a first half.
    muon, sgd : float, default=0.5
        Parts of the rate in the two halves.

    Examples
    --------
    >>> param, state = [0.0, 0.0, 0.0, 0.0], {}
    >>> musgd(param, [3.0, 0.0, 0.0, -4.0], state, 1, shape=(2, 2), lr=1.0, use_muon=True)
    >>> [round(p, 3) for p in param]
    [-1.861, 0.0, 0.0, 2.56]
    """
    g = descent(grad, param, 0.0, maximize)
    rate = lr
    name = "momentum_buffer"
    if use_muon:
        if shape is not None and len(shape) >= 2:
            u = _muon_direction(g, state, momentum, nesterov)
            length = norm(u) + 1e-7
            matrix = (shape[0], math.prod(shape[1:]))
            U = newton_schulz([x / length for x in u], matrix, normalize=False)
            scale = math.sqrt(max(1.0, shape[-2] / shape[-1]))
            param[:] = [p - lr * muon * scale * x for p, x in zip(param, U, strict=True)]
        state.setdefault("momentum_buffer", [0.0] * len(param))
        rate *= sgd
        name = "momentum_buffer_SGD"
    buffer = state.setdefault(name, [0.0] * len(param))
    g = [gi + weight_decay * p for gi, p in zip(g, param, strict=True)]
    for i, gi in enumerate(g):
        buffer[i] = momentum * buffer[i] + gi
        param[i] -= rate * (gi + momentum * buffer[i] if nesterov else buffer[i])
