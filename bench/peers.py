"""Adapters: every contestant of the benchmarks behind one small interface.

A `Peer` is a name, the module it needs and a function that prepares a case and returns a callable
without arguments that does one unit of it. All sides of a comparison get the same data, the same
hyper-parameters and, through `pinned`, the same number of threads.
"""

from __future__ import annotations

import json
import subprocess
import sys
import timeit
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from math import prod, sqrt
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from cases import (
    MATRIX_FLOORS,
    Case,
    Contestant,
    Epoch,
    Import,
    Iteration,
    ModelStep,
    Step,
    Training,
)
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

import fastgd
from fastgd import _core, reference

Work: TypeAlias = Callable[[], object]
Floats: TypeAlias = NDArray[np.float32]

HYPER: dict[str, dict[str, float]] = {
    "SGD": {"lr": 1e-2, "momentum": 0.9},
    "Adam": {"lr": 1e-3},
    "AdamW": {"lr": 1e-3, "weight_decay": 1e-2},
    "Lion": {"lr": 1e-4},
}
# as Ultralytics trains
MODEL_HYPER: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 1e-3, "momentum": 0.937, "nesterov": True, "weight_decay": 5e-4},
    "RMSprop": {"lr": 1e-3, "momentum": 0.937},
    "MuSGD": {"lr": 1e-2, "momentum": 0.9, "nesterov": True, "muon": 0.2, "sgd": 1.0},
}
MAX_NORM, EMA_DECAY = 10.0, 0.9999
ETA0 = 0.01
ALPHA = 1e-4


