"""Schedules: hyper-parameters -> (number of the update, from 1 on -> learning rate)."""

import math
from collections.abc import Callable

from .losses import LOSSES

Schedule = Callable[[float], float]


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
