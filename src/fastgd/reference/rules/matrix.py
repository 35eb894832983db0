"""Rules that make the matrix that a parameter is orthonormal."""

import math
from collections.abc import Sequence

from ._common import State, Vector, descent, norm

Matrix = list[Vector]


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
