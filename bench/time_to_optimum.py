"""Seconds until logistic regression is within 1e-4 and 1e-8 of the best loss, ours and the peers'.

    python bench/time_to_optimum.py [--threads 1 2] [--rows 500000] [--repeats 5] [--gaps 1e-4 1e-8]
                                    [--limit 60] [--data dense scaled sparse]

On dense float32 rows, on the same with columns scaled by 1e-2 to 1e2, and on sparse ones. Each
contestant stops by its own tolerance: it gets the loosest that reaches the loss, found beforehand,
and X in the dtype that suits it better. The contestants take turns; the shortest time counts.
"""

import argparse
import math
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy.sparse as sp
from peers import pinned
from sklearn.linear_model import LogisticRegression as Peer

from fastgd.linear_model import LogisticRegression

TOLERANCES = [10.0**-k for k in np.arange(0.0, 9.5, 0.5)]
SOLVERS = ("lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga")


def dense(rows: int, columns: int = 100, *, scaled: bool = False) -> tuple[Any, Any]:
    """Normal rows, and labels by a logistic model."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, columns), dtype=np.float32)
    p = X @ (2 * rng.standard_normal(columns) / math.sqrt(columns)).astype(np.float32) + 0.3
    y = (rng.random(rows) < 1 / (1 + np.exp(-p))).astype(np.int64)
    return X * np.logspace(-2, 2, columns).astype(np.float32) if scaled else X, y


def sparse(rows: int, columns: int = 50_000, each: int = 38) -> tuple[Any, Any]:
    """Rows of 38 numbers in columns drawn uniformly."""
    rng = np.random.default_rng(0)
    columns_of = np.sort(rng.integers(0, columns, (rows, each)), axis=1).astype(np.int32)
    values = rng.standard_normal(rows * each).astype(np.float32)
    ends = np.arange(0, rows * each + 1, each, dtype=np.int32)
    X = sp.csr_matrix((values, columns_of.ravel(), ends), shape=(rows, columns))
    X.sum_duplicates()
    p = X @ (0.3 * rng.standard_normal(columns)).astype(np.float32)
    return X, (rng.random(rows) < 1 / (1 + np.exp(-p))).astype(np.int64)


def contestants(is_sparse: bool, threads: int) -> dict[str, Callable[[float], Any]]:
    """Make an estimator with a tolerance, by name."""
    made: dict[str, Callable[[float], Any]] = {
        "fastgd auto": lambda tol: LogisticRegression(tol=tol, max_iter=1000)
    }
    for solver in SOLVERS:
        if not (is_sparse and solver == "newton-cholesky"):
            made[f"scikit-learn {solver}"] = lambda tol, solver=solver: Peer(
                solver=solver, tol=tol, max_iter=100 if "sag" not in solver else 20
            )
    if find_spec("snapml"):
        from snapml import LogisticRegression as Snap

        made["snapml"] = lambda tol: Snap(
            tol=tol, max_iter=200, fit_intercept=True, regularizer=1.0, n_jobs=threads
        )
    return made


def loss(model: Any, X: Any, signs: Any) -> float:
    """The objective, in float64, of C=1."""
    w = np.ravel(model.coef_).astype(np.float64)
    p = X @ w + float(np.ravel(model.intercept_)[0])
    return float((np.logaddexp(0, -signs * p).sum() + 0.5 * w @ w) / len(signs))


def seconds(make: Callable[[float], Any], tol: float, X: Any, y: Any) -> tuple[float, Any]:
    """Fit once."""
    start = time.perf_counter()
    model = make(tol).fit(X, y)
    return time.perf_counter() - start, model


def loosest(
    make: Callable[[float], Any], data: list[Any], y: Any, good: Callable[[Any], bool], limit: float
) -> tuple[float, Any] | None:
    """Return the tolerance and the data with which the loss is reached soonest; None if never.

    After a fit of more than `limit` seconds smaller tolerances are not tried.
    """
    found = []
    for X in data:
        for tol in TOLERANCES:
            took, model = seconds(make, tol, X, y)
            if good(model):
                found.append((took, tol, X))
                break
            if took > limit:
                break
    return min(found, key=lambda one: one[0])[1:] if found else None


def report(name: str, X: Any, y: Any, threads: int, options: argparse.Namespace) -> None:
    """Print a table."""
    wide, signs = X.astype(np.float64), 2.0 * y - 1
    best = loss(LogisticRegression(tol=1e-11, max_iter=2000).fit(wide, y), wide, signs)
    print(f"\n{name}, {threads} thread(s): best loss {best:.9g}")
    for gap in options.gaps:
        ready = {}
        for who, make in contestants(sp.issparse(X), threads).items():
            most = best * (1 + gap)

            def good(model: Any, most: float = most) -> bool:
                return loss(model, wide, signs) <= most

            found = loosest(make, [X, wide], y, good, options.limit)
            if found is None:
                print(f"  {who:30} does not reach {gap:g}")
            else:
                ready[who] = (make, *found)
        times: dict[str, list[float]] = {who: [] for who in ready}
        for _ in range(options.repeats):
            for who, (make, tol, data) in ready.items():
                times[who].append(seconds(make, tol, data, y)[0])
        ours = min(times["fastgd auto"])
        for who, taken in sorted(times.items(), key=lambda one: min(one[1])):
            dtype = ready[who][2].dtype
            print(
                f"  {who:30} to {gap:g}: {min(taken):8.4f} s, {min(taken) / ours:6.1f} times ours"
                f"  ({dtype}, tol {ready[who][1]:.1g})"
            )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gaps", type=float, nargs="+", default=[1e-4, 1e-8])
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of a fit")
    kinds = ("dense", "scaled", "sparse")
    parser.add_argument("--data", nargs="+", choices=kinds, default=kinds)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    n, m = options.rows, options.rows * 2 // 5
    data = {
        "dense": (f"{n:,} x 100", lambda: dense(n)),
        "scaled": (f"{n:,} x 100, badly scaled", lambda: dense(n, scaled=True)),
        "sparse": (f"{m:,} x 50,000, sparse", lambda: sparse(m)),
    }
    for threads in options.threads:
        with pinned(threads):
            for kind in options.data:
                name, make = data[kind]
                report(name, *make(), threads, options)


if __name__ == "__main__":
    main()
