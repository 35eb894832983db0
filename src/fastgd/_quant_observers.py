"""Observers: which range of numbers the codes are to cover."""

from typing import Any

import numpy as np

from . import _core
from ._hypers import Array
from ._quant_arrays import Codes, _checked, grid_of, scale_and_zero_point

HALF = 2048
"""Bins of a histogram on each side of zero."""


class Observer:
    """What all observers are: told of arrays, they know a range.

    Parameters
    ----------
    axis : int, default=None
        Each channel along it has a range; None for one range.
    """

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis

    def observe(self, x: Any) -> None:
        """Look at an array of float32 or float64, all of whose numbers must be finite."""
        array = _checked(x)
        if array.size == 0:
            return
        if not np.isfinite(_core.magnitudes(array)).all():
            raise ValueError("x must be finite; it has a NaN or an infinity")
        grid = grid_of(array.shape, array.dtype, 1.0, 0, -128, 127, self.axis)
        low, high = grid.ranges(array).T
        self._take(array, low, high)

    def _take(self, x: Array, low: Array, high: Array) -> None:
        """Learn from an array and the ranges of its channels."""
        raise TypeError("an observer must be one of fastgd.quantization; got Observer")

    def range(self, codes: Codes) -> tuple[Array, Array]:
        """Return the least and the largest number of each channel that codes are to cover."""
        raise TypeError("an observer must be one of fastgd.quantization; got Observer")

    def scale_and_zero_point(self, codes: Codes) -> tuple[Array, Array]:
        """Return scale, float32, and zero point, int32, of each channel."""
        return scale_and_zero_point(*self.range(codes), codes)


class MinMaxObserver(Observer):
    """The least and the largest number seen; torch's ``MinMaxObserver``.

    Parameters
    ----------
    axis : int, default=None
        Each channel along it has a range; None for one range.

    Examples
    --------
    >>> import numpy as np
    >>> seen = MinMaxObserver()
    >>> seen.observe(np.array([-1.0, 0.5]))
    >>> seen.observe(np.array([2.0]))
    >>> [x.tolist() for x in seen.range(None)]
    [[-1.0], [2.0]]
    """

    _seen: tuple[Array, Array] | None = None

    def _take(self, x: Array, low: Array, high: Array) -> None:
        if self._seen is not None:
            low, high = np.minimum(self._seen[0], low), np.maximum(self._seen[1], high)
        self._seen = low, high

    def range(self, codes: Codes | None) -> tuple[Array, Array]:
        """Return the least and the largest number of each channel that codes are to cover."""
        if self._seen is None:
            raise ValueError("an observer must have seen an array before its range is known")
        return self._seen


class MovingAverageObserver(MinMaxObserver):
    """Moving averages of each array's least and largest number; torch's.

    Parameters
    ----------
    axis : int, default=None
        Each channel along it has a range; None for one range.
    averaging_constant : float, default=0.01
        Weight of the latest array; the first one's range is where the averages begin.

    Examples
    --------
    >>> import numpy as np
    >>> seen = MovingAverageObserver(averaging_constant=0.5)
    >>> for x in ([0.0, 1.0], [0.0, 3.0]):
    ...     seen.observe(np.array(x))
    >>> seen.range(None)[1].tolist()
    [2.0]
    """

    def __init__(self, axis: int | None = None, averaging_constant: float = 0.01) -> None:
        super().__init__(axis)
        if not 0 < averaging_constant <= 1:
            raise ValueError(
                f"averaging_constant must be above 0 and at most 1; got {averaging_constant}"
            )
        self.averaging_constant = averaging_constant

    def _take(self, x: Array, low: Array, high: Array) -> None:
        if self._seen is not None:
            weight = self.averaging_constant
            low = self._seen[0] + weight * (low - self._seen[0])
            high = self._seen[1] + weight * (high - self._seen[1])
        self._seen = low, high


class HistogramObserver(MinMaxObserver):
    """What observers share that count numbers in bins.

    The bins of a channel cover [-R, R], R a power of two: when it doubles, neighbouring bins
    become one, so that counts do not depend on the order of what is seen.
    """

    _reach: Array  # R of each channel
    _counts: Array  # (n_channels, 2 * HALF)

    def _take(self, x: Array, low: Array, high: Array) -> None:
        first = self._seen is None
        super()._take(x, low, high)
        n = low.size
        wanted = np.exp2(np.ceil(np.log2(np.maximum(np.maximum(-low, high), 2.0**-100))))
        if first:
            self._reach, self._counts = wanted, np.zeros((n, 2 * HALF))
        for c in np.flatnonzero(wanted > self._reach):
            self._widen(int(c), wanted[c])
        rows = (
            x.reshape(1, -1) if self.axis is None else np.moveaxis(x, self.axis, 0).reshape(n, -1)
        )
        bins = np.floor(rows * (HALF / self._reach)[:, None]).astype(np.int64) + HALF
        np.minimum(bins, 2 * HALF - 1, out=bins)
        bins += 2 * HALF * np.arange(n)[:, None]
        self._counts += np.bincount(bins.ravel(), minlength=self._counts.size).reshape(n, -1)

    def _widen(self, channel: int, reach: float) -> None:
        """Let a channel's bins reach further."""
        factor = reach / self._reach[channel]
        at = np.floor((np.arange(2 * HALF) - HALF) / factor).astype(np.int64) + HALF
        counts = np.bincount(at, weights=self._counts[channel], minlength=2 * HALF)
        self._counts[channel], self._reach[channel] = counts, reach


