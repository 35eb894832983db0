"""Estimators with ``optimizer="vw"``: what they make of it, how they go on, what they refuse."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fastgd import reference

pytest.importorskip("sklearn")
sparse = pytest.importorskip("scipy.sparse")

from fastgd.linear_model import SGDClassifier, SGDRegressor  # noqa: E402 - needs scikit-learn

VW = {"optimizer": "vw", "learning_rate": "constant", "eta0": 0.5, "random_state": 0}


def make_data(n_rows=200, n_features=7, seed=0):
    """Columns of scales from 1e-3 to 1e3, and what a linear model nearly meets."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, n_features))
    y = X @ rng.standard_normal(n_features) + 0.5 + 0.1 * rng.standard_normal(n_rows)
    return X * 10.0 ** np.linspace(-3, 3, n_features), y


def numbers(model):
    states = [s for problem in model._states for s in problem if s is not None]
    return [model.coef_, model.intercept_, np.array(model._kept), *states]


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array], ids=["array", "matrix"])
@pytest.mark.parametrize(
    "optimizer", ["vw", ("vw", {"invariant": False, "power_t": 0.4})], ids=["vw", "others"]
)
def test_a_fit_follows_the_reference(form, optimizer):
    """Protects what the estimator hands on: rates, penalty, weights, two epochs."""
    X, y = make_data()
    weights = np.random.default_rng(1).integers(0, 3, len(y)).astype(float)
    model = SGDRegressor(**{**VW, "optimizer": optimizer}, shuffle=False, max_iter=2, tol=None)
    model.set_params(alpha=1e-7, learning_rate="invscaling", power_t=0.1)
    model.fit(form(X), y, sample_weight=weights)
    w, b, state = [0.0] * X.shape[1], [0.0], {}
    manner = {} if optimizer == "vw" else optimizer[1]
    for t in range(2 * len(y)):
        i, lr = t % len(y), 0.5 / (t + 1) ** 0.1
        reference.vw(
            X[i].tolist(), y[i], w, b, state, loss="squared_error", sample_weight=weights[i],
            lr=lr, alpha=1e-7, **manner,
        )  # fmt: skip
    assert_allclose(model.coef_, w, rtol=1e-11)
    assert_allclose(model.intercept_, b, rtol=1e-11)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array], ids=["array", "matrix"])
def test_unscaled_data_are_learned(form):
    """Protects the promise of both estimators on columns from 1e-3 to 1e3."""
    X, y = make_data(3000)
    assert SGDRegressor(**VW, penalty=None).fit(form(X), y).score(form(X), y) > 0.98
    labels = np.array(["low", "middle", "high"])[np.digitize(y, [-1.0, 1.0])]
    binary = SGDClassifier(loss="log_loss", **VW, penalty=None).fit(form(X), y > 0)
    assert binary.score(form(X), y > 0) > 0.95
    many = SGDClassifier(loss="log_loss", **VW, penalty=None).fit(form(X), labels)
    assert many.score(form(X), labels) > 0.75  # the middle is no half-space
    assert many.coef_.shape == (3, X.shape[1])


@pytest.mark.parametrize("between", [lambda m: m, lambda m: pickle.loads(pickle.dumps(m))])
def test_partial_fit_goes_on(assert_same_bits, between):
    """Protects streams, and models that were stored: the same bits as in one call."""
    X, y = make_data()
    whole = SGDRegressor(**VW, shuffle=False).partial_fit(X, y)
    pieces = SGDRegressor(**VW, shuffle=False)
    for start in range(0, len(y), 50):
        pieces = between(pieces.partial_fit(X[start : start + 50], y[start : start + 50]))
    assert_same_bits(numbers(whole), numbers(pieces))


def test_batch_size_auto_is_one_row():
    """Protects "auto", which is a row at a time here."""
    X, y = make_data()
    one, auto = (SGDRegressor(**VW, batch_size=size).fit(X, y) for size in (1, "auto"))
    assert_allclose(one.coef_, auto.coef_, rtol=0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"batch_size": 2}, "batch_size must be 1 with optimizer='vw', which learns row by row"),
        ({"loss": "multinomial"}, "loss must not be 'multinomial' with optimizer='vw'"),
        ({"penalty": "l1"}, "penalty must be 'l2' or None with optimizer='vw'"),
        ({"average": True}, "average must not be True with"),
        ({"optimizer": ("vw", {"power": 1})}, "'power' must be a hyper-parameter of 'vw'"),
        ({"optimizer": ("vw", {"power_t": -1})}, "power_t must be a finite number, 0 or more"),
    ],
    ids=str,
)
def test_what_it_does_not_do_is_refused(given, words):
    """Protects from options that would be passed over in silence."""
    X, y = make_data()
    with pytest.raises((ValueError, TypeError), match=words):
        SGDClassifier(**{**VW, **given}).fit(X, np.digitize(y, [-1.0, 1.0]))
