"""Linear models row by row in C: `fastgd.reference` to 1e-12, and the same bits everywhere.

Over arrays and matrices, every loss, every option, at sizes around the width of a vector. What
scikit-learn does is in test_linear_rows_sklearn.py, what is refused in test_linear_rows_input.py.
"""

import numpy as np
import pytest
from linear_rows import train_rows
from numpy.testing import assert_allclose, assert_array_equal

from fastgd import _core, reference

sparse = pytest.importorskip("scipy.sparse")

LOSSES = list(_core.LOSSES)
# each but the last asks for one thing, and the last for all that goes together
OPTIONS = {
    "plain": {},
    "l2": {"alpha": 0.1},
    "l1": {"l1": 0.03},
    "elasticnet": {"alpha": 0.1, "l1": 0.03},
    "average": {"average_from": 1},
    "late average": {"average_from": 40, "alpha": 0.1},
    "strong l2": {"alpha": 9.0, "average_from": 1, "l1": 0.01},
    "too strong l2": {"alpha": 30.0, "l1": 0.01},
    "PA-I": {"aggressive": 1, "alpha": 0.1},
    "PA-II": {"aggressive": 2, "l1": 0.03},
    "one class": {"one_class": 0.3},
    "decay": {"intercept_decay": 0.01, "alpha": 0.1},
    "no intercept": {"fit_intercept": False, "alpha": 0.1},
    "all": {"alpha": 0.1, "l1": 0.03, "average_from": 5, "one_class": 0.3, "intercept_decay": 0.1},
}
N_FEATURES = [1, 2, 7, 8, 9, 15, 16, 17, 63, 65, 200]


def make_data(n_features, loss, n_rows=120, seed=0):
    """A matrix with short and long rows, two of them empty, and targets that its loss takes."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, n_features)) / np.sqrt(n_features)
    X *= rng.random(X.shape) < rng.random((n_rows, 1))
    X[[3, 70]] = 0.0
    y = X @ rng.standard_normal(n_features) + 0.3 * rng.standard_normal(n_rows)
    if _core.LOSSES[loss]["targets"] == "sign":
        return X, np.where(y > 0, 1.0, -1.0)
    return X, y if _core.LOSSES[loss]["targets"] == "real" else np.exp(0.3 * y)


def matrix(X, dtype=None, index_type=np.int32):
    """The same as a matrix."""
    X = sparse.csr_array(X, dtype=dtype)
    X.indices, X.indptr = X.indices.astype(index_type), X.indptr.astype(index_type)
    return X


def sparse_rows(X):
    """The rows of a matrix as the reference takes them."""
    ends = zip(X.indptr[:-1], X.indptr[1:], strict=True)
    return [dict(zip(X.indices[a:b].tolist(), X.data[a:b].tolist(), strict=True)) for a, b in ends]


def arrays_for(params, options):
    """What the options need beside: keyword arguments of ``train_rows``."""
    n, given = params.size, dict(options)
    given["kept"] = np.zeros(_core.N_KEPT)
    given["penalties"] = np.zeros(1)
    if options.get("l1"):
        given["l1_state"] = np.zeros(n)
    if options.get("average_from"):
        given["average"] = np.zeros(n, params.dtype)
    return given


def start_at(n_features, dtype=np.float64):
    """Parameters to start from: not zero."""
    return np.linspace(-0.2, 0.3, n_features + 1).astype(dtype)


def train_by_reference(X, y, order, rates, options, loss, sample_weight=None):
    """Weights and intercept, averages, loss and penalties of the specification."""
    start = start_at(X.shape[1]).tolist()
    w, b, state = start[:-1], start[-1:], {}
    rows = X.tolist() if isinstance(X, np.ndarray) else sparse_rows(X)
    sums = reference.linear_rows(
        rows, y.tolist(), w, b, order.tolist(), rates.tolist(), state,
        loss=loss, loss_parameter=parameter_of(loss), sample_weight=sample_weight, **options,
    )  # fmt: skip
    return np.array([*w, *b]), np.array([*state["average"], state["average_b"]]), sums


def parameter_of(loss):
    """The loss's own parameter, or None."""
    return _core.LOSSES[loss]["default"] if _core.LOSSES[loss]["parameter"] else None


