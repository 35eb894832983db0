"""Linear models trained by gradient descent, with scikit-learn's names, defaults and conventions.

Change the import, keep the code; then ask for mini-batches (``batch_size``), another update rule
(``optimizer``) or block-wise shuffling (``shuffle="block"``). Needs the extra ``[sklearn]``.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from .optim import hyper_values, make_states
from .schedules import SCHEDULES, Schedule
from .train import Problem, Result, Run, block_rows, hopeless, train

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import assert_all_finite, check_random_state, compute_class_weight
    from sklearn.utils._param_validation import Interval, Options, StrOptions
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:  # pragma: no cover - the test environment has it
    raise ImportError(
        'fastgd.linear_model needs scikit-learn: pip install "fastgd[sklearn]"'
    ) from error

__all__ = ["SGDClassifier", "SGDRegressor"]

Array = NDArray[Any]


def _losses(task: str) -> list[str]:
    """Names of the losses that fit a task."""
    return [name for name, info in _core.LOSSES.items() if info["task"] in (task, "both")]


def _labels(y: Array) -> Array:
    """Sorted labels in y, which must be a classification's."""
    if y.dtype.kind not in "biuSU":
        check_classification_targets(y)
    elif y.dtype.kind in "iu" and y.size:
        low, high = int(y.min()), int(y.max())
        # counting is several times faster than np.unique
        if high - low < 1024 and high <= np.iinfo(np.int64).max:
            found: Array = np.flatnonzero(np.bincount(y.astype(np.int64) - low)) + low
            return found.astype(y.dtype)
    return np.unique(y)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Put the argument's name before an error of NumPy or scikit-learn that does not name it."""
    try:
        with np.errstate(over="ignore"):  # what overflows shows as not finite
            yield
    except (TypeError, ValueError) as error:
        if re.search(r"\b(X|y|sample_weight)\b", str(error)):
            raise
        if "inconsistent numbers of samples" in str(error):
            name = "X and y"
        elif str(error).startswith("Input contains"):  # said of an object array of targets
            name = "y"
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from None


def _finite(given: ArrayLike, dtype: Any, name: str) -> Array:
    """C-contiguous array of `dtype`, all of it finite."""
    with _naming(name):
        array: Array = np.ascontiguousarray(given, dtype=dtype)
    if not _core.all_finite(array):
        raise ValueError(f"{name} must hold numbers that are finite as {array.dtype}")
    return array


def _row_weights(X: Array, given: ArrayLike | None) -> Array:
    """Sample weights, finite and not negative, of the dtype of X; ones for None."""
    with _naming("sample_weight"):
        weights = _check_sample_weight(given, X, dtype=X.dtype, ensure_non_negative=True)
    return _finite(weights, X.dtype, "sample_weight")


def _optimizer(given: Any) -> tuple[str, list[float]]:
    """Split the parameter `optimizer` into a rule and the values of its hyper-parameters."""
    if isinstance(given, str):
        return given, hyper_values(given, {})
    rule, settings = given if len(given) == 2 else (None, None)
    if (
        not isinstance(rule, str)
        or rule not in _core.RULES
        or not isinstance(settings, dict)
        or "lr" in settings
    ):
        raise ValueError(
            f"optimizer must be one of {', '.join(_core.RULES)}, or a pair of one and a dict of "
            f"its hyper-parameters other than lr (see eta0); got {given!r}"
        )
    return rule, hyper_values(rule, settings)


