"""Observers, and post-training quantisation of linear models."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fastgd import quantization as q
from fastgd.quantization import Codes
from fastgd.reference import quantization as reference

CODES = [Codes(-128, 127, True), Codes(0, 255, False), Codes(-8, 7, False), Codes(0, 15, True)]


@pytest.fixture(params=CODES, ids=str)
def codes(request):
    """Codes, with zero in the middle and without."""
    return request.param


@pytest.mark.parametrize("ends", [(-1.0, 3.0), (0.5, 2.0), (-2.0, -0.5), (0.0, 0.0), (-1e-9, 0.0)])
def test_scales_are_the_specifications(ends, codes):
    """Protects ranges: 0 is always among the numbers, and no scale is 0."""
    scale, zero = q.scale_and_zero_point(*ends, codes)
    expected = reference.scale_and_zero_point(*ends, *codes)
    assert_allclose(scale, expected[0], rtol=1e-6)
    assert zero == expected[1]


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("name", ["minmax", "moving_average"])
def test_ranges_are_torchs(name, axis, torch, rng):
    """Protects parity with torch.ao.quantization's observers."""
    theirs = torch.ao.quantization
    pair = {
        ("minmax", False): (theirs.MinMaxObserver, theirs.PerChannelMinMaxObserver),
        ("minmax", True): (theirs.MinMaxObserver, theirs.PerChannelMinMaxObserver),
        ("moving_average", False): (
            theirs.MovingAverageMinMaxObserver,
            theirs.MovingAveragePerChannelMinMaxObserver,
        ),
    }[name, False]
    for symmetric, scheme in ((True, "symmetric"), (False, "affine")):
        per = "tensor" if axis is None else "channel"
        given = {} if axis is None else {"ch_axis": axis}
        other = pair[axis is not None](
            dtype=torch.qint8, qscheme=getattr(torch, f"per_{per}_{scheme}"), **given
        )
        mine = q.OBSERVERS[name](axis)
        for _ in range(4):
            x = rng.normal(size=(7, 9)).astype(np.float32)
            mine.observe(x)
            other(torch.tensor(x))
        scale, zero = mine.scale_and_zero_point(Codes(-128, 127, symmetric))
        expected = other.calculate_qparams()
        assert_allclose(scale, expected[0].numpy().ravel(), rtol=1e-5)
        assert np.abs(zero - expected[1].numpy().ravel()).max() <= (name == "moving_average")


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_histograms_do_not_depend_on_the_order(axis, rng):
    """Protects counts: whatever the order and the parts, also where a range grows."""
    parts = [rng.normal(size=(8, 8)) * scale for scale in (1, 30, 0.1, 5)]
    found = []
    for order in ([0, 1, 2, 3], [1, 3, 2, 0]):
        seen = q.PercentileObserver(axis)
        for i in order:
            seen.observe(parts[i])
        found.append((seen._counts, seen._reach))
        assert seen._counts.sum() == 4 * 64
    assert (found[0][0] == found[1][0]).all()
    assert (found[0][1] == found[1][1]).all()


def test_percentiles(rng):
    """Protects the meaning: that share lies beyond each end, to the width of a bin."""
    x = rng.normal(size=100_000)
    for percentile in (90.0, 99.9):
        seen = q.PercentileObserver(percentile=percentile)
        seen.observe(x[:1000])
        seen.observe(x[1000:])
        low, high = (float(v[0]) for v in seen.range(None))
        width = 2 * np.abs(x).max() / 1024
        assert abs(low - np.percentile(x, 100 - percentile)) < width
        assert abs(high - np.percentile(x, percentile)) < width


@pytest.mark.parametrize("axis", [None, 1])
def test_mse_is_least(axis, codes, rng):
    """Protects the search: no other part of the range has a smaller error."""
    x = rng.standard_t(3, size=(20_000, 2)).astype(np.float32)
    seen = q.MSEObserver(axis)
    seen.observe(x)

    def error(low, high):
        scale, zero = q.scale_and_zero_point(low, high, codes)
        faked = q.fake_quantize(x, scale, zero, codes.qmin, codes.qmax, axis=axis)
        return np.square(x - faked, dtype=float).mean()

    low, high = super(q.MSEObserver, seen).range(codes)
    best = min(error(low * k / 50, high * k / 50) for k in range(1, 51))
    assert error(*seen.range(codes)) <= 1.02 * best


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: q.Observer().observe(np.ones(1)), TypeError, "^an observer must be one of fastgd"),
        (
            lambda: q.MinMaxObserver().range(None),
            ValueError,
            "^an observer must have seen an array",
        ),
        (lambda: q.MinMaxObserver().observe(np.array([np.nan])), ValueError, "^x must be finite"),
        (lambda: q.MovingAverageObserver(None, 0), ValueError, "^averaging_constant must be above"),
        (lambda: q.PercentileObserver(None, 50), ValueError, "^percentile must be above 50"),
        (lambda: q.MSEObserver(None, 0), ValueError, "^n_candidates must be an integer, 1 or more"),
    ],
)
def test_what_cannot_be_observed_is_refused(make, error, words):
    """Protects from ranges of nothing."""
    with pytest.raises(error, match=words):
        make()


