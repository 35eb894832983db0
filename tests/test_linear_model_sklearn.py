"""Linear models: the same as scikit-learn at batch size 1, and estimators as its tools like them.

In order: trajectories next to theirs, the conventions of estimators, scikit-learn's own checks.
"""

import inspect
import itertools

import numpy as np
import pytest
from linear_models import (
    N_ROWS,
    SCHEDULES,
    SCIKIT_LEARNS,
    all_params,
    classes_of,
    make_data,
    make_model,
    peers_of,
    sklearn_models,
)
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastgd import _core
from fastgd.linear_model import SGDClassifier, SGDOneClassSVM, SGDRegressor

CLASSIFIER_LOSSES = SCIKIT_LEARNS
REGRESSOR_LOSSES = [loss for loss in SCIKIT_LEARNS if _core.LOSSES[loss]["task"] == "both"]


# ---- scikit-learn, at batch size 1 ---------------------------------------------------------------


def assert_same_model(ours, theirs, X):
    """Parameters and predictions to 1e-10, and what else scikit-learn's estimator tells."""
    assert_allclose(ours.coef_, theirs.coef_, rtol=1e-10, atol=1e-12)
    assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-10, atol=1e-12)
    assert ours.coef_.shape == theirs.coef_.shape
    assert ours.intercept_.shape == theirs.intercept_.shape
    assert ours.n_features_in_ == theirs.n_features_in_
    assert ours.t_ == theirs.t_
    if not hasattr(theirs, "classes_"):
        assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-9, atol=1e-10)
    else:
        assert_array_equal(ours.classes_, theirs.classes_)
        assert_array_equal(ours.predict(X), theirs.predict(X))
        assert_allclose(
            ours.decision_function(X), theirs.decision_function(X), rtol=1e-9, atol=1e-10
        )


def fit_both(ours, X, y, seed, weighted):
    """Fit our estimator and theirs, and compare; alpha makes the rates of "optimal" bearable."""
    theirs = peers_of(ours.set_params(alpha=0.3, random_state=seed, max_iter=4, tol=None))
    weights = np.random.default_rng(seed).random(len(y)) if weighted else None
    ours.fit(X, y, sample_weight=weights)
    theirs.fit(X, y, sample_weight=weights)
    assert_same_model(ours, theirs, X)
    return ours, theirs


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("learning_rate", SCHEDULES)
@pytest.mark.parametrize("loss", CLASSIFIER_LOSSES)
def test_classifier_is_that_of_scikit_learn(loss, learning_rate, shuffle, n_classes):
    """Protects the promise that changing the import changes nothing."""
    X, _ = make_data(N_ROWS, 6, loss)
    y = classes_of(X, n_classes)
    given = {"loss": loss, "learning_rate": learning_rate, "shuffle": shuffle}
    given.update(eta0=0.1, power_t=0.4)
    grid = itertools.product(["l2", None], [True, False], [None, "balanced"], [False, True])
    for seed, (penalty, fit_intercept, class_weight, weighted) in enumerate(grid):
        given.update(penalty=penalty, fit_intercept=fit_intercept, class_weight=class_weight)
        ours, theirs = fit_both(SGDClassifier(**given), X, y, seed, weighted)
        assert ours.n_iter_ == theirs.n_iter_ == 4
        if loss == "log_loss":
            probability = ours.predict_proba(X)
            assert_allclose(probability, theirs.predict_proba(X), rtol=1e-9)
            assert_allclose(probability.sum(axis=1), 1, rtol=1e-14)
            assert_allclose(ours.predict_log_proba(X), np.log(probability), rtol=1e-14)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("learning_rate", SCHEDULES)
@pytest.mark.parametrize("loss", REGRESSOR_LOSSES)
def test_regressor_is_that_of_scikit_learn(loss, learning_rate, shuffle):
    """Protects the promise that changing the import changes nothing."""
    X, y = make_data(N_ROWS, 6, loss)
    given = {"loss": loss, "learning_rate": learning_rate, "shuffle": shuffle, "epsilon": 0.4}
    grid = itertools.product(["l2", None], [True, False], [False, True])
    for seed, (penalty, fit_intercept, weighted) in enumerate(grid):
        given.update(penalty=penalty, fit_intercept=fit_intercept)
        fit_both(SGDRegressor(**given), X, y, seed, weighted)


