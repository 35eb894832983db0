"""What is measured: the kinds of case, and the one table that report and benchmarks read.

A case is a unit of work by its sizes and nothing else: one optimizer step, one epoch of a linear
model, one import. Who does it is a matter of ``peers``; how it is timed, of ``report``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple, TypeAlias


@dataclass(frozen=True)
class Step:
    """One optimizer step over one float32 array of `size` parameters; states in `state_dtype`."""

    rule: str
    size: int
    threads: int = 1
    state_dtype: str | None = None

    def __str__(self) -> str:
        """Name the case in one line."""
        return f"{self.family}, {threads_text(self.threads)}"

    @property
    def family(self) -> str:
        """What the peers that are compared have in common."""
        states = f", states in {self.state_dtype}" if self.state_dtype else ""
        return f"{self.rule}, {self.size:,} parameters{states}"

    def within(self, limit: int) -> tuple[Step, float]:
        """Return the case cut to `limit` parameters, and how many times it the whole one is."""
        small = replace(self, size=min(self.size, limit))
        return small, self.size / small.size


@dataclass(frozen=True)
class ModelStep:
    """What one training step does to the 366 parameters of YOLO26n beside backpropagation.

    Clip the gradients to a norm of 10, step, move the average of the parameters.
    """

    rule: str
    threads: int = 1

    def __str__(self) -> str:
        """Name the case in one line."""
        return f"{self.rule}, {threads_text(self.threads)}"

    @property
    def family(self) -> str:
        """What the peers that are compared have in common."""
        return f"{self.rule}, YOLO26n"

    def within(self, limit: int) -> tuple[ModelStep, float]:
        """Return the case itself: the model has the size it has."""
        return self, 1.0


@dataclass(frozen=True)
class Iteration:
    """One iteration of L-BFGS over `size` float32 parameters, `history` pairs being remembered.

    The gradient is there already; what is left is the direction and the step along it.
    """

    size: int
    history: int = 20
    threads: int = 1

    def __str__(self) -> str:
        """Name the case in one line."""
        return f"{self.family}, {threads_text(self.threads)}"

    @property
    def family(self) -> str:
        """What the peers that are compared have in common."""
        return f"L-BFGS, {self.size:,} parameters, {self.history} pairs"

    def within(self, limit: int) -> tuple[Iteration, float]:
        """Return the case cut to `limit` parameters, and how many times it the whole one is."""
        small = replace(self, size=min(self.size, limit))
        return small, self.size / small.size


@dataclass(frozen=True)
class Epoch:
    """One epoch of logistic regression over `rows` x `columns` float32; `epochs` of them a fit.

    If `nonzeros` is not 0, rows are sparse: so many numbers each, most of them in few columns.
    """

    rows: int
    columns: int
    batch_size: int = 1
    shuffle: bool | str = True
    threads: int = 1
    epochs: int = 1
    classes: int = 2
    nonzeros: int = 0
    penalty: str = "l2"

    def __str__(self) -> str:
        """Name the case in one line."""
        order = {True: "shuffled", False: "in order", "block": "blocks shuffled"}[self.shuffle]
        threads = threads_text(self.threads)
        penalty = "" if self.penalty == "l2" else f", {self.penalty}"
        return f"{self.family}{penalty}, batch {self.batch_size}, {order}, {threads}"

    @property
    def family(self) -> str:
        """What the peers that are compared have in common."""
        classes = f", {self.classes} classes" if self.classes > 2 else ""
        columns = f"{self.columns:,}, {self.nonzeros} a row" if self.nonzeros else str(self.columns)
        return f"{self.rows:,} x {columns}{classes}"

    @property
    def width(self) -> int:
        """Numbers that a row has."""
        return self.nonzeros or self.columns

    def within(self, limit: int) -> tuple[Epoch, float]:
        """Return the case cut to `limit` numbers, and how many times it the whole one is."""
        small = replace(self, rows=min(self.rows, max(1, limit // self.width)))
        return small, self.rows / small.rows


@dataclass(frozen=True)
class Training:
    """One epoch of a network of layers so wide, float32, over shuffled rows in batches.

    Hidden layers are rectified. Of many outputs it learns classes, of one a number.
    """

    rows: int
    widths: tuple[int, ...]
    batch_size: int
    rule: str
    threads: int = 1

    def __str__(self) -> str:
        """Name the case in one line."""
        return f"{self.family}, batch {self.batch_size}, {threads_text(self.threads)}"

    @property
    def family(self) -> str:
        """What the peers that are compared have in common."""
        return f"{'-'.join(map(str, self.widths))}, {self.rule}"

    def within(self, limit: int) -> tuple[Training, float]:
        """Return the case cut to `limit` numbers, and how many times it the whole one is."""
        small = replace(self, rows=min(self.rows, max(1, limit // self.widths[0])))
        return small, self.rows / small.rows


@dataclass(frozen=True)
class Import:
    """One import of the peer's package in a fresh process."""

    threads: int = 1

    def __str__(self) -> str:
        """Name the case in one line."""
        return self.family

    @property
    def family(self) -> str:
        """What the peers that are compared have in common."""
        return "import in a fresh process"

    def within(self, limit: int) -> tuple[Import, float]:
        """Return the case itself: an import cannot be cut."""
        return self, 1.0


