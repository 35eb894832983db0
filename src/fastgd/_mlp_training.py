"""The epochs of a multilayer perceptron: the order of rows, what is noted of them, when to stop."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._mlp_optimizer import Steps
from ._watching import bar, listed
from .nn import Network

__all__ = ["Order", "Progress", "Record", "Rows", "Training", "Watcher", "watchers"]

Array = NDArray[Any]

NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed"
)


# ---- what is trained on --------------------------------------------------------------------------


@dataclass
class Rows:
    """Data as a network takes them."""

    X: Any  # array or CSR matrix, of the network's dtype
    y: Array  # class numbers, or (n, n_outputs)
    sample_weight: Array | None
    constants: Array | None = None  # what scikit-learn adds to the loss of each row
    share: float = 1.0  # part of the sum over the outputs that scikit-learn counts as loss

    def constant(self, order: Array | None, batch_size: int) -> float:
        """Mean of the constants over the rows visited, weighted within each batch."""
        if self.constants is None:
            return 0.0
        rows = slice(None) if order is None else order
        constants = self.constants[rows]
        given = self.sample_weight
        weights = np.ones(len(constants)) if given is None else given[rows]
        starts = np.arange(0, len(constants), batch_size)
        sizes = np.diff(np.append(starts, len(constants)))
        sums = np.add.reduceat(constants * weights, starts)
        return float((sums / np.add.reduceat(weights, starts) @ sizes) / len(constants))


class Order:
    """The rows of each epoch, drawn as scikit-learn draws them.

    Parameters
    ----------
    rows : ndarray of int64
        Numbers of the rows to train on.
    state : RandomState
        What shuffles them; None leaves them in order.
    """

    def __init__(self, rows: NDArray[np.int64], state: np.random.RandomState | None) -> None:
        self.rows = rows
        self._state = state

    def __call__(self) -> NDArray[np.int64]:
        """Return the order of the next epoch."""
        if self._state is not None:
            permutation = np.arange(len(self.rows))
            self._state.shuffle(permutation)
            self.rows = self.rows[permutation]
        return self.rows


# ---- what comes of it ----------------------------------------------------------------------------


@dataclass
class Record:
    """What is noted of training, and carried on by `warm_start` and `partial_fit`."""

    t: int = 0  # rows visited
    curve: list[float] = field(default_factory=list)
    scores: list[float] | None = None  # on rows held out
    best_loss: float | None = np.inf
    best_score: float | None = None
    no_improvement: int = 0
    n_iter: int = 0
    message: str = ""  # why training has ended, or the learning rate been lowered
    converged: bool = False
    interrupted: bool = False
    diverged: bool = False
    best: dict[str, Any] | None = None  # the network's state of the best score


@dataclass(frozen=True)
class Progress:
    """What a callback is given after each epoch, or iteration of L-BFGS.

    Attributes
    ----------
    epoch : int
        Epochs done in this fit, from 1 on.
    objective : float
        Training objective of the epoch, as in ``loss_curve_``.
    validation_score : float or None
        Score on the rows held out, if there are any, as in ``validation_scores_``.
    coefs, intercepts : list of ndarray
        Copies of the weights and biases of each layer.
    """

    epoch: int
    objective: float
    validation_score: float | None
    coefs: list[Array]
    intercepts: list[Array]


def of_layers(network: Network, kind: str) -> list[Array]:
    """Return the parameters of one kind of each layer: "weight" or "bias"."""
    pairs = zip(network.names, network.parameters, strict=True)
    return [param for name, param in pairs if name.endswith("." + kind)]


Watcher = Callable[[Record, Network], bool | None]  # after each epoch; true: that was the last


def _calling(callback: Callable[[Progress], bool | None]) -> Watcher:
    def call(record: Record, network: Network) -> bool:
        progress = Progress(
            epoch=record.n_iter,
            objective=record.curve[-1],
            validation_score=record.scores[-1] if record.scores else None,
            coefs=[weight.copy() for weight in of_layers(network, "weight")],
            intercepts=[bias.copy() for bias in of_layers(network, "bias")],
        )
        return bool(callback(progress))

    return call


def _print(record: Record, network: Network) -> None:
    """Print an epoch in scikit-learn's words."""
    print(f"Iteration {record.n_iter}, loss = {record.curve[-1]:.8f}")
    if record.scores:
        print(f"Validation score: {record.scores[-1]:f}")
    if record.message:
        print(record.message)


