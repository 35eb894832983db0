"""Networks to torch and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn, TypeAlias

import numpy as np

from ._exchange import ACTIVATIONS, EPS, MOMENTUM, Tensors, network_of, of_layer
from .datasets import require
from .nn import Dense, Network


def _torch() -> tuple[Any, Any]:
    """Return ``torch.nn`` and ``fastgd.torch.Skip``."""
    nn = require("torch.nn", extra="torch")
    return nn, require("fastgd.torch", extra="torch").Skip


def to_torch(net: Network) -> Any:
    """Return a network as ``torch.nn.Sequential``: `Exchange.to_torch`."""
    nn, skip = _torch()
    modules: list[Any] = []
    for number, layer in enumerate(net.layers):
        tensors = {**of_layer(net, number), "num_batches_tracked": np.array(net.n_passes)}
        own = list(_torch_layer(nn, layer, tensors))
        modules += [skip(*own)] if layer.skip else own
    return nn.Sequential(*modules).eval()


def _torch_layer(nn: Any, layer: Dense, tensors: Tensors) -> Iterator[Any]:
    """Yield the modules that a layer is."""
    weight, bias = tensors["weight"].T, tensors["bias"]
    yield _filled(nn.Linear(*weight.shape[::-1], device="meta"), weight=weight, bias=bias)
    if layer.norm:
        affine = {"weight": tensors["gamma"], "bias": tensors["beta"]}
        if layer.norm == "batch":
            names = ("running_mean", "running_var", "num_batches_tracked")
            norm = nn.BatchNorm1d(layer.n_outputs, EPS, MOMENTUM, device="meta")
            affine.update({name: tensors[name] for name in names})
        else:
            norm = nn.LayerNorm(layer.n_outputs, EPS, device="meta")
        yield _filled(norm, **affine)
    if layer.activation != "identity":
        given = layer.activation_parameter
        yield getattr(nn, ACTIVATIONS[layer.activation].torch)(*([] if given is None else [given]))
    if layer.dropout:
        yield nn.Dropout(layer.dropout)


def _filled(module: Any, **arrays: Any) -> Any:
    """Give a module without memory copies of these values."""
    from_numpy = require("torch", extra="torch").from_numpy
    values = {name: from_numpy(array.copy()) for name, array in arrays.items()}
    module.load_state_dict(values, assign=True)
    return module


def from_torch(cls: Any, module: Any, options: dict[str, Any]) -> Any:
    """Return a network that predicts like one of torch: `Exchange.from_torch`."""
    nn, skip = _torch()
    layers = [_from_torch_layer(nn, *block) for block in _blocks(module, nn, skip)]
    if not layers:
        raise ValueError("module must begin with a Linear, got nothing")
    dtypes = sorted({str(p.dtype) for p in module.parameters()})
    if len(dtypes) > 1:
        raise ValueError(f"module must be of one dtype, got {', '.join(dtypes)}")
    return network_of(cls, layers, **options)


Named: TypeAlias = tuple[str, Any]  # a module, and where it stands


def _blocks(module: Any, nn: Any, skip: Any, name: str = "") -> Iterator[tuple[list[Named], bool]]:
    """Yield the modules of each layer, with their names, and whether its input is added."""
    block: list[Named] = []
    for child_name, child in _leaves(module, nn, skip, name):
        if block and isinstance(child, (nn.Linear, skip)):
            yield block, False
            block = []
        if isinstance(child, skip):
            inner = list(_blocks(child, nn, skip, f"{child_name}."))
            if len(inner) != 1 or inner[0][1]:
                _refuse(child_name, child, f"must be of one layer, got {len(inner)}")
            yield inner[0][0], True
        else:
            block.append((child_name, child))
    if block:
        yield block, False


def _leaves(module: Any, nn: Any, skip: Any, name: str) -> Iterator[Named]:
    """Yield modules in their order, those of further Sequentials too; skips as a whole."""
    if type(module) not in (nn.Sequential, skip):
        _refuse(name.rstrip(".") or "itself", module, "must be a torch.nn.Sequential")
    for key, child in enumerate(module):  # named_children() has a module that comes twice once
        if isinstance(child, nn.Sequential) and not isinstance(child, skip):
            yield from _leaves(child, nn, skip, f"{name}{key}.")
        else:
            yield f"{name}{key}", child


def _from_torch_layer(nn: Any, modules: list[Named], skip: bool) -> tuple[Dense, Tensors]:
    """Read one layer; the modules must come in their order, each kind once."""
    by_class = {getattr(nn, row.torch): name for name, row in ACTIVATIONS.items()}
    kinds = [(nn.Linear,), (nn.BatchNorm1d, nn.LayerNorm), tuple(by_class), (nn.Dropout,)]
    found: list[Any] = [None] * len(kinds)
    place = -1
    for name, module in modules:
        kind = next((k for k, classes in enumerate(kinds) if type(module) in classes), None)
        if kind is None:
            _refuse(name, module, "is none of Linear, BatchNorm1d, LayerNorm, activations, Dropout")
        if kind <= place or (kind > 0 and found[0] is None):
            _refuse(
                name, module, "must follow a Linear: norm, activation and Dropout, in this order"
            )
        _check_torch(name, module)
        found[kind], place = module, kind
    linear, norm, activation, dropout = found
    tensors = {"weight": _array(linear.weight).T, "bias": _array(linear.bias, linear.out_features)}
    if norm is not None:
        tensors["gamma"] = _array(norm.weight, linear.out_features, 1.0)
        tensors["beta"] = _array(norm.bias, linear.out_features)
    if isinstance(norm, nn.BatchNorm1d):
        tensors["running_mean"] = _array(norm.running_mean)
        tensors["running_var"] = _array(norm.running_var)
    name = "identity" if activation is None else by_class[type(activation)]
    parameter = ACTIVATIONS[name].parameter
    layer = Dense(
        linear.out_features,
        name,
        activation_parameter=getattr(activation, parameter) if parameter else None,
        norm=None if norm is None else "batch" if isinstance(norm, nn.BatchNorm1d) else "layer",
        dropout=0.0 if dropout is None else dropout.p,
        skip=skip,
    )
    return layer, tensors


_SETTINGS = {  # what modules of torch must have, where they have it
    "eps": EPS,
    "momentum": MOMENTUM,
    "track_running_stats": True,
    "approximate": "none",
    "beta": 1,
}


def _check_torch(name: str, module: Any) -> None:
    for setting, wanted in _SETTINGS.items():
        given = getattr(module, setting, wanted)
        if given != wanted:
            _refuse(name, module, f"must have {setting}={wanted!r}, got {given!r}")


def _refuse(name: str, module: Any, why: str) -> NoReturn:
    raise ValueError(f"module {name} ({type(module).__name__}) {why}")


def _array(tensor: Any, size: int = 0, value: float = 0.0) -> Any:
    """Return a tensor as an array, `size` times `value` if there is none."""
    if tensor is None:
        return np.full(size, value)
    if str(tensor.dtype) not in ("torch.float32", "torch.float64"):
        raise ValueError(f"module must be of float32 or float64, got {tensor.dtype}")
    return tensor.detach().cpu().numpy()
