"""Mini-batches of linear models over arrays and CSR matrices, of one output or a softmax.

Held to `fastgd.reference`; the same bits for any number of threads and on every instruction set;
plain sgd over a sparse batch touches the batch's columns alone. Without an estimator: those are
tested in ``test_linear_model.py``.
"""

import itertools

import numpy as np
import pytest
from linear_batches import (
    FORMS,
    N_ROWS,
    RULES,
    as_form,
    assert_bits_stay,
    assert_follows_reference,
    by_reference,
    make_data,
    train,
)
from linear_rows import train_rows
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from fastgd import _core

# ---- the specification ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [1, 2, 3, 20])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rule", RULES)
def test_batches_follow_the_reference(form, rule, n_classes):
    """Protects gradient, update and penalty of each rule; batches that divide nothing."""
    rng = np.random.default_rng(len(rule) + n_classes)
    n_features = int(rng.choice([1, 7, 8, 9, 17, 40]))
    X, y, weights = make_data(n_features, n_classes)
    for batch_size, fit_intercept in itertools.product([1, 7, 64, 80], [True, False]):
        if batch_size == 1 and RULES[rule] == ("sgd", {}) and n_classes == 1:
            continue  # row by row, which is another room
        given = {"batch_size": batch_size, "rule": rule, "fit_intercept": fit_intercept}
        weight = weights if fit_intercept else None
        alpha = 0.3 if batch_size == 7 else 0.0
        assert_follows_reference(
            form, X, y, n_classes, sample_weight=weight, alpha=alpha, epochs=1, **given
        )


@pytest.mark.parametrize("n_classes", [1, 3])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rule", ["sgd", "adagrad"])
def test_l1_is_proximal(form, n_classes, rule):
    """Protects sparse weights: lazily or not, each update takes l1 times its rate from each."""
    X, y, weights = make_data(23, n_classes)
    for batch_size, alpha, l1 in itertools.product([2, 7, 80], [0.0, 0.5], [1e-4, 0.01, 0.3, 10.0]):
        given = {"batch_size": batch_size, "alpha": alpha, "l1": l1, "sample_weight": weights}
        assert_follows_reference(form, X, y, n_classes, rule=rule, **given)
    params, _ = train(as_form(X, form), y, n_classes, rule, batch_size=7, l1=0.02)
    zeros = np.mean(params[: 23 * n_classes] == 0)
    assert 0 < zeros < 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("alpha", [9.0, 10.0, 30.0])
