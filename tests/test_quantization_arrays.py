"""Fake quantisation, its gradients, codes: held to `fastgd.reference` and to torch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import fastgd
from fastgd import _core
from fastgd.quantization import (
    decode,
    encode,
    fake_quantize,
    fake_quantize_grad,
    learned_step_grad,
    pack_int4,
    unpack_int4,
)
from fastgd.reference import quantization as reference

CODES = [(-128, 127), (0, 255), (-8, 7), (0, 15), (-127, 127), (0, 1)]
SHAPES = [(5, 1), (17, 64, 3), (64, 65), (3, 4097)]


@pytest.fixture(params=CODES, ids="{0[0]}to{0[1]}".format)
def codes(request):
    """First and last code."""
    return request.param


def numbers(rng, shape, scale, codes, dtype):
    """Numbers inside and outside the grid, halves between two codes among them."""
    steps = rng.integers(2 * codes[0] - 2, 2 * codes[1] + 2, shape)
    return ((steps + rng.choice([0.5, 0.25, -0.3, 0.0], shape)) * scale).astype(dtype)


def far_from_halves(rng, shape, scale, codes):
    """Numbers that every way of rounding takes to the same code."""
    steps = rng.integers(2 * codes[0] - 2, 2 * codes[1] + 2, shape)
    return ((steps + rng.uniform(-0.4, 0.4, shape)) * scale).astype(np.float32)


def test_is_the_specifications(codes, dtype, size, isa, rng):
    """Protects the formulas, at every size: numbers, codes, slopes."""
    scale, zero = dtype.type(0.25), int(rng.integers(codes[0], codes[1] + 1))
    x, given = numbers(rng, size, scale, codes, dtype), (float(scale), zero, *codes)
    grad = rng.normal(size=size).astype(dtype)
    slopes = np.array([reference.fake_quantize_slopes(v, *given) for v in x.tolist()]).reshape(
        -1, 3
    )
    expected = [reference.fake_quantize(v, *given) for v in x.tolist()]
    assert fake_quantize(x, scale, zero, *codes).tolist() == expected
    found = encode(x, scale, zero, *codes)
    assert found.dtype == (np.int8 if codes[0] < 0 else np.uint8)
    assert found.tolist() == [reference.code(v, *given) for v in x.tolist()]
    assert decode(found, scale, zero, dtype=dtype).tolist() == expected
    assert_allclose(fake_quantize_grad(grad, x, scale, zero, *codes), grad * slopes[:, 0])
    by_x, by_scale, by_zero = learned_step_grad(grad, x, scale, zero, *codes, grad_factor=0.5)
    assert_allclose(by_x, grad * slopes[:, 0])
    rtol = 1e-12 if dtype == np.float64 else 2e-5
    size_of_sums = np.abs(grad[:, None] * slopes).sum(axis=0)
    assert_allclose(by_scale, 0.5 * grad @ slopes[:, 1], rtol=0, atol=rtol * size_of_sums[1])
    assert_allclose(by_zero, 0.5 * grad @ slopes[:, 2], rtol=0, atol=rtol * size_of_sums[2])


@pytest.mark.parametrize("shape", SHAPES)
def test_channels_are_tensors_of_their_own(codes, shape, dtype, rng):
    """Protects axes: each channel is what its numbers alone would give."""
    for axis in range(-1, len(shape) - 1):
        n = shape[axis]
        scale = rng.uniform(0.1, 1, n).astype(dtype)
        zero = rng.integers(codes[0], codes[1] + 1, n)
        x, grad = rng.normal(size=(2, *shape)).astype(dtype) * dtype.type(40 * codes[1] / 127)
        found = fake_quantize(x, scale, zero, *codes, axis=axis)
        by_x, by_scale, by_zero = learned_step_grad(grad, x, scale, zero, *codes, axis=axis)
        for c in range(n):
            mine = (scale[c], zero[c], *codes)
            part, slope = (np.ascontiguousarray(a.take(c, axis)) for a in (x, grad))
            assert found.take(c, axis).tobytes() == fake_quantize(part, *mine).tobytes()
            alone = learned_step_grad(slope, part, *mine)
            assert by_x.take(c, axis).tobytes() == alone[0].tobytes()
            loose = 1e-12 if dtype == np.float64 else 1e-4
            total = np.abs(slope).sum() * max(-codes[0], codes[1], 1) * 2
            assert_allclose(by_scale[c], alone[1][0], rtol=loose, atol=loose * total)
            assert_allclose(by_zero[c], alone[2][0], rtol=loose, atol=loose * total)


def everything(dtype, axis):
    """All results from a fixed start, large enough for a team."""
    rng = np.random.default_rng(3)
    x, grad = rng.normal(size=(2, 300, 517)).astype(dtype)
    given = (0.01 if axis is None else rng.uniform(0.01, 0.1, x.shape[axis]).astype(dtype), 3)
    grid = _core.Grid(np.ones(1, dtype), np.zeros(1, dtype), -8, 7, x.shape)
    return [
        fake_quantize(x, *given, axis=axis),
        encode(x, *given, axis=axis),
        fake_quantize_grad(grad, x, *given, axis=axis),
        *learned_step_grad(grad, x, *given, axis=axis),
        grid.ranges(x),
    ]


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_same_bits(axis, dtype, isa, n_threads, assert_same_bits):
    """Protects reproducibility: for any team and processor."""
    actual = everything(dtype, axis)
    _core.use_isa(_core.ISAS[0])
    with fastgd.threads(1):
        assert_same_bits(actual, everything(dtype, axis))


def test_is_torchs_to_the_bit(codes, size, isa, torch, rng):
    """Protects parity with ``torch.fake_quantize_per_tensor_affine`` and its gradient."""
    scale, zero = np.float32(rng.uniform(0.01, 1)), int(rng.integers(codes[0], codes[1] + 1))
    x, grad = numbers(rng, size, scale, codes, np.float32), rng.normal(size=size).astype(np.float32)
    tensor = torch.tensor(x, requires_grad=True)
    theirs = torch.fake_quantize_per_tensor_affine(tensor, float(scale), zero, *codes)
    theirs.backward(torch.tensor(grad))
    assert fake_quantize(x, scale, zero, *codes).tobytes() == theirs.detach().numpy().tobytes()
    found = fake_quantize_grad(grad, x, scale, zero, *codes)
    assert (found == tensor.grad.numpy()).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_channels_are_torchs_to_the_bit(codes, shape, isa, torch, rng):
    """Protects parity with ``torch.fake_quantize_per_channel_affine``, along any axis."""
    for axis, n in enumerate(shape):
        scale = rng.uniform(0.01, 1, n).astype(np.float32)
        zero = rng.integers(codes[0], codes[1] + 1, n).astype(np.int32)
        x = (rng.normal(size=shape) * 30).astype(np.float32)
        grad = rng.normal(size=shape).astype(np.float32)
        tensor, places = torch.tensor(x, requires_grad=True), torch.tensor(zero)
        theirs = torch.fake_quantize_per_channel_affine(
            tensor, torch.tensor(scale), places, axis, *codes
        )
        theirs.backward(torch.tensor(grad))
        found = fake_quantize(x, scale, zero, *codes, axis=axis)
        assert found.tobytes() == theirs.detach().numpy().tobytes()
        found = fake_quantize_grad(grad, x, scale, zero, *codes, axis=axis)
        assert (found == tensor.grad.numpy()).all()


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_learned_steps_are_torchs(codes, axis, torch, rng):
    """Protects parity with ``torch._fake_quantize_learnable_per_*_affine``."""
    shape, n = (33, 65), 1 if axis is None else (33, 65)[axis]
    scale = rng.uniform(0.1, 1, n).astype(np.float32)
    zero = rng.integers(0, codes[1] + 1, n)
    steps = scale if axis is None else scale.reshape((-1, 1) if axis == 0 else (1, -1))
    x = far_from_halves(rng, shape, steps, codes)
    grad = rng.normal(size=shape).astype(np.float32)
    given = [torch.tensor(a, requires_grad=True) for a in (x, scale, zero.astype(np.float32))]
    if axis is None:
        out = torch._fake_quantize_learnable_per_tensor_affine(*given, *codes, 0.25)
    else:
        out = torch._fake_quantize_learnable_per_channel_affine(*given, axis, *codes, 0.25)
    out.backward(torch.tensor(grad))
    found = learned_step_grad(grad, x, scale, zero, *codes, axis=axis, grad_factor=0.25)
    for mine, theirs in zip(found, given, strict=True):
        atol = 1e-4 * max(-codes[0], codes[1])
        assert_allclose(mine, theirs.grad.numpy(), rtol=1e-4, atol=atol)


def test_strange_numbers(dtype, isa):
    """Protects a NaN, which stays one, and infinities, which go to the ends."""
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 1e38], dtype)
    found = fake_quantize(x, 0.5, 2, -8, 7)
    assert np.isnan(found[0])
    assert found[1:].tolist() == [2.5, -5.0, 0.0, 2.5]
    assert not np.signbit(found[3])
    assert fake_quantize_grad(np.ones(5, dtype), x, 0.5, 2, -8, 7).tolist() == [0, 0, 0, 1, 0]
    assert encode(x, 0.5, 2, -8, 7).tolist() == [-8, 7, -8, 2, 7]


@given(st.lists(st.integers(-8, 7)), st.booleans())
def test_four_bits_come_back(values, signed):
    """Protects packed codes: any number of them, with and without a sign."""
    codes = np.array(values, np.int8) if signed else (np.array(values, np.int8) + 8).view(np.uint8)
    found = unpack_int4(pack_int4(codes), codes.shape, signed=signed)
    assert found.dtype == codes.dtype
    assert found.tolist() == codes.tolist()


def test_empty_arrays(rng):
    """Protects shapes without elements, also where there are no channels."""
    assert fake_quantize(np.zeros((0, 3), np.float32), [1, 2, 3], axis=1).shape == (0, 3)
    assert fake_quantize(np.zeros((3, 0), np.float32), np.zeros(0), np.zeros(0), axis=1).size == 0
    empty = np.zeros((0, 3))
    assert learned_step_grad(empty, empty, [1, 2, 3], axis=1)[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([1], 1.0), TypeError, "^x must be of dtype float32 or float64; got int64$"),
        ((np.ones(2), 0.0), ValueError, "^scale must be above 0 and finite; got 0.0$"),
        ((np.ones(2), np.nan), ValueError, "^scale must be above 0 and finite; got nan$"),
        ((np.ones(2), [1, 1]), ValueError, "^scale must be a number or have 1 elements"),
        ((np.ones(2), 1, 128), ValueError, "^zero_point must be a code, an integer from -128 to"),
        ((np.ones(2), 1, 0.5), ValueError, "^zero_point must be a code"),
        ((np.ones(2), 1, 0, 3, 2), ValueError, "^zero_point must be a code|^qmin and qmax must"),
        ((np.ones(2), 1, 0, 0, 1 << 20), ValueError, "^qmin and qmax must be codes with 0"),
    ],
)
def test_what_is_no_grid_is_refused(arguments, error, words):
    """Protects from codes that mean nothing."""
    with pytest.raises(error, match=words):
        fake_quantize(*arguments)


def test_more_is_refused():
    """Protects axes, gradients of other shapes, codes of more than 8 bits."""
    with pytest.raises(ValueError, match=r"^axis must be None or one of 1 axes; got 1$"):
        fake_quantize(np.ones(2), 1.0, axis=1)
    with pytest.raises(ValueError, match=r"^grad must have the shape and dtype of x"):
        fake_quantize_grad(np.ones(3), np.ones(2), 1.0)
    with pytest.raises(ValueError, match=r"^qmin and qmax must be of 8 bits; got 0, 256$"):
        encode(np.ones(2), 1.0, 0, 0, 256)
    with pytest.raises(TypeError, match=r"^codes must be of dtype int8 or uint8; got int64$"):
        decode([1, 2], 1.0)
    with pytest.raises(ValueError, match=r"^codes must be from -8 to 7 or from 0 to 15; got -8"):
        pack_int4([-8, 8])
    with pytest.raises(ValueError, match=r"^packed must hold 2 bytes; got shape"):
        unpack_int4([1], (3,))
