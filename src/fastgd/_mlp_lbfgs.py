"""A multilayer perceptron trained on all rows at once, by the L-BFGS-B that scikit-learn takes."""

import warnings
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController  # comes with scikit-learn

from ._mlp_training import Training, of_layers

__all__ = ["minimise"]

Array = NDArray[Any]


class _Objective:
    """The loss as a function of all parameters in one vector, and where it has got to."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.params = training.network.parameters
        self.constant = training.rows.constant(None, training.rows.X.shape[0])
        self.x = np.concatenate([p.ravel() for p in self.params]).astype(np.float64)
        self.loss = np.inf  # at x, the last point that was accepted
        self.stopped = False  # by a callback
        self._ends = np.cumsum([p.size for p in self.params])[:-1]

    def store(self, x: Array) -> None:
        """Make these the parameters."""
        for param, part in zip(self.params, np.split(x, self._ends), strict=True):
            np.copyto(param, part.reshape(param.shape))

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Return loss and gradient."""
        self.store(x)
        training, rows = self.training, self.training.rows
        loss, grads = training.network.loss_and_grad(
            rows.X, rows.y, rows.sample_weight, alpha=training.alpha
        )
        if not np.isfinite(self.loss):
            self.loss = float(loss) + self.constant
        return float(loss) + self.constant, np.concatenate([g.ravel() for g in grads])

    def look(self, intermediate_result: Any) -> None:
        """Note a point that has been accepted, score it, and show it to who looks on."""
        training, record = self.training, self.training.record
        self.x, self.loss = intermediate_result.x.copy(), float(intermediate_result.fun)
        self.store(self.x)
        record.n_iter += 1
        record.curve.append(self.shown)
        training.take_score()
        if sum(bool(watcher(record, training.network)) for watcher in training.watching):
            self.stopped = True
            raise StopIteration

    @property
    def shown(self) -> float:
        """The loss as scikit-learn counts it; the parameters are at x."""
        training, rows = self.training, self.training.rows
        if rows.share == 1:
            return self.loss
        total = rows.X.shape[0] if rows.sample_weight is None else rows.sample_weight.sum()
        squares = sum(float(w.ravel() @ w.ravel()) for w in of_layers(training.network, "weight"))
        penalty = training.alpha / 2 * squares / float(total)
        return rows.share * (self.loss - penalty) + penalty


@cache
def _blas_pools() -> ThreadpoolController:
    """Return the threads of the BLAS, which gain nothing on vectors, and keep cores busy."""
    return ThreadpoolController()


def minimise(training: Training, max_fun: int) -> float:
    """Train until the gradient is small; return the loss as scikit-learn counts it."""
    objective, record = _Objective(training), training.record
    options = {"maxfun": max_fun, "maxiter": training.max_iter, "gtol": training.tol}
    try:
        with _blas_pools().limit(limits=1, user_api="blas"):
            found = minimize(
                objective,
                objective.x,
                method="L-BFGS-B",
                jac=True,
                options=options,
                callback=objective.look,
            )
    except KeyboardInterrupt:
        record.interrupted = True
    else:
        objective.x, objective.loss = found.x, float(found.fun)
        record.n_iter = min(int(found.nit), training.max_iter)
        record.converged = found.status == 0 or objective.stopped
        if not record.converged:
            warnings.warn(
                f"lbfgs failed to converge after {record.n_iter} iteration(s): {found.message}. "
                f"Increase max_iter (got {training.max_iter}) or max_fun (got {max_fun}), or scale "
                "the data.",
                ConvergenceWarning,
                stacklevel=5,  # the line that calls fit
            )
    objective.store(objective.x)
    shown = objective.shown
    training.restore()
    return shown