@pytest.mark.parametrize(("loss", "n_classes"), [("squared_error", 0), ("hinge", 2), ("hinge", 3)])
def test_it_stops_when_scikit_learn_stops(loss, n_classes):
    """Protects tol and n_iter_no_change: defaults and other values."""
    X, y = make_data(400, 5, loss)
    y = classes_of(X, n_classes) if n_classes else y
    make = SGDClassifier if n_classes else SGDRegressor
    counts = set()
    for tol, n_iter_no_change in [(1e-3, 5), (1e-2, 2), (1e-4, 1)]:
        ours = make(tol=tol, n_iter_no_change=n_iter_no_change, random_state=1)
        theirs = peers_of(ours).fit(X, y)
        assert ours.fit(X, y).n_iter_ == theirs.n_iter_
        assert_same_model(ours, theirs, X)
        counts.add(ours.n_iter_)
    assert len(counts) > 1


@pytest.mark.parametrize("n_classes", [0, 2, 3])
def test_scikit_learns_random_states(n_classes):
    """Protects the order of rows for each kind of seed: the generator is left where theirs is."""
    X, y = make_data(N_ROWS, 5, "squared_error")
    y = classes_of(X, n_classes) if n_classes else y
    make = SGDClassifier if n_classes else SGDRegressor
    for state in (0, 2**32 - 1, np.random.RandomState):
        seed = (lambda state=state: state(3)) if callable(state) else (lambda state=state: state)
        ours = make(alpha=0.1, max_iter=2, tol=None, random_state=seed())
        theirs = peers_of(ours).set_params(random_state=seed())
        for _ in range(2):  # the second fit draws on from the same generator
            assert_same_model(ours.fit(X, y), theirs.fit(X, y), X)
    np.random.seed(5)  # noqa: NPY002 - what random_state=None stands for
    ours.set_params(random_state=None).fit(X, y)
    np.random.seed(5)  # noqa: NPY002
    assert_same_model(ours, theirs.set_params(random_state=None).fit(X, y), X)


@pytest.mark.parametrize("n_classes", [0, 2, 4])
def test_going_on_as_scikit_learn_does(n_classes):
    """Protects coef_init, intercept_init, warm_start, and partial_fit after fit and before it."""
    X, y = make_data(N_ROWS, 6, "squared_error")
    rng = np.random.default_rng(0)
    first, other = slice(0, 70), slice(70, None)
    ours = SGDRegressor(max_iter=3, tol=None, random_state=0)
    coef, intercept = rng.standard_normal(6), rng.standard_normal(1)
    options = {}
    if n_classes:
        y = classes_of(X, n_classes)
        ours = SGDClassifier(alpha=0.1, max_iter=3, tol=None, random_state=0)
        n_problems = 1 if n_classes == 2 else n_classes
        coef, intercept = rng.standard_normal((n_problems, 6)), rng.standard_normal(n_problems)
        options = {"classes": np.unique(y)}
    theirs = peers_of(ours)

    def both(do):
        assert_same_model(do(ours), do(theirs), X)

    both(lambda model: model.fit(X, y, coef_init=coef, intercept_init=intercept))
    both(lambda model: model.fit(X, y, coef_init=coef))
    both(lambda model: model.fit(X, y, intercept_init=intercept))
    both(lambda model: model.fit(X, y))
    both(lambda model: model.set_params(warm_start=True).fit(X[first], y[first]))
    both(lambda model: model.fit(X[other], y[other]))
    if n_classes:  # scikit-learn's regressor takes no notice of coef_init then
        both(lambda model: model.fit(X[other], y[other], coef_init=coef))
    both(lambda model: model.partial_fit(X[first], y[first]))
    both(lambda model: model.partial_fit(X[other], y[other], sample_weight=np.ones(61) / 3))
    both(lambda model: model.set_params(warm_start=False).fit(X, y))
    ours, theirs = clone(ours), clone(theirs)
    both(lambda model: model.partial_fit(X[first], y[first], **options))
    both(lambda model: model.partial_fit(X[other], y[other], **options))


