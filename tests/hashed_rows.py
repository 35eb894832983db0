"""Sparse rows of many columns, and what a model with hashing makes of them, made beforehand."""

import numpy as np
import pytest

from fastgd import reference

sparse = pytest.importorskip("scipy.sparse")

HUGE = 2**62  # columns


def make_rows(n_rows=131, n_columns=3000, width=6, seed=0, dtype=np.float64, index=np.int32):
    """Rows of up to `width` values, some of none, with labels that they tell."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, width + 1, n_rows)
    lengths[[0, -1]] = 0
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(index)
    indices = np.concatenate(
        [np.sort(rng.integers(0, n_columns, n)) for n in lengths], dtype=index, casting="unsafe"
    )
    data = (0.5 * rng.standard_normal(indptr[-1])).astype(dtype)
    X = sparse.csr_array((data, indices, indptr), shape=(n_rows, n_columns))
    score = np.add.reduceat(np.append(data, 0.0), indptr[:-1]) * (lengths > 0)
    return X, np.where(score + 0.1 * rng.standard_normal(n_rows) > 0, 1, -1)


def with_columns(X, add, n_columns):
    """The same rows with indices of 64 bits, and other columns."""
    shape = X.shape[0], n_columns
    return sparse.csr_array(
        (X.data, X.indices.astype(np.int64) + add, X.indptr.astype(np.int64)), shape=shape
    )


def hashed_beforehand(X, bits, pairs=()):
    """The rows that `reference.hashed_row` makes, as a matrix of 2**bits columns."""
    made = []
    for first, last in zip(X.indptr, X.indptr[1:], strict=False):
        columns, values = X.indices[first:last].tolist(), X.data[first:last]
        made.append(reference.hashed_row(list(zip(columns, values, strict=True)), bits, pairs))
    flat = [feature for row in made for feature in row]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in made])])
    data = np.array([value for _, value in flat], dtype=X.dtype)
    indices = np.array([number for number, _ in flat], dtype=np.int64)
    return sparse.csr_array((data, indices, indptr), shape=(X.shape[0], 2**bits))