@contextmanager
def watchers(verbose: Any, callbacks: Any, max_iter: int) -> Iterator[list[Watcher]]:
    """Make what `verbose` and `callbacks` ask for: functions that are called after each epoch."""
    called = [_calling(callback) for callback in listed(callbacks)]
    if verbose == "bar":
        with bar(max_iter) as show:
            yield [lambda record, network: show(record.curve[-1]), *called]
    else:
        yield [_print, *called] if verbose else called


# ---- epochs --------------------------------------------------------------------------------------


@dataclass
class Training:
    """One call of `fit` or `partial_fit`: what it trains, on what, and until when."""

    network: Network
    rows: Rows
    visited: NDArray[np.int64]  # numbers of those that are trained on
    alpha: float
    score: Callable[[Network], float] | None  # on rows held out
    record: Record
    max_iter: int
    tol: float
    n_iter_no_change: float
    by_score: bool  # whether to stop by the score
    restore_best: bool  # whether to end with the parameters of the best score
    watching: Sequence[Watcher] = ()

    def in_batches(self, steps: Steps, order: Order, batch_size: int) -> None:
        """Train until no progress is made; Ctrl-C ends it like the last epoch."""
        if self.restore_best:  # where no score is a number, that is where it began
            self.record.best = self.network.state_dict()
        try:
            while self.record.n_iter < self.max_iter and not self.record.converged:
                if not self._visit(steps, order(), batch_size):
                    break
                with steps.averaged() if self.score or self.watching else nullcontext():
                    self._conclude(steps)
        except KeyboardInterrupt:
            self.record.interrupted = True
        self.restore()

    def _visit(self, steps: Steps, visited: NDArray[np.int64], batch_size: int) -> bool:
        """Train for an epoch; return whether all numbers are finite."""
        record, rows = self.record, self.rows
        try:
            sums = self.network.train_epoch(
                steps.optimizer,
                rows.X,
                rows.y,
                visited,
                batch_size=batch_size,
                sample_weight=rows.sample_weight,
                alpha=self.alpha,
            )
        except FloatingPointError as error:
            if not self.by_score:
                what, _, _ = str(error).partition(". ")  # what to do about it is for optimizers
                raise _core.DivergenceError(f"{NOT_FINITE}: {what}.") from error
            self._note_divergence()
            return False
        constant = rows.constant(visited, batch_size)
        record.n_iter += 1
        record.t += len(visited)
        record.curve.append(rows.share * sums.data + sums.penalty + constant)
        return True

    def _note_divergence(self) -> None:
        """Keep the best parameters so far as the result of a training that left the numbers."""
        record = self.record
        record.n_iter += 1
        record.curve.append(np.nan)
        assert record.scores is not None
        record.scores.append(np.nan)
        record.diverged = True

    def _conclude(self, steps: Steps) -> None:
        """Say how good an epoch was, and whether it was the last one."""
        record = self.record
        record.message = ""
        self._judge()
        steps.epoch_ends(record.t)
        if record.no_improvement > self.n_iter_no_change:
            self._end(steps)
        if sum(bool(watcher(record, self.network)) for watcher in self.watching):
            record.converged = True

    def _judge(self) -> None:
        """Score the network; count epochs without progress as scikit-learn does."""
        record = self.record
        self.take_score()
        if not self.by_score:
            best = np.inf if record.best_loss is None else record.best_loss
            stalls = record.curve[-1] > best - self.tol
            record.no_improvement = record.no_improvement + 1 if stalls else 0
            record.best_loss = min(best, record.curve[-1])

    def take_score(self) -> None:
        """Score the network on the rows held out, if there are any; remember the best one."""
        if self.score is None:
            return
        record, score = self.record, self.score(self.network)
        assert record.scores is not None
        assert record.best_score is not None
        record.scores.append(score)
        if self.by_score:
            stalls = score < record.best_score + self.tol
            record.no_improvement = record.no_improvement + 1 if stalls else 0
        if score > record.best_score:
            record.best_score = score
            if self.restore_best:
                record.best = self.network.state_dict()

    def _end(self, steps: Steps) -> None:
        """Stop, or go on with a lower learning rate."""
        record = self.record
        what = "Validation score" if self.by_score else "Training loss"
        message = (
            f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} "
            "consecutive epochs."
        )
        if steps.lower():
            record.no_improvement = 0
            record.message = f"{message} Setting learning rate to {steps.learning_rate:f}"
        else:
            record.converged = True
            record.message = f"{message} Stopping."

    def restore(self) -> None:
        """End with the parameters of the best score, if that is wanted."""
        if self.record.best is not None:
            self.network.load_state_dict(self.record.best)
