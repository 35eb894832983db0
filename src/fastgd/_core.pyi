# Types of the extension; mypy.stubtest checks them against it.
from collections.abc import Sequence
from typing import Any, NotRequired, Self, TypedDict

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

_Array = NDArray[Any]  # float32 or float64

class _Rule(TypedDict):
    number: int
    # "elementwise", "layerwise", "listwise", "factored", "matrix" or "hybrid"; "online"
    kind: str
    eight_bit: bool  # whether its states may have 8 bits
    states: tuple[tuple[str, str], ...]  # name; when it is kept, as in optim_rules.h
    kept: tuple[str, ...]  # numbers that are carried from step to step
    hypers: tuple[tuple[str, float | None, str], ...]  # name, default, domain

class _OwnRule(_Rule):
    functions: dict[str, int]  # addresses, by dtype
    held: tuple[Any, ...]

class _Loss(TypedDict):
    number: int
    task: str  # "classification", "regression" or "both"
    parameter: str  # name of the loss's own parameter, "" if it has none; its
    default: float
    domain: str  # and domain, as a hyper-parameter's
    targets: str  # "sign", "real", "nonnegative", "positive" or "power", as in loss_rules.h
    link: str  # "identity", "log" or "logit"
    bounded: bool  # its derivative stays between -4 and 4

class _Activation(TypedDict):
    number: int
    parameter: str  # name of the activation's own parameter, "" if it has none; its
    default: float
    domain: str

class _Layer(TypedDict):
    inputs: int
    outputs: int
    activation: int
    parameter: float
    norm: int
    skip: bool
    dropout: float
    params: Sequence[_Array | None]
    grads: Sequence[_Array | None]
    running: Sequence[_Array | None]
    faking: NotRequired[dict[str, Any] | None]

class _BuildInfo(TypedDict):
    compiler: str
    openmp: bool
    openmp_file: str
    openmp_max_threads: int

__version__: str
BLOCKWISE: tuple[str, ...]
RULES: dict[str, _Rule]
ONLINE_RULES: dict[str, _Rule]  # that see the rows of a linear model; not among RULES
OWN_RULES: dict[str, _OwnRule]
LOSSES: dict[str, _Loss]
N_KEPT: int
N_KEPT_BY_RULE: int
MAX_STATES: int
MAX_HYPERS: int
SLOW: str
ISAS: tuple[str, ...]
SUPPORTED_ISAS: tuple[str, ...]

class DivergenceError(ValueError, FloatingPointError):
    position: int

class NonFiniteError(FloatingPointError, ValueError):
    index: int
    name: str | None
    step: int
    evaluation: int

def state_shape(kept_if: str, shape: tuple[int, ...]) -> tuple[int, ...] | None: ...
def use_isa(name: str) -> None: ...
def active_isa() -> str: ...
def set_threads(n: int) -> None: ...
def threads() -> int: ...
def not_finite_text(index: int, name: str | None, grad: _Array) -> str: ...
def build_info() -> _BuildInfo: ...

@disjoint_base
class Stepper:
    t: int
    skipped: int
    skips: bool
    dynamic: bool
    names: list[str] | None
    def __init__(
        self,
        rule: str,
        params: list[_Array],
        groups: list[int],
        hypers: Sequence[Sequence[float]],
        states: list[tuple[_Array | None, ...]],
        averages: list[_Array] | None,
        slow: list[_Array] | None = None,
    ) -> None: ...
    @property
    def rule(self) -> str: ...
    @property
    def params(self) -> list[_Array]: ...
    @property
    def states(self) -> list[tuple[_Array | None, ...]]: ...
    @property
    def averages(self) -> list[_Array] | None: ...
    @property
    def slow(self) -> list[_Array] | None: ...
    def set_buffers(
        self,
        states: list[tuple[_Array | None, ...]],
        averages: list[_Array] | None,
        slow: list[_Array] | None,
    ) -> None: ...
    def hyper(self, group: int, k: int) -> float: ...
    def set_hyper(self, group: int, k: int, value: float) -> None: ...
    def progress(self, i: int) -> tuple[int, int, tuple[float, ...]]: ...
    def set_progress(self, i: int, t: int, since: int, kept: Sequence[float]) -> None: ...
    def configure(
        self,
        *,
        max_norm: float,
        centralize: bool,
        agc: float,
        clip_value: float,
        guard: bool,
        norms: bool,
    ) -> None: ...
    def set_projection(self, g: int, projection: Any) -> None: ...
    @property
    def projects_wholes(self) -> bool: ...
    def as_array(self, i: int) -> _Array: ...
    def set_lookahead(self, period: int, weight: float) -> None: ...
    def set_average_weight(self, weight: float) -> None: ...
    def set_frozen(self, i: int, frozen: bool) -> None: ...
    def report(self) -> tuple[float, float, float, bool]: ...
    def before_step(self) -> None: ...
    def accumulated(self) -> tuple[list[Any], int]: ...
    def is_rows(self, grad: Any) -> bool: ...
    def rows_of(self, i: int, grad: Any) -> Any: ...
    def step(
        self,
        grads: Any = None,
        *,
        grad_scale: float = 1.0,
        zero_grads: bool = False,
    ) -> None: ...