Case: TypeAlias = Step | ModelStep | Iteration | Epoch | Training | Import


class Contestant(NamedTuple):
    """A peer, by name, on a case."""

    peer: str
    case: Case

    def __str__(self) -> str:
        """Name the contestant in one line."""
        return f"{self.peer}: {self.case}"


@dataclass(frozen=True)
class Comparison:
    """fastgd on case `ours` beside `peer` on case `theirs`.

    `floor` is the least ratio (peer's time / fastgd's time) that the project promises, `share` the
    least fraction of the machine's memory bandwidth; None where nothing is promised. `promise` says
    `floor` in other words where those are the clearer ones.
    """

    ours: Case
    peer: str
    theirs: Case
    floor: float | None = None
    share: float | None = None
    promise: str = ""

    @property
    def sides(self) -> tuple[Contestant, Contestant]:
        """Us and them."""
        return Contestant("fastgd", self.ours), Contestant(self.peer, self.theirs)


@dataclass(frozen=True)
class Group:
    """Comparisons whose contestants are timed together, in turn.

    `key` is what ``--only`` selects by; groups of the same `title` share a table; `probe` names the
    peer that measures the memory bandwidth beside the contestants, if any; `rounds` is the least
    number of rounds.
    """

    key: str
    title: str
    comparisons: tuple[Comparison, ...]
    probe: str | None = None
    rounds: int = 1

    @property
    def contestants(self) -> list[Contestant]:
        """All who are compared, each once."""
        everybody: list[Contestant] = []
        for comparison in self.comparisons:
            everybody += comparison.sides
        return list(dict.fromkeys(everybody))

    @property
    def probes(self) -> dict[int, Contestant]:
        """The probe of the memory bandwidth for each thread count, on the sizes of the group."""
        if self.probe is None:
            return {}
        cases = {comparison.ours.threads: comparison.ours for comparison in self.comparisons}
        return {n: Contestant(self.probe, case) for n, case in sorted(cases.items())}


class Shape(NamedTuple):
    """Sizes of X, and what is promised for one epoch; None where nothing is.

    The first three are ratios to scikit-learn's epoch: with blocks shuffled, with rows shuffled, in
    batches of 1024 with two threads. `gain` is that of the second thread for those batches, `share`
    the part of the read bandwidth that is reached in order.
    """

    rows: int
    columns: int
    block: float
    full: float
    batched: float | None = None
    gain: float | None = None
    share: float | None = None


SHAPES = (
    Shape(200_000, 50, block=10, full=5, gain=1.5),
    Shape(100_000, 784, block=10, full=5, batched=15, gain=1.5, share=0.7),
    Shape(1_000_000, 20, block=7, full=4),
)
SIZES = (1_000, 100_000, 1_000_000, 25_000_000)
# rule -> the peers that have it
RULES = {
    "SGD": ("torch fused", "torch foreach", "numpy", "reference"),
    "AdamW": ("torch fused", "torch foreach", "numpy", "reference"),
    "Lion": ("numpy", "reference"),
}
# dtype of AdamW's states -> promised ratio to torch's fused step with float32 states
STATE_FLOORS = {"bfloat16": 1.25, "int8": 1.4}
# rule, size, peer -> promised ratio
STEP_FLOORS = {
    ("AdamW", 1_000, "torch fused"): 15.0,
    ("AdamW", 1_000, "numpy"): 1.0,
    ("AdamW", 1_000_000, "reference"): 1000.0,
    ("AdamW", 25_000_000, "torch fused"): 1.0,
}
# rule -> promised ratio to the faster of torch's ways, with one thread and with two
MODEL_FLOORS: dict[str, tuple[float, float]] = {
    "AdamW": (4, 5),
    "SGD": (4, 5),
    "RMSprop": (8, 8),
    "NAdam": (8, 8),
    "RAdam": (8, 8),
    "Adamax": (8, 8),
}
# rules of matrices: the peer that has them, the ratios promised; Muon is given the matrices alone
MATRIX_FLOORS: dict[str, tuple[str, tuple[float, ...]]] = {
    "MuSGD": ("ultralytics", (3, 3)),
    "Muon": ("torch", ()),
}
# widths of a network -> rows, and batch size -> what is promised
NETWORKS: dict[tuple[int, ...], tuple[int, dict[int, dict[str, float]]]] = {
    (784, 128, 10): (
        20_000,
        {32: {"SGD": 2, "Adam": 2.5}, 256: {"SGD": 1.4, "Adam": 1.4}},
    ),
    (10, 32, 32, 1): (20_000, {32: {"SGD": 10, "Adam": 10}}),
}
# Data of fewer bytes may stay in the caches: how fast it is read says nothing about memory.
CACHES = 32 * 2**20


