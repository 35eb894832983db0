"""Training curves with states and parameters of fewer bits: an MLP on scikit-learn's digits.

    python bench/low_precision.py [--epochs 60] [--seeds 5]

prints the table of ``docs/low_precision.md``: means over the seeds, and what they vary by.
"""

import argparse
from itertools import pairwise

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastgd
from fastgd.optim import AdamW

SIZES = (64, 256, 128, 10)
BATCH = 64
RUNS = {
    "float32": {},
    "bfloat16 states": {"state_dtype": "bfloat16"},
    "8-bit states": {"state_dtype": "int8"},
    "bfloat16 parameters, master copy": {"dtype": "bfloat16"},
    "bfloat16 parameters, stochastic": {"dtype": "bfloat16", "rounding": "stochastic"},
    "bfloat16 parameters, stochastic, 8-bit states": {
        "dtype": "bfloat16", "rounding": "stochastic", "state_dtype": "int8",
    },
}  # fmt: skip


def data():
    """Digits, scaled to [0, 1]: training and test set."""
    X, y = load_digits(return_X_y=True)
    return train_test_split((X / 16).astype(np.float32), y, test_size=0.3, random_state=0)


def forward(params, X):
    """Activations of each layer; the last ones are logits."""
    found = [X]
    for k in range(0, len(params), 2):
        z = found[-1] @ params[k] + params[k + 1]
        found.append(np.maximum(z, 0) if k + 2 < len(params) else z)
    return found


def loss_and_error(params, X, y):
    """Mean cross-entropy and its gradient with respect to the logits."""
    logits = forward(params, X)[-1]
    logits = logits - logits.max(1, keepdims=True)
    p = np.exp(logits)
    p /= p.sum(1, keepdims=True)
    loss = -np.log(np.maximum(p[np.arange(len(y)), y], 1e-30)).mean()
    p[np.arange(len(y)), y] -= 1
    return float(loss), p / len(y)


def gradients(params, X, y):
    """Gradients of the mean cross-entropy, by backpropagation."""
    activations = forward(params, X)
    error = loss_and_error(params, X, y)[1]
    grads = []
    for k in range(len(params) - 2, -1, -2):
        grads = [activations[k // 2].T @ error, error.sum(0), *grads]
        error = (error @ params[k].T) * (activations[k // 2] > 0)
    return grads


def train(seed, epochs, dtype="float32", **options):
    """Training loss after each epoch, and accuracy on the test set."""
    X, X_test, y, y_test = data()
    rng = np.random.default_rng(seed)
    params = []
    for n, m in pairwise(SIZES):
        params += [rng.standard_normal((n, m)) * np.sqrt(2 / n), np.zeros(m)]
    if dtype == "bfloat16":
        from ml_dtypes import bfloat16

        dtype = bfloat16
    params = [p.astype(dtype) for p in params]
    opt = AdamW(params, lr=1e-3, weight_decay=1e-2, **options)
    curve = []
    for _ in range(epochs):
        order = rng.permutation(len(X))
        for i in range(0, len(X), BATCH):
            rows = order[i : i + BATCH]
            wide = [p.astype(np.float32) for p in params]
            opt.step(gradients(wide, X[rows], y[rows]))
        wide = [p.astype(np.float32) for p in params]
        curve.append(loss_and_error(wide, X, y)[0])
    accuracy = float((forward(wide, X_test)[-1].argmax(1) == y_test).mean())
    return curve, accuracy


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    at = [e for e in (1, 5, 20, given.epochs) if e <= given.epochs]
    print("| AdamW |", " | ".join(f"loss, epoch {e}" for e in at), "| test accuracy |")
    print("|---|" + "---|" * (len(at) + 1))
    with fastgd.threads(1):
        for name, options in RUNS.items():
            runs = [train(seed, given.epochs, **options) for seed in range(given.seeds)]
            cells = [np.array([curve[e - 1] for curve, _ in runs]) for e in at]
            cells = [f"{c.mean():.2e} ± {c.std():.0e}" for c in cells]
            accuracy = np.array([a for _, a in runs])
            print(
                f"| {name} |",
                " | ".join(cells),
                f"| {accuracy.mean():.4f} ± {accuracy.std():.4f} |",
            )


if __name__ == "__main__":
    main()
