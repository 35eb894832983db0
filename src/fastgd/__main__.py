"""The command line: ``python -m fastgd train`` and ``python -m fastgd info``."""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import DivergenceError, __version__, _core, config, schedules
from ._hypers import VECTOR_RULES
from .datasets import (
    DataError,
    Prepared,
    Table,
    digits,
    find_task,
    prepare,
    read_table,
    require,
)

TRAIN_HELP = """\
train a linear model and show how well and how fast: without FILE on scikit-learn's digits"""

TRAIN_EPILOG = """\
What is not chosen follows the data: mini-batches of 16 to 256 rows, as many epochs as make about
8,000 updates (at least 5, at most 100), log_loss for classes and squared_error for numbers, a
learning rate that suits the rule and the number of features. The target is taken for classes if it
is text, or whole numbers of which at most 20 differ; --loss decides where that guess is wrong."""


# ------------------------------------------------------------------------------------- the recipe

# Rules whose steps have a unit of their own: learning rate and its schedule, the same for all data.
_OWN_RATES = {
    "adadelta": (1.0, "constant"),
    "adagrad": (0.1, "constant"),
    "lars": (10.0, "invscaling"),
    "rprop": (0.01, "constant"),
}
# Targets are standardised: none of a loss that wants them to be positive.
_LOSSES = [name for name, row in _core.LOSSES.items() if row["link"] != "log"]
# It compares signs of successive gradients, which have to be of the same rows.
_FULL_BATCH = ("rprop",)


@dataclass(frozen=True)
class Recipe:
    """How to train; the names are those of the estimators and of `fastgd.reference`."""

    loss: str
    optimizer: str
    learning_rate: str
    eta0: float
    power_t: float
    alpha: float
    batch_size: int
    shuffle: str = "block"  # the split has put the rows in random order: blocks of them will do


def choose_recipe(data: Prepared, options: argparse.Namespace) -> Recipe:
    """Fill in what was not chosen on the command line.

    The numbers were found by measuring, over many seeds, on tables of 100 to 300,000 rows and 10 to
    2,000 features. A rule that divides by the size of its gradients moves every weight by about the
    learning rate, whatever the data: it starts fast, slows down with the square root of time, and
    takes smaller steps where many weights move at once. Steps of plain gradients must stay below
    what the curvature allows, which for standardised features is at most their number.

    Parameters
    ----------
    data : Prepared
        What to train on.
    options : argparse.Namespace
        The command line.

    Returns
    -------
    Recipe
    """
    n_rows, n_features = data.X_train.shape
    loss = options.loss or ("log_loss" if data.task == "classification" else "squared_error")
    scale_free = any("sq" in state for state, _ in _core.RULES[options.optimizer]["states"])
    schedule = "invscaling" if scale_free else "constant"
    if options.optimizer in _OWN_RATES:
        eta0, schedule = _OWN_RATES[options.optimizer]
    elif scale_free:
        eta0 = 0.3 * min(1.0, 60 / n_features) ** 1.5
    else:
        curvature = 0.25 if loss == "log_loss" else 1.0
        eta0 = min(0.1, 0.5 / (curvature * n_features))
    batch_size = min(256, max(16, 2 ** int(math.log2(n_rows / 64 + 1))))
    if options.optimizer in _FULL_BATCH:
        batch_size = n_rows
    return Recipe(
        loss=loss,
        optimizer=options.optimizer,
        learning_rate=options.schedule or schedule,
        eta0=options.lr or eta0,
        power_t=0.5,
        alpha=1 / n_rows,
        batch_size=options.batch_size or batch_size,
    )


def choose_epochs(n_rows: int, batch_size: int) -> int:
    """Return as many epochs as make about 8,000 updates, at least 5 and at most 100."""
    return min(100, max(5, round(8000 / math.ceil(n_rows / batch_size))))


# ---------------------------------------------------------------------------------------- training


@dataclass
class Run:
    """What training has come to."""

    model: Any
    epochs: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    warning: str = ""