# ---- linear models -------------------------------------------------------------------------------


def models():
    """Linear models with each kind of link and number of outputs, and data for them."""
    pytest.importorskip("sklearn")
    from fastgd import linear_model as lm

    return {
        "binary": (lm.SGDClassifier(loss="log_loss", random_state=0), 2),
        "hinge": (lm.SGDClassifier(random_state=0), 4),
        "one_vs_rest": (lm.SGDClassifier(loss="log_loss", random_state=0), 3),
        "multinomial": (lm.LogisticRegression(), 3),
        "logistic": (lm.LogisticRegression(), 2),
        "ridge": (lm.Ridge(), 0),
        "poisson": (lm.GLMRegressor(loss="poisson"), 0),
        "sgd": (lm.SGDRegressor(random_state=0), 0),
    }


@pytest.mark.parametrize("name", ["binary", "hinge", "one_vs_rest", "multinomial", "logistic"])
def test_classifiers(name, rng):
    """Protects labels and probabilities of quantised classifiers."""
    model, n_classes = models()[name]
    X = rng.normal(size=(400, 12))
    y = np.array(["a", "b", "c", "d"])[(X @ rng.normal(size=(12, n_classes))).argmax(axis=1)]
    model.fit(X, y)
    small = q.quantize(model, X)
    assert (small.predict(X) == model.predict(X)).mean() > 0.98
    if name != "hinge":
        assert np.abs(small.predict_proba(X) - model.predict_proba(X)).mean() < 0.01


@pytest.mark.parametrize("name", ["ridge", "poisson", "sgd"])
def test_regressors(name, rng):
    """Protects means, also those with a logarithmic link."""
    model = models()[name][0]
    X = rng.normal(size=(300, 5))
    y = np.exp(0.3 * X @ rng.normal(size=5)) + 0.1
    model.fit(X, y)
    found, expected = q.quantize(model, X).predict(X), model.predict(X)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.03 * np.ptp(expected)


def test_options_of_linear_models(rng):
    """Protects what may be chosen: bits, scales, zero points, observers, sparse rows."""
    sparse = pytest.importorskip("scipy.sparse")
    model = models()["ridge"][0]
    X = rng.normal(size=(300, 5))
    model.fit(X, X @ np.arange(1.0, 6.0))
    expected = model.predict(X)
    errors = {}
    for name, options in {
        "plain": {},
        "affine": {"symmetric": False},
        "per tensor": {"per_channel": False, "activation_symmetric": True},
        "percentile": {"observer": ("percentile", {"percentile": 99.99})},
        "mse": {"observer": "mse", "weight_observer": "mse"},
        "4 bits": {"bits": 4, "activation_bits": 4},
    }.items():
        small = q.quantize(model, X, **options)
        errors[name] = np.std(small.predict(X) - expected) / np.std(expected)
    assert max(error for name, error in errors.items() if name != "4 bits") < 0.02
    assert 0.02 < errors["4 bits"] < 0.3
    small = q.quantize(model, sparse.csr_array(X))
    assert (small.predict(sparse.csr_array(X)) == q.quantize(model, X).predict(X)).all()


def test_what_cannot_be_quantised_is_refused(rng):
    """Protects from models and arguments that make no sense."""
    X = rng.normal(size=(50, 3))
    model = models()["ridge"][0].fit(X, X[:, 0])
    for arguments, error, words in (
        ((object(), X), TypeError, "^model must be a fastgd.nn.Network, or a fitted"),
        ((model, X[:0]), ValueError, r"^X must have the shape \(n_rows, n_inputs\), n_rows > 0"),
    ):
        with pytest.raises(error, match=words):
            q.quantize(*arguments)
    for options, words in (
        ({"bits": 9}, "^bits must be an integer from 2 to 8; got 9$"),
        ({"activation_bits": 1.0}, "^activation_bits must be an integer from 2 to 8; got 1.0$"),
        ({"observer": "median"}, "^observer must be one of 'minmax', 'moving_average', "),
    ):
        with pytest.raises(ValueError, match=words):
            q.quantize(model, X, **options)
