"""What linear models are given: parameters, data, labels, weights, and how they are refused.

A refusal names the argument. scikit-learn checks what it can, so that its words stay as they are.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from . import _core
from ._hypers import LINEAR_RULES, number
from .optim import hyper_values
from .schedules import SCHEDULES

__all__ = [
    "AGGRESSIVE",
    "BALANCED_IN_PARTIAL_FIT",
    "CONSTRAINTS",
    "PENALTIES",
    "TRAINING_CONSTRAINTS",
    "Array",
    "finite",
    "is_plain_sgd",
    "labels_in",
    "loss_functions_for",
    "losses_for",
    "naming",
    "of_validation",
    "parameter_of",
    "row_weights",
    "rule_and_hypers",
    "starting_params",
    "validated",
    "validated_rows",
]

Array = NDArray[Any]


# ---- parameters ----------------------------------------------------------------------------------

# the part of the penalty that makes weights zero, of them one by one or in groups, given `l1_ratio`
PENALTIES: dict[str | None, Callable[[float | None], float]] = {
    None: lambda l1_ratio: 0.0,
    "l2": lambda l1_ratio: 0.0,
    "l1": lambda l1_ratio: 1.0,
    "elasticnet": lambda l1_ratio: l1_ratio or 0.0,
    "group": lambda l1_ratio: 1.0 if l1_ratio is None else l1_ratio,
}
# learning rates that depend on the row: the number of the variant, passive-aggressive I or II
AGGRESSIVE = {"pa1": 1, "pa2": 2}

BALANCED_IN_PARTIAL_FIT = (
    "class_weight 'balanced' is not supported for partial_fit. In order to use 'balanced' weights, "
    "use compute_class_weight('balanced', classes=classes, y=y). In place of y you can use a large "
    "enough sample of the full training set target to properly estimate the class frequency "
    "distributions. Pass the resulting weights as the class_weight parameter."
)

# what all of them take, as scikit-learn's `_validate_params` reads it
TRAINING_CONSTRAINTS: dict[str, list[Any]] = {
    "fit_intercept": ["boolean"],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left"), None],
    "shuffle": ["boolean", StrOptions({"block"})],
    "verbose": ["verbose", StrOptions({"bar"})],
    "random_state": ["random_state"],
    "learning_rate": [StrOptions({*SCHEDULES, "adaptive", *AGGRESSIVE})],
    "eta0": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, None, None, closed="neither")],
    "warm_start": ["boolean"],
    "hashing": [Interval(Integral, 1, 31, closed="both"), None],
    "interactions": [StrOptions({"quadratic"}), list, tuple, None],
    "average": ["boolean", Interval(Integral, 0, None, closed="neither")],
    "grad_norm": ["boolean"],
    "callbacks": [callable, list, tuple, None],
    "positive": ["boolean"],
}
# what the classifier and the regressor take
CONSTRAINTS: dict[str, list[Any]] = {
    **TRAINING_CONSTRAINTS,
    "penalty": [StrOptions({name for name in PENALTIES if name}), None],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "l1_ratio": [Interval(Real, 0, 1, closed="both"), None],
    "groups": ["array-like", None],
    "epsilon": [Interval(Real, 0, None, closed="left")],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    "optimizer": [StrOptions(set(LINEAR_RULES)), tuple],
    "loss_parameter": [Real, None],
    "restore_best_weights": ["boolean"],
    "n_threads": [Interval(Integral, 1, None, closed="left"), None],
}


def losses_for(task: str) -> list[str]:
    """Names of the losses that fit a task."""
    return [name for name, row in _core.LOSSES.items() if row["task"] in (task, "both")]


def loss_functions_for(task: str) -> dict[str, tuple[Any, ...]]:
    """Losses that fit a task: as in scikit-learn's ``loss_functions``, with their parameter."""
    rows = {name: _core.LOSSES[name] for name in losses_for(task)}
    return {
        name: (name, row["default"]) if row["parameter"] else (name,) for name, row in rows.items()
    }


def parameter_of(loss: str, given: float | None) -> float:
    """Parameter of a loss, its own default for None; 0 if it has none."""
    row = _core.LOSSES[loss]
    if not row["parameter"] or given is None:
        return float(row["default"])
    return number("loss_parameter", given, row["domain"])