def test_shrinking_that_takes_weights_near_zero(form, alpha):
    """Protects the scale of lazy weights: multiplied out when small, and when it would be zero."""
    X, y, _ = make_data(9)
    for l1 in (0.0, 0.01):
        assert_follows_reference(form, X, y, alpha=alpha, l1=l1, batch_size=3, epochs=3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", _core.LOSSES)
@pytest.mark.parametrize("batch_size", [1, 16])
def test_every_loss_trains(form, loss, batch_size):
    """Protects losses that no estimator offers, those with a logarithmic link among them."""
    if form != "array" and batch_size == 1:
        pytest.skip("row by row, which is another room")
    X, y, weights = make_data(9)
    if _core.LOSSES[loss]["targets"] != "sign":
        y = np.exp(0.5 * y + X[:, 0] / 3)
    own = _core.LOSSES[loss]["default"]
    params, losses = train(
        as_form(X, form), y, loss=loss, loss_parameter=own, batch_size=batch_size,
        sample_weight=weights,
    )  # fmt: skip
    expected, curve = by_reference(X, y, loss=loss, batch_size=batch_size, sample_weight=weights)
    assert_allclose(params, expected, atol=1e-12)
    assert_allclose(losses / N_ROWS, curve, rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n_classes", [1, 3])
def test_float32_is_near_the_reference(form, n_classes):
    """Protects the float32 kernels: they differ by rounding alone."""
    X, y, weights = make_data(40, n_classes, dtype=np.float32)
    for rule, batch_size in itertools.product(["sgd", "momentum", "adagrad"], [2, 33]):
        assert_follows_reference(
            form,
            X,
            y,
            n_classes,
            rule=rule,
            batch_size=batch_size,
            sample_weight=weights,
            rtol=2e-6,
        )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n_classes", [2, 5, 17])
def test_the_softmax_gradient_is_the_slope_of_its_loss(form, n_classes):
    """Protects the gradient by itself: what one step of rate 1 takes from the parameters."""
    X, y, weights = make_data(11, n_classes)
    rng = np.random.default_rng(1)
    start = rng.standard_normal(12 * n_classes)

    def step(params):
        params = params.copy()
        options = {"batch_size": N_ROWS, "n_classes": n_classes, "sample_weight": weights}
        loss = train_rows(as_form(X, form), y, params, 1.0, **options)
        return loss / N_ROWS, start - params

    _, gradient = step(start)
    h = 1e-6
    slope = [(step(start + e)[0] - step(start - e)[0]) / (2 * h) for e in h * np.eye(start.size)]
    assert_allclose(gradient, slope, atol=1e-8)


@pytest.mark.parametrize("data", ["iris", "digits"])
@pytest.mark.parametrize("form", ["array", "narrow"])
def test_a_softmax_comes_to_what_scikit_learn_finds(data, form):
    """Protects the purpose of it: the minimum, found by another method."""
    datasets = pytest.importorskip("sklearn.datasets")
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = getattr(datasets, f"load_{data}")(return_X_y=True)
    X = (X - X.mean(axis=0)) / np.maximum(1, X.std(axis=0))
    n_classes, alpha = len(np.unique(y)), 0.1
    peer = linear_model.LogisticRegression(C=1 / (alpha * len(y)), tol=1e-5)
    peer.fit(X, y)
    params, momentum = (
        np.zeros((X.shape[1] + 1) * n_classes),
        np.zeros((X.shape[1] + 1) * n_classes),
    )
    hypers = [0.2, 0.9, 0.0, 0.0, 0.0, 0.0]  # lr and momentum of sgd
    for t in range(200):
        train_rows(
            as_form(X, form), y.astype(float), params, 0.2, hypers=hypers, states=(momentum,),
            kept=np.ones(_core.N_KEPT), t=t, batch_size=len(y), n_classes=n_classes, alpha=alpha,
            n_threads=1,
        )  # fmt: skip
    coef, intercept = params[:-n_classes].reshape(n_classes, -1), params[-n_classes:]
    assert_allclose(coef, peer.coef_, atol=1e-3)
    assert_allclose(intercept, peer.intercept_, atol=1e-3)


def test_a_softmax_of_far_predictions():
    """Protects from overflow: exponentials of numbers up to the largest."""
    X, y = np.array([[1.0], [-1.0]]), np.array([0.0, 2.0])
    for form, size in itertools.product(FORMS, (1e2, 1e4, 1e300)):
        params = size * np.array([1.0, 0.0, -1.0, 0.0, 0.0, 0.0])
        loss = train_rows(as_form(X, form), y, params, 0.0, batch_size=2, n_classes=3)
        assert loss == 0
        params[[0, 2]] = params[[2, 0]]
        loss = train_rows(as_form(X, form), y, params, 0.0, batch_size=2, n_classes=3)
        assert loss == pytest.approx(4 * size)


# ---- the same bits -------------------------------------------------------------------------------


def cases_for_bits(dtype):
    """Batches of enough values for a team; columns that are frequent, and a full row."""
    rng = np.random.default_rng(5)
    n_rows, n_features = 900, 700
    density = rng.random(n_features) ** 3
    X = rng.standard_normal((n_rows, n_features)) * (rng.random((n_rows, n_features)) < density)
    X[3] = 1
    X, y = X.astype(dtype), np.where(rng.random(n_rows) < 0.5, 1, -1).astype(dtype)
    labels = rng.integers(0, 5, n_rows).astype(dtype)
    for form, rule, l1 in [
        ("narrow", "sgd", 0.0),
        ("wide", "sgd", 1e-3),
        ("narrow", "adam", 0.0),
        ("wide", "lamb", 0.0),
        ("array", "sgd", 1e-3),
    ]:
        for n_classes in (1, 5):
            yield as_form(X, form), labels if n_classes > 1 else y, n_classes, rule, l1


def bits(dtype):
    return [
        train(X, y, n_classes, rule, dtype=dtype, l1=l1, alpha=0.01, batch_size=400)
        for X, y, n_classes, rule, l1 in cases_for_bits(dtype)
    ]


def test_threads_and_instruction_sets_do_not_change_a_bit(isa, dtype, n_threads, assert_same_bits):
    """Protects reproducibility: every column is summed in the order of the rows."""
    assert_bits_stay(bits, dtype, assert_same_bits)


def test_many_threads_and_long_batches(assert_same_bits):
    """Protects what is dealt out in several waves, with more ranges than threads, to a value."""
    rng = np.random.default_rng(2)
    n_rows, n_features = 4000, 3000
    X = sparse.random(n_rows, n_features, 0.03, format="csr", rng=rng, dtype=np.float64)
    y = np.where(rng.random(n_rows) < 0.5, 1.0, -1.0)
    results = [
        train(X, y, batch_size=3900, epochs=1, n_threads=threads) for threads in (1, 2, 3, 4, 7, 8)
    ]
    assert X.nnz > 2 * 64 * 2048
    for result in results[1:]:
        assert_same_bits(list(result), list(results[0]))


def test_columns_may_stand_twice_and_in_any_order(assert_same_bits):
    """Protects matrices that nobody has sorted: what stands twice adds up."""
    X, y, _ = make_data(12)
    tidy = sparse.csr_array(X)
    parts = [
        (np.append(row.indices[::-1], row.indices), np.append(row.data[::-1], 2 * row.data))
        for row in (tidy[[i]] for i in range(N_ROWS))
    ]
    indptr = np.append(0, np.cumsum([len(columns) for columns, _ in parts]))
    twice = sparse.csr_array(
        (
            np.concatenate([values for _, values in parts]),
            np.concatenate([columns for columns, _ in parts]).astype(np.int32),
            indptr.astype(np.int32),
        ),
        shape=X.shape,
    )
    for l1, n_classes in itertools.product([0.0, 0.01], [1, 2]):
        target = y if n_classes == 1 else (y + 1) / 2
        given = {"n_classes": n_classes, "batch_size": 10, "l1": l1}
        expected, _ = train(3 * X, target, **given)
        assert_allclose(train(twice, target, **given)[0], expected, atol=1e-13)


# ---- what is touched, and refused ----------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
def test_plain_sgd_touches_the_columns_of_the_batch_alone(threads):
    """Protects sparsity: weights of other columns are neither read nor written."""
    rng = np.random.default_rng(0)
    X = sparse.random(2000, 500, 0.2, format="csr", rng=rng)
    X = sparse.hstack([X, sparse.csr_array((2000, 500)), X], format="csr")
    y = np.where(rng.random(2000) < 0.5, 1.0, -1.0)
    params = np.zeros(1501)
    params[500:1000] = np.nan
    train_rows(X, y, params, 0.1, loss="log_loss", batch_size=1000, n_threads=threads)
    assert np.isnan(params[500:1000]).all()
    assert np.isfinite(np.delete(params, np.s_[500:1000])).all()
    assert params[:500].all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n_classes", [1, 3])
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_divergence_names_the_end_of_the_batch(form, n_classes, rule):
    """Protects the diagnosis: where a loss ceases to be finite."""
    X, y, _ = make_data(5, n_classes)
    X[21, 0] = np.inf
    with pytest.raises(_core.DivergenceError) as caught:
        train(as_form(X, form), y, n_classes, rule=rule, batch_size=10)
    assert caught.value.position == 29


@pytest.mark.parametrize("form", FORMS)
def test_poisson_that_overflows_is_divergence(form):
    """Protects from silence: exp(p) is infinite before it is NaN, and no finite number."""
    X, y = np.full((8, 1), 1.0), np.ones(8)
    params = np.array([800.0, 0.0])
    with pytest.raises(_core.DivergenceError):
        train_rows(as_form(X, form), y, params, 0.1, loss="poisson", batch_size=4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"l1": 0.1, "rule": "momentum", "batch_size": 4}, "l1 must be 0.0"),
        ({"l1": 0.1, "rule": "adam", "batch_size": 4}, "l1 must be 0.0"),
        ({"l1": -0.1, "batch_size": 4}, "l1 must be finite and at least 0"),
        ({"average": np.zeros(6), "average_from": 1, "batch_size": 4}, "average must be None"),
        ({"n_classes": 0}, "n_classes must be finite and at least 1; got 0"),
    ],
)
def test_what_is_not_defined_is_refused_by_name(given, words):
    """Protects from a quiet other result: two rules have a proximal step."""
    X, y, _ = make_data(5)
    with pytest.raises(ValueError, match=words):
        train(X, y, **given)


def test_order_of_rows_and_rows_left_out():
    """Protects the order of visits over a matrix: shuffled, in blocks, or of some rows."""
    X, y, _ = make_data(9)
    rng = np.random.default_rng(3)
    some = rng.permutation(N_ROWS)[:40]
    blocks = rng.permutation(9)
    in_blocks = np.concatenate([np.arange(N_ROWS)[8 * k : 8 * k + 8] for k in blocks])
    for rows, given in [(some, {"order": some}), (in_blocks, {"order": blocks, "block": 8})]:
        params, expected = np.zeros(10), np.zeros(10)
        options = {"batch_size": 6, "loss": "log_loss"}
        if "block" in given:
            options["stop"] = N_ROWS
        train_rows(as_form(X, "narrow"), y, params, 0.1, **options, **given)
        options.pop("stop", None)
        train_rows(X[rows], y[rows], expected, 0.1, **options)
        assert_allclose(params, expected, atol=1e-15)
    assert_array_equal(np.sort(in_blocks), np.arange(N_ROWS))
