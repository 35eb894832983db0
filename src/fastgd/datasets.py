"""Tables of numbers to train on: read from a file, cleaned, cut in two and standardised.

The steps of `python -m fastgd train` before any training, each a plain function:
`read_table` or `digits` -> `Table` -> `find_task` -> `prepare` -> `Prepared`. What was left out on
the way is counted and named, never dropped in silence. Files are read by pandas, NumPy and
scikit-learn; each is imported where it is first needed.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import _core

__all__ = [
    "DataError",
    "Prepared",
    "Table",
    "Task",
    "digits",
    "find_task",
    "prepare",
    "read_table",
    "require",
]

Task = Literal["classification", "regression"]

MAX_DENSE_BYTES = 4 * 2**30  # a sparse file that would need more than this is refused
MAX_CLASSES = 20  # whole numbers with at most so many distinct values are taken for classes
FEWEST_ROWS = 4  # two to train on and two to score on: R2 is not defined for one


class DataError(ValueError):
    """The data cannot be used; the message says why, in words for the person who chose them."""


def require(module: str, extra: str = "train") -> Any:
    """Import an optional library, or say what to install.

    Parameters
    ----------
    module : str
        Dotted name of a module.
    extra : str, default="train"
        Extra of fastgd that brings it.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    DataError
        If it cannot be imported; the message names the extra that brings it.

    Examples
    --------
    >>> require("json").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"this needs {module.partition('.')[0]}, which cannot be imported ({error}); "
            f'install it with: pip install "fastgd[{extra}]"'
        ) from error


