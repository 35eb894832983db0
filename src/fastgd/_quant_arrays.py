"""Arrays and their codes: fake quantisation, its gradients, 8 and 4 bits."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from . import _core
from ._hypers import Array


class Codes(NamedTuple):
    """First and last code, and whether 0 stands for 0."""

    qmin: int
    qmax: int
    symmetric: bool


def codes_of(bits: int, symmetric: bool, signed: bool) -> Codes:
    """Return the codes of so many bits, those with a sign or those without."""
    return Codes(-(1 << bits - 1), (1 << bits - 1) - 1, symmetric) if signed else Codes(
        0, (1 << bits) - 1, symmetric
    )  # fmt: skip


def scale_and_zero_point(low: ArrayLike, high: ArrayLike, codes: Codes) -> tuple[Array, Array]:
    """Work out what takes the numbers from `low` to `high`, and 0, to the codes.

    As the observers of torch do (``torch.ao.quantization.observer``); in float32.
    """
    ends = np.stack(np.broadcast_arrays(low, high), axis=-1).astype(np.float64)
    flat = np.ascontiguousarray(ends.reshape(-1, 2))
    scale, zero = _core.scales(flat, codes.qmin, codes.qmax, codes.symmetric, np.float32)
    shape = ends.shape[:-1]
    return scale.reshape(shape), zero.astype(np.int32).reshape(shape)


def _checked(x: Any, name: str = "x") -> Array:
    """Return a C-contiguous array of float32 or float64."""
    array = np.asarray(x)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be of dtype float32 or float64; got {array.dtype}")
    return np.ascontiguousarray(array).reshape(array.shape)


def grid_of(
    shape: tuple[int, ...],
    dtype: Any,
    scale: ArrayLike,
    zero_point: ArrayLike,
    qmin: int,
    qmax: int,
    axis: int | None,
) -> _core.Grid:
    """Return what C quantises to; refuse what does not fit."""
    if axis is not None and not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis must be None or one of {len(shape)} axes; got {axis}")
    axis = None if axis is None else axis % len(shape)
    n = 1 if axis is None else shape[axis]
    scales, zeros = np.asarray(scale, dtype), np.asarray(zero_point)
    for name, given in (("scale", scales), ("zero_point", zeros)):
        if given.shape not in ((), (n,)) or (axis is None and given.size != 1):
            raise ValueError(f"{name} must be a number or have {n} elements; got {given.shape}")
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise ValueError("scale must be above 0 and finite; got "
                         f"{scales[~((scales > 0) & np.isfinite(scales))].ravel()[0]}")  # fmt: skip
    if not ((zeros >= qmin) & (zeros <= qmax) & (zeros == np.round(zeros))).all():
        raise ValueError(
            f"zero_point must be a code, an integer from {qmin} to {qmax}; got {zeros}"
        )
    full = [np.ascontiguousarray(np.broadcast_to(a, (n,)), dtype) for a in (scales, zeros)]
    return _core.Grid(full[0], full[1], qmin, qmax, shape, axis)


def fake_quantize(
    x: ArrayLike,
    scale: ArrayLike,
    zero_point: ArrayLike = 0,
    qmin: int = -128,
    qmax: int = 127,
    *,
    axis: int | None = None,
) -> Array:
    """Take each number to the nearest that a code stands for.

    ``(clip(round(x / scale) + zero_point, qmin, qmax) - zero_point) * scale``, halves rounded to
    even: equal to the bit to ``torch.fake_quantize_per_tensor_affine`` and, with an axis,
    ``torch.fake_quantize_per_channel_affine`` in float32. A NaN stays one.

    Parameters
    ----------
    x : array-like of float32 or float64
        The numbers.
    scale : float or array-like of shape (n_channels,)
        Above 0: the distance of two neighbours.
    zero_point : int or array-like of shape (n_channels,), default=0
        The code that stands for 0.
    qmin, qmax : int, default=-128, 127
        The first and the last code, with 0 from one to the other.
    axis : int, default=None
        Axis of the channels, each of which has a scale; None for one scale.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        An argument cannot be used; it is named.

    References
    ----------
    Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko (2018), Quantization and training of
    neural networks for efficient integer-arithmetic-only inference, CVPR, eq. (12).

    Examples
    --------
    >>> import numpy as np
    >>> fake_quantize(np.float32([0.1, 0.26, 0.75, 9.0]), 0.5).tolist()
    [0.0, 0.5, 1.0, 9.0]
    >>> fake_quantize(np.float32([0.1, 0.26, 0.75, 9.0]), 0.5, qmin=-8, qmax=7).tolist()
    [0.0, 0.5, 1.0, 3.5]
    """
    array = _checked(x)
    out = np.empty_like(array)
    grid_of(array.shape, array.dtype, scale, zero_point, qmin, qmax, axis).fake_quantize(out, array)
    return out


def fake_quantize_grad(
    grad: ArrayLike,
    x: ArrayLike,
    scale: ArrayLike,
    zero_point: ArrayLike = 0,
    qmin: int = -128,
    qmax: int = 127,
    *,
    axis: int | None = None,
) -> Array:
    """Gradient of the numbers before `fake_quantize`: straight through, but 0 where it clips.

    Parameters
    ----------
    grad : array-like of the shape and dtype of x
        The gradient of the result.
    x, scale, zero_point, qmin, qmax, axis
        As of `fake_quantize`.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`.

    References
    ----------
    Bengio, Léonard, Courville (2013), Estimating or propagating gradients through stochastic
    neurons for conditional computation, arXiv:1308.3432.

    Examples
    --------
    >>> import numpy as np
    >>> fake_quantize_grad(np.ones(2), np.array([1.0, 100.0]), 0.5).tolist()
    [1.0, 0.0]
    """
    array, slope = _checked(x), _checked(grad, "grad")
    _check_like(slope, array)
    out = np.empty_like(array)
    grid = grid_of(array.shape, array.dtype, scale, zero_point, qmin, qmax, axis)
    grid.straight_through(out, slope, array)
    return out


def learned_step_grad(
    grad: ArrayLike,
    x: ArrayLike,
    scale: ArrayLike,
    zero_point: ArrayLike = 0,
    qmin: int = -128,
    qmax: int = 127,
    *,
    axis: int | None = None,
    grad_factor: float = 1.0,
) -> tuple[Array, Array, Array]:
    """Gradients of the numbers, the scale and the zero point of `fake_quantize`: LSQ.

    Those of torch's ``_fake_quantize_learnable_per_tensor_affine`` and ``_per_channel_affine``, for
    zero points that are integers from 0 on (torch rounds others otherwise). Sums have the same bits
    for any number of threads.

    Parameters
    ----------
    grad, x, scale, zero_point, qmin, qmax, axis
        As of `fake_quantize_grad`.
    grad_factor : float, default=1.0
        The gradients of scale and zero point are multiplied by it; the paper takes
        ``1 / sqrt(n * qmax)``, with the number n of elements of a channel.

    Returns
    -------
    by_x : ndarray
        Of the shape and dtype of `x`.
    by_scale, by_zero_point : ndarray of shape (n_channels,)
        Without an axis, of shape (1,).

    References
    ----------
    Esser, McKinstry, Bablani, Appuswamy, Modha (2020), Learned step size quantization, ICLR,
    eq. (3). Bhalgat, Lee, Nagel, Blankevoort, Kwak (2020), LSQ+, CVPR workshops, eq. (5).

    Examples
    --------
    >>> import numpy as np
    >>> by_x, by_scale, by_zero = learned_step_grad(np.ones(2), np.array([0.75, 9.0]), 0.5,
    ...                                             qmin=-8, qmax=7)
    >>> by_x.tolist(), by_scale.tolist(), by_zero.tolist()
    ([1.0, 0.0], [7.5], [-0.5])
    """
    array, slope = _checked(x), _checked(grad, "grad")
    _check_like(slope, array)
    out = np.empty_like(array)
    grid = grid_of(array.shape, array.dtype, scale, zero_point, qmin, qmax, axis)
    sums = grad_factor * grid.learn(out, slope, array)
    return out, sums[:, 0].astype(array.dtype), sums[:, 1].astype(array.dtype)


def _check_like(grad: Array, x: Array) -> None:
    if grad.shape != x.shape or grad.dtype != x.dtype:
        raise ValueError(f"grad must have the shape and dtype of x, {x.shape} and {x.dtype}; got "
                         f"{grad.shape} and {grad.dtype}")  # fmt: skip


def encode(
    x: ArrayLike,
    scale: ArrayLike,
    zero_point: ArrayLike = 0,
    qmin: int = -128,
    qmax: int = 127,
    *,
    axis: int | None = None,
) -> Array:
    """Codes of numbers: ``clip(round(x / scale) + zero_point, qmin, qmax)``.

    Parameters
    ----------
    x, scale, zero_point, qmin, qmax, axis
        As of `fake_quantize`; the codes must be of 8 bits or fewer. A NaN gets `qmin`.

    Returns
    -------
    ndarray of int8, or of uint8 if qmin is 0
        Of the shape of `x`.

    Examples
    --------
    >>> import numpy as np
    >>> encode(np.array([-1.0, 0.26, 99.0]), 0.5).tolist()
    [-2, 1, 127]
    """
    array = _checked(x)
    codes = np.empty(array.shape, np.int8 if qmin < 0 else np.uint8)
    grid_of(array.shape, array.dtype, scale, zero_point, qmin, qmax, axis).encode(codes, array)
    return codes


def decode(
    codes: ArrayLike,
    scale: ArrayLike,
    zero_point: ArrayLike = 0,
    *,
    axis: int | None = None,
    dtype: Any = np.float32,
) -> Array:
    """Numbers that codes stand for: ``(codes - zero_point) * scale``.

    Parameters
    ----------
    codes : array-like of int8 or uint8
        From `encode`.
    scale, zero_point, axis
        As of `fake_quantize`.
    dtype : dtype, default=float32
        Of the result: float32 or float64.

    Returns
    -------
    ndarray
        Of the shape of `codes`.

    Examples
    --------
    >>> decode(encode([-1.0, 0.26, 99.0], 0.5), 0.5).tolist()
    [-1.0, 0.5, 63.5]
    """
    array = np.ascontiguousarray(codes).reshape(np.shape(codes))
    if array.dtype not in (np.int8, np.uint8):
        raise TypeError(f"codes must be of dtype int8 or uint8; got {array.dtype}")
    info = np.iinfo(array.dtype)
    out = np.empty(array.shape, dtype)
    grid_of(array.shape, out.dtype, scale, zero_point, info.min, info.max, axis).decode(out, array)
    return out


def pack_int4(codes: ArrayLike) -> Array:
    """Put two codes of 4 bits into each byte, the first into the lower half.

    Parameters
    ----------
    codes : array-like of int8 or uint8
        From -8 to 7, or from 0 to 15.

    Returns
    -------
    ndarray of uint8
        Of shape (ceil(codes.size / 2),).

    Examples
    --------
    >>> pack_int4([1, -1, 7]).tolist()
    [241, 7]
    """
    flat = np.asarray(codes).ravel()
    if flat.size and not (flat.min() >= -8 and flat.max() <= (7 if flat.min() < 0 else 15)):
        raise ValueError(f"codes must be from -8 to 7 or from 0 to 15; got {flat.min()} to "
                         f"{flat.max()}")  # fmt: skip
    halves = np.zeros((flat.size + 1) // 2 * 2, np.uint8)
    halves[: flat.size] = flat.astype(np.int8).view(np.uint8) & 15
    packed: Array = halves[::2] | halves[1::2] << 4
    return packed


def unpack_int4(packed: ArrayLike, shape: tuple[int, ...], *, signed: bool = True) -> Array:
    """Undo `pack_int4`.

    Parameters
    ----------
    packed : array-like of uint8
        Two codes each.
    shape : tuple of int
        Of the codes.
    signed : bool, default=True
        Whether they are from -8 to 7.

    Returns
    -------
    ndarray of int8, or of uint8
        Of that shape.

    Examples
    --------
    >>> unpack_int4(pack_int4([1, -1, 7]), (3,)).tolist()
    [1, -1, 7]
    """
    pairs = np.asarray(packed, np.uint8)
    size = int(np.prod(shape))
    if pairs.shape != ((size + 1) // 2,):
        raise ValueError(f"packed must hold {(size + 1) // 2} bytes; got shape {pairs.shape}")
    flat = np.stack([pairs & 15, pairs >> 4], axis=1).ravel()[:size].reshape(shape)
    return ((flat ^ 8).astype(np.int8) - np.int8(8)) if signed else flat
