"""What the solvers ask of C: loss and gradient over all rows, products of columns, factors."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose

import fastgd
from fastgd import _core, _solvers, reference

LOSSES = list(_core.LOSSES)
N_FEATURES = [1, 2, 7, 8, 9, 16, 17, 65, 200]


def make_rows(n_rows, n_features, n_outputs=1, dtype=np.float64, seed=0):
    """Rows, labels, weights of rows, and a point near zero."""
    rng = np.random.default_rng(seed)
    X = (rng.standard_normal((n_rows, n_features)) / np.sqrt(n_features)).astype(dtype)
    y = rng.integers(0, n_outputs, n_rows) if n_outputs > 1 else rng.choice([-1.0, 1.0], n_rows)
    weights = rng.choice([0.0, 0.5, 1.0, 2.5], n_rows)
    w = 0.5 * rng.standard_normal((n_outputs, n_features + 1))
    return X, y.astype(dtype), weights.astype(dtype), w.astype(dtype)


def as_csr(X, index_dtype, density=0.4, seed=1):
    """Some of the elements of X, and the others zero, as the C sees them."""
    X = np.where(np.random.default_rng(seed).random(X.shape) < density, X, 0)
    sparse = sp.csr_array(X)
    sparse.indices = sparse.indices.astype(index_dtype)
    sparse.indptr = sparse.indptr.astype(index_dtype)
    return X, _core.CSR(sparse)


def look(X, y, weights, w, loss="log_loss", parameter=None, predictions=None):
    memory = _core.full_scratch(X, len(w))
    row = _core.LOSSES[loss]
    parameter = row["default"] if parameter is None else parameter
    return _core.full_gradient(
        X, y, weights, w, memory, predictions, loss=row["number"], loss_parameter=parameter
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_all_rows_are_a_batch_of_the_reference(loss):
    """Protects value and gradient of each loss, with weights of the rows, dense and sparse."""
    X, y, weights, w = make_rows(131, 9)
    y = np.abs(y) if _core.LOSSES[loss]["targets"] in ("positive", "power") else y
    y = np.maximum(y, 0) if _core.LOSSES[loss]["targets"] == "nonnegative" else y
    masked, sparse = as_csr(X, np.int32)
    for rows, dense in ((X, X), (sparse, masked)):
        value, gradient = look(rows, y, weights, w, loss)
        expected = reference.linear_gradient(
            dense.tolist(),
            y.tolist(),
            w[0, :-1].tolist(),
            float(w[0, -1]),
            range(131),
            loss,
            sample_weight=weights.tolist(),
        )
        assert_allclose(value, expected[0] * 131, rtol=1e-12)
        assert_allclose(gradient[0], np.append(*expected[1:]) * 131, rtol=1e-10, atol=1e-12)


def softmax_by_numpy(X, y, weights, w):
    p = X @ w[:, :-1].T + w[:, -1]
    p = p - p.max(axis=1, keepdims=True)
    total = np.exp(p).sum(axis=1)
    value = (weights * (np.log(total) - p[np.arange(len(y)), y])).sum()
    d = np.exp(p) / total[:, None]
    d[np.arange(len(y)), y] -= 1
    d *= weights[:, None]
    return value, np.column_stack([d.T @ X, d.sum(axis=0)])


@pytest.mark.parametrize("n_outputs", [2, 3, 10])
@pytest.mark.parametrize("n_features", N_FEATURES)
def test_several_outputs_are_a_softmax(n_features, n_outputs):
    """Protects the multinomial model: dense, and sparse with indices of both widths."""
    X, y, weights, w = make_rows(600, n_features, n_outputs)
    cases = [(X, X), as_csr(X, np.int32), as_csr(X, np.int64)]
    for dense, rows in cases:
        value, gradient = look(rows, y, weights, w)
        expected = softmax_by_numpy(dense, y.astype(int), weights, w)
        assert_allclose(value, expected[0], rtol=1e-12)
        assert_allclose(gradient, expected[1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("n_features", N_FEATURES)
def test_widths_and_numbers_of_rows(n_features, dtype):
    """Protects the ends: of rows, of groups of rows, of chunks, of stretches in their dtype."""
    tolerance = 1e-11 if dtype == np.float64 else 2e-5
    for n_rows in (1, 3, 4, 63, 64, 65, 511, 513, 4097):
        X, y, weights, w = make_rows(n_rows, n_features, dtype=dtype)
        p = np.empty((1, n_rows), dtype)
        for dense, rows in [(X, X), as_csr(X, np.int32), as_csr(X, np.int64)]:
            value, gradient = look(rows, y, weights, w, "squared_error", predictions=p)
            wide = dense.astype(np.float64)
            expected = wide @ w[0, :-1] + w[0, -1]
            d = weights * (expected - y)
            assert_allclose(p[0], expected, rtol=0, atol=tolerance)
            assert_allclose(value, 0.5 * (d * (expected - y)).sum(), rtol=tolerance)
            scale = np.abs(d) @ np.abs(np.column_stack([wide, np.ones(n_rows)]))
            error = np.abs(gradient[0] - np.append(d @ wide, d.sum()))
            assert (error <= tolerance * scale + 1e-12).all()


def test_float32_sums_are_as_good_as_the_predictions():
    """Protects solving to 1e-8 from float32 rows: their sums are not float32's."""
    X, y, _, w = make_rows(300_000, 3, dtype=np.float32)
    X += 1
    _, gradient = look(X, y, None, w, "squared_error")
    d = (X @ w[0, :-1] + w[0, -1]).astype(np.float64) - y
    assert_allclose(gradient[0], np.append(d @ X.astype(np.float64), d.sum()), rtol=1e-6)


