"""Regressions solved to convergence: ridge regression, and generalised linear models."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import column_or_1d

from . import _core
from ._hypers import target_domain
from ._linear_converged import L1_SOLVERS, ConvergedModel, start_from
from ._linear_input import Array
from ._solvers import Floats, Objective, Stop, length, small
from ._solvers_first_order import SOLVERS

__all__ = ["GLMRegressor", "Ridge"]

# the gradient jumps: these have no smooth minimum to converge to
_KINKED = ("epsilon_insensitive", "pinball")
GLM_LOSSES = [
    name
    for name, row in _core.LOSSES.items()
    if row["task"] in ("both", "regression") and name not in _KINKED
]


class Ridge(MultiOutputMixin, RegressorMixin, ConvergedModel):  # type: ignore[misc]
    """Linear least squares with an L2 penalty, solved to convergence: ``sklearn``'s ``Ridge``.

    Minimises ``sum(sample_weight * (y - X coef - intercept)**2) + alpha * ||coef||**2``. Parameters
    and attributes are scikit-learn's, but for the solvers.

    Parameters
    ----------
    alpha : float or array-like of shape (n_targets,), default=1.0
        Strength of the penalty.
    fit_intercept : bool, default=True
        Whether to fit an intercept, which is not penalised.
    copy_X : bool, default=True
        Of no effect: X is never written to.
    max_iter : int or None, default=None
        Iterations at most; None is 1000.
    tol : float, default=1e-4
        Stop where the gradient says that no prediction is further from the solution's, in the root
        of their mean square, than this part of the targets' standard deviation.
    solver : {"auto", "lbfgs", "agd", "sag", "saga", "svrg"}, default="auto"
        As in :class:`LogisticRegression`.
    positive : False, default=False
        Only False.
    random_state : int, RandomState or None, default=None
        Seed of the rows that "sag", "saga" and "svrg" draw.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Weights, of the dtype of X.
    intercept_ : float or ndarray of shape (n_targets,)
        Intercepts.
    n_iter_ : ndarray of shape (n_targets,)
        Iterations for each target.
    optimality_ : float
        Largest absolute element of the gradient of half the mean squared error, plus penalty, at
        the solution, by a look at all rows.
    solver_ : str
        The solver.
    n_features_in_ : int
        Features seen in fit.

    Raises
    ------
    ValueError, TypeError
        From fit: a parameter out of its range, or data that is empty or not finite. The estimator
        is as it was before.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from fastgd.linear_model import Ridge
    >>> X, y = load_diabetes(return_X_y=True)
    >>> round(Ridge(alpha=0.1).fit(X, y).score(X, y), 3)
    0.513
    """

    alpha: Any
    max_iter: int | None
    tol: float

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alpha": [Interval(Real, 0, None, closed="left"), "array-like"],
        "fit_intercept": ["boolean"],
        "copy_X": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "solver": [StrOptions(set(SOLVERS))],
        "positive": [Options(bool, {False})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        alpha: Any = 1.0,
        *,
        fit_intercept: bool = True,
        copy_X: bool = True,
        max_iter: int | None = None,
        tol: float = 1e-4,
        solver: str = "auto",
        positive: bool = False,
        random_state: Any = None,
    ) -> None:
        self._keep(locals())

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Solve for (X, y).

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Finite; float32 and float64 in C order are used as they are.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Finite targets.
        sample_weight : float or array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        Ridge
            self
        """
        with self._unchanged_on_error():
            rows, targets = self._rows(X, y, multi_output=True, y_numeric=True)
            weights = self._weights(rows, sample_weight)
            columns = targets.reshape(len(targets), -1).T
            alphas = np.asarray(self.alpha, dtype=np.float64).ravel()
            if len(alphas) not in (1, len(columns)):
                raise ValueError(
                    "Number of targets and number of penalties do not correspond: alpha has "
                    f"{len(alphas)} elements, y {len(columns)} targets"
                )
            if not (alphas >= 0).all():
                raise ValueError(f"alpha must be 0 or more; got {self.alpha}")
            results = []
            for target, alpha in zip(columns, np.broadcast_to(alphas, len(columns)), strict=True):
                objective = Objective(
                    rows,
                    np.ascontiguousarray(target, dtype=rows.dtype),
                    weights,
                    "squared_error",
                    fit_intercept=self.fit_intercept,
                )
                objective.l2 = float(alpha) / objective.total
                start = np.zeros(objective.shape).ravel()
                mean = np.average(target, weights=weights) if self.fit_intercept else 0.0
                start[-1] = mean
                spread = np.sqrt(np.average((target - mean) ** 2, weights=weights))
                results.append(
                    self._solve(
                        objective,
                        start,
                        stop=_near(self.tol * float(spread)),
                        max_iter=1000 if self.max_iter is None else self.max_iter,
                    )
                )
            w = np.stack([result.look.w for result in results]).astype(rows.dtype)
            flat = targets.ndim == 1
            self.coef_ = w[0, :-1].copy() if flat else np.ascontiguousarray(w[:, :-1])
            self.intercept_ = w[0, -1] if flat else w[:, -1].copy()
            if not self.fit_intercept:
                self.intercept_ = 0.0
            self.n_iter_ = np.array([result.n_iter for result in results], np.int32)
            self.optimality_ = max(result.look.largest for result in results)
            self.solver_ = self.solver
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Predict targets.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predictions.
        """
        return self._products(X)


def _near(far: float) -> Stop:
    """Stop where the gradient in the metric's coordinates is no longer than that."""
    return lambda look, grad: length(grad) <= far


