"""Networks as ONNX files."""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any

import numpy as np

from . import _core
from ._exchange import ACTIVATIONS, EPS, Tensors, of_layer
from .datasets import require
from .nn import Dense, Network

OPSET = 20  # the first with Gelu


def to_onnx(net: Network, path: str | PathLike[str], link: bool) -> None:
    """Write a network as an ONNX file: `Exchange.to_onnx`."""
    onnx = require("onnx", extra="onnx")
    helper = require("onnx.helper", extra="onnx")
    graph = _Graph(helper, require("onnx.numpy_helper", extra="onnx"))
    out = "X"
    for number, layer in enumerate(net.layers):
        out = _onnx_layer(graph, number, layer, of_layer(net, number), out)
    operator, options = LINKS[_link(net.loss)] if link else ("Identity", {})
    graph.add(operator, [out], "predictions", **options)

    element = helper.np_dtype_to_tensor_dtype(net.dtype)
    made = helper.make_graph(
        graph.nodes,
        "fastgd",
        [helper.make_tensor_value_info("X", element, ["n", net.n_inputs])],
        [helper.make_tensor_value_info("predictions", element, ["n", net.n_outputs])],
        graph.constants,
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model_gen_version(made, opset_imports=[opset], producer_name="fastgd")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, fspath(path))


LINKS: dict[str, tuple[str, dict[str, Any]]] = {
    "softmax": ("Softmax", {"axis": -1}),
    "logit": ("Sigmoid", {}),
    "log": ("Exp", {}),
    "identity": ("Identity", {}),
}


def _link(loss: str) -> str:
    return "softmax" if loss == "cross_entropy" else str(_core.LOSSES[loss]["link"])


class _Graph:
    """Nodes and constants of a graph in the making."""

    def __init__(self, helper: Any, numpy_helper: Any) -> None:
        self._helper, self._from_array = helper, numpy_helper.from_array
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, inputs: list[str], output: str, **options: Any) -> str:
        """Add a node; the name of what comes out."""
        self.nodes.append(self._helper.make_node(operator, inputs, [output], **options))
        return output

    def constant(self, name: str, array: Any) -> str:
        """Add a constant; its name."""
        self.constants.append(self._from_array(np.ascontiguousarray(array), name))
        return name


def _onnx_layer(graph: _Graph, number: int, layer: Dense, tensors: Tensors, x: str) -> str:
    """Add a layer's nodes; the name of its output."""
    start = f"layers.{number}"
    names = {name: graph.constant(f"{start}.{name}", array) for name, array in tensors.items()}
    out = graph.add("Gemm", [x, names["weight"], names["bias"]], f"{start}.affine")
    if layer.norm == "batch":
        statistics = [names[k] for k in ("gamma", "beta", "running_mean", "running_var")]
        inputs = [out, *statistics]
        out = graph.add("BatchNormalization", inputs, f"{start}.norm", epsilon=EPS)
    elif layer.norm == "layer":
        inputs = [out, names["gamma"], names["beta"]]
        out = graph.add("LayerNormalization", inputs, f"{start}.norm", axis=-1, epsilon=EPS)
    if layer.activation != "identity":
        given = layer.activation_parameter
        options = {} if given is None else {"alpha": given}
        z, operator = out, ACTIVATIONS[layer.activation].onnx
        out = graph.add(operator, [z], f"{start}.activation", **options)
        if layer.activation == "silu":
            out = graph.add("Mul", [z, out], f"{start}.silu")
    return graph.add("Add", [out, x], f"{start}.skip") if layer.skip else out