def test_threads_and_instruction_sets_do_not_change_a_bit(isa, dtype, n_threads, assert_same_bits):
    """Protects reproducibility: sums have one order, whoever computes them."""
    for n_rows, n_features, n_outputs in [(9001, 30, 1), (5000, 17, 3), (200, 500, 1)]:
        X, y, weights, w = make_rows(n_rows, n_features, n_outputs, dtype)
        for rows in (X, as_csr(X, np.int32)[1]):
            results = []
            for team, kernels in ((1, _core.SUPPORTED_ISAS[0]), (n_threads, isa)):
                _core.use_isa(kernels)
                fastgd.set_num_threads(team)
                results.append(list(look(rows, y, weights, w)))
                if rows is X:
                    results[-1] += [np.triu(_core.gram(X, weights))]
            assert_same_bits(results[1], results[0])


@pytest.mark.parametrize("n_features", [1, 2, 15, 16, 17, 33, 70])
def test_products_of_columns(n_features, dtype):
    """Protects the Hessian: weighted products with a column of ones, in chunks and their ends."""
    for n_rows in (1, 255, 257, 1100):
        X, _, weights, _ = make_rows(n_rows, n_features, dtype=dtype)
        ones = np.column_stack([X, np.ones(n_rows)]).astype(np.float64)
        expected = ones.T @ (weights[:, None] * ones)
        tolerance = {"rtol": 1e-10 if dtype == np.float64 else 1e-4, "atol": 1e-3 * dtype.itemsize}
        assert_allclose(np.triu(_core.gram(X, weights)), np.triu(expected), **tolerance)
        moments = np.column_stack([weights @ ones[:, :-1], weights @ ones[:, :-1] ** 2])
        assert_allclose(_core.column_moments(X, weights), moments, rtol=1e-5, atol=1e-5)
        dense, sparse = as_csr(X, np.int64)
        expected = np.column_stack([weights @ dense, weights @ dense**2])
        assert_allclose(_core.column_moments(sparse, weights), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 40, 100])
def test_a_factor_solves(n):
    """Protects the preconditioner: R'R is the matrix, and both its halves are solved with."""
    rng = np.random.default_rng(n)
    root = rng.standard_normal((n, n))
    a = root @ root.T + 0.1 * np.eye(n)
    r = np.triu(a)
    _core.factor(r)
    r = np.triu(r)
    assert_allclose(r.T @ r, a, rtol=1e-9, atol=1e-9)
    x = rng.standard_normal(n)
    for back, side in ((False, r.T), (True, r)):
        z = x.copy()
        _core.solve(z, np.ascontiguousarray(r), back)
        assert_allclose(side @ z, x, rtol=1e-7, atol=1e-7)


def test_the_factor_of_a_singular_matrix_is_one():
    """Protects columns that depend on each other, or are zero, without a penalty."""
    X = np.column_stack([np.arange(5.0), 2 * np.arange(5.0), np.zeros(5)])
    r = X.T @ X
    _core.factor(r)
    assert np.isfinite(r).all()
    assert (np.diag(r) > 0).all()


def test_what_does_not_fit_is_refused():
    """Protects memory: C is given nothing that is too small."""
    X, y, _, w = make_rows(20, 3, 3)
    with pytest.raises(ValueError, match=r"full_scratch\(X, n_outputs\)"):
        _core.full_gradient(X, y, None, w, np.empty(3, np.uint8), loss=0)
    with pytest.raises(ValueError, match="y must hold numbers from 0 to 2"):
        look(X, y + 1, None, w)
    with pytest.raises(ValueError, match="weights must hold 12 elements; got 9"):
        look(X, y, None, w[:, :-1].copy())
    with pytest.raises(ValueError, match="predictions must hold 60 elements"):
        look(X, y, None, w, predictions=np.empty((1, 20)))
    with pytest.raises(ValueError, match="loss must be a number of LOSSES"):
        _core.full_gradient(X, y, None, w, _core.full_scratch(X, 3), loss=99)
    with pytest.raises(ValueError, match="r must hold 9 elements"):
        _core.solve(np.ones(3), np.ones((2, 2)), True)


def test_a_large_array_is_read_in_several_calls(monkeypatch):
    """Protects the answer to Ctrl-C: the parts of a look are added up."""
    X, y, weights, w = make_rows(1000, 5)
    objective = _solvers.Objective(X, y, weights, "log_loss", l2=0.1)
    whole = objective(w.ravel())
    monkeypatch.setattr(_solvers, "_ELEMENTS_PER_CALL", 700)
    parts = objective(w.ravel())
    assert_allclose(parts.value, whole.value, rtol=1e-14)
    assert_allclose(parts.grad, whole.grad, rtol=1e-12)
