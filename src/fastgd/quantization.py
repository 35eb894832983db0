"""Training for 8 and 4 bits, and running in integers.

Weights and inputs of layers become codes of 8 or 4 bits. `quantize` makes a `QuantizedNetwork` of a
trained model (post-training quantisation). `prepare` makes a network that is trained with weights
and inputs as the codes have them, which `convert` then quantises (quantisation-aware training).
Also the parts they are made of: `fake_quantize` and its
gradients, with the numerics of torch; observers, which choose ranges; `encode` and `decode`.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._hypers import Array
from ._quant_arrays import (
    Codes,
    codes_of,
    decode,
    encode,
    fake_quantize,
    fake_quantize_grad,
    learned_step_grad,
    pack_int4,
    scale_and_zero_point,
    unpack_int4,
)
from ._quant_models import Described, described, network_of
from ._quant_network import QuantizedDense, QuantizedNetwork, quantized_dense
from ._quant_observers import (
    OBSERVERS,
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    Observer,
    PercentileObserver,
    observer_of,
)
from ._quant_prepared import Plan, PreparedNetwork

__all__ = [
    "OBSERVERS",
    "Codes",
    "MSEObserver",
    "MinMaxObserver",
    "MovingAverageObserver",
    "Observer",
    "PercentileObserver",
    "PreparedNetwork",
    "QuantizedDense",
    "QuantizedNetwork",
    "convert",
    "decode",
    "encode",
    "fake_quantize",
    "fake_quantize_grad",
    "learned_step_grad",
    "pack_int4",
    "prepare",
    "quantize",
    "scale_and_zero_point",
    "unpack_int4",
]

_ROWS = 1024  # that an observer sees at a time


def quantize(
    model: Any,
    X: ArrayLike,
    *,
    bits: int = 8,
    activation_bits: int | None = None,
    per_channel: bool = True,
    symmetric: bool = True,
    activation_symmetric: bool = False,
    observer: Any = "minmax",
    weight_observer: Any = "minmax",
) -> QuantizedNetwork:
    """Quantise a trained model: ranges of weights from the weights, those of inputs from rows.

    Parameters
    ----------
    model : fastgd.nn.Network or fitted estimator
        A trained network, a multilayer perceptron, or a linear model without hashing. It stays as
        it is. Batch normalization becomes part of scales and biases.
    X : array-like or CSR matrix of shape (n_rows, n_inputs)
        Rows like those to come: some hundreds are enough.
    bits : int, default=8
        Of the weights' codes, from 2 to 8.
    activation_bits : int, default=None
        Of the codes of layers' inputs, from 2 to 8; None for 8.
    per_channel : bool, default=True
        Whether each output's weights have a scale of their own.
    symmetric : bool, default=True
        Whether the weights' code of 0 is 0.
    activation_symmetric : bool, default=False
        Whether the inputs' code of 0 is that in the middle.
    observer : {"minmax", "moving_average", "percentile", "mse"} or tuple, default="minmax"
        What chooses the range of each layer's input: a name, or a name and a dict of its class's
        arguments, as ``("percentile", {"percentile": 99.9})``.
    weight_observer : as observer, default="minmax"
        The same of weights.

    Returns
    -------
    QuantizedNetwork

    Raises
    ------
    TypeError, ValueError
        An argument cannot be used; it is named.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from fastgd.linear_model import LogisticRegression
    >>> X, y = load_digits(return_X_y=True)
    >>> model = LogisticRegression(C=0.01).fit(X, y)
    >>> small = quantize(model, X[:500])
    >>> bool(abs(model.score(X, y) - (small.predict(X) == y).mean()) < 0.005)
    True
    """
    about = described(model)
    inputs = _codes("activation_bits", activation_bits or 8, activation_symmetric, signed=False)
    weights = _codes("bits", bits, symmetric, signed=True)
    ranges = [seen.scale_and_zero_point(inputs) for seen in _calibrated(about, X, observer)]
    layers = []
    for layer, input_range in zip(about.layers, ranges, strict=True):
        seen = observer_of(weight_observer, 1 if per_channel else None)
        seen.observe(np.ascontiguousarray(layer.weight, np.float32))
        weight_range = seen.scale_and_zero_point(weights)
        layers.append(quantized_dense(layer, weight_range, input_range, weights, inputs))
    return QuantizedNetwork(layers, about.link, about.classes)


def prepare(
    model: Any,
    X: ArrayLike,
    *,
    bits: int = 8,
    activation_bits: int | None = None,
    per_channel: bool = True,
    symmetric: bool = True,
    activation_symmetric: bool = False,
    observer: Any = "moving_average",
    averaging_constant: float = 0.01,
    learn_scales: bool = False,
    weight_observer: Any = None,
) -> PreparedNetwork:
    """Return a copy of a model that is trained as it will be quantised: weights and inputs faked.

    Parameters
    ----------
    model : fastgd.nn.Network or fitted estimator
        A network, trained or not; a multilayer perceptron; or a linear model with a loss of
        networks: "log_loss", "multinomial" or one of regression. It stays as it is.
    X : array-like or CSR matrix of shape (n_rows, n_inputs)
        Rows like those of training: where the ranges of the layers' inputs begin.
    bits, activation_bits, per_channel, symmetric, activation_symmetric
        As of `quantize`.
    observer : str or tuple, default="moving_average"
        As of `quantize`. The ranges of "moving_average" go on with the batches of training; those
        of others stay.
    averaging_constant : float, default=0.01
        Weight of a batch in the moving averages.
    learn_scales : bool, default=False
        Whether scales of weights, and of layers' inputs but X, are parameters: learned step size
        quantization (LSQ). An optimizer over ``parameters`` trains them, too.
    weight_observer : str or tuple, default=None
        Where learned scales of weights begin; None for "mse". Those that are not learned follow the
        range of the weights: "minmax".

    Returns
    -------
    PreparedNetwork
        To be trained, then given to `convert`.

    References
    ----------
    Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko (2018), Quantization and training of
    neural networks for efficient integer-arithmetic-only inference, CVPR, section 3. Esser,
    McKinstry, Bablani, Appuswamy, Modha (2020), Learned step size quantization, ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.nn import Dense, Network
    >>> from fastgd.optim import Adam
    >>> X = np.random.default_rng(0).uniform(-1, 1, (512, 1)).astype(np.float32)
    >>> y = np.sin(3 * X)
    >>> net = Network(1, [Dense(32, "relu"), Dense(1)], rng=0)
    >>> opt = Adam(net.parameters, lr=0.01)
    >>> for _ in range(50):
    ...     loss = net.train_epoch(opt, X, y)
    >>> prepared = prepare(net, X, bits=4, learn_scales=True)
    >>> opt = Adam(prepared.param_groups(lr=0.003))
    >>> for _ in range(50):
    ...     loss = prepared.train_epoch(opt, X, y)
    >>> both = convert(prepared), quantize(net, X, bits=4)
    >>> errors = [abs(small.predict(X) - y[:, 0]).mean() for small in both]
    >>> bool(errors[0] < errors[1] / 2)
    True
    """
    inputs = _codes("activation_bits", activation_bits or 8, activation_symmetric, signed=False)
    weights = _codes("bits", bits, symmetric, signed=True)
    follows = observer if isinstance(observer, str) else observer[0]
    if not 0 < averaging_constant <= 1:
        raise ValueError(
            f"averaging_constant must be above 0 and at most 1; got {averaging_constant}"
        )
    if not learn_scales and weight_observer not in (None, "minmax"):
        raise ValueError(
            'weight_observer must be None or "minmax" for scales that are not learned; got '
            f"{weight_observer!r}"
        )
    network, classes = network_of(model)
    averaging = averaging_constant if follows == "moving_average" else 0.0
    plan = Plan(weights, inputs, per_channel, averaging, learn_scales)
    prepared = PreparedNetwork(network, plan, classes)
    for i, seen in enumerate(_calibrated(described(network), X, observer)):
        prepared.buffers[f"layers.{i}.input_range"][...] = np.ravel(seen.range(inputs))
        prepared.set_grid(i, "input", *seen.scale_and_zero_point(inputs))
    for i, layer in enumerate(described(network).layers):
        seen = observer_of(weight_observer or ("mse" if learn_scales else "minmax"),
                           1 if per_channel else None)  # fmt: skip
        seen.observe(np.ascontiguousarray(layer.weight, np.float32))
        prepared.set_grid(i, "weight", *seen.scale_and_zero_point(weights))
    return prepared


def convert(prepared: PreparedNetwork) -> QuantizedNetwork:
    """Quantise a prepared network with the scales that it was trained with.

    Batch normalization becomes part of the scales and biases, exactly.

    Parameters
    ----------
    prepared : PreparedNetwork
        From `prepare`, trained. It stays as it is.

    Returns
    -------
    QuantizedNetwork
        Predicts what `prepared` does, up to rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.nn import Dense, Network
    >>> X = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    >>> prepared = prepare(Network(5, [Dense(16, "relu"), Dense(1)], rng=0), X)
    >>> bool(np.allclose(convert(prepared).predict_raw(X), prepared.predict_raw(X), atol=1e-4))
    True
    """
    if not isinstance(prepared, PreparedNetwork):
        raise TypeError(f"prepared must be a network from prepare; got {type(prepared).__name__}")
    about, plan = described(prepared), prepared.plan
    layers = []
    for i, layer in enumerate(about.layers):
        scale, zero = prepared.grid(i, "weight")
        if not plan.learns:  # those of the last batch are of the weights before its step
            seen = MinMaxObserver(1 if plan.per_channel else None)
            seen.observe(np.ascontiguousarray(layer.weight))
            scale, zero = seen.scale_and_zero_point(plan.weights)
        layers.append(
            quantized_dense(
                layer, (scale, zero), prepared.grid(i, "input"), plan.weights, plan.inputs
            )
        )
    return QuantizedNetwork(layers, about.link, about.classes)


def _calibrated(about: Described, X: Any, observer: Any) -> list[Observer]:
    """Show each layer's input of rows X to an observer."""
    found = []
    for x in about.inputs(_rows(X)):
        seen = observer_of(observer)
        for start in range(0, x.shape[0], _ROWS):
            seen.observe(_dense(x[start : start + _ROWS]))
        found.append(seen)
    return found


def _codes(name: str, bits: Any, symmetric: bool, signed: bool) -> Codes:
    if not (isinstance(bits, int) and 2 <= bits <= 8):
        raise ValueError(f"{name} must be an integer from 2 to 8; got {bits!r}")
    return codes_of(bits, symmetric, signed)


def _rows(X: Any) -> Any:
    rows = X.tocsr() if hasattr(X, "tocsr") else np.asarray(X)
    if rows.ndim != 2 or rows.shape[0] == 0:
        raise ValueError(f"X must have the shape (n_rows, n_inputs), n_rows > 0; got {rows.shape}")
    return rows


def _dense(x: Any) -> Array:
    array: Array = np.ascontiguousarray(x.toarray() if hasattr(x, "toarray") else x, np.float32)
    return array
