"""L-BFGS with a line search: Nocedal and Wright, Numerical optimization, 2nd edition, 2006.

Equations and algorithms are those of the book; where it leaves a choice, torch.optim.LBFGS's.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from .rules import Vector

Evaluate = Callable[[Vector], tuple[float, Vector]]
Point = tuple[float, float, Vector, float]  # t; loss, gradient and slope there

C1, C2 = 1e-4, 0.9  # of the Wolfe conditions


def dot(x: Sequence[float], y: Sequence[float]) -> float:
    """Inner product of two vectors.

    Examples
    --------
    >>> dot([1.0, 2.0], [3.0, 4.0])
    11.0
    """
    return sum(a * b for a, b in zip(x, y, strict=True))


def axpy(a: float, x: Sequence[float], y: Sequence[float]) -> Vector:
    """Return a x + y.

    Examples
    --------
    >>> axpy(2.0, [1.0, 2.0], [0.5, 0.5])
    [2.5, 4.5]
    """
    return [a * p + q for p, q in zip(x, y, strict=True)]


def lbfgs_direction(
    grad: Sequence[float],
    steps: Sequence[Vector],
    changes: Sequence[Vector],
    h_diag: float,
) -> Vector:
    """Return -H grad: algorithm 7.4, the two-loop recursion.

    H is the inverse Hessian that is h_diag times the identity, updated by each pair of a step s and
    a change of the gradient y, eq. (7.16), oldest first.

    Parameters
    ----------
    grad : sequence of float
        The gradient.
    steps, changes : sequence of list of float
        The pairs s and y, oldest first.
    h_diag : float
        The diagonal of the matrix that H starts from.

    Examples
    --------
    On half the sum of 2 a**2 and 4 b**2, two steps along the axes tell the Hessian.

    >>> lbfgs_direction([8.0, 8.0], [[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 4.0]], 1.0)
    [-4.0, -2.0]
    """
    pairs = list(zip(steps, changes, strict=True))
    q = [-g for g in grad]
    al = []
    for s, y in reversed(pairs):
        al.append(dot(s, q) / dot(y, s))
        q = axpy(-al[-1], y, q)
    r = [h_diag * value for value in q]
    for (s, y), a in zip(pairs, reversed(al), strict=True):
        beta = dot(y, r) / dot(y, s)
        r = axpy(a - beta, s, r)
    return r


def cubic_minimum(a: Point, b: Point, low: float, high: float) -> float:
    """Minimum of the cubic with these values and slopes, eq. (3.59), in [low, high].

    Without a minimum the middle.

    Examples
    --------
    The cubic t**3 - 3 t falls from 0 with slope -3 and rises at 2.

    >>> cubic_minimum((0.0, 0.0, [], -3.0), (2.0, 2.0, [], 9.0), 0.0, 2.0)
    1.0
    """
    (x1, f1, _, g1), (x2, f2, _, g2) = sorted((a, b), key=lambda point: point[0])
    if x1 == x2:
        return (low + high) / 2
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = d1 * d1 - g1 * g2
    if square < 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    return min(max(x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2)), low), high)


def strong_wolfe(
    phi: Callable[[float], Point],
    start: Point,
    t: float,
    reach: float,
    tolerance_change: float = 1e-9,
    max_trials: int = 25,
) -> tuple[Point, int]:
    """Return a point that satisfies the strong Wolfe conditions, and how often phi was called.

    Sufficient decrease: phi(t) <= phi(0) + c1 t phi'(0), eq. (3.7a); small slope:
    abs(phi'(t)) <= c2 abs(phi'(0)), eq. (3.7b). Algorithm 3.5 goes on until there must be such a
    point between the last two, algorithm 3.6 shrinks this interval; both go where a cubic has its
    minimum. If they give up, the best end of the interval is returned.

    Parameters
    ----------
    phi : callable
        Returns ``(t, loss, gradient, slope)`` for a ``t``.
    start : tuple
        The same for 0; the slope is negative.
    t : float
        First guess.
    reach : float
        Largest absolute value in the direction: an interval is too small if no parameter would
        change by `tolerance_change`.
    tolerance_change : float, default=1e-9
        See `reach`.
    max_trials : int, default=25
        Calls of phi after the first, at most.

    Examples
    --------
    >>> start = (0.0, 4.0, [], -4.0)
    >>> (t, *_), calls = strong_wolfe(lambda t: (t, (t - 2)**2, [], 2 * (t - 2)), start, 9.0, 1.0)
    >>> t, calls
    (2.0, 2)
    """

    def too_high(point: Point) -> bool:
        return point[1] > start[1] + C1 * point[0] * start[3]

    def flat(point: Point) -> bool:
        return abs(point[3]) <= -C2 * start[3]

    before, new, trials = start, phi(t), 0
    while trials < max_trials:  # algorithm 3.5
        if too_high(new) or (trials > 1 and new[1] >= before[1]):
            break
        if flat(new):
            return new, trials + 1
        if new[3] >= 0:
            break
        t = cubic_minimum(before, new, new[0] + 0.01 * (new[0] - before[0]), 10 * new[0])
        before, new, trials = new, phi(t), trials + 1
    else:
        before = start

    def best_first(one: Point, other: Point) -> tuple[Point, Point]:
        return (one, other) if one[1] <= other[1] else (other, one)

    low, high = best_first(before, new)
    stuck = False
    while trials < max_trials and abs(high[0] - low[0]) * reach >= tolerance_change:  # 3.6
        left, right = sorted((low[0], high[0]))
        t, margin = cubic_minimum(low, high, left, right), 0.1 * (right - left)
        near = min(right - t, t - left) < margin
        if near and (stuck or not left < t < right):  # at an end, or near one for the second time
            t = right - margin if right - t < t - left else left + margin
            near = False
        stuck = near
        new, trials = phi(t), trials + 1
        if too_high(new) or new[1] >= low[1]:
            low, high = best_first(low, new)
        elif flat(new):
            return new, trials + 1
        else:
            low, high = new, low if new[3] * (high[0] - low[0]) >= 0 else high
    return low, trials + 1


def lbfgs(
    evaluate: Evaluate,
    param: Vector,
    state: dict[str, Any],
    *,
    lr: float = 1.0,
    max_iter: int = 20,
    max_eval: int | None = None,
    tolerance_grad: float = 1e-7,
    tolerance_change: float = 1e-9,
    history_size: int = 100,
    line_search_fn: str | None = None,
) -> float:
    """Take up to `max_iter` iterations of L-BFGS, as one step of torch.optim.LBFGS.

    Each goes along d = -H grad (`lbfgs_direction`), with the last `history_size` pairs
    s = x_{k+1} - x_k, y = grad_{k+1} - grad_k, eq. (7.18), whose y . s is not too small, and
    h_diag = y . s / y . y of the last of them, eq. (7.20). The first goes along -grad.

    Parameters
    ----------
    evaluate : callable
        Returns loss and gradient at a point.
    param : list of float
        The parameters, updated in place.
    state : dict
        What is remembered, by torch's names. Start with an empty one.
    lr : float, default=1
        Length of a step in units of d, or first guess of the line search; in the very first
        iteration times min(1, 1 / sum(abs(grad))).
    max_iter : int, default=20
        Iterations.
    max_eval : int, default=None
        Evaluations after which no iteration begins; None: 5/4 of `max_iter`.
    tolerance_grad, tolerance_change : float
        It ends where no element of the gradient is larger, or where the parameters or the loss
        changed by less.
    history_size : int, default=100
        Pairs that are remembered.
    line_search_fn : {None, "strong_wolfe"}, default=None
        None takes `lr` as it is.

    Returns
    -------
    float
        The loss before.

    Examples
    --------
    >>> param = [3.0, -1.0]
    >>> def bowl(p):
    ...     return p[0] ** 2 + 8 * p[1] ** 2, [2 * p[0], 16 * p[1]]
    >>> lbfgs(bowl, param, {}, line_search_fn="strong_wolfe")
    17.0
    >>> [round(abs(p), 3) for p in param]
    [0.0, 0.0]
    """
    max_eval = max_iter * 5 // 4 if max_eval is None else max_eval
    loss, grad = first, _ = evaluate(list(param))
    evaluations = 1
    state["n_iter"] = state.get("n_iter", 0)
    state["func_evals"] = state.get("func_evals", 0) + 1
    steps, changes = state.setdefault("old_stps", []), state.setdefault("old_dirs", [])
    for iteration in range(1, max_iter + 1):
        if max(map(abs, grad)) <= tolerance_grad:
            break
        state["n_iter"] += 1
        if state["n_iter"] == 1:
            state["H_diag"] = 1.0
            t = min(1.0, 1.0 / sum(map(abs, grad))) * lr
        else:
            s = [state["t"] * value for value in state["d"]]
            y = axpy(-1.0, state["prev_flat_grad"], grad)
            if dot(y, s) > 1e-10:
                steps.append(s)
                changes.append(y)
                del steps[:-history_size], changes[:-history_size]
                state["H_diag"] = dot(y, s) / dot(y, y)
            t = lr
        d = lbfgs_direction(grad, steps, changes, state["H_diag"])
        state |= {"d": d, "t": 0.0, "prev_flat_grad": grad, "prev_loss": loss}
        slope = dot(grad, d)
        if slope > -tolerance_change:
            break
        reach = max(map(abs, d))
        x = list(param)

        def phi(t: float, x: Vector = x, d: Vector = d) -> Point:
            value, gradient = evaluate(axpy(t, d, x))
            return t, value, gradient, dot(gradient, d)

        calls = 0
        if line_search_fn is not None:
            (t, loss, grad, _), calls = strong_wolfe(
                phi, (0.0, loss, grad, slope), t, reach, tolerance_change, max_eval - evaluations
            )
        elif iteration < max_iter:
            (_, loss, grad, _), calls = phi(t), 1
        param[:] = axpy(t, d, x)
        state["t"] = t
        evaluations += calls
        state["func_evals"] += calls
        if (
            evaluations >= max_eval
            or abs(t) * reach <= tolerance_change
            or abs(loss - state["prev_loss"]) < tolerance_change
        ):
            break
    return first
