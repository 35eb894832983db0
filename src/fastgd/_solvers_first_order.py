"""First-order solvers of linear models: accelerated, and those that reduce the variance of rows."""

import math
from collections.abc import Callable

import numpy as np

from . import _core
from ._solvers import (
    Diagonal,
    Floats,
    Look,
    Objective,
    Report,
    Result,
    Stop,
    look_at,
    minimize_diagonal,
    minimize_sampled,
)

__all__ = ["BY_ROWS", "SOLVERS"]

# ---- accelerated gradient descent ----------------------------------------------------------------


def minimize_accelerated(
    objective: Objective,
    w: Floats,
    *,
    stop: Stop,
    max_iter: int,
    report: Report | None = None,
) -> Result:
    """Minimise by accelerated proximal gradient descent, in coordinates scaled by the diagonal.

    FISTA: Beck & Teboulle, "A fast iterative shrinkage-thresholding algorithm for linear inverse
    problems", SIAM J. Imaging Sci. 2, 2009, eq. (4.1) to (4.3); the momentum is dropped where it
    leads uphill: O'Donoghue & Candes, "Adaptive restart for accelerated gradient schemes", Found.
    Comput. Math. 15, 2015, eq. (12). The step is as long as the gradients seen so far allow: they
    may nowhere differ by more than `curvature` times what the points do.
    """
    here = look_at(objective, w)
    space = Diagonal(objective, w)
    x = y = space.coordinates(w)
    grad, curvature, momentum = space.covariant(here.grad), 1.0, 1.0
    n_iter = 0
    while True:
        if stop(here, space.covariant(here.subgrad)):
            return Result(here, n_iter, True)
        if n_iter >= max_iter:
            return Result(here, n_iter, False)
        new = space.shrunk(y - grad / curvature, objective.l1 / curvature)
        rest = curvature * (y - new)  # zero at the minimum
        arrived = objective.l1 and stop(here._replace(subgrad=space.gradient(rest)), rest)
        if arrived or _core.dot(rest, new - x) > 0:
            ahead, momentum = new, 1.0
        else:
            before, momentum = momentum, (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            ahead = new + (before - 1) / momentum * (new - x)
        there = objective(space.direction(ahead))
        n_iter += 1
        if report is not None:
            report(n_iter, there)
        seen = space.covariant(there.grad)
        steepest = _steepest(seen - grad, ahead - y) if there.finite else 4 * curvature
        if steepest > curvature:
            curvature, momentum = 1.1 * steepest, 1.0
            if not there.value <= here.value:
                continue  # from where this step began
        x, y, grad, here = new, ahead, seen, there


def _steepest(gradients: Floats, points: Floats) -> float:
    """Least curvature that a difference of gradients between two points allows."""
    along = _core.dot(gradients, points)
    return _core.dot(gradients, gradients) / along if along > 0 else 0.0


# ---- rows, one at a time, with their variance reduced --------------------------------------------

# largest second derivative of each loss with respect to the prediction
_CURVATURES: dict[str | None, Callable[[float], float]] = {
    None: lambda _: 0.5,  # softmax: Bohning, "Multinomial logistic regression algorithm", 1992
    "log_loss": lambda _: 0.25,
    "squared_error": lambda _: 1.0,
    "huber": lambda _: 1.0,
    "squared_epsilon_insensitive": lambda _: 2.0,
    "expectile": lambda e: 2 * max(e, 1 - e),
}


def minimize_rows(kind: str) -> Callable[..., Result]:
    """Return the solver "sag", "saga" or "svrg".

    Each step is that of one row drawn at random, plus what the mean of all rows' gradients says of
    the others. Schmidt, Le Roux & Bach, "Minimizing finite sums with the stochastic average
    gradient", Math. Program. 162, 2017; Defazio, Bach & Lacoste-Julien, "SAGA", NIPS 2014; Johnson
    & Zhang, "Accelerating stochastic gradient descent using predictive variance reduction", NIPS
    2013. The first look at all rows makes that mean exact.
    """

    def minimize(
        objective: Objective,
        w: Floats,
        *,
        stop: Stop,
        max_iter: int,
        report: Report | None = None,
        seed: int = 0,
    ) -> Result:
        here = look_at(objective, w)
        space = Diagonal(objective, w)
        rows = _Rows(objective, here, kind, seed)
        for n_iter in range(max_iter + 1):
            if stop(here, space.covariant(here.subgrad)):
                return Result(here, n_iter, True)
            if n_iter == max_iter:
                break
            rows.epoch()
            guess = rows.guess()
            likely = guess is None or stop(guess, space.covariant(guess.subgrad))
            if guess is not None and not (likely or report or n_iter + 1 == max_iter):
                here = guess
                continue
            here = rows.look()
            if not here.finite:
                raise _core.DivergenceError(
                    f"{kind} diverged in epoch {n_iter + 1}: a weight is no longer finite. Scale "
                    "the data"
                )
            if report is not None:
                report(n_iter + 1, here)
        return Result(here, max_iter, False)

    return minimize


class _Rows:
    """The memory of one derivative for each row and output, and the mean of their gradients."""

    def __init__(self, objective: Objective, here: Look, kind: str, seed: int) -> None:
        if objective.loss not in _CURVATURES:
            raise ValueError(
                f'solver must be one that needs no bound on the loss\'s curvature, as "auto", with '
                f"loss={objective.loss!r}; got {kind!r}"
            )
        self._objective, self._kind = objective, kind
        self._draws = np.random.default_rng(seed)
        outputs, n = objective.shape
        self._w, self._mean = np.empty((n, outputs)), np.empty((n, outputs))
        self._memory = np.empty((objective.X.shape[0], outputs))
        curvature = _CURVATURES[objective.loss](objective.loss_parameter)
        longest = _core.longest_row(objective.X, objective.sample_weight)
        most = objective.sample_weight
        heaviest = 1.0 if most is None else float(most.max())
        steepest = curvature * (longest + objective.fit_intercept * heaviest)
        steepest = steepest * objective.X.shape[0] / objective.total + objective.l2
        self._step = 1 / (steepest if kind == "sag" else 3 * steepest)
        self._begin(here)

    def _begin(self, here: Look) -> None:
        """Remember the rows' derivatives at a point, and the mean of their gradients."""
        o = self._objective
        self._w[...] = here.w.reshape(o.shape).T
        penalty = o.l2 * self._w
        penalty[-1] = 0
        self._mean[...] = here.grad.reshape(o.shape).T - penalty
        self._memory[...] = o.derivatives(here.w).T

    def epoch(self) -> None:
        """Take as many steps as there are rows."""
        o = self._objective
        n = o.X.shape[0]
        for start in range(0, n, _STEPS_PER_CALL):
            order = self._draws.integers(n, size=min(n - start, _STEPS_PER_CALL))
            _core.reduce_variance(
                self._w,
                self._mean,
                self._memory,
                o.X,
                o.y,
                o.sample_weight,
                order,
                kind=self._kind,
                loss=o.loss,
                loss_parameter=o.loss_parameter,
                step=self._step,
                l2=o.l2,
                l1=o.l1,
                total=o.total,
                fit_intercept=o.fit_intercept,
            )

    def guess(self) -> Look | None:
        """Say what a look will show, by the mean of what is remembered; SVRG has forgotten it."""
        if self._kind == "svrg" or not np.isfinite(self._w).all():
            return None
        w = np.ascontiguousarray(self._w.T).ravel()
        return self._objective.penalised(w, math.nan, self._mean.T)

    def look(self) -> Look:
        """Look at all rows; SVRG's mean is that of the last look."""
        look = self._objective(np.ascontiguousarray(self._w.T).ravel())
        if self._kind == "svrg" and look.finite:
            self._begin(look)
        return look


_STEPS_PER_CALL = 2**18

BY_ROWS = ("sag", "saga", "svrg")

SOLVERS: dict[str, Callable[..., Result]] = {
    "auto": minimize_sampled,
    "lbfgs": minimize_diagonal,
    "agd": minimize_accelerated,
    **{kind: minimize_rows(kind) for kind in BY_ROWS},
}
"""The solvers by name; with L1 "auto" is "agd"."""
