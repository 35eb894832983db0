"""Training for 8 and 4 bits, and running in integers.

Weights and inputs of layers become codes of 8 or 4 bits: `quantize` makes a `QuantizedNetwork` of a
trained model (post-training quantisation). Also the parts it is made of: `fake_quantize` and its
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
from ._quant_models import FloatLayer, described
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

__all__ = [
    "OBSERVERS",
    "Codes",
    "MSEObserver",
    "MinMaxObserver",
    "MovingAverageObserver",
    "Observer",
    "PercentileObserver",
    "QuantizedDense",
    "QuantizedNetwork",
    "decode",
    "encode",
    "fake_quantize",
    "fake_quantize_grad",
    "learned_step_grad",
    "pack_int4",
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
    model : fitted linear model
        Of `fastgd.linear_model`, without hashing. It stays as it is.
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
    layers = []
    for layer, x in zip(about.layers, about.inputs(_rows(X)), strict=True):
        seen = observer_of(observer)
        for start in range(0, x.shape[0], _ROWS):
            seen.observe(_dense(x[start : start + _ROWS]))
        layers.append(
            _quantized(
                layer,
                seen.scale_and_zero_point(inputs),
                weights,
                activation_bits or 8,
                bits,
                observer_of(weight_observer, 1 if per_channel else None),
            )
        )
    return QuantizedNetwork(layers, about.link, about.classes)


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


def _quantized(
    layer: FloatLayer,
    input_range: tuple[Array, Array],
    weights: Codes,
    input_bits: int,
    weight_bits: int,
    observer: Observer,
) -> QuantizedDense:
    """Quantise one layer; a batch normalization's factor goes into the scale of its codes."""
    weight = np.ascontiguousarray(layer.weight, np.float32)
    observer.observe(weight)
    made = quantized_dense(
        weight,
        layer.bias,
        observer.scale_and_zero_point(weights),
        input_range,
        weight_bits=weight_bits,
        input_bits=input_bits,
        symmetric=weights.symmetric,
        **layer.rest,
    )
    if layer.factor is None or layer.shift is None:
        return made
    return made.folded(layer.factor, layer.shift)