@dataclass(frozen=True)
class Peer:
    """One contestant.

    `limit` is the most numbers (parameters, or rows x columns) that it is asked to work through at
    once; a larger case is timed on a slice and scaled.
    """

    name: str
    needs: str
    prepare: Callable[[Any], Work]
    limit: int = sys.maxsize

    @property
    def missing(self) -> bool:
        """Whether the module that the peer needs is not installed."""
        return find_spec(self.needs) is None


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Hold every contestant to `threads` threads: BLAS and OpenMP pools, fastgd, torch."""
    torch = sys.modules.get("torch")
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(threads))
        stack.enter_context(fastgd.threads(threads))
        if torch is not None:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        yield


@lru_cache(maxsize=1)
def dataset(rows: int, columns: int, classes: int = 2) -> tuple[Floats, NDArray[np.int64]]:
    """Return X (rows, columns), rows about 1 long, and labels 0, 1, ... (rows,), a tenth wrong."""
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, columns), dtype=np.float32)
    x /= np.float32(sqrt(columns))  # suits the default learning rate
    wrong = random.random(rows) < 0.1
    if classes > 2:
        y = (x @ random.standard_normal((columns, classes), dtype=np.float32)).argmax(axis=1)
        y[wrong] = random.integers(0, classes, wrong.sum())
        return x, y
    y = ((x @ random.standard_normal(columns, dtype=np.float32) > 0) ^ wrong).astype(np.int64)
    y[:2] = 0, 1  # both classes, however small the case
    return x, y


def sparse_dataset(rows: int, columns: int, nonzeros: int) -> tuple[Any, NDArray[np.int64]]:
    """Return X, a CSR matrix of rows 1 long, and labels 0 or 1, a tenth wrong.

    Columns are as frequent as the words of a text: the k-th about 1 / k times the first (Zipf).
    """
    random = np.random.default_rng(0)
    last = np.cumsum(1 / (np.arange(columns) + 10.0))
    columns_of = random.permutation(columns).astype(np.int32)
    drawn = columns_of[np.searchsorted(last / last[-1], random.random((rows, nonzeros)))]
    values = 0.1 + random.random((rows, nonzeros), dtype=np.float32)
    values /= np.sqrt((values**2).sum(axis=1, keepdims=True))
    ends = np.arange(rows + 1, dtype=np.int32) * nonzeros
    x = _module("scipy.sparse").csr_matrix((values.ravel(), drawn.ravel(), ends), (rows, columns))
    x.sum_duplicates()
    y = (x @ random.standard_normal(columns, dtype=np.float32) > 0) ^ (random.random(rows) < 0.1)
    y[:2] = 0, 1
    return x, y.astype(np.int64)


def _parameters(case: Step) -> tuple[Floats, Floats]:
    """Return parameters and gradients, each (size,)."""
    random = np.random.default_rng(0)
    p, g = (random.standard_normal(case.size, dtype=np.float32) for _ in range(2))
    return p, g


def _module(name: str) -> Any:
    """Import what only one peer needs, when it is its turn."""
    return import_module(name)


# --- one step -------------------------------------------------------------------------------------


def _fastgd_step(case: Step) -> Work:
    p, g = _parameters(case)
    # like the others, without a look at the gradients first
    make = getattr(_module("fastgd.optim"), case.rule)
    optimizer = make(p, nonfinite="apply", state_dtype=case.state_dtype, **HYPER[case.rule])
    return lambda: optimizer.step(g)


def _torch_step(**path: bool) -> Callable[[Step], Work]:
    def prepare(case: Step) -> Work:
        torch = _module("torch")
        p, grad = (torch.from_numpy(a) for a in _parameters(case))
        p.grad = grad
        optimizer = getattr(torch.optim, case.rule)([p], **HYPER[case.rule], **path)
        return cast(Work, optimizer.step)

    return prepare


def _numpy_sgd(p: Floats, g: Floats, lr: float, momentum: float) -> Work:
    buffer, scratch = np.zeros_like(p), np.empty_like(p)

    def step() -> None:
        np.multiply(buffer, momentum, out=buffer)
        np.add(buffer, g, out=buffer)
        np.multiply(buffer, lr, out=scratch)
        np.subtract(p, scratch, out=p)

    return step


def _numpy_adamw(p: Floats, g: Floats, lr: float, weight_decay: float) -> Work:
    beta1, beta2, eps = 0.9, 0.999, 1e-8
    mean, square, scratch = np.zeros_like(p), np.zeros_like(p), np.empty_like(p)
    t = 0

    def step() -> None:
        nonlocal t
        t += 1
        np.multiply(p, 1 - lr * weight_decay, out=p)
        np.multiply(mean, beta1, out=mean)
        np.multiply(g, 1 - beta1, out=scratch)
        np.add(mean, scratch, out=mean)
        np.multiply(square, beta2, out=square)
        np.multiply(g, g, out=scratch)
        np.multiply(scratch, 1 - beta2, out=scratch)
        np.add(square, scratch, out=square)
        np.sqrt(square, out=scratch)
        np.divide(scratch, sqrt(1 - beta2**t), out=scratch)
        np.add(scratch, eps, out=scratch)
        np.divide(mean, scratch, out=scratch)
        np.multiply(scratch, lr / (1 - beta1**t), out=scratch)
        np.subtract(p, scratch, out=p)

    return step


def _numpy_lion(p: Floats, g: Floats, lr: float) -> Work:
    beta1, beta2 = 0.9, 0.99
    mean, ahead, scratch = np.zeros_like(p), np.empty_like(p), np.empty_like(p)

    def step() -> None:
        np.multiply(mean, beta1, out=ahead)
        np.multiply(g, 1 - beta1, out=scratch)
        np.add(ahead, scratch, out=ahead)
        np.sign(ahead, out=ahead)
        np.multiply(ahead, lr, out=ahead)
        np.subtract(p, ahead, out=p)
        np.multiply(mean, beta2, out=mean)
        np.multiply(g, 1 - beta2, out=scratch)
        np.add(mean, scratch, out=mean)

    return step


NUMPY_RULES: dict[str, Callable[..., Work]] = {
    "SGD": _numpy_sgd,
    "AdamW": _numpy_adamw,
    "Lion": _numpy_lion,
}


def _numpy_step(case: Step) -> Work:
    return NUMPY_RULES[case.rule](*_parameters(case), **HYPER[case.rule])


def _reference_step(case: Step) -> Work:
    p, g = (array.tolist() for array in _parameters(case))
    state: dict[str, list[float]] = {}
    numbers = count(1)
    rule = reference.RULES[case.rule.lower()]
    return lambda: rule(p, g, state, next(numbers), **HYPER[case.rule])


# --- one step of a model --------------------------------------------------------------------------


def _model_shapes(rule: str) -> list[list[int]]:
    """Return YOLO26n's shapes; for MuSGD matrices first, for Muon they alone, flattened."""
    shapes = json.loads((Path(__file__).parent / "yolo26n_shapes.json").read_text("utf-8"))
    matrices = [shape for shape in shapes if len(shape) in (2, 4)]
    if rule == "Muon":  # torch's takes no filters
        return [[shape[0], prod(shape[1:])] for shape in matrices]
    if rule == "MuSGD":
        return matrices + [shape for shape in shapes if len(shape) not in (2, 4)]
    return cast("list[list[int]]", shapes)


