"""Losses: (prediction p, target y) -> (value, derivative with respect to p)."""

import math
from collections.abc import Callable, Sequence

Loss = Callable[..., tuple[float, float]]


def _exp(x: float) -> float:
    """Return exp(x); infinity where `math.exp` raises."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _softplus(x: float) -> float:
    """Return log(1 + exp(x)) without overflow."""
    return math.log1p(math.exp(-abs(x))) + max(x, 0.0)


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


def squared_hinge(p: float, y: float) -> tuple[float, float]:
    """Squared hinge loss, for binary classification (support vector machines).

    With the margin z = y p: value = max(0, 1 - z)^2 (Hsieh et al., 2008, eq. 2), derivative =
    -2 y max(0, 1 - z).

    Parameters
    ----------
    p : float
        Prediction.
    y : float
        Target, -1 or +1.

    Returns
    -------
    value, derivative : float
        The loss and its derivative with respect to `p`.

    Examples
    --------
    >>> squared_hinge(0.5, 1.0)
    (0.25, -1.0)
    """
    short = max(0.0, 1.0 - y * p)
    return short * short, -2.0 * y * short


def perceptron(p: float, y: float) -> tuple[float, float]:
    """Perceptron's loss, for binary classification.

    With the margin z = y p: value = max(0, -z), derivative = -y where z <= 0, else 0 (the rule of
    Rosenblatt, 1958, as a loss). The corner z = 0 counts as wrong, as in scikit-learn.

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
    >>> perceptron(-0.5, 1.0)
    (0.5, -1.0)
    >>> perceptron(0.5, 1.0)
    (0.0, 0.0)
    """
    z = y * p
    return (abs(z), -y) if z <= 0.0 else (0.0, 0.0)


def modified_huber(p: float, y: float) -> tuple[float, float]:
    """Huber loss, modified for binary classification.

    With the margin z = y p: value = max(0, 1 - z)^2 where z >= -1, else -4 z (Zhang, 2004), so that
    the derivative stays between -4 and 4.

    Parameters
    ----------
    p : float
        Prediction.
    y : float
        Target, -1 or +1.

    Returns
    -------
    value, derivative : float
        The loss and its derivative with respect to `p`.

    Examples
    --------
    >>> modified_huber(0.5, 1.0)
    (0.25, -1.0)
    >>> modified_huber(-3.0, 1.0)
    (12.0, -4.0)
    """
    z = y * p
    return squared_hinge(p, y) if z >= -1.0 else (-4.0 * z, -4.0 * y)


def focal(p: float, y: float, gamma: float = 2.0) -> tuple[float, float]:
    """Focal loss, for binary classification with many easy examples.

    With the margin z = y p and q = 1 / (1 + exp(z)) the probability of the wrong class: value =
    -q^gamma log(1 - q) (Lin et al., 2017, eq. 4), derivative =
    -y q^gamma (q - gamma (1 - q) log(1 - q)) (appendix B). With gamma = 0 this is `log_loss`.

    Parameters
    ----------
    p : float
        Prediction, the log-odds of the positive class.
    y : float
        Target, -1 or +1.
    gamma : float, default=2
        How little an example counts that is right already.

    Returns
    -------
    value, derivative : float
        The loss and its derivative with respect to `p`.

    Examples
    --------
    >>> value, derivative = focal(0.0, 1.0)
    >>> round(value, 6), round(derivative, 6)
    (0.173287, -0.298287)
    """
    z = y * p
    surprise = _softplus(-z)  # -log(1 - q)
    right, wrong = _exp(-surprise), _exp(-_softplus(z))
    weight = _exp(-gamma * _softplus(z))
    # where `right` is zero, so is its product with an infinite surprise
    return weight * surprise, -y * weight * (gamma * right * min(surprise, 746.0) + wrong)


def epsilon_insensitive(p: float, y: float, epsilon: float = 0.1) -> tuple[float, float]:
    """Epsilon-insensitive loss, for regression (support vector machines).

    With the residual r = p - y: value = max(0, abs(r) - epsilon) (Vapnik, 1995), derivative = the
    sign of r where abs(r) > epsilon, else 0.

    Parameters
    ----------
    p : float
        Prediction.
    y : float
        Target.
    epsilon : float, default=0.1
        Residuals up to this are free, in the unit of `y`.

    Returns
    -------
    value, derivative : float
        The loss and its (sub)derivative with respect to `p`.

    Examples
    --------
    >>> epsilon_insensitive(2.5, 2.0, epsilon=0.25)
    (0.25, 1.0)
    >>> epsilon_insensitive(2.5, 2.0, epsilon=1.0)
    (0.0, 0.0)
    """
    r = p - y
    return (abs(r) - epsilon, math.copysign(1.0, r)) if abs(r) > epsilon else (0.0, 0.0)


def squared_epsilon_insensitive(p: float, y: float, epsilon: float = 0.1) -> tuple[float, float]:
    """Square of the epsilon-insensitive loss, for regression (support vector machines).

    With the residual r = p - y: value = max(0, abs(r) - epsilon)^2 (Ho and Lin, 2012, eq. 4).

    Parameters
    ----------
    p : float
        Prediction.
    y : float
        Target.
    epsilon : float, default=0.1
        Residuals up to this are free, in the unit of `y`.

    Returns
    -------
    value, derivative : float
        The loss and its derivative with respect to `p`.

    Examples
    --------
    >>> squared_epsilon_insensitive(2.5, 2.0, epsilon=0.25)
    (0.0625, 0.5)
    """
    beyond, sign = epsilon_insensitive(p, y, epsilon)
    return beyond * beyond, 2.0 * beyond * sign


def pinball(p: float, y: float, quantile: float = 0.5) -> tuple[float, float]:
    """Pinball loss, for the quantiles of a regression.

    With r = y - p: value = quantile r where r >= 0, else (quantile - 1) r (Koenker and Bassett,
    1978, eq. 3.1); least where the share `quantile` of the targets lies below the prediction.

    Parameters
    ----------
    p : float
        Prediction.
    y : float
        Target.
    quantile : float, default=0.5
        Which quantile, between 0 and 1.

    Returns
    -------
    value, derivative : float
        The loss and its (sub)derivative with respect to `p`.

    Examples
    --------
    >>> pinball(0.0, 2.0, quantile=0.75)
    (1.5, -0.75)
    >>> pinball(2.0, 0.0, quantile=0.75)
    (0.5, 0.25)
    """
    r = y - p
    return (quantile * r, -quantile) if r >= 0.0 else ((quantile - 1.0) * r, 1.0 - quantile)


def expectile(p: float, y: float, expectile: float = 0.5) -> tuple[float, float]:
    """Asymmetric squared error, for the expectiles of a regression.

    With r = y - p: value = expectile r^2 where r >= 0, else (1 - expectile) r^2 (Newey and Powell,
    1987, eq. 2.1). With expectile = 1/2 this is `squared_error`.

    Parameters
    ----------
    p : float
        Prediction.
    y : float
        Target.
    expectile : float, default=0.5
        Which expectile, between 0 and 1.

    Returns
    -------
    value, derivative : float
        The loss and its derivative with respect to `p`.

    Examples
    --------
    >>> expectile(0.0, 2.0, expectile=0.75)
    (3.0, -3.0)
    >>> expectile(2.0, 0.0, expectile=0.75)
    (1.0, 1.0)
    """
    r = y - p
    weight = expectile if r >= 0.0 else 1.0 - expectile
    return weight * r * r, -2.0 * weight * r


def poisson(p: float, y: float) -> tuple[float, float]:
    """Half the Poisson deviance with logarithmic link, for counts.

    value = exp(p) - y p, derivative = exp(p) - y (Nelder and Wedderburn, 1972), without the part of
    the deviance that does not depend on the prediction.

    Parameters
    ----------
    p : float
        Prediction, the logarithm of the expected target.
    y : float
        Target, 0 or more.

    Returns
    -------
    value, derivative : float
        The loss and its derivative with respect to `p`.

    Examples
    --------
    >>> poisson(0.0, 3.0)
    (1.0, -2.0)
    """
    return _exp(p) - y * p, _exp(p) - y


def gamma(p: float, y: float) -> tuple[float, float]:
    """Half the gamma deviance with logarithmic link, for positive targets.

    value = p + y exp(-p), derivative = 1 - y exp(-p) (Nelder and Wedderburn, 1972), without the
    part of the deviance that does not depend on the prediction.

    Parameters
    ----------
    p : float
        Prediction, the logarithm of the expected target.
    y : float
        Target, above 0.

    Returns
    -------
    value, derivative : float
        The loss and its derivative with respect to `p`.

    Examples
    --------
    >>> gamma(0.0, 3.0)
    (3.0, -2.0)
    """
    return p + y * _exp(-p), 1.0 - y * _exp(-p)


def tweedie(p: float, y: float, power: float = 1.5) -> tuple[float, float]:
    """Half the Tweedie deviance with logarithmic link: variances that are a power of the mean.

    derivative = exp((2 - power) p) - y exp((1 - power) p), and value its integral over p
    (Jorgensen, 1987): with power = 1 this is `poisson`, with power = 2 `gamma`.

    Parameters
    ----------
    p : float
        Prediction, the logarithm of the expected target.
    y : float
        Target: any with power <= 0, 0 or more with power < 2, else above 0.
    power : float, default=1.5
        Exponent of the mean in the variance.

    Returns
    -------
    value, derivative : float
        The loss and its derivative with respect to `p`.

    Examples
    --------
    >>> tweedie(0.0, 3.0)
    (8.0, -2.0)
    >>> tweedie(0.0, 3.0, power=1.0) == poisson(0.0, 3.0)
    True
    """

    def integral(a: float) -> float:
        return _exp(a * p) / a if a else p

    value, derivative = integral(2.0 - power), _exp((2.0 - power) * p)
    if y:  # zero counts nothing, however small the expected target
        value -= y * integral(1.0 - power)
        derivative -= y * _exp((1.0 - power) * p)
    return value, derivative


def multinomial(p: Sequence[float], y: int) -> tuple[float, list[float]]:
    """Loss of multinomial logistic regression, for many classes: a prediction for each.

    value = log(sum_k exp(p_k)) - p_y, derivatives = exp(p_k) / sum_j exp(p_j) - [k = y]
    (Bishop, 2006, eq. 4.108 and 4.109). It is no row of `LOSSES`, which have one prediction.

    Parameters
    ----------
    p : sequence of float, shape (n_classes,)
        Predictions: log-odds, up to a number that all share.
    y : int
        Number of the class.

    Returns
    -------
    value : float
        The loss.
    derivatives : list of float, shape (n_classes,)
        Its derivative with respect to each prediction.

    Examples
    --------
    >>> multinomial([0.0, 0.0, 0.0, 0.0], 2)[1]
    [0.25, 0.25, -0.75, 0.25]
    >>> multinomial([1000.0, 0.0], 1)
    (1000.0, [1.0, -1.0])
    """
    largest = max(p)
    exponentials = [_exp(pk - largest) for pk in p]
    total = sum(exponentials)
    derivatives = [e / total - (k == y) for k, e in enumerate(exponentials)]
    return math.log(total) + largest - p[y], derivatives


LOSSES: dict[str, Loss] = {
    function.__name__: function
    for function in (
        squared_error,
        log_loss,
        hinge,
        squared_hinge,
        perceptron,
        modified_huber,
        focal,
        huber,
        epsilon_insensitive,
        squared_epsilon_insensitive,
        pinball,
        expectile,
        poisson,
        gamma,
        tweedie,
    )
}
"""The losses by name; one with a parameter of its own takes it as the third argument."""