@pytest.mark.parametrize(
    "labels",
    [
        np.array([-128, 127], np.int8),
        np.array([0, 255], np.uint8),
        np.array([-5, 90_000]),
        np.array([-(2**63), 2**63 - 1]),
        np.array([2**64 - 2, 2**64 - 1], np.uint64),
        np.array([7, 8], np.uint64),
        np.array([False, True]),
        np.array([1.0, 2.0], np.float32),
        np.array(["no", "yes"]),
        np.array([b"no", b"yes"]),
        np.array(["no", "yes"], object),
    ],
    ids=lambda labels: f"{labels.dtype}-{labels[0]}",
)
def test_labels_of_every_type(labels):
    """Protects how labels are found: counted where they are small integers, sorted elsewhere."""
    X, _ = make_data(N_ROWS, 4, "hinge")
    y = labels[(X[:, 0] > 0).astype(int)]
    ours = SGDClassifier(alpha=0.1, max_iter=3, tol=None, random_state=0).fit(X, y)
    assert_array_equal(ours.classes_, labels)
    assert ours.classes_.dtype == ours.predict(X).dtype == labels.dtype
    assert np.mean(ours.predict(X) == y) > 0.9
    if labels.dtype.kind != "S":  # which scikit-learn takes for text to decode
        assert_same_model(ours, peers_of(ours).fit(X, y), X)


def test_probabilities_far_from_the_plane():
    """Protects predict_proba where all probabilities underflow, and from overflow warnings."""
    model = SGDClassifier(loss="log_loss", random_state=0)
    X, _ = make_data(N_ROWS, 4, "hinge")
    model.fit(X, classes_of(X, 3))
    model.intercept_ = np.full(3, -1e4)
    assert_array_equal(model.predict_proba(X), np.full((N_ROWS, 3), 1 / 3))
    model.intercept_ = np.array([1e4, -1e4, -1e4])
    assert_array_equal(model.predict_proba(X), np.tile([1.0, 0.0, 0.0], (N_ROWS, 1)))


# ---- the conventions of estimators ---------------------------------------------------------------


@pytest.mark.parametrize("make", [SGDClassifier, SGDRegressor, SGDOneClassSVM])
def test_parameters_and_defaults_are_scikit_learns(make):
    """Protects the promise of the same constructor: names, defaults, clone, set_params."""
    ours, peer = make(), getattr(sklearn_models, make.__name__)
    theirs, parameters = peer().get_params(), ours.get_params()
    own = {name: parameters.pop(name) for name in set(parameters) - set(theirs)}
    assert parameters == theirs
    defaults = {"batch_size": 1, "optimizer": "sgd"}
    defaults |= dict.fromkeys(("restore_best_weights", "grad_norm", "positive"), False)
    assert own == dict.fromkeys(own) | {k: v for k, v in defaults.items() if k in own}
    places = [list(inspect.signature(one).parameters.values()) for one in (make, peer)]
    names = [[(p.name, p.kind) for p in parameters] for parameters in places]
    assert names[0][: len(names[1])] == names[1]
    assert all(p.kind is p.KEYWORD_ONLY for p in places[0] if p.name in own)
    ours.set_params(eta0=0.5, callbacks=[print])
    assert clone(ours).get_params() == ours.get_params()
    with pytest.raises(ValueError, match="learning_rat"):
        ours.set_params(learning_rat="optimal")
    assert "eta0=0.5" in repr(ours)


