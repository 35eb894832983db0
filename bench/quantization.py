"""Networks in 8 and 4 bits: scores on digits and diamonds, speed of prediction, sizes of files.

    python bench/quantization.py [--seeds 10] [--threads 1]

prints the tables of ``docs/quantization.md``. Every network is trained in float32, then for a
quarter of those epochs either so or prepared, and quantised. Needs plotnine for the diamonds, and
safetensors.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastgd
from fastgd.nn import Dense, Network
from fastgd.optim import Adam
from fastgd.quantization import PreparedNetwork, convert, prepare, quantize

EPOCHS = {"digits": 40, "diamonds": 12}
SCORED = {  # data, widths
    "digits": ("digits", (64, 64, 10)),
    "digits, wider": ("digits", (64, 128, 10)),
    "diamonds": ("diamonds", (9, 128, 128, 1)),
}
TIMED = (64, 128, 10), (9, 128, 128, 1), (784, 128, 10)
BATCH = 64
BEST = {"observer": "mse", "weight_observer": "mse"}
RUNS = {
    "8 bits, after training": (quantize, {}),
    "8 bits, trained so": (prepare, {}),
    "8 bits, steps learned": (prepare, {"learn_scales": True}),
}
for few in (4, 2):
    codes = {"bits": few, "activation_bits": few}
    RUNS |= {
        f"{few} bits, after training": (quantize, codes),
        f"{few} bits, after training, least squares": (quantize, codes | BEST),
        f"{few} bits, trained so": (prepare, codes),
        f"{few} bits, steps learned": (prepare, codes | BEST | {"learn_scales": True}),
    }


def digits(seed):
    """Scans of digits, from 0 to 1."""
    X, y = load_digits(return_X_y=True)
    return train_test_split((X / 16).astype(np.float32), y, test_size=0.3, random_state=seed)


def diamonds(seed):
    """Logarithms of prices, and what they depend on; standardised."""
    from plotnine.data import diamonds as table

    grades = [table[name].cat.codes for name in ("cut", "color", "clarity")]
    X = np.column_stack([table[["carat", "depth", "table", "x", "y", "z"]], *grades])
    y = np.log(table["price"].to_numpy(float))
    parts = train_test_split(X, y - y.mean(), test_size=0.3, random_state=seed)
    mean, spread = parts[0].mean(axis=0), parts[0].std(axis=0)
    X = [np.ascontiguousarray((part - mean) / spread, np.float32) for part in parts[:2]]
    return *X, *(part.astype(np.float32) for part in parts[2:])


DATA = {"digits": digits, "diamonds": diamonds}


def new_network(widths, seed=0):
    """Return a network that has not been trained."""
    first, *hidden, last = widths
    layers = [*(Dense(n, "relu") for n in hidden), Dense(last)]
    loss = "squared_error" if last == 1 else "cross_entropy"
    return Network(first, layers, loss=loss, rng=seed)


def train(network, X, y, epochs, lr, seed):
    """Train with Adam, at a rate that falls to zero."""
    has_groups = isinstance(network, PreparedNetwork)
    opt = Adam(network.param_groups(lr) if has_groups else network.parameters, lr=lr)
    first = [group["lr"] for group in opt.param_groups]
    rng = np.random.default_rng(seed)
    for epoch in range(epochs):
        for group, start in zip(opt.param_groups, first, strict=True):
            group["lr"] = start * (1 - epoch / epochs)
        network.train_epoch(opt, X, y, rng.permutation(len(X)), batch_size=BATCH)


def score(model, X, y):
    """Accuracy in percent, or R^2."""
    raw = model.predict_raw(X)
    if raw.shape[1] > 1:
        return 100 * float((raw.argmax(axis=1) == y).mean())
    return 1 - float(np.square(raw[:, 0] - y).sum() / np.square(y - y.mean()).sum())


def scores(name, seed):
    """Score of each way."""
    data, widths = SCORED[name]
    X, X_test, y, y_test = DATA[data](seed)
    network = new_network(widths, seed)
    train(network, X, y, EPOCHS[data], 0.003, seed)
    saved = network.state_dict()
    more = EPOCHS[data] // 4
    train(network, X, y, more, 0.001, seed + 1)
    found = {"float32": score(network, X_test, y_test)}
    for run, (way, options) in RUNS.items():
        if way is quantize:
            small = quantize(network, X[:2048], **options)
        else:
            start = new_network(widths)
            start.load_state_dict(saved)
            prepared = prepare(start, X[:2048], **options)
            train(prepared, X, y, more, 0.001, seed + 1)
            small = convert(prepared)
        found[run] = score(small, X_test, y_test)
    return found


def print_scores(seeds):
    """Print a table of means, what they vary by, and differences to float32."""
    print("| | " + " | ".join(f"{name} | to float32" for name in SCORED) + " |")
    print("|---|" + "---:|---:|" * len(SCORED))
    tables = {name: [scores(name, seed) for seed in range(seeds)] for name in SCORED}
    for run in ("float32", *RUNS):
        cells = []
        for name, table in tables.items():
            mine = np.array([row[run] for row in table])
            plain = np.array([row["float32"] for row in table])
            spec = ".4f" if name == "diamonds" else ".2f"
            cells.append(f"{mine.mean():{spec}} ± {mine.std():{spec}}")
            cells.append(f"{(mine - plain).mean():+{spec}}")
        print(f"| {run} | {' | '.join(cells)} |")
    for name, table in tables.items():
        for few in (4, 2):
            after = [max(row[k] for k in row if f"{few} bits, after" in k) for row in table]
            for run in (f"{few} bits, trained so", f"{few} bits, steps learned"):
                gain = np.array([row[run] for row in table]) - after
                print(
                    f"\n{name}: {run}, beats the better one after training by {gain.mean():.3g} "
                    f"± {gain.std():.2g} ({(gain > 0).sum()} of {len(gain)} seeds)"
                )


def seconds(predict, X):
    """Time of one call."""
    start = time.perf_counter()
    predict(X)
    return time.perf_counter() - start


def print_speed(rows, repeats):
    """Print rows per second of both kinds, alternately measured, and sizes of files."""
    from safetensors.numpy import save_file

    print(
        "\n| network | float32, rows/s | int8, rows/s | faster | file |\n|---|---:|---:|---:|---:|"
    )
    for widths in TIMED:
        network = new_network(widths)
        X = np.random.default_rng(0).normal(size=(rows, widths[0])).astype(np.float32)
        small = quantize(network, X[:2048])
        times = np.array(
            [[seconds(model.predict_raw, X) for model in (network, small)] for _ in range(repeats)]
        )
        with tempfile.TemporaryDirectory() as folder:
            small.save(Path(folder) / "int8")
            arrays = dict(zip(network.names, network.parameters, strict=True))
            save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, f"{folder}/float32")
            files = [os.path.getsize(f"{folder}/{kind}") for kind in ("int8", "float32")]
        plain, quick = np.median(times, axis=0)
        print(
            f"| {'-'.join(map(str, widths))} | {rows / plain:,.0f} | {rows / quick:,.0f} | "
            f"{plain / quick:.2f}x | {files[0] / files[1]:.1%} |"
        )


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1, help="of the measurements of speed")
    given = parser.parse_args()
    print_scores(given.seeds)
    with fastgd.threads(given.threads):
        print_speed(given.rows, given.repeats)


if __name__ == "__main__":
    main()
