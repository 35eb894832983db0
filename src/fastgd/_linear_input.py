"""What linear models are given: parameters, data, labels, weights, and how they are refused.

A refusal names the argument. scikit-learn checks what it can, so that its words stay as they are.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import assert_all_finite
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from . import _core
from ._hypers import VECTOR_RULES
from .optim import hyper_values
from .schedules import SCHEDULES

__all__ = [
    "CONSTRAINTS",
    "Array",
    "finite",
    "labels_in",
    "losses_for",
    "naming",
    "row_weights",
    "rule_and_hypers",
    "starting_params",
    "target_domain",
    "validated",
    "validated_rows",
]

Array = NDArray[Any]


# ---- parameters ----------------------------------------------------------------------------------

# what both estimators take, as scikit-learn's `_validate_params` reads it
CONSTRAINTS: dict[str, list[Any]] = {
    "penalty": [StrOptions({"l2"}), None],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "l1_ratio": [Interval(Real, 0, 1, closed="both"), None],
    "fit_intercept": ["boolean"],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left"), None],
    "shuffle": ["boolean", StrOptions({"block"})],
    "verbose": ["verbose"],
    "epsilon": [Interval(Real, 0, None, closed="left")],
    "random_state": ["random_state"],
    "learning_rate": [StrOptions(set(SCHEDULES))],
    "eta0": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "early_stopping": [Options(bool, {False})],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "warm_start": ["boolean"],
    "average": [Options(bool, {False})],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "optimizer": [StrOptions(set(VECTOR_RULES)), tuple],
}


def losses_for(task: str) -> list[str]:
    """Names of the losses that fit a task; the estimators predict without a logarithmic link."""
    return [
        name
        for name, row in _core.LOSSES.items()
        if row["task"] in (task, "both") and row["link"] != "log"
    ]


def target_domain(loss: str, parameter: float) -> str:
    """Domain of the targets of a loss: "sign", or one of ``_hypers.DOMAINS``."""
    domain = _core.LOSSES[loss]["targets"]
    if domain != "power":
        return domain
    return "real" if parameter <= 0 else "nonnegative" if parameter < 2 else "positive"


def rule_and_hypers(given: Any) -> tuple[str, list[float]]:
    """Split the parameter `optimizer` into a rule and the values of its hyper-parameters."""
    if isinstance(given, str):
        return given, hyper_values(given, {})
    rule, settings = given if len(given) == 2 else (None, None)
    if (
        not isinstance(rule, str)
        or rule not in VECTOR_RULES
        or not isinstance(settings, dict)
        or "lr" in settings
    ):
        raise ValueError(
            f"optimizer must be one of {', '.join(VECTOR_RULES)}, or a pair of one and a dict of "
            f"its hyper-parameters other than lr (see eta0); got {given!r}"
        )
    return rule, hyper_values(rule, settings)


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


def validated(
    estimator: BaseEstimator, X: ArrayLike, y: ArrayLike, **options: Any
) -> tuple[Array, Array]:
    """Check X and y; whether X is finite shows in training, without reading it once more."""
    checked: tuple[Array, Array]
    with naming("X"):
        checked = validate_data(
            estimator,
            X,
            y,
            dtype=[np.float64, np.float32],
            order="C",
            ensure_all_finite=False,
            **options,
        )
    if checked[1].dtype.kind in "fc":
        assert_all_finite(checked[1], input_name="y", estimator_name=type(estimator).__name__)
    return checked


def validated_rows(estimator: BaseEstimator, X: ArrayLike) -> Array:
    """Check rows to predict for."""
    with naming("X"):
        rows: Array = validate_data(estimator, X, reset=False, dtype=[np.float64, np.float32])
    return rows


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
        # counting is several times faster than np.unique
        if high - low < 1024 and high <= np.iinfo(np.int64).max:
            found: Array = np.flatnonzero(np.bincount(y.astype(np.int64) - low)) + low
            return found.astype(y.dtype)
    return np.unique(y)


def row_weights(X: Array, given: ArrayLike | None) -> Array:
    """Sample weights, finite and not negative, of the dtype of X; ones for None."""
    with naming("sample_weight"):
        weights = _check_sample_weight(given, X, dtype=X.dtype, ensure_non_negative=True)
    return finite(weights, X.dtype, "sample_weight")


def starting_params(
    X: Array, n_problems: int, coef: ArrayLike | None, intercept: ArrayLike | None
) -> Array:
    """Parameters to start from, (n_problems, n_features + 1): zeros, or what is given."""
    params = np.zeros((n_problems, X.shape[1] + 1), X.dtype)
    for name, given, part in (
        ("coef_init", coef, params[:, :-1]),
        ("intercept_init", intercept, params[:, -1]),
    ):
        if given is None:
            continue
        start = finite(given, X.dtype, name)
        if start.shape != part.shape and (n_problems > 1 or start.size != part.size):
            raise ValueError(
                f"{name} must be of shape {part.shape}, as the data has it; got {start.shape}"
            )
        part[...] = start.reshape(part.shape)
    return params
