"""What linear models are handed in C: matrices, orders, options; and what is refused, by name."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from linear_rows import train_rows
from numpy.testing import assert_array_equal

from fastgd import _core

sparse = pytest.importorskip("scipy.sparse")

INDEX_TYPES = [np.int32, np.int64]


def matrix_of(index_type=np.int32, **changes):
    """The parts of a CSR matrix of three rows and five columns; the second row is empty."""
    parts = {
        "data": np.array([1.0, 2.0, 3.0, 4.0]),
        "indices": np.array([0, 4, 1, 3], index_type),
        "indptr": np.array([0, 2, 2, 4], index_type),
        "shape": (3, 5),
    }
    return SimpleNamespace(**{**parts, **changes})


@pytest.mark.parametrize("index_type", INDEX_TYPES)
def test_a_matrix_is_used_as_it_is(index_type, dtype):
    """Protects large matrices: no copy is made of them."""
    X = matrix_of(index_type, data=np.ones(4, dtype))
    taken = _core.CSR(X)
    assert taken.data is X.data
    assert taken.indices is X.indices
    assert taken.indptr is X.indptr
    assert (taken.shape, taken.dtype, taken.itemsize) == ((3, 5), dtype, dtype.itemsize)
    assert _core.scratch(taken, 1).nbytes == _core.scratch(X, 1).nbytes > 0


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csr_matrix])
def test_matrices_of_scipy_are_taken(make):
    """Protects both kinds that SciPy has."""
    taken = _core.CSR(make(np.eye(3)))
    assert taken.shape == (3, 3)
    assert _core.CSR(taken).indices is taken.indices


@pytest.mark.parametrize("index_type", INDEX_TYPES)
@pytest.mark.parametrize("where", [0, 1, 3])
@pytest.mark.parametrize("column", [-1, 5, 2**31 - 1, -(2**31)])
def test_columns_outside_the_matrix_are_refused(index_type, where, column):
    """Protects memory: C would read and write there."""
    X = matrix_of(index_type)
    X.indices[where] = column
    row = 0 if where < 2 else 2
    with pytest.raises(
        ValueError,
        match=re.escape(f"from 0 to 4, and X.indptr must rise from 0 to at most 4; row {row}"),
    ):
        _core.CSR(X)
    with pytest.raises(ValueError, match=re.escape("X.indices must be from 0 to 4")):
        train_rows(X, np.ones(3), np.zeros(6), 0.1)


@pytest.mark.parametrize("index_type", INDEX_TYPES)
@pytest.mark.parametrize(
    ("indptr", "row"),
    [
        ([1, 2, 2, 4], 0),
        ([0, 2, 1, 4], 1),
        ([0, 2, 2, 5], 2),
        ([0, -1, 2, 4], 0),
        ([0, 9, 2, 4], 0),
    ],
)
def test_rows_outside_the_values_are_refused(index_type, indptr, row):
    """Protects memory: every row lies within the values, and ends after it begins."""
    with pytest.raises(ValueError, match=f"X.indptr must rise from 0 to at most 4; row {row} of X"):
        _core.CSR(matrix_of(index_type, indptr=np.array(indptr, index_type)))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"data": [1.0] * 4}, TypeError, "X.data must be a NumPy array; got list"),
        ({"data": np.ones(4, int)}, TypeError, "X.data must be of dtype float32 or float64"),
        ({"data": np.ones(8)[::2]}, ValueError, "X.data must be C-contiguous"),
        ({"data": np.ones(3)}, ValueError, "X.indices must hold 3 elements; got 4"),
        ({"indices": [0, 4, 1, 3]}, TypeError, "X.indices must be a NumPy array; got list"),
        (
            {"indices": np.zeros(4, np.int16)},
            TypeError,
            "X.indices must be of dtype int32 or int64",
        ),
        (
            {"indices": np.zeros(4, np.int64)},
            TypeError,
            "X.indices and X.indptr must have one dtype",
        ),
        ({"indices": np.zeros(8, np.int32)[::2]}, ValueError, "X.indices must be C-contiguous"),
        ({"indptr": np.zeros(3, np.int32)}, ValueError, "X.indptr must hold 4 elements; got 3"),
        ({"indptr": np.zeros(4, np.uint32)}, TypeError, "X.indptr must be of dtype int32 or int64"),
        ({"shape": (3,)}, ValueError, "X must have two dimensions; got 1"),
        ({"format": "csc"}, TypeError, "X must be in CSR format if it is sparse; got csc"),
    ],
)
def test_matrices_that_are_refused(changes, error, words):
    """Protects the names in errors, and memory."""
    with pytest.raises(error, match=re.escape(words)):
        _core.CSR(matrix_of(**changes))


def test_an_empty_matrix_is_refused():
    """Protects training from data that is none."""
    X = matrix_of(shape=(3, 0), data=np.zeros(0), indices=np.zeros(0, np.int32))
    X.indptr[:] = 0
    with pytest.raises(ValueError, match=re.escape("X must not be empty; got shape (3, 0)")):
        train_rows(X, np.ones(3), np.zeros(1), 0.1)


def test_rows_may_be_left_out(dtype, assert_same_bits):
    """Protects early stopping: an order of some rows trains on them alone."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 20)).astype(dtype)
    y = rng.standard_normal(300).astype(dtype)
    chosen = rng.permutation(300)[:271]
    for batch_size in (1, 7):
        some, alone = np.zeros(21, dtype), np.zeros(21, dtype)
        losses = [
            [
                train_rows(X, y, some, 0.01, order=chosen, batch_size=batch_size, **part),
                train_rows(X[chosen], y[chosen], alone, 0.01, batch_size=batch_size, **part),
            ]
            for part in ({"stop": 140}, {"start": 140})
        ]
        assert_same_bits(some, alone)
        for ours, theirs in losses:
            assert ours == theirs
    for order, block in [(np.arange(301), 1), (np.arange(149), 2), (np.arange(151), 2)]:
        with pytest.raises(ValueError, match=f"order must be of all .* of {block} of the 300 rows"):
            train_rows(X, y, some, 0.01, order=order, block=block)
    with pytest.raises(ValueError, match="start < stop within the 271 rows"):
        train_rows(X, y, some, 0.01, order=chosen, stop=272)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"average": np.zeros(6)}, "average must be None"),
        ({"aggressive": 1}, "aggressive must be 0"),
        ({"intercept_decay": 0.01}, "intercept_decay must be 1.0"),
        ({"penalties": np.zeros(1)}, "penalties must be None"),
    ],
)
@pytest.mark.parametrize(
    "how", [{"batch_size": 2}, {"hypers": [0.0, 0.9, 0, 0, 0, 0], "states": (np.zeros(6),)}]
)
def test_what_is_for_plain_sgd_row_by_row(given, words, how):
    """Protects against options that would be passed over in silence."""
    params = np.ones(6)
    if "l1" in given and "batch_size" in how:
        how = {**how, "rule": "adam", "states": (np.zeros(6), np.zeros(6), None)}
    with pytest.raises(ValueError, match=re.escape(words)):
        train_rows(np.ones((3, 5)), np.ones(3), params, 0.1, **given, **how)
    assert_array_equal(params, np.ones(6))
