"""Linear models solved to convergence: what they share. How they are solved is in `_solvers`."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import assert_all_finite, check_random_state
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted, validate_data

from . import _core
from ._estimator import Estimator
from ._linear_input import Array, finite, naming, row_weights
from ._solvers import Floats, Look, Objective, Result, Stop
from ._solvers_first_order import BY_ROWS, SOLVERS

__all__ = ["L1_SOLVERS", "ConvergedModel", "start_from"]

L1_SOLVERS = ("auto", "agd", "saga", "svrg")


class ConvergedModel(Estimator):
    """What the models have in common: rows in, weights and a certificate out."""

    solver: str
    verbose: Any = 0
    random_state: Any = None
    fit_intercept: bool

    coef_: Array
    intercept_: Any
    n_iter_: Any
    optimality_: float

    def _rows(self, X: ArrayLike, y: ArrayLike, **options: Any) -> tuple[Any, Array]:
        """Check X and y. Whether X is finite shows in training, without reading it once more."""
        self._validate_params()
        with naming("X"):
            rows, target = validate_data(
                self,
                X,
                y,
                accept_sparse="csr",
                dtype=[np.float64, np.float32],
                order="C",
                ensure_all_finite=False,
                **options,
            )
        if issparse(target):
            raise TypeError("y must be dense; got a sparse matrix")
        if target.dtype.kind in "fc":
            assert_all_finite(target, input_name="y", estimator_name=type(self).__name__)
        if not issparse(rows):
            return rows, target
        if self.solver in BY_ROWS and not rows.has_canonical_format:
            rows = rows.copy()
            rows.sum_duplicates()
        return _core.CSR(rows), target

    def _weights(self, X: Any, given: ArrayLike | None) -> Array | None:
        """Weights of the rows, finite and not negative; None for ones."""
        if given is None:
            return None
        weights = row_weights(X, given)
        if (weights < 0).any():
            raise ValueError("sample_weight must be 0 or more: Negative values in data")
        if not weights.any():
            raise ValueError("sample_weight must have an element above 0; got zeros")
        return weights

    def _products(self, X: ArrayLike) -> Array:
        """Products of rows with the weights, plus the intercepts."""
        check_is_fitted(self)
        with naming("X"):
            rows = validate_data(
                self, X, accept_sparse="csr", reset=False, dtype=[np.float64, np.float32]
            )
        products: Array = safe_sparse_dot(rows, self.coef_.T, dense_output=True)
        products += self.intercept_
        return products

    def _solve(self, objective: Objective, w: Floats, *, stop: Stop, max_iter: int) -> Result:
        """Minimise; say so if that did not succeed."""

        def report(n_iter: int, look: Look) -> None:
            print(
                f"iteration {n_iter}: objective {look.value:.9g}, "
                f"largest absolute gradient {look.largest:.3g}"
            )

        name = "agd" if self.solver == "auto" and objective.l1 else self.solver
        options: dict[str, Any] = {}
        if name in BY_ROWS:
            state = check_random_state(self.random_state)
            options["seed"] = int(state.randint(np.iinfo(np.int32).max))
        try:
            result = SOLVERS[name](
                objective,
                w,
                stop=stop,
                max_iter=max_iter,
                report=report if self.verbose else None,
                **options,
            )
        except _core.DivergenceError:
            X = objective.X
            values = X if isinstance(X, np.ndarray) else X.data
            assert_all_finite(values, input_name="X", estimator_name=type(self).__name__)
            raise
        if not (result.converged or result.stalled):
            warnings.warn(
                f"{name} failed to converge after {result.n_iter} iterations. The max_iter was "
                "reached which means the coef_ did not converge: the largest absolute element of "
                f"the gradient is {result.look.largest:.3g}. Increase max_iter (got {max_iter}) or "
                "tol, or scale the data.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return result


def start_from(given: list[ArrayLike], shape: tuple[int, int], names: str) -> Floats:
    """Weights to start from, those of a fit before: refused if they do not fit."""
    parts = [finite(part, np.float64, names) for part in given]
    w = np.column_stack([parts[0].reshape(shape[0], -1), np.broadcast_to(parts[1], shape[0])])
    if w.shape != shape:
        raise ValueError(f"{names} must be of shape {shape} with warm_start; got {w.shape}")
    return w.ravel()
