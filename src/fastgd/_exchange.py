"""Networks to and from other libraries: what `fastgd.nn.Network` has of them, and what they share.

What a layer is elsewhere stands in one table, `ACTIVATIONS`, and for each library in a file beside
this one. Everything is copied. The libraries are loaded when they are needed: extras ``[torch]``,
``[onnx]`` and ``[sklearn]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias, cast

import numpy as np

if TYPE_CHECKING:
    from .nn import Dense, Network

Tensors: TypeAlias = dict[str, np.ndarray[Any, Any]]

EPS = 1e-5  # of normalisation, everywhere
MOMENTUM = 0.1  # of running statistics, in torch's sense


class Activation(NamedTuple):
    """What others call an activation; its parameter's name in torch; one of scikit-learn's."""

    torch: str
    onnx: str
    parameter: str = ""
    sklearn: bool = False


ACTIVATIONS = {
    "identity": Activation("Identity", "Identity", sklearn=True),
    "relu": Activation("ReLU", "Relu", sklearn=True),
    "leaky_relu": Activation("LeakyReLU", "LeakyRelu", "negative_slope"),
    "elu": Activation("ELU", "Elu", "alpha"),
    "gelu": Activation("GELU", "Gelu"),
    "silu": Activation("SiLU", "Sigmoid"),  # times what goes in
    "tanh": Activation("Tanh", "Tanh", sklearn=True),
    "logistic": Activation("Sigmoid", "Sigmoid", sklearn=True),
    "softplus": Activation("Softplus", "Softplus"),
}


def of_layer(net: Network, number: int) -> Tensors:
    """Return a layer's parameters and buffers, by the last part of their names."""
    start = f"layers.{number}."
    tensors = {**dict(zip(net.names, net.parameters, strict=True)), **net.buffers}
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def network_of(cls: Any, layers: Sequence[tuple[Dense, Tensors]], **options: Any) -> Any:
    """Make a network of layers and the values of their tensors."""
    first = layers[0][1]["weight"]
    only = [layer for layer, _ in layers]
    net = cls(first.shape[0], only, dtype=first.dtype, initializer="zeros", **options)
    for number, (_, tensors) in enumerate(layers):
        for name, array in of_layer(net, number).items():
            array[...] = tensors[name]
    return net


