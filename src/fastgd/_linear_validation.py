"""Rows that linear models are not trained on: which they are, and the score on them.

scikit-learn 1.9 stops early by other numbers than the score of the model that has been trained, in
two cases. It keeps weights as a factor times an array, and scores the array: with an L2 penalty,
weights that are too large for the intercept (`train.Run.epoch` has the factor). And with
"log_loss" it compares predictions -1 and 1 with labels 0 and 1: `true_positives`. So that training
stops where it stops there, its numbers decide; all else goes by the score of the model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

from ._linear_hashing import products
from ._linear_input import Array

__all__ = [
    "ALL_ZERO",
    "Metric",
    "Score",
    "accuracy",
    "accuracy_of_classes",
    "r2",
    "r2_of_exp",
    "split",
    "true_positives",
]

ALL_ZERO = (
    "sample_weight: The sample weights for validation set are all zero, consider using a different "
    "random state."
)
Metric = Callable[[Array, Array, Array | None], float]


def split(
    y: Array, sample_weight: Array | None, fraction: float, random_state: Any, stratified: bool
) -> NDArray[np.bool_]:
    """Which rows to hold out for validation, drawn as scikit-learn draws them."""
    splitter = StratifiedShuffleSplit if stratified else ShuffleSplit
    rows = splitter(test_size=fraction, random_state=random_state).split(np.zeros((len(y), 1)), y)
    _, held_out = next(rows)
    if sample_weight is not None and not sample_weight[held_out].any():
        raise ValueError(ALL_ZERO)
    mask = np.zeros(len(y), dtype=bool)
    mask[held_out] = True
    return mask


def accuracy(y: Array, decision: Array, sample_weight: Array | None) -> float:
    """Part of the rows on the right side; y is 1 or -1."""
    return float(np.average((decision > 0) == (y > 0), weights=sample_weight))


def accuracy_of_classes(y: Array, decision: Array, sample_weight: Array | None) -> float:
    """Part of the rows whose class has the largest decision; y is its number."""
    return float(np.average(decision.argmax(axis=1) == y, weights=sample_weight))


def true_positives(y: Array, decision: Array, sample_weight: Array | None) -> float:
    """Part of the rows that are rightly on the positive side."""
    return float(np.average((decision > 0) & (y > 0), weights=sample_weight))


def r2(y: Array, prediction: Array, sample_weight: Array | None) -> float:
    """Coefficient of determination as scikit-learn has it, the mean over the outputs.

    Of an output that is constant it is 1 if predicted exactly, else 0.
    """
    target = y.reshape(len(y), -1).astype(np.float64, copy=False)
    weights = np.ones(len(y)) if sample_weight is None else sample_weight.astype(np.float64)
    mean = weights @ target / weights.sum()
    unexplained = weights @ (target - prediction.reshape(target.shape)) ** 2
    total = weights @ (target - mean) ** 2
    constant = np.ptp(target, axis=0) == 0
    parts = np.where(constant, unexplained == 0, 1 - unexplained / np.where(constant, 1, total))
    return float(parts.mean())


def r2_of_exp(y: Array, prediction: Array, sample_weight: Array | None) -> float:
    """Coefficient of determination, where the logarithm is what is linear."""
    with np.errstate(over="ignore"):
        expected = np.exp(prediction)
    return r2(y, expected, sample_weight)


@dataclass
class Score:
    """Score of one problem's parameters on rows that it is not trained on."""

    metric: Metric
    X: Any  # array, CSR matrix, or hashed rows
    y: Array
    sample_weight: Array | None
    n_classes: int = 1  # of a softmax

    def __call__(self, params: Array) -> float:
        """Predict, and compare."""
        weights, intercepts = params[: -self.n_classes], params[-self.n_classes :]
        if self.n_classes > 1:
            weights = weights.reshape(self.n_classes, -1).T
        prediction = products(self.X, weights) + intercepts
        return self.metric(self.y, prediction, self.sample_weight)
