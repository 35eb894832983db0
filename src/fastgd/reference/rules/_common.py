"""What the rules share: two types, the gradient to follow, and three functions of one number."""

import math
from collections.abc import Sequence

Vector = list[float]
State = dict[str, Vector]
"""What a rule remembers of one parameter, by torch's names; a number is a list of length one."""


def descent(
    grad: Sequence[float], param: Sequence[float], weight_decay: float, maximize: bool
) -> Vector:
    """Return the gradient to descend along: turned round to climb, plus weight_decay * param."""
    g = [-gi for gi in grad] if maximize else list(grad)
    if weight_decay != 0:
        g = [gi + weight_decay * pi for gi, pi in zip(g, param, strict=True)]
    return g


def norm(x: Sequence[float]) -> float:
    """Return the Euclidean norm."""
    return math.sqrt(sum(xi * xi for xi in x))


def sign(x: float) -> float:
    """Return -1, 0 or 1; nan of nan."""
    return 1.0 if x > 0 else -1.0 if x < 0 else x


def root(x: float) -> float:
    """Return the square root; nan, not an exception, of what rounding has made negative."""
    return math.sqrt(x) if x >= 0 else math.nan