def fit(data: Prepared, recipe: Recipe, epochs: int, seed: int) -> Run:
    """Train epoch by epoch behind a progress bar; Ctrl-C ends it early and keeps the model."""
    from . import linear_model

    tqdm = require("tqdm").tqdm
    no_good = require("sklearn.exceptions").ConvergenceWarning
    model: Any
    step: Callable[..., Any]
    # One generator for all epochs: a number would give each of them the same order.
    settings = {**asdict(recipe), "random_state": np.random.RandomState(seed)}
    if data.task == "classification":
        model = linear_model.SGDClassifier(**settings)
        step = partial(model.partial_fit, classes=np.arange(len(data.classes)))
    else:
        model = linear_model.SGDRegressor(**settings)
        step = model.partial_fit
    run = Run(model)
    with (
        tqdm(total=epochs, desc="training", unit="epoch") as bar,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        try:
            while run.epochs < epochs:
                caught.clear()
                start = time.perf_counter()
                step(data.X_train, data.y_train)
                run.seconds += time.perf_counter() - start
                run.epochs += 1
                bar.set_postfix(loss=f"{model.loss_curve_[-1]:.4g}", refresh=False)
                bar.update()
        except KeyboardInterrupt:
            run.interrupted = True
        complaints = [str(one.message) for one in caught if issubclass(one.category, no_good)]
        run.warning = complaints[0] if complaints else ""  # the last epoch's, for the first class
    return run


def score(data: Prepared, model: Any) -> str:
    """Return the held-out score in words, on the scale the target came in."""
    predicted = model.predict(data.X_test)
    if data.task == "classification":
        accuracy = float(np.mean(predicted == data.y_test))
        often = float(np.mean(data.y_test == np.bincount(data.y_train).argmax()))
        return f"accuracy {accuracy:.4f} (always the most frequent class: {often:.4f})"
    residual = data.y_test - (predicted.astype(np.float64) * data.scale + data.mean)
    rmse = math.sqrt(float(np.mean(residual**2)))
    if data.y_test.min() == data.y_test.max():
        return f"R2 undefined, the held-out target is constant (root mean square error {rmse:.4g})"
    r2 = 1 - rmse**2 / float(data.y_test.var())
    return f"R2 {r2:.4f} (root mean square error {rmse:.4g})"


def time_reference(data: Prepared, recipe: Recipe) -> float:
    """Return how many rows per second the pure-Python reference trains on, from a slice."""
    from . import reference

    n_rows, n_features = data.X_train.shape
    problems = list(_problems(data))
    n_slice = min(n_rows, max(recipe.batch_size, 1_000_000 // (n_features * len(problems))))
    X = data.X_train[:n_slice].tolist()
    seconds = 0.0
    for y in problems:
        targets = y[:n_slice].tolist()
        start = time.perf_counter()
        reference.train_linear(X, targets, [0.0] * n_features, 0.0, **asdict(recipe))
        seconds += time.perf_counter() - start
    return float(n_slice / seconds)


def _problems(data: Prepared) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the target of each linear model to train: one, or one for each of many classes."""
    if data.task == "regression":
        yield data.y_train
    elif len(data.classes) == 2:
        yield np.where(data.y_train == 1, 1.0, -1.0)
    else:
        for label in range(len(data.classes)):
            yield np.where(data.y_train == label, 1.0, -1.0)


# ------------------------------------------------------------------------------------ the commands


def train(options: argparse.Namespace) -> int:
    """Read, train, score, compare and draw; what is found on the way is printed.

    Parameters
    ----------
    options : argparse.Namespace
        The command line.

    Returns
    -------
    int
        0, or 130 if Ctrl-C came in the first epoch.
    """
    if options.file is None and options.target is not None:
        raise DataError(f"--target is {options.target!r}, but there is no FILE to look for it in")
    require("matplotlib")  # rather now than after the training
    table = digits() if options.file is None else read_table(options.file, options.target)
    path = picture_path(options.out, table.name)
    data = prepare(
        table,
        find_task(table.y, options.loss),
        test_size=options.test_size,
        seed=options.seed,
    )
    recipe = choose_recipe(data, options)
    epochs = options.epochs or choose_epochs(len(data.X_train), recipe.batch_size)
    threads = nullcontext() if options.threads is None else config.threads(options.threads)
    with threads:
        describe(table, data, recipe, epochs, options.seed)
        try:
            run = fit(data, recipe, epochs, options.seed)
        except DivergenceError as error:
            raise DataError(f"{error} Here --lr was {recipe.eta0:.3g}.") from error
    if run.interrupted:
        say(
            "stopped",
            f"by Ctrl-C after {run.epochs:,} of {epochs:,} epochs; what was learnt is kept",
        )
    if run.warning:
        say("warning", f"{run.warning} Here --lr was {recipe.eta0:.3g}.")
    if not run.epochs:
        if hasattr(run.model, "coef_"):
            say("held out", score(data, run.model))
        say("picture", "none: no epoch was finished")
        return 130
    report(data, recipe, run, path, table.name)
    return 0


def picture_path(out: str | None, name: str) -> Path:
    """Return the file to draw to: `out`, or a file in the folder `out`, by default here."""
    file_name = f"fastgd-{Path(name).stem}-loss.png"
    path = Path(out) if out is not None else Path()
    if path.is_dir() or not path.suffix:
        path = path / file_name
    formats = require("matplotlib.backends.backend_agg").FigureCanvasAgg.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise DataError(
            f"--out is {out!r}; it must be a folder or end in .{', .'.join(sorted(formats))}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out is {out!r}, which cannot be made: {error.strerror}") from error
    return path


def describe(table: Table, data: Prepared, recipe: Recipe, epochs: int, seed: int) -> None:
    """Print what the data are and how they will be trained on."""
    n_read = len(table.y) + table.n_dropped
    n_columns = len(table.features) + len(table.not_numeric) + len(table.empty) + 1
    say("data", f"{table.name}: {n_read:,} rows, {n_columns:,} columns")
    for names, why in (
        (table.not_numeric, "not numbers"),
        (table.empty, "empty"),
        (data.constant, "the same in every row"),
    ):
        if names:
            say(
                "left out",
                f"{count(len(names), 'column')} {why}: {', '.join(names[:12])}"
                + (" ..." if len(names) > 12 else ""),
            )
    if table.n_dropped:
        say("left out", f"{count(table.n_dropped, 'row')} with missing values")
    classes = f" into {len(data.classes)} classes" if data.task == "classification" else ""
    say("task", f"{data.task}{classes}: {table.target} from {count(len(data.features), 'feature')}")
    say(
        "split",
        f"{len(data.X_train):,} rows to train on, {len(data.X_test):,} held out (seed {seed})",
    )
    rate = "" if recipe.learning_rate == "optimal" else f" from {recipe.eta0:.3g}"
    say(
        "model",
        f"{recipe.loss}, {recipe.optimizer}, learning rate {recipe.learning_rate}{rate}, "
        f"batches of {recipe.batch_size:,}, {count(epochs, 'epoch')}, "
        f"{count(config.get_num_threads(), 'thread')}",
    )


def report(data: Prepared, recipe: Recipe, run: Run, path: Path, name: str) -> None:
    """Print score, speed and comparison; draw the loss curve."""
    curve = run.model.loss_curve_[: run.epochs]
    say("loss", ", ".join(f"{curve[epoch - 1]:.4g} (epoch {epoch})" for epoch in _few(len(curve))))
    result = score(data, run.model)
    say("held out", result)
    rate = len(data.X_train) * run.epochs / run.seconds
    say("time", f"{run.seconds:.3g} s for {count(run.epochs, 'epoch')}, {rate:,.0f} rows/s")

    from . import plot

    try:
        plot.loss_curve(
            curve,
            path=path,
            title=f"{name}: {recipe.loss} by epoch",
            note=f"held-out {result.partition(' (')[0]}  ·  {recipe.optimizer}, batches of "
            f"{recipe.batch_size:,}  ·  {rate:,.0f} rows/s",
        )
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    say("picture", str(path))
    slow = time_reference(data, recipe)
    ratio = f"{rate / slow:,.0f}" if rate > 10 * slow else f"{rate / slow:.1f}"
    say("speed", f"fastgd {rate:,.0f} rows/s, pure Python {slow:,.0f} rows/s: {ratio} x")


def _few(n: int, most: int = 6) -> list[int]:
    """Return up to `most` epochs of 1 ... n, the first and the last among them."""
    return sorted({round(epoch) for epoch in np.geomspace(1, n, most)})


def say(what: str, words: str) -> None:
    """Print one line of the report."""
    print(f"{what:<9} {words}", flush=True)


def count(n: int, thing: str) -> str:
    """Return ``1 thing`` or ``n things``."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


# ------------------------------------------------------------------------------------ command line


def _number(
    convert: Callable[[str], Any], accept: Callable[[Any], bool], words: str
) -> Callable[[str], Any]:
    """Return a reader of numbers that are accepted, for argparse."""

    def read(text: str) -> Any:
        try:
            number = convert(text)
        except ValueError:
            number = None
        if number is None or not accept(number):
            raise argparse.ArgumentTypeError(f"{text!r} is not {words}")
        return number

    return read


_count = _number(int, lambda n: n > 0, "a whole number above 0")
_rate = _number(float, lambda x: 0 < x < math.inf, "a finite number above 0")
_fraction = _number(float, lambda x: 0 < x < 1, "a number between 0 and 1")
_seed = _number(int, lambda n: 0 <= n < 2**32, "a whole number from 0 to 2**32 - 1")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fastgd", description="Gradient descent for Python, in C."
    )
    parser.add_argument("--version", action="version", version=f"fastgd {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="show how fastgd was built and what it uses here")
    info.set_defaults(run=show_info)

    command = commands.add_parser(
        "train", help=TRAIN_HELP, description=TRAIN_HELP, epilog=TRAIN_EPILOG
    )
    command.set_defaults(run=train)
    add = command.add_argument
    add(
        "file",
        metavar="FILE",
        nargs="?",
        help="your data: .csv or .parquet (with --target), .npz (X and y), .svmlight or .libsvm",
    )
    add("--target", metavar="COLUMN", help="column to predict; for .npz the key of the target (y)")
    add("--loss", choices=_LOSSES, help="what to minimise (default: by the target)")
    add("--lr", type=_rate, metavar="RATE", help="learning rate to start from")
    add("--batch-size", type=_count, metavar="ROWS", help="rows in an update")
    add("--epochs", type=_count, metavar="N", help="passes over the training part")
    add(
        "--optimizer",
        choices=list(VECTOR_RULES),
        default="adam",
        help="update rule (default: %(default)s)",
    )
    add(
        "--schedule",
        choices=list(schedules.SCHEDULES),
        help="how the learning rate falls (default: by the rule; optimal takes no --lr)",
    )
    add(
        "--seed",
        type=_seed,
        default=0,
        metavar="N",
        help="seed of the split and of the order of the rows (default: %(default)s)",
    )
    add("--threads", type=_count, metavar="N", help="threads to use (default: see info)")
    add(
        "--test-size",
        type=_fraction,
        default=0.25,
        metavar="FRACTION",
        help="part of the rows to hold out (default: %(default)s)",
    )
    add("--out", metavar="PATH", help="file or folder for the picture (default: this folder)")
    return parser


def show_info(options: argparse.Namespace) -> int:
    """Print how fastgd was built and what it uses on this machine."""
    config.show_config()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; by default those of the process.

    Returns
    -------
    int
        Exit code: 0, or 2 if something was wrong with the arguments or the data, which is then
        said in words on standard error, or 130 after Ctrl-C too early or too late to train.
    """
    try:
        options = make_parser().parse_args(argv)
        return int(options.run(options))
    except SystemExit as stop:  # argparse has already said why
        return int(stop.code or 0)
    except DataError as error:
        print(f"python -m fastgd: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
