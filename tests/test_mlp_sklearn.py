"""Multilayer perceptrons: the same as scikit-learn's, and estimators as its tools like them.

In order: trajectories next to theirs, in float64; going on; scikit-learn's own checks.
"""

import copy
import inspect
import itertools
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

sklearn = pytest.importorskip("sklearn", minversion="1.9")
from sklearn import neural_network as peers  # noqa: E402 - after the check that it is there
from sklearn.datasets import make_multilabel_classification  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from fastgd.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from fastgd.schedules import constant  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.skipif(not sklearn.__version__.startswith("1.9."), reason="numbers are of 1.9"),
]
N_ROWS = 131  # a prime: the last batch is smaller


def rows(seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N_ROWS, 6))
    return X, np.sin(X[:, 0]) + X[:, 1] * X[:, 2] / 2 + 0.1 * rng.standard_normal(N_ROWS)


def classification(n_classes):
    X, y = rows()
    return X, np.digitize(y, np.quantile(y, np.arange(1, n_classes) / n_classes)) * 10


def multilabel():
    X, y = make_multilabel_classification(N_ROWS, 6, n_classes=4, random_state=0)
    return X / 10, y


def counts():
    X, y = rows()
    return X, np.random.default_rng(1).poisson(np.exp(y / 2)).astype(float)


def two_targets():
    X, y = rows()
    return X, np.column_stack([y, X[:, 3] ** 2])


DATA = {
    "binary": (MLPClassifier, {}, lambda: classification(2)),
    "multiclass": (MLPClassifier, {}, lambda: classification(4)),
    "multilabel": (MLPClassifier, {}, multilabel),
    "squared error": (MLPRegressor, {}, rows),
    "two targets": (MLPRegressor, {}, two_targets),
    "poisson": (MLPRegressor, {"loss": "poisson"}, counts),
}
SOLVERS = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "momentum": {"solver": "sgd", "learning_rate_init": 0.02, "nesterovs_momentum": False},
    "no momentum": {"solver": "sgd", "learning_rate_init": 0.1, "momentum": 0},
    "adam": {"solver": "adam", "learning_rate_init": 0.01, "epsilon": 1e-3},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.2},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.1,
                 "tol": 0.02, "n_iter_no_change": 1, "max_iter": 20},
}  # fmt: skip


def peer_of(ours):
    """Scikit-learn's estimator with the same parameters."""
    cls = getattr(peers, type(ours).__name__)
    names = inspect.signature(cls).parameters
    return cls(**{name: value for name, value in ours.get_params().items() if name in names})


def assert_same(ours, theirs, X, rtol=1e-9):
    """Parameters to 1e-9, and what else scikit-learn's estimator tells."""
    for name in ("coefs_", "intercepts_"):
        for mine, other in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert_allclose(mine, other, rtol=rtol, atol=rtol, err_msg=name)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("loss_", "loss_curve_", "best_loss_", "validation_scores_",
                 "best_validation_score_"):  # fmt: skip
        mine, other = getattr(ours, name, None), getattr(theirs, name, None)
        assert (mine is None) == (other is None), name
        if other is not None:
            assert_allclose(mine, other, rtol=1e-8, err_msg=name)
    assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-7, atol=1e-9)
    if hasattr(theirs, "classes_"):
        assert_array_equal(ours.classes_, theirs.classes_)
        assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-7, atol=1e-12)
        assert_allclose(ours.predict_log_proba(X), theirs.predict_log_proba(X), rtol=1e-7)


def fit_both(ours, X, y, **fit):
    theirs = peer_of(ours)
    ours.fit(X, y, **fit)
    theirs.fit(X, y, **fit)
    assert_same(ours, theirs, X)
    return ours, theirs


# ---- trajectories --------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("data", DATA)
def test_epochs_are_those_of_scikit_learn(data, solver):
    """Protects the promise that changing the import changes nothing."""
    cls, given, load = DATA[data]
    X, y = load()
    weights = np.random.default_rng(2).random(N_ROWS) + 0.1
    grid = [("relu", True, None, 200), ("tanh", False, weights, 32), ("logistic", True, None, 7)]
    for seed, (activation, shuffle, sample_weight, batch_size) in enumerate(grid):
        given = {"max_iter": 4, "alpha": 0.1, "n_iter_no_change": np.inf, **given}
        model = cls(
            hidden_layer_sizes=(9, 5), activation=activation, shuffle=shuffle, random_state=seed,
            batch_size=min(batch_size, N_ROWS), **{**given, **SOLVERS[solver]},
        )  # fmt: skip
        fit_both(model, X, y, sample_weight=sample_weight)


@pytest.mark.parametrize("data", DATA)
def test_lbfgs_is_that_of_scikit_learn(data):
    """Protects loss and gradient of all rows; with two targets theirs do not belong together."""
    cls, given, load = DATA[data]
    X, y = load()
    weights = np.random.default_rng(2).random(N_ROWS)
    model = cls(
        hidden_layer_sizes=(7,),
        activation="tanh",
        solver="lbfgs",
        alpha=0.5,
        max_iter=6,
        random_state=0,
        **given,
    )
    if data != "two targets":
        fit_both(model, X, y, sample_weight=weights)
    assert model.fit(X.astype(np.float32), y).coefs_[0].dtype == np.float32


