"""Losses: each row's value and derivative, on every instruction set.

Held to `fastgd.reference`, to finite differences, and to scikit-learn's own loss classes, at the
corners too. Each loss comes with one or more values of its own parameter.
"""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fastgd import _core, reference

OWN = {
    "": (0.0,),
    "epsilon": (0.5,),
    "quantile": (0.3,),
    "expectile": (0.7,),
    "gamma": (0.0, 0.5, 2.0),
    "power": (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0),
}
CASES = [(name, own) for name, row in _core.LOSSES.items() for own in OWN[row["parameter"]]]
MARGINS = (0.0, 1e-30, 1e-9, 1e-3, 0.5, 1.0, 2.0, 16.0, 17.5, 37.0, 86.9, 88.5, 89.0, 104.0, 1e3)
FARTHER = (707.9, 708.5, 710.0, 746.0, 1e10, 1e30, math.inf)


def label(case):
    return f"{case[0]}-{case[1]:g}" if _core.LOSSES[case[0]]["parameter"] else case[0]


@pytest.fixture(params=CASES, ids=label)
def case(request):
    """Name of each loss of the table, and a value of its own parameter."""
    return request.param


def evaluate(case, y, p):
    """Values and derivatives by C."""
    return _core.evaluate_loss(case[0], y, p, case[1])


def by_reference(case, y, p):
    """Values and derivatives of the specification, element by element."""
    loss, own = reference.LOSSES[case[0]], case[1:] if _core.LOSSES[case[0]]["parameter"] else ()
    pairs = [loss(float(pi), float(yi), *own) for yi, pi in zip(y, p, strict=True)]
    return [v for v, _ in pairs], [d for _, d in pairs]


def limits(dtype):
    """Smallest normal number, and exp(x) for the largest x that the kernels' exp takes.

    Below the one and above the other, C and the specification may differ.
    """
    return float(np.finfo(dtype).tiny), math.exp(708.0 if dtype == np.float64 else 87.0)


# ---- rows ----------------------------------------------------------------------------------------


def test_every_loss_has_a_specification():
    """Protects the promise that a row and a function in the specification are enough."""
    assert _core.LOSSES.keys() == reference.LOSSES.keys()
    assert [row["number"] for row in _core.LOSSES.values()] == list(range(len(_core.LOSSES)))
    for name, row in _core.LOSSES.items():
        assert row["task"] in ("classification", "regression", "both")
        assert (row["targets"] == "sign") == (row["task"] == "classification")
        assert row["targets"] in ("sign", "real", "nonnegative", "positive", "power")
        assert row["link"] in ("identity", "log", "logit")
        y, p = np.array([1.0, 2.0]), np.array([0.3, -0.7])
        assert_allclose(_core.evaluate_loss(name, y, p), by_reference((name, row["default"]), y, p))


# ---- values --------------------------------------------------------------------------------------


def test_losses_follow_the_specification(case, isa, dtype, size, rng):
    """Protects both formulas in whole vectors and behind them."""
    y = rng.choice([-1.0, 1.0], size).astype(dtype)
    p = rng.normal(scale=3, size=size).astype(dtype)
    y[::9] = p[::9]  # a residual of zero, and a margin of p^2
    y[1::9] = 0  # a count of zero
    value, derivative = evaluate(case, y, p)
    assert (value.dtype, value.shape) == (derivative.dtype, derivative.shape) == (dtype, (size,))
    rtol = 8 * np.finfo(dtype).eps
    # of what is subtracted: 1 - y p, p - y, exp(a) - y exp(b)
    scale = (1 + np.abs(p.astype(np.float64))) * (1 + np.abs(y))
    if case[0] in ("gamma", "tweedie"):
        scale *= 1 + np.exp(max(0.0, case[1] - 1) * np.abs(p))
    for actual, expected in zip((value, derivative), by_reference(case, y, p), strict=True):
        assert np.all(np.abs(actual - np.array(expected)) <= rtol * scale * (1 + np.abs(expected)))


def test_extreme_margins_lose_no_digits(case, isa, dtype):
    """Protects from overflow and cancellation: predictions far right, far wrong, and infinite.

    Where the loss is too large for the dtype, it is not finite: training would notice.
    """
    p = np.array([s * m for m in MARGINS + FARTHER for s in (-1.0, 1.0)], dtype)
    least, most = limits(dtype)
    rtol = 8 * np.finfo(dtype).eps
    if _core.LOSSES[case[0]]["parameter"] in ("gamma", "power"):
        rtol *= 1 + np.minimum(np.abs(p), 1e3)  # of a power: as many digits as its exponent has
    # exp(p) - y has the digits of the larger
    atol = 2 * least if _core.LOSSES[case[0]]["link"] != "log" else rtol
    for sign in (-1.0, 1.0):
        y = np.full_like(p, sign)
        expected = np.array(by_reference(case, y, p))
        actual = np.array(evaluate(case, y, p))
        inside = np.abs(expected) < most
        too_far = np.abs(expected) > float(np.finfo(dtype).max)
        with np.errstate(invalid="ignore"):  # inf - inf
            close = np.abs(actual - expected) <= rtol * np.abs(expected) + atol
        assert not (inside & ~close).any(), p[np.any(inside & ~close, axis=0)]
        assert not np.isfinite(actual[too_far]).any()
        assert not np.isfinite(actual[np.isnan(expected)]).any()


