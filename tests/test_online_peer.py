"""Vowpal Wabbit itself: the same weights, row by row, to what its float32 can tell.

Its squared error and its expectiles are counted otherwise, as `PEERS` says. Its steps for the
logistic loss take Lambert's function from an approximation, good to 1e-4.
"""

import numpy as np
import pytest
from linear_rows import train_rows
from numpy.testing import assert_allclose

from fastgd import _core
from fastgd._hypers import hyper_values, make_states

vowpalwabbit = pytest.importorskip("vowpalwabbit")
sparse = pytest.importorskip("scipy.sparse")

INTERCEPT = 11650396 % 2**18  # where it keeps the weight of the constant feature
# its name and ours; our parameter; how many times our loss its own is; relative agreement
PEERS = {
    "squared": ("squared_error", 0.0, 2.0, 1e-5),
    "logistic": ("log_loss", 0.0, 1.0, 2e-3),
    "hinge": ("hinge", 0.0, 1.0, 1e-5),
    "quantile --quantile_tau 0.3": ("pinball", 0.3, 1.0, 1e-5),
    "expectile --expectile_q 0.3": ("expectile", 0.7, 1.0, 1e-5),
    "poisson": ("poisson", 0.0, 1.0, 1e-5),
}
MANNERS = {
    "": {},  # its default
    "--adaptive --normalized": {"invariant": False},
    "--adaptive --invariant": {"normalized": False},
    "--normalized --invariant": {"adaptive": False},
    "--adaptive --normalized --invariant --power_t 0.3": {"power_t": 0.3},
    "--invariant --power_t 0": {"adaptive": False, "normalized": False, "power_t": 0.0},
}


def make_data(kind, normalized, n_rows=150, n_features=6):
    """Sparse rows of numbers that float32 holds, of any scale if that is to be learned."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((n_rows, n_features)) * (rng.random((n_rows, n_features)) < 0.7)
    y = X @ rng.standard_normal(n_features) * 0.4 + 0.2 + 0.1 * rng.standard_normal(n_rows)
    if normalized:
        X *= 10.0 ** rng.integers(-3, 4, n_features)
    y = y.round(3)
    if kind in ("logistic", "hinge"):
        y = np.where(y > 0.2, 1.0, -1.0)
    elif kind == "poisson":
        y = np.abs(y * 3).round()
    return X.astype(np.float32).astype(float), y, rng.integers(0, 4, n_rows).astype(float)


def weights_of_peer(X, y, weights, arguments):
    """What it makes of the rows: weights, then the intercept."""
    workspace = vowpalwabbit.Workspace(
        f"--quiet -b 18 --min_prediction -1e9 --max_prediction 1e9 {arguments}"
    )
    for row, target, weight in zip(X, y, weights, strict=True):
        features = " ".join(f"{j}:{float(v)!r}" for j, v in enumerate(row) if v)
        workspace.learn(f"{float(target)!r} {float(weight)!r} | {features}")
    found = [workspace.get_weight(j) for j in (*range(X.shape[1]), INTERCEPT)]
    workspace.finish()
    return np.array(found)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array], ids=["array", "matrix"])
@pytest.mark.parametrize("arguments", MANNERS)
@pytest.mark.parametrize("peer", PEERS)
def test_weights_are_those_of_vowpal_wabbit(peer, arguments, form):
    """Protects the name: losses, importance weights, every part of the update."""
    loss, parameter, times, rtol = PEERS[peer]
    manner = MANNERS[arguments]
    X, y, weights = make_data(peer, manner.get("normalized", True))
    rate = 0.5 if manner.get("adaptive", True) else 0.05
    expected = weights_of_peer(
        X, y, weights, f"--loss_function {peer} -l {rate} --initial_t 0 {arguments}"
    )

    power_t = manner.get("power_t", 0.5)
    own_rate = rate * times ** (1 - 2 * power_t if manner.get("adaptive", True) else 1)
    hypers, params = hyper_values("vw", manner), np.zeros(X.shape[1] + 1)
    train_rows(
        form(X), y, params, own_rate, rule="vw", hypers=hypers, loss=loss, loss_parameter=parameter,
        states=make_states("vw", hypers, params), kept=np.zeros(_core.N_KEPT),
        sample_weight=weights,
    )  # fmt: skip
    sizes = np.append(np.abs(X).max(0), 1.0)  # weights are as large as what they add to predictions
    assert_allclose(
        params * sizes, expected * sizes, rtol=rtol, atol=rtol * np.abs(params * sizes).max()
    )