def assert_follows_reference(X, y, options, loss="squared_error", rtol=1e-12, weighted=False):
    """Train in two calls over two orders, and compare all that comes of it."""
    n = X.shape[0]
    rng = np.random.default_rng(2)
    order = np.concatenate([rng.permutation(n), rng.permutation(n)[: n // 2]])
    rates = 0.1 / np.sqrt(np.arange(1, order.size + 1))
    weights = rng.choice([0.0, 0.5, 1.0, 2.0], n) if weighted else None
    expected, average, sums = train_by_reference(
        X, y, order, rates, options, loss, None if weights is None else weights.tolist()
    )
    params = start_at(X.shape[1], X.dtype)
    given = arrays_for(params, options)
    total = 0.0
    for first, stop in [(0, 50), (50, n), (n, order.size)]:
        part = order[:n] if first < n else order[n:]
        shift = 0 if first < n else n
        total += train_rows(
            X,
            y.astype(X.dtype),
            params,
            rates[first:stop],
            order=np.ascontiguousarray(part),
            start=first - shift,
            stop=stop - shift,
            t=first,
            loss=loss,
            loss_parameter=parameter_of(loss) or 0.0,
            sample_weight=None if weights is None else weights.astype(X.dtype),
            **given,
        )
    scale = np.abs(expected).max()
    assert_allclose(params, expected, rtol=rtol, atol=rtol * scale)
    assert_allclose([total, given["penalties"][0]], sums, rtol=rtol)
    if "average" in given:
        assert_allclose(given["average"], average, rtol=rtol, atol=rtol * scale)
    if options.get("l1"):
        assert np.any(params[:-1] == 0.0) or X.shape[1] < 60


@pytest.mark.parametrize("sparse_too", [False, True], ids=["array", "matrix"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("n_features", N_FEATURES)
def test_rows_follow_the_reference(n_features, options, sparse_too):
    """Protects every option, over rows of any width."""
    X, y = make_data(n_features, "squared_error")
    X = matrix(X) if sparse_too else X
    assert_follows_reference(X, y, OPTIONS[options], rtol=2e-12)


@pytest.mark.parametrize("sparse_too", [False, True], ids=["array", "matrix"])
@pytest.mark.parametrize("options", ["l2", "elasticnet", "average", "PA-I", "PA-II"])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_follow_the_reference(loss, options, sparse_too):
    """Protects every loss, with sample weights, over arrays and matrices."""
    X, y = make_data(21, loss)
    X = matrix(X) if sparse_too else X
    assert_follows_reference(X, y, OPTIONS[options], loss, rtol=2e-12, weighted=True)


@pytest.mark.parametrize("sparse_too", [False, True], ids=["array", "matrix"])
def test_an_average_survives_weights_that_go_to_zero(sparse_too):
    """Protects the average where the penalty takes all weights to zero: it begins anew.

    Before that it is the difference of numbers 1e9 times as large, here as in scikit-learn.
    """
    X, y = make_data(9, "squared_error")
    X = matrix(X) if sparse_too else X
    assert_follows_reference(X, y, {"alpha": 30.0, "average_from": 1}, rtol=1e-6)


@pytest.mark.parametrize("sparse_too", [False, True], ids=["array", "matrix"])
@pytest.mark.parametrize("options", [name for name in OPTIONS if name != "strong l2"])
def test_float32_is_near_the_reference(options, sparse_too):
    """Protects the kernels of float32: what they do differs from float64 by rounding alone.

    But averages begin anew earlier, so strong penalties are left out.
    """
    X, y = make_data(19, "squared_error")
    X = X.astype(np.float32)
    X = matrix(X) if sparse_too else X
    assert_follows_reference(X, y.astype(np.float32), OPTIONS[options], rtol=1e-4)


def results_of(X, y, dtype, options, loss="log_loss"):
    """Everything that training writes, as arrays."""
    params = start_at(X.shape[1], dtype)
    given = arrays_for(params, options)
    rates = np.full(X.shape[0], 0.1)
    total = train_rows(X, y.astype(dtype), params, rates, loss=loss, **given)
    arrays = [value for value in given.values() if isinstance(value, np.ndarray)]
    return [params, np.array(total), *arrays]


@pytest.mark.parametrize("options", OPTIONS)
def test_indices_and_instruction_sets_do_not_change_a_bit(dtype, isa, options, assert_same_bits):
    """Protects reproducibility: indices of 32 and 64 bits, and every instruction set."""
    X, y = make_data(67, "log_loss", n_rows=300)
    given = OPTIONS[options]
    for make in (lambda: X.astype(dtype), lambda: matrix(X, dtype)):
        expected = results_of(make(), y, dtype, given)
        _core.use_isa(_core.SUPPORTED_ISAS[0])
        assert_same_bits(expected, results_of(make(), y, dtype, given))
        _core.use_isa(isa)
    wide = results_of(matrix(X, dtype, np.int64), y, dtype, given)
    assert_same_bits(wide, expected)
    checked = results_of(_core.CSR(matrix(X, dtype)), y, dtype, given)
    assert_same_bits(checked, expected)


@pytest.mark.parametrize("options", ["l2", "elasticnet", "average", "all"])
def test_columns_in_any_order_and_twice(options):
    """Protects matrices that are not in canonical form: what stands twice adds up.

    But in the squares of passive-aggressive steps, and in the norms that penalties are made of, it
    counts by itself, as in scikit-learn.
    """
    X, y = make_data(19, "squared_error")
    once = matrix(X)
    ends = zip(once.indptr[:-1], once.indptr[1:], strict=True)
    order = np.concatenate([np.arange(b - 1, a - 1, -1) for a, b in ends])
    turned = (once.data[order], once.indices[order], once.indptr)
    halves = (np.repeat(once.data / 2, 2), np.repeat(once.indices, 2), once.indptr * 2)
    rates = np.full(X.shape[0], 0.1)
    results = []
    for data in (once, *(sparse.csr_array(parts, shape=X.shape) for parts in (turned, halves))):
        params = start_at(19)
        given = arrays_for(params, OPTIONS[options])
        train_rows(data, y, params, rates, loss="huber", **given)
        results.append([params, given.get("average"), given.get("l1_state")])
    for other in results[1:]:
        for ours, expected in zip(other, results[0], strict=True):
            if expected is not None:
                assert_allclose(ours, expected, rtol=1e-12, atol=1e-13)


def test_a_matrix_without_a_value_is_trained_on():
    """Protects the pointers of empty arrays: the intercept is all there is to learn."""
    X = sparse.csr_array((50, 4))
    params = np.zeros(5)
    train_rows(X, np.ones(50), params, 0.1, alpha=0.1, l1=0.1, l1_state=np.zeros(5))
    assert_array_equal(params[:-1], 0.0)
    assert 0.9 < params[-1] < 1.0


def test_a_row_that_is_not_finite_is_found(dtype):
    """Protects the position that an error names: not finite is the prediction of row 321."""
    X, y = make_data(5, "squared_error", n_rows=400)
    X[321, 2] = np.nan
    for data in (X.astype(dtype), matrix(X, dtype)):
        with pytest.raises(_core.DivergenceError, match="row 321") as raised:
            train_rows(data, y.astype(dtype), np.zeros(6, dtype), 0.1, alpha=0.1)
        assert raised.value.position == 321
