"""What the multilayer perceptrons share: from their parameters to a network, and to training it."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from . import _core
from ._estimator import Estimator
from ._linear_input import Array, of_validation, row_weights, validated, validated_rows
from ._linear_validation import ALL_ZERO, Metric
from ._mlp_lbfgs import minimise
from ._mlp_optimizer import Settings, Steps
from ._mlp_parameters import CONSTRAINTS
from ._mlp_training import NOT_FINITE, Order, Record, Rows, Training, of_layers, watchers
from .nn import Dense, Network

__all__ = ["MLP", "Given"]

# scikit-learn's names for what makes predictions of outputs
_OF_LINKS = {"softmax": "softmax", "logit": "logistic", "log": "exp", "identity": "identity"}


class Given(NamedTuple):
    """What fit was given, checked."""

    X: Any  # array or CSR matrix
    y: Array
    sample_weight: Array | None


# ---- the estimator -------------------------------------------------------------------------------


class MLP(Estimator, ABC):
    """What classifier and regressor share.

    Each of them adds the signature of ``__init__`` and the docstring, and what it makes of y.
    """

    hidden_layer_sizes: Any
    activation: str
    solver: str
    alpha: float
    batch_size: int | str
    learning_rate: str
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: Any
    tol: float
    verbose: Any
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    max_fun: int
    optimizer: Any
    schedule: Any
    activation_parameter: float | None
    initializer: str | None
    norm: Literal["batch", "layer"] | None
    dropout: float
    skip: bool
    max_norm: float | None
    clip_value: float | None
    ema_decay: Any
    restore_best_weights: bool
    callbacks: Any

    coefs_: list[Array]
    intercepts_: list[Array]
    n_iter_: int
    t_: int
    n_layers_: int
    n_outputs_: int
    out_activation_: str
    loss_: float
    loss_curve_: list[float]
    best_loss_: float | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    _network: Network
    _optimizer: Steps
    _trained: list[Array] | None = None  # where training goes on, if the result are averages

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS

    @abstractmethod
    def _note_targets(self, y: Array, first: bool, incremental: bool, classes: Any) -> None:
        """Note what y says of the output; refuse what does not fit with what was noted before."""

    @abstractmethod
    def _outputs(self, y: Array) -> int:
        """Count the outputs that the network has for y."""

    @abstractmethod
    def _encoded(self, y: Array, dtype: Any) -> Array:
        """Return targets as the network takes them."""

    @abstractmethod
    def _strata(self, y: Array) -> Array | None:
        """Return by what rows held out are stratified."""

    @abstractmethod
    def _metric(self) -> Metric:
        """Return the function that scores what the network gives before its link."""

    @abstractmethod
    def _loss_settings(self) -> dict[str, Any]:
        """Return the arguments of a network that say what it minimises."""

    def _rows(self, given: Given, dtype: Any) -> Rows:
        """Return the data as the network takes them."""
        weights = self._weights(given)
        return Rows(
            self._for_network(given.X, dtype),
            self._encoded(given.y, dtype),
            None if weights is None else weights.astype(dtype),
        )

    def _weights(self, given: Given) -> Array | None:
        """Return the weights of the rows in training; None for ones."""
        return given.sample_weight

    # ---- training --------------------------------------------------------------------------------

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
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
            Finite; float32 and float64 are used as they are in C order and as CSR.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels, or 0 and 1 for each of several labels; for a regressor, finite targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.
        X_val, y_val : array-like, optional
            Rows that are not trained on: their score after each epoch is in
            ``validation_scores_``, and it is what `early_stopping` and `restore_best_weights` look
            at. Then all of X is trained on. Keyword-only.
        sample_weight_val : array-like, optional
            Weights of these rows in the score. Keyword-only.

        Returns
        -------
        MLPClassifier or MLPRegressor
            self
        """
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given together")
        held_out = None if X_val is None else (X_val, y_val, sample_weight_val)
        return self._fit(X, y, sample_weight, held_out=held_out)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        incremental: bool = False,
        classes: Any = None,
        held_out: Any = None,
    ) -> Self:
        """Train until no progress is made, or for one epoch; or change nothing."""
        with self._unchanged_on_error():
            self._check_parameters(incremental, held_out is not None)
            first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
            given = self._read(X, y, sample_weight, reset=first)
            self._note_targets(given.y, first, incremental, classes)
            state = check_random_state(self.random_state)
            network = self._network_for(given, first, incremental, state)
            training = self._training(network, given, first, incremental, held_out)
            if training.by_score and training.score is None:
                self._hold_out(training, given, state)
            if issparse(training.rows.X):
                training.rows.X = _core.CSR(training.rows.X)  # checked once
            if self.solver == "lbfgs":
                self._by_lbfgs(training, given.X.dtype if first else self._network.dtype)
            else:
                self._in_batches(training, incremental, state)
        if training.record.interrupted:
            warnings.warn("Training interrupted by user.", stacklevel=3)
        return self

    def _check_parameters(self, incremental: bool, validates: bool) -> None:
        """Refuse parameters that are out of range or do not go together."""
        self._validate_params()
        Settings.of(self)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        sizes = self._hidden_sizes()
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        if self.skip and not any(a == b for a, b in pairwise(sizes)):
            raise ValueError(
                "skip must be False without two hidden layers of the same width, one behind the "
                f"other; got hidden_layer_sizes={self.hidden_layer_sizes}"
            )
        if self.restore_best_weights and not (self.early_stopping or validates or incremental):
            raise ValueError(
                "restore_best_weights needs rows to score: early_stopping=True, or X_val and y_val"
            )
        if self.solver == "lbfgs":
            for name, refused in (("dropout", self.dropout > 0), ("norm", self.norm == "batch")):
                if refused:
                    raise ValueError(
                        f"{name} must not be {getattr(self, name)!r} with solver='lbfgs', which "
                        "needs a loss that is the same whenever it looks at it"
                    )

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        return [int(size) for size in (sizes if hasattr(sizes, "__iter__") else [sizes])]

    def _read(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Given:
        """Check data; note names and number of the features if told so."""
        if issparse(y):
            y = y.toarray()
        rows, target = validated(
            self,
            X,
            y,
            reset=reset,
            multi_output=True,
            y_numeric=is_regressor(self),
            ensure_all_finite=True,
        )
        weights = None if sample_weight is None else row_weights(rows, sample_weight)
        return Given(rows, target, weights)

    def _training(
        self, network: Network, given: Given, first: bool, incremental: bool, held_out: Any
    ) -> Training:
        """Gather what one call trains, and on what; all rows, as yet."""
        rows = self._rows(given, network.dtype)
        score = None
        if held_out is not None:
            with of_validation():
                there = self._read(*held_out, reset=False)
                self._note_targets(there.y, False, True, None)
                score = self._score_on(
                    self._for_network(there.X, network.dtype),
                    self._encoded(there.y, network.dtype),
                    there.sample_weight,
                )
        by_score = self.early_stopping and self.solver != "lbfgs"
        scored = by_score or score is not None
        return Training(
            network,
            rows,
            np.arange(len(rows.y)),
            alpha=float(self.alpha),
            score=score,
            record=self._record(first, by_score, scored),
            max_iter=1 if incremental else self.max_iter,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            by_score=by_score,
            restore_best=scored and (by_score or self.restore_best_weights),
        )

    def _record(self, first: bool, by_score: bool, scored: bool) -> Record:
        """Return what was noted before, to be carried on, or a blank one."""
        if first or not hasattr(self, "loss_curve_"):
            record = Record(t=0 if first else self.t_, best_loss=None if by_score else np.inf)
        else:
            record = Record(
                t=self.t_,
                curve=list(self.loss_curve_),
                best_loss=self.best_loss_,
                no_improvement=self._no_improvement_count,
            )
        if scored:
            record.scores = [] if first else list(getattr(self, "validation_scores_", None) or [])
            best = None if first else getattr(self, "best_validation_score_", None)
            record.best_score = -np.inf if best is None else best
        return record

    def _score_on(self, X: Any, y: Array, weights: Array | None) -> Callable[[Network], float]:
        """Return the function that scores a network on these rows."""
        if weights is not None and not weights.any():
            raise ValueError(ALL_ZERO)
        metric = self._metric()

        def score(network: Network) -> float:
            raw = network.predict_raw(X)
            if not np.isfinite(raw).all():
                return float("nan")
            return metric(y, raw[:, 0] if raw.shape[1] == 1 else raw, weights)

        return score

    def _hold_out(self, training: Training, given: Given, state: np.random.RandomState) -> None:
        """Take rows out of what is trained on, and score them instead."""
        training.visited, left_out = train_test_split(
            training.visited,
            random_state=state,
            test_size=self.validation_fraction,
            stratify=self._strata(given.y),
        )
        if len(left_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        weights = None if given.sample_weight is None else given.sample_weight[left_out]
        rows = training.rows
        training.score = self._score_on(rows.X[left_out], rows.y[left_out], weights)

    def _in_batches(
        self, training: Training, incremental: bool, state: np.random.RandomState
    ) -> None:
        """Train by an optimizer, and note what came of it."""
        settings = Settings.of(self)
        steps = self.__dict__.get("_optimizer")
        if not (incremental and steps is not None and steps.is_for(settings)):
            steps = Steps(settings, training.network)
        n_rows = len(training.visited)
        wanted = 200 if self.batch_size == "auto" else int(self.batch_size)
        if self.batch_size != "auto" and wanted > n_rows:
            warnings.warn(
                f"batch_size is more than there are rows, {wanted} > {n_rows}; all of them are a "
                "batch",
                stacklevel=4,
            )
        batch_size = min(wanted, n_rows)
        order = Order(training.visited, state if self.shuffle else None)
        atomic = not incremental or (batch_size == n_rows and self._trained is None)
        with nullcontext() if atomic else _undone_on_error(training.network, steps):
            self._go_on_from(training.network)
            with watchers(self.verbose, self.callbacks, training.max_iter) as training.watching:
                training.in_batches(steps, order, batch_size)
            self._check_finite(training.network)
        self._optimizer = steps
        self._publish(training)
        self._publish_curves(training.record)
        self._take_averages(training.record)
        if not incremental:
            self._warn(training.record)

    def _by_lbfgs(self, training: Training, dtype: Any) -> None:
        """Train by L-BFGS, in float64 whatever the data, and note what came of it."""
        with watchers(self.verbose, self.callbacks, training.max_iter) as training.watching:
            self.loss_ = minimise(training, self.max_fun)
        self._check_finite(training.network)
        scores, best = training.record.scores, training.record.best_score
        for name in ("loss_curve_", "best_loss_", "_optimizer"):
            self.__dict__.pop(name, None)
        self.validation_scores_, self.best_validation_score_ = scores, best
        if training.network.dtype != dtype:
            training.network = self._like(training.network, dtype)
        self._publish(training)

    def _check_finite(self, network: Network) -> None:
        if not all(map(_core.all_finite, network.parameters)):
            raise _core.DivergenceError(NOT_FINITE + ".")

    def _warn(self, record: Record) -> None:
        """Say what the user should know of a training that has ended."""
        message = ""
        if record.diverged:
            message = (
                f"Training left the finite numbers in epoch {record.n_iter}; the result are the "
                "weights of the best score before. Lower learning_rate_init, or scale the data."
            )
        elif not (record.converged or record.interrupted):
            message = (
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the "
                "optimization hasn't converged yet."
            )
        if message:
            warnings.warn(message, ConvergenceWarning, stacklevel=5)  # the line that calls fit

    # ---- networks --------------------------------------------------------------------------------

    def _network_for(
        self, given: Given, first: bool, incremental: bool, state: np.random.RandomState
    ) -> Network:
        """Return the network to train: a new one, or the one there is."""
        n_inputs, n_outputs = given.X.shape[1], self._outputs(given.y)
        if first:
            dtype = np.float64 if self.solver == "lbfgs" else given.X.dtype
            network = self._new_network(n_inputs, n_outputs, dtype, state)
            if self.initializer is None:
                self._draw_weights(network, state)
            self.t_ = self.n_iter_ = 0
            return network
        before = self._model()
        if before.n_outputs != n_outputs:
            raise ValueError(
                f"y must have {before.n_outputs} outputs, as in the fit before; got {n_outputs}"
            )
        if incremental:
            return before
        dtype = np.float64 if self.solver == "lbfgs" else before.dtype
        network = self._new_network(n_inputs, n_outputs, dtype, state)
        if [p.shape for p in network.parameters] != [p.shape for p in before.parameters]:
            raise ValueError(
                "hidden_layer_sizes and norm must be what they were in the fit before, with "
                f"warm_start; got {self.hidden_layer_sizes} and {self.norm!r}"
            )
        network.load_state_dict(before.state_dict())
        return network

    def _new_network(
        self, n_inputs: int, n_outputs: int, dtype: Any, state: np.random.RandomState
    ) -> Network:
        """Make a network of the layers that the parameters describe."""
        sizes = self._hidden_sizes()
        layers = [
            Dense(
                size,
                self.activation,
                activation_parameter=self.activation_parameter,
                norm=self.norm,
                dropout=self.dropout,
                skip=bool(self.skip) and size == before,
            )
            for before, size in zip([None, *sizes], sizes, strict=False)
        ]
        draws = self.dropout > 0 or self.initializer is not None
        return Network(
            n_inputs,
            [*layers, Dense(n_outputs)],
            **self._loss_settings(),
            dtype=dtype,
            initializer=self.initializer or "zeros",
            rng=state.randint(np.iinfo(np.int32).max) if draws else 0,
        )

    def _draw_weights(self, network: Network, state: np.random.RandomState) -> None:
        """Draw weights and biases as scikit-learn does."""
        factor = 2.0 if self.activation == "logistic" else 6.0
        pairs = zip(of_layers(network, "weight"), of_layers(network, "bias"), strict=True)
        for weight, bias in pairs:
            bound = np.sqrt(factor / sum(weight.shape))
            weight[...] = state.uniform(-bound, bound, weight.shape)
            bias[...] = state.uniform(-bound, bound, bias.shape)

    def _like(self, network: Network, dtype: Any) -> Network:
        """Return the same network in another dtype."""
        state = np.random.RandomState(0)  # of which nothing is kept
        same = self._new_network(network.n_inputs, network.n_outputs, dtype, state)
        same.load_state_dict(network.state_dict())
        return same

    def _model(self) -> Network:
        """Return the network, with what has been put into ``coefs_`` and ``intercepts_``."""
        network: Network | None = self.__dict__.get("_network")
        if network is None:
            weights = [np.asarray(weight) for weight in self.coefs_]
            state = np.random.RandomState(0)  # of which nothing is kept
            network = self._network = self._new_network(
                len(weights[0]), weights[-1].shape[1], weights[0].dtype, state
            )
        for kind, name in (("weight", "coefs_"), ("bias", "intercepts_")):
            there = getattr(self, name)
            for k, param in enumerate(of_layers(network, kind)):
                if there[k] is not param:
                    value = np.asarray(there[k])
                    if value.shape != param.shape:
                        raise ValueError(
                            f"{name}[{k}] must be of shape {param.shape}; got {value.shape}"
                        )
                    param[...] = value
                    there[k] = param
                    self._trained = None
        return network

    @property
    def network_(self) -> Network:
        """The network, with the weights as they are now."""
        check_is_fitted(self)
        return self._model()

    def _go_on_from(self, network: Network) -> None:
        """Have the network where training was, if the result was averages of that."""
        if self._trained is not None and network is self.__dict__.get("_network"):
            for param, value in zip(network.parameters, self._trained, strict=True):
                param[...] = value

    # ---- attributes ------------------------------------------------------------------------------

    def _publish(self, training: Training) -> None:
        """Set the attributes that any fit has."""
        network = self._network = training.network
        self.coefs_, self.intercepts_ = of_layers(network, "weight"), of_layers(network, "bias")
        self.n_layers_ = len(network.layers) + 1
        self.n_outputs_ = network.n_outputs
        self.out_activation_ = _OF_LINKS[network._link]
        self.t_, self.n_iter_ = training.record.t, training.record.n_iter
        self._trained = None

    def _publish_curves(self, record: Record) -> None:
        """Set the attributes that a fit in batches has."""
        self.loss_curve_, self.best_loss_ = record.curve, record.best_loss
        self._no_improvement_count = record.no_improvement
        if record.curve:
            self.loss_ = record.curve[-1]
        if record.scores is not None or not hasattr(self, "validation_scores_"):
            self.validation_scores_ = record.scores
            self.best_validation_score_ = record.best_score

    def _take_averages(self, record: Record) -> None:
        """Make averages of the parameters the result, if there are any."""
        pairs = self._optimizer.averages()
        if pairs and record.best is None:  # what was best is averages
            self._trained = [param.copy() for param in self._network.parameters]
            for param, average in pairs:
                param[...] = average

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: parameters once, in the network."""
        if not hasattr(self, "coefs_"):
            return dict(super().__getstate__())
        self._model()
        state = dict(super().__getstate__())
        del state["coefs_"], state["intercepts_"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the estimator whole again."""
        super().__setstate__(state)
        network = self.__dict__.get("_network")
        if network is not None:
            self.coefs_, self.intercepts_ = of_layers(network, "weight"), of_layers(network, "bias")
            if "_optimizer" in self.__dict__:
                self._optimizer.attach(network)

    # ---- predictions -----------------------------------------------------------------------------

    def _for_network(self, X: Any, dtype: Any) -> Any:
        """Return rows as a network of this dtype takes them."""
        if issparse(X):
            return X.astype(dtype, copy=False)
        return np.ascontiguousarray(X, dtype=dtype)

    def _predicted(self, X: ArrayLike, *, raw: bool) -> Array:
        """Predict for rows, before the link or after it: of shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        network = self._model()
        rows = self._for_network(validated_rows(self, X), network.dtype)
        prediction: Array = network.predict_raw(rows) if raw else network.predict(rows)
        return prediction


@contextmanager
def _undone_on_error(network: Network, steps: Steps) -> Iterator[None]:
    """Take back what was trained if training fails."""
    before = network.state_dict(), steps.optimizer.state_dict(), steps.learning_rate
    try:
        yield
    except BaseException:
        network.load_state_dict(before[0])
        steps.optimizer.load_state_dict(before[1])
        steps.learning_rate = before[2]
        raise