@dataclass(frozen=True)
class Table:
    """Numeric features and a target, without missing values.

    Attributes
    ----------
    name : str
        What the data are called: the name of a file or a data set.
    X : ndarray of floats, shape (n_rows, n_features)
        Features.
    y : ndarray, shape (n_rows,)
        Target: numbers or strings.
    features : tuple of str
        Names of the columns of X.
    target : str
        Name of the target.
    n_dropped : int
        Rows left out because of a missing or infinite value.
    not_numeric : tuple of str
        Columns left out because they do not hold numbers.
    empty : tuple of str
        Columns left out because they hold no value at all.
    """

    name: str
    X: NDArray[Any]
    y: NDArray[Any]
    features: tuple[str, ...]
    target: str
    n_dropped: int = 0
    not_numeric: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A table ready for training: cut in two, standardised, the targets encoded.

    Attributes
    ----------
    task : {"classification", "regression"}
        What is to be learnt.
    X_train, X_test : ndarray of float32, shape (n_train, n_features), (n_test, n_features)
        Features with mean 0 and deviation 1 over the training part; columns that are constant
        there are left out.
    y_train : ndarray, shape (n_train,)
        Classification: class numbers 0, 1, ... (int64). Regression: the target with mean 0 and
        deviation 1 (float32).
    y_test : ndarray, shape (n_test,)
        Classification: class numbers. Regression: the target as it was (float64).
    features : tuple of str
        Names of the columns.
    constant : tuple of str
        Names of the columns left out.
    classes : ndarray, shape (n_classes,)
        The class behind each class number; empty for regression.
    mean, scale : float
        A regression target is ``standardised * scale + mean``.
    """

    task: Task
    X_train: NDArray[np.float32]
    X_test: NDArray[np.float32]
    y_train: NDArray[Any]
    y_test: NDArray[Any]
    features: tuple[str, ...]
    constant: tuple[str, ...]
    classes: NDArray[Any]
    mean: float = 0.0
    scale: float = 1.0


# ---------------------------------------------------------------------------------------- reading


def digits() -> Table:
    """Return scikit-learn's 1,797 images of handwritten digits, 8 x 8 pixels each.

    Returns
    -------
    Table
        64 features, target ``digit`` with the classes 0 to 9.

    Raises
    ------
    DataError
        If scikit-learn is not installed.

    Examples
    --------
    >>> digits().X.shape
    (1797, 64)
    """
    bunch = require("sklearn.datasets").load_digits()
    return Table("digits", bunch.data, bunch.target, tuple(bunch.feature_names), "digit")


def read_table(path: str | Path, target: str | None = None) -> Table:
    """Read a file of data.

    Parameters
    ----------
    path : str or Path
        ``.csv`` (comma, semicolon or tab between columns, names in the first line), ``.parquet``,
        ``.npz`` (arrays X and y), ``.svmlight`` or ``.libsvm``.
    target : str, optional
        Column to predict; needed for .csv and .parquet. For .npz the key of the target,
        "y" by default. Files of .svmlight begin each line with it.

    Returns
    -------
    Table
        The rows without missing values, the columns that hold numbers.

    Raises
    ------
    DataError
        If the file is not there, cannot be read or holds nothing to train on, or the target is
        not in it.
    """
    path = Path(path)
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise DataError(
            f"FILE is {path.name!r}; its name must end in one of {', '.join(sorted(READERS))}"
        )
    if not path.exists():
        raise DataError(f"there is no file {path}{_similar(path.name, _siblings(path))}")
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a file")
    try:
        return read(path, target)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _siblings(path: Path) -> list[str]:
    """Return the names of the files beside `path`."""
    return [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []


def _similar(name: str, names: list[str]) -> str:
    """Return words that point at names that resemble `name`, or nothing."""
    lower = {other.lower(): other for other in names}
    near = [lower[match] for match in difflib.get_close_matches(name.lower(), lower)]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _read_csv(path: Path, target: str | None) -> Table:
    """Read a table of text; the separator is the one most frequent in the first line."""
    pandas = require("pandas")
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline()
    separator = max(",;\t", key=header.count)
    try:
        frame = pandas.read_csv(path, sep=separator, low_memory=False)
    except ValueError as error:  # of pandas' own errors and of the decoder alike
        raise DataError(f"{path} cannot be read as a table of text: {error}") from error
    return _from_frame(path, frame, target)


def _read_parquet(path: Path, target: str | None) -> Table:
    """Read a parquet file with what pandas finds for it."""
    pandas = require("pandas")
    try:
        frame = pandas.read_parquet(path)
    except ImportError as error:
        raise DataError("reading .parquet needs pyarrow too: pip install pyarrow") from error
    except ValueError as error:  # pyarrow.ArrowInvalid is one
        raise DataError(f"{path} cannot be read as parquet: {error}") from error
    return _from_frame(path, frame, target)


def _from_frame(path: Path, frame: Any, target: str | None) -> Table:
    """Pick the target and the numeric columns of a pandas DataFrame."""
    is_numeric = require("pandas").api.types.is_numeric_dtype
    frame.columns = [str(name) for name in frame.columns]
    columns = list(frame.columns)
    if target is None:
        raise DataError(f"--target is missing: which column of {_listed(columns)}?")
    if target not in columns:
        raise DataError(
            f"--target is {target!r}, which is not a column of {path.name}"
            f"{_similar(target, columns) or '; it has ' + _listed(columns)}"
        )
    y = frame[target]
    rest = frame.drop(columns=target)
    if not len(frame):
        raise DataError(f"{path.name} has no rows")
    # A column without any value would take every row with it.
    empty = [bool(column.isna().all()) for _, column in rest.items()]
    numeric = [bool(is_numeric(dtype)) and dtype.kind != "c" for dtype in rest.dtypes]
    kept = [good and not bare for good, bare in zip(numeric, empty, strict=True)]
    X = rest.loc[:, kept].to_numpy(dtype=np.float64, na_value=np.nan)
    present = ~y.isna().to_numpy()
    if is_numeric(y.dtype):
        values = y.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        values = y.astype(str).to_numpy(dtype=object)
    names = [str(name) for name in rest.columns]

    def chosen(mask: list[bool]) -> tuple[str, ...]:
        return tuple(name for name, good in zip(names, mask, strict=True) if good)

    text = [not good and not bare for good, bare in zip(numeric, empty, strict=True)]
    return _complete_rows(
        Table(path.name, X, values, chosen(kept), target, 0, chosen(text), chosen(empty)), present
    )


def _read_npz(path: Path, target: str | None) -> Table:
    """Read arrays saved by numpy.savez."""
    key = "y" if target is None else target
    try:
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except OSError:
        raise
    except Exception as error:  # a bad archive raises whatever its first bad part happens to be
        raise DataError(f"{path} cannot be read as .npz: {error}") from error
    for name in ("X", key):
        if name not in arrays:
            raise DataError(
                f"{path.name} has no array {name!r}; it has {_listed(list(arrays)) or 'none'}"
            )
    X, y = arrays["X"], arrays[key]
    if X.ndim != 2 or X.dtype.kind not in "biuf":
        raise DataError(
            f"X in {path.name} is {X.dtype} of shape {X.shape}; it must be numbers, (rows, columns)"
        )
    if y.shape != X.shape[:1]:
        raise DataError(
            f"{key} in {path.name} has shape {y.shape}; it must be {X.shape[:1]}, as X has rows"
        )
    if y.dtype.kind not in "biufU":
        raise DataError(f"{key} in {path.name} is {y.dtype}; it must be numbers or strings")
    features = tuple(f"x{column}" for column in range(X.shape[1]))
    return _complete_rows(Table(path.name, _floating(X), y, features, key))


def _read_svmlight(path: Path, target: str | None) -> Table:
    """Read sparse rows of `target index:value ...` and make them dense."""
    if target is not None:
        raise DataError(
            f"--target is {target!r}; {path.suffix} files name no columns: leave it out"
        )
    load = require("sklearn.datasets").load_svmlight_file
    try:
        X, y = load(str(path))
    except ValueError as error:
        raise DataError(f"{path} cannot be read as svmlight: {error}") from error
    rows, columns = X.shape
    size = rows * columns * X.dtype.itemsize
    if size > MAX_DENSE_BYTES:
        raise DataError(
            f"{path.name} has {rows:,} rows and {columns:,} columns: {size / 2**30:.1f} GiB when "
            f"dense, and at most {MAX_DENSE_BYTES / 2**30:g} GiB can be used"
        )
    features = tuple(f"x{column}" for column in range(columns))
    return _complete_rows(Table(path.name, X.toarray(), y, features, "label"))


READERS = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".npz": _read_npz,
    ".svmlight": _read_svmlight,
    ".libsvm": _read_svmlight,
}


def _floating(array: NDArray[Any]) -> NDArray[Any]:
    """Return `array` itself if its type is float32 or float64, else as float64."""
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _complete_rows(table: Table, present: NDArray[np.bool_] | None = None) -> Table:
    """Leave out the rows with missing or infinite values; refuse a table with nothing left."""
    if not table.features:
        why = f" ({_listed(list(table.not_numeric))} hold none)" if table.not_numeric else ""
        raise DataError(f"{table.name} has no column of numbers besides the target{why}")
    if not len(table.y):
        raise DataError(f"{table.name} has no rows")
    good = np.isfinite(table.X).all(axis=1)
    if present is not None:
        good &= present
    if table.y.dtype.kind == "f":
        good &= np.isfinite(table.y)
    n_good = int(good.sum())
    if not n_good:
        raise DataError(f"all {len(good):,} rows of {table.name} have missing values")
    if n_good < FEWEST_ROWS:
        raise DataError(
            f"{table.name} has {n_good} complete rows; at least {FEWEST_ROWS} are needed"
        )
    if n_good == len(good):
        return table
    return Table(
        table.name,
        table.X[good],
        table.y[good],
        table.features,
        table.target,
        len(good) - n_good,
        table.not_numeric,
        table.empty,
    )


def _listed(names: list[str], most: int = 12) -> str:
    """Return names in one line, the first `most` of them."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# -------------------------------------------------------------------------------------- preparing


