"""Networks for people who write their own training loop: parameters and gradients are NumPy views.

A :class:`Network` is a stack of :class:`Dense` layers and a loss. ``loss_and_grad`` passes rows
through it and back in one call of C; ``train_epoch`` does so batch by batch, each followed by a
step of an optimizer of :mod:`fastgd.optim`, many batches a call. The estimators of
:mod:`fastgd.neural_network` are made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _core
from ._exchange import Exchange
from ._hypers import in_domain
from ._hypers import number as checked
from ._initializers import INITIALIZERS, Rng, initialize
from .optim import LBFGS, NonFiniteError, Optimizer

__all__ = ["ACTIVATIONS", "Dense", "EpochLoss", "Network"]

Array = NDArray[Any]

ACTIVATIONS = tuple(_core.ACTIVATIONS)
"""Names of the activations: the rows of ``csrc/activation_rules.h``."""

# the losses of networks alone, their numbers and links
_OWN_LOSSES = {
    "cross_entropy": (_core.SOFTMAX, "softmax"),
    "log_loss": (_core.SIGMOID, "logit"),
}
# Multiplications that one call of C does at most, some ten milliseconds, so that Ctrl-C is
# answered, and outputs of all layers, for which it has memory; but so many rows at least. And
# batches at most, whose hyper-parameters are laid out ahead.
_PRODUCTS_PER_CALL = 5 * 10**8
_OUTPUTS_PER_CALL = 2**24
_ROWS_PER_CALL = 2**8
_BATCHES_PER_CALL = 2**12


@dataclass(frozen=True)
class Dense:
    """A layer: product and bias, norm, activation, dropout, skip connection, in this order.

    Parameters
    ----------
    n_outputs : int
        At least 1.
    activation : str, default="identity"
        One of :data:`ACTIVATIONS`.
    activation_parameter : float, default=None
        At least 0: the negative slope of "leaky_relu" (0.01), the alpha of "elu" (1.0). None takes
        the one in brackets. Others have none.
    norm : {None, "batch", "layer"}, default=None
        As torch's BatchNorm1d and LayerNorm, with their defaults, between product and activation.
    dropout : float, default=0.0
        Probability that an output is set to zero in training; the others are divided by 1 minus it.
    skip : bool, default=False
        Add the layer's inputs to its outputs; there must be as many.

    Examples
    --------
    >>> from fastgd.nn import Dense
    >>> Dense(64, "relu", norm="batch", dropout=0.1)  # doctest: +ELLIPSIS
    Dense(n_outputs=64, activation='relu', ..., norm='batch', dropout=0.1, skip=False)
    """

    n_outputs: int
    activation: str = "identity"
    activation_parameter: float | None = None
    norm: Literal["batch", "layer"] | None = None
    dropout: float = 0.0
    skip: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.n_outputs, int | np.integer) or self.n_outputs < 1:
            raise ValueError(f"n_outputs must be an integer of at least 1; got {self.n_outputs!r}")
        if self.activation not in _core.ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {', '.join(ACTIVATIONS)}; got {self.activation!r}"
            )
        row = _core.ACTIVATIONS[self.activation]
        if self.activation_parameter is not None:
            if not row["parameter"]:
                raise ValueError(
                    f"activation_parameter must be None for {self.activation!r}, which has none; "
                    f"got {self.activation_parameter!r}"
                )
            checked("activation_parameter", self.activation_parameter, row["domain"])
        if self.norm not in _core.NORMS:
            raise ValueError(f"norm must be None, 'batch' or 'layer'; got {self.norm!r}")
        checked("dropout", self.dropout, "unit")

    @property
    def parameter(self) -> float:
        """The activation's own parameter, as it is used."""
        given = self.activation_parameter
        return float(_core.ACTIVATIONS[self.activation]["default"] if given is None else given)


class EpochLoss(NamedTuple):
    """Means over the rows of an epoch of what each batch's objective was before its step."""

    data: float  #: the loss
    penalty: float  #: the L2 penalty

    @property
    def total(self) -> float:
        """Loss and penalty."""
        return self.data + self.penalty


