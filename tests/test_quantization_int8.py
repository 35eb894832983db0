"""Products of 8-bit codes, and networks made of them."""

import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose

import fastgd
from fastgd import _core
from fastgd.quantization import QuantizedDense, QuantizedNetwork
from fastgd.reference import quantization as reference

SHAPES = [
    (1, 1, 1),
    (7, 9, 10),
    (8, 3, 16),
    (9, 784, 33),
    (33, 255, 128),
    (65, 257, 31),
    (4, 64, 48),
]


@pytest.fixture(params=[True, False], ids=["portable", "here"])
def portable(request):
    """Whether plain C multiplies, or what the processor has."""
    return request.param


def random_layer(rng, n_inputs, n_outputs, **more):
    """Make a layer of any codes."""
    bits = more.get("weight_bits", 8)
    half = 1 << bits - 1
    return QuantizedDense(
        weight=rng.integers(-half, half, (n_inputs, n_outputs)).astype(np.int8),
        weight_scale=rng.uniform(0.001, 0.01, n_outputs).astype(np.float32),
        weight_zero=more.pop("weight_zero", None),
        bias=rng.normal(size=n_outputs).astype(np.float32),
        input_scale=0.02,
        input_zero=more.pop("input_zero", 120),
        **more,
    )


def random_network(rng):
    """Layers of awkward sizes, with all that a layer may have."""
    norm = {"gamma": np.full(33, 0.5, np.float32), "beta": np.full(33, 0.1, np.float32)}
    return QuantizedNetwork(
        [
            random_layer(rng, 19, 33, activation="relu"),
            random_layer(
                rng, 33, 33, skip=True, weight_zero=rng.integers(-9, 9, 33).astype(np.int8)
            ),
            random_layer(rng, 33, 33, weight_bits=4, input_bits=4, input_zero=7, **norm),
            random_layer(rng, 33, 5),
        ],
        "softmax",
        [f"class {k}" for k in range(5)],
    )


# ---- products ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_exact(shape, portable, isa, rng):
    """Protects the sums, at sizes around those of tiles; no pair of products saturates."""
    n, depth, columns = shape
    codes = rng.integers(0, 256, (n, depth)).astype(np.uint8)
    weight = rng.integers(-128, 128, (depth, columns)).astype(np.int8)
    for a, w in ((codes, weight), (np.full_like(codes, 255), np.full_like(weight, -128)),
                 (np.full_like(codes, 255), np.full_like(weight, 127))):  # fmt: skip
        found = _core.int8_product(a, w, portable=portable)
        assert found.dtype == np.int32
        assert (found == a.astype(np.int64) @ w.astype(np.int64)).all()


def test_the_deepest_sum_fits(portable, isa):
    """Protects from an overflow: the largest magnitudes, as many as are taken."""
    codes = np.full((2, _core.MAX_INT8_INPUTS), 255, np.uint8)
    weight = np.full((_core.MAX_INT8_INPUTS, 3), -128, np.int8)
    expected = -255 * 128 * _core.MAX_INT8_INPUTS
    assert (_core.int8_product(codes, weight, portable=portable) == expected).all()
    with pytest.raises(ValueError, match=r"^weight must have from 1 to 33025 rows"):
        _core.int8_product(codes, np.zeros((_core.MAX_INT8_INPUTS + 1, 1), np.int8))


def test_the_worst_instruction_set_has_plain_c(run_python):
    """Protects who sets FASTGD_ISA, and the name of what multiplies."""
    code = "from fastgd import _core; print(_core.int8_name())"
    assert run_python(code, FASTGD_ISA=_core.ISAS[0]).stdout.strip() == "portable"
    for name in _core.SUPPORTED_ISAS:
        _core.use_isa(name)
        assert _core.int8_name() in ("portable", "avxvnni", "avx512vnni")
        assert _core.int8_name(portable=True) == "portable"


# ---- networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight_zero", [None, [3, -7, 0]])
def test_a_layer_is_the_specifications(weight_zero, isa, portable, rng):
    """Protects scales, zero points and bias."""
    zero = None if weight_zero is None else np.array(weight_zero, np.int8)
    layer = random_layer(rng, 17, 3, weight_zero=zero)
    X = rng.normal(size=(9, 17)).astype(np.float32)
    found = _core.Int8Network([layer._prepared()]).predict(X, portable=portable)
    for row, y in zip(X.tolist(), found, strict=True):
        given = layer.weight.tolist(), layer.weight_scale.tolist(), weight_zero or [0] * 3
        scale = float(np.float32(layer.input_scale))
        expected = reference.integer_layer(row, *given, layer.bias.tolist(), scale, 120, 255)
        assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_a_network_is_its_layers(rng):
    """Protects activation, skip, layer norm and codes of 4 bits, against float32."""
    network = random_network(rng)
    X = rng.normal(size=(50, 19)).astype(np.float32)
    h = X
    for layer in network.layers:
        top = (1 << layer.input_bits) - 1
        scale = np.float32(layer.input_scale)
        faked = fastgd.quantization.fake_quantize(h, scale, layer.input_zero, 0, top)
        z = faked @ layer.dequantized() + layer.bias
        if layer.gamma is not None:
            z -= z.mean(axis=1, keepdims=True)
            z = z / np.sqrt(np.square(z).mean(axis=1, keepdims=True) + 1e-5) * layer.gamma
            z += layer.beta
        z = np.maximum(z, 0) if layer.activation == "relu" else z
        h = z + faked if layer.skip else z
    # a rounding may go the other way where a number lies between two codes
    assert np.mean(np.abs(network.predict_raw(X) - h) > 1e-4) < 0.02
    p = network.predict_proba(X)
    assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    assert (network.predict(X) == network.classes[p.argmax(axis=1)]).all()