def _model_groups(rule: str, params: list[Any]) -> list[Any]:
    """Return the groups of the parameters, as Ultralytics makes them for MuSGD."""
    if rule != "MuSGD":
        return params
    matrices = [p for p in params if p.ndim in (2, 4)]
    return [
        {"params": matrices, "use_muon": True, "weight_decay": 5e-4},
        {"params": params[len(matrices) :]},
    ]


def _model_parameters(rule: str) -> tuple[list[Floats], list[Floats]]:
    """Return YOLO26n's parameters and gradients: right shapes, random numbers."""
    shapes = _model_shapes(rule)
    random = np.random.default_rng(0)
    made = [[random.standard_normal(s, dtype=np.float32) for s in shapes] for _ in range(2)]
    return made[0], [g * np.float32(1e-3) for g in made[1]]


def _fastgd_model_step(case: ModelStep) -> Work:
    params, grads = _model_parameters(case.rule)
    make = getattr(_module("fastgd.optim"), case.rule)
    options = MODEL_HYPER.get(case.rule, {"lr": 1e-3})
    groups = _model_groups(case.rule, params)
    optimizer = make(groups, max_norm=MAX_NORM, ema_decay=EMA_DECAY, **options)
    return lambda: optimizer.step(grads)


def _torch_model_step(case: ModelStep) -> Work:
    """Work the fastest way that torch has: fused where it exists, else foreach."""
    torch = _module("torch")
    both = _model_parameters(case.rule)
    params, grads = ([torch.from_numpy(a) for a in arrays] for arrays in both)
    averages = [p.clone() for p in params]
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    options = dict(MODEL_HYPER.get(case.rule, {"lr": 1e-3}))
    if case.rule not in MATRIX_FLOORS:  # whose classes have one way
        fused = case.rule in ("SGD", "Adam", "AdamW", "Adagrad")
        options["fused" if fused else "foreach"] = True
    home = _module("ultralytics.optim" if case.rule == "MuSGD" else "torch.optim")
    optimizer = getattr(home, case.rule)(_model_groups(case.rule, params), **options)

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(params, MAX_NORM)
        optimizer.step()
        torch._foreach_lerp_(averages, params, 1 - EMA_DECAY)

    return step


def _optax_rule(optax: Any, rule: str) -> Any:
    options = dict(MODEL_HYPER.get(rule, {"lr": 1e-3}))
    rate, decay = options.pop("lr"), options.pop("weight_decay", 0.0)
    if rule == "AdamW":
        options["weight_decay"] = 1e-2  # torch's default, and ours
    made = getattr(optax, rule.lower())(rate, **options)
    return optax.chain(optax.add_decayed_weights(decay), made) if decay else made


def _optax_model_step(case: ModelStep) -> Work:
    """Work as one jitted function whose inputs are donated; JAX takes the threads that it wants."""
    jax, optax = _module("jax"), _module("optax")
    both = _model_parameters(case.rule)
    params, grads = (list(map(jax.numpy.array, arrays)) for arrays in both)
    averages = [jax.numpy.array(p) for p in params]
    rule = optax.chain(optax.clip_by_global_norm(MAX_NORM), _optax_rule(optax, case.rule))

    def update(params: Any, state: Any, averages: Any, grads: Any) -> Any:
        updates, state = rule.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return params, state, optax.incremental_update(params, averages, 1 - EMA_DECAY)

    compiled = jax.jit(update, donate_argnums=(0, 1, 2))
    now = params, rule.init(params), averages

    def step() -> None:
        nonlocal now
        now = jax.block_until_ready(compiled(*now, grads))

    return step


# --- one iteration of L-BFGS ----------------------------------------------------------------------


def _curvature(case: Iteration) -> tuple[Floats, Floats]:
    """Return parameters and second derivatives of a quadratic function."""
    p, _ = _parameters(Step("LBFGS", case.size))
    return p, np.linspace(1, 2, case.size, dtype=np.float32)


def _settings(case: Iteration) -> dict[str, Any]:
    """Return settings for steps of one iteration that never ends early."""
    tolerances = {"tolerance_grad": 0.0, "tolerance_change": 0.0}
    return {"lr": 1e-3, "max_iter": 1, "history_size": case.history, **tolerances}


