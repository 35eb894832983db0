"""The training loop of linear models: epochs over problems, and when to stop.

What C does not know: how many rows to hand over at a time, which problems still train, and what
to say when training fails. No scikit-learn here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._groups import Groups
from ._paging import Windows
from .schedules import Schedule
from .schedules._plateau import Adaptive

__all__ = [
    "Problem",
    "Result",
    "Run",
    "Stopping",
    "block_rows",
    "call_rows",
    "hopeless",
    "interactions_of",
    "row_width",
    "train",
]

Array = NDArray[Any]

# What one call into C works through at most, elements of X and updates: some ten milliseconds, so
# that Ctrl-C is answered, and a call's own tenth of a millisecond does not count.
_ELEMENTS_PER_CALL = 2**24
_UPDATES_PER_CALL = 2**16
# Values of rows with their interactions that are made at a time, at least and at most; in between
# as many as there are weights, all of which are touched at the end of a call.
_MADE_AT_LEAST, _MADE_AT_MOST = 2**17, 2**21
# Neighbouring rows of a block of shuffle="block": at least 16, and at least a page of memory.
_BLOCK_ROWS, _BLOCK_BYTES = 16, 4096
# Updates whose learning rates are worked out at once at least.
_RATES_AHEAD = 2**12
# More than this times the loss of predicting zero is no model.
_HOPELESS = 10.0


def block_rows(n_rows: int, n_features: int, itemsize: int, shuffle: bool | str) -> int:
    """Rows of a block of the epoch's order: 1 shuffles exactly, `n_rows` not at all."""
    if shuffle == "block":
        return min(n_rows, max(_BLOCK_ROWS, _BLOCK_BYTES // (n_features * itemsize)))
    return 1 if shuffle else n_rows


def call_rows(width: int, batch_size: int) -> int:
    """Rows that one call into C works through at most: whole batches of rows of that width."""
    updates = max(1, _ELEMENTS_PER_CALL // (width * batch_size))
    return min(updates, _UPDATES_PER_CALL) * batch_size


def interactions_of(
    X: _core.CSR, pairs: NDArray[np.int64], batch_size: int = 1
) -> _core.Interactions:
    """Find room to make rows of X with their interactions in; it does not grow with X."""
    room = min(max(X.shape[1], _MADE_AT_LEAST), _MADE_AT_MOST)
    n_rows = min(X.shape[0], max(room // row_width(X), batch_size))
    return _core.Interactions(X, pairs, n_rows, room, batch_size)


def row_width(X: Any) -> int:
    """Numbers of a row of an array or CSR matrix, on average."""
    width = X.shape[1] if isinstance(X, np.ndarray) else X.data.size // X.shape[0]
    return max(1, int(width))


@dataclass(slots=True)
class Sums:
    """What the rows of an epoch have come to so far."""

    n_rows: int = 0
    loss: float = 0.0
    penalty: float = 0.0  # before each row's update, where it is looked at


@dataclass
class Problem:
    """One linear model in training: a regression, or one class against the rest."""

    label: str
    y: Array
    sample_weight: Array | None
    n_classes: int  # of a softmax, which the run's loss is not looked at for; else 1
    params: Array  # weights, then the intercept; of a softmax those of each class, then all these
    average: Array | None  # of the parameters over the updates; None if it is not wanted
    states: tuple[Array | None, ...]
    kept: NDArray[np.float64]  # numbers that the rule carries from update to update
    l1_state: NDArray[np.float64] | None  # what each weight has got of the L1 penalty, and the sum
    order: NDArray[np.int64]
    segments: NDArray[np.int64] | None  # of a matrix that maps a file
    seed: int
    schedule: Schedule  # of the number of the update, from 0 on
    score: Callable[[Array], float] | None  # of parameters, on rows that are not trained on
    peer_score: Callable[[Array], float] | None  # scikit-learn's, of weights that are not shrunk
    grad_norm: Callable[[Array], float] | None  # of parameters, over all rows trained on
    t: int  # updates done
    at_zero: float  # mean loss of predicting zero; the largest of all data so far
    curve: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # mean of each epoch, without the penalty
    grad_norms: list[float] = field(default_factory=list)
    objective: float = 0.0  # of the last epoch; to stop by
    merit: float = 0.0  # score of the last epoch; to stop by
    shrunk: float = 1.0  # the factor that the L2 penalty has put before the weights so far
    best: float = np.inf
    no_improvement: int = 0
    done: bool = False
    best_score: float = -np.inf
    best_params: tuple[Array, Array | None] | None = None
    sums: Sums = field(default_factory=Sums)
    first_t: int = field(init=False)  # updates done before this fit
    rates_from: int = 0  # rates that have been worked out ahead, from this update on
    rates_ahead: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        self.first_t = self.t

    def take(self, y: Array, sample_weight: Array | None, order: NDArray[np.int64]) -> None:
        """Go on with other rows, as a call of partial_fit would."""
        self.y, self.sample_weight, self.order = y, sample_weight, order
        self.kept[_core.N_KEPT_BY_RULE :] = 0
        if self.l1_state is not None:
            self.l1_state[:] = 0

    def rates(self, n_updates: int) -> NDArray[np.float64]:
        """Learning rates of the next updates; small data have those of many epochs at once."""
        first = self.t - self.rates_from
        if first + n_updates > self.rates_ahead.size:
            first, self.rates_from = 0, self.t
            steps = np.arange(self.t, self.t + max(n_updates, _RATES_AHEAD))
            self.rates_ahead = self.schedule(steps)
        return self.rates_ahead[first : first + n_updates]

    def lower_rate(self) -> bool:
        """Lower the learning rate instead of stopping, if that is its way."""
        self.rates_ahead = np.empty(0)
        return isinstance(self.schedule, Adaptive) and self.schedule.lower()


@dataclass(slots=True)
class _Visit:
    """What the calls of one epoch share."""

    order: NDArray[np.int64]
    block: int  # rows of a block of the order
    memory: Array
    penalties: NDArray[np.float64] | None  # sum of the penalties before each row's update
    interactions: _core.Interactions | None


@dataclass
class _Part:
    """What one call into C trains on: the rows at positions [start, stop) of an order."""

    X: Array | _core.CSR
    y: Array
    sample_weight: Array | None
    order: NDArray[np.int64]
    block: int
    start: int
    stop: int
    before: int = 0  # positions of the epoch's order that come before this one


@dataclass
class Run:
    """What all problems of one fit share."""

    X: Array | _core.CSR
    windows: Windows | None  # if X maps a file
    pairs: NDArray[np.int64] | None  # ranges of columns whose products are features, too
    block: int
    batch_size: int
    loss: str
    loss_parameter: float
    alpha: float  # strength of the L2 penalty
    l1: float  # and of the L1 penalty
    group: float  # and of that on
    groups: Groups | None  # of features
    positive: bool  # whether weights stay at zero or above
    fit_intercept: bool
    shuffle: bool
    rule: str
    hypers: list[float]
    average_from: int  # number of the update, from 1 on, with which averaging begins; 0: never
    aggressive: int  # 1, 2: passive-aggressive I and II
    one_class: float  # nu of a one-class SVM, else 0
    intercept_decay: float
    left_out: NDArray[np.bool_] | None  # rows that are not trained on
    by_rows: bool  # whether it is plain sgd, one row an update, as scikit-learn does it
    judged: bool  # whether training may stop by the objective
    n_threads: int  # of each problem
    n_parallel: int  # problems at a time
    stop: Event = field(default_factory=Event)
    _unused: list[Array] = field(default_factory=list)  # working memory, of the problems in turn

    @cached_property
    def n_rows(self) -> int:
        """Rows that are trained on."""
        left_out = 0 if self.left_out is None else int(np.count_nonzero(self.left_out))
        return int(self.X.shape[0]) - left_out

    def first_order(self) -> NDArray[np.int64]:
        """Order of the blocks of rows, before any shuffling."""
        return np.arange(-(-self.X.shape[0] // self.block), dtype=np.int64)

    def visit(self, problem: Problem) -> None:
        """Train one problem on each row once, and add up what the epoch comes to."""
        order, block = self._order(problem)
        penalties = np.zeros(1) if self._objective_by_rows(problem) else None
        visit = _Visit(order, block, self._memory(problem), penalties, self._interactions())
        windows = self.windows.read_ahead(order) if self.windows else [(0, self.n_rows)]
        for first, last in windows:
            for part in self._parts(problem, visit, first, last):
                if self.stop.is_set():
                    return
                problem.sums.loss += self._stretch(problem, visit, part)
        if not _core.all_finite(problem.params):
            raise self._diverged(problem, problem.t - 1)
        self._unused.append(visit.memory)
        problem.sums.n_rows += self.n_rows
        if penalties is not None:
            problem.sums.penalty += float(penalties[0])

    def _memory(self, problem: Problem) -> Array:
        """Working memory, that of a problem trained before if there is one."""
        try:
            return self._unused.pop()
        except IndexError:
            return _core.scratch(self.X, self.batch_size, problem.n_classes)

    def conclude(self, problem: Problem) -> None:
        """Append what the epoch came to to the curves of one problem."""
        sums = problem.sums
        loss = sums.loss / sums.n_rows
        problem.losses.append(loss)
        problem.curve.append(loss + self._penalty(problem))
        if self._objective_by_rows(problem):
            problem.objective = (sums.loss + sums.penalty) / sums.n_rows
        else:  # what is passive-aggressive looks at the loss alone
            problem.objective = loss if self.aggressive else problem.curve[-1]
        if problem.score is not None:
            self._score(problem)
        if problem.grad_norm is not None:
            problem.grad_norms.append(problem.grad_norm(self._model(problem)))

    def _model(self, problem: Problem) -> Array:
        """Parameters that would be the result by now: their average, if averaging has begun."""
        if problem.average is None or problem.t < self.average_from:
            return problem.params
        return problem.average

    def _objective_by_rows(self, problem: Problem) -> bool:
        """Whether to stop by scikit-learn's objective, and it is another than that of the curve.

        It counts the penalty before each row's update, and all rows alike.
        """
        penalised = self.alpha > 0 or self.l1 > 0 or self.one_class > 0
        other = problem.sample_weight is not None or (penalised and not self.aggressive)
        return self.judged and self.by_rows and other

    def _shrink(self, shrunk: float, lr: Array) -> float:
        """Follow the factor before scikit-learn's weights, which becomes 1 again if it is tiny."""
        dtype = self.X.dtype.type
        factors = np.maximum(0, 1 - lr * self.alpha).astype(dtype)
        tiny = 1e-6 if dtype is np.float32 else 1e-9
        product = np.multiply.accumulate(np.append(dtype(shrunk), factors))
        if product.min() >= tiny:
            return float(product[-1])
        last = dtype(shrunk)
        for factor in factors:
            last *= factor
            last = dtype(1) if last < tiny else last
        return float(last)

    def _score(self, problem: Problem) -> None:
        """Score the parameters on the rows held out."""
        assert problem.score is not None
        score = problem.merit = problem.score(problem.params)
        problem.scores.append(score)
        if problem.peer_score is not None:
            unshrunk = problem.params.copy()
            unshrunk[:-1] /= problem.shrunk
            problem.merit = problem.peer_score(unshrunk)

    def _order(self, problem: Problem) -> tuple[NDArray[np.int64], int]:
        """Order of the epoch, and the rows of a block of it."""
        if self.windows is not None and problem.segments is not None and self.shuffle:
            self.windows.shuffle(problem.order, problem.segments, problem.seed)
        elif self.shuffle:
            _core.shuffle(problem.order, problem.seed)
        if self.left_out is None:
            return problem.order, self.block
        rows = (problem.order[:, None] * self.block + np.arange(self.block)).reshape(-1)
        if self.block > 1:
            rows = rows[rows < self.left_out.size]
        return rows[~self.left_out[rows]], 1

    @cached_property
    def _rows_per_call(self) -> int:
        return call_rows(row_width(self.X), self.batch_size)

    def _interactions(self) -> _core.Interactions | None:
        """Memory for rows with their interactions, if there are any."""
        if self.pairs is None:
            return None
        assert isinstance(self.X, _core.CSR)
        return interactions_of(self.X, self.pairs, self.batch_size)

    def _parts(self, problem: Problem, visit: _Visit, first: int, last: int) -> Iterator[_Part]:
        """Cut the rows at positions [first, last) of the epoch's order into calls."""
        y, weight, order, block = problem.y, problem.sample_weight, visit.order, visit.block
        if visit.interactions is None:
            for start in range(first, last, self._rows_per_call):
                stop = min(last, start + self._rows_per_call)
                yield _Part(self.X, y, weight, order, block, start, stop)
            return
        as_they_are = np.zeros(1, dtype=np.int64)
        while first < last:
            made, rows = visit.interactions.take(order, block, first, last, self.n_threads)
            made_weight = None if weight is None else weight[rows]
            n = rows.size
            yield _Part(made, y[rows], made_weight, as_they_are, n, 0, n, before=first)
            first += n

    def updates(self, n_rows: int) -> int:
        """Count the updates that so many rows make."""
        return -(-n_rows // self.batch_size)

    def _stretch(self, problem: Problem, visit: _Visit, part: _Part) -> float:
        """Train on some rows."""
        n_updates = self.updates(part.stop - part.start)
        lr = problem.rates(n_updates)
        try:
            loss_sum = _core.train_linear(
                problem.params,
                problem.states,
                part.X,
                part.y,
                part.sample_weight,
                part.order,
                part.block,
                visit.memory,
                loss=_core.LOSSES[self.loss]["number"],
                loss_parameter=self.loss_parameter,
                alpha=self.alpha,
                l1=self.l1,
                l1_state=problem.l1_state,
                fit_intercept=self.fit_intercept,
                rule=_core.RULES[self.rule]["number"],
                hypers=self.hypers,
                lr=lr,
                kept=problem.kept,
                t=problem.t,
                batch_size=self.batch_size,
                start=part.start,
                stop=part.stop,
                average=problem.average,
                average_from=self.average_from,
                aggressive=self.aggressive,
                one_class=self.one_class,
                intercept_decay=self.intercept_decay,
                penalties=visit.penalties,
                positive=self.positive,
                group=self.group,
                groups=(self.groups.members, self.groups.offsets) if self.groups else None,
                n_threads=self.n_threads,
                n_classes=problem.n_classes,
            )
        except _core.DivergenceError as error:
            step = problem.t + (error.position - part.start) // self.batch_size
            raise self._diverged(problem, step, part.before + error.position) from None
        problem.t += n_updates
        if problem.peer_score is not None:
            problem.shrunk = self._shrink(problem.shrunk, lr)
        return loss_sum

    def _penalty(self, problem: Problem) -> float:
        """Return what the objective has beside the loss."""
        penalty = self.one_class * float(problem.params[-1])
        weights = problem.params[: -problem.n_classes].astype(np.float64, copy=False)
        if self.alpha:  # not 0 times the square of large weights, which may be infinite
            penalty += 0.5 * self.alpha * _core.dot(weights, weights)
        if self.l1:
            with np.errstate(over="ignore"):
                penalty += self.l1 * float(np.abs(weights).sum())
        if self.group and self.groups is not None:
            by_output = weights.reshape(problem.n_classes, -1)
            with np.errstate(over="ignore"):
                penalty += self.group * self.groups.penalty(by_output)
        return penalty

    def loss_at_zero(self, problem: Problem, step: int) -> float:
        """Mean loss of predicting zero, over every `step`-th row."""
        y = np.ascontiguousarray(problem.y[::step])
        if problem.n_classes > 1:
            losses = np.full_like(y, np.log(problem.n_classes))
        else:
            losses, _ = _core.evaluate_loss(self.loss, y, np.zeros_like(y), self.loss_parameter)
        if problem.sample_weight is not None:
            losses = losses * problem.sample_weight[::step]
        return float(losses.mean(dtype=np.float64))

    def _diverged(self, problem: Problem, step: int, position: int = -1) -> _core.DivergenceError:
        lr = float(problem.schedule(np.array([step]))[0])
        epoch = len(problem.curve) + 1
        error = _core.DivergenceError(
            f"{problem.label} diverged at step {step + 1} (epoch {epoch}): a prediction, loss or "
            f"weight is no longer finite. The learning rate, {lr:.3g} at that step, is too high "
            'for this data: lower eta0 (or raise alpha, with learning_rate="optimal"). '
            f"Floating-point under-/overflow occurred at epoch #{epoch}. Scaling input data with "
            "StandardScaler or MinMaxScaler might help."
        )
        error.position = position
        return error


@dataclass
class Stopping:
    """When a problem is done, and which of its parameters are the result."""

    max_iter: int  # epochs at most
    tol: float | None  # progress that is expected of each epoch; None expects none
    n_iter_no_change: int  # epochs without it that are put up with
    by_score: bool = False  # progress of the score on rows held out, else of the objective
    restore_best: bool = False  # the parameters of the best score, else those of the last epoch

    def judge(self, problem: Problem) -> None:
        """Stop a problem that no longer makes progress, as scikit-learn does."""
        if self.restore_best:
            self._remember(problem)
        if self.tol is None:
            return
        objective = -problem.merit if self.by_score else problem.objective
        stalls = objective > problem.best - self.tol
        problem.no_improvement = problem.no_improvement + 1 if stalls else 0
        problem.best = min(problem.best, objective)
        if problem.no_improvement < self.n_iter_no_change:
            return
        if problem.lower_rate():
            problem.no_improvement = 0
        else:
            problem.done = True

    def _remember(self, problem: Problem) -> None:
        """Note the parameters if their score is the best so far."""
        if problem.scores[-1] > problem.best_score or problem.best_params is None:
            average = None if problem.average is None else problem.average.copy()
            problem.best_params = problem.params.copy(), average
            problem.best_score = problem.scores[-1]


@dataclass
class Result:
    """What training came to."""

    problems: list[Problem]
    n_iter: int = 0
    interrupted: bool = False
    t: int = 0  # updates done; those of rows held out count, as in scikit-learn
    n_rows: int = 0  # of an epoch, if there was a whole one

    @property
    def first_loss(self) -> float | None:
        """Mean loss of all rows before they were trained on; None if there was no whole epoch."""
        if not self.n_rows:
            return None
        return float(np.mean([p.losses[0] for p in self.problems]))

    @property
    def curve(self) -> list[float]:
        """Objective of each epoch, the mean over the problems; a finished one keeps its last."""
        return _mean_curve([p.curve for p in self.problems])

    @property
    def scores(self) -> list[float]:
        """Score of each epoch on rows held out, likewise; empty without such rows."""
        return _mean_curve([p.scores for p in self.problems])

    @property
    def grad_norms(self) -> list[float]:
        """Norm of the gradient after each epoch, likewise; empty if it is not wanted."""
        return _mean_curve([p.grad_norms for p in self.problems])

    @property
    def converged(self) -> bool:
        """Whether every problem is done."""
        return all(p.done for p in self.problems)


def _mean_curve(curves: list[list[float]]) -> list[float]:
    if len(curves) == 1:
        return curves[0]
    length = max(map(len, curves))
    if not length:
        return []
    whole = [curve + curve[-1:] * (length - len(curve)) for curve in curves if curve]
    means: list[float] = np.ascontiguousarray(np.transpose(whole)).mean(axis=1).tolist()
    return means


Watcher = Callable[[Result], bool | None]  # looks at each epoch; true: that was the last one
Parts = Callable[[], Iterable[Run]]  # what an epoch is made of, one after the other


def train(
    run: Run,
    problems: list[Problem],
    stopping: Stopping,
    watchers: Sequence[Watcher] = (),
    parts: Parts | None = None,
) -> Result:
    """Train every problem until it converges; epochs outside, problems inside.

    Parameters
    ----------
    run : Run
        What the problems share.
    problems : list of Problem
        Trained in place.
    stopping : Stopping
        When to stop.
    watchers : sequence of function
        Each is called with the result after each epoch, and ends training by returning true.
    parts : function, optional
        Goes through an epoch whose rows are not all there at once: gives the problems the next of
        them, and yields a run over these. Otherwise an epoch is `run`.

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
    with ExitStack() as stack:
        several = run.n_parallel > 1
        pool = stack.enter_context(ThreadPoolExecutor(run.n_parallel)) if several else None
        try:
            _epochs(parts or (lambda: [run]), result, stopping, watchers, pool)
        except KeyboardInterrupt:
            if not all(_core.all_finite(p.params) for p in problems):
                raise
            result.interrupted = True
    for problem in problems:
        if problem.best_params is not None:
            problem.params, problem.average = problem.best_params
    held_out = run.updates(run.X.shape[0]) - run.updates(run.n_rows)
    result.t = max(p.t for p in problems) + result.n_iter * held_out
    return result


def _epochs(
    parts: Parts,
    result: Result,
    stopping: Stopping,
    watchers: Sequence[Watcher],
    pool: ThreadPoolExecutor | None,
) -> None:
    """Train until all problems are done, epochs are used up, or a watcher ends it."""
    training = result.problems
    while training and result.n_iter < stopping.max_iter:
        _epoch(parts(), training, pool)
        result.n_iter += 1
        result.n_rows = training[0].sums.n_rows
        for problem in training:
            stopping.judge(problem)
        if sum(bool(watcher(result)) for watcher in watchers):  # every one has a look
            for problem in training:
                problem.done = True
        training = [p for p in training if not p.done]


def _epoch(parts: Iterable[Run], problems: list[Problem], pool: ThreadPoolExecutor | None) -> None:
    """Train each problem for an epoch."""
    for problem in problems:
        problem.sums = Sums()
    for run in parts:
        _each(run.visit, problems, pool, run.stop)
    _each(run.conclude, problems, pool, run.stop)


def _each(
    work: Callable[[Problem], None],
    problems: list[Problem],
    pool: ThreadPoolExecutor | None,
    stop: Event,
) -> None:
    """Do what is to be done to each problem, for several at a time if there is a pool."""
    if pool is None:
        for problem in problems:
            work(problem)
        return
    done = [pool.submit(work, problem) for problem in problems]
    try:
        for one in done:
            one.result()
    except BaseException:
        stop.set()
        wait(done)
        raise


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