class Network(Exchange):
    """A stack of dense layers and a loss, with its parameters and gradients as NumPy arrays.

    Parameters
    ----------
    n_inputs : int
        Columns of X.
    layers : sequence of Dense
        At least one.
    loss : str, default="squared_error"
        "cross_entropy" (softmax over the outputs; y are their numbers), "log_loss" (of each output
        by itself; y from 0 to 1), or a loss of regression of :mod:`fastgd.linear_model`:
        "squared_error" (half the square), "huber", "poisson" (exp(p) - y p) ...
    loss_parameter : float, default=None
        The loss's own, as the epsilon of "huber"; None takes its default.
    label_smoothing : float, default=0.0
        From 0 to below 1: how much of the target is spread over all classes, for "cross_entropy"
        and "log_loss".
    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
    initializer : str or callable, default="glorot_uniform"
        How weights begin: a name (glorot_uniform, glorot_normal, he_uniform, he_normal,
        lecun_normal, orthogonal, zeros) or a function of shape and generator. Biases begin at 0.
    rng : None, int, Generator or RandomState, default=None
        What weights, and the seed of dropout, are drawn from.

    Attributes
    ----------
    parameters, gradients : list of ndarray
        Of each layer the weight (inputs, outputs) and the bias (outputs,), then, with a norm,
        gamma and beta (outputs,). The gradients are overwritten by ``loss_and_grad``, and have no
        meaning after ``train_epoch``. Both are always the same arrays.
    names : list of str
        Theirs: "layers.0.weight", "layers.0.bias", "layers.0.gamma", "layers.0.beta", ...
    buffers : dict of ndarray
        "layers.0.running_mean" and "layers.0.running_var" of layers with batch norm.
    seed, n_passes : int
        What dropout draws from: a seed and the number of batches passed through in training.

    Notes
    -----
    The objective of a batch is scikit-learn's: the sum over rows of sample weight times loss,
    itself summed over the outputs, plus ``alpha / 2`` times the sum of squares of the weights, not
    of biases, gammas and betas; all divided by the sum of the sample weights.

    Results have the same bits for any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.nn import Dense, Network
    >>> from fastgd.optim import Adam
    >>> X = np.linspace(-1, 1, 256, dtype=np.float32).reshape(-1, 1)
    >>> y = np.sin(3 * X)
    >>> net = Network(1, [Dense(32, "tanh"), Dense(1)], rng=0)
    >>> opt = Adam(net.parameters, lr=0.01)
    >>> rng = np.random.default_rng(0)
    >>> for _ in range(200):
    ...     loss = net.train_epoch(opt, X, y, rng.permutation(256), batch_size=32)
    >>> loss.data < 1e-3
    True
    """

    def __init__(
        self,
        n_inputs: int,
        layers: Iterable[Dense],
        *,
        loss: str = "squared_error",
        loss_parameter: float | None = None,
        label_smoothing: float = 0.0,
        dtype: DTypeLike = np.float32,
        initializer: str | Callable[[tuple[int, int], Rng], Array] = "glorot_uniform",
        rng: Rng | int | None = None,
    ) -> None:
        self.n_inputs = _count(n_inputs, "n_inputs")
        self.layers = tuple(layers)
        self.dtype = np.dtype(dtype)
        self._check_layers()
        self.loss, self.loss_parameter = loss, loss_parameter
        self.label_smoothing = checked("label_smoothing", label_smoothing, "unit")
        if label_smoothing and loss not in _OWN_LOSSES:
            raise ValueError(
                f"label_smoothing must be 0 with loss={loss!r}: it is for cross_entropy and "
                f"log_loss; got {label_smoothing}"
            )
        self._make_arrays(initializer, _generator(rng))
        self._make_core()

    # ---- what it is made of ----------------------------------------------------------------------

    def _check_layers(self) -> None:
        if not self.layers or not all(isinstance(layer, Dense) for layer in self.layers):
            raise ValueError(f"layers must be at least one Dense; got {self.layers!r}")
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"dtype must be float32 or float64; got {self.dtype}")
        for i, (n, layer) in enumerate(zip(self._widths(), self.layers, strict=False)):
            if layer.skip and n != layer.n_outputs:
                raise ValueError(
                    f"layers[{i}] must have as many outputs as inputs to skip; got {n} inputs and "
                    f"{layer.n_outputs} outputs"
                )

    def _widths(self) -> list[int]:
        """Give the inputs of each layer, then the outputs."""
        return [self.n_inputs, *(int(layer.n_outputs) for layer in self.layers)]

    def _make_arrays(
        self, initializer: str | Callable[[tuple[int, int], Rng], Array], rng: Rng
    ) -> None:
        """Lay out parameters and gradients in one piece of memory each."""
        widths = self._widths()
        shapes: dict[str, tuple[int, ...]] = {}
        self.buffers: dict[str, Array] = {}
        for i, layer in enumerate(self.layers):
            shapes[f"layers.{i}.weight"] = (widths[i], widths[i + 1])
            shapes[f"layers.{i}.bias"] = (widths[i + 1],)
            if layer.norm:
                shapes[f"layers.{i}.gamma"] = shapes[f"layers.{i}.beta"] = (widths[i + 1],)
            if layer.norm == "batch":
                self.buffers[f"layers.{i}.running_mean"] = np.zeros(widths[i + 1], self.dtype)
                self.buffers[f"layers.{i}.running_var"] = np.ones(widths[i + 1], self.dtype)
        self.names = list(shapes)
        self.parameters = _views(list(shapes.values()), self.dtype)
        self.gradients = _views(list(shapes.values()), self.dtype)
        for name, array in zip(self.names, self.parameters, strict=True):
            if name.endswith("weight"):
                array[...] = _drawn(initializer, array.shape, rng)
            elif name.endswith("gamma"):
                array[...] = 1
        draw = rng.integers if isinstance(rng, np.random.Generator) else rng.randint
        self.seed, self.n_passes = int(draw(2**31)), 0

    def _make_core(self) -> None:
        """Hand the arrays to the core."""
        loss, self._parameter, self._link = _loss(self.loss, self.loss_parameter)
        layers = [self._describe(i) for i in range(len(self.layers))]
        self._core = _core.Layers(layers, loss, self._parameter, self.label_smoothing)

    def _describe(self, i: int) -> Any:
        """Layer `i` as the core sees it."""
        layer, widths = self.layers[i], self._widths()
        arrays = dict(
            zip(self.names, zip(self.parameters, self.gradients, strict=True), strict=True)
        )
        parts = [arrays.get(f"layers.{i}.{part}", (None, None)) for part in _PARTS]
        return {
            "inputs": widths[i],
            "outputs": widths[i + 1],
            "activation": _core.ACTIVATIONS[layer.activation]["number"],
            "parameter": layer.parameter,
            "norm": _core.NORMS[layer.norm],
            "skip": layer.skip,
            "dropout": float(layer.dropout),
            "params": [part[0] for part in parts],
            "grads": [part[1] for part in parts],
            "running": [self.buffers.get(f"layers.{i}.running_{what}") for what in ("mean", "var")],
        }

    @property
    def n_outputs(self) -> int:
        """Outputs of the last layer."""
        return self._widths()[-1]

    def __repr__(self) -> str:
        return (
            f"Network({self.n_inputs}, {list(self.layers)}, loss={self.loss!r}, dtype={self.dtype})"
        )

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_core", "parameters", "gradients", "buffers"):
            del state[name]
        return {**state, "_saved": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved = state.pop("_saved")
        seed = state["seed"]
        self.__dict__.update(state)
        self._make_arrays("zeros", np.random.default_rng(0))
        self.seed = seed
        self._make_core()
        self.load_state_dict(saved)

    # ---- what it does ----------------------------------------------------------------------------

    def predict_raw(self, X: Any) -> Array:
        """Give the outputs of the last layer, with running statistics and without dropout.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_inputs) or CSR matrix
            C-contiguous, of the network's dtype.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
        """
        return self._core.predict(_rows(X), "identity")

    def predict(self, X: Any) -> Array:
        """Give the outputs through the link of the loss.

        Probabilities for "cross_entropy" (softmax) and "log_loss" (logistic), exp for "poisson"
        and what else has a log link, else the outputs themselves.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_inputs) or CSR matrix
            C-contiguous, of the network's dtype.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
        """
        return self._core.predict(_rows(X), self._link)

    def loss_and_grad(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        alpha: float = 0.0,
        training: bool = True,
    ) -> tuple[float, list[Array]]:
        """Loss of all rows as one batch, and its gradients.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_inputs) or CSR matrix
            C-contiguous, of the network's dtype.
        y : ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Targets; with "cross_entropy" the numbers of the right outputs, (n_rows,).
        sample_weight : ndarray of shape (n_rows,), default=None
            At least 0.
        alpha : float, default=0.0
            L2 penalty, at least 0.
        training : bool, default=True
            Whether norms take the rows' statistics, and move the running ones, and dropout drops.

        Returns
        -------
        loss : float
            With the penalty.
        gradients : list of ndarray
            ``self.gradients``, not copies.
        """
        X, n_rows = _rows(X), X.shape[0]
        y, weights = self._targets(y, n_rows), self._weights(sample_weight, n_rows)
        alpha = checked("alpha", alpha, "nonnegative")
        rows = n_rows if self.buffers else self._rows_at_once()
        whole = 0.0 if n_rows <= rows else float(n_rows if weights is None else weights.sum())
        loss = 0.0
        for start in range(0, n_rows, rows):
            stop = min(start + rows, n_rows)
            sums = self._core.run(
                X,
                y,
                weights,
                None,
                batch_size=stop - start,
                start=start,
                stop=stop,
                alpha=alpha,
                training=training,
                seed=self.seed,
                n_passes=self.n_passes,
                whole=whole,
            )
            self.n_passes += int(training)
            loss += (sums[0] + sums[1]) / (stop - start)
        return loss, self.gradients

    def train_epoch(
        self,
        optimizer: Optimizer,
        X: Any,
        y: Any,
        order: Any = None,
        *,
        batch_size: int = 32,
        sample_weight: Any = None,
        alpha: float = 0.0,
    ) -> EpochLoss:
        """Take a step of an optimizer after each batch of rows.

        Parameters
        ----------
        optimizer : fastgd.optim.Optimizer
            Over arrays of ``parameters``, all or some; the others rest.
        X, y, sample_weight, alpha
            As of ``loss_and_grad``.
        order : ndarray of shape (n_visited,), default=None
            Numbers of the rows, int64, in the order in which they are visited; by default that of
            X.
        batch_size : int, default=32
            Rows of a batch; the last one may have fewer.

        Returns
        -------
        EpochLoss

        Raises
        ------
        NonFiniteError, DivergenceError
            A gradient, or the loss alone, is not finite, and the optimizer's `nonfinite` is
            "raise". Everything is as after the step before.
        """
        if isinstance(optimizer, LBFGS) or not isinstance(optimizer, Optimizer):
            raise TypeError(
                "optimizer must be one of fastgd.optim that takes gradients; got "
                f"{type(optimizer).__name__}"
            )
        X, n_rows = _rows(X), X.shape[0]
        y, sample_weight = self._targets(y, n_rows), self._weights(sample_weight, n_rows)
        order = _order(order, n_rows)
        n_visited = n_rows if order is None else order.size
        batch_size = min(_count(batch_size, "batch_size"), n_visited)
        alpha = checked("alpha", alpha, "nonnegative")
        batches = min(max(1, self._rows_at_once() // batch_size), _BATCHES_PER_CALL)
        if optimizer.projects_wholes:  # in Python, after each step
            batches = 1
        data = penalty = 0.0
        for start in range(0, n_visited, batches * batch_size):
            stop = min(start + batches * batch_size, n_visited)
            before = optimizer.t, optimizer.skipped
            try:
                sums = self._core.run(
                    X,
                    y,
                    sample_weight,
                    order,
                    batch_size=batch_size,
                    start=start,
                    stop=stop,
                    alpha=alpha,
                    seed=self.seed,
                    n_passes=self.n_passes,
                    stepper=optimizer,
                )
            except NonFiniteError:  # in a pass that the optimizer counts, and nothing else does
                self.n_passes -= 1
                raise
            finally:
                self.n_passes += optimizer.t + optimizer.skipped - sum(before)
            data, penalty = data + sums[0], penalty + sums[1]
        return EpochLoss(data / n_visited, penalty / n_visited)

    def _rows_at_once(self) -> int:
        """Say how many rows one call of C works through."""
        widths = self._widths()
        products = sum(a * b for a, b in pairwise(widths))
        return max(
            _ROWS_PER_CALL, min(_PRODUCTS_PER_CALL // products, _OUTPUTS_PER_CALL // sum(widths))
        )

    # ---- keeping it ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Copy parameters and buffers, by name, with dropout's `seed` and `n_passes`."""
        arrays = dict(zip(self.names, self.parameters, strict=True)) | self.buffers
        return {
            **{name: array.copy() for name, array in arrays.items()},
            "seed": self.seed,
            "n_passes": self.n_passes,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take what ``state_dict`` gave, in place; if it does not fit, nothing changes.

        Parameters
        ----------
        state_dict : mapping
            With all the names of this network, shapes as here.
        """
        arrays = dict(zip(self.names, self.parameters, strict=True)) | self.buffers
        wanted, given = {*arrays, "seed", "n_passes"}, set(state_dict)
        if wanted != given:
            raise ValueError(
                f"state_dict must have this network's names; missing: {sorted(wanted - given)}, "
                f"unknown: {sorted(given - wanted)}"
            )
        for name, array in arrays.items():
            if np.shape(state_dict[name]) != array.shape:
                raise ValueError(
                    f"state_dict[{name!r}] must have the shape {array.shape}; got "
                    f"{np.shape(state_dict[name])}"
                )
        for name, array in arrays.items():
            array[...] = state_dict[name]
        self.seed, self.n_passes = int(state_dict["seed"]), int(state_dict["n_passes"])

    # ---- what it is given ------------------------------------------------------------------------

    def _targets(self, y: Any, n_rows: int) -> Array:
        """Return y as the core takes it; checked."""
        given: Array = np.asarray(y)
        softmax = self.loss == "cross_entropy"
        shape = (n_rows,) if softmax else (n_rows, self.n_outputs)
        if given.shape != shape and not (self.n_outputs == 1 and given.shape == (n_rows,)):
            raise ValueError(f"y must have the shape {shape}; got {given.shape}")
        if given.dtype.kind not in "fiub":
            raise TypeError(f"y must hold numbers; got {given.dtype}")
        targets: Array = np.ascontiguousarray(given, dtype=self.dtype)
        if self.loss == "log_loss" and (targets.min() < 0 or targets.max() > 1):
            raise ValueError(
                f"y must hold numbers from 0 to 1 with loss='log_loss'; got {given.min()} to "
                f"{given.max()}"
            )
        if self.loss not in _OWN_LOSSES:
            in_domain(targets, self.loss, self._parameter)
        if softmax and not (
            targets.min() >= 0 and targets.max() < self.n_outputs and _whole(given)
        ):
            raise ValueError(
                f"y must hold whole numbers from 0 to {self.n_outputs - 1}, those of the outputs; "
                f"got {given.min()} to {given.max()}"
            )
        return targets

    def _weights(self, sample_weight: Any, n_rows: int) -> Array | None:
        if sample_weight is None:
            return None
        weights = np.ascontiguousarray(sample_weight, dtype=self.dtype)
        if weights.shape != (n_rows,) or not (weights >= 0).all() or not weights.any():
            raise ValueError(
                f"sample_weight must be {n_rows} numbers of at least 0, not all of them 0; got "
                f"shape {weights.shape}, from {weights.min(initial=np.inf)}"
            )
        return weights


_PARTS = ("weight", "bias", "gamma", "beta")  # of a layer, in the order of the core


def _generator(rng: Rng | int | None) -> Rng:
    if isinstance(rng, np.random.Generator | np.random.RandomState):
        return rng
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"rng must be None, an integer of at least 0, a Generator or a RandomState; got {rng!r}"
        ) from error


def _count(given: Any, name: str) -> int:
    if not isinstance(given, int | np.integer) or given < 1:
        raise ValueError(f"{name} must be an integer of at least 1; got {given!r}")
    return int(given)


def _whole(y: Array) -> bool:
    return y.dtype.kind in "iub" or bool((y == np.floor(y)).all())


def _loss(name: str, parameter: float | None) -> tuple[int, float, str]:
    """Return number, own parameter and link of a loss."""
    known = {n: r for n, r in _core.LOSSES.items() if r["task"] != "classification"}
    if name not in known and name not in _OWN_LOSSES:
        raise ValueError(f"loss must be one of {', '.join([*_OWN_LOSSES, *known])}; got {name!r}")
    has_parameter = name in known and bool(known[name]["parameter"])
    if parameter is not None and not has_parameter:
        raise ValueError(f"loss_parameter must be None for {name!r}; got {parameter!r}")
    if name in _OWN_LOSSES:
        number, link = _OWN_LOSSES[name]
        return number, 0.0, link
    row = known[name]
    if parameter is not None:
        parameter = checked("loss_parameter", parameter, row["domain"])
    return row["number"], row["default"] if parameter is None else parameter, row["link"]


def _views(shapes: Sequence[tuple[int, ...]], dtype: np.dtype[Any]) -> list[Array]:
    """Zeros of these shapes in one piece of memory, each beginning on a cache line."""
    line = 64 // dtype.itemsize
    sizes = [int(np.prod(shape)) for shape in shapes]
    starts = np.cumsum([0, *(-(-size // line) * line for size in sizes)])
    memory = np.zeros(int(starts[-1]) + line, dtype)
    first = -memory.__array_interface__["data"][0] % 64 // dtype.itemsize
    return [
        memory[first + start : first + start + size].reshape(shape)
        for start, size, shape in zip(starts.tolist(), sizes, shapes, strict=False)
    ]


def _drawn(
    initializer: str | Callable[[tuple[int, int], Rng], Array], shape: tuple[int, int], rng: Rng
) -> Array:
    if callable(initializer):
        drawn = np.asarray(initializer(shape, rng))
        if drawn.shape != shape:
            raise ValueError(f"initializer must return the shape {shape}; got {drawn.shape}")
        return drawn
    if initializer not in INITIALIZERS:
        raise ValueError(
            f"initializer must be callable or one of {', '.join(INITIALIZERS)}; got {initializer!r}"
        )
    return initialize(shape, initializer, rng)


def _rows(X: Any) -> Any:
    """Return X, or a CSR matrix that has been checked."""
    if isinstance(X, np.ndarray) and X.ndim != 2:
        raise ValueError(f"X must have two dimensions; got shape {X.shape}")
    if isinstance(X, np.ndarray | _core.CSR):
        return X
    if hasattr(X, "indptr"):
        return _core.CSR(X)
    raise TypeError(f"X must be a NumPy array or a CSR matrix; got {type(X).__name__}")


def _order(order: Any, n_rows: int) -> NDArray[np.int64] | None:
    if order is None:
        return None
    rows = np.ascontiguousarray(order)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not rows.size:
        raise ValueError(f"order must be a vector of row numbers; got {rows.dtype}, {rows.shape}")
    if rows.min() < 0 or rows.max() >= n_rows:
        raise ValueError(
            f"order must hold rows from 0 to {n_rows - 1}; got {rows.min()} to {rows.max()}"
        )
    return rows.astype(np.int64, copy=False)
