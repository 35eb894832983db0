"""What the linear models share: from their parameters to a run, from a run to their attributes."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model._base import SparseCoefMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import check_is_fitted

from . import _core
from ._estimator import Estimator
from ._groups import Groups
from ._linear_gradient import GradientNorm
from ._linear_hashing import Hashing, hashed, hashing_of, products
from ._linear_input import (
    AGGRESSIVE,
    PENALTIES,
    TRAINING_CONSTRAINTS,
    Array,
    is_plain_sgd,
    of_validation,
    parameter_of,
    row_weights,
    rule_and_hypers,
    starting_params,
    validated,
    validated_rows,
)
from ._linear_progress import watchers
from ._linear_stream import Data, Stream
from ._linear_validation import ALL_ZERO, Metric, Score, split, true_positives
from ._paging import Windows
from .optim import make_states
from .schedules import SCHEDULES, Schedule
from .schedules._plateau import Adaptive
from .streams import ParquetChunks
from .train import Problem, Result, Run, Stopping, block_rows, call_rows, hopeless, row_width, train

__all__ = ["Data", "LinearSGD", "Mask", "SupervisedSGD", "Target", "no_split", "seed_from"]

# what one problem is to learn: its name, a target for each row, and the rows' weights or None
Target = tuple[str, Array, Array | None]
Mask = NDArray[np.bool_]
# scikit-learn lets the intercept of sparse data move this much more slowly
_SPARSE_INTERCEPT_DECAY = 0.01
# scikit-learn's names of what is kept while averaging
_AVERAGING = ("_standard_coef", "_standard_intercept", "_average_coef", "_average_intercept")


def seed_from(state: Any, low: int = 0) -> int:
    """Draw a seed from a random state as scikit-learn does."""
    return int(state.randint(low, np.iinfo(np.int32).max))


def no_split() -> Mask | None:
    """Hold no rows out."""
    return None


class LinearSGD(SparseCoefMixin, Estimator, ABC):  # type: ignore[misc]
    """What classifier, regressor and one-class SVM share.

    Each of them adds what scikit-learn reads from the class itself, the signature of ``__init__``
    and the docstring; `_targets`, which makes problems of y; `_draw`, the seed of each; and
    `_metric`, the score on rows held out. Attributes are documented there.
    """

    loss: str
    penalty: str | None
    alpha: float
    l1_ratio: float | None
    fit_intercept: bool
    max_iter: int
    tol: float | None
    shuffle: bool | str
    verbose: int | str
    epsilon: float
    random_state: Any  # int, RandomState or None
    learning_rate: str
    eta0: float
    power_t: float
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    warm_start: bool
    average: bool | int
    batch_size: int | str
    optimizer: str | tuple[str, dict[str, Any]]
    loss_parameter: float | None
    restore_best_weights: bool
    grad_norm: bool
    callbacks: Any
    positive: bool
    groups: Any  # array-like of integers, or None
    n_threads: int | None
    hashing: int | None
    interactions: Any  # "quadratic", list of pairs of ranges, or None

    coef_: Array
    intercept_: Array
    n_iter_: int
    t_: int
    loss_curve_: list[float]
    progressive_loss_: float
    validation_curve_: list[float]
    grad_norm_curve_: list[float]
    _progressive: tuple[float, int]  # mean loss of rows before they were trained on; how many
    _hashed: Hashing | None = None  # what training did with the columns of X

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = TRAINING_CONSTRAINTS
    _loss_of_aggressive: ClassVar[str | None] = None  # the loss that "pa1" and "pa2" go with
    _intercept_init: ClassVar[str] = "intercept_init"
    _first_intercept: ClassVar[float] = 0.0

    @abstractmethod
    def _targets(self, data: Data) -> list[Target]:
        """Make the problems to train of y."""

    @abstractmethod
    def _draw(
        self, n_problems: int, split: Callable[[], Mask | None] = no_split
    ) -> tuple[list[int], Mask | None]:
        """Seed of the shuffling of each problem, and the split, in scikit-learn's order."""

    def _n_classes(self) -> int:
        """Count the classes of a softmax; 1 for other models."""
        return 1

    def _pointwise_loss(self) -> str:
        """Loss of one prediction, or that which is the softmax's with two classes."""
        return "log_loss" if self.loss == "multinomial" else self.loss

    def _split(self, data: Data) -> Mask | None:
        """Rows to hold out, if any."""
        return None

    def _scores(
        self, run: Run, data: Data, targets: list[Target], validation: Data | None
    ) -> list[tuple[Score | None, Score | None]]:
        """Score of each problem on rows held out, and scikit-learn's; None without such rows."""
        return [(None, None)] * len(targets)

    # ---- training --------------------------------------------------------------------------------

    def _fit(
        self,
        read: Callable[[bool], Data],
        coef: ArrayLike | None = None,
        intercept: ArrayLike | None = None,
        *,
        one_epoch: bool = False,
        read_validation: Callable[[], Data] | None = None,
    ) -> Self:
        """Train until converged, or for one epoch from where training was; or change nothing.

        `read` checks the data, and notes names and number of its features if told so.
        """
        fitted = hasattr(self, "coef_")
        go_on = fitted and one_epoch
        with self._unchanged_on_error():
            self._check_parameters(one_epoch and not fitted, read_validation is not None)
            data = read(not go_on)
            self._note_hashing(data.X, go_on)
            targets = self._targets(data)
            validation = None if read_validation is None else read_validation()
            if not one_epoch and fitted and self.warm_start:
                coef = self.coef_ if coef is None else coef
                intercept = self._get_intercept() if intercept is None else intercept
            params, average = self._first_params(data.X, len(targets), coef, intercept, go_on)
            result = self._train(data, targets, validation, params, average, go_on, one_epoch)
            self._publish(result, go_on)
        if result.interrupted:
            raise KeyboardInterrupt
        return self

    def _note_hashing(self, X: Any, go_on: bool) -> None:
        """Note what is done with the columns of X: what was done before, if training goes on."""
        hashing = hashing_of(self.hashing, self.interactions, X.shape[1])
        if hashing is not None:
            hashing.check(X)
        if go_on and hashing != self._hashed:
            raise ValueError(
                "hashing and interactions must be what they were when partial_fit began; "
                f"got {self.hashing} and {self.interactions}"
            )
        self._hashed = hashing

    def _check_parameters(self, first_partial_fit: bool, validates: bool) -> None:
        """Refuse parameters that are out of range or do not go together."""
        self._validate_params()
        if first_partial_fit and self.early_stopping:
            raise ValueError(
                "early_stopping should be False with partial_fit, which does one epoch a call"
            )
        if self.penalty == "elasticnet" and self.l1_ratio is None:
            raise ValueError("l1_ratio must be set when penalty is 'elasticnet'; got None")
        if self.learning_rate in AGGRESSIVE and self.loss != self._loss_of_aggressive:
            only = self._loss_of_aggressive
            raise ValueError(
                f"learning_rate: Learning rate {self.learning_rate!r} only works with loss {only!r}"
                if only
                else f"learning_rate must not be {self.learning_rate!r} for {type(self).__name__}"
            )
        if self.learning_rate == "optimal" and not self._strength() > 0:
            raise ValueError(
                f'alpha must be above 0 with learning_rate="optimal"; got {self.alpha}'
            )
        if self.restore_best_weights and not (self.early_stopping or validates):
            raise ValueError(
                "restore_best_weights needs rows to score: early_stopping=True, or X_val and y_val"
            )

    def _reading(
        self,
        chunks: ParquetChunks,
        read: Callable[[Array, Array, bool], Data],
        validates: bool = False,
        **given: Any,
    ) -> Callable[[bool], Data]:
        """Return what reads the first chunk of a file; refuse what does not go with files."""
        for name, value in given.items():
            if value is not None:
                raise ValueError(
                    f"{name} must be None where X is a ParquetChunks; got {type(value).__name__}"
                )
        for name, refused, why in (
            ("early_stopping", self.early_stopping and not validates, "without X_val and y_val"),
            ("grad_norm", self.grad_norm, "which would be read once more"),
            ("class_weight", self._balances(), "whose classes are not counted before"),
        ):
            if refused:
                raise ValueError(
                    f"{name} must not be {getattr(self, name)!r} where X is a ParquetChunks, {why}"
                )
        return Stream(chunks, read, is_classifier(self)).first

    def _balances(self) -> bool:
        """Whether the weights of the classes depend on how many rows each has."""
        return getattr(self, "class_weight", None) == "balanced"

    def _check_batches(self, plain: bool, by_rows: bool) -> None:
        """Refuse what training in batches, by another rule or of a softmax does not do."""
        rule = rule_and_hypers(self.optimizer)[0]
        if rule in _core.ONLINE_RULES and self.batch_size not in (1, "auto"):
            raise ValueError(
                f"batch_size must be 1 with optimizer={self.optimizer!r}, which learns row by row; "
                f"got {self.batch_size}"
            )
        if rule in _core.ONLINE_RULES and self._n_classes() > 1:
            raise ValueError(
                f"loss must not be {self.loss!r} with optimizer={self.optimizer!r}, which learns "
                "one class at a time"
            )
        if rule in _core.ONLINE_RULES and self.positive:
            raise ValueError(
                f"positive must be False with optimizer={self.optimizer!r}, which has no step to "
                f"project after; got {self.positive}"
            )
        taken = ["l2", *(["l1", "elasticnet"] if rule == "adagrad" else []), None]
        if self.penalty not in taken and not plain:
            raise ValueError(
                f"penalty must be {' or '.join(map(repr, taken))} with "
                f"optimizer={self.optimizer!r}; got {self.penalty!r}"
            )
        if by_rows:
            return
        aggressive = self.learning_rate in AGGRESSIVE
        for name, refused in (("average", self.average), ("learning_rate", aggressive)):
            if refused:
                raise ValueError(
                    f"{name} must not be {getattr(self, name)!r} with loss={self.loss!r}, "
                    f"penalty={self.penalty!r}, positive={self.positive}, "
                    f"batch_size={self.batch_size!r} and optimizer={self.optimizer!r}: it is of "
                    "plain sgd, one row an update, without penalty 'group' and positive"
                )

    def _train(
        self,
        data: Data,
        targets: list[Target],
        validation: Data | None,
        params: Array,
        average: Array | None,
        go_on: bool,
        one_epoch: bool,
    ) -> Result:
        """Train every problem until it converges; epochs outside, problems inside."""
        splits = self.early_stopping and validation is None
        seeds, left_out = self._draw(
            len(targets), (lambda: self._split(data)) if splits else no_split
        )
        if left_out is not None:  # training will not look at all rows
            assert_all_finite(data.X, input_name="X", estimator_name=type(self).__name__)
        judged = bool(self.verbose) or not (one_epoch or self.tol is None or self.early_stopping)
        run = self._run(data.X, len(targets), left_out, judged)
        scores = self._scores(run, data, targets, validation)
        order = run.first_order()
        problems = [
            Problem(
                label=label,
                y=y,
                sample_weight=weight,
                n_classes=self._n_classes(),
                params=params[k],
                average=None if average is None else average[k],
                states=self._first_states(run, k, params[k], go_on),
                kept=self._first_kept(run, k, go_on),
                l1_state=np.zeros(params.shape[1]) if run.l1 else None,
                order=order.copy(),
                segments=run.windows.segments(order) if run.windows else None,
                seed=seeds[k],
                schedule=self._schedule(),
                score=scores[k][0],
                peer_score=scores[k][1],
                grad_norm=GradientNorm(run, y, weight, self._n_classes())
                if self.grad_norm
                else None,
                t=self.t_ - 1 if go_on else 0,
                at_zero=self._at_zero[k] if go_on else -np.inf,
            )
            for k, (label, y, weight) in enumerate(targets)
        ]
        stopping = Stopping(
            max_iter=1 if one_epoch else self.max_iter,
            tol=None if one_epoch else self.tol,
            n_iter_no_change=self.n_iter_no_change,
            by_score=self.early_stopping,
            restore_best=self.restore_best_weights,
        )
        try:
            with watchers(self.verbose, self.callbacks, stopping.max_iter) as looking_on:
                parts = partial(self._parts, data, problems, run) if data.stream else None
                result = train(run, problems, stopping, looking_on, parts)
        except _core.DivergenceError:
            # A number in X that is not finite makes its row's prediction so: every epoch checks X.
            assert_all_finite(data.X, input_name="X", estimator_name=type(self).__name__)
            raise
        self._warn(run, result, stopping)
        return result

    def _parts(self, data: Data, problems: list[Problem], first: Run) -> Iterator[Run]:
        """Go through a file once, chunk by chunk, each as a call of partial_fit would."""
        assert data.stream is not None
        for chunk in data.stream.epoch():
            data.X = chunk.X  # which is looked at if training fails
            run = self._run(chunk.X, len(problems), None, first.judged)
            for problem, (_, y, weight) in zip(problems, self._targets(chunk), strict=True):
                problem.take(y, weight, run.first_order())
            yield run

    def _run(self, X: Any, n_problems: int, left_out: Mask | None, judged: bool) -> Run:
        """Gather what is the same for all problems, from the parameters."""
        rule, hypers = rule_and_hypers(self.optimizer)
        n_jobs = getattr(self, "n_jobs", None) or 1
        threads = self.n_threads or _core.threads()
        parallel = min(n_problems, n_jobs if n_jobs > 0 else _core.threads())
        n_rows = X.shape[0]
        batch_size = self._rows_of_a_batch(n_rows)
        alpha, l1, group = self._strengths()
        grouped = self.penalty == "group"
        plain = is_plain_sgd(rule, hypers)
        by_rows = plain and batch_size * self._n_classes() == 1 and not (self.positive or group)
        self._check_batches(plain, by_rows)
        hashing = self._hashed
        rows = _core.CSR(X, hashing.bits if hashing else None) if issparse(X) else X
        width = row_width(rows)
        block = block_rows(n_rows, width, X.dtype.itemsize, self.shuffle)
        reads_ahead = left_out is None  # else the order is not of blocks
        return Run(
            X=rows,
            windows=Windows.of(rows, block, call_rows(width, batch_size)) if reads_ahead else None,
            pairs=hashing.ranges if hashing and hashing.pairs else None,
            block=block,
            batch_size=batch_size,
            loss=self._pointwise_loss(),
            loss_parameter=self._loss_parameter(),
            alpha=alpha,
            l1=l1,
            group=group,
            groups=Groups.of(self.groups, rows.shape[1], self._n_classes()) if grouped else None,
            positive=bool(self.positive),
            fit_intercept=self.fit_intercept,
            shuffle=bool(self.shuffle),
            rule=rule,
            hypers=hypers,
            average_from=int(self.average),
            aggressive=AGGRESSIVE.get(self.learning_rate, 0),
            one_class=self._one_class(),
            intercept_decay=_SPARSE_INTERCEPT_DECAY if issparse(X) and by_rows else 1.0,
            left_out=left_out,
            by_rows=by_rows,
            judged=judged,
            n_threads=max(1, threads // parallel),
            n_parallel=parallel,
        )

    def _rows_of_a_batch(self, n_rows: int) -> int:
        """Rows of an update, for so many rows."""
        if self.batch_size != "auto":
            return min(int(self.batch_size), n_rows)
        rule, hypers = rule_and_hypers(self.optimizer)
        if rule in _core.ONLINE_RULES or is_plain_sgd(rule, hypers):
            return 1
        return max(1, min(256, n_rows // 64))

    def _schedule(self) -> Schedule:
        if self.learning_rate == "optimal":
            return SCHEDULES["optimal"](
                self._strength(), self._pointwise_loss(), self._loss_parameter()
            )
        if self.learning_rate == "invscaling":
            return SCHEDULES["invscaling"](self.eta0, self.power_t)
        if self.learning_rate == "adaptive":
            return Adaptive(self.eta0)
        return SCHEDULES["constant"](self.eta0)  # also what bounds passive-aggressive steps

    def _strength(self) -> float:
        """Strength of the penalty."""
        return self.alpha

    def _strengths(self) -> tuple[float, float, float]:
        """Strengths of the L2 penalty, of the L1 penalty, and of that on groups."""
        strength = self._strength() if self.penalty is not None else 0.0
        part = PENALTIES[self.penalty](self.l1_ratio)
        l2, other = strength * (1 - part), strength * part
        return (l2, 0.0, other) if self.penalty == "group" else (l2, other, 0.0)

    def _one_class(self) -> float:
        """Fraction nu of a one-class SVM; 0 for other models."""
        return 0.0

    def _loss_parameter(self) -> float:
        """Parameter of the loss; 0 if it has none."""
        row = _core.LOSSES[self._pointwise_loss()]
        if row["parameter"] == "epsilon":  # scikit-learn has a place for this one
            return float(self.epsilon)
        return parameter_of(self._pointwise_loss(), self.loss_parameter)

    def _warn(self, run: Run, result: Result, stopping: Stopping) -> None:
        """Say what the user should know of a training that has ended."""
        messages = [message for p in result.problems if (message := hopeless(run, p))]
        if stopping.tol is not None and not result.interrupted and not result.converged:
            messages.append(
                "Maximum number of iteration reached before convergence. Consider increasing "
                f"max_iter to improve the fit. max_iter={self.max_iter} epochs were not enough to "
                f"converge to tol={self.tol}."
            )
        for message in messages:
            warnings.warn(message, ConvergenceWarning, stacklevel=5)  # the line that calls fit
        if self.power_t < 0:
            warnings.warn(
                "Negative values for `power_t` are deprecated, as in scikit-learn; give 0 or more",
                FutureWarning,
                stacklevel=5,
            )

    # ---- what training starts from ---------------------------------------------------------------

    def _first_params(
        self,
        X: Any,
        n_problems: int,
        coef: ArrayLike | None,
        intercept: ArrayLike | None,
        go_on: bool,
    ) -> tuple[Array, Array | None]:
        """Parameters to start from, and their average so far if one is wanted."""
        n_outputs = n_problems * self._n_classes()
        n_weights = self._hashed.n_weights if self._hashed else X.shape[1]
        shape, name = (n_outputs, n_weights + 1), self._intercept_init
        first_average: tuple[Any, Any] = None, None
        if go_on:
            coef, intercept = self.coef_, self._get_intercept()
            if self.average and hasattr(self, "_average_coef"):
                coef, intercept = self._standard_coef, self._standard_intercept
                first_average = self._average_coef, self._average_intercept
        if intercept is None:
            intercept = np.full(n_outputs, self._first_intercept)
        params = starting_params(shape, X.dtype, coef, intercept, name)
        if self._n_classes() > 1:  # one problem: all weights, then all intercepts
            params = np.append(params[:, :-1], params[:, -1])[np.newaxis]
        if not self.average:
            return params, None
        return params, starting_params(shape, X.dtype, *first_average)

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
        """Numbers that problem `k` carries on: zeros, or copies of those so far of the rule's."""
        kept = np.zeros(_core.N_KEPT)
        if go_on and self._states_of == run.rule:
            kept[: _core.N_KEPT_BY_RULE] = self._kept[k][: _core.N_KEPT_BY_RULE]
        return kept

    # ---- attributes ------------------------------------------------------------------------------

    def _publish(self, result: Result, go_on: bool) -> None:
        """Set the fitted attributes."""
        problems = result.problems
        self.t_ = result.t + 1
        self.n_iter_ = result.n_iter
        self.loss_curve_ = (self.loss_curve_ if go_on else []) + result.curve
        self._note_progressive_loss(result, go_on)
        for name, curve in (
            ("validation_curve_", result.scores),
            ("grad_norm_curve_", result.grad_norms),
        ):
            whole = (getattr(self, name, []) if go_on else []) + curve
            if whole:
                setattr(self, name, whole)
            else:
                self.__dict__.pop(name, None)
        self._states = [p.states for p in problems]
        self._kept = [p.kept for p in problems]
        self._states_of = rule_and_hypers(self.optimizer)[0]
        self._at_zero = [p.at_zero for p in problems]
        coef, intercept = self._shaped([p.params for p in problems])
        if self.average:
            self._standard_coef, self._standard_intercept = coef, intercept
            averages = [p.average for p in problems if p.average is not None]
            self._average_coef, self._average_intercept = self._shaped(averages)
            if self.average <= self.t_ - 1:
                coef, intercept = self._average_coef, self._average_intercept
        else:
            for name in _AVERAGING:
                self.__dict__.pop(name, None)
        old = getattr(self, "coef_", None)
        if (
            go_on
            and isinstance(old, np.ndarray)
            and (old.shape, old.dtype) == (coef.shape, coef.dtype)
            and old.flags.writeable
        ):
            old[...] = coef  # it stays the same array, as in scikit-learn
        else:
            self.coef_ = coef
        self._set_intercept(intercept)

    def _note_progressive_loss(self, result: Result, go_on: bool) -> None:
        """Average the loss of rows before they were trained on, over all calls of partial_fit."""
        mean, n_rows = self._progressive if go_on else (np.nan, 0)
        if result.first_loss is not None:
            part = result.n_rows / (n_rows + result.n_rows)
            mean = result.first_loss if part == 1 else mean + part * (result.first_loss - mean)
            n_rows += result.n_rows
        self._progressive = mean, n_rows
        self.progressive_loss_ = mean

    def _shaped(self, params: list[Array]) -> tuple[Array, Array]:
        """Weights and intercepts of all problems; one problem has one axis, but of a classifier."""
        if self._n_classes() > 1:
            weights, intercepts = np.split(params[0], [-self._n_classes()])
            return weights.reshape(len(intercepts), -1), intercepts.copy()
        both = np.stack(params)
        coef = np.ascontiguousarray(both[:, :-1])
        return coef if is_classifier(self) or len(both) > 1 else coef[0], both[:, -1].copy()

    def _get_intercept(self) -> Array:
        return self.intercept_

    def _set_intercept(self, intercept: Array) -> None:
        self.intercept_ = intercept

    def _products(self, X: ArrayLike) -> Array:
        """Products with the weights of each problem: of shape (n_samples,) if there is but one."""
        check_is_fitted(self)
        rows = hashed(validated_rows(self, X), self._hashed)
        coef = self.coef_ if issparse(self.coef_) else self.coef_.reshape(-1, rows.shape[1])
        values = products(rows, coef.T)
        return values[:, 0] if values.shape[1:] == (1,) else values


class SupervisedSGD(LinearSGD):
    """What classifier and regressor share: data with targets, and rows held out."""

    @abstractmethod
    def _encoded(self, y: Array, dtype: Any) -> list[Array]:
        """Return what each problem is to predict."""

    @abstractmethod
    def _metric(self) -> Metric:
        """Return the function that scores predictions."""

    def fit(
        self,
        X: ArrayLike | ParquetChunks,
        y: ArrayLike | None = None,
        coef_init: ArrayLike | None = None,
        intercept_init: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train on (X, y).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite; float32 and float64 are used as they are in C order and as CSR, with indices of
            32 and 64 bits. Of a matrix that maps a file (``numpy.load(path, mmap_mode="r")``) a
            thread reads ahead, unless rows are shuffled one by one or held out. CSR with `hashing`.
            Or a :class:`fastgd.streams.ParquetChunks`: each epoch is a call of `partial_fit` for
            each of its chunks, in the order that it gives them, with one learning rate and one
            curve; classes are found in its target before. Rows can't be held out of it, nor
            ``class_weight="balanced"`` or `grad_norm` worked out.
        y : array-like of shape (n_samples,)
            Labels, of at least two classes; for a regressor, finite targets, also of shape
            (n_samples, n_outputs). None for a ParquetChunks, which has its own.
        coef_init, intercept_init : array-like, optional
            Where to start: in the shape of ``coef_`` and ``intercept_``.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.
        X_val, y_val : array-like, optional
            Rows that are not trained on: their score after each epoch is in ``validation_curve_``,
            and it is what `early_stopping` and `restore_best_weights` look at. Then all of X is
            trained on. Keyword-only.
        sample_weight_val : array-like, optional
            Weights of these rows in the score. Keyword-only.

        Returns
        -------
        SGDClassifier or SGDRegressor
            self
        """
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given together")
        if isinstance(X, ParquetChunks):
            read = self._reading(
                X,
                lambda X, y, reset: self._read(X, y, None, reset),
                X_val is not None,
                y=y,
                sample_weight=sample_weight,
            )
        else:
            read = partial(self._read, X, y, sample_weight)
        return self._fit(
            read,
            coef_init,
            intercept_init,
            read_validation=None
            if X_val is None or y_val is None
            else lambda: self._read_validation(X_val, y_val, sample_weight_val),
        )

    def _decision(self, X: ArrayLike) -> Array:
        """Predict with each problem: of shape (n_samples,) if there is but one."""
        products = self._products(X)
        return products + self.intercept_

    def _read(
        self,
        X: ArrayLike,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        reset: bool,
    ) -> Data:
        """Check X, y and weights; note names and number of the features if told so."""
        numeric = not is_classifier(self)
        rows, target = validated(self, X, y, reset=reset, y_numeric=numeric, multi_output=numeric)
        if sample_weight is None:
            return Data(rows, target, None)
        if self.early_stopping and not np.any(sample_weight):
            raise ValueError(ALL_ZERO)
        return Data(rows, target, row_weights(rows, sample_weight))

    def _read_validation(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> Data:
        with of_validation():
            data = self._read(X, y, sample_weight, reset=False)
            assert_all_finite(data.X, input_name="X")
        return data

    def _split(self, data: Data) -> Mask:
        """Rows to hold out, drawn as scikit-learn draws them."""
        fraction, stratified = self.validation_fraction, is_classifier(self)
        return split(data.y, data.sample_weight, fraction, self.random_state, stratified)

    def _scores(
        self, run: Run, data: Data, targets: list[Target], validation: Data | None
    ) -> list[tuple[Score | None, Score | None]]:
        """Score of each problem on rows held out, and scikit-learn's; None without such rows."""
        metric, held_out = self._metric(), run.left_out
        if validation is not None:
            X, weights = hashed(validation.X, self._hashed), validation.sample_weight
            encoded = self._encoded(validation.y, data.X.dtype)
            return [(Score(metric, X, y, weights, self._n_classes()), None) for y in encoded]
        if held_out is None:
            return [(None, None)] * len(targets)
        X, weights = hashed(data.X[held_out], self._hashed), data.sample_weight
        weights = None if weights is None else weights[held_out]
        scores = [Score(metric, X, y[held_out], weights, self._n_classes()) for _, y, _ in targets]
        if not run.by_rows:
            return [(score, None) for score in scores]
        peer = true_positives if self.loss == "log_loss" else metric
        return [(score, replace(score, metric=peer)) for score in scores]