class Exchange:
    """The methods of a network that lead to other libraries and back."""

    def _as_others_have_it(self) -> Network:
        """Return the network that is copied; a kind that others have not raises TypeError."""
        return cast("Network", self)

    def to_torch(self) -> Any:
        """Copy the network to a ``torch.nn.Sequential``, in evaluation mode.

        Returns
        -------
        torch.nn.Sequential
            Of Linear, BatchNorm1d or LayerNorm, the activation, and Dropout; a layer with a skip is
            a ``fastgd.torch.Skip`` of those. Its output is that of ``predict_raw``, which is what
            torch's losses take: no softmax and no sigmoid at the end.

        Raises
        ------
        DataError
            Without torch; the message names the extra.

        Examples
        --------
        >>> from fastgd.nn import Dense, Network
        >>> net = Network(4, [Dense(8, "relu"), Dense(3)], loss="cross_entropy")
        >>> net.to_torch()  # doctest: +SKIP
        Sequential(
          (0): Linear(in_features=4, out_features=8, bias=True)
          (1): ReLU()
          (2): Linear(in_features=8, out_features=3, bias=True)
        )
        """
        from ._exchange_torch import to_torch

        return to_torch(self._as_others_have_it())

    @classmethod
    def from_torch(cls, module: Any, **options: Any) -> Self:
        """Copy a ``torch.nn.Sequential`` to a network that predicts the same.

        Parameters
        ----------
        module : torch.nn.Sequential
            Of Linear, each followed by at most one of BatchNorm1d and LayerNorm, one activation and
            one Dropout, in this order; of ``fastgd.torch.Skip`` and further Sequentials of such.
            Of float32 or float64. A Linear without bias gets one of zeros, which is trained like
            others; likewise gamma and beta.
        **options
            `loss`, `loss_parameter`, `label_smoothing` and `rng` of the network.

        Returns
        -------
        Network

        Raises
        ------
        DataError
            Without torch; the message names the extra.
        ValueError
            For what a network has not; the message names the module.

        Examples
        --------
        >>> import torch  # doctest: +SKIP
        >>> module = torch.nn.Sequential(torch.nn.Linear(4, 3))  # doctest: +SKIP
        >>> Network.from_torch(module, loss="cross_entropy").layers  # doctest: +SKIP
        (Dense(n_outputs=3, activation='identity', ...),)
        """
        from ._exchange_torch import from_torch

        made: Self = from_torch(cls, module, options)
        return made

    def to_onnx(self, path: str | PathLike[str], *, link: bool = False) -> None:
        """Write the network as an ONNX file, of opset 20.

        It has one input, ``X`` (n, n_inputs), and one output, ``predictions`` (n, n_outputs), both
        of the network's dtype; n is free. It predicts with running statistics, without dropout.
        Activations' parameters, like all settings of operators there, are float32, so that
        predictions in float64 agree to about 1e-8.

        Parameters
        ----------
        path : str or path-like
            The file; replaced if it exists.
        link : bool, default=False
            Whether to end with the link, a Softmax, Sigmoid or Exp, as ``predict``; else the
            predictions are those of ``predict_raw``.

        Raises
        ------
        DataError
            Without onnx; the message names the extra.

        Examples
        --------
        >>> from fastgd.nn import Dense, Network
        >>> net = Network(4, [Dense(8, "relu"), Dense(3)], loss="cross_entropy")
        >>> net.to_onnx("net.onnx", link=True)  # doctest: +SKIP
        """
        from ._exchange_onnx import to_onnx

        to_onnx(self._as_others_have_it(), path, link)

    def to_sklearn(self, *, classes: Any = None, **params: Any) -> Any:
        """Copy the network to scikit-learn's MLPClassifier or MLPRegressor, fitted.

        Its hidden layers must have one activation, identity, logistic, tanh or relu, and neither
        norms nor skips. Dropout, which predictions have not, is left out.

        Parameters
        ----------
        classes : array-like, optional
            What a classifier's classes are called, sorted. By default, the numbers of the outputs.
        **params
            Further parameters of scikit-learn's estimator, such as ``solver``, for `partial_fit`.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or MLPRegressor
            With the loss "cross_entropy" a classifier, whose single output for two classes is the
            difference of the two; with "log_loss" a classifier of two classes if there is one
            output, else of many labels; with "squared_error" and "poisson" a regressor.

        Raises
        ------
        DataError
            Without scikit-learn; the message names the extra.
        ValueError
            For what scikit-learn's networks have not.

        Examples
        --------
        >>> from fastgd.nn import Dense, Network
        >>> net = Network(4, [Dense(8, "relu"), Dense(3)], loss="cross_entropy")
        >>> net.to_sklearn(classes=["a", "b", "c"], solver="sgd")
        MLPClassifier(hidden_layer_sizes=(8,), solver='sgd')
        """
        from ._exchange_sklearn import to_sklearn

        return to_sklearn(self._as_others_have_it(), classes, params)

    @classmethod
    def from_sklearn(cls, model: Any, *, rng: Any = None) -> Self:
        """Copy scikit-learn's MLPClassifier or MLPRegressor to a network that predicts the same.

        Parameters
        ----------
        model : sklearn.neural_network.MLPClassifier or MLPRegressor
            A fitted one. What its classes are called is not the network's.
        rng : None, int, Generator or RandomState, default=None
            Of the network.

        Returns
        -------
        Network
            With the loss that it was fitted with, and its dtype. Two classes are one output.

        Raises
        ------
        DataError
            Without scikit-learn; the message names the extra.
        sklearn.exceptions.NotFittedError
            If the model has not been fitted.

        Examples
        --------
        >>> from fastgd.nn import Dense, Network
        >>> net = Network(4, [Dense(8, "relu"), Dense(1)], loss="log_loss", rng=0)
        >>> Network.from_sklearn(net.to_sklearn()).loss
        'log_loss'
        """
        from ._exchange_sklearn import from_sklearn

        made: Self = from_sklearn(cls, model, rng)
        return made