def rule_and_hypers(given: Any) -> tuple[str, list[float]]:
    """Split the parameter `optimizer` into a rule and the values of its hyper-parameters."""
    if isinstance(given, str):
        return given, list(_default_hypers(given))
    rule, settings = given if len(given) == 2 else (None, None)
    if (
        not isinstance(rule, str)
        or rule not in LINEAR_RULES
        or not isinstance(settings, dict)
        or "lr" in settings
    ):
        raise ValueError(
            f"optimizer must be one of {', '.join(LINEAR_RULES)}, or a pair of one and a dict of "
            f"its hyper-parameters other than lr (see eta0); got {given!r}"
        )
    return rule, hyper_values(rule, settings)


@cache
def _default_hypers(rule: str) -> tuple[float, ...]:
    """Hyper-parameters of a rule, if none are given."""
    return tuple(hyper_values(rule, {}))


def is_plain_sgd(rule: str, hypers: list[float]) -> bool:
    """Whether a rule subtracts learning rate times gradient, and nothing else."""
    names = [name for name, _, _ in _core.RULES[rule]["hypers"]]
    values = dict(zip(names, hypers, strict=True))
    others = ("momentum", "weight_decay", "maximize")
    return rule == "sgd" and not any(values[name] for name in others)


# ---- data ----------------------------------------------------------------------------------------


@contextmanager
def naming(name: str) -> Iterator[None]:
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


@contextmanager
def of_validation() -> Iterator[None]:
    """Say of an error that it is about the rows for validation."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"X_val, y_val, sample_weight_val: {error}") from None


def validated(
    estimator: BaseEstimator, X: ArrayLike, y: ArrayLike | None, **options: Any
) -> tuple[Any, Array]:
    """Check X and y; whether X is finite shows in training, without reading it once more."""
    options = {"ensure_all_finite": False, **options}
    with naming("X"):
        rows, target = validate_data(
            estimator,
            X,
            y,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            order="C",
            **options,
        )
    if issparse(target):
        raise TypeError("y must be dense; got a sparse matrix")
    if target.dtype.kind in "fc":
        assert_all_finite(target, input_name="y", estimator_name=type(estimator).__name__)
    if target.ndim == 2 and target.shape[1] == 1:
        target = column_or_1d(target, warn=True)
    return rows, target


def validated_rows(estimator: BaseEstimator, X: ArrayLike, **options: Any) -> Any:
    """Check rows alone: to predict for, unless told otherwise."""
    options = {"reset": False, "dtype": [np.float64, np.float32], **options}
    with naming("X"):
        return validate_data(estimator, X, accept_sparse="csr", **options)


def finite(given: ArrayLike, dtype: Any, name: str) -> Array:
    """C-contiguous array of `dtype`, all of it finite."""
    with naming(name):
        array: Array = np.ascontiguousarray(given, dtype=dtype)
    if not _core.all_finite(array):
        raise ValueError(f"{name} must hold numbers that are finite as {array.dtype}")
    return array


def labels_in(y: Array) -> Array:
    """Sorted labels in y, which must be a classification's."""
    if y.dtype.kind not in "biuSU":
        check_classification_targets(y)
    elif y.dtype.kind in "iu" and y.size:
        low, high = int(y.min()), int(y.max())
        if high - low <= 1:
            return np.unique(np.array([low, high], y.dtype))
        # counting is several times faster than np.unique
        if high - low < 1024 and high <= np.iinfo(np.int64).max:
            found: Array = np.flatnonzero(np.bincount(y.astype(np.int64) - low)) + low
            return found.astype(y.dtype)
    return np.unique(y)


def row_weights(X: Array, given: ArrayLike | None) -> Array:
    """Sample weights, finite, of the dtype of X; ones for None."""
    with naming("sample_weight"):
        weights = _check_sample_weight(given, X, dtype=X.dtype)
    return finite(weights, X.dtype, "sample_weight")


def starting_params(
    shape: tuple[int, int],
    dtype: Any,
    coef: Any,
    intercept: Any,
    intercept_name: str = "intercept_init",
) -> Array:
    """Parameters to start from, (n_problems, n_features + 1): zeros, or what is given."""
    params = np.zeros(shape, dtype)
    for name, given, part in (
        ("coef_init", coef, params[:, :-1]),
        (intercept_name, intercept, params[:, -1]),
    ):
        if given is None:
            continue
        start = finite(given.toarray() if issparse(given) else given, dtype, name)
        if start.shape != part.shape and (shape[0] > 1 or start.size != part.size):
            raise ValueError(
                f"Provided {name} does not match dataset: it must be of shape {part.shape}; got "
                f"{start.shape}"
            )
        part[...] = start.reshape(part.shape)
    return params
