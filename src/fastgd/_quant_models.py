"""Models, as what quantises them sees them: layers of arrays, a link, labels."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from . import _core
from ._hypers import Array
from .nn import Dense, Network


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
    if isinstance(model, Network):
        return _described_network(model, getattr(model, "classes", None))
    if isinstance(found := getattr(model, "network_", None), Network):
        return _described_network(found, _labels(model))
    if hasattr(model, "coef_") and hasattr(model, "intercept_"):
        return _described_linear(model)
    raise TypeError(
        "model must be a fastgd.nn.Network, or a fitted estimator of fastgd; got "
        f"{type(model).__name__}"
    )


def _labels(model: Any) -> Array | None:
    """Return labels of which one is predicted: of several at once each output is its own."""
    classes = getattr(model, "classes_", None)
    return None if getattr(model, "_kind", None) == "multilabel" else classes


def network_of(model: Any) -> tuple[Network, Array | None]:
    """Return a network that does what a model does, and its labels or None.

    That of a linear model is made anew: one layer with its weights.
    """
    if isinstance(model, Network):
        return model, None
    if isinstance(found := getattr(model, "network_", None), Network):
        return found, _labels(model)
    about = described(model)
    layer, loss = about.layers[0], _network_loss(model, about)
    n_inputs, n_outputs = layer.weight.shape
    network = Network(n_inputs, [Dense(n_outputs)], initializer="zeros", rng=0, **loss)
    network.parameters[0][...], network.parameters[1][...] = layer.weight, layer.bias
    return network, about.classes


def _network_loss(model: Any, about: Described) -> dict[str, Any]:
    """Return loss and its parameter with which a network is trained as a linear model is."""
    if about.link in ("softmax", "logit"):
        return {"loss": "cross_entropy" if about.link == "softmax" else "log_loss"}
    loss = getattr(model, "loss", "squared_error")
    if _core.LOSSES[loss]["task"] == "classification":
        raise TypeError(
            "model must have a loss that networks are trained with, as log_loss or one of "
            f"regression; got loss={loss!r}"
        )
    return {"loss": loss, "loss_parameter": getattr(model, "loss_parameter", None)}


def _described_network(network: Network, classes: Array | None) -> Described:
    """Take a network apart. Batch normalization is a factor and a shift, of running statistics."""
    arrays = dict(zip(network.names, network.parameters, strict=True)) | network.buffers
    layers = []
    for i, layer in enumerate(network.layers):
        mine = {k.rpartition(".")[2]: a for k, a in arrays.items() if k.startswith(f"layers.{i}.")}
        rest: dict[str, Any] = {
            "activation": layer.activation,
            "activation_parameter": layer.parameter,
            "skip": layer.skip,
        }
        factor = shift = None
        if layer.norm == "batch":
            spread = np.sqrt(mine["running_var"].astype(float) + 1e-5)
            factor = mine["gamma"] / spread
            shift = mine["beta"] - mine["running_mean"] * factor
        elif layer.norm == "layer":
            rest |= {k: np.array(mine[k], np.float32) for k in ("gamma", "beta")}
        layers.append(FloatLayer(mine["weight"], mine["bias"], factor, shift, rest))
    return Described(layers, network._link, classes, lambda X: _inputs(network, X))


def _inputs(network: Network, X: Any) -> list[Any]:
    """Return the inputs of each layer: what the layers before it predict."""
    rows = X.astype(network.dtype)
    if isinstance(rows, np.ndarray):
        rows = np.ascontiguousarray(rows)
    found = [rows]
    for i in range(1, len(network.layers)):
        front = Network(network.n_inputs, network.layers[:i], dtype=network.dtype)
        saved = network.state_dict()
        front.load_state_dict({name: saved[name] for name in front.state_dict()})
        found.append(front.predict_raw(rows))
    return found


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
