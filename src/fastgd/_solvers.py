"""Linear models solved to convergence: what is minimised, and how. No scikit-learn here.

A model is minimised over the mean of its losses plus ``l2 / 2 ||coef||^2``. Each look at all rows,
`Objective.__call__`, reads X once. What makes few looks enough is a `Metric`: coordinates in which
the objective is nearly round. A dense model gets them from the Hessian of a sample of the rows (in
the end, of all of them, where they are few), and starts from the minimum of that sample, which is
found in the same way; so the looks at all rows are as many as it takes to correct a model that is
nearly right. (Sub-sampled Hessians: Byrd, Chin, Neveitt & Nocedal, "On the use of stochastic
Hessian information in optimization methods for machine learning", SIAM J. Optim. 21, 2011.)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._line_search import Point as Trial
from ._line_search import strong_wolfe

__all__ = [
    "Diagonal",
    "Floats",
    "Look",
    "Objective",
    "Report",
    "Result",
    "Stop",
    "length",
    "look_at",
    "minimize_diagonal",
    "minimize_sampled",
    "small",
]

Array = NDArray[Any]
Floats = NDArray[np.float64]

_HISTORY = 10  # pairs that L-BFGS remembers
_MAX_TRIALS = 25  # of a line search
# One call into C reads at most so many numbers, so that Ctrl-C is answered.
_ELEMENTS_PER_CALL = 2**28
# A sample has at most this many rows for each column, and so many bytes; and the products of its
# columns cost no more than a look or two at all rows, or some more while its rows are few.
_SAMPLE_ROWS, _SAMPLE_BYTES, _SAMPLE_WORK = 320, 2**25, 28
_SMALL_SAMPLE, _MORE_WORK = 16, 96
_FEW_ROWS = 4  # for each column: so many rows are no sample of more
_MAX_GRAM = 1024  # columns of which products are formed,
_MAX_SOFTMAX_WORK = 2e9  # and multiplications, for all pairs of classes
_SMALLEST_CURVATURE = 1e-4  # of the mean one
_SLOW = 0.3  # the gradient should at least have shrunk so much


# ---- what is minimised ---------------------------------------------------------------------------


class Look(NamedTuple):
    """What one look at all rows shows.

    Attributes
    ----------
    w : ndarray
        Where.
    value : float
        The objective.
    grad : ndarray
        Gradient of its smooth part.
    subgrad : ndarray
        Smallest subgradient of all of it: zero at the minimum; without L1 the gradient.
    """

    w: Floats
    value: float
    grad: Floats
    subgrad: Floats

    @property
    def finite(self) -> bool:
        """Whether both are."""
        return math.isfinite(self.value) and bool(np.isfinite(self.grad).all())

    @property
    def largest(self) -> float:
        """Largest absolute value in the subgradient."""
        return float(np.abs(self.subgrad).max())


@dataclass
class Objective:
    """Mean loss of a linear model over weighted rows, plus penalties.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_rows, n_features)
        Dense in C order.
    y, sample_weight : ndarray of shape (n_rows,)
        Of the dtype of X; `sample_weight` may be None.
    loss : str
        Name of a pointwise loss; None is softmax's cross-entropy of `n_outputs` classes.
    l2, l1 : float
        Strengths of the penalty ``l2 / 2 ||coef||^2 + l1 ||coef||_1``.
    """

    X: Any
    y: Array
    sample_weight: Array | None
    loss: str | None
    loss_parameter: float = 0.0
    n_outputs: int = 1
    l2: float = 0.0
    l1: float = 0.0
    fit_intercept: bool = True
    n_threads: int = 0
    looks: int = 0
    total: float = field(init=False)

    def __post_init__(self) -> None:
        n_rows, self.n_features = self.X.shape
        weights = self.sample_weight
        self.total = float(n_rows) if weights is None else float(weights.sum(dtype=np.float64))
        self._memory = _core.full_scratch(self.X, self.n_outputs)

    @property
    def sparse(self) -> bool:
        """Whether X is."""
        return not isinstance(self.X, np.ndarray)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weights: an intercept follows those of each output."""
        return self.n_outputs, self.n_features + 1

    def __call__(self, w: Floats) -> Look:
        """Look at all rows."""
        value, grad = self.sums(w)
        return self.penalised(w, value / self.total, grad / self.total)

    def penalised(self, w: Floats, value: float, grad: Floats) -> Look:
        """Add the penalties to the mean loss and its gradient, (n_outputs, n_features + 1)."""
        weights = w.reshape(self.shape).copy()
        weights[:, -1] = 0
        grad = grad + self.l2 * weights
        if not self.fit_intercept:
            grad[:, -1] = 0
        penalty = 0.5 * self.l2 * _core.dot(weights, weights) if self.l2 else 0.0
        subgrad = grad
        if self.l1:
            penalty += self.l1 * float(np.abs(weights).sum())
            subgrad = grad + self.l1 * np.sign(weights)
            flat = weights == 0
            flat[:, -1] = False
            subgrad[flat] -= np.clip(subgrad[flat], -self.l1, self.l1)
        return Look(w, value + penalty, grad.ravel(), subgrad.ravel())

    def sums(self, w: Floats, predictions: Array | None = None) -> tuple[float, Floats]:
        """Sum of the losses and its gradient; `predictions`, (n_outputs, n_rows), are written."""
        weights = w.reshape(self.shape).astype(self.X.dtype)
        n_rows = self.X.shape[0]
        step = n_rows if self.sparse else max(1, _ELEMENTS_PER_CALL // self.n_features)
        if predictions is not None:
            step = n_rows
        value, grad = 0.0, np.zeros(self.shape)
        for start in range(0, n_rows, step):
            rows = slice(start, start + step)
            whole = step >= n_rows
            part, part_grad = _core.full_gradient(
                self.X if whole else self.X[rows],
                self.y[rows],
                None if self.sample_weight is None else self.sample_weight[rows],
                weights,
                self._memory,
                predictions,
                loss=_core.LOSSES[self.loss]["number"] if self.loss else 0,
                loss_parameter=self.loss_parameter,
                n_threads=self.n_threads,
            )
            value += part
            grad += part_grad
        self.looks += 1
        return value, grad

    def predictions(self, w: Floats) -> Array:
        """Predictions for all rows, (n_outputs, n_rows)."""
        p = np.zeros((self.n_outputs, self.X.shape[0]), self.X.dtype)
        if w.any():
            self.sums(w, p)
        return p

    def derivatives(self, w: Floats) -> Floats:
        """Differentiate the rows' weighted losses with respect to their predictions."""
        if self.loss is None:
            d = self.probabilities(w).astype(np.float64)
            d[self.y.astype(np.intp), np.arange(len(self.y))] -= 1
        else:
            p = self.predictions(w)[0]
            d = _core.evaluate_loss(self.loss, self.y, p, self.loss_parameter)[1][None]
            d = d.astype(np.float64)
        return d if self.sample_weight is None else d * self.sample_weight

    def probabilities(self, w: Floats) -> Array:
        """Softmax of the predictions."""
        p = self.predictions(w)
        e: Array = np.exp(p - p.max(axis=0))
        e /= e.sum(axis=0)
        return e

    def curvatures(self, w: Floats) -> Array:
        """Second derivative of each row's loss with respect to its prediction, times its weight.

        It is found by differencing the first one. Of several outputs it is the mean. It is nowhere
        zero.
        """
        if self.loss is None:
            p = self.probabilities(w)
            curvature = (1 - (p * p).sum(axis=0)) / self.n_outputs
        else:
            p = self.predictions(w)[0]
            width = np.cbrt(np.finfo(p.dtype).eps) * (1 + np.abs(p))
            above, below = (
                _core.evaluate_loss(self.loss, self.y, p + side, self.loss_parameter)[1]
                for side in (width, -width)
            )
            curvature = (above - below) / (2 * width)
        if self.sample_weight is not None:
            curvature *= self.sample_weight
        least = _SMALLEST_CURVATURE * float(curvature.mean(dtype=np.float64))
        curvature = np.maximum(curvature, max(least, np.finfo(p.dtype).tiny), dtype=p.dtype)
        bounded: Array = np.minimum(curvature, np.sqrt(np.finfo(p.dtype).max), dtype=p.dtype)
        return bounded

    def sample(self, n_rows: int) -> "Objective":
        """Return the same over so many rows, one drawn from each of as many stretches of X."""
        n = self.X.shape[0]
        edges = np.arange(n_rows + 1) * n // n_rows
        draws = np.random.default_rng(n_rows).random(n_rows)
        rows = edges[:-1] + (draws * np.diff(edges)).astype(np.intp)
        weights = None if self.sample_weight is None else self.sample_weight[rows]
        X = self.X[rows] if self.sparse else self.X.take(rows, axis=0)  # twice as fast as X[rows]
        return replace(self, X=X, y=self.y[rows], sample_weight=weights, looks=0)


# ---- coordinates ---------------------------------------------------------------------------------


class Metric(Protocol):
    """Coordinates R w in which the Hessian of the objective, nearly R'R, is nearly one."""

    def covariant(self, grad: Floats) -> Floats:
        """Gradient with respect to the coordinates: R'^-1 grad."""

    def direction(self, d: Floats) -> Floats:
        """Direction of the weights where the coordinates go along d: R^-1 d."""


class Diagonal:
    """The Hessian's diagonal and its intercept's row: for sparse rows, and for very many columns.

    The row makes it the diagonal of the columns less their means, whatever those are.
    """

    def __init__(self, objective: Objective, w: Floats) -> None:
        self._shape = objective.shape
        weights = objective.curvatures(w)
        sums, squares = _core.column_moments(objective.X, weights).T / objective.total
        self._weight = float(weights.sum(dtype=np.float64)) / objective.total
        self._means = sums / self._weight if objective.fit_intercept else np.zeros_like(sums)
        squares = np.maximum(squares - self._means * sums, 1e-6 * squares) + objective.l2
        squares[squares == 0] = 1.0
        self._roots: Floats = np.sqrt(squares)

    def _at_means(self, w: Floats) -> Floats:
        """Multiply the weights of each output with the means of the columns.

        Not by the BLAS, whose idle threads would keep a processor from the next look.
        """
        products: Floats = np.einsum("oj,j->o", w[:, :-1], self._means)
        return products

    def coordinates(self, w: Floats) -> Floats:
        """Multiply with the factor: R w."""
        given, out = w.reshape(self._shape), np.empty(self._shape)
        out[:, :-1] = given[:, :-1] * self._roots
        out[:, -1] = (given[:, -1] + self._at_means(given)) * math.sqrt(self._weight)
        return out.ravel()

    def gradient(self, grad: Floats) -> Floats:
        """Multiply with the factor's transpose: R' grad."""
        given, out = grad.reshape(self._shape), np.empty(self._shape)
        out[:, -1] = given[:, -1] * math.sqrt(self._weight)
        out[:, :-1] = given[:, :-1] * self._roots + out[:, -1:] * self._means
        return out.ravel()

    def shrunk(self, x: Floats, strength: float) -> Floats:
        """Move each weight towards zero, as far as an L1 penalty would."""
        out = x.reshape(self._shape).copy()
        coef = out[:, :-1]
        coef -= np.clip(coef, -strength / self._roots, strength / self._roots)
        return out.ravel()

    def covariant(self, grad: Floats) -> Floats:
        """Solve with the factor's transpose."""
        given, out = grad.reshape(self._shape), np.empty(self._shape)
        out[:, :-1] = (given[:, :-1] - given[:, -1:] * self._means) / self._roots
        out[:, -1] = given[:, -1] / math.sqrt(self._weight)
        return out.ravel()

    def direction(self, d: Floats) -> Floats:
        """Solve with the factor."""
        given, out = d.reshape(self._shape), np.empty(self._shape)
        out[:, :-1] = given[:, :-1] / self._roots
        out[:, -1] = given[:, -1] / math.sqrt(self._weight) - self._at_means(out)
        return out.ravel()


class Triangle:
    """All of a Hessian, that of a sample of the rows: R is its Cholesky factor.

    Of several outputs it is the whole one if that is small, else the same block for each.
    """

    def __init__(self, objective: Objective, w: Floats) -> None:
        outputs, n = objective.shape
        work = objective.X.shape[0] * (outputs * n / 2) ** 2
        whole = outputs > 1 and outputs * n <= _MAX_GRAM and work <= _MAX_SOFTMAX_WORK
        self._n_blocks = 1 if whole else outputs
        hessian = _softmax_hessian(objective, w) if whole else _mean_hessian(objective, w)
        hessian /= objective.total
        size = len(hessian)
        diagonal, intercepts = np.einsum("ii->i", hessian), np.arange(n - 1, size, n)
        diagonal += np.where(np.isin(np.arange(size), intercepts), 0.0, objective.l2)
        if not objective.fit_intercept:
            hessian[:, intercepts] = hessian[intercepts] = 0
            diagonal[intercepts] = 1
        _core.factor(hessian)
        self._r = hessian

    def _solve(self, given: Floats, back: bool) -> Floats:
        solved = given.reshape(self._n_blocks, -1).copy()
        for row in solved:
            _core.solve(row, self._r, back)
        return solved.ravel()

    def covariant(self, grad: Floats) -> Floats:
        """Solve with the factor's transpose."""
        return self._solve(grad, False)

    def direction(self, d: Floats) -> Floats:
        """Solve with the factor."""
        return self._solve(d, True)


def _mean_hessian(objective: Objective, w: Floats) -> Floats:
    return _core.gram(objective.X, objective.curvatures(w), n_threads=objective.n_threads)


def _softmax_hessian(objective: Objective, w: Floats) -> Floats:
    """Sum of the rows' p_k (1[k = l] - p_l) x x': Bishop, 2006, eq. (4.110)."""
    outputs, n = objective.shape
    p = objective.probabilities(w)
    hessian = np.zeros((outputs, n, outputs, n))
    for k in range(outputs):
        for m in range(k, outputs):
            weights = (p[k] * ((k == m) - p[m])).astype(objective.X.dtype)
            if objective.sample_weight is not None:
                weights *= objective.sample_weight
            block = _core.gram(objective.X, weights, n_threads=objective.n_threads)
            block = np.triu(block) + np.triu(block, 1).T
            hessian[k, :, m] = hessian[m, :, k] = block
    return hessian.reshape(outputs * n, outputs * n)


# ---- L-BFGS --------------------------------------------------------------------------------------


@dataclass
class Result:
    """Where a solver ended.

    Attributes
    ----------
    look : Look
        The last one.
    n_iter : int
        Iterations.
    converged : bool
        Whether the gradient was small enough.
    stalled : bool
        Whether rounding left nothing to gain.
    """

    look: Look
    n_iter: int
    converged: bool
    stalled: bool = False


Stop = Callable[[Look, Floats], bool]  # of a look, and its subgradient in the coordinates
Report = Callable[[int, Look], None]  # of the number of iterations, and the look after them


def look_at(objective: Objective, w: Floats) -> Look:
    """Look at all rows for the first time.

    Raises
    ------
    DivergenceError
        What is seen is not finite.
    """
    look = objective(w)
    if not look.finite:
        raise _core.DivergenceError(
            "the loss or its gradient is not finite where training starts; scale the data"
        )
    return look


def length(x: Floats) -> float:
    """Euclidean norm."""
    return math.sqrt(_core.dot(x, x))


def small(tol: float) -> Stop:
    """Stop where no element of the gradient is larger."""
    return lambda look, _: look.largest <= tol


def descend(
    objective: Objective,
    start: Look,
    metric: Callable[[Floats, bool], Metric],
    *,
    stop: Stop,
    max_iter: int,
    renew: bool = False,
    report: Report | None = None,
) -> Result:
    """Minimise by L-BFGS in the coordinates of a metric.

    Nocedal & Wright, Numerical Optimization, 2nd ed., 2006, algorithm 7.5; the metric is the
    H_k^0 of eq. (7.20).

    Parameters
    ----------
    objective : Objective
        What to minimise.
    start : Look
        Where to begin.
    metric : callable
        Makes the coordinates that are best at given weights; if its second argument is true, of all
        rows, because those of a sample led nowhere.
    stop : callable
        Tells whether to stop.
    max_iter : int
        Iterations at most.
    renew : bool, default=False
        Whether a metric is cheap: then it is made anew where an iteration gained little.
    report : callable, optional
        Called with the number of iterations and the look after each.
    """
    here, n_iter, surely = start, 0, False
    while True:  # one metric each time
        space = _Space(metric(here.w, surely), here)
        n_before = n_iter
        while not stop(here, space.grad):
            if n_iter >= max_iter:
                return Result(here, n_iter, False)
            after = space.step(objective)
            if after is None:
                break
            here, n_iter = after, n_iter + 1
            if report is not None:
                report(n_iter, here)
            if renew and space.shrinkage > _SLOW:
                break
        else:
            return Result(here, n_iter, True)
        nowhere = n_iter == n_before
        if nowhere and surely:
            return Result(here, n_iter, False, stalled=space.nothing_left(objective))
        surely = nowhere


class _Space:
    """L-BFGS in one system of coordinates: its memory, and the point where it is."""

    def __init__(self, metric: Metric, here: Look) -> None:
        self._metric = metric
        self._history = _core.History(_HISTORY, here.w.size, np.dtype(np.float64))
        self._slots: tuple[int, ...] = ()
        self._ro: tuple[float, ...] = ()
        self._scale = 1.0
        self.here = here
        self.grad = metric.covariant(here.grad)
        self.shrinkage = 0.0  # of the gradient in the last step

    def step(self, objective: Objective) -> Look | None:
        """Do one iteration; None if no better point was found."""
        d = np.empty_like(self.grad)
        slope, _ = self._history.direction(d, self.grad, self._slots, self._ro, self._scale)
        if not slope < 0:
            return None
        after, t = self._search(objective, self._metric.direction(d), slope)
        if after is None:
            return None
        grad = self._metric.covariant(after.grad)
        self._remember(grad, d, t)
        self.shrinkage = length(grad) / length(self.grad)
        self.here, self.grad = after, grad
        return after

    def nothing_left(self, objective: Objective) -> bool:
        """Whether a step promises no more than values differ by rounding."""
        promised = 0.5 * _core.dot(self.grad, self.grad)
        rounding = 10 * float(np.finfo(objective.X.dtype).eps)
        return promised <= rounding * max(1.0, abs(self.here.value))

    def _remember(self, grad: Floats, d: Floats, t: float) -> None:
        """Keep the pair s, y of a step if its curvature is good."""
        slot = next(slot for slot in range(_HISTORY + 1) if slot not in self._slots)
        ys, yy = self._history.put(slot, grad, self.grad, d, t)
        if ys > 1e-12 * yy > 0:
            self._slots = (*self._slots, slot)[-_HISTORY:]
            self._ro = (*self._ro, 1.0 / ys)[-_HISTORY:]  # eq. (7.17)
            self._scale = ys / yy  # eq. (7.20)

    def _search(self, objective: Objective, d: Floats, slope: float) -> tuple[Look | None, float]:
        """Find a point along a direction: the whole way, if that is not too far."""
        here = self.here
        looks: dict[float, Look] = {}

        def trial(t: float, held: tuple[Trial, ...] = ()) -> Trial:
            if t not in looks:
                looks[t] = objective(here.w + t * d)
            look = looks[t]
            value = look.value if look.finite else math.inf
            return Trial(t, value, _core.dot(look.grad, d), look, 0.0, 0.0)

        # where values differ by rounding alone, their slopes still tell (Hager & Zhang, "A new
        # conjugate gradient method with guaranteed descent", SIAM J. Optim. 16, 2005, eq. (4.1))
        whole = trial(1.0)
        slack = np.finfo(objective.X.dtype).eps * abs(here.value)
        if abs(whole.slope) <= -0.9 * slope and whole.loss <= here.value + slack:
            return whole.grad, 1.0
        found = strong_wolfe(
            trial,
            Trial(0.0, here.value, slope, here, 0.0, 0.0),
            1.0,
            reach=1.0,
            tolerance_change=1e-12,
            max_trials=_MAX_TRIALS,
        )
        look: Look = found.grad
        better = look.finite and look is not here and look.value < here.value
        return (look, found.t) if better else (None, 0.0)


# ---- which coordinates ---------------------------------------------------------------------------


def sample_size(n_rows: int, n_features: int, itemsize: int) -> int:
    """Rows of the sample whose Hessian makes the coordinates: all if they are few, 0 if none."""
    if n_features > _MAX_GRAM:
        return 0
    size = min(_SAMPLE_ROWS * n_features, _SAMPLE_WORK * n_rows // n_features)
    size = max(size, min(_SMALL_SAMPLE * n_features, _MORE_WORK * n_rows // n_features))
    size = min(size, _SAMPLE_BYTES // (n_features * itemsize))
    size = max(size, _FEW_ROWS * n_features, 64)
    return n_rows if 2 * size > n_rows else size


def minimize_sampled(
    objective: Objective,
    w: Floats,
    *,
    stop: Stop,
    max_iter: int,
    report: Report | None = None,
) -> Result:
    """Minimise by L-BFGS in the best coordinates that the shape of X allows.

    Those of the Hessian, of all rows if they are few, else of a sample; its diagonal where X is
    sparse or has very many columns.
    """
    n_rows, n_features = objective.X.shape
    size = 0 if objective.sparse else sample_size(n_rows, n_features, objective.X.itemsize)
    sample = objective.sample(size) if 0 < size < n_rows else objective
    rough = 0 < size < n_rows and sample.total > 0 and max_iter > 0
    if rough:
        # as far from its minimum as that is from the minimum of all rows
        far = math.sqrt(0.02 * n_features / size)
        found = minimize_sampled(
            sample, w, stop=lambda look, grad: length(grad) <= far, max_iter=20
        ).look
        start = objective(found.w)
        # rows that no sample holds may make its minimum a bad place
        if not start.value <= 2 * found.value + 1:
            start = min(
                start,
                look_at(objective, w),
                key=lambda look: look.value if look.finite else math.inf,
            )
    else:
        start = look_at(objective, w)
    kind = Triangle if size else Diagonal
    return descend(
        objective,
        start,
        lambda w, surely: kind(objective if surely else sample, w),
        stop=stop,
        max_iter=max_iter,
        renew=size == n_rows,
        report=report,
    )


def minimize_diagonal(
    objective: Objective,
    w: Floats,
    *,
    stop: Stop,
    max_iter: int,
    report: Report | None = None,
) -> Result:
    """Minimise by L-BFGS in coordinates scaled by the Hessian's diagonal."""
    return descend(
        objective,
        look_at(objective, w),
        lambda w, _: Diagonal(objective, w),
        stop=stop,
        max_iter=max_iter,
        report=report,
    )
