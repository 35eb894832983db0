"""How the weights of a layer begin: every initialiser, one row each; biases begin at zero.

The names are those of the papers' authors. A weight is (inputs, outputs); its draws are float64,
so that a float32 network begins with the rounded numbers of the float64 one.

References
----------
.. [1] LeCun, Bottou, Orr, Müller, "Efficient backprop", in: Neural networks: tricks of the trade,
   1998, section 4.6, eq. 16.
.. [2] Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks",
   AISTATS 2010, eqs. 12 and 16.
.. [3] Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep
   linear neural networks", ICLR 2014, section 3.
.. [4] He, Zhang, Ren, Sun, "Delving deep into rectifiers", ICCV 2015, eq. 10.
.. [5] Mezzadri, "How to generate random matrices from the classical compact groups", Notices of the
   AMS 54, 2007, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

Rng: TypeAlias = np.random.Generator | np.random.RandomState
Weights: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Draw: TypeAlias = Callable[[tuple[int, int], Rng], Weights]
Variance: TypeAlias = Callable[[int, int], float]


def _uniform(variance: Variance) -> Draw:
    def draw(shape: tuple[int, int], rng: Rng) -> Weights:
        bound = math.sqrt(3.0 * variance(*shape))  # the variance of U(-b, b) is b^2 / 3
        return np.asarray(rng.uniform(-bound, bound, shape))

    return draw


def _normal(variance: Variance) -> Draw:
    def draw(shape: tuple[int, int], rng: Rng) -> Weights:
        return np.asarray(rng.standard_normal(shape)) * math.sqrt(variance(*shape))

    return draw


def _orthogonal(shape: tuple[int, int], rng: Rng) -> Weights:
    """Draw orthonormal columns, or rows where they are fewer, all of them equally likely.

    The factor Q of a normal matrix is so once the signs of R's diagonal are taken out of it [5].
    """
    long, short = max(shape), min(shape)
    q, r = np.linalg.qr(np.asarray(rng.standard_normal((long, short))))
    q = q * np.copysign(1.0, np.diagonal(r))
    return np.ascontiguousarray(q if shape == (long, short) else q.T)


def _zeros(shape: tuple[int, int], rng: Rng) -> Weights:
    return np.zeros(shape)


def _fan_in(inputs: int, outputs: int) -> float:
    return 1.0 / inputs


def _fan_in_of_rectifiers(inputs: int, outputs: int) -> float:
    return 2.0 / inputs


def _fan_average(inputs: int, outputs: int) -> float:
    return 2.0 / (inputs + outputs)


INITIALIZERS: dict[str, Draw] = {
    "glorot_uniform": _uniform(_fan_average),  # [2]
    "glorot_normal": _normal(_fan_average),  # [2]
    "he_uniform": _uniform(_fan_in_of_rectifiers),  # [4]
    "he_normal": _normal(_fan_in_of_rectifiers),  # [4]
    "lecun_normal": _normal(_fan_in),  # [1]
    "orthogonal": _orthogonal,  # [3]
    "zeros": _zeros,
}


def initialize(weight_shape: tuple[int, int], name: str, rng: Rng) -> Weights:
    """Draw the weights of a layer.

    Parameters
    ----------
    weight_shape : tuple of two ints
        Inputs and outputs of the layer, each at least 1.
    name : str
        Which initialiser, a key of `INITIALIZERS`: ``"glorot_uniform"`` and ``"glorot_normal"``,
        whose variance is 2 / (inputs + outputs), ``"he_uniform"`` and ``"he_normal"``,
        2 / inputs, ``"lecun_normal"``, 1 / inputs, ``"orthogonal"`` (orthonormal columns, or rows
        where those are fewer) or ``"zeros"``.
    rng : numpy.random.Generator or numpy.random.RandomState
        Where the numbers come from.

    Returns
    -------
    ndarray of float64, shape (inputs, outputs)
        C-contiguous.

    Raises
    ------
    ValueError
        If there is no initialiser of this name.

    Examples
    --------
    >>> import numpy as np
    >>> weight = initialize((784, 128), "he_normal", np.random.default_rng(0))
    >>> weight.shape, round(float(weight.var() * 784), 1)
    ((784, 128), 2.0)
    """
    if name not in INITIALIZERS:
        names = ", ".join(INITIALIZERS)
        raise ValueError(f"initializer must be one of {names}, got {name!r}")
    return INITIALIZERS[name](weight_shape, rng)
