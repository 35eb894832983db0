"""Logistic regression, solved to convergence."""

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model._base import LinearClassifierMixin, SparseCoefMixin
from sklearn.utils import compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.extmath import softmax

from ._linear_converged import L1_SOLVERS, ConvergedModel, start_from
from ._linear_input import Array, labels_in, naming
from ._solvers import Floats, Objective, small
from ._solvers_first_order import SOLVERS

__all__ = ["LogisticRegression"]


class LogisticRegression(LinearClassifierMixin, SparseCoefMixin, ConvergedModel):  # type: ignore[misc]
    """Logistic regression, solved to convergence: ``sklearn.linear_model.LogisticRegression``.

    Minimises ``C * sum(sample_weight * loss) + 0.5 * ||coef||**2``; more than two classes are one
    softmax model. Parameters and attributes are scikit-learn's, but for the solvers.

    Parameters
    ----------
    penalty : {"l1", "l2", "elasticnet"} or None, default="deprecated"
        As in scikit-learn deprecated: `l1_ratio` and ``C=inf`` say it.
    C : float, default=1.0
        Inverse of the penalty's strength; inf for none.
    l1_ratio : float, default=0.0
        Part of L1 in the penalty; above 0 only by solvers "auto", "agd", "saga" and "svrg".
    dual : False, default=False
        Only False.
    tol : float, default=1e-4
        Stop where no element of the gradient of the mean objective, that above divided by C times
        the sum of the weights, is larger.
    fit_intercept : bool, default=True
        Whether to fit an intercept, which is not penalised.
    intercept_scaling : float, default=1
        Of no effect.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes.
    random_state : int, RandomState or None, default=None
        Seed of the rows that "sag", "saga" and "svrg" draw.
    solver : {"auto", "lbfgs", "agd", "sag", "saga", "svrg"}, default="auto"
        "lbfgs" is L-BFGS in coordinates scaled by the Hessian's diagonal. "auto" is L-BFGS in the
        coordinates that the Hessian of a sample of the rows gives, from the minimum of that
        sample: a few looks at all rows are enough, however the columns are scaled. Where X is
        sparse or has very many columns it is "lbfgs", and with L1 "agd". That is accelerated
        gradient descent in the coordinates of "lbfgs"; "sag", "saga" and "svrg" step row by row,
        and want columns of about one scale.
    max_iter : int, default=100
        Iterations at most: looks at all rows, about.
    verbose : int, default=0
        Above 0, print objective and gradient of each iteration.
    warm_start : bool, default=False
        Whether to start from the coefficients of the fit before.
    n_jobs : None, default=None
        Of no effect, as in scikit-learn: ``fastgd.set_num_threads`` says how many threads.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Weights, of the dtype of X.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts.
    classes_ : ndarray of shape (n_classes,)
        Labels.
    n_iter_ : ndarray of shape (1,)
        Iterations.
    optimality_ : float
        Largest absolute element of the gradient of the mean objective at the solution (with L1, of
        its smallest subgradient), by a look at all rows.
    n_features_in_ : int
        Features seen in fit.

    Raises
    ------
    ValueError, TypeError
        From fit: a parameter out of its range, or data that is empty, not finite, of one class.
        The estimator is as it was before.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from fastgd.linear_model import LogisticRegression
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = LogisticRegression().fit(X, y)
    >>> bool(model.score(X, y) > 0.95), bool(model.optimality_ <= model.tol)
    (True, True)
    """

    penalty: str | None
    C: float
    l1_ratio: float | None
    class_weight: Any
    tol: float
    max_iter: int
    warm_start: bool

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "penalty": [StrOptions({"l1", "l2", "elasticnet", "deprecated"}), None],
        "C": [Interval(Real, 0, None, closed="right")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both"), None],
        "dual": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "intercept_scaling": [Interval(Real, 0, None, closed="neither")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "random_state": ["random_state"],
        "solver": [StrOptions(set(SOLVERS))],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "n_jobs": [None, Integral],
    }

    def __init__(
        self,
        penalty: str | None = "deprecated",
        *,
        C: float = 1.0,
        l1_ratio: float | None = 0.0,
        dual: bool = False,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        intercept_scaling: float = 1,
        class_weight: Any = None,
        random_state: Any = None,
        solver: str = "auto",
        max_iter: int = 100,
        verbose: Any = 0,
        warm_start: bool = False,
        n_jobs: int | None = None,
    ) -> None:
        self._keep(locals())

    # ---- training --------------------------------------------------------------------------------

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Solve for (X, y).

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Finite; float32 and float64 in C order are used as they are.
        y : array-like of shape (n_samples,)
            Labels, of at least two classes.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        LogisticRegression
            self
        """
        with self._unchanged_on_error():
            rows, target = self._rows(X, y)
            with naming("y"):
                classes = labels_in(target)
            if len(classes) < 2:
                raise ValueError(
                    "This solver needs samples of at least 2 classes in the data, but the data "
                    f"contains only one class: {classes[0]!r}"
                )
            l2, l1 = self._strengths()
            objective = self._objective(rows, target, classes, sample_weight)
            objective.l2, objective.l1 = l2 / objective.total, l1 / objective.total
            result = self._solve(
                objective,
                self._start(objective, classes),
                stop=small(self.tol),
                max_iter=self.max_iter,
            )
            w = result.look.w.reshape(objective.shape)
            if objective.n_outputs > 1:  # what all classes have in common says nothing
                common = w.mean(axis=0)
                common[:-1] *= l1 == 0
                w = w - common
            w = w.astype(rows.dtype)
            self.classes_ = classes
            self.coef_, self.intercept_ = np.ascontiguousarray(w[:, :-1]), w[:, -1].copy()
            self.n_iter_ = np.array([result.n_iter], np.int32)
            self.optimality_ = result.look.largest
        return self

    def _strengths(self) -> tuple[float, float]:
        """Of the L2 and the L1 penalty, as the parameters say; refuse what does not fit."""
        ratio = self.l1_ratio
        if self.n_jobs is not None:
            warnings.warn(
                f"'n_jobs' has no effect; got n_jobs={self.n_jobs}. See fastgd.set_num_threads.",
                FutureWarning,
                stacklevel=3,
            )
        if self.dual:
            raise ValueError(f"Solver {self.solver} supports only dual=False, got dual=True")
        if self.penalty == "deprecated":
            if ratio is None:
                warnings.warn(
                    "'l1_ratio=None' was deprecated; use 0 <= l1_ratio <= 1 instead.",
                    FutureWarning,
                    stacklevel=3,
                )
        else:
            warnings.warn(
                "'penalty' was deprecated; use l1_ratio=0 instead of penalty='l2', l1_ratio=1 "
                "instead of penalty='l1', 0 < l1_ratio < 1 instead of penalty='elasticnet', and "
                "C=np.inf instead of penalty=None.",
                FutureWarning,
                stacklevel=3,
            )
            ratio = self._ratio_of_penalty()
        ratio = ratio or 0.0
        if ratio and self.solver not in L1_SOLVERS and not np.isinf(self.C):
            name = "l1" if ratio == 1 else "elasticnet"
            raise ValueError(
                f"Solver {self.solver} supports only 'l2' or None penalties, got {name} penalty."
            )
        if np.isinf(self.C) or self.penalty is None:
            return 0.0, 0.0
        return (1 - ratio) / self.C, ratio / self.C

    def _ratio_of_penalty(self) -> float | None:
        """Which `l1_ratio` the deprecated `penalty` stands for."""
        if self.penalty == "elasticnet":
            if self.l1_ratio is None:
                raise ValueError("l1_ratio must be specified when penalty is elasticnet.")
            return self.l1_ratio
        if self.l1_ratio is not None and 0 < self.l1_ratio < 1:
            warnings.warn(
                "l1_ratio parameter is only used when penalty is 'elasticnet'. Got "
                f"(penalty={self.penalty})",
                stacklevel=4,
            )
        ratio = 1.0 if self.penalty == "l1" else 0.0
        if self.penalty is not None and self.l1_ratio != ratio:
            warnings.warn(
                f"Inconsistent values: penalty={self.penalty} with l1_ratio={self.l1_ratio}. "
                "penalty is deprecated. Please use l1_ratio only.",
                stacklevel=4,
            )
        if self.penalty is None and self.C != 1.0:
            warnings.warn(
                "Setting penalty=None will ignore the C and l1_ratio parameters", stacklevel=4
            )
        return ratio

    def _objective(
        self, X: Any, y: Array, classes: Array, sample_weight: ArrayLike | None
    ) -> Objective:
        """Mean loss of the rows, without penalty."""
        weights = self._weights(X, sample_weight)
        if self.class_weight is not None:
            if weights is None:
                weights = np.ones(len(y), X.dtype)
            by_class = compute_class_weight(
                self.class_weight, classes=classes, y=y, sample_weight=weights
            )
            if not (np.isfinite(by_class) & (by_class >= 0)).all():
                raise ValueError(f"class_weight must be finite and 0 or more; got {by_class}")
            weights = weights * by_class[np.searchsorted(classes, y)].astype(X.dtype)
            if not weights.any():
                raise ValueError(f"class_weight must leave a row a weight; got {by_class}")
        binary = len(classes) == 2
        if binary:
            target = (y == classes[1]).astype(X.dtype)
            target *= 2
            target -= 1
        else:
            target = np.searchsorted(classes, y).astype(X.dtype)
        return Objective(
            X,
            target,
            weights,
            "log_loss" if binary else None,
            n_outputs=1 if binary else len(classes),
            fit_intercept=self.fit_intercept,
        )

    def _start(self, objective: Objective, classes: Array) -> Floats:
        if not self.warm_start or not hasattr(self, "coef_"):
            return np.zeros(objective.shape).ravel()
        coef = self.coef_ if isinstance(self.coef_, np.ndarray) else self.coef_.toarray()
        return start_from([coef, self.intercept_], objective.shape, "coef_ and intercept_")

    # ---- probabilities ---------------------------------------------------------------------------

    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        if hasattr(self, "classes_") and len(self.classes_) > 2:
            probabilities: Array = softmax(self.decision_function(X), copy=False)
        else:
            probabilities = self._predict_proba_lr(X)
        return probabilities

    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        logarithms: Array = np.log(self.predict_proba(X))
        return logarithms