@disjoint_base
class TensorStepper(Stepper):
    def __init__(
        self,
        kind: type,
        rule: str,
        params: list[Any],
        groups: list[int],
        hypers: Sequence[Sequence[float]],
        averages: list[Any],
        counter: str | None,
        state_dtype: str | None = None,
        master: bool = True,
    ) -> None: ...
    @property
    def params(self) -> list[Any]: ...
    def set_kept_states(self, group: int, names: tuple[str | None, ...]) -> None: ...
    def set_aside(self, i: int, grad: Any) -> None: ...
    rows_only: bool
    def undo(self, i: int, made: list[str]) -> None: ...
    def is_for(self, param_groups: list[dict[str, Any]]) -> bool: ...
    def step_tensors(
        self, state: dict[Any, dict[str, Any]], team: int, grad_scale: float
    ) -> list[Any] | None: ...

@disjoint_base
class History:
    size: int
    n: int
    steps: _Array
    changes: _Array
    def __init__(self, size: int, n: int, dtype: np.dtype[Any]) -> None: ...
    def put(
        self,
        slot: int,
        grad: _Array,
        before: _Array | None,
        d: _Array | None,
        t: float,
        *,
        n_threads: int = 0,
    ) -> tuple[float, float]: ...
    def direction(
        self,
        out: _Array,
        grad: _Array,
        slots: tuple[int, ...],
        ro: tuple[float, ...],
        h_diag: float,
        *,
        n_threads: int = 0,
    ) -> tuple[float, tuple[float, ...]]: ...

def dot(x: _Array, z: _Array | None, *, n_threads: int = 0) -> float: ...
def magnitudes(x: _Array, *, n_threads: int = 0) -> tuple[float, float]: ...
def move(out: _Array, x: _Array, d: _Array | None, t: float, *, n_threads: int = 0) -> None: ...
def shuffle(order: NDArray[np.int64], seed: int) -> None: ...
def code_bytes(size: int) -> int: ...

@disjoint_base
class CSR:
    format: str
    data: _Array
    indices: NDArray[Any]  # int32 or int64
    indptr: NDArray[Any]
    shape: tuple[int, int]
    def __init__(self, X: Any, hashing: int | None = None) -> None: ...  # X: SciPy's, untyped
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def itemsize(self) -> int: ...

@disjoint_base
class Interactions:
    X: CSR
    def __init__(self, X: CSR, pairs: Any, n_rows: int, room: int, batch_size: int = 1) -> None: ...
    def take(
        self, order: NDArray[np.int64], block: int, start: int, stop: int, n_threads: int = 0
    ) -> tuple[CSR, NDArray[np.int64]]: ...

_Rows = _Array | CSR  # or a CSR matrix of SciPy

