"""The training loop of linear models: epochs over problems, and when to stop.

What C does not know: how many rows to hand over at a time, which problems still train, and what
to say when training fails. No scikit-learn here.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._paging import Windows
from .schedules import Schedule

__all__ = ["Problem", "Result", "Run", "block_rows", "call_rows", "hopeless", "train"]

Array = NDArray[Any]

# What one call into C works through at most, elements of X and updates: some ten milliseconds, so
# that Ctrl-C is answered, and a call's own tenth of a millisecond does not count.
_ELEMENTS_PER_CALL = 2**24
_UPDATES_PER_CALL = 2**16
# Neighbouring rows of a block of shuffle="block": at least 16, and at least a page of memory.
_BLOCK_ROWS, _BLOCK_BYTES = 16, 4096
# More than this times the loss of predicting zero is no model.
_HOPELESS = 10.0


def block_rows(n_rows: int, n_features: int, itemsize: int, shuffle: bool | str) -> int:
    """Rows of a block of the epoch's order: 1 shuffles exactly, `n_rows` not at all."""
    if shuffle == "block":
        return min(n_rows, max(_BLOCK_ROWS, _BLOCK_BYTES // (n_features * itemsize)))
    return 1 if shuffle else n_rows


def call_rows(n_features: int, batch_size: int) -> int:
    """Rows that one call into C works through at most: whole batches."""
    updates = max(1, _ELEMENTS_PER_CALL // (n_features * batch_size))
    return min(updates, _UPDATES_PER_CALL) * batch_size


@dataclass
class Problem:
    """One linear model in training: a regression, or one class against the rest."""

    label: str
    y: Array
    sample_weight: Array | None
    params: Array  # (n_features + 1,): weights, then the intercept
    states: tuple[Array | None, ...]
    kept: NDArray[np.float64]  # numbers that the rule carries from update to update
    order: NDArray[np.int64]
    segments: NDArray[np.int64] | None  # of a matrix that maps a file
    seed: int
    t: int  # updates done
    at_zero: float  # mean loss of predicting zero; the largest of all data so far
    curve: list[float] = field(default_factory=list)
    best: float = np.inf
    no_improvement: int = 0
    done: bool = False


@dataclass
class Run:
    """What all problems of one fit share."""

    X: Array
    windows: Windows | None  # if X maps a file
    block: int
    batch_size: int
    loss: str
    loss_parameter: float
    alpha: float
    fit_intercept: bool
    shuffle: bool
    rule: str
    hypers: list[float]
    schedule: Schedule  # of the number of the update, from 0 on
    n_threads: int  # of each problem
    n_parallel: int  # problems at a time
    stop: Event = field(default_factory=Event)

    def epoch(self, problem: Problem) -> None:
        """Train one problem for one epoch; append its objective to its curve."""
        n_rows, n_features = self.X.shape
        if self.shuffle:
            self._reorder(problem)
        memory = _core.scratch(self.X, self.batch_size)
        rows_per_call = call_rows(n_features, self.batch_size)
        loss_sum = 0.0
        windows = self.windows.read_ahead(problem.order) if self.windows else [(0, n_rows)]
        for first, last in windows:
            for start in range(first, last, rows_per_call):
                if self.stop.is_set():
                    return
                stop = min(last, start + rows_per_call)
                n_updates = -(-(stop - start) // self.batch_size)
                steps = np.arange(problem.t, problem.t + n_updates)
                loss_sum += self._stretch(problem, memory, self.schedule(steps), start, stop)
                problem.t += n_updates
        if not _core.all_finite(problem.params):
            raise self._diverged(problem, problem.t - 1)
        objective = loss_sum / n_rows
        if self.alpha:  # not 0 times the square of large weights, which may be infinite
            weights = problem.params[:-1].astype(np.float64)
            objective += 0.5 * self.alpha * float(weights @ weights)
        problem.curve.append(objective)

    def _reorder(self, problem: Problem) -> None:
        """Shuffle the order of the rows."""
        if self.windows is not None and problem.segments is not None:
            self.windows.shuffle(problem.order, problem.segments, problem.seed)
        else:
            _core.shuffle(problem.order, problem.seed)

    def _stretch(self, problem: Problem, memory: Array, lr: Array, start: int, stop: int) -> float:
        """Train on the rows at positions [start, stop) of the epoch's order."""
        try:
            return _core.train_linear(
                problem.params,
                problem.states,
                self.X,
                problem.y,
                problem.sample_weight,
                problem.order,
                self.block,
                memory,
                loss=_core.LOSSES[self.loss]["number"],
                loss_parameter=self.loss_parameter,
                alpha=self.alpha,
                fit_intercept=self.fit_intercept,
                rule=_core.RULES[self.rule]["number"],
                hypers=self.hypers,
                lr=lr,
                kept=problem.kept,
                t=problem.t,
                batch_size=self.batch_size,
                start=start,
                stop=stop,
                n_threads=self.n_threads,
            )
        except _core.DivergenceError as error:
            step = problem.t + (error.position - start) // self.batch_size
            raise self._diverged(problem, step, error.position) from None

    def loss_at_zero(self, problem: Problem, step: int) -> float:
        """Mean loss of predicting zero, over every `step`-th row."""
        y = np.ascontiguousarray(problem.y[::step])
        losses, _ = _core.evaluate_loss(self.loss, y, np.zeros_like(y), self.loss_parameter)
        if problem.sample_weight is not None:
            losses = losses * problem.sample_weight[::step]
        return float(losses.mean(dtype=np.float64))

    def _diverged(self, problem: Problem, step: int, position: int = -1) -> _core.DivergenceError:
        lr = float(self.schedule(np.array([step]))[0])
        error = _core.DivergenceError(
            f"{problem.label} diverged at step {step + 1} (epoch {len(problem.curve) + 1}): a "
            f"prediction, loss or weight is no longer finite. The learning rate, {lr:.3g} at that "
            "step, is too high for this data: lower eta0 (or raise alpha, with "
            'learning_rate="optimal"), or scale the features, as with StandardScaler.'
        )
        error.position = position
        return error


@dataclass
class Result:
    """What training came to."""

    problems: list[Problem]
    n_iter: int = 0
    interrupted: bool = False

    @property
    def curve(self) -> list[float]:
        """Objective of each epoch, the mean over the problems; a finished one keeps its last."""
        curves = [p.curve for p in self.problems]
        length = max(map(len, curves))
        return [
            float(np.mean([curve[min(i, len(curve) - 1)] for curve in curves if curve]))
            for i in range(length)
        ]

    @property
    def converged(self) -> bool:
        """Whether every problem is done."""
        return all(p.done for p in self.problems)


def train(
    run: Run,
    problems: list[Problem],
    *,
    max_iter: int,
    tol: float | None,
    n_iter_no_change: int,
    verbose: int = 0,
) -> Result:
    """Train every problem until it converges; epochs outside, problems inside.

    Parameters
    ----------
    run : Run
        What the problems share.
    problems : list of Problem
        Trained in place.
    max_iter : int
        Epochs at most.
    tol, n_iter_no_change : float or None, int
        A problem is done when its objective has not fallen by `tol` for so many epochs.
    verbose : int, default=0
        Above 0, print each epoch's objective.

    Returns
    -------
    Result
        Also after Ctrl-C, if what was reached by then is finite.

    Raises
    ------
    DivergenceError
        The problems are of no use then.
    """
    result = Result(problems)
    try:
        while result.n_iter < max_iter and not result.converged:
            _epoch(run, [p for p in problems if not p.done])
            result.n_iter += 1
            for problem in problems:
                _judge(problem, tol, n_iter_no_change)
            if verbose:
                print(f"epoch {result.n_iter}: objective {result.curve[-1]:.6g}")
    except KeyboardInterrupt:
        if not all(_core.all_finite(p.params) for p in problems):
            raise
        result.interrupted = True
    return result


def _epoch(run: Run, problems: list[Problem]) -> None:
    """Train each problem for an epoch, several at a time if asked."""
    if run.n_parallel == 1:
        for problem in problems:
            run.epoch(problem)
        return
    with ThreadPoolExecutor(run.n_parallel) as pool:
        try:
            list(pool.map(run.epoch, problems))
        except BaseException:
            run.stop.set()
            raise


def _judge(problem: Problem, tol: float | None, n_iter_no_change: int) -> None:
    """Stop a problem whose objective no longer falls by `tol`, as scikit-learn does."""
    if problem.done or tol is None or not problem.curve:
        return
    objective = problem.curve[-1]
    problem.no_improvement = problem.no_improvement + 1 if objective > problem.best - tol else 0
    problem.best = min(problem.best, objective)
    problem.done = problem.no_improvement >= n_iter_no_change


def hopeless(run: Run, problem: Problem) -> str:
    """Say so if training ended far above where it began, although all numbers are finite."""
    objective = problem.curve[-1] if problem.curve else 0.0
    for step in (max(1, len(problem.y) // 1000), 1):  # a look at some rows, then at all
        problem.at_zero = max(problem.at_zero, run.loss_at_zero(problem, step))
        worst = problem.at_zero + (_HOPELESS - 1) * abs(problem.at_zero)
        if objective <= worst or not problem.at_zero:  # zero is what a perceptron loves best
            return ""
    return (
        f"{problem.label} ended epoch {len(problem.curve)} with an objective of {objective:.3g}, "
        f"worse than predicting zero ({problem.at_zero:.3g}): the learning rate is too high for "
        "this data; lower eta0, or scale the features, as with StandardScaler."
    )