class GLMRegressor(RegressorMixin, ConvergedModel):  # type: ignore[misc]
    """Generalised linear model with an L2 penalty, solved to convergence.

    Minimises the mean of the losses, weighted, plus ``alpha / 2 * ||coef||**2``. With loss
    "poisson", "gamma" and "tweedie" it is scikit-learn's ``PoissonRegressor``, ``GammaRegressor``
    and ``TweedieRegressor`` with the logarithmic link; there are robust and asymmetric losses, too.

    Parameters
    ----------
    loss : {"squared_error", "huber", "squared_epsilon_insensitive", "expectile", "poisson", \
"gamma", "tweedie"}, default="squared_error"
        Pointwise loss: half the deviance.
    alpha : float, default=1.0
        Strength of the penalty.
    l1_ratio : float, default=0.0
        Part of L1 in the penalty, ``alpha * (l1_ratio * ||coef||_1 + (1 - l1_ratio) / 2 *
        ||coef||**2)``; above 0 only by solvers "auto", "agd", "saga" and "svrg". Keyword-only.
    power : float, default=1.5
        Of "tweedie": the variance is the prediction to this power. Keyword-only.
    epsilon : float, default=0.1
        Of "huber" where the square turns into a line, of "squared_epsilon_insensitive" where it
        begins. Keyword-only.
    expectile : float, default=0.5
        Of "expectile": which one. Keyword-only.
    fit_intercept : bool, default=True
        Whether to fit an intercept, which is not penalised.
    solver : {"auto", "lbfgs", "agd", "sag", "saga", "svrg"}, default="auto"
        As in :class:`LogisticRegression`.
    max_iter : int, default=100
        Iterations at most.
    tol : float, default=1e-4
        Stop where no element of the gradient is larger.
    warm_start : bool, default=False
        Whether to start from the coefficients of the fit before.
    verbose : int, default=0
        Above 0, print objective and gradient of each iteration.
    random_state : int, RandomState or None, default=None
        Seed of the rows that "sag", "saga" and "svrg" draw.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Weights, of the dtype of X.
    intercept_ : float
        Intercept.
    n_iter_ : int
        Iterations.
    optimality_ : float
        Largest absolute element of the gradient at the solution (with L1, of its smallest
        subgradient), by a look at all rows.
    n_features_in_ : int
        Features seen in fit.

    Raises
    ------
    ValueError, TypeError
        From fit: a parameter out of its range, or data that is empty, not finite, or not of this
        loss. The estimator is as it was before.

    References
    ----------
    Nelder & Wedderburn, "Generalized linear models", JRSS A 135, 1972.

    Examples
    --------
    >>> from fastgd.linear_model import GLMRegressor
    >>> X, y = [[1, 2], [2, 3], [3, 4], [4, 3]], [12, 17, 22, 21]
    >>> model = GLMRegressor("poisson").fit(X, y)
    >>> round(model.score(X, y), 3)
    0.99
    """

    loss: str
    alpha: float
    l1_ratio: float
    power: float
    epsilon: float
    expectile: float
    max_iter: int
    tol: float
    warm_start: bool

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "loss": [StrOptions(set(GLM_LOSSES))],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "power": [Interval(Real, None, None, closed="neither")],
        "epsilon": [Interval(Real, 0, None, closed="left")],
        "expectile": [Interval(Real, 0, 1, closed="neither")],
        "fit_intercept": ["boolean"],
        "solver": [StrOptions(set(SOLVERS))],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        alpha: float = 1.0,
        l1_ratio: float = 0.0,
        power: float = 1.5,
        epsilon: float = 0.1,
        expectile: float = 0.5,
        fit_intercept: bool = True,
        solver: str = "auto",
        max_iter: int = 100,
        tol: float = 1e-4,
        warm_start: bool = False,
        verbose: Any = 0,
        random_state: Any = None,
    ) -> None:
        self._keep(locals())

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Solve for (X, y).

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Finite; float32 and float64 in C order are used as they are.
        y : array-like of shape (n_samples,)
            Finite targets; for "poisson" 0 or more, for "gamma" above 0, for "tweedie" either,
            depending on `power`.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        GLMRegressor
            self
        """
        with self._unchanged_on_error():
            rows, targets = self._rows(X, y, y_numeric=True)
            self._check_targets(targets)
            objective = Objective(
                rows,
                np.ascontiguousarray(targets, dtype=rows.dtype),
                self._weights(rows, sample_weight),
                self.loss,
                self._loss_parameter(),
                l2=self.alpha * (1 - self.l1_ratio),
                l1=self.alpha * self.l1_ratio,
                fit_intercept=self.fit_intercept,
            )
            if self.l1_ratio and self.solver not in L1_SOLVERS:
                raise ValueError(
                    f"l1_ratio must be 0 with solver={self.solver!r}; got {self.l1_ratio}"
                )
            result = self._solve(
                objective,
                self._start(objective),
                stop=small(self.tol),
                max_iter=self.max_iter,
            )
            w = result.look.w.astype(rows.dtype)
            self.coef_ = w[:-1].copy()
            self.intercept_ = w[-1] if self.fit_intercept else 0.0
            self.n_iter_ = result.n_iter
            self.optimality_ = result.look.largest
        return self

    def _loss_parameter(self) -> float:
        name = _core.LOSSES[self.loss]["parameter"]
        return float(getattr(self, name)) if name else 0.0

    def _check_targets(self, y: Array) -> None:
        domain = target_domain(self.loss, self._loss_parameter())
        wrong = {"nonnegative": y < 0, "positive": y <= 0}.get(domain)
        if wrong is not None and wrong.any():
            raise ValueError(
                f"y must be {domain} with loss={self.loss!r}: Some value(s) of y are out of the "
                f"valid range of the loss; got {y[wrong][0]}"
            )

    def _start(self, objective: Objective) -> Floats:
        if self.warm_start and hasattr(self, "coef_"):
            return start_from([self.coef_, self.intercept_], objective.shape, "coef_, intercept_")
        w = np.zeros(objective.shape).ravel()
        if self.fit_intercept:
            mean = float(np.average(objective.y, weights=objective.sample_weight))
            w[-1] = self._link(mean)
        return w

    def _link(self, mean: Any) -> Any:
        """Prediction of the linear part for a mean; where that is 0, a number far below others."""
        if _core.LOSSES[self.loss]["link"] != "log":
            return mean
        return np.log(np.maximum(mean, np.finfo(np.float64).tiny))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = target_domain(self.loss, self._loss_parameter()) != "real"
        return tags

    # ---- predictions -----------------------------------------------------------------------------

    def predict(self, X: ArrayLike) -> Array:
        """Predict targets.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predictions: the mean, with a logarithmic link the exponential of the linear part.
        """
        linear = self._products(X)
        return np.exp(linear) if _core.LOSSES[self.loss]["link"] == "log" else linear

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Part of the deviance that is explained, D^2: R^2 for "squared_error".

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Their targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        float
            1 - deviance / deviance of the best constant; at best 1.
        """
        linear = self._products(X).astype(np.float64)
        weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        targets = column_or_1d(np.asarray(y, dtype=np.float64))
        self._check_targets(targets)

        def mean_loss(p: Any) -> float:
            p = np.ascontiguousarray(np.broadcast_to(p, targets.shape), dtype=np.float64)
            values, _ = _core.evaluate_loss(self.loss, targets, p, self._loss_parameter())
            return float(np.average(values, weights=weights))

        least = mean_loss(self._link(targets))
        constant = mean_loss(self._best_constant(targets, weights, mean_loss))
        return 1 - (mean_loss(linear) - least) / (constant - least)

    def _best_constant(
        self, y: Array, weights: Array | None, mean_loss: Callable[[Any], float]
    ) -> float:
        """Linear part that fits best without features: that of the mean, for all deviances."""
        if self.loss == "squared_error" or _core.LOSSES[self.loss]["link"] == "log":
            return float(self._link(np.average(y, weights=weights)))
        found = minimize_scalar(mean_loss, bounds=(y.min(), y.max()), method="bounded")
        return float(found.x)
