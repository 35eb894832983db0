# Types of the extension; mypy.stubtest checks them against it.
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

_Array = NDArray[Any]  # float32 or float64

class _Rule(TypedDict):
    number: int
    states: tuple[tuple[str, str], ...]  # name; the hyper-parameter it is kept for, or "always"
    hypers: tuple[tuple[str, float, str], ...]  # name, default, domain

class _Loss(TypedDict):
    number: int
    task: str
    parameter: str

class _BuildInfo(TypedDict):
    compiler: str
    openmp: bool
    openmp_file: str
    openmp_max_threads: int

__version__: str
RULES: dict[str, _Rule]
LOSSES: dict[str, _Loss]
ISAS: tuple[str, ...]
SUPPORTED_ISAS: tuple[str, ...]

class DivergenceError(ValueError, FloatingPointError):
    position: int

def use_isa(name: str) -> None: ...
def active_isa() -> str: ...
def set_threads(n: int) -> None: ...
def threads() -> int: ...
def build_info() -> _BuildInfo: ...

@disjoint_base
class Stepper:
    t: int
    since: int
    def __init__(
        self,
        rule: str,
        params: list[_Array],
        states: list[tuple[_Array | None, ...]],
        hypers: Sequence[float],
    ) -> None: ...
    @property
    def rule(self) -> str: ...
    @property
    def params(self) -> list[_Array]: ...
    @property
    def states(self) -> list[tuple[_Array | None, ...]]: ...
    def hyper(self, k: int) -> float: ...
    def set_hyper(self, k: int, value: float) -> None: ...
    def set_states(self, states: list[tuple[_Array | None, ...]]) -> None: ...
    def step(self, grads: _Array | Sequence[_Array]) -> None: ...

def shuffle(order: NDArray[np.int64], seed: int) -> None: ...
def evaluate_loss(
    loss: str, y: _Array, prediction: _Array, parameter: float = 0.0
) -> tuple[_Array, _Array]: ...
def scratch(X: _Array, batch_size: int) -> NDArray[np.uint8]: ...
def train_linear(
    params: _Array,
    states: tuple[_Array | None, ...],
    X: _Array,
    y: _Array,
    sample_weight: _Array | None,
    order: NDArray[np.int64],
    block: int,
    memory: NDArray[np.uint8],
    *,
    loss: int,
    loss_parameter: float,
    alpha: float,
    fit_intercept: bool,
    rule: int,
    hypers: Sequence[float],
    lr: NDArray[np.float64],
    t: int,
    batch_size: int,
    start: int,
    stop: int,
    n_threads: int = 0,
) -> float: ...
def all_finite(x: _Array) -> bool: ...
def sum_all(x: _Array) -> float: ...