@pytest.mark.parametrize("data", ["binary", "multiclass", "multilabel", "squared error", "poisson"])
def test_early_stopping_is_that_of_scikit_learn(data):
    """Protects the split, the scores, when to stop, and the best weights."""
    cls, given, load = DATA[data]
    X, y = load()
    for sample_weight in (None, np.random.default_rng(2).random(N_ROWS)):
        model = cls(
            hidden_layer_sizes=(8,), early_stopping=True, n_iter_no_change=2, tol=1e-3,
            learning_rate_init=0.02, max_iter=25, batch_size=20, random_state=3,
            validation_fraction=0.3, **given,
        )  # fmt: skip
        fit_both(model, X, y, sample_weight=sample_weight)


def test_it_stops_when_scikit_learn_stops():
    """Protects tol and n_iter_no_change, and scikit-learn's random states."""
    X, y = classification(3)
    stopped = set()
    for tol, n_iter_no_change in [(1e-2, 3), (3e-2, 1), (1e-1, 10)]:
        model = MLPClassifier((5,), tol=tol, n_iter_no_change=n_iter_no_change, max_iter=60,
                              learning_rate_init=0.02)  # fmt: skip
        ours = model.set_params(random_state=np.random.RandomState(1))
        theirs = peer_of(ours).set_params(random_state=np.random.RandomState(1))
        for _ in range(2):  # the second fit draws on from the same generator
            assert_same(ours.fit(X, y), theirs.fit(X, y), X)
        stopped.add(ours.n_iter_)
    assert len(stopped) == 3


@pytest.mark.parametrize("solver", ["sgd", "adam", "invscaling", "adaptive"])
@pytest.mark.parametrize("data", ["multiclass", "squared error"])
def test_going_on_as_scikit_learn_does(data, solver):
    """Protects warm_start, and partial_fit before and after fit, with what is carried on."""
    cls, given, load = DATA[data]
    X, y = load()
    given = {"max_iter": 3, "random_state": 0, "batch_size": 50, **given, **SOLVERS[solver]}
    ours = cls(hidden_layer_sizes=(6,), **given)
    theirs = peer_of(ours)
    options = {"classes": np.unique(y)} if cls is MLPClassifier else {}
    for part in (slice(0, 70), slice(70, None), slice(None)):
        for model in (ours, theirs):
            model.partial_fit(X[part], y[part], **options)
        assert_same(ours, theirs, X)
    for warm_start in (False, True):
        for model in (ours, theirs):
            model.set_params(warm_start=warm_start).fit(X, y)
        assert_same(ours, theirs, X)
    for model in (ours, theirs):
        model.partial_fit(X, y)
    assert_same(ours, theirs, X)


@pytest.mark.parametrize("data", DATA)
def test_networks_go_to_scikit_learn(data):
    """Protects `network_`: what is copied from it to scikit-learn predicts the same, and trains."""
    cls, given, load = DATA[data]
    X, y = load()
    model = cls(hidden_layer_sizes=(6,), max_iter=3, random_state=0, **given).fit(X, y)
    classes = {"classes": model.classes_} if data in ("binary", "multiclass") else {}
    theirs = model.network_.to_sklearn(random_state=0, **classes)
    assert_allclose(model.predict(X), theirs.predict(X), rtol=1e-12)
    theirs.partial_fit(X, y)


# ---- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [
    {}, {"solver": "sgd", "learning_rate": "invscaling"}, {"optimizer": "adamw", "ema_decay": 0.9},
    {"optimizer": "schedule_free_sgd"}, {"norm": "batch", "dropout": 0.2},
])  # fmt: skip
def test_what_was_pickled_goes_on_to_the_bit(given):
    """Protects the state of optimizer, averages and network in pickles and copies."""
    X, y = classification(3)
    model = MLPClassifier((6, 6), batch_size=20, random_state=0, **given)
    model.partial_fit(X, y, classes=np.unique(y)).partial_fit(X, y)
    others = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    assert len(pickle.dumps(model)) < 12_000  # parameters once
    model.partial_fit(X, y)
    for other in others:
        other.partial_fit(X, y)
        assert_array_equal(other.predict_proba(X), model.predict_proba(X))
        for mine, theirs in zip(other.coefs_, model.coefs_, strict=True):
            assert_array_equal(mine, theirs)


# ---- scikit-learn's own checks -------------------------------------------------------------------


@parametrize_with_checks(
    [
        MLPClassifier((10,), learning_rate_init=0.05, max_iter=20),
        MLPRegressor(hidden_layer_sizes=(10,), learning_rate_init=0.05, max_iter=20),
        MLPClassifier((10,), solver="lbfgs", max_iter=20),
        MLPRegressor(
            hidden_layer_sizes=(10,),
            optimizer="adamw",
            schedule=constant(0.05),
            norm="layer",
            max_iter=20,
        ),
    ],
)
def test_scikit_learns_checks(estimator, check):
    """Protects what pipelines, searches and clones rely on."""
    check(estimator)


def test_signatures_are_those_of_scikit_learn():
    """Protects the order of parameters and their defaults, and what may be given by position."""
    for ours in (MLPClassifier, MLPRegressor):
        theirs = inspect.signature(getattr(peers, ours.__name__)).parameters
        mine = inspect.signature(ours).parameters
        for name, other in itertools.islice(theirs.items(), len(theirs)):
            assert mine[name].default == other.default, name
            assert mine[name].kind == other.kind, name
        assert list(mine)[: len(theirs)] == list(theirs)