def _fastgd_iteration(case: Iteration) -> Work:
    p, a = _curvature(case)
    optimizer = _module("fastgd.optim").LBFGS(p, **_settings(case))
    for _ in range(case.history + 1):  # fill the memory
        optimizer.step(lambda: (0.0, a * p))
    grad = a * p  # from now on the same: it changes nothing in the memory
    return lambda: optimizer.step(lambda: (0.0, grad))


def _torch_iteration(case: Iteration) -> Work:
    torch = _module("torch")
    p, a = map(torch.from_numpy, _curvature(case))
    optimizer = torch.optim.LBFGS([p], **_settings(case))

    def closure() -> float:
        p.grad = a * p
        return 0.0

    for _ in range(case.history + 1):
        optimizer.step(closure)
    return lambda: optimizer.step(lambda: 0.0)


def _reference_iteration(case: Iteration) -> Work:
    p, a = (array.tolist() for array in _curvature(case))
    state: dict[str, Any] = {}

    def evaluate(point: list[float]) -> tuple[float, list[float]]:
        return 0.0, [x * y for x, y in zip(a, point, strict=True)]

    for _ in range(case.history + 1):
        reference.lbfgs(evaluate, p, state, **_settings(case))
    grad = evaluate(p)[1]
    return lambda: reference.lbfgs(lambda _: (0.0, grad), p, state, **_settings(case))


# --- one epoch ------------------------------------------------------------------------------------


def _fit(estimator: Any, case: Epoch) -> Work:
    if case.nonzeros:
        x, y = sparse_dataset(case.rows, case.columns, case.nonzeros)
    else:
        x, y = dataset(case.rows, case.columns, case.classes)
    return lambda: estimator.fit(x, y)


def _common(case: Epoch) -> dict[str, Any]:
    fixed = {"loss": "log_loss", "alpha": ALPHA, "tol": None, "random_state": 0}
    return {**fixed, "max_iter": case.epochs, "penalty": case.penalty}


def _fastgd_epoch(case: Epoch) -> Work:
    estimator = _module("fastgd.linear_model").SGDClassifier
    ours = {"shuffle": case.shuffle, "batch_size": case.batch_size}
    if case.classes > 2:
        ours["loss"] = "multinomial"
    return _fit(estimator(**{**_common(case), **ours}), case)


def _sklearn_epoch(case: Epoch) -> Work:
    estimator = _module("sklearn.linear_model").SGDClassifier
    theirs = {"shuffle": bool(case.shuffle), "n_jobs": case.threads}
    return _fit(estimator(**_common(case), **theirs), case)


def _reference_epoch(case: Epoch) -> Work:
    x, y = (array.tolist() for array in dataset(case.rows, case.columns))
    signs = [2.0 * label - 1.0 for label in y]
    return lambda: reference.train_linear(
        x,
        signs,
        [0.0] * case.columns,
        0.0,
        loss="log_loss",
        alpha=ALPHA,
        learning_rate="optimal",
        max_iter=case.epochs,
        shuffle=case.shuffle,
        batch_size=case.batch_size,
    )


def _numpy_epoch(case: Epoch) -> Work:
    x, y = dataset(case.rows, case.columns)
    random = np.random.default_rng(0)

    def fit() -> Floats:
        w, b = np.zeros(case.columns, np.float32), np.float32(0)
        for _ in range(case.epochs):
            order = random.permutation(case.rows) if case.shuffle else np.arange(case.rows)
            for start in range(0, case.rows, case.batch_size):
                batch = order[start : start + case.batch_size]
                rows = x[batch]
                residual = 1 / (1 + np.exp(-(rows @ w + b))) - y[batch]
                w -= ETA0 * (residual.astype(np.float32) @ rows / len(batch) + ALPHA * w)
                b -= np.float32(ETA0 * residual.mean())
        return w

    return fit


def _torch_epoch(case: Epoch) -> Work:
    torch = _module("torch")
    x, y = (torch.from_numpy(a) for a in dataset(case.rows, case.columns))
    target = y.to(torch.float32)
    loss = torch.nn.BCEWithLogitsLoss()

    def fit() -> object:
        model = torch.nn.Linear(case.columns, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=ETA0, weight_decay=ALPHA)
        for _ in range(case.epochs):
            order = torch.randperm(case.rows) if case.shuffle else torch.arange(case.rows)
            for batch in order.split(case.batch_size):
                optimizer.zero_grad()
                loss(model(x[batch]).squeeze(1), target[batch]).backward()
                optimizer.step()
        return model

    return fit


