"""What may be done to gradients before the update rule sees them, and to parameters afterwards.

Pure functions of lists of floats: the elements of an array of a given shape, row after row.
"""

import math
from collections.abc import Sequence

from .rules._common import Vector, norm


def units(x: Sequence[float], shape: Sequence[int]) -> list[Vector]:
    """Return the elements that share the first index; of 0 or 1 dimension, all are one unit."""
    count = shape[0] if len(shape) > 1 else 1
    length = len(x) // max(count, 1)
    return [list(x[k * length : (k + 1) * length]) for k in range(count)]


def centralize(grad: Sequence[float], shape: Sequence[int]) -> Vector:
    """Take from each unit its mean (Yong et al., 2020, eq. 1).

    Parameters
    ----------
    grad : sequence of float
        A gradient.
    shape : sequence of int
        Its shape; with fewer than two dimensions it stays as it is.

    Returns
    -------
    list of float

    Examples
    --------
    >>> centralize([1.0, 3.0, 5.0, 5.0], (2, 2))
    [-1.0, 1.0, 0.0, 0.0]
    """
    if len(shape) < 2:
        return list(grad)
    return [g - math.fsum(unit) / len(unit) for unit in units(grad, shape) for g in unit]


def adaptive_clip(
    param: Sequence[float],
    grad: Sequence[float],
    shape: Sequence[int],
    clipping: float,
    eps: float = 1e-3,
) -> Vector:
    """Clip each unit of a gradient by the parameter's (AGC: Brock et al., 2021, eq. 3).

    grad <- clipping max(||param||, eps) / ||grad|| grad, where that is shorter.

    Parameters
    ----------
    param, grad : sequence of float
        A parameter and its gradient.
    shape : sequence of int
        Their shape.
    clipping : float
        Largest norm of a unit's gradient for each unit of the parameter's norm.
    eps : float, default=1e-3
        The parameter's norm counts as at least this.

    Returns
    -------
    list of float

    Examples
    --------
    >>> adaptive_clip([2.0, 0.0, 1.0, 0.0], [3.0, 4.0, 0.1, 0.0], (2, 2), 0.5)
    [0.6000000000000001, 0.8, 0.1, 0.0]
    """
    clipped = []
    for p, g in zip(units(param, shape), units(grad, shape), strict=True):
        wanted, has = clipping * max(norm(p), eps), norm(g)
        factor = wanted / has if has > wanted else 1.0
        clipped += [factor * gi for gi in g]
    return clipped


def lookahead(param: Vector, slow: Vector, t: int, k: int, alpha: float) -> None:
    """Move the slow weights every k steps, and begin again there (Zhang et al., 2019, algorithm 1).

    slow <- slow + alpha (param - slow), param <- slow.

    Parameters
    ----------
    param, slow : list of float
        A parameter after step t, and its slow weights; updated in place.
    t : int
        Number of the step, from 1 on.
    k : int
        Steps of the parameter for one of the slow weights.
    alpha : float
        How far those go.

    Examples
    --------
    >>> param, slow = [4.0], [0.0]
    >>> lookahead(param, slow, 5, k=5, alpha=0.5)
    >>> param, slow
    ([2.0], [2.0])
    """
    if t % k == 0:
        slow[:] = [s + alpha * (p - s) for s, p in zip(slow, param, strict=True)]
        param[:] = slow


def box(x: Sequence[float], lower: float, upper: float) -> Vector:
    """Return the nearest vector between two bounds; `lower` 0, `upper` inf: without negatives.

    Examples
    --------
    >>> box([-3.0, 0.5, 2.0], -1.0, 1.0)
    [-1.0, 0.5, 1.0]
    """
    return [min(max(xi, lower), upper) for xi in x]


def l2_ball(x: Sequence[float], radius: float) -> Vector:
    """Return the nearest vector of Euclidean norm at most `radius`.

    Examples
    --------
    >>> l2_ball([3.0, 4.0], 2.5)
    [1.5, 2.0]
    """
    length = norm(x)
    return list(x) if length <= radius else [radius / length * xi for xi in x]


def simplex(x: Sequence[float], scale: float) -> Vector:
    """Return the nearest vector without negatives of sum `scale` (Duchi et al., 2008, fig. 1).

    The largest elements stay, each less the same theta: as many of them as stay positive.

    Examples
    --------
    >>> simplex([0.5, 1.0, -2.0], 1.0)
    [0.25, 0.75, 0.0]
    """
    total, theta = 0.0, 0.0
    for j, u in enumerate(sorted(x, reverse=True), 1):
        total += u
        if u - (total - scale) / j > 0:
            theta = (total - scale) / j
    return [max(xi - theta, 0.0) for xi in x]


def l1_ball(x: Sequence[float], radius: float) -> Vector:
    """Return the nearest vector of absolute sum at most `radius` (Duchi et al., 2008, section 4).

    Examples
    --------
    >>> l1_ball([-3.0, 0.5, 2.0], 2.0)
    [-1.5, 0.0, 0.5]
    """
    if sum(abs(xi) for xi in x) <= radius:
        return list(x)
    lengths = simplex([abs(xi) for xi in x], radius)
    return [math.copysign(length, xi) for length, xi in zip(lengths, x, strict=True)]
