"""What the parts of ``fastgd.torch`` ask about tensors."""

from typing import Any

import torch
from torch import Tensor

from . import _core, config

DTYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)
SHORT = (torch.float16, torch.bfloat16)
FIT = "a CPU tensor of floating-point numbers, real or complex, that do not share memory"


def plain(value: Any) -> Any:
    """Return a hyper-parameter as a number, or a tuple of numbers, if it holds tensors."""
    if isinstance(value, Tensor):
        return value.item()
    if isinstance(value, tuple | list):
        return tuple(map(plain, value))
    return value


def team() -> int:
    """Team size: torch's, or less if the user has asked fastgd for less."""
    chosen, torchs = config.chosen_threads(), torch.get_num_threads()
    return torchs if chosen is None else min(chosen, torchs)


def extent(tensor: Tensor) -> int:
    """Elements from the first to the last in memory; 0 if two share a place."""
    extent = 1
    strides = zip(tensor.stride(), tensor.shape, strict=True)
    for stride, size in sorted((stride, size) for stride, size in strides if size != 1):
        if stride < extent:
            return 0
        extent += stride * (size - 1)
    return extent


def fits(tensor: Tensor, dtypes: tuple[torch.dtype, ...] = DTYPES) -> bool:
    """Whether the kernels can work on a tensor."""
    return (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and tensor.dtype in dtypes
        and extent(tensor) >= tensor.numel()
    )


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill their memory, in whatever order of the dimensions."""
    return extent(tensor) == tensor.numel() or tensor.numel() == 0


def is_averaged(tensor: Tensor) -> bool:
    """Whether a buffer is averaged, not copied."""
    return tensor.is_floating_point() or tensor.is_complex()


def kind(tensor: Tensor) -> str:
    """Say what a tensor is, for an error."""
    layout = "" if tensor.layout is torch.strided else f"{tensor.layout} "
    return f"a {layout}tensor of {tensor.dtype}, shape {tuple(tensor.shape)} on {tensor.device}"


def computed_dtype(tensor: Tensor) -> torch.dtype:
    """Dtype that a parameter is computed with, and its average kept in."""
    return torch.float32 if tensor.dtype in SHORT else tensor.dtype


def state_dtype(param: Tensor, kept_in: str | None) -> torch.dtype:
    """Dtype of a parameter's states."""
    if kept_in == "bfloat16":
        return torch.bfloat16
    return torch.uint8 if kept_in == "int8" else computed_dtype(param)


def zeros(param: Tensor, kept_in: str | None) -> Tensor:
    """Make a state of a parameter."""
    dtype = state_dtype(param, kept_in)
    if dtype == torch.uint8:
        return torch.zeros(_core.code_bytes(param.numel()), dtype=dtype)
    return torch.zeros_like(param, dtype=dtype, memory_format=torch.preserve_format)