# --- one epoch of a network -----------------------------------------------------------------------


def _training_data(case: Training) -> tuple[Floats, NDArray[Any]]:
    """Return X and classes, or numbers of one output."""
    x, y = dataset(case.rows, case.widths[0], max(case.widths[-1], 2))
    return x, y if case.widths[-1] > 1 else y.astype(np.float32)


def _fastgd_training(case: Training) -> Work:
    nn = _module("fastgd.nn")
    x, y = _training_data(case)
    *hidden, outputs = case.widths[1:]
    layers = [*(nn.Dense(width, "relu") for width in hidden), nn.Dense(outputs)]
    loss = "cross_entropy" if outputs > 1 else "squared_error"
    net = nn.Network(case.widths[0], layers, loss=loss, rng=0)
    optimizer = getattr(_module("fastgd.optim"), case.rule)(net.parameters, **HYPER[case.rule])
    random = np.random.default_rng(0)
    y = y.astype(np.float32)
    return lambda: net.train_epoch(
        optimizer, x, y, random.permutation(case.rows), batch_size=case.batch_size
    )


def _sklearn_training(case: Training) -> Work:
    """Work as an epoch of `fit`; what is spared is the search for numbers that are not finite."""
    sklearn = _module("sklearn")
    x, y = _training_data(case)
    hyper = HYPER[case.rule]
    model = _module("sklearn.neural_network").MLPClassifier(
        case.widths[1:-1],
        solver=case.rule.lower(),
        alpha=0.0,
        batch_size=case.batch_size,
        learning_rate_init=hyper["lr"],
        momentum=hyper.get("momentum", 0.0),
        nesterovs_momentum=False,
        random_state=0,
    )
    classes = np.unique(y)

    def epoch() -> None:
        with sklearn.config_context(assume_finite=True):
            model.partial_fit(x, y, classes=classes)

    return epoch


def _torch_training(case: Training) -> Work:
    """Work as a plain loop over batches; the fused optimizer."""
    torch = _module("torch")
    x, y = map(torch.from_numpy, _training_data(case))
    pairs = list(zip(case.widths, case.widths[1:], strict=False))
    linears = [torch.nn.Linear(*pair) for pair in pairs]
    modules = [module for linear in linears for module in (linear, torch.nn.ReLU())][:-1]
    model = torch.nn.Sequential(*modules)
    make = getattr(torch.optim, case.rule)
    optimizer = make(model.parameters(), fused=True, **HYPER[case.rule])
    functional = torch.nn.functional
    loss = functional.cross_entropy if case.widths[-1] > 1 else functional.mse_loss
    y = y if case.widths[-1] > 1 else y[:, None]

    def epoch() -> None:
        for batch in torch.randperm(case.rows).split(case.batch_size):
            optimizer.zero_grad()
            loss(model(x.index_select(0, batch)), y.index_select(0, batch)).backward()
            optimizer.step()

    return epoch


def _products_training(case: Training) -> Work:
    """Multiply the matrices of an epoch, in NumPy's BLAS, and do nothing else.

    Of each layer x W and x' d, and d W' but of the first; the batches lie in memory one after the
    other, and what comes out is written to the same places again and again.
    """
    x, _ = _training_data(case)
    random = np.random.default_rng(0)
    batch = min(case.batch_size, case.rows)
    h, d = (
        [random.standard_normal((batch, m), dtype=np.float32) for m in case.widths]
        for _ in range(2)
    )
    pairs = list(zip(case.widths, case.widths[1:], strict=False))
    w = [random.standard_normal(pair, dtype=np.float32) for pair in pairs]
    grads = [np.empty_like(one) for one in w]
    first, *more = range(len(w))

    def epoch() -> None:
        for start in range(0, case.rows - batch + 1, batch):
            rows = x[start : start + batch]
            np.dot(rows, w[first], out=h[1])
            for k in more:
                np.dot(h[k], w[k], out=h[k + 1])
            for k in reversed(more):
                np.dot(h[k].T, d[k + 1], out=grads[k])
                np.dot(d[k + 1], w[k].T, out=d[k])
            np.dot(rows.T, d[1], out=grads[first])

    return epoch


# --- import, and the machine itself ---------------------------------------------------------------


