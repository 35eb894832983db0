"""Gradient descent at the machine's limit: C kernels with OpenMP behind a thin NumPy API.

What is imported here is NumPy and one extension module; the rooms below it are loaded when they
are first named: ``fastgd.optim``, ``fastgd.schedules``, ``fastgd.nn``, ``fastgd.linear_model``
and ``fastgd.neural_network`` (extra ``[sklearn]``), ``fastgd.quantization``, ``fastgd.reference``,
``fastgd.plot`` and ``fastgd.datasets`` (extra ``[train]``), ``fastgd.torch`` (extra ``[torch]``).
"""

from typing import TYPE_CHECKING, Any

from ._core import DivergenceError, NonFiniteError, __version__
from .config import get_num_threads, set_num_threads, show_config, threads

if TYPE_CHECKING:
    from . import (
        datasets,
        linear_model,
        neural_network,
        nn,
        optim,
        plot,
        quantization,
        reference,
        schedules,
        torch,
    )

_ROOMS = (
    "datasets",
    "linear_model",
    "neural_network",
    "nn",
    "optim",
    "plot",
    "quantization",
    "reference",
    "schedules",
    "torch",
)

__all__ = [
    "DivergenceError",
    "NonFiniteError",
    "__version__",
    "datasets",
    "get_num_threads",
    "linear_model",
    "neural_network",
    "nn",
    "optim",
    "plot",
    "quantization",
    "reference",
    "schedules",
    "set_num_threads",
    "show_config",
    "threads",
    "torch",
]


def __getattr__(name: str) -> Any:
    """Load a room when it is first named."""
    if name in _ROOMS:
        from importlib import import_module

        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Names for completion, the rooms included."""
    return sorted(__all__)