def find_task(y: NDArray[Any], loss: str | None = None) -> Task:
    """Tell from the target, and the loss if one was chosen, what is to be learnt.

    Strings are classes. Numbers are classes under a loss for classes only (log_loss, hinge) and
    quantities under one that fits both (squared_error, huber). Without a loss they are classes if
    only 2 differ, or if they are whole and at most 20, and half as many as rows, differ.

    Parameters
    ----------
    y : ndarray, shape (n_rows,)
        Target: numbers or strings.
    loss : str, optional
        Name of the loss that was asked for.

    Returns
    -------
    {"classification", "regression"}

    Raises
    ------
    DataError
        If all targets are the same, or there are so many classes that they cannot be ones.

    Examples
    --------
    >>> find_task(np.array([0, 1, 2, 1, 0, 2]))
    'classification'
    >>> find_task(np.array([0, 1, 2, 1, 0, 2]), loss="squared_error")
    'regression'
    >>> find_task(np.array([0.5, 1.25, -3.0]))
    'regression'
    """
    distinct = np.unique(y)
    if len(distinct) < 2:
        raise DataError(f"the target is {distinct[0]} in every row: there is nothing to learn")
    text = y.dtype.kind in "OU"
    if not text and loss is not None and _core.LOSSES[loss]["task"] != "classification":
        return "regression"
    whole = y.dtype.kind in "biu" or (y.dtype.kind == "f" and bool((y == np.floor(y)).all()))
    few = len(distinct) == 2 or (whole and len(distinct) <= min(MAX_CLASSES, len(y) // 2))
    if not (text or few or loss is not None):
        return "regression"
    if len(distinct) > max(2, len(y) // 2) or not (text or whole or few):
        raise DataError(
            f"the target has {len(distinct):,} distinct values in {len(y):,} rows: these "
            f"are no classes{'' if text else f', which --loss {loss} needs'}"
        )
    return "classification"


def prepare(table: Table, task: Task, *, test_size: float = 0.25, seed: int = 0) -> Prepared:
    """Hold rows out, standardise the features and encode the target.

    The split is scikit-learn's ``train_test_split(range(n_rows), test_size=test_size,
    random_state=seed)``, stratified by class where every class has rows enough. Means and
    deviations are those of the training part.

    Parameters
    ----------
    table : Table
        The data.
    task : {"classification", "regression"}
        What is to be learnt.
    test_size : float, default=0.25
        Fraction of the rows held out, between 0 and 1.
    seed : int, default=0
        Seed of the split.

    Returns
    -------
    Prepared

    Raises
    ------
    DataError
        If every feature or the target is constant in the training part, or numbers are so large
        that their variance overflows.

    Examples
    --------
    >>> data = prepare(digits(), "classification")
    >>> data.X_train.shape, data.X_test.shape, len(data.classes)
    ((1347, 60), (450, 60), 10)
    """
    y, classes = table.y, np.array([])
    if task == "classification":
        classes, y = np.unique(y, return_inverse=True)
    train, test = _split(y, task, test_size, seed)
    X_train = table.X[train]
    varies = X_train.min(axis=0) != X_train.max(axis=0)
    if not varies.any():
        raise DataError(f"every feature of {table.name} is constant in the training part")
    X_train, X_test = X_train[:, varies], table.X[np.ix_(test, varies)]
    features = tuple(np.array(table.features, dtype=object)[varies])
    constant = tuple(np.array(table.features, dtype=object)[~varies])

    # The copies are ours: scale them in place, and round to float32 last.
    scaler = require("sklearn.preprocessing").StandardScaler(copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        scaler.fit(X_train)
    if not np.isfinite(scaler.var_).all():
        worst = features[int(np.argmin(np.isfinite(scaler.var_)))]
        raise DataError(f"column {worst!r} holds numbers too large to square")
    X_train = scaler.transform(X_train).astype(np.float32)
    X_test = scaler.transform(X_test).astype(np.float32)
    y_train, y_test = y[train], y[test]
    if task == "classification":
        if len(np.unique(y_train)) < 2:
            raise DataError("the training part holds one class only; hold out fewer rows")
        return Prepared(task, X_train, X_test, y_train, y_test, features, constant, classes)
    y_train, y_test = y_train.astype(np.float64), y_test.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = float(y_train.mean()), float(y_train.std())
    if not 0 < scale < np.inf:
        raise DataError(
            f"the target {table.target!r} is constant or too large in the training part"
        )
    y_train = ((y_train - mean) / scale).astype(np.float32)
    return Prepared(
        task, X_train, X_test, y_train, y_test, features, constant, classes, mean, scale
    )


def _split(
    y: NDArray[Any], task: Task, test_size: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the numbers of the rows to train on and of those to hold out."""
    n = len(y)
    n_test = min(max(2, int(np.ceil(test_size * n))), n - 2)
    stratify = None
    if task == "classification":
        counts = np.bincount(y)
        if counts.min() >= 2 and len(counts) <= min(n_test, n - n_test):
            stratify = y
    split = require("sklearn.model_selection").train_test_split
    train, test = split(np.arange(n), test_size=n_test, random_state=seed, stratify=stratify)
    return train, test