@pytest.mark.parametrize("loss", ["hinge", "squared_error"])
def test_contiguous_data_is_not_copied(monkeypatch, dtype, loss):
    """Protects memory: float32 and float64 in C order are trained on where they are."""
    seen = []
    train_linear = _core.train_linear

    def watched(params, states, X, y, *args, **options):
        seen.append((X, y))
        return train_linear(params, states, X, y, *args, **options)

    monkeypatch.setattr(_core, "train_linear", watched)
    X, y = make_data(N_ROWS, 5, loss, dtype=dtype)
    X.flags.writeable = y.flags.writeable = False
    make_model(loss, shuffle="block").fit(X, y)
    assert all(np.shares_memory(given, X) for given, _ in seen)
    assert loss == "hinge" or all(np.shares_memory(given, y) for _, given in seen)


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: X[:, ::-1].copy()[:, ::-1],
        lambda X: X.astype(X.dtype.newbyteorder()),
        lambda X: X.tolist(),
        lambda X: X.astype(object),
        lambda X: memoryview(X),
    ],
    ids=["columns", "every second row", "backwards", "byte order", "lists", "objects", "buffer"],
)
def test_other_data_is_converted(change, assert_same_bits):
    """Protects convenience: what is only read may have any layout."""
    X, y = make_data(N_ROWS, 5, "huber")
    given = change(X)
    model = make_model("huber").fit(given, y)
    assert_same_bits(all_params(model), all_params(make_model("huber").fit(X, y)))
    assert_allclose(model.predict(given), model.predict(X), rtol=1e-12)


def test_integers_and_narrow_floats_are_converted(assert_same_bits):
    """Protects convenience: they become float64."""
    X, y = make_data(N_ROWS, 5, "huber")
    X, y = np.round(8 * X), np.round(4 * y)
    expected = all_params(make_model("huber", eta0=1e-3).fit(X, y))
    for kind in (np.int8, np.int64, np.float16, np.longdouble):
        model = make_model("huber", eta0=1e-3).fit(X.astype(kind), y.astype(kind))
        assert_same_bits(all_params(model), expected)


def test_data_is_not_changed():
    """Protects the caller's arrays."""
    X, y = make_data(N_ROWS, 5, "hinge")
    weights = np.ones(N_ROWS)
    coef, copies = np.ones(5), (X.copy(), y.copy())
    make_model("hinge", class_weight={-1: 2.0, 1: 1.0}).fit(X, y, coef, [1.0], weights)
    assert_array_equal(X, copies[0])
    assert_array_equal(y, copies[1])
    assert_array_equal(weights, 1)
    assert_array_equal(coef, 1)


def test_probabilities_only_where_there_are_any():
    """Protects duck typing: tools look whether the method is there."""
    assert hasattr(SGDClassifier(loss="log_loss"), "predict_proba")
    assert not hasattr(SGDClassifier(), "predict_proba")
    with pytest.raises(AttributeError, match="predict_log_proba"):
        SGDClassifier().predict_log_proba  # noqa: B018


def test_names_of_columns_are_kept():
    """Protects data frames: columns in another order are refused, not mixed up."""
    pandas = pytest.importorskip("pandas")
    X, y = make_data(N_ROWS, 3, "huber")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    model = make_model("huber").fit(frame, pandas.Series(y))
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="X: The feature names should match"):
        model.predict(frame[["b", "a", "c"]])
    model.fit(X, y)
    assert not hasattr(model, "feature_names_in_")


# ---- scikit-learn's own checks -------------------------------------------------------------------

# scikit-learn expects these of its own SGD estimators
WEIGHTS = "a row of weight 2 is one longer step, not two: as with every stochastic method"
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": WEIGHTS,
    "check_sample_weight_equivalence_on_sparse_data": WEIGHTS,
}


# the data of these checks is small and not scaled: the default rates are too high for it
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        SGDClassifier(),
        SGDRegressor(),
        SGDOneClassSVM(),
        SGDClassifier(batch_size=7, shuffle="block"),
        SGDRegressor(penalty="elasticnet", average=True),
    ],
    expected_failed_checks=lambda model: EXPECTED_FAILURES,
)
def test_scikit_learns_own_checks(estimator, check):
    """Protects use in pipelines, searches and whatever else relies on the conventions."""
    check(estimator)
