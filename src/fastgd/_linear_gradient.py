"""How far a linear model is from its optimum: the gradient of all that it minimises."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._solvers import Objective, length
from .train import Run, interactions_of

__all__ = ["GradientNorm"]

Array = NDArray[Any]


@dataclass
class GradientNorm:
    """Length of the gradient of one problem's objective, over all rows that are trained on.

    Parameters
    ----------
    run : Run
        What is trained.
    y, sample_weight : ndarray of shape (n_rows,)
        The problem's; `sample_weight` may be None.
    n_classes : int
        Of a softmax; 1 for other problems.
    """

    run: Run
    y: Array
    sample_weight: Array | None
    n_classes: int

    def __post_init__(self) -> None:
        run, weight = self.run, self.sample_weight
        if run.left_out is not None:
            kept = (~run.left_out).astype(self.y.dtype)
            weight = kept if weight is None else weight * kept
        self._objective = Objective(
            run.X,
            self.y,
            weight,
            run.loss if self.n_classes == 1 else None,
            run.loss_parameter,
            n_outputs=self.n_classes,
            l2=run.alpha,
            l1=run.l1,
            fit_intercept=run.fit_intercept,
            n_threads=run.n_threads,
        )

    def __call__(self, params: Array) -> float:
        """Norm at these parameters; where there are several subgradients, of the smallest."""
        weights, intercepts = np.split(params.astype(np.float64), [-self.n_classes])
        w = np.column_stack([weights.reshape(self.n_classes, -1), intercepts])
        with np.errstate(over="ignore", invalid="ignore"):
            value, gradient = self._sums(w)
            gradient /= self.run.n_rows
            gradient[:, -1] += self.run.one_class
            look = self._objective.penalised(w, value / self.run.n_rows, gradient)
            smallest = look.subgrad.reshape(w.shape)
            self._constrain(smallest[:, :-1], w[:, :-1])
            return length(smallest)

    def _sums(self, w: Array) -> tuple[float, Array]:
        """Sum of the losses and its gradient; rows with interactions are made some at a time."""
        run, whole = self.run, self._objective
        if run.pairs is None:
            return whole.sums(w)
        assert isinstance(run.X, _core.CSR)
        maker, order = interactions_of(run.X, run.pairs, run.batch_size), run.first_order()
        value, gradient, done, n_rows = 0.0, np.zeros_like(w), 0, run.X.shape[0]
        while done < n_rows:
            made, rows = maker.take(order, run.block, done, n_rows, run.n_threads)
            weight = None if whole.sample_weight is None else whole.sample_weight[rows]
            part = replace(whole, X=made, y=whole.y[rows], sample_weight=weight).sums(w)
            value, gradient, done = value + part[0], gradient + part[1], done + len(rows)
        return value, gradient

    def _constrain(self, grad: Array, coef: Array) -> None:
        """Take account, in place, of a penalty on groups and of weights that stay positive."""
        at_zero = coef == 0  # from where a positive gradient would lead below
        if self.run.positive:
            grad[at_zero] = np.minimum(grad[at_zero], 0)
        if self.run.groups is not None:
            self.run.groups.subgradient(grad, coef, self.run.group)