def evaluate_loss(
    loss: str, y: _Array, prediction: _Array, parameter: float | None = None
) -> tuple[_Array, _Array]: ...
def scratch(X: _Rows, batch_size: int, n_classes: int = 1) -> NDArray[np.uint8]: ...
def train_linear(
    params: _Array,
    states: tuple[_Array | None, ...],
    X: _Rows,
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
    kept: NDArray[np.float64],
    t: int,
    batch_size: int,
    start: int,
    stop: int,
    n_threads: int = 0,
    n_classes: int = 1,
    l1: float = 0.0,
    l1_state: NDArray[np.float64] | None = None,
    average: _Array | None = None,
    average_from: int = 0,
    aggressive: int = 0,
    one_class: float = 0.0,
    intercept_decay: float = 1.0,
    penalties: NDArray[np.float64] | None = None,
    positive: bool = False,
    group: float = 0.0,
    groups: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> float: ...
def full_scratch(X: _Rows, n_outputs: int) -> NDArray[np.uint8]: ...
def full_gradient(
    X: _Rows,
    y: _Array,
    sample_weight: _Array | None,
    weights: _Array,
    memory: NDArray[np.uint8],
    predictions: _Array | None = None,
    *,
    loss: int,
    loss_parameter: float = 0.0,
    n_threads: int = 0,
) -> tuple[float, NDArray[np.float64]]: ...
def column_moments(X: _Rows, weight: _Array) -> NDArray[np.float64]: ...
def gram(X: _Array, weight: _Array, *, n_threads: int = 0) -> NDArray[np.float64]: ...
def factor(a: NDArray[np.float64]) -> None: ...
def solve(x: NDArray[np.float64], r: NDArray[np.float64], back: bool) -> None: ...
def reduce_variance(
    w: NDArray[np.float64],
    mean: NDArray[np.float64],
    memory: NDArray[np.float64],
    X: _Rows,
    y: _Array,
    sample_weight: _Array | None,
    order: NDArray[np.int64],
    *,
    kind: str,
    loss: str | None,
    loss_parameter: float,
    step: float,
    l2: float,
    l1: float,
    total: float,
    fit_intercept: bool,
) -> None: ...
def longest_row(X: _Rows, sample_weight: _Array | None) -> float: ...
def all_finite(x: _Array) -> bool: ...
def sum_all(x: _Array) -> float: ...

ACTIVATIONS: dict[str, _Activation]
NORMS: dict[str | None, int]
SOFTMAX: int
SIGMOID: int
LINKS: dict[str, int]

def activate(
    activation: str, x: _Array, parameter: float | None = None
) -> tuple[_Array, _Array]: ...

@disjoint_base
class Layers:
    @property
    def arrays(self) -> list[_Array | None]: ...
    def __new__(
        cls, layers: list[_Layer], loss: int, loss_parameter: float, label_smoothing: float
    ) -> Self: ...
    def run(
        self,
        X: _Array | CSR,
        y: _Array,
        sample_weight: _Array | None,
        order: NDArray[np.int64] | None,
        *,
        batch_size: int,
        start: int = 0,
        stop: int | None = None,
        alpha: float = 0.0,
        training: bool = True,
        seed: int = 0,
        n_passes: int = 0,
        stepper: Stepper | None = None,
        whole: float = 0.0,
        n_threads: int = 0,
    ) -> tuple[float, float, int]: ...
    def predict(self, X: _Array | CSR, link: str, n_threads: int = 0) -> _Array: ...

# ---- quantisation

@disjoint_base
class Grid:
    def __init__(
        self,
        scale: _Array,
        zero: _Array,
        qmin: int,
        qmax: int,
        shape: tuple[int, ...],
        axis: int | None = None,
    ) -> None: ...
    def fake_quantize(self, out: _Array, x: _Array, *, n_threads: int = 0) -> None: ...
    def straight_through(
        self, out: _Array, grad: _Array, x: _Array, *, n_threads: int = 0
    ) -> None: ...
    def learn(self, out: _Array, grad: _Array, x: _Array, *, n_threads: int = 0) -> _Array: ...
    def encode(self, codes: NDArray[Any], x: _Array, *, n_threads: int = 0) -> None: ...
    def decode(self, out: _Array, codes: NDArray[Any], *, n_threads: int = 0) -> None: ...
    def ranges(self, x: _Array, *, n_threads: int = 0) -> _Array: ...

MAX_INT8_INPUTS: int

def scales(
    ranges: NDArray[np.float64], qmin: int, qmax: int, symmetric: bool, dtype: Any
) -> tuple[_Array, _Array]: ...
def int8_name(*, portable: bool = False) -> str: ...
def int8_product(
    codes: NDArray[np.uint8], weight: NDArray[np.int8], *, portable: bool = False
) -> NDArray[np.int32]: ...

@disjoint_base
class Int8Network:
    n_inputs: int
    n_outputs: int
    def __init__(self, layers: list[dict[str, Any]]) -> None: ...
    def predict(
        self, X: NDArray[np.float32], *, portable: bool = False, n_threads: int = 0
    ) -> NDArray[np.float32]: ...
