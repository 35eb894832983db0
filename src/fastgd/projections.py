"""Projections: the nearest array of a set, for parameters that must stay in it.

Each function returns a small object that is called with an array and returns a new one, or writes
to `out`. It may be given to an optimizer as `projection`: projected gradient descent, which moves
each parameter back to its set after the update, before it is averaged. The objects compare equal
if their arguments do, print what they are, and can be pickled. An array counts as one vector,
whatever its shape.

=========================  ==============================  ===========================
function                   set                             optax.projections
=========================  ==============================  ===========================
``non_negative()``         0 <= x                          ``projection_non_negative``
``box(lower, upper)``      lower <= x <= upper             ``projection_box``
``l1_ball(radius)``        sum(abs(x)) <= radius           ``projection_l1_ball``
``l2_ball(radius)``        sqrt(sum(x**2)) <= radius       ``projection_l2_ball``
``simplex(scale)``         0 <= x, sum(x) = scale          ``projection_simplex``
=========================  ==============================  ===========================

References
----------
Duchi, Shalev-Shwartz, Singer, Chandra, "Efficient projections onto the l1-ball for learning in high
dimensions", ICML 2008 (`simplex`: figure 1; `l1_ball`: section 4).

Examples
--------
>>> import numpy as np
>>> from fastgd.optim import SGD
>>> from fastgd.projections import simplex
>>> mixture = np.full(3, 1 / 3)
>>> opt = SGD(mixture, lr=0.1, projection=simplex())
>>> opt.step(np.array([1.0, 2.0, 7.0]))
>>> mixture.round(3)
array([0.55, 0.45, 0.  ])
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ._hypers import Array, number

__all__ = ["Projection", "box", "l1_ball", "l2_ball", "non_negative", "simplex"]


class Projection:
    """What the functions here return."""

    bounds: tuple[float, float] = (-math.inf, math.inf)  # of each element by itself
    is_whole: ClassVar[bool] = False  # whether an element's projection depends on the others

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """Project an array.

        Parameters
        ----------
        x : ndarray
            float32 or float64, of any shape.
        out : ndarray, default=None
            Where to write the result, `x` itself perhaps; by default a new array.

        Returns
        -------
        ndarray
            `out`, of the shape and dtype of `x`.
        """
        if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
            raise TypeError(f"x must be an array of floating-point numbers; got {x!r:.80}")
        if out is None:
            out = np.empty_like(x)
        if out.size:
            out[...] = self._project(x)
        return out

    def _project(self, x: Array) -> Array:
        raise TypeError("a projection must be made by one of the functions of fastgd.projections")


@dataclass(frozen=True)
class _Box(Projection):
    bounds: tuple[float, float]

    def _project(self, x: Array) -> Array:
        with np.errstate(over="ignore"):  # a bound beyond float32 is none
            lower, upper = (x.dtype.type(bound) for bound in self.bounds)
        return np.clip(x, lower, upper)


@dataclass(frozen=True)
class _Simplex(Projection):
    scale: float
    is_whole: ClassVar[bool] = True

    def _project(self, x: Array) -> Array:
        return _onto_simplex(x.astype(np.float64), self.scale)


@dataclass(frozen=True)
class _L1Ball(Projection):
    radius: float
    is_whole: ClassVar[bool] = True

    def _project(self, x: Array) -> Array:
        lengths = np.abs(x.astype(np.float64))
        if np.sum(lengths) <= self.radius:
            return x
        return np.copysign(_onto_simplex(lengths, self.radius), x)


@dataclass(frozen=True)
class _L2Ball(Projection):
    radius: float
    is_whole: ClassVar[bool] = True

    def _project(self, x: Array) -> Array:
        wide = x.astype(np.float64)
        norm = math.sqrt(np.sum(np.square(wide)))
        return x if norm <= self.radius else wide * (self.radius / norm)


def _onto_simplex(x: Array, scale: float) -> Array:
    """Take from all elements what makes the sum of those that stay positive equal to `scale`.

    (Duchi et al., 2008, figure 1. Adding a number to all changes nothing; with 0 the largest, the
    sums stay exact where the elements are large.)
    """
    x = x - np.max(x)
    descending = np.sort(x, axis=None)[::-1]
    excess = (np.cumsum(descending) - scale) / np.arange(1, x.size + 1)
    stay = np.flatnonzero(descending > excess)
    found: Array = np.maximum(x - excess[stay[-1] if stay.size else 0], 0)
    return found


def non_negative() -> Projection:
    """Return the projection onto arrays without negative elements.

    Returns
    -------
    Projection

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.projections import non_negative
    >>> non_negative()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return _Box((0.0, math.inf))


def box(lower: float, upper: float) -> Projection:
    """Return the projection onto arrays with elements between two bounds.

    Parameters
    ----------
    lower, upper : float
        The bounds; -inf and inf for none.

    Returns
    -------
    Projection

    Raises
    ------
    TypeError, ValueError
        If these are no numbers, or `lower` is above `upper`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.projections import box
    >>> box(-1, 1)(np.array([-3.0, 0.5, 2.0]))
    array([-1. ,  0.5,  1. ])
    """
    lowest, highest = (
        value if isinstance(value, float) and math.isinf(value) else number(name, value, "real")
        for name, value in (("lower", lower), ("upper", upper))
    )
    if lowest > highest:
        raise ValueError(f"lower must be at most upper; got {lower!r} and {upper!r}")
    return _Box((lowest, highest))


def l1_ball(radius: float = 1.0) -> Projection:
    """Return the projection onto arrays whose absolute values sum to at most `radius`.

    Parameters
    ----------
    radius : float, default=1.0
        0 or more.

    Returns
    -------
    Projection

    Raises
    ------
    TypeError, ValueError
        If `radius` is no such number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.projections import l1_ball
    >>> l1_ball(2)(np.array([-3.0, 0.5, 2.0]))
    array([-1.5,  0. ,  0.5])
    """
    return _L1Ball(number("radius", radius, "nonnegative"))


def l2_ball(radius: float = 1.0) -> Projection:
    """Return the projection onto arrays of a Euclidean norm of at most `radius`.

    Parameters
    ----------
    radius : float, default=1.0
        0 or more.

    Returns
    -------
    Projection

    Raises
    ------
    TypeError, ValueError
        If `radius` is no such number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.projections import l2_ball
    >>> l2_ball(1)(np.array([3.0, 4.0]))
    array([0.6, 0.8])
    """
    return _L2Ball(number("radius", radius, "nonnegative"))


def simplex(scale: float = 1.0) -> Projection:
    """Return the projection onto arrays without negative elements whose sum is `scale`.

    Parameters
    ----------
    scale : float, default=1.0
        Above 0; with 1, the arrays are probabilities.

    Returns
    -------
    Projection

    Raises
    ------
    TypeError, ValueError
        If `scale` is no such number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.projections import simplex
    >>> simplex()(np.array([0.5, 1.0, -2.0]))
    array([0.25, 0.75, 0.  ])
    """
    return _Simplex(number("scale", scale, "positive"))