BOUNDED = [case for case in CASES if _core.LOSSES[case[0]]["bounded"]]


@pytest.mark.parametrize("case", BOUNDED, ids=label)
def test_bounded_losses_are_bounded(case, dtype):
    """Protects training row by row, which cuts no derivative off that its row calls bounded."""
    p = np.array([s * m for m in MARGINS + FARTHER[:-1] for s in (-1.0, 1.0)], dtype)
    for y in (-1.0, 0.0, 1.0, 1e3) if _core.LOSSES[case[0]]["targets"] != "sign" else (-1.0, 1.0):
        derivative = evaluate(case, np.full_like(p, y), p)[1]
        assert np.all(np.abs(derivative) <= 4)


def test_log_loss_of_tiny_probabilities(isa, dtype):
    """Protects the relative precision of a loss that is nearly zero: log1p, not log."""
    z = np.linspace(1, 80, 500).astype(dtype)
    value, derivative = _core.evaluate_loss("log_loss", np.ones_like(z), z)
    exact = np.exp(-z.astype(np.float64))
    rtol = 6 * np.finfo(dtype).eps
    assert_allclose(value, np.log1p(exact), rtol=rtol)
    assert_allclose(derivative, -exact / (1 + exact), rtol=rtol)


def test_derivative_is_the_slope_of_the_value(case, isa):
    """Protects the pair: C's derivative belongs to C's value, whatever the specification says."""
    h = 1e-5
    p = np.linspace(-4.03, 4.07, 82)  # no corner within h: y p = 0 or 1, abs(p - y) = 0 or epsilon
    for target in (-1.0, 0.0, 1.0):
        y = np.full_like(p, target)
        upper, _ = evaluate(case, y, p + h)
        lower, _ = evaluate(case, y, p - h)
        value, derivative = evaluate(case, y, p)
        rounding = np.max(np.abs(value)) * 1e-10
        assert_allclose(derivative, (upper - lower) / (2 * h), rtol=1e-8, atol=1e-9 + rounding)


# ---- scikit-learn's ------------------------------------------------------------------------------


def sgd_losses():
    """scikit-learn's classes by the names of ours, with the arguments of a case."""
    sgd = pytest.importorskip("sklearn.linear_model._sgd_fast")
    return {
        "hinge": lambda _: sgd.Hinge(1.0),
        "perceptron": lambda _: sgd.Hinge(0.0),
        "squared_hinge": lambda _: sgd.SquaredHinge(1.0),
        "modified_huber": lambda _: sgd.ModifiedHuber(),
        "epsilon_insensitive": sgd.EpsilonInsensitive,
        "squared_epsilon_insensitive": sgd.SquaredEpsilonInsensitive,
    }


def test_sgd_losses_are_scikit_learns_at_the_corners_too(case, isa):
    """Protects the conventions of scikit-learn's SGD, on a grid that hits every corner."""
    classes = sgd_losses()
    if case[0] not in classes:
        pytest.skip("not one of the losses that scikit-learn's SGD has in Cython")
    theirs = classes[case[0]](case[1])
    p = np.concatenate([np.arange(-24, 25) / 8, np.nextafter([1.0, 0.5, 1.5], 2), [1e6, -1e6]])
    for sign in (-1.0, 1.0):
        value, derivative = evaluate(case, np.full_like(p, sign), p)
        assert value.tolist() == [theirs.py_loss(pi, sign) for pi in p]
        assert derivative.tolist() == [theirs.py_dloss(pi, sign) for pi in p]


def general_losses():
    """scikit-learn's classes of the losses that its SGD does not have."""
    general = pytest.importorskip("sklearn._loss")
    return {
        "pinball": lambda own: general.PinballLoss(quantile=own),
        "poisson": lambda _: general.HalfPoissonLoss(),
        "gamma": lambda _: general.HalfGammaLoss(),
        "tweedie": lambda own: general.HalfTweedieLoss(power=own),
    }


def test_general_losses_are_scikit_learns(case, isa, rng):
    """Protects values and gradients of pinball, Poisson, gamma and Tweedie."""
    classes = general_losses()
    if case[0] not in classes:
        pytest.skip("scikit-learn has it elsewhere, or not at all")
    theirs = classes[case[0]](case[1])
    y, p = rng.gamma(2.0, size=400), rng.normal(size=400)
    y[::5] = p[::5] if case[0] == "pinball" else y[::5]  # the corner
    if theirs.in_y_true_range(np.zeros(1)):
        y[::7] = 0
    value, derivative = evaluate(case, y, p)
    constant = 0.5 * y**2 if case == ("tweedie", 0.0) else 0  # which they drop elsewhere
    assert_allclose(
        value + constant, theirs.loss(y_true=y, raw_prediction=p), rtol=1e-13, atol=1e-14
    )
    gradient = theirs.gradient(y_true=y, raw_prediction=p)
    assert_allclose(derivative, gradient, rtol=1e-13, atol=1e-14)