def _import(module: str) -> Callable[[Import], Work]:
    # -P: the current folder is no place to look for modules, for neither side
    command = [sys.executable, "-P", "-c", f"import {module}"]
    return lambda case: lambda: subprocess.run(command, check=True)


def traffic(contestant: Contestant) -> int:
    """Return the bytes that one unit of a case must move to and from memory.

    An epoch reads X; of a sparse one also the columns. A step reads and writes the parameters and
    whatever the rule remembers, and reads the gradient; how much it remembers, the reference knows.
    The probe of a step reads two arrays and writes one.
    """
    case = contestant.case
    if isinstance(case, Epoch):
        return (8 if case.nonzeros else 4) * case.rows * case.width
    if isinstance(case, Import | ModelStep | Iteration | Training):
        return 0
    state: dict[str, list[float]] = {}
    if contestant.peer != "update":
        reference.RULES[case.rule.lower()]([0.0], [0.0], state, 1, **HYPER[case.rule])
    return 4 * case.size * (3 + 2 * len(state))


def _read_probe(case: Epoch) -> Work:
    """Read X once: by the C kernel or by NumPy's fastest reading loop, whichever is faster."""
    flat = dataset(case.rows, case.columns)[0].reshape(-1)
    integers = flat[: flat.size // 2 * 2].view(np.int64)
    return _faster(lambda: _core.sum_all(flat), _split(np.max, case.threads, integers))


def _update_probe(case: Step) -> Work:
    """Read two arrays and write one, p -= lr g: by our plain SGD or by NumPy, the faster one."""
    p, g = _parameters(case)
    plain = _module("fastgd.optim").SGD(p, nonfinite="apply")
    numpy = _split(lambda p, g: np.subtract(p, g, out=p), case.threads, p, g)
    return _faster(lambda: plain.step(g), numpy)


def _split(function: Callable[..., object], threads: int, *arrays: NDArray[Any]) -> Work:
    """Share `arrays` out to `threads` Python threads (NumPy lets go of the interpreter)."""
    if threads == 1:
        return lambda: function(*arrays)
    pool = ThreadPoolExecutor(threads)
    parts = [np.array_split(array, threads) for array in arrays]
    return lambda: list(pool.map(function, *parts))


def _faster(one: Work, other: Work) -> Work:
    return min((one, other), key=lambda work: min(timeit.repeat(work, number=1, repeat=5)))


# --- the peers by kind of case --------------------------------------------------------------------

PEERS: dict[type[Case], tuple[Peer, ...]] = {
    Step: (
        Peer("fastgd", "fastgd", _fastgd_step),
        Peer("reference", "fastgd", _reference_step, limit=1_000_000),
        Peer("numpy", "numpy", _numpy_step),
        Peer("torch fused", "torch", _torch_step(fused=True)),
        Peer("torch foreach", "torch", _torch_step(foreach=True)),
        Peer("update", "numpy", _update_probe),
    ),
    ModelStep: (
        Peer("fastgd", "fastgd", _fastgd_model_step),
        Peer("torch", "torch", _torch_model_step),
        Peer("ultralytics", "ultralytics", _torch_model_step),
        Peer("optax", "optax", _optax_model_step),
    ),
    Iteration: (
        Peer("fastgd", "fastgd", _fastgd_iteration),
        Peer("torch", "torch", _torch_iteration),
        Peer("reference", "fastgd", _reference_iteration, limit=10_000),
    ),
    Epoch: (
        Peer("fastgd", "sklearn", _fastgd_epoch),
        Peer("reference", "fastgd", _reference_epoch, limit=1_000_000),
        Peer("numpy", "numpy", _numpy_epoch),
        Peer("scikit-learn", "sklearn", _sklearn_epoch),
        Peer("torch", "torch", _torch_epoch),
        Peer("read", "numpy", _read_probe),
    ),
    Training: (
        Peer("fastgd", "fastgd", _fastgd_training),
        Peer("scikit-learn", "sklearn", _sklearn_training),
        Peer("torch", "torch", _torch_training),
        Peer("products", "numpy", _products_training),
    ),
    Import: (
        Peer("fastgd", "fastgd", _import("fastgd")),
        Peer("numpy", "numpy", _import("numpy")),
    ),
}


def find(contestant: Contestant) -> Peer:
    """Return the peer that a contestant names."""
    return next(peer for peer in PEERS[type(contestant.case)] if peer.name == contestant.peer)