class _SGD(BaseEstimator):  # type: ignore[misc]
    """What the classifier and the regressor share."""

    loss_curve_: list[float]
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "penalty": [StrOptions({"l2"}), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both"), None],
        "fit_intercept": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "shuffle": ["boolean", StrOptions({"block"})],
        "verbose": ["verbose"],
        "epsilon": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "learning_rate": [StrOptions(set(SCHEDULES))],
        "eta0": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "early_stopping": [Options(bool, {False})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "average": [Options(bool, {False})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "optimizer": [StrOptions(set(_core.RULES)), tuple],
    }

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
        name = _core.LOSSES[self.loss]["parameter"]
        return float(getattr(self, name)) if name else 0.0

    def _run(self, X: Array, n_problems: int) -> Run:
        """Gather what is the same for all problems, from the parameters."""
        rule, hypers = _optimizer(self.optimizer)
        n_jobs = getattr(self, "n_jobs", None) or 1
        parallel = min(n_problems, n_jobs if n_jobs > 0 else _core.threads())
        n_rows, n_features = X.shape
        return Run(
            X=X,
            block=block_rows(n_rows, n_features, X.itemsize, self.shuffle),
            batch_size=min(self.batch_size, n_rows),
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

    def _validated(self, X: ArrayLike, y: ArrayLike, **options: Any) -> tuple[Array, Array]:
        """Check X and y; whether X is finite shows in training, without reading it once more."""
        checked: tuple[Array, Array]
        with _naming("X"):
            checked = validate_data(
                self,
                X,
                y,
                dtype=[np.float64, np.float32],
                order="C",
                ensure_all_finite=False,
                **options,
            )
        if checked[1].dtype.kind in "fc":
            assert_all_finite(checked[1], input_name="y", estimator_name=type(self).__name__)
        return checked

    def _start(
        self, X: Array, n_problems: int, coef: ArrayLike | None, intercept: ArrayLike | None
    ) -> Array:
        """Parameters to start from, (n_problems, n_features + 1): zeros, or what is given."""
        params = np.zeros((n_problems, X.shape[1] + 1), X.dtype)
        for name, given, part in (
            ("coef_init", coef, params[:, :-1]),
            ("intercept_init", intercept, params[:, -1]),
        ):
            if given is None:
                continue
            start = _finite(given, X.dtype, name)
            if start.shape != part.shape and (n_problems > 1 or start.size != part.size):
                raise ValueError(
                    f"{name} must be of shape {part.shape}, as the data has it; got {start.shape}"
                )
            part[...] = start.reshape(part.shape)
        return params

    def _train(
        self,
        X: Array,
        targets: list[Array],
        weights: list[Array | None],
        labels: list[str],
        params: Array,
        go_on: bool,
        max_iter: int,
        tol: float | None,
    ) -> Result:
        """Train every problem until it converges; epochs outside, problems inside."""
        run = self._run(X, len(targets))
        seeds = self._seeds(len(targets))
        n_blocks = -(-X.shape[0] // run.block)
        problems = [
            Problem(
                label=label,
                y=y,
                sample_weight=weight,
                params=p,
                states=self._first_states(run, k, p, go_on),
                order=np.arange(n_blocks, dtype=np.int64),
                seed=seed,
                t=self.t_ - 1 if go_on else 0,
                at_zero=self._at_zero[k] if go_on else 0.0,
            )
            for k, (label, y, weight, p, seed) in enumerate(
                zip(labels, targets, weights, params, seeds, strict=True)
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
            warnings.warn(message, ConvergenceWarning, stacklevel=4)
        return result

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

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """Take back what was noted about the data if no model comes of it."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            self.__dict__ = before
            raise

    def _publish(self, result: Result, keep_curve: bool) -> None:
        """Set the fitted attributes."""
        params = np.stack([p.params for p in result.problems])
        self.coef_ = np.ascontiguousarray(params[:, :-1]).reshape(self._coef_shape(params))
        self.intercept_ = params[:, -1].copy()
        self._states = [p.states for p in result.problems]
        self._states_of = _optimizer(self.optimizer)[0]
        self._at_zero = [p.at_zero for p in result.problems]
        self.t_ = max(p.t for p in result.problems) + 1
        self.n_iter_ = result.n_iter
        self.loss_curve_ = (self.loss_curve_ if keep_curve else []) + result.curve

    def _coef_shape(self, params: Array) -> tuple[int, ...]:
        """Shape of ``coef_``: a regression has one axis."""
        features = params.shape[1] - 1
        return (features,) if isinstance(self, RegressorMixin) else (params.shape[0], features)

    def _decision(self, X: ArrayLike) -> Array:
        check_is_fitted(self)
        with _naming("X"):
            rows: Array = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        scores: Array = rows @ self.coef_.reshape(-1, rows.shape[1]).T + self.intercept_
        return scores[:, 0] if scores.shape[1] == 1 else scores


def _has_probabilities(estimator: Any) -> bool:
    """Whether the loss gives probabilities; the error that ``available_if`` shows."""
    if estimator.loss != "log_loss":
        raise AttributeError(f'probabilities need loss="log_loss"; got loss={estimator.loss!r}')
    return True


class SGDClassifier(ClassifierMixin, _SGD):  # type: ignore[misc]
    """Linear classifier trained by gradient descent: ``sklearn.linear_model.SGDClassifier``.

    More than two classes are trained one against the rest. All parameters but the last two are
    scikit-learn's, with its defaults; what this class does not do yet (`penalty` "l1" and
    "elasticnet", `early_stopping`, `average`, other losses and schedules) is refused by name.

    Parameters
    ----------
    loss : {"hinge", "log_loss", "squared_error", "huber"}, default="hinge"
        "hinge" is a linear support vector machine, "log_loss" logistic regression.
    penalty : {"l2", None}, default="l2"
        Penalty ``alpha / 2 * ||coef||**2`` on the weights.
    alpha : float, default=0.0001
        Its strength; also sets the rate of ``learning_rate="optimal"``.
    l1_ratio : float, default=0.15
        Of no effect: there is no "elasticnet" here.
    fit_intercept : bool, default=True
        Whether to train an intercept.
    max_iter : int, default=1000
        Epochs at most.
    tol : float or None, default=1e-3
        Stop when the objective has not fallen by more than this for `n_iter_no_change` epochs;
        None trains `max_iter` epochs.
    shuffle : bool or "block", default=True
        Order of the rows in each epoch: True shuffles exactly, as scikit-learn does; "block"
        shuffles blocks of at least 16 neighbouring rows, which reads memory much faster (for data
        that is not sorted by its target); False keeps the order.
    verbose : int, default=0
        Above 0, print the objective of each epoch.
    epsilon : float, default=0.1
        Where loss "huber" turns from quadratic to linear.
    n_jobs : int or None, default=None
        Classes trained at a time; -1 takes all threads.
    random_state : int, RandomState or None, default=None
        Seed of the shuffling; the same one gives scikit-learn's order.
    learning_rate : {"optimal", "constant", "invscaling"}, default="optimal"
        ``1 / (alpha * (t0 + t - 1))``, ``eta0``, or ``eta0 / t**power_t``; t counts updates.
    eta0 : float, default=0.01
        Learning rate of "constant", first one of "invscaling".
    power_t : float, default=0.5
        Exponent of "invscaling".
    early_stopping : False, default=False
        Only False.
    validation_fraction : float, default=0.1
        Of no effect without early stopping.
    n_iter_no_change : int, default=5
        Epochs without improvement before stopping.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes.
    warm_start : bool, default=False
        Whether `fit` starts from the coefficients of the fit before.
    average : False, default=False
        Only False.
    batch_size : int, default=1
        Rows of an update. The gradient is their mean; 1 is scikit-learn's. Keyword-only.
    optimizer : str or (str, dict), default="sgd"
        Update rule, with its hyper-parameters other than the learning rate if wanted:
        ``"adam"``, ``("sgd", {"momentum": 0.9})``. Keyword-only.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Weights, of the dtype of X.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts.
    classes_ : ndarray of shape (n_classes,)
        Labels.
    n_iter_ : int
        Epochs of the last fit.
    t_ : int
        Updates so far, plus one.
    loss_curve_ : list of float
        Training objective of each epoch: the mean of the losses, each before its row's update,
        plus the penalty at the epoch's end; the mean over the classes where there are many.
    n_features_in_ : int
        Features seen in fit.

    Raises
    ------
    ValueError, TypeError
        From fit: a parameter out of its range, or data that is empty, not finite, of one class.
        The estimator is as it was before.
    fastgd.DivergenceError
        From fit: a number ceased to be finite. The message names the step.

    References
    ----------
    Bottou, "Large-scale machine learning with stochastic gradient descent", COMPSTAT 2010.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from fastgd.linear_model import SGDClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = SGDClassifier(loss="log_loss", random_state=0).fit(scale(X), y)
    >>> bool(model.score(scale(X), y) > 0.97)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_SGD._parameter_constraints,
        "loss": [StrOptions(set(_losses("classification")))],
        "n_jobs": [Integral, None],
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    def __init__(
        self,
        loss: str = "hinge",
        *,
        penalty: str | None = "l2",
        alpha: float = 0.0001,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool | str = True,
        verbose: int = 0,
        epsilon: float = 0.1,
        n_jobs: int | None = None,
        random_state: Any = None,
        learning_rate: str = "optimal",
        eta0: float = 0.01,
        power_t: float = 0.5,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        class_weight: Any = None,
        warm_start: bool = False,
        average: bool = False,
        batch_size: int = 1,
        optimizer: str | tuple[str, dict[str, Any]] = "sgd",
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.epsilon = epsilon
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.average = average
        self.batch_size = batch_size
        self.optimizer = optimizer

    def _seeds(self, n_problems: int) -> list[int]:
        """Shuffling seeds, drawn as scikit-learn draws them: the second draw of each class."""
        state = check_random_state(self.random_state)
        most = np.iinfo(np.int32).max
        states = [state]
        if n_problems > 1:
            states = [np.random.RandomState(seed) for seed in state.randint(most, size=n_problems)]
        return [int((one.randint(1, most), one.randint(most))[1]) for one in states]

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
            Labels, of at least two classes.
        coef_init, intercept_init : array-like, optional
            Where to start.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        SGDClassifier
            self
        """
        if self.warm_start and hasattr(self, "coef_"):
            coef_init = self.coef_ if coef_init is None else coef_init
            intercept_init = self.intercept_ if intercept_init is None else intercept_init
        return self._fit(X, y, None, sample_weight, coef_init, intercept_init, go_on=False)

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on (X, y), going on from where training was.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Finite; float32 and float64 in C order are used as they are.
        y : array-like of shape (n_samples,)
            Labels, out of `classes`.
        classes : array-like of shape (n_classes,), optional
            All labels that will ever come; needed in the first call.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        SGDClassifier
            self
        """
        if self.class_weight == "balanced":
            raise ValueError(
                'class_weight must not be "balanced" for partial_fit, which does not see all '
                "data; give a dict, or sample_weight"
            )
        go_on = hasattr(self, "classes_")
        if classes is None and not go_on:
            raise ValueError("classes must be given in the first call of partial_fit")
        if classes is not None:
            classes = np.unique(np.asarray(classes))
            if go_on and not np.array_equal(classes, self.classes_):
                raise ValueError(
                    f"classes must be those of the first call, {self.classes_}; got {classes}"
                )
        else:
            classes = self.classes_
        return self._fit(X, y, classes, sample_weight, None, None, go_on=go_on, one_epoch=True)

    def _fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: Array | None,
        sample_weight: ArrayLike | None,
        coef: ArrayLike | None,
        intercept: ArrayLike | None,
        *,
        go_on: bool,
        one_epoch: bool = False,
    ) -> Self:
        with self._unchanged_on_error():
            self._validate_params()
            X, y = self._validated(X, y, reset=not go_on)
            with _naming("y"):
                found = _labels(y)
            if classes is None:
                classes = found
            unseen = np.setdiff1d(found, classes)
            if unseen.size:
                raise ValueError(f"y must hold labels out of classes {classes}; got {unseen}")
            if len(classes) < 2:
                raise ValueError(
                    "y must hold at least two classes, the number of classes has to be greater "
                    f"than one; got {len(classes)} class"
                )
            positives = [classes[1]] if len(classes) == 2 else list(classes)
            targets = [2 * (y == one).astype(X.dtype) - 1 for one in positives]
            labels = ["training"]
            if len(positives) > 1:
                labels = [f"training of class {one!s} against the rest" for one in positives]
            weights = self._weights(X, y, classes, targets, sample_weight)
            if go_on:
                coef, intercept = self.coef_, self.intercept_
            params = self._start(X, len(positives), coef, intercept)
            result = self._train(
                X,
                targets,
                weights,
                labels,
                params,
                go_on,
                1 if one_epoch else self.max_iter,
                None if one_epoch else self.tol,
            )
            self.classes_ = classes
            self._publish(result, keep_curve=go_on)
        if result.interrupted:
            raise KeyboardInterrupt
        return self

    def _weights(
        self, X: Array, y: Array, classes: Array, targets: list[Array], given: ArrayLike | None
    ) -> list[Array | None]:
        """Weights of the rows in each problem: the sample's times the class's; None for ones."""
        if given is None and self.class_weight is None:
            return [None] * len(targets)
        rows = _row_weights(X, given)
        by_class = compute_class_weight(self.class_weight, classes=classes, y=y)
        if not (np.isfinite(by_class) & (by_class >= 0)).all():
            raise ValueError(f"class_weight must be finite and 0 or more; got {by_class}")
        if len(targets) == 1:
            return [rows * np.where(targets[0] > 0, by_class[1], by_class[0]).astype(X.dtype)]
        return [
            rows * np.where(target > 0, weight, 1).astype(X.dtype)
            for target, weight in zip(targets, by_class, strict=True)
        ]

    def decision_function(self, X: ArrayLike) -> Array:
        """Signed distances to the separating planes, times the weights' norms.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Above 0 for the (second) class.
        """
        return self._decision(X)

    def predict(self, X: ArrayLike) -> Array:
        """Most likely label of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Out of ``classes_``.
        """
        scores = self._decision(X)
        best = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        labels: Array = self.classes_[best]
        return labels

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of the classes; only with loss "log_loss".

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; with more than two classes the one-against-rest
            probabilities, normalised.
        """
        scores = self._decision(X)
        positive = np.exp(-np.logaddexp(0, -scores))
        if scores.ndim == 1:
            return np.column_stack([1 - positive, positive])
        total = positive.sum(axis=1, keepdims=True)
        n_classes = positive.shape[1]
        return np.where(total > 0, positive / np.where(total > 0, total, 1), 1 / n_classes)

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        probabilities: Array = self.predict_proba(X)
        return np.log(probabilities)


class SGDRegressor(RegressorMixin, _SGD):  # type: ignore[misc]
    """Linear regression trained by gradient descent: ``sklearn.linear_model.SGDRegressor``.

    All parameters but the last two are scikit-learn's, with its defaults; what this class does not
    do yet (`penalty` "l1" and "elasticnet", `early_stopping`, `average`, other losses and
    schedules) is refused by name. Scale the features first: on raw ones training diverges.

    Parameters
    ----------
    loss : {"squared_error", "huber"}, default="squared_error"
        Pointwise loss.
    penalty : {"l2", None}, default="l2"
        Penalty ``alpha / 2 * ||coef||**2`` on the weights.
    alpha : float, default=0.0001
        Its strength; also sets the rate of ``learning_rate="optimal"``.
    l1_ratio : float, default=0.15
        Of no effect: there is no "elasticnet" here.
    fit_intercept : bool, default=True
        Whether to train an intercept.
    max_iter : int, default=1000
        Epochs at most.
    tol : float or None, default=1e-3
        Stop when the objective has not fallen by more than this for `n_iter_no_change` epochs;
        None trains `max_iter` epochs.
    shuffle : bool or "block", default=True
        Order of the rows in each epoch: True shuffles exactly, as scikit-learn does; "block"
        shuffles blocks of at least 16 neighbouring rows, which reads memory much faster (for data
        that is not sorted by its target); False keeps the order.
    verbose : int, default=0
        Above 0, print the objective of each epoch.
    epsilon : float, default=0.1
        Where loss "huber" turns from quadratic to linear, in units of the target.
    random_state : int, RandomState or None, default=None
        Seed of the shuffling; the same one gives scikit-learn's order.
    learning_rate : {"invscaling", "constant", "optimal"}, default="invscaling"
        ``eta0 / t**power_t``, ``eta0``, or ``1 / (alpha * (t0 + t - 1))``; t counts updates.
    eta0 : float, default=0.01
        Learning rate of "constant", first one of "invscaling".
    power_t : float, default=0.25
        Exponent of "invscaling".
    early_stopping : False, default=False
        Only False.
    validation_fraction : float, default=0.1
        Of no effect without early stopping.
    n_iter_no_change : int, default=5
        Epochs without improvement before stopping.
    warm_start : bool, default=False
        Whether `fit` starts from the coefficients of the fit before.
    average : False, default=False
        Only False.
    batch_size : int, default=1
        Rows of an update. The gradient is their mean; 1 is scikit-learn's. Keyword-only.
    optimizer : str or (str, dict), default="sgd"
        Update rule, with its hyper-parameters other than the learning rate if wanted:
        ``"adam"``, ``("sgd", {"momentum": 0.9})``. Keyword-only.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Weights, of the dtype of X.
    intercept_ : ndarray of shape (1,)
        Intercept.
    n_iter_ : int
        Epochs of the last fit.
    t_ : int
        Updates so far, plus one.
    loss_curve_ : list of float
        Training objective of each epoch: the mean of the losses, each before its row's update,
        plus the penalty at the epoch's end.
    n_features_in_ : int
        Features seen in fit.

    Raises
    ------
    ValueError, TypeError
        From fit: a parameter out of its range, or data that is empty or not finite. The estimator
        is as it was before.
    fastgd.DivergenceError
        From fit: a number ceased to be finite. The message names the step.

    References
    ----------
    Bottou, "Large-scale machine learning with stochastic gradient descent", COMPSTAT 2010.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from fastgd.linear_model import SGDRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X /= X.std(axis=0)
    >>> model = SGDRegressor(random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.5)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_SGD._parameter_constraints,
        "loss": [StrOptions(set(_losses("regression")))],
    }

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        penalty: str | None = "l2",
        alpha: float = 0.0001,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool | str = True,
        verbose: int = 0,
        epsilon: float = 0.1,
        random_state: Any = None,
        learning_rate: str = "invscaling",
        eta0: float = 0.01,
        power_t: float = 0.25,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        average: bool = False,
        batch_size: int = 1,
        optimizer: str | tuple[str, dict[str, Any]] = "sgd",
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.epsilon = epsilon
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.average = average
        self.batch_size = batch_size
        self.optimizer = optimizer

    def _seeds(self, n_problems: int) -> list[int]:
        """Shuffling seed, drawn as scikit-learn draws it: the first draw of two."""
        state = check_random_state(self.random_state)
        most = np.iinfo(np.int32).max
        return [int((state.randint(most), state.randint(1, most))[0]) for _ in range(n_problems)]

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
            Finite targets.
        coef_init, intercept_init : array-like, optional
            Where to start.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        SGDRegressor
            self
        """
        if self.warm_start and hasattr(self, "coef_"):
            coef_init = self.coef_ if coef_init is None else coef_init
            intercept_init = self.intercept_ if intercept_init is None else intercept_init
        return self._fit(X, y, sample_weight, coef_init, intercept_init, go_on=False)

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch on (X, y), going on from where training was.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Finite; float32 and float64 in C order are used as they are.
        y : array-like of shape (n_samples,)
            Finite targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        SGDRegressor
            self
        """
        go_on = hasattr(self, "coef_")
        return self._fit(X, y, sample_weight, None, None, go_on=go_on, one_epoch=True)

    def _fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        coef: ArrayLike | None,
        intercept: ArrayLike | None,
        *,
        go_on: bool,
        one_epoch: bool = False,
    ) -> Self:
        with self._unchanged_on_error():
            self._validate_params()
            X, y = self._validated(X, y, reset=not go_on, y_numeric=True)
            target = _finite(y, X.dtype, "y")
            weight = None if sample_weight is None else _row_weights(X, sample_weight)
            if go_on:
                coef, intercept = self.coef_, self.intercept_
            result = self._train(
                X,
                [target],
                [weight],
                ["training"],
                self._start(X, 1, coef, intercept),
                go_on,
                1 if one_epoch else self.max_iter,
                None if one_epoch else self.tol,
            )
            self._publish(result, keep_curve=go_on)
        if result.interrupted:
            raise KeyboardInterrupt
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Prediction for each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predicted targets.
        """
        return self._decision(X)