def test_same_bits(size, isa, n_threads, portable, assert_same_bits):
    """Protects reproducibility: any team, processor and number of rows, with VNNI and without."""
    rng = np.random.default_rng(5)
    network = random_network(rng)
    X = rng.normal(size=(size, 19)).astype(np.float32)
    actual = network._kernel.predict(X, portable=portable)
    _core.use_isa(_core.ISAS[0])
    with fastgd.threads(1):
        assert_same_bits(actual, network.predict_raw(X))
        for i in range(0, size, 1000):
            assert_same_bits(actual[i : i + 1], network.predict_raw(X[i : i + 1]))


def test_rows_with_nan(rng):
    """Protects from an answer to no question: codes know no NaN. Infinities go to the ends."""
    network = random_network(rng)
    X = rng.normal(size=(40, 19)).astype(np.float32)
    expected = network.predict_raw(X)
    X[[3, 39], 18] = np.nan
    found = network.predict_raw(X)
    assert np.isnan(found[[3, 39]]).all()
    good = [i for i in range(40) if i not in (3, 39)]
    assert (found[good] == expected[good]).all()
    assert np.isfinite(network.predict_raw(np.full((1, 19), np.inf))).all()


def test_sparse_rows_and_other_dtypes(rng):
    """Protects CSR matrices and float64: the same numbers as a float32 array."""
    sparse = pytest.importorskip("scipy.sparse")
    network = random_network(rng)
    X = sparse.random_array((101, 19), density=0.3, rng=rng, format="csr", dtype=np.float32)
    expected = network.predict_raw(X.toarray())
    assert (network.predict_raw(X) == expected).all()
    assert (network.predict_raw(X.toarray().astype(np.float64)) == expected).all()


# ---- files ---------------------------------------------------------------------------------------


def test_files_bring_everything_back(tmp_path, rng, assert_same_bits):
    """Protects what was saved: layers, link, labels; codes of 4 bits take half a byte."""
    pytest.importorskip("safetensors")
    network = random_network(rng)
    X = rng.normal(size=(30, 19)).astype(np.float32)
    network.save(tmp_path / "a.safetensors")
    same = QuantizedNetwork.load(tmp_path / "a.safetensors")
    assert_same_bits(same.predict_raw(X), network.predict_raw(X))
    assert same.predict(X).tolist() == network.predict(X).tolist()
    assert (same.link, same.classes.tolist()) == (network.link, network.classes.tolist())
    for bits, size in ((8, 10000), (4, 5000)):
        QuantizedNetwork([random_layer(rng, 100, 100, weight_bits=bits)]).save(tmp_path / "b")
        assert (tmp_path / "b").stat().st_size < size + 2000


def test_bad_files_are_refused(tmp_path, rng, monkeypatch):
    """Protects from what is no file of ours, and says which extra is missing."""
    numpy_files = pytest.importorskip("safetensors.numpy")
    (tmp_path / "text").write_text("no")
    numpy_files.save_file({"a": np.ones(1)}, tmp_path / "other")
    for name in ("text", "other"):
        with pytest.raises(ValueError, match=r"^path must be a file of QuantizedNetwork.save; got"):
            QuantizedNetwork.load(tmp_path / name)
    with pytest.raises(TypeError, match=r"^classes must be numbers or strings to be saved"):
        QuantizedNetwork([random_layer(rng, 2, 2)], classes=np.array([None, "b"], object)).save("x")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"safetensors"):
        random_network(rng).save(tmp_path / "c")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda r: QuantizedNetwork([]), ValueError, "^layers must hold at least one$"),
        (
            lambda r: QuantizedNetwork([random_layer(r, 2, 3), random_layer(r, 4, 3)]),
            ValueError,
            r"^layers\[1\] must have 3 inputs; got 4$",
        ),
        (
            lambda r: QuantizedNetwork([random_layer(r, 2, 3, skip=True)]),
            ValueError,
            "^skip needs as many outputs as inputs",
        ),
        (
            lambda r: QuantizedNetwork([random_layer(r, 2, 3)], "probit"),
            ValueError,
            "^link must be one of identity, log, logit, softmax; got 'probit'$",
        ),
        (
            lambda r: QuantizedNetwork([random_layer(r, 2, 3)], classes=[1, 2]),
            ValueError,
            "^classes must hold 3 labels; got 2$",
        ),
        (
            lambda r: random_network(r).predict(np.ones((2, 3))),
            ValueError,
            r"^X must have the shape \(n_rows, 19\); got \(2, 3\)$",
        ),
        (
            lambda r: QuantizedNetwork([random_layer(r, 2, 3)]).predict_proba(np.ones((1, 2))),
            TypeError,
            "^probabilities need the link logit or softmax; got identity$",
        ),
    ],
)
def test_what_is_no_network_is_refused(make, error, words, rng):
    """Protects from layers that do not fit."""
    with pytest.raises(error, match=words):
        make(rng)