def test_losses_that_are_others(isa, dtype, rng):
    """Protects what a parameter means, by the value at which it changes nothing."""
    y, p = rng.choice([-1.0, 1.0], 300).astype(dtype), rng.normal(size=300).astype(dtype)
    rtol = 8 * np.finfo(dtype).eps
    for case, (loss, factor) in {
        ("focal", 0.0): ("log_loss", 1),
        ("expectile", 0.5): ("squared_error", 1),
        ("epsilon_insensitive", 0.0): ("pinball", 2),
        ("squared_epsilon_insensitive", 0.0): ("squared_error", 2),
        ("tweedie", 1.0): ("poisson", 1),
        ("tweedie", 2.0): ("gamma", 1),
    }.items():
        expected = factor * np.array(_core.evaluate_loss(loss, y, p))
        assert_allclose(evaluate(case, y, p), expected, rtol=rtol, atol=rtol)


def test_corners_are_scikit_learns(isa, dtype):
    """Protects the choice among the subgradients: hinge's corner still counts as wrong."""
    above = np.nextafter(dtype.type(1), dtype.type(2))
    p = np.array([1, above, -1, -above], dtype)
    y = np.array([1, 1, -1, -1], dtype)
    value, derivative = _core.evaluate_loss("hinge", y, p)
    assert value.tolist() == [0, 0, 0, 0]
    assert derivative.tolist() == [-1, 0, 1, 0]
    r = np.array([0.5, -0.5, 2, -2], dtype)
    value, derivative = _core.evaluate_loss("huber", np.zeros(4, dtype), r, 0.5)
    assert value.tolist() == [0.125, 0.125, 0.875, 0.875]
    assert derivative.tolist() == [0.5, -0.5, 0.5, -0.5]


# ---- numbers that are not finite, bits, buffers --------------------------------------------------


def test_nan_predictions_show(case, isa, dtype, size):
    """Protects the diagnosis of divergence: NaN goes the way it goes in the specification."""
    p = np.full(size, math.nan, dtype)
    y = np.ones(size, dtype)
    with np.errstate(invalid="ignore"):
        for sign in (1, -1):
            value, derivative = evaluate(case, y, sign * p)
            expected_value, expected_derivative = by_reference(case, y, p)
            assert np.array_equal(np.isnan(value), np.isnan(expected_value))
            if case[0] != "huber":  # the specification gives epsilon there, C gives NaN
                assert np.array_equal(np.isnan(derivative), np.isnan(expected_derivative))


def test_losses_have_the_same_bits_on_every_isa(case, dtype, rng, assert_same_bits):
    """Protects reproducibility, exp and log1p included: they are ours, not the C library's."""
    p = np.concatenate([rng.normal(scale=s, size=1000) for s in (1e-3, 1, 30, 1e3)]).astype(dtype)
    y = rng.choice([-1.0, 1.0], p.size).astype(dtype)
    results = []
    for isa in _core.SUPPORTED_ISAS:
        _core.use_isa(isa)
        results.append([np.nan_to_num(a, nan=7.0) for a in evaluate(case, y, p)])  # NaN has a sign
    for result in results[1:]:
        assert_same_bits(result, results[0])


def test_losses_leave_their_input_and_take_views(case, isa, dtype, rng, assert_same_bits):
    """Protects the arguments, and views that start between two vectors."""
    memory = rng.normal(size=(2, 70)).astype(dtype)
    before = memory.copy()
    y, p = memory[0, 1:], memory[1, 3:-2]
    y = y[: p.size]
    expected = evaluate(case, y.copy(), p.copy())
    assert_same_bits(evaluate(case, y, p), expected)
    assert_same_bits(memory, before)


BAD_PREDICTIONS = {
    "list": (lambda: [1.0], lambda: np.ones(1), TypeError, r"^prediction must be a NumPy array"),
    "integers": (lambda: np.ones(1, int), lambda: np.ones(1), TypeError, r"^prediction .* int64"),
    "strided": (lambda: np.ones(4)[::2], lambda: np.ones(2), ValueError, r"^prediction .*C-contig"),
    "y list": (lambda: np.ones(1), lambda: [1.0], TypeError, r"^y must be a NumPy array; got list"),
    "y dtype": (lambda: np.ones(1), lambda: np.ones(1, "f4"), TypeError, r"^y must .*got float32"),
    "y size": (lambda: np.ones(2), lambda: np.ones(1), ValueError, r"^y must hold 2 .*; got 1"),
    "y order": (lambda: np.ones(2), lambda: np.ones(2, ">f8"), ValueError, r"^y must .*byte order"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("prediction", "y", "error", "words"), BAD_PREDICTIONS.values(), ids=BAD_PREDICTIONS
)
def test_arrays_that_kernels_cannot_take_are_refused_by_name(prediction, y, error, words):
    """Protects memory: the boundary checks each buffer before C sees it."""
    with pytest.raises(error, match=words):
        _core.evaluate_loss("hinge", y(), prediction())
