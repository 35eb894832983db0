"""Networks that are trained to be quantised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from ._hypers import Array
from ._initializers import Rng
from ._quant_arrays import Codes
from .nn import Network

__all__ = ["Plan", "PreparedNetwork"]


@dataclass(frozen=True)
class Plan:
    """What a prepared network is quantised to."""

    weights: Codes
    inputs: Codes
    per_channel: bool
    averaging: float  # weight of the latest batch in the inputs' ranges
    learns: bool  # the scales


class PreparedNetwork(Network):
    """A network whose layers see weights and inputs fake quantised: made by `prepare`.

    It is trained as any `fastgd.nn.Network`: optimizers, ``train_epoch`` and ``loss_and_grad`` are
    the same; gradients go straight through what is rounded. Scales of weights follow the weights,
    those of layers' inputs moving averages of their ranges, of the batches before. With
    ``learn_scales`` they are parameters, for an optimizer to train, but that of X itself.

    Attributes
    ----------
    parameters, gradients, names : list
        As of `fastgd.nn.Network`; learned scales come last: "layers.0.weight_scale",
        "layers.1.input_scale", ...
    buffers : dict of ndarray
        Also "layers.0.input_range", and scales and zero points that are not learned.
    classes : ndarray or None
        Labels, of a linear classifier.

    Notes
    -----
    A layer that skips adds its input as it is quantised. Learned scales want a smaller rate than
    weights with optimizers of Adam's kind: `param_groups`. X must be an array, not a sparse matrix.
    """

    classes: Array | None = None

    def __init__(self, network: Network, plan: Plan, classes: Array | None = None) -> None:
        state = network.__getstate__()
        saved = state.pop("_saved")
        self.__dict__.update(state)
        self.plan, self.classes = plan, classes
        self._make_arrays("zeros", np.random.default_rng(0))
        self._make_core()
        self.load_state_dict(self.state_dict() | saved)

    def _make_arrays(
        self, initializer: str | Callable[[tuple[int, int], Rng], Array], rng: Rng
    ) -> None:
        super()._make_arrays(initializer, rng)
        widths = self._widths()
        self._fakings: list[dict[str, Any]] = []
        for i in range(len(self.layers)):
            n_inputs, n_outputs = widths[i], widths[i + 1]
            n_scales = n_outputs if self.plan.per_channel else 1
            self.buffers[f"layers.{i}.input_range"] = np.zeros(2)
            self._fakings.append(
                {
                    "weight": self._faking(i, "weight", n_scales, n_inputs * n_outputs // n_scales),
                    "input": self._faking(i, "input", 1, n_inputs),
                    "range": self.buffers[f"layers.{i}.input_range"],
                    "averaging": self.plan.averaging,
                    "weights": np.zeros((n_inputs, n_outputs), self.dtype),
                }
            )

    def _faking(self, i: int, of: str, n_scales: int, n_elements: int) -> dict[str, Any]:
        """Make the arrays that weights or inputs of a layer are quantised with.

        A learned scale's gradient is scaled as by Esser et al., ICLR 2020, section 2.2.
        """
        codes = self.plan.weights if of == "weight" else self.plan.inputs
        learned = self.plan.learns and (of == "weight" or i > 0)
        scale, zero = np.ones(n_scales, self.dtype), np.zeros(n_scales, self.dtype)
        grad = np.zeros(n_scales, self.dtype) if learned else None
        name = f"layers.{i}.{of}"
        if grad is not None:
            self.names.append(f"{name}_scale")
            self.parameters.append(scale)
            self.gradients.append(grad)
        else:
            self.buffers[f"{name}_scale"] = scale
        self.buffers[f"{name}_zero"] = zero
        return {
            "scale": scale,
            "zero": zero,
            "grad": grad,
            "factor": 1 / np.sqrt(n_elements * codes.qmax),
            **codes._asdict(),
        }

    def _describe(self, i: int) -> Any:
        """Layer `i` as the core sees it."""
        return super()._describe(i) | {"faking": self._fakings[i]}

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        del state["_fakings"]
        return state

    def _as_others_have_it(self) -> NoReturn:
        raise TypeError(
            "a PreparedNetwork cannot go to other libraries, which would not quantise it; the "
            "network that it was prepared from can"
        )

    def grid(self, i: int, of: str) -> tuple[Array, Array]:
        """Scale and zero point, float, of layer `i`'s "weight" or "input", for now."""
        faking = self._fakings[i][of]
        return faking["scale"], faking["zero"]

    def set_grid(self, i: int, of: str, scale: Array, zero: Array) -> None:
        """Set them; of weights, and of inputs, that are not learned they will follow the ranges."""
        faking = self._fakings[i][of]
        faking["scale"][...], faking["zero"][...] = scale, zero

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """Make groups for an optimizer, such as Adam, whose steps do not know sizes.

        A scale is a small part of the numbers that it counts. Theirs are learned at ``3 / qmax``
        times the learning rate, so that relative to what they are they change about as weights do.

        Parameters
        ----------
        lr : float
            Learning rate of all else.

        Returns
        -------
        list of dict
            To give to an optimizer in the place of ``parameters``.

        Examples
        --------
        >>> import numpy as np
        >>> from fastgd.nn import Dense, Network
        >>> from fastgd.optim import Adam
        >>> from fastgd.quantization import prepare
        >>> net = prepare(Network(2, [Dense(3), Dense(1)]), np.ones((4, 2)), learn_scales=True)
        >>> opt = Adam(net.param_groups(0.01))
        >>> [len(group["params"]) for group in opt.param_groups]
        [4, 2, 1]
        """
        factors = {
            "weight_scale": 3 / self.plan.weights.qmax,
            "input_scale": 3 / self.plan.inputs.qmax,
        }
        groups: dict[float, list[Array]] = {1.0: []}
        for name, param in zip(self.names, self.parameters, strict=True):
            groups.setdefault(factors.get(name.rpartition(".")[2], 1.0), []).append(param)
        return [{"params": params, "lr": lr * factor} for factor, params in groups.items()]

    def targets(self, y: ArrayLike) -> Array:
        """Make targets for training of a linear classifier's labels.

        Parameters
        ----------
        y : array-like of shape (n_rows,)
            Out of ``classes``.

        Returns
        -------
        ndarray
            Numbers of the classes, (n_rows,); with loss "log_loss" and more than two of them, 1 for
            each row's class and 0 for the others, (n_rows, n_classes).
        """
        if self.classes is None:
            raise TypeError("targets are made of labels, which this network has none of")
        labels = np.asarray(y)
        numbers = np.searchsorted(self.classes, labels).clip(0, len(self.classes) - 1)
        if (self.classes[numbers] != labels).any():
            raise ValueError(f"y must hold labels out of {self.classes.tolist()}")
        if self.loss == "log_loss" and self.n_outputs > 1:
            numbers = np.eye(self.n_outputs, dtype=self.dtype)[numbers]
        encoded: Array = numbers
        return encoded
