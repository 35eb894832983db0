"""What the linear models share: from their parameters to a run, from a run to their attributes."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import check_is_fitted

from . import _core
from ._linear_input import (
    CONSTRAINTS,
    Array,
    rule_and_hypers,
    starting_params,
    validated,
    validated_rows,
)
from ._paging import Windows
from .optim import make_states
from .schedules import SCHEDULES, Schedule
from .train import Problem, Result, Run, block_rows, call_rows, hopeless, train

__all__ = ["LinearSGD", "Target"]

# what one problem is to learn: its name, a target for each row, and the rows' weights or None
Target = tuple[str, Array, Array | None]


class LinearSGD(BaseEstimator, ABC):  # type: ignore[misc]
    """What the classifier and the regressor share.

    Each of them adds what scikit-learn reads from the class itself, the signature of ``__init__``
    and the docstring; ``_targets``, which makes problems of y; and ``_seeds``, the seed of each.
    Attributes are documented there.
    """

    loss: str
    penalty: str | None
    alpha: float
    l1_ratio: float
    fit_intercept: bool
    max_iter: int
    tol: float | None
    shuffle: bool | str
    verbose: int
    epsilon: float
    random_state: Any  # int, RandomState or None
    learning_rate: str
    eta0: float
    power_t: float
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    warm_start: bool
    average: bool
    batch_size: int
    optimizer: str | tuple[str, dict[str, Any]]

    coef_: Array
    intercept_: Array
    n_iter_: int
    t_: int
    loss_curve_: list[float]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS

    def _keep(self, parameters: dict[str, Any]) -> None:
        """Set the parameters as they are given to ``__init__``: its ``locals()``."""
        for name, value in parameters.items():
            if name != "self":
                setattr(self, name, value)

    @abstractmethod
    def _targets(
        self, X: Array, y: Array, sample_weight: ArrayLike | None, classes: Array | None
    ) -> list[Target]:
        """Make the problems to train of y; its labels are out of `classes`, if those are known."""

    @abstractmethod
    def _seeds(self, n_problems: int) -> list[int]:
        """Seed of the shuffling of each problem, drawn as scikit-learn draws it."""

    # ---- training --------------------------------------------------------------------------------

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        coef_init: ArrayLike | None = None,
        intercept_init: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train on (X, y).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Finite; float32 and float64 in C order are used as they are.
        y : array-like of shape (n_samples,)
            Labels, of at least two classes; for a regressor, finite targets.
        coef_init, intercept_init : array-like, optional
            Where to start.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        SGDClassifier or SGDRegressor
            self
        """
        return self._fit(X, y, sample_weight, coef_init, intercept_init)

    def _fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        coef: ArrayLike | None = None,
        intercept: ArrayLike | None = None,
        *,
        one_epoch: bool = False,
        classes: Array | None = None,
    ) -> Self:
        """Train until converged, or for one epoch from where training was; or change nothing."""
        fitted = hasattr(self, "coef_")
        go_on = fitted and one_epoch
        with self._unchanged_on_error():
            self._validate_params()
            numeric = isinstance(self, RegressorMixin)
            X, y = validated(self, X, y, reset=not go_on, y_numeric=numeric)
            targets = self._targets(X, y, sample_weight, classes)
            if go_on or (fitted and self.warm_start):
                coef = self.coef_ if coef is None else coef
                intercept = self.intercept_ if intercept is None else intercept
            params = starting_params(X, len(targets), coef, intercept)
            max_iter, tol = (1, None) if one_epoch else (self.max_iter, self.tol)
            result = self._train(X, targets, params, go_on, max_iter, tol)
            self._publish(result, keep_curve=go_on)
        if result.interrupted:
            raise KeyboardInterrupt
        return self

    def _train(
        self,
        X: Array,
        targets: list[Target],
        params: Array,
        go_on: bool,
        max_iter: int,
        tol: float | None,
    ) -> Result:
        """Train every problem until it converges; epochs outside, problems inside."""
        run = self._run(X, len(targets))
        seeds = self._seeds(len(targets))
        n_blocks = -(-X.shape[0] // run.block)
        order = np.arange(n_blocks, dtype=np.int64)
        problems = [
            Problem(
                label=label,
                y=y,
                sample_weight=weight,
                params=p,
                states=self._first_states(run, k, p, go_on),
                kept=self._first_kept(run, k, go_on),
                order=order.copy(),
                segments=run.windows.segments(order) if run.windows else None,
                seed=seed,
                t=self.t_ - 1 if go_on else 0,
                at_zero=self._at_zero[k] if go_on else -np.inf,
            )
            for k, ((label, y, weight), p, seed) in enumerate(
                zip(targets, params, seeds, strict=True)
            )
        ]
        try:
            result = train(
                run,
                problems,
                max_iter=max_iter,
                tol=tol,
                n_iter_no_change=self.n_iter_no_change,
                verbose=self.verbose,
            )
        except _core.DivergenceError:
            # A number in X that is not finite makes its row's prediction so: every epoch checks X.
            assert_all_finite(X, input_name="X", estimator_name=type(self).__name__)
            raise
        messages = [message for p in problems if (message := hopeless(run, p))]
        if tol is not None and not result.interrupted and not result.converged:
            messages.append(
                f"max_iter={max_iter} epochs were not enough to converge to tol={tol}; "
                "raise max_iter, or tol."
            )
        for message in messages:
            warnings.warn(message, ConvergenceWarning, stacklevel=4)  # the line that calls fit
        return result

    def _run(self, X: Array, n_problems: int) -> Run:
        """Gather what is the same for all problems, from the parameters."""
        rule, hypers = rule_and_hypers(self.optimizer)
        n_jobs = getattr(self, "n_jobs", None) or 1
        parallel = min(n_problems, n_jobs if n_jobs > 0 else _core.threads())
        n_rows, n_features = X.shape
        block = block_rows(n_rows, n_features, X.itemsize, self.shuffle)
        batch_size = min(self.batch_size, n_rows)
        return Run(
            X=X,
            windows=Windows.of(X, block, call_rows(n_features, batch_size)),
            block=block,
            batch_size=batch_size,
            loss=self.loss,
            loss_parameter=self._loss_parameter(),
            alpha=self.alpha if self.penalty == "l2" else 0.0,
            fit_intercept=self.fit_intercept,
            shuffle=bool(self.shuffle),
            rule=rule,
            hypers=hypers,
            schedule=self._schedule(),
            n_threads=max(1, _core.threads() // parallel),
            n_parallel=parallel,
        )

    def _schedule(self) -> Schedule:
        if self.learning_rate == "optimal":
            if not self.alpha > 0:
                raise ValueError(
                    f'alpha must be above 0 with learning_rate="optimal"; got {self.alpha}'
                )
            return SCHEDULES["optimal"](self.alpha, self.loss, self._loss_parameter())
        if self.learning_rate == "invscaling":
            return SCHEDULES["invscaling"](self.eta0, self.power_t)
        return SCHEDULES["constant"](self.eta0)

    def _loss_parameter(self) -> float:
        row = _core.LOSSES[self.loss]
        return float(getattr(self, row["parameter"], row["default"]))

    def _first_states(
        self, run: Run, k: int, params: Array, go_on: bool
    ) -> tuple[Array | None, ...]:
        """States of problem `k` to start with: zeros, or copies of what was kept so far."""
        states = make_states(run.rule, run.hypers, params)
        if not go_on or self._states_of != run.rule:
            return states
        return tuple(
            new if new is None or old is None else old.astype(new.dtype)
            for new, old in zip(states, self._states[k], strict=True)
        )

    def _first_kept(self, run: Run, k: int, go_on: bool) -> NDArray[np.float64]:
        """Numbers that the rule of problem `k` carries on: zeros, or copies of those so far."""
        if not go_on or self._states_of != run.rule:
            return np.zeros(_core.N_KEPT)
        return self._kept[k].copy()

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """Take back what was noted about the data if no model comes of it."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            self.__dict__ = before
            raise

    # ---- attributes ------------------------------------------------------------------------------

    def _publish(self, result: Result, keep_curve: bool) -> None:
        """Set the fitted attributes."""
        params = np.stack([p.params for p in result.problems])
        self.coef_ = np.ascontiguousarray(params[:, :-1]).reshape(self._coef_shape(params))
        self.intercept_ = params[:, -1].copy()
        self._states = [p.states for p in result.problems]
        self._kept = [p.kept for p in result.problems]
        self._states_of = rule_and_hypers(self.optimizer)[0]
        self._at_zero = [p.at_zero for p in result.problems]
        self.t_ = max(p.t for p in result.problems) + 1
        self.n_iter_ = result.n_iter
        self.loss_curve_ = (self.loss_curve_ if keep_curve else []) + result.curve

    def _coef_shape(self, params: Array) -> tuple[int, ...]:
        """Shape of ``coef_``: a regression has one axis."""
        features = params.shape[1] - 1
        return (features,) if isinstance(self, RegressorMixin) else (params.shape[0], features)

    def _decision(self, X: ArrayLike) -> Array:
        """Predict with each problem: of shape (n_samples,) where there is but one."""
        check_is_fitted(self)
        rows = validated_rows(self, X)
        scores: Array = rows @ self.coef_.reshape(-1, rows.shape[1]).T + self.intercept_
        return scores[:, 0] if scores.shape[1] == 1 else scores
