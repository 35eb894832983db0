"""Networks of 8-bit codes: what they are, what they predict, files."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import _core
from ._checkpoint import _replace, _safetensors
from ._hypers import Array
from ._quant_arrays import Codes, encode, pack_int4, unpack_int4
from ._quant_models import FloatLayer

__all__ = ["QuantizedDense", "QuantizedNetwork", "quantized_dense"]

_FORMAT = 1
_BLOCK = 8192  # rows of a sparse matrix that are made dense at a time


@dataclass(frozen=True, eq=False)
class QuantizedDense:
    """A layer of a `QuantizedNetwork`: codes of its input, of its weights, and what comes after.

    Attributes
    ----------
    weight : ndarray of shape (n_inputs, n_outputs), int8
        Codes.
    weight_scale : ndarray of shape (1,) or (n_outputs,), float32
        What a code counts; of a layer with batch normalization, folded into it.
    weight_zero : ndarray of shape (1,) or (n_outputs,), int8, or None
        The codes that stand for 0; None if all are 0.
    bias : ndarray of shape (n_outputs,), float32
        What is added.
    input_scale, input_zero : float, int
        Of the input's codes, which are from 0 to ``2**input_bits - 1``.
    input_bits, weight_bits : int
        From 2 to 8.
    activation : str
        As of ``fastgd.nn.Dense``.
    activation_parameter : float
        The activation's own; 0 if it has none.
    skip : bool
        Whether the input, as its codes have it, is added to the output.
    gamma, beta : ndarray of shape (n_outputs,), float32, or None
        Of a layer normalization.
    """

    weight: Array
    weight_scale: Array
    weight_zero: Array | None
    bias: Array
    input_scale: float
    input_zero: int
    input_bits: int = 8
    weight_bits: int = 8
    activation: str = "identity"
    activation_parameter: float = 0.0
    skip: bool = False
    gamma: Array | None = None
    beta: Array | None = None

    def dequantized(self) -> Array:
        """Return the weights that the codes stand for, float32 (n_inputs, n_outputs)."""
        zero = np.int32(0) if self.weight_zero is None else self.weight_zero.astype(np.int32)
        weights: Array = (self.weight.astype(np.int32) - zero).astype(np.float32)
        return weights * self.weight_scale

    def folded(self, factor: Array, shift: Array) -> QuantizedDense:
        """Return the layer with ``factor * output + shift`` in the place of its products' output.

        That of a batch normalization changes the scale of codes, not the codes: it is exact.
        """
        return replace(
            self,
            weight_scale=(self.weight_scale * factor).astype(np.float32),
            bias=(self.bias * factor + shift).astype(np.float32),
        )

    def _prepared(self) -> dict[str, Any]:
        """Return what C needs: ``_core.Int8Network``."""
        n_inputs, n_outputs = self.weight.shape
        zero = np.zeros(n_outputs, np.int32)
        if self.weight_zero is not None:
            zero += self.weight_zero
        sums = self.weight.sum(axis=0, dtype=np.int32)
        constant = (n_inputs * self.input_zero * zero - self.input_zero * sums).astype(np.int32)
        scale = np.float32(self.input_scale) * self.weight_scale
        return {
            "weight": np.ascontiguousarray(self.weight),
            "constant": constant,
            "weight_zero": zero if zero.any() else None,
            "scale": np.ascontiguousarray(np.broadcast_to(scale, n_outputs), np.float32),
            "bias": self.bias,
            "gamma": self.gamma,
            "beta": self.beta,
            "input_scale": self.input_scale,
            "input_zero": self.input_zero,
            "input_max": (1 << self.input_bits) - 1,
            "activation": _core.ACTIVATIONS[self.activation]["number"],
            "parameter": self.activation_parameter,
            "skip": self.skip,
            "epsilon": 1e-5,
        }


def quantized_dense(
    layer: FloatLayer,
    weight_grid: tuple[Array, Array],
    input_grid: tuple[Array, Array],
    weights: Codes,
    inputs: Codes,
) -> QuantizedDense:
    """Quantise a layer with these scales and zero points; fold its batch normalization."""
    scale, zero = (np.asarray(a) for a in weight_grid)
    axis = 1 if scale.size > 1 else None
    codes = encode(layer.weight, scale, zero, weights.qmin, weights.qmax, axis=axis)
    made = QuantizedDense(
        weight=codes,
        weight_scale=np.array(scale, np.float32).reshape(-1),
        weight_zero=np.array(zero, np.int8).reshape(-1) if np.any(zero) else None,
        bias=np.array(layer.bias, np.float32),
        input_scale=float(np.float32(np.asarray(input_grid[0]).item())),
        input_zero=int(np.asarray(input_grid[1]).item()),
        input_bits=inputs.qmax.bit_length(),
        weight_bits=(-weights.qmin).bit_length(),
        **layer.rest,
    )
    if layer.factor is None or layer.shift is None:
        return made
    return made.folded(layer.factor, layer.shift)


class QuantizedNetwork:
    """A network whose layers multiply 8-bit codes: made by `convert` and `quantize`.

    Sums of products are int32 and exact; what follows them is float32. Predictions have the same
    bits for any number of threads, and on every instruction set.

    Parameters
    ----------
    layers : list of QuantizedDense
        In order.
    link : {"identity", "log", "logit", "softmax"}, default="identity"
        What `predict` does with the outputs of the last layer.
    classes : array-like of shape (n_classes,), default=None
        Labels that `predict` gives; with one output, two.

    Attributes
    ----------
    layers : tuple of QuantizedDense
    link : str
    classes : ndarray or None
    n_inputs, n_outputs : int

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from fastgd.linear_model import LogisticRegression
    >>> from fastgd.quantization import quantize
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression().fit(X, y)
    >>> small = quantize(model, X)
    >>> bool(np.mean(small.predict(X) == model.predict(X)) > 0.97)
    True
    """

    def __init__(
        self, layers: list[QuantizedDense], link: str = "identity", classes: ArrayLike | None = None
    ) -> None:
        if link not in _core.LINKS:
            raise ValueError(f"link must be one of {', '.join(_core.LINKS)}; got {link!r}")
        self.layers, self.link = tuple(layers), link
        self._kernel = _core.Int8Network([layer._prepared() for layer in layers])
        self.n_inputs, self.n_outputs = self._kernel.n_inputs, self._kernel.n_outputs
        self.classes = None if classes is None else np.asarray(classes)
        if self.classes is not None and len(self.classes) != max(self.n_outputs, 2):
            raise ValueError(
                f"classes must hold {max(self.n_outputs, 2)} labels; got {len(self.classes)}"
            )

    def predict_raw(self, X: ArrayLike) -> Array:
        """Give the outputs of the last layer.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_rows, n_inputs)
            Rows; computed with in float32. A row with a NaN gets NaNs.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs), float32
            Before the link.
        """
        if hasattr(X, "tocsr"):
            rows = X.tocsr()
            blocks = range(0, max(rows.shape[0], 1), _BLOCK)
            return np.concatenate(
                [self.predict_raw(rows[i : i + _BLOCK].toarray()) for i in blocks]
            )
        array = np.ascontiguousarray(X, np.float32)
        if array.ndim != 2 or array.shape[1] != self.n_inputs:
            raise ValueError(f"X must have the shape (n_rows, {self.n_inputs}); got {array.shape}")
        out: Array = self._kernel.predict(array)
        return out

    def _linked(self, X: ArrayLike) -> Array:
        """Return the outputs after the link, with care for large ones."""
        raw = self.predict_raw(X)
        if self.link == "log":
            return np.exp(raw)
        if self.link in ("logit", "softmax"):
            from scipy import special  # which takes a while to load

            linked: Array = (
                special.expit(raw) if self.link == "logit" else special.softmax(raw, axis=1)
            )
            return linked
        return raw

    def predict(self, X: ArrayLike) -> Array:
        """Labels of classes; without classes the outputs after the link.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_rows, n_inputs)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Labels; means of one output; means or probabilities of several.
        """
        if self.classes is None:
            means = self._linked(X)
            return means[:, 0] if self.n_outputs == 1 else means
        raw = self.predict_raw(X)
        best = (raw[:, 0] > 0).astype(np.intp) if self.n_outputs == 1 else raw.argmax(axis=1)
        labels: Array = self.classes[best]
        return labels

    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of the classes, where the link gives some.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_rows, n_inputs)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Of several logistic outputs, normalised.
        """
        if self.link not in ("logit", "softmax"):
            raise TypeError(f"probabilities need the link logit or softmax; got {self.link}")
        p = self._linked(X)
        if self.n_outputs == 1:
            return np.column_stack([1 - p, p])
        return p / p.sum(axis=1, keepdims=True) if self.link == "logit" else p

    # ---- files -----------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a safetensors file, codes of 4 bits two a byte; extra [safetensors].

        The file is written beside `path` and put in its place: it is whole at any moment.

        Parameters
        ----------
        path : path-like
            Where to.

        Raises
        ------
        ImportError
            Without safetensors.
        TypeError
            If the labels of the classes are neither numbers nor strings.

        Examples
        --------
        >>> import numpy as np, pathlib, tempfile
        >>> from fastgd.quantization import QuantizedNetwork, quantize
        >>> from fastgd.linear_model import Ridge
        >>> X = np.random.default_rng(0).normal(size=(50, 3))
        >>> small = quantize(Ridge().fit(X, X[:, 0]), X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     small.save(pathlib.Path(folder) / "small.safetensors")
        ...     same = QuantizedNetwork.load(pathlib.Path(folder) / "small.safetensors")
        >>> bool((same.predict(X) == small.predict(X)).all())
        True
        """
        arrays: dict[str, Array] = {}
        rows = [_taken_apart(layer, f"{i}.", arrays) for i, layer in enumerate(self.layers)]
        about = {"format": _FORMAT, "link": self.link, "layers": rows}
        if self.classes is not None:
            if self.classes.dtype.kind not in "biufU":
                raise TypeError(
                    f"classes must be numbers or strings to be saved; got {self.classes.dtype}"
                )
            about["classes"] = [self.classes.tolist(), self.classes.dtype.str]
        text = json.dumps(about, separators=(",", ":"))
        _replace(Path(path), _safetensors().numpy.save(arrays, metadata={"int8": text}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> QuantizedNetwork:
        """Read what `save` has written.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        QuantizedNetwork

        Raises
        ------
        ImportError
            Without safetensors.
        OSError, ValueError
            If the file cannot be read, or is something else.
        """
        safetensors = _safetensors()
        try:
            with safetensors.safe_open(os.fspath(path), framework="np") as file:
                about = json.loads((file.metadata() or {})["int8"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if about["format"] != _FORMAT:
                raise ValueError(f"format {about['format']!r}")
            layers = [_put_together(row, f"{i}.", arrays) for i, row in enumerate(about["layers"])]
            classes = about.get("classes")
            labels = None if classes is None else np.array(classes[0], classes[1])
            return cls(layers, about["link"], labels)
        except (safetensors.SafetensorError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"path must be a file of QuantizedNetwork.save; got {path} ({error})"
            ) from error


_ARRAYS = ("weight", "weight_scale", "weight_zero", "bias", "gamma", "beta")
_NAMES = ("w", "s", "z", "b", "g", "e")  # in files, whose headers are to be short
_DEFAULTS = {
    name: field.default
    for name, field in QuantizedDense.__dataclass_fields__.items()
    if name not in _ARRAYS
}


def _taken_apart(layer: QuantizedDense, prefix: str, arrays: dict[str, Array]) -> dict[str, Any]:
    """Put a layer's arrays into `arrays`; return what else is to be known of it."""
    for name, short in zip(_ARRAYS, _NAMES, strict=True):
        array = getattr(layer, name)
        if name == "weight" and layer.weight_bits <= 4:
            array = pack_int4(array)
        if array is not None:
            arrays[prefix + short] = np.ascontiguousarray(array)
    rest = {k: getattr(layer, k) for k, v in _DEFAULTS.items() if getattr(layer, k) != v}
    return rest | {"shape": list(layer.weight.shape)} if layer.weight_bits <= 4 else rest


def _put_together(row: dict[str, Any], prefix: str, arrays: dict[str, Array]) -> QuantizedDense:
    """Undo ``_taken_apart``."""
    found = {name: arrays.get(prefix + short) for name, short in zip(_ARRAYS, _NAMES, strict=True)}
    rest = dict(row)
    if "shape" in rest:
        found["weight"] = unpack_int4(arrays[prefix + "w"], tuple(rest.pop("shape")))
    return QuantizedDense(**found, **rest)  # type: ignore[arg-type]
