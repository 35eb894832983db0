"""Hashed features, as Vowpal Wabbit has them: which weight a column has, which products have one.

Rows are trained on as they lie: the mask is put on a column's number where C reads it. Products of
features are made while they are needed, some rows at a time (``_core.Interactions``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from sklearn.utils.extmath import safe_sparse_dot

from . import _core
from ._linear_input import Array
from .train import interactions_of

__all__ = ["HashedRows", "Hashing", "hashed", "hashing_of", "products"]

Range = tuple[int, int]  # of columns: the first, and the one after the last


@dataclass(frozen=True)
class Hashing:
    """What a model does with the columns of X."""

    bits: int
    pairs: tuple[tuple[Range, Range], ...] = ()  # whose products are features, too

    @property
    def n_weights(self) -> int:
        """Weights of one output."""
        return 1 << self.bits

    @property
    def ranges(self) -> NDArray[np.int64]:
        """Pairs of ranges, as C sees them."""
        return np.array(self.pairs, dtype=np.int64).reshape(-1, 4)

    def check(self, X: Any) -> None:
        """Refuse what is no sparse matrix."""
        if not issparse(X):
            raise TypeError(
                f"X must be a sparse matrix (CSR) with hashing={self.bits}; got a dense array"
            )


def hashing_of(bits: int | None, interactions: Any, n_columns: int) -> Hashing | None:
    """Read the parameters `hashing` and `interactions`, of data with so many columns."""
    if bits is None:
        if interactions is not None:
            raise ValueError(f"interactions must be None without hashing; got {interactions!r}")
        return None
    if isinstance(bits, bool):
        raise ValueError(f"hashing must be a number of bits from 1 to 31, or None; got {bits}")
    if interactions is None:
        return Hashing(int(bits))
    if isinstance(interactions, str):  # "quadratic"
        every = (0, n_columns)
        return Hashing(int(bits), ((every, every),))
    pairs = tuple(_pair(given, n_columns) for given in interactions)
    if not pairs or len({frozenset(pair) for pair in pairs}) < len(pairs):
        raise ValueError(
            f"interactions must name at least one pair of ranges, and each once; got {interactions}"
        )
    return Hashing(int(bits), pairs)


def _pair(given: Any, n_columns: int) -> tuple[Range, Range]:
    try:
        first, second = ((start, stop) for start, stop in given)
    except (TypeError, ValueError):
        first = second = (None, None)
    for start, stop in (first, second):
        whole = isinstance(start, Integral) and isinstance(stop, Integral)
        if not whole or not 0 <= start < stop <= n_columns:
            raise ValueError(
                'interactions must be "quadratic" or pairs ((start, stop), (start, stop)) of '
                f"ranges of the {n_columns} columns, with 0 <= start < stop <= {n_columns}; got "
                f"{given!r}"
            )
    (a, b), (c, d) = first, second
    if (a, b) != (c, d) and a < d and c < b:
        raise ValueError(
            f"interactions must be of ranges that are the same or have no column in common; got "
            f"{given!r}"
        )
    return (int(a), int(b)), (int(c), int(d))


class HashedRows:
    """The rows of a CSR matrix as a model with hashing sees them: made where they are multiplied.

    Parameters
    ----------
    X : scipy.sparse CSR array or matrix of shape (n_rows, n_columns)
        The rows as they are.
    hashing : Hashing
        What is done with them.
    """

    def __init__(self, X: Any, hashing: Hashing) -> None:
        hashing.check(X)
        self.dtype, self.shape = X.dtype, (X.shape[0], hashing.n_weights)
        self._X, self._ranges = X, hashing.ranges
        self._bits = hashing.bits

    def __matmul__(self, weights: Any) -> Array:
        """Multiply with weights of shape (n_weights,) or (n_weights, n_outputs), also sparse."""
        shape = self.shape[:1] + weights.shape[1:]
        out = np.empty(shape, np.result_type(self.dtype, weights.dtype))
        if issparse(weights):
            weights = weights.tocsr()
        first = 0
        for rows in self._chunks():
            last = first + rows.shape[0]
            if issparse(weights):
                out[first:last] = (rows @ weights).toarray()
            elif weights.ndim == 1:
                out[first:last] = rows @ weights
            else:  # one by one: SciPy would copy them all to lie side by side
                for k, column in enumerate(weights.T):
                    out[first:last, k] = rows @ column
            first = last
        return out

    def _chunks(self) -> Iterator[Any]:
        """Make the rows, some at a time."""
        X = _core.CSR(self._X, self._bits)
        n_rows, first = self.shape[0], 0
        interactions = interactions_of(X, self._ranges)
        as_they_are = np.zeros(1, dtype=np.int64)
        while first < n_rows:
            made, rows = interactions.take(as_they_are, n_rows, first, n_rows)
            yield csr_array((made.data, made.indices, made.indptr), shape=made.shape)
            first += rows.size


def hashed(X: Any, hashing: Hashing | None) -> Any:
    """Rows as a model sees them."""
    return X if hashing is None else HashedRows(X, hashing)


def products(X: Any, weights: Any) -> Array:
    """Dense product of rows, which may be hashed, with weights, which may be sparse."""
    made = isinstance(X, HashedRows)
    product: Array = X @ weights if made else safe_sparse_dot(X, weights, dense_output=True)
    return product
