"""Learning-rate schedules: pure functions, step -> value.

A schedule takes the number of the update, counted from 1, as a number or as an array, and returns
the learning rate of that update. They are composable because they are functions, and there is
nothing to save because they have no state.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from . import _core

__all__ = ["SCHEDULES", "constant", "invscaling", "optimal"]

Schedule = Callable[[Any], Any]


def constant(eta0: float) -> Schedule:
    """Learning rate `eta0` at every step.

    Parameters
    ----------
    eta0 : float
        The learning rate.

    Returns
    -------
    callable
        step (1, 2, ...; scalar or array) -> learning rate (float64, same shape).

    Examples
    --------
    >>> from fastgd.schedules import constant
    >>> constant(0.1)([1, 2, 3])
    array([0.1, 0.1, 0.1])
    """

    def schedule(step: Any) -> Any:
        return np.full(np.shape(step), eta0, dtype=np.float64)[()]

    return schedule


def invscaling(eta0: float, power_t: float = 0.5) -> Schedule:
    """Inverse scaling, ``eta0 / step ** power_t``.

    Parameters
    ----------
    eta0 : float
        Learning rate of the first step.
    power_t : float, default=0.5
        How fast it falls. Robbins & Monro (1951) ask for more than 0.5 and at most 1.

    Returns
    -------
    callable
        step (1, 2, ...; scalar or array) -> learning rate (float64, same shape).

    Examples
    --------
    >>> from fastgd.schedules import invscaling
    >>> invscaling(1.0, 0.5)([1, 4, 16])
    array([1.  , 0.5 , 0.25])
    """

    def schedule(step: Any) -> Any:
        t = np.asarray(step, dtype=np.float64)
        return eta0 / (np.sqrt(t) if power_t == 0.5 else np.power(t, power_t))

    return schedule


def optimal(alpha: float, loss: str = "hinge", loss_parameter: float = 0.0) -> Schedule:
    """Bottou's schedule, ``1 / (alpha * (t0 + step - 1))``, with scikit-learn's heuristic for t0.

    t0 is such that the first step is about as large as the weights are expected to be
    (L. Bottou, "Stochastic gradient descent tricks", 2012, sec. 5.2; scikit-learn's SGDClassifier).

    Parameters
    ----------
    alpha : float
        Strength of the L2 penalty, above 0.
    loss : str, default="hinge"
        Name of the loss, whose derivative sets t0.
    loss_parameter : float, default=0.0
        The loss's own parameter (epsilon of "huber").

    Returns
    -------
    callable
        step (1, 2, ...; scalar or array) -> learning rate (float64, same shape).

    Raises
    ------
    ValueError
        If `alpha` is not above 0, or there is no such loss.

    Examples
    --------
    >>> from fastgd.schedules import optimal
    >>> float(optimal(0.0001)(1))
    10.0
    """
    if loss not in _core.LOSSES:
        raise ValueError(f"loss must be one of {', '.join(_core.LOSSES)}; got {loss!r}")
    if not alpha > 0:
        raise ValueError(f'alpha must be above 0 for the "optimal" schedule; got {alpha}')
    typical_weight = np.sqrt(1.0 / np.sqrt(alpha))
    _, derivative = _core.evaluate_loss(
        loss, np.ones(1), np.array([-typical_weight]), loss_parameter
    )
    # scikit-learn calls gradient(y_true=1, y_pred=-w): at most 1 for a classifier's loss
    t0 = 1.0 / (typical_weight / max(1.0, derivative[0]) * alpha)

    def schedule(step: Any) -> Any:
        return 1.0 / (alpha * (t0 + np.asarray(step, dtype=np.float64) - 1.0))

    return schedule


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    f.__name__: f for f in (constant, invscaling, optimal)
}
