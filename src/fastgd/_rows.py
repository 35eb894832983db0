"""Gradients that have some rows only: their class, and which rules take them."""

from typing import Any

import numpy as np

from ._hypers import Array

TAKES_ROWS: dict[str, tuple[str, ...]] = {
    "sparse_adam": (),
    "sgd": ("momentum", "weight_decay"),
    "adagrad": ("weight_decay",),
}
"""The rules whose rows without gradient rest, while these hyper-parameters are 0."""

ROWS_ONLY = ("sparse_adam",)
"""The rules that take no other gradients in torch."""

WHOLE = ("centralize", "agc")
"""Options of a step that need whole gradients."""


class RowGradient:
    """A gradient that is zero but for some rows, such as an embedding's.

    Parameters
    ----------
    indices : array-like of int, shape (k,)
        Numbers of the rows, along the parameter's first axis; one that comes twice has its values
        added up.
    values : ndarray, shape (k, *parameter.shape[1:])
        The rows, of the parameter's dtype.

    Raises
    ------
    TypeError, ValueError
        If `indices` are not integers, or there are not as many as `values`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optim import RowGradient, SparseAdam
    >>> table = np.ones((4, 2))
    >>> opt = SparseAdam(table, lr=0.5)
    >>> opt.step(RowGradient([2], np.array([[1.0, -1.0]])))
    >>> table.round(3).tolist()
    [[1.0, 1.0], [1.0, 1.0], [0.5, 1.5], [1.0, 1.0]]
    """

    __slots__ = ("indices", "values")

    def __init__(self, indices: Any, values: Array) -> None:
        rows = np.asarray(indices)
        if rows.size == 0 and rows.ndim == 1:
            rows = rows.astype(np.int64)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise TypeError(
                f"indices must be integers in one dimension; got {rows.dtype} of shape {rows.shape}"
            )
        if not isinstance(values, np.ndarray):
            raise TypeError(f"values must be a NumPy array; got {type(values).__name__}")
        if values.shape[:1] != rows.shape:
            raise ValueError(
                f"values must have a row for each of {len(rows)} indices; got shape {values.shape}"
            )
        self.indices = np.ascontiguousarray(rows, dtype=np.int64)
        self.values = values

    def __repr__(self) -> str:
        return f"RowGradient({len(self.indices)} rows, {self.values.dtype} {self.values.shape})"

    def __add__(self, other: "RowGradient") -> "RowGradient":
        indices = np.concatenate([self.indices, other.indices])
        return RowGradient(indices, np.concatenate([self.values, other.values]))

    def coalesced(self) -> "RowGradient":
        """Return the same with ascending indices, each of them once."""
        if np.all(self.indices[1:] > self.indices[:-1]):
            return RowGradient(self.indices, np.ascontiguousarray(self.values))
        order = np.argsort(self.indices, kind="stable")
        indices, starts = np.unique(self.indices[order], return_index=True)
        return RowGradient(indices, np.add.reduceat(self.values[order], starts, axis=0))


def row_gradient(grad: Any) -> RowGradient | None:
    """Return a gradient of rows as one: it is, or it is a sparse matrix of SciPy; else None."""
    if isinstance(grad, RowGradient):
        return grad
    if not hasattr(grad, "tocsr"):
        return None
    matrix = grad.tocsr()
    rows = np.flatnonzero(np.diff(matrix.indptr))
    return RowGradient(rows, matrix[rows].toarray())


def fit_rows(grad: RowGradient, param: Array, name: str) -> RowGradient:
    """Return a gradient of rows, coalesced, if it fits the parameter, else raise."""
    if grad.values.dtype != param.dtype:
        raise TypeError(f"{name} must be of dtype {param.dtype}; got {grad.values.dtype}")
    if param.ndim < 1 or grad.values.shape[1:] != param.shape[1:]:
        raise ValueError(
            f"{name} must have rows of a parameter of shape {param.shape}; "
            f"got values of shape {grad.values.shape}"
        )
    inside = (grad.indices >= 0) & (grad.indices < len(param))
    if not inside.all():
        raise ValueError(
            f"{name} must have indices from 0 to {len(param) - 1}; got {grad.indices[~inside][0]}"
        )
    return grad.coalesced()
