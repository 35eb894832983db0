"""Activations: z -> (value, derivative)."""

import math
from collections.abc import Callable

from .losses import _exp, _softplus

Activation = Callable[..., tuple[float, float]]


def identity(z: float) -> tuple[float, float]:
    """No activation: of outputs, and of layers that only project.

    Examples
    --------
    >>> identity(3.0)
    (3.0, 1.0)
    """
    return z, 1.0


def relu(z: float) -> tuple[float, float]:
    """Rectifier: max(0, z) (Nair and Hinton, 2010). The corner z = 0 has the derivative 0.

    Examples
    --------
    >>> relu(3.0), relu(-3.0)
    ((3.0, 1.0), (0.0, 0.0))
    """
    return (z, 1.0) if z > 0 else (0.0, 0.0)


def leaky_relu(z: float, negative_slope: float = 0.01) -> tuple[float, float]:
    """Rectifier that lets something of negative numbers through (Maas et al., 2013, eq. 2).

    Examples
    --------
    >>> leaky_relu(3.0), leaky_relu(-3.0, 0.5)
    ((3.0, 1.0), (-1.5, 0.5))
    """
    return (z, 1.0) if z > 0 else (negative_slope * z, negative_slope)


def elu(z: float, alpha: float = 1.0) -> tuple[float, float]:
    """Exponential linear unit: alpha (exp(z) - 1) where z <= 0 (Clevert et al., 2016, eq. 15).

    Examples
    --------
    >>> elu(3.0), elu(0.0, 2.0)
    ((3.0, 1.0), (0.0, 2.0))
    """
    return (z, 1.0) if z > 0 else (alpha * math.expm1(z), alpha * math.exp(z))


def gelu(z: float) -> tuple[float, float]:
    """Gaussian error linear unit: z Phi(z), Phi the normal distribution (Hendrycks, Gimpel, 2016).

    The derivative is Phi(z) + z Phi'(z).

    Examples
    --------
    >>> value, derivative = gelu(1.0)
    >>> round(value, 6), round(derivative, 6)
    (0.841345, 1.083315)
    """
    below = 0.5 * math.erfc(-z / math.sqrt(2.0))
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return z * below, below + z * density


def silu(z: float) -> tuple[float, float]:
    """Sigmoid-weighted linear unit, or swish: z logistic(z) (Elfwing et al., 2018, eqs. 14 and 15).

    Examples
    --------
    >>> silu(0.0)
    (0.0, 0.5)
    """
    s, slope = logistic(z)
    return z * s, s + z * slope


def tanh(z: float) -> tuple[float, float]:
    """Hyperbolic tangent; its derivative is 1 - tanh(z)^2 (LeCun et al., 1998).

    Examples
    --------
    >>> tanh(0.0)
    (0.0, 1.0)
    """
    h = math.tanh(z)
    return h, (1.0 - h) * (1.0 + h)


def logistic(z: float) -> tuple[float, float]:
    """Logistic function: s = 1 / (1 + exp(-z)); its derivative is s (1 - s).

    Examples
    --------
    >>> logistic(0.0)
    (0.5, 0.25)
    """
    s, rest = 1.0 / (1.0 + _exp(-z)), 1.0 / (1.0 + _exp(z))
    return s, s * rest


def softplus(z: float) -> tuple[float, float]:
    """Smooth rectifier: log(1 + exp(z)), whose derivative is the logistic (Dugas et al., 2001).

    Examples
    --------
    >>> value, derivative = softplus(0.0)
    >>> round(value, 6), derivative
    (0.693147, 0.5)
    """
    return _softplus(z), logistic(z)[0]


ACTIVATIONS: dict[str, Activation] = {
    function.__name__: function
    for function in (identity, relu, leaky_relu, elu, gelu, silu, tanh, logistic, softplus)
}
"""The activations by name; one with a parameter of its own takes it as the second argument."""
