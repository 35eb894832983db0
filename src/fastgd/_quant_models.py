"""Models, as what quantises them sees them: layers of arrays, a link, labels."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from . import _core
from ._hypers import Array


class FloatLayer(NamedTuple):
    """A layer before it is quantised: x W + b, a factor and a shift, norm, activation, skip."""

    weight: Array  # (n_inputs, n_outputs)
    bias: Array
    factor: Array | None = None  # of a batch normalization, (n_outputs,)
    shift: Array | None = None
    rest: Mapping[str, Any] = MappingProxyType({})  # further attributes of a QuantizedDense


class Described(NamedTuple):
    """A model that can be quantised."""

    layers: list[FloatLayer]
    link: str
    classes: Array | None
    inputs: Callable[[Any], list[Any]]  # of each layer, of rows X


def described(model: Any) -> Described:
    """Take a model apart; raise if it is none that can be quantised."""
    if hasattr(model, "coef_") and hasattr(model, "intercept_"):
        return _described_linear(model)
    raise TypeError(f"model must be a fitted linear model of fastgd; got {type(model).__name__}")


def _described_linear(model: Any) -> Described:
    if getattr(model, "_hashed", None) is not None:
        raise ValueError("model must not hash its columns; got one with hashing or interactions")
    coef = model.coef_ if isinstance(model.coef_, np.ndarray) else model.coef_.toarray()
    weight = np.atleast_2d(coef).T
    bias = np.broadcast_to(model.intercept_, weight.shape[1])
    classes = getattr(model, "classes_", None)
    return Described([FloatLayer(weight, bias)], _link_of(model), classes, lambda X: [X])


def _link_of(model: Any) -> str:
    """Link of a linear model: what makes probabilities or means of its products."""
    loss = getattr(model, "loss", "squared_error")  # of Ridge; of LogisticRegression its own
    classes = getattr(model, "classes_", None)
    if classes is None:
        return "log" if loss in _core.LOSSES and _core.LOSSES[loss]["link"] == "log" else "identity"
    if loss == "multinomial" or not hasattr(model, "loss"):
        return "softmax" if len(classes) > 2 else "logit"
    return "logit" if loss == "log_loss" else "identity"