def groups(shrink: int = 1, threads: Sequence[int] = (1, 2)) -> list[Group]:
    """Return the table of everything that is compared.

    Parameters
    ----------
    shrink : int, default 1
        Divides the number of rows and of parameters, for a quick look; keys stay as they are.
    threads : sequence of int, default (1, 2)
        Thread counts to run the cases at that are not about one thread.

    Returns
    -------
    list of Group

    Examples
    --------
    >>> [group.key for group in groups()][:3]
    ['import', 'linear-200000x50', 'linear-100000x784']
    """
    linear = [
        *_linear(shrink, threads),
        _multinomial(shrink, threads),
        _sparse(shrink),
        _reference(shrink, threads),
    ]
    return [
        _import(),
        *linear,
        *_optim(shrink, threads),
        *_states(shrink, threads),
        *_model(threads),
        *_matrices(threads),
        *_lbfgs(shrink, threads),
        *_networks(shrink, threads),
    ]


def _import() -> Group:
    comparison = Comparison(Import(), "numpy", Import(), floor=1 / 1.3, promise="≤ 1.3x its time")
    return Group("import", "Import, whole process", (comparison,), rounds=15)


def _linear(shrink: int, threads: Sequence[int]) -> Iterator[Group]:
    for shape in SHAPES:
        rows = max(shape.rows // shrink, 1)
        block, full, in_order = (
            Epoch(rows, shape.columns, shuffle=shuffle) for shuffle in ("block", True, False)
        )
        comparisons = [
            Comparison(block, "scikit-learn", full, shape.block),
            Comparison(full, "scikit-learn", full, shape.full),
            Comparison(in_order, "scikit-learn", in_order, share=shape.share),
        ]
        for n in threads:
            ours, theirs = (replace(case, batch_size=1024, threads=n) for case in (block, full))
            two = n == 2  # what is promised for batches is promised for two threads
            if n > 1:
                one = replace(ours, threads=1)
                comparisons.append(Comparison(ours, "fastgd", one, shape.gain if two else None))
            floor = shape.batched if two else None
            comparisons.append(Comparison(ours, "scikit-learn", full, floor))
        comparisons += [Comparison(ours, peer, theirs) for peer in ("torch", "numpy")]
        yield Group(
            f"linear-{shape.rows}x{shape.columns}",
            f"Linear model, one epoch, log_loss, float32, {block.family}",
            tuple(comparisons),
            probe="read" if 4 * rows * shape.columns > CACHES else None,
        )


def _multinomial(shrink: int, threads: Sequence[int]) -> Group:
    one = Epoch(max(100_000 // shrink, 1), 784, classes=10)
    comparisons = []
    for n, batch_size in product(threads, (32, 256, 1024)):
        theirs = replace(one, threads=n)
        ours = replace(theirs, batch_size=batch_size)
        comparisons.append(Comparison(ours, "scikit-learn", theirs, 10 if n == 2 else None))
    title = f"One softmax model against one for each class, one epoch, float32, {one.family}"
    return Group("linear-multinomial", title, tuple(comparisons))


def _sparse(shrink: int) -> Group:
    comparisons = []
    for penalty in ("l2", "elasticnet"):
        rows = max(200_000 // shrink, 1)
        block, full, in_order = (
            Epoch(rows, 50_000, shuffle=shuffle, nonzeros=38, penalty=penalty)
            for shuffle in ("block", True, False)
        )
        comparisons += [
            Comparison(block, "scikit-learn", full, 4),
            Comparison(full, "scikit-learn", full, 4),
            Comparison(in_order, "scikit-learn", in_order),
        ]
    title = f"Linear model, one epoch, log_loss, float32, sparse, {full.family}"
    return Group("sparse-200000x50000", title, tuple(comparisons))


def _reference(shrink: int, threads: Sequence[int]) -> Group:
    one = Epoch(max(20_000 // shrink, 1), 50, 1, "block")
    comparisons = [Comparison(one, "reference", one, 100)]
    for n in threads:
        ours = replace(one, batch_size=256, threads=n)
        theirs = replace(ours, threads=1)
        comparisons.append(Comparison(ours, "reference", theirs, 300 if n == 2 else None))
    title = "Linear model, one epoch, log_loss, float32, against the reference"
    return Group("linear-reference", title, tuple(comparisons))


def _optim(shrink: int, threads: Sequence[int]) -> Iterator[Group]:
    for rule, peers in RULES.items():
        for size in SIZES:
            for n in threads:
                case = Step(rule, max(size // shrink, SIZES[0]), n)
                yield Group(
                    f"{rule.lower()}-{size}" + (f"-threads{n}" if n > 1 else ""),
                    "Optimizer, one step, float32",
                    tuple(
                        Comparison(
                            case,
                            peer,
                            case if peer.startswith("torch") else replace(case, threads=1),
                            STEP_FLOORS.get((rule, size, peer)),
                            0.9 if size == SIZES[-1] else None,
                        )
                        for peer in peers
                    ),
                    probe="update" if 8 * case.size > CACHES else None,
                )


def _states(shrink: int, threads: Sequence[int]) -> Iterator[Group]:
    for n in threads:
        theirs = Step("AdamW", max(SIZES[-1] // shrink, SIZES[0]), n)
        yield Group(
            "states" + (f"-threads{n}" if n > 1 else ""),
            "AdamW with states of fewer bits, one step",
            tuple(
                Comparison(replace(theirs, state_dtype=dtype), "torch fused", theirs, floor)
                for dtype, floor in STATE_FLOORS.items()
            ),
        )


def _model(threads: Sequence[int]) -> Iterator[Group]:
    for rule, floors in MODEL_FLOORS.items():
        for n in threads:
            case = ModelStep(rule, n)
            floor = floors[n - 1] if n <= len(floors) else None
            yield Group(
                f"yolo26n-{rule.lower()}" + (f"-threads{n}" if n > 1 else ""),
                "YOLO26n's 366 parameters: clip, step and moving average, float32",
                (Comparison(case, "torch", case, floor), Comparison(case, "optax", case, 3)),
                rounds=15,
            )


def _lbfgs(shrink: int, threads: Sequence[int]) -> Iterator[Group]:
    for size in SIZES[:3]:
        for n in threads:
            case = Iteration(max(size // shrink, SIZES[0]), threads=n)
            peers = (("torch", case), ("reference", replace(case, threads=1)))
            yield Group(
                f"lbfgs-{size}" + (f"-threads{n}" if n > 1 else ""),
                "L-BFGS, one iteration, float32",
                tuple(Comparison(case, peer, theirs) for peer, theirs in peers),
            )


def _networks(shrink: int, threads: Sequence[int]) -> Iterator[Group]:
    for widths, (all_rows, batches) in NETWORKS.items():
        rows, small = max(all_rows // shrink, 1), widths[-1] == 1
        for batch_size, floors in batches.items():
            comparisons = []
            for (rule, floor), n in product(floors.items(), threads):
                case = Training(rows, widths, batch_size, rule, n)
                comparisons.append(Comparison(case, "torch", case, floor))
                if small:
                    continue
                comparisons += [
                    Comparison(case, "scikit-learn", case, floor),
                    Comparison(case, "products", case, 1 / 1.3, promise="≤ 1.3x their time"),
                ]
            name = f"network-{'x'.join(map(str, widths))}-batch{batch_size}"
            title = f"Network, one epoch of {rows:,} rows, float32"
            yield Group(name, title, tuple(comparisons))
            if small or batch_size == 32:
                continue
            # by themselves: threads of peers, which wait for work, keep a core for a while
            many = [Training(rows, widths, batch_size, r, n) for r in floors for n in threads[1:]]
            gains = [
                Comparison(
                    case, "fastgd", replace(case, threads=1), 1.6 if case.threads == 2 else None
                )
                for case in many
            ]
            yield Group(f"{name}-threads", title, tuple(gains), rounds=15)


def _matrices(threads: Sequence[int]) -> Iterator[Group]:
    for rule, (peer, floors) in MATRIX_FLOORS.items():
        for n in threads:
            case = ModelStep(rule, n)
            floor = floors[n - 1] if n <= len(floors) else None
            yield Group(
                f"yolo26n-{rule.lower()}" + (f"-threads{n}" if n > 1 else ""),
                "YOLO26n's matrices made orthonormal: clip, step and moving average, float32",
                (Comparison(case, peer, case, floor),),
                rounds=15,
            )


def contestants(kind: type[Case], shrink: int) -> list[Contestant]:
    """Return everybody in the table on a case of that kind, each once."""
    everybody = [one for group in groups(shrink) for one in group.contestants]
    return [one for one in dict.fromkeys(everybody) if isinstance(one.case, kind)]


def threads_text(n: int) -> str:
    """Return `n` threads in words."""
    return f"{n} thread" + "s" * (n > 1)
