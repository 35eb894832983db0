"""Networks to scikit-learn and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._exchange import ACTIVATIONS, network_of, of_layer
from .datasets import require
from .nn import Dense, Network


def to_sklearn(net: Network, classes: Any, params: dict[str, Any]) -> Any:
    """Return a network as one of scikit-learn's: `Exchange.to_sklearn`."""
    neural_network = require("sklearn.neural_network", extra="sklearn")
    activation = _plain_activation(net)
    hidden = tuple(layer.n_outputs for layer in net.layers[:-1])
    tensors = [of_layer(net, number) for number in range(len(net.layers))]
    weights, biases = ([one[name].copy() for one in tensors] for name in ("weight", "bias"))
    if net.loss in ("cross_entropy", "log_loss"):
        model = neural_network.MLPClassifier(
            hidden_layer_sizes=hidden, activation=activation, **params
        )
        if net.loss == "cross_entropy" and net.n_outputs == 2:
            weights[-1] = np.diff(weights[-1], axis=1)
            biases[-1] = np.diff(biases[-1])
        _set_classes(model, net, classes)
    elif classes is not None:
        raise ValueError(f"classes must be None with the loss {net.loss!r}, got {classes!r}")
    else:
        made = {"hidden_layer_sizes": hidden, "activation": activation, "loss": net.loss}
        model = neural_network.MLPRegressor(**made, **params)
    _set_fitted(model, net, weights, biases)
    return model


SKLEARN_OUTPUTS = {  # of scikit-learn's last layer, and what the loss is called here
    "softmax": "cross_entropy",
    "logistic": "log_loss",
    "identity": "squared_error",
    "exp": "poisson",
}


def _plain_activation(net: Network) -> str:
    """Return the activation of all hidden layers, if scikit-learn can have such a network."""
    if net.loss not in SKLEARN_OUTPUTS.values():
        losses = ", ".join(SKLEARN_OUTPUTS.values())
        raise ValueError(f"loss must be one of {losses} for scikit-learn, got {net.loss!r}")
    for number, layer in enumerate(net.layers):
        if layer.norm or layer.skip:
            raise ValueError(
                f"layers must have neither norm nor skip for scikit-learn, got layers[{number}] = "
                f"{layer}"
            )
    *hidden, last = (layer.activation for layer in net.layers)
    if last != "identity":
        raise ValueError(f"the last activation must be identity for scikit-learn, got {last!r}")
    activation = hidden[0] if hidden else "identity"
    if set(hidden) - {activation} or not ACTIVATIONS[activation].sklearn:
        names = ", ".join(name for name, row in ACTIVATIONS.items() if row.sklearn)
        raise ValueError(
            f"hidden layers must have one activation of {names} for scikit-learn, got {hidden}"
        )
    return activation


def _set_classes(model: Any, net: Network, classes: Any) -> None:
    """Tell a classifier its classes."""
    count = 2 if net.n_outputs == 1 else net.n_outputs
    names = np.arange(count) if classes is None else np.asarray(classes)
    if names.shape != (count,) or (np.unique(names) != names).any():
        raise ValueError(f"classes must be {count} different ones in order, got {classes!r}")
    many_labels = net.loss == "log_loss" and net.n_outputs > 1
    if many_labels and classes is not None:
        raise ValueError(f"classes must be None with many labels, got {classes!r}")
    binarizer = require("sklearn.preprocessing", extra="sklearn").LabelBinarizer()
    model._label_binarizer = binarizer.fit(np.eye(count, dtype=int) if many_labels else names)
    model.classes_ = model._label_binarizer.classes_


def _set_fitted(model: Any, net: Network, weights: list[Any], biases: list[Any]) -> None:
    """Give an estimator what scikit-learn's has at the start of its first epoch."""
    outputs = {loss: name for name, loss in SKLEARN_OUTPUTS.items()}
    two_classes = net.loss == "cross_entropy" and net.n_outputs == 2
    model.coefs_, model.intercepts_ = weights, biases
    model._best_coefs = [w.copy() for w in weights]
    model._best_intercepts = [b.copy() for b in biases]
    model.out_activation_ = "logistic" if two_classes else outputs[net.loss]
    model.n_features_in_ = net.n_inputs
    model.n_layers_ = len(net.layers) + 1
    model.n_outputs_ = len(biases[-1])
    model.n_iter_ = model.t_ = model._no_improvement_count = 0
    model.loss_curve_, model.loss_, model.best_loss_ = [], np.inf, np.inf
    model.validation_scores_ = model.best_validation_score_ = None


def from_sklearn(cls: Any, model: Any, rng: Any) -> Any:
    """Return a network that predicts like scikit-learn's: `Exchange.from_sklearn`."""
    require("sklearn.utils.validation", extra="sklearn").check_is_fitted(model, "coefs_")
    last = len(model.coefs_) - 1
    layers = [
        (
            Dense(len(bias), "identity" if number == last else model.activation),
            {"weight": weight, "bias": bias},
        )
        for number, (weight, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True))
    ]
    return network_of(cls, layers, loss=SKLEARN_OUTPUTS[model.out_activation_], rng=rng)