class PercentileObserver(HistogramObserver):
    """All numbers but the rarest at both ends.

    Parameters
    ----------
    axis : int, default=None
        Each channel along it has a range; None for one range.
    percentile : float, default=99.99
        That so many percent are not beyond, at either end; above 50, at most 100.

    References
    ----------
    Wu, Judd, Zhang, Isaev, Micikevicius (2020), Integer quantization for deep learning inference:
    principles and empirical evaluation, arXiv:2004.09602, section 3.3.

    Examples
    --------
    >>> import numpy as np
    >>> seen = PercentileObserver(percentile=99.0)
    >>> seen.observe(np.append(np.linspace(0, 1, 1000), 50.0))
    >>> float(seen.range(None)[1][0]) < 1.1
    True
    """

    def __init__(self, axis: int | None = None, percentile: float = 99.99) -> None:
        super().__init__(axis)
        if not 50 < percentile <= 100:
            raise ValueError(f"percentile must be above 50 and at most 100; got {percentile}")
        self.percentile = percentile

    def range(self, codes: Codes | None) -> tuple[Array, Array]:
        """Return the least and the largest number of each channel that codes are to cover."""
        low, high = super().range(codes)
        total = self._counts.sum(axis=1, keepdims=True)
        left_out = (1 - self.percentile / 100) * total
        width = self._reach / HALF
        first = (np.cumsum(self._counts, axis=1) <= left_out).sum(axis=1)
        last = 2 * HALF - (np.cumsum(self._counts[:, ::-1], axis=1) <= left_out).sum(axis=1)
        return np.maximum(low, (first - HALF) * width), np.minimum(high, (last - HALF) * width)


class MSEObserver(HistogramObserver):
    """The range, among parts of the one seen, whose codes have the least mean squared error.

    Parameters
    ----------
    axis : int, default=None
        Each channel along it has a range; None for one range.
    n_candidates : int, default=100
        The parts are 1 / n_candidates, 2 / n_candidates, ... 1 of the range seen.

    References
    ----------
    Banner, Nahshan, Soudry (2019), Post training 4-bit quantization of convolutional networks for
    rapid-deployment, NeurIPS, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.quantization import Codes
    >>> seen = MSEObserver()
    >>> seen.observe(np.append(np.linspace(-1, 1, 100000), 9.0))
    >>> float(seen.range(Codes(-8, 7, True))[1][0]) < 3
    True
    """

    def __init__(self, axis: int | None = None, n_candidates: int = 100) -> None:
        super().__init__(axis)
        if not (isinstance(n_candidates, int) and n_candidates >= 1):
            raise ValueError(f"n_candidates must be an integer, 1 or more; got {n_candidates!r}")
        self.n_candidates = n_candidates

    def range(self, codes: Codes | None) -> tuple[Array, Array]:
        """Return the least and the largest number of each channel that codes are to cover."""
        low, high = super().range(codes)
        if codes is None:
            raise TypeError("codes must be given; got None")
        width = (self._reach / HALF).astype(np.float32)[:, None]
        centers = np.ascontiguousarray((np.arange(2 * HALF, dtype=np.float32) - HALF + 0.5) * width)
        best, part = np.full(low.shape, np.inf), np.ones(low.shape)
        for k in range(self.n_candidates, 0, -1):
            share = k / self.n_candidates
            scale, zero = scale_and_zero_point(low * share, high * share, codes)
            faked = np.empty_like(centers)
            grid_of(
                centers.shape, np.float32, scale, zero, codes.qmin, codes.qmax, 0
            ).fake_quantize(faked, centers)
            error = (self._counts * np.square(centers - faked, dtype=np.float64)).sum(axis=1)
            part, best = np.where(error < best, share, part), np.minimum(error, best)
        return low * part, high * part


OBSERVERS: dict[str, type[MinMaxObserver]] = {
    "minmax": MinMaxObserver,
    "moving_average": MovingAverageObserver,
    "percentile": PercentileObserver,
    "mse": MSEObserver,
}
"""By the name that `observer` may be."""


def observer_of(observer: Any, axis: int | None = None) -> Observer:
    """Return a new observer: of a name, or (name, arguments)."""
    name, options = (observer, {}) if isinstance(observer, str) else observer
    if name not in OBSERVERS:
        raise ValueError(
            f"observer must be one of {', '.join(map(repr, OBSERVERS))}, or a pair of its name "
            f"and a dict of arguments; got {observer!r}"
        )
    return OBSERVERS[name](axis, **options)
