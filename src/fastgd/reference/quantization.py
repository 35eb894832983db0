"""Numbers and their codes: what ``csrc/quant.inl.h`` and ``csrc/int8.inl.h`` do, one by one."""

import math
from collections.abc import Sequence


def code(x: float, scale: float, zero_point: int, qmin: int, qmax: int) -> int:
    """Nearest code of a number, halves to the even one.

    Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko, "Quantization and training of neural
    networks for efficient integer-arithmetic-only inference", CVPR 2018, eq. (12).

    >>> [code(x, 0.5, 0, -8, 7) for x in (0.25, 0.75, -9.0)]
    [0, 2, -8]
    """
    if math.isnan(x):
        return qmin
    quotient = x * (1 / scale)
    if math.isinf(quotient):
        return qmax if quotient > 0 else qmin
    return min(max(round(quotient) + zero_point, qmin), qmax)


def number(q: int, scale: float, zero_point: int) -> float:
    """Return what a code stands for.

    >>> number(3, 0.5, 1)
    1.0
    """
    return (q - zero_point) * scale


def fake_quantize(x: float, scale: float, zero_point: int, qmin: int, qmax: int) -> float:
    """Nearest number that a code stands for.

    >>> fake_quantize(0.7, 0.5, 0, -8, 7)
    0.5
    """
    return x if math.isnan(x) else number(code(x, scale, zero_point, qmin, qmax), scale, zero_point)


def fake_quantize_slopes(
    x: float, scale: float, zero_point: int, qmin: int, qmax: int
) -> tuple[float, float, float]:
    """Slopes of ``fake_quantize`` with respect to the number, the scale and the zero point.

    The first is the straight-through estimator's: Bengio, Léonard, Courville, arXiv:1308.3432,
    2013; the second that of Esser, McKinstry, Bablani, Appuswamy, Modha, "Learned step size
    quantization", ICLR 2020, eq. (3); the third of Bhalgat, Lee, Nagel, Blankevoort, Kwak, "LSQ+",
    CVPR workshops 2020, eq. (5).

    >>> fake_quantize_slopes(0.75, 0.5, 0, -8, 7)
    (1.0, 0.5, 0.0)
    >>> fake_quantize_slopes(9.0, 0.5, 0, -8, 7)
    (0.0, 7.0, -0.5)
    """
    nearest = round(x * (1 / scale)) + zero_point
    q = min(max(nearest, qmin), qmax)
    if q == nearest:
        return 1.0, (number(q, scale, zero_point) - x) * (1 / scale), 0.0
    return 0.0, float(q - zero_point), -scale


def scale_and_zero_point(
    low: float, high: float, qmin: int, qmax: int, symmetric: bool
) -> tuple[float, int]:
    """Scale and zero point whose codes cover the numbers from `low` to `high`, and 0.

    As torch's observers work them out.

    >>> scale_and_zero_point(-1.0, 3.0, 0, 4, False)
    (1.0, 1)
    >>> scale_and_zero_point(-1.0, 3.0, -4, 4, True)
    (0.75, 0)
    """
    low, high = min(low, 0.0), max(high, 0.0)
    eps = 2.0**-23
    if symmetric:
        return max(max(-low, high) / ((qmax - qmin) / 2), eps), (qmin + qmax + 1) // 2
    scale = max((high - low) / (qmax - qmin), eps)
    return scale, min(max(qmin - round(low / scale), qmin), qmax)


def integer_layer(
    x: Sequence[float],
    weights: Sequence[Sequence[int]],
    weight_scales: Sequence[float],
    weight_zeros: Sequence[int],
    bias: Sequence[float],
    input_scale: float,
    input_zero: int,
    input_max: int,
) -> list[float]:
    """Row x times codes of weights, (n_inputs, n_outputs), in integers, then their scales and bias.

    Jacob et al., CVPR 2018, eq. (4).

    >>> integer_layer([0.5, 1.0], [[1], [2]], [0.25], [0], [1.0], 0.5, 0, 255)
    [1.625]
    """
    codes = [code(v, input_scale, input_zero, 0, input_max) - input_zero for v in x]
    return [
        sum(c * (row[j] - weight_zeros[j]) for c, row in zip(codes, weights, strict=True))
        * (input_scale * weight_scales[j])
        + bias[j]
        for j in range(len(bias))
    ]
