"""Losses: (prediction p, target y) -> (value, derivative with respect to p)."""

import math
from collections.abc import Callable

Loss = Callable[..., tuple[float, float]]


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
