"""Data in chunks, for ``fit`` and ``partial_fit``: files that no array maps, larger than memory.

Arrays on disk need nothing of this: ``numpy.load(path, mmap_mode="r")`` goes straight into ``fit``.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._ahead import ahead
from .datasets import DataError, require

__all__ = ["ParquetChunks"]

_BATCHES = 8  # decoded together, and shuffled together


class ParquetChunks:
    """Chunks (X, y) of a Parquet file; each iteration is an epoch, in an order of its own.

    A thread reads and decodes ahead. Row groups are shuffled, and rows within windows of eight
    chunks, so memory holds some twenty chunks however large the file is (Xu et al., "In-database
    machine learning with CorgiPile", SIGMOD 2022, algorithm 1).

    Parameters
    ----------
    path : str or Path
        The file.
    target : str
        Column of y.
    features : sequence of str, optional
        Columns of X, in this order; by default all others.
    chunk_rows : int, default=65536
        Rows of a chunk; the last of an epoch may have fewer.
    dtype : dtype, default=float32
        Of X; y of a number column, too, if it is of a floating type.
    shuffle : bool, default=True
        False keeps the file's order.
    seed : int, default=0
        Of the orders.

    Attributes
    ----------
    features : tuple of str
        Columns of X.
    n_rows : int
        Rows of the file.

    Raises
    ------
    fastgd.datasets.DataError
        pyarrow is not installed (extra ``[parquet]``), or a column is missing or not numeric; at
        iteration, if values are missing.

    Examples
    --------
    >>> import tempfile, pyarrow, pyarrow.parquet
    >>> from fastgd.linear_model import SGDRegressor
    >>> x = np.linspace(-1, 1, 1000)
    >>> path = tempfile.mkdtemp() + "/line.parquet"
    >>> pyarrow.parquet.write_table(pyarrow.table({"x": x, "y": 2 * x}), path)
    >>> chunks = ParquetChunks(path, "y", chunk_rows=100)
    >>> model = SGDRegressor(alpha=0.0, eta0=0.1, tol=1e-6).fit(chunks)
    >>> round(float(model.coef_[0]), 1)
    2.0

    The same by hand, an epoch more:

    >>> for X, y in chunks:
    ...     model = model.partial_fit(X, y)
    >>> round(float(model.coef_[0]), 1)
    2.0
    """

    def __init__(
        self,
        path: str | Path,
        target: str,
        *,
        features: Sequence[str] | None = None,
        chunk_rows: int = 65536,
        dtype: DTypeLike = np.float32,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        if chunk_rows < 1:
            raise ValueError(f"chunk_rows must be 1 or more; got {chunk_rows}")
        self._file = require("pyarrow.parquet", extra="parquet").ParquetFile(Path(path))
        self._target, self._chunk_rows, self._dtype = target, chunk_rows, np.dtype(dtype)
        self._shuffle, self._random = shuffle, np.random.default_rng(seed)
        names = self._file.schema_arrow.names
        if features is None:
            features = [name for name in names if name != target]
        self.features = tuple(features)
        self.n_rows: int = self._file.metadata.num_rows
        self._check(names)

    def _check(self, names: list[str]) -> None:
        """Refuse columns that cannot be used."""
        missing = [name for name in (self._target, *self.features) if name not in names]
        if missing:
            raise DataError(f"no column {missing} in the file, which has {names}")
        types = require("pyarrow", extra="parquet").types
        for name in self.features:
            kind = self._file.schema_arrow.field(name).type
            if not any(f(kind) for f in (types.is_integer, types.is_floating, types.is_boolean)):
                raise DataError(f"features must be numeric columns; {name!r} is of type {kind}")

    def __iter__(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Go through the file once."""
        groups = np.arange(self._file.num_row_groups)
        if self._shuffle:
            self._random.shuffle(groups)
        columns = list(dict.fromkeys([*self.features, self._target]))
        batches = self._file.iter_batches(self._chunk_rows, row_groups=groups, columns=columns)
        for window in ahead(lambda _: self._window(batches), itertools.count()):
            if window is None:
                return
            yield from self._chunks(*window)

    def _window(self, batches: Iterator[Any]) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Decode the next batches; None at the end."""
        decoded = [self._arrays(batch) for _, batch in zip(range(_BATCHES), batches, strict=False)]
        if not decoded:
            return None
        X, y = (np.concatenate(parts) for parts in zip(*decoded, strict=True))
        if self._shuffle:
            order = self._random.permutation(len(y))
            X, y = X[order], y[order]
        return X, y

    def labels(self) -> NDArray[Any]:
        """Distinct values of the target, sorted; reads its column alone.

        Returns
        -------
        ndarray
            As in the chunks.

        Raises
        ------
        fastgd.datasets.DataError
            Values are missing.
        """
        batches = self._file.iter_batches(self._chunk_rows, columns=[self._target])
        parts = [np.unique(self._values(batch)) for batch in batches]
        return np.unique(np.concatenate(parts)) if parts else np.empty(0, self._dtype)

    def _arrays(self, batch: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Turn a batch of columns into rows."""
        X = np.empty((batch.num_rows, len(self.features)), self._dtype)
        for j, name in enumerate(self.features):
            X[:, j] = _column(batch, name).to_numpy(zero_copy_only=False)
        return X, self._values(batch)

    def _values(self, batch: Any) -> NDArray[Any]:
        """Targets of a batch."""
        target = _column(batch, self._target)
        if hasattr(target, "dictionary_decode"):  # categories
            target = target.dictionary_decode()
        y: NDArray[Any] = target.to_numpy(zero_copy_only=False)
        return y.astype(self._dtype) if y.dtype.kind == "f" else y

    def _chunks(
        self, X: NDArray[Any], y: NDArray[Any]
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Cut a window into chunks."""
        for first in range(0, len(y), self._chunk_rows):
            rows = slice(first, first + self._chunk_rows)
            yield X[rows], y[rows]


def _column(batch: Any, name: str) -> Any:
    """Return a column that has no missing values."""
    column = batch.column(name)
    if column.null_count:
        raise DataError(f"column {name!r} has missing values")
    return column
