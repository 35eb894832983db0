"""Linear models: the C loop does what the specification says, and what scikit-learn does.

In order: `fastgd.reference` to 1e-12 over every choice there is, float32, scikit-learn, the same
bits whatever the threads and instruction set, when training stops, divergence, Ctrl-C, indices
beyond 32 bits, the conventions of estimators. What is refused is in test_linear_model_input.py.
"""

import itertools
import pickle
import textwrap
import threading
import time
from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastgd
from fastgd import DivergenceError, _core, reference, train

sklearn_models = pytest.importorskip("sklearn.linear_model")
sklearn_base = pytest.importorskip("sklearn.base")
estimator_checks = pytest.importorskip("sklearn.utils.estimator_checks")
ConvergenceWarning = pytest.importorskip("sklearn.exceptions").ConvergenceWarning

from fastgd.linear_model import SGDClassifier, SGDRegressor  # noqa: E402 - needs scikit-learn

LOSSES = list(_core.LOSSES)
SCHEDULES = list(reference.SCHEDULES)
SHUFFLES = [True, False, "block"]
OPTIMIZERS = [
    *_core.RULES,
    ("sgd", {"weight_decay": 0.05}),
    ("sgd", {"momentum": 0.8, "dampening": 0.3}),
    ("sgd", {"momentum": 0.5, "nesterov": True}),
    ("adam", {"betas": (0.8, 0.9), "weight_decay": 0.05}),
    ("adamw", {"eps": 1e-4}),
]
# at both sides of a vector of 8 (float64) or 16 (float32) lanes, several vectors, many
N_FEATURES = [1, 2, 7, 8, 9, 15, 16, 17, 63, 65, 200]
N_ROWS = 131  # a prime: nothing divides it
# around a chunk of 64 rows, and around all rows
BATCH_SIZES = [1, 2, 7, 64, 65, N_ROWS, N_ROWS + 9]


def name_of(value):
    """A short test id."""
    if isinstance(value, tuple):
        return "-".join([value[0], *(f"{k}{v}" for k, v in value[1].items())])
    return str(value).replace(" ", "")


def is_classification(loss):
    return _core.LOSSES[loss]["task"] == "classification"


def make_data(n_rows, n_features, loss, seed=0, dtype=np.float64):
    """Rows of about unit length, and targets that a linear model meets with some error."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, n_features)) / np.sqrt(n_features)
    y = X @ rng.standard_normal(n_features) + 0.5 + 0.3 * rng.standard_normal(n_rows)
    if is_classification(loss):
        y = np.where(y > 0.5, 1.0, -1.0)
    return X.astype(dtype), y.astype(dtype)


def make_model(loss, **parameters):
    """The estimator for a loss; no step is so long that rounding errors grow."""
    parameters = {
        "alpha": 0.5 if parameters.get("learning_rate") == "optimal" else 0.01,
        "eta0": 0.05,
        "power_t": 0.25,
        "max_iter": 2,
        "tol": None,
        "random_state": 7,
        **parameters,
    }
    return (SGDClassifier if is_classification(loss) else SGDRegressor)(loss=loss, **parameters)


def reference_optimizer(optimizer):
    """The parameter `optimizer` as the reference takes it: betas one by one."""
    if isinstance(optimizer, str):
        return optimizer
    name, hypers = optimizer
    hypers = dict(hypers)
    betas = hypers.pop("betas", ())
    return name, {**hypers, **{f"beta{k}": beta for k, beta in enumerate(betas, 1)}}


def fit_by_reference(model, X, y, sample_weight=None):
    """What `reference.train_linear` makes of a model's parameters: (weights, intercept), curve."""
    block = train.block_rows(*X.shape, X.itemsize, "block")
    w, b, curve = reference.train_linear(
        X.tolist(),
        y.tolist(),
        [0.0] * X.shape[1],
        0.0,
        loss=model.loss,
        epsilon=model.epsilon,
        penalty=model.penalty,
        alpha=model.alpha,
        fit_intercept=model.fit_intercept,
        max_iter=model.max_iter,
        tol=model.tol,
        n_iter_no_change=model.n_iter_no_change,
        shuffle=model.shuffle,
        seed=model._seeds(1)[0],
        block=block,
        learning_rate=model.learning_rate,
        eta0=model.eta0,
        power_t=model.power_t,
        batch_size=model.batch_size,
        optimizer=reference_optimizer(model.optimizer),
        sample_weight=None if sample_weight is None else sample_weight.tolist(),
    )
    return np.array([*w, b]), curve


def params_of(model):
    """Weights and intercept of a model of one problem, in one array."""
    return np.append(model.coef_.ravel(), model.intercept_)


def all_params(model):
    """Everything that training writes, as arrays."""
    states = [s for problem in model._states for s in problem if s is not None]
    return [model.coef_, model.intercept_, np.array(model.loss_curve_), *states]


def assert_follows_reference(model, X, y, sample_weight=None, rtol=1e-12):
    model.fit(X, y, sample_weight=sample_weight)
    params, curve = fit_by_reference(model, X, y, sample_weight)
    assert_allclose(params_of(model), params, rtol=0, atol=rtol * np.abs(params).max())
    assert_allclose(model.loss_curve_, curve, rtol=rtol)
    assert model.coef_.dtype == X.dtype
    assert model.intercept_.dtype == X.dtype


# ---- the C loop is the reference -----------------------------------------------------------------


def cases():
    """Two sets of cases that share the axes between them, each a full grid.

    The grid of shapes and rules draws the other parameters at random, and the grid of those draws
    shape and rule, so that any two axes meet in every combination.
    """
    rng = np.random.default_rng(1)
    names = ["loss", "learning_rate", "shuffle", "fit_intercept", "penalty", "weighted"]
    settings = list(
        itertools.product(LOSSES, SCHEDULES, SHUFFLES, [True, False], ["l2", None], [True, False])
    )
    shapes = list(itertools.product(N_FEATURES, BATCH_SIZES, OPTIMIZERS))
    pairs = [(settings[rng.integers(len(settings))], shape) for shape in shapes]
    pairs += [(setting, shapes[rng.integers(len(shapes))]) for setting in settings]
    cases = []
    for setting, (n_features, batch_size, optimizer) in pairs:
        case = dict(zip(names, setting, strict=True))
        case.update(batch_size=batch_size, optimizer=optimizer)
        label = "-".join(name_of(value) for value in (n_features, *case.values()))
        cases.append(pytest.param(n_features, case, id=label))
    return cases


# some of these rates are too high for Adam, and are said to be
@pytest.mark.filterwarnings("ignore:training ended:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("n_features", "case"), cases())
def test_training_follows_the_reference(n_features, case):
    """Protects the main job: loss, schedule, order, batch, rule, penalty, weights, row width."""
    case = dict(case)
    X, y = make_data(N_ROWS, n_features, case["loss"])
    weighted = case.pop("weighted")
    weights = np.random.default_rng(3).choice([0.0, 0.5, 1.0, 2.5], N_ROWS) if weighted else None
    assert_follows_reference(make_model(**case), X, y, weights)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=name_of)
def test_an_intercept_that_is_not_fitted_stays(optimizer):
    """Protects fit_intercept=False: neither gradient nor weight decay touch a given intercept."""
    X, y = make_data(N_ROWS, 9, "huber")
    for batch_size in (1, 7):
        model = make_model("huber", optimizer=optimizer, batch_size=batch_size, fit_intercept=False)
        model.fit(X, y, intercept_init=0.7)
        assert model.intercept_ == 0.7
        assert model.coef_.all()


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_corner_of_the_hinge_counts(batch_size):
    """Protects the derivative at a margin of exactly 1, which is scikit-learn's: not zero."""
    X, y = np.array([[1.0], [-1.0]]), [1, 0]
    model = make_model("hinge", penalty=None, batch_size=batch_size, shuffle=False, max_iter=1)
    model.set_params(learning_rate="constant", eta0=0.25).fit(X, y, coef_init=[1.0])
    assert model.coef_ > 1.0


@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_penalty_too_strong_for_the_rate(batch_size):
    """Protects plain sgd's shrinking: to zero, not beyond."""
    X, y = make_data(N_ROWS, 20, "huber")
    model = make_model("huber", alpha=5.0, eta0=0.5, batch_size=batch_size)
    assert_follows_reference(model.set_params(learning_rate="constant"), X, y)


def test_blocks_are_as_long_as_memory_likes_them():
    """Protects shuffle="block": at least 16 rows and a page of 4096 bytes, at most all rows."""
    for n_features, itemsize, rows in [(20, 4, 51), (20, 8, 25), (784, 4, 16), (1, 8, 512)]:
        assert train.block_rows(10_000, n_features, itemsize, "block") == rows
    assert train.block_rows(11, 20, 4, "block") == 11
    assert train.block_rows(10_000, 20, 4, True) == 1
    assert train.block_rows(10_000, 20, 4, False) == 10_000


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("n_features", [1, 2, 3, 7])
def test_rows_at_the_very_start_are_read_right(n_features, batch_size):
    """Protects rows shorter than a vector with no row, or few, in memory before them."""
    for n_rows, dtype in itertools.product(range(1, 20), [np.float64, np.float32]):
        X, y = make_data(n_rows, n_features, "huber", seed=n_rows, dtype=dtype)
        model = make_model("huber", batch_size=batch_size, learning_rate="constant")
        assert_follows_reference(model, X, y, rtol=1e-12 if dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_losses_are_summed_over_many_segments(loss, shuffle):
    """Protects training over more rows than the loop keeps predictions of at a time (256)."""
    X, y = make_data(601, 20, loss)
    model = make_model(loss, learning_rate="invscaling", shuffle=shuffle)
    assert_follows_reference(model, X, y, np.linspace(0, 2, 601))


def test_batches_of_more_rows_than_chunks_hold():
    """Protects batches whose chunks have to grow: more than 256 chunks of 64 rows."""
    X, y = make_data(20_011, 2, "squared_error")
    model = make_model("squared_error", batch_size=16_500, learning_rate="constant", eta0=0.5)
    assert_follows_reference(model, X, y)


def test_a_batch_size_beyond_all_integers_is_all_rows(assert_same_bits):
    """Protects "full batch" written as a very large number."""
    X, y = make_data(N_ROWS, 5, "huber")
    large = make_model("huber", batch_size=10**30).fit(X, y)
    whole = make_model("huber", batch_size=N_ROWS).fit(X, y)
    assert_same_bits(all_params(large), all_params(whole))


def test_rows_wider_than_the_first_level_cache():
    """Protects rows so wide that fewer than four fit into the cache at a time."""
    X, y = make_data(13, 7001, "log_loss")
    for batch_size in (1, 6):
        model = make_model("log_loss", batch_size=batch_size, learning_rate="constant", eta0=1.0)
        assert_follows_reference(model, X, y)


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("batch_size", [1, 7])
def test_an_epoch_in_many_calls(monkeypatch, shuffle, batch_size):
    """Protects what an epoch of a large X is: stretches that start anywhere in the order.

    A stretch may start within a block, and the last block, which is shorter, may come anywhere.
    """
    monkeypatch.setattr(train, "_ELEMENTS_PER_CALL", 400)
    for seed, optimizer in itertools.product(range(4), ["sgd", "adam"]):
        X, y = make_data(N_ROWS, 20, "log_loss")
        model = make_model(
            "log_loss",
            shuffle=shuffle,
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate="invscaling",
            random_state=seed,
            max_iter=3,
        )
        assert_follows_reference(model, X, y)


@pytest.mark.parametrize("loss", ["log_loss", "squared_error"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=name_of)
def test_partial_fit_is_one_epoch_of_the_reference(optimizer, loss):
    """Protects going on: weights, the rule's states and the count of updates carry over."""
    X, y = make_data(N_ROWS, 9, loss)
    once = make_model(loss, optimizer=optimizer, learning_rate="invscaling", batch_size=4)
    once.set_params(max_iter=3, shuffle=False).fit(X, y)
    steps = sklearn_base.clone(once)
    options = {"classes": [-1.0, 1.0]} if loss == "log_loss" else {}
    for _ in range(3):
        steps.partial_fit(X, y, **options)
    for a, b in zip(all_params(steps), all_params(once), strict=True):
        assert_array_equal(a, b)
    assert (steps.n_iter_, once.n_iter_) == (1, 3)
    assert steps.t_ == once.t_ == 3 * -(-N_ROWS // 4) + 1


def test_one_against_the_rest_is_one_reference_each():
    """Protects more than two classes: each has its own targets, weights and order of rows."""
    X, _ = make_data(N_ROWS, 9, "hinge")
    y = np.digitize(X[:, 0] + 0.5 * X[:, 1], [-0.2, 0.1])
    model = make_model("log_loss", batch_size=5, class_weight={0: 1.0, 1: 2.0, 2: 0.5})
    model.fit(X, y)
    curves = []
    for k, seed in enumerate(model._seeds(3)):
        w, b, curve = reference.train_linear(
            X.tolist(),
            np.where(y == k, 1.0, -1.0).tolist(),
            [0.0] * 9,
            0.0,
            loss="log_loss",
            alpha=model.alpha,
            max_iter=2,
            seed=seed,
            learning_rate="optimal",
            batch_size=5,
            sample_weight=np.where(y == k, model.class_weight[k], 1.0).tolist(),
        )
        curves.append(curve)
        assert_allclose(model.coef_[k], w, rtol=1e-11)
        assert_allclose(model.intercept_[k], b, rtol=1e-11)
    assert_allclose(model.loss_curve_, np.mean(curves, axis=0), rtol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=name_of)
@pytest.mark.parametrize("loss", LOSSES)
def test_float32_is_near_the_reference(loss, optimizer, batch_size):
    """Protects the float32 kernels: what they do differs from float64 by rounding alone."""
    for n_features in (5, 15, 16, 17, 40):
        X, y = make_data(N_ROWS, n_features, loss, dtype=np.float32)
        model = make_model(loss, optimizer=optimizer, batch_size=batch_size, shuffle="block")
        assert_follows_reference(model.set_params(learning_rate="constant"), X, y, rtol=2e-5)


# ---- scikit-learn, at batch size 1 ---------------------------------------------------------------

CLASSIFIER_LOSSES = [loss for loss in LOSSES if _core.LOSSES[loss]["task"] != "regression"]
REGRESSOR_LOSSES = [loss for loss in LOSSES if _core.LOSSES[loss]["task"] != "classification"]


def peers_of(model):
    """scikit-learn's estimator with the same parameters."""
    parameters = model.get_params()
    for ours_alone in ("batch_size", "optimizer"):
        del parameters[ours_alone]
    return getattr(sklearn_models, type(model).__name__)(**parameters)


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


def classes_of(X, n_classes):
    """Labels that a linear model can nearly tell apart: strings, which sort unlike numbers."""
    score = X[:, 0] + 0.3 * np.sin(50 * X[:, 1])
    edges = np.quantile(score, np.linspace(0, 1, n_classes + 1)[1:-1])
    return np.array(["ten", "nine", "two", "zero"])[np.digitize(score, edges)]


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("learning_rate", SCHEDULES)
@pytest.mark.parametrize("loss", CLASSIFIER_LOSSES)
def test_classifier_is_that_of_scikit_learn(loss, learning_rate, shuffle, n_classes):
    """Protects the promise that changing the import changes nothing."""
    X, _ = make_data(N_ROWS, 6, loss)
    y = classes_of(X, n_classes)
    # scikit-learn's other penalties are refused; alpha makes the rates of "optimal" bearable
    grid = itertools.product(["l2", None], [True, False], [None, "balanced"], [False, True])
    for seed, (penalty, fit_intercept, class_weight, weighted) in enumerate(grid):
        ours = SGDClassifier(
            loss=loss,
            penalty=penalty,
            alpha=0.3,
            fit_intercept=fit_intercept,
            shuffle=shuffle,
            learning_rate=learning_rate,
            eta0=0.1,
            power_t=0.4,
            class_weight=class_weight,
            random_state=seed,
            max_iter=4,
            tol=None,
        )
        theirs = peers_of(ours)
        weights = np.random.default_rng(seed).random(N_ROWS) if weighted else None
        ours.fit(X, y, sample_weight=weights)
        theirs.fit(X, y, sample_weight=weights)
        assert_same_model(ours, theirs, X)
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
    grid = itertools.product(["l2", None], [True, False], [False, True])
    for seed, (penalty, fit_intercept, weighted) in enumerate(grid):
        ours = SGDRegressor(
            loss=loss,
            penalty=penalty,
            alpha=0.3,
            fit_intercept=fit_intercept,
            shuffle=shuffle,
            learning_rate=learning_rate,
            epsilon=0.4,
            random_state=seed,
            max_iter=4,
            tol=None,
        )
        theirs = peers_of(ours)
        weights = np.random.default_rng(seed).random(N_ROWS) if weighted else None
        ours.fit(X, y, sample_weight=weights)
        theirs.fit(X, y, sample_weight=weights)
        assert_same_model(ours, theirs, X)


@pytest.mark.parametrize(("loss", "n_classes"), [("squared_error", 0), ("hinge", 2), ("hinge", 3)])
def test_it_stops_when_scikit_learn_stops(loss, n_classes):
    """Protects tol and n_iter_no_change: defaults but for the penalty, and other values."""
    X, y = make_data(400, 5, loss)
    y = classes_of(X, n_classes) if n_classes else y
    make = SGDClassifier if n_classes else SGDRegressor
    counts = set()
    for tol, n_iter_no_change in [(1e-3, 5), (1e-2, 2), (1e-4, 1)]:
        # scikit-learn counts the penalty at another time
        ours = make(penalty=None, tol=tol, n_iter_no_change=n_iter_no_change, random_state=1)
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
    ours, theirs = sklearn_base.clone(ours), sklearn_base.clone(theirs)
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


# ---- same bits -----------------------------------------------------------------------------------


def models_for_bits(dtype):
    """Models, and their data, of enough work for a team of threads; and some that are serial."""
    adamw, nesterov = "adamw", ("sgd", {"momentum": 0.9, "nesterov": True})
    for loss, n_rows, n_features, batch_size, optimizer, n_classes in [
        ("log_loss", 3001, 50, 1000, "sgd", 2),
        ("hinge", 3001, 50, 1000, adamw, 2),
        ("squared_error", 3001, 17, 3001, nesterov, 0),
        ("huber", 700, 300, 257, adamw, 0),
        ("huber", 70_001, 3, 40_000, "sgd", 0),
        ("log_loss", 3001, 50, 500, adamw, 3),
        ("log_loss", 1001, 20, 1, "sgd", 3),
        ("squared_error", 1001, 5, 1, nesterov, 0),
        ("hinge", 501, 9, 7, "sgd", 2),
    ]:
        X, y = make_data(n_rows, n_features, loss, dtype=dtype)
        y = classes_of(X, n_classes) if n_classes else y
        model = make_model(loss, batch_size=batch_size, optimizer=optimizer, max_iter=5)
        yield model.set_params(shuffle="block", learning_rate="invscaling"), X, y


@cache
def bits_of_one_thread(dtype):
    """What the first instruction set makes of the models, with one thread."""
    isa = _core.active_isa()
    _core.use_isa(_core.SUPPORTED_ISAS[0])
    with fastgd.threads(1):
        results = [all_params(model.fit(X, y)) for model, X, y in models_for_bits(dtype)]
    _core.use_isa(isa)
    return results


def test_threads_and_instruction_sets_do_not_change_a_bit(isa, dtype, n_threads, assert_same_bits):
    """Protects reproducibility: the sum of a batch has one order, whoever computes it."""
    expected = bits_of_one_thread(dtype)
    for (model, X, y), bits in zip(models_for_bits(dtype), expected, strict=True):
        assert_same_bits(all_params(model.fit(X, y)), bits)


def test_the_models_for_bits_get_threads(run_python):
    """Protects the test above: that there are several threads to differ."""
    code = """
        import os, sys
        import numpy as np
        import fastgd
        from fastgd.linear_model import SGDRegressor
        if not os.path.exists("/proc/self/task"):
            sys.exit("no /proc to count threads with")
        model = SGDRegressor(batch_size=1000, max_iter=2, tol=None)
        X = np.random.default_rng(0).standard_normal((3001, 50))
        fastgd.set_num_threads(1)
        model.fit(X, X[:, 0])
        before = len(os.listdir("/proc/self/task"))
        fastgd.set_num_threads(3)
        model.fit(X, X[:, 0])
        print(len(os.listdir("/proc/self/task")) - before)
    """
    done = run_python(textwrap.dedent(code), check=False)
    if "no /proc" in done.stderr:
        pytest.skip(done.stderr)
    expected = 2 if fastgd.show_config("dicts")["openmp"] else 0
    assert (done.stdout.strip(), done.stderr) == (str(expected), "")


def test_every_run_is_the_same(assert_same_bits):
    """Protects reproducibility: with threads, a second run and other threads beside it."""
    with fastgd.threads(4):
        for model, X, y in models_for_bits(np.dtype("float64")):
            once = all_params(model.fit(X, y))
            again = sklearn_base.clone(model).fit(X, y)
            assert_same_bits(all_params(again), once)
            if isinstance(model, SGDClassifier) and len(model.classes_) > 2:
                together = sklearn_base.clone(model).set_params(n_jobs=2).fit(X, y)
                assert_same_bits(all_params(together), once)
                together.set_params(n_jobs=-1).fit(X, y)
                assert_same_bits(all_params(together), once)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=name_of)
def test_a_pickled_model_goes_on_the_same(optimizer, dtype, assert_same_bits):
    """Protects checkpoints: the states of the rule are part of them."""
    X, y = make_data(N_ROWS, 9, "huber", dtype=dtype)
    model = make_model("huber", optimizer=optimizer, batch_size=7).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    assert_same_bits(copy.predict(X), model.predict(X))
    for _ in range(2):
        assert_same_bits(all_params(copy.partial_fit(X, y)), all_params(model.partial_fit(X, y)))
    assert copy.t_ == model.t_


# ---- going on with other data or another rule ----------------------------------------------------


def test_partial_fit_on_another_dtype(assert_same_bits):
    """Protects a stream whose chunks change dtype: parameters and states follow the data's."""
    X, y = make_data(N_ROWS, 9, "huber")
    small, small_y = X.astype(np.float32), y.astype(np.float32)
    model = make_model("huber", optimizer="adam", learning_rate="constant").fit(small, small_y)
    twin = make_model("huber", optimizer="adam", learning_rate="constant").fit(small, small_y)
    for name in ("coef_", "intercept_"):
        setattr(twin, name, getattr(twin, name).astype(np.float64))
    twin._states = [tuple(s.astype(np.float64) for s in states) for states in twin._states]
    assert_same_bits(all_params(model.partial_fit(X, y)), all_params(twin.partial_fit(X, y)))
    assert model.coef_.dtype == np.float64
    model.partial_fit(small, small_y)
    assert model.coef_.dtype == np.float32


def test_partial_fit_with_another_rule():
    """Protects memory: a rule finds its own states, at zero where there were none."""
    X, y = make_data(N_ROWS, 9, "huber")
    momentum = ("sgd", {"momentum": 0.9})
    for before, after in itertools.permutations(["sgd", momentum, "adam", "adamw"], 2):
        model = make_model("huber", optimizer=before, batch_size=7, max_iter=1).fit(X, y)
        w, b, t = model.coef_.tolist(), float(model.intercept_[0]), model.t_ - 1
        model.set_params(optimizer=after, shuffle=False, learning_rate="constant")
        model.partial_fit(X, y)
        expected_w, expected_b, _ = reference.train_linear(
            X.tolist(),
            y.tolist(),
            w,
            b,
            loss="huber",
            alpha=0.01,
            eta0=0.05,
            shuffle=False,
            batch_size=7,
            optimizer=after,
            t=t,
        )
        assert_allclose(model.coef_, expected_w, rtol=1e-11)
        assert_allclose(model.intercept_, expected_b, rtol=1e-11)


# ---- when training stops -------------------------------------------------------------------------


def epochs_until_stop(curve, tol, n_iter_no_change):
    """The rule in words: so many epochs in a row that are not better than the best by tol."""
    best, waited = np.inf, 0
    for epoch, objective in enumerate(curve, 1):
        waited = waited + 1 if objective > best - tol else 0
        best = min(best, objective)
        if waited == n_iter_no_change:
            return epoch
    return None


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize("loss", LOSSES)
def test_training_stops_by_tol(loss, batch_size):
    """Protects tol and n_iter_no_change: the first epoch that fulfils the rule is the last."""
    X, y = make_data(N_ROWS, 5, loss)
    seen = set()
    for tol, n_iter_no_change in [(1e-3, 5), (1e-2, 5), (1e-3, 2), (0.0, 3), (1e3, 4)]:
        model = make_model(loss, batch_size=batch_size, tol=tol, learning_rate="constant")
        model.set_params(max_iter=2000, n_iter_no_change=n_iter_no_change).fit(X, y)
        assert epochs_until_stop(model.loss_curve_, tol, n_iter_no_change) == model.n_iter_
        assert len(model.loss_curve_) == model.n_iter_
        _, curve = fit_by_reference(model, X, y)
        assert_allclose(model.loss_curve_, curve, rtol=1e-10)
        seen.add(model.n_iter_)
    assert len(seen) > 2
    assert model.n_iter_ == 5  # the best is that of the first epoch, then four without progress


def test_an_objective_that_stays_the_same_is_progress_of_zero():
    """Protects tol=0, which asks for no progress, as scikit-learn takes it: equal is enough."""
    X, y = np.array([[-1.0], [1.0]]), [0, 1]
    model = SGDClassifier(penalty=None, learning_rate="constant", eta0=10.0, tol=0.0, max_iter=40)
    for one in (model, peers_of(model)):
        with pytest.warns(ConvergenceWarning, match="max_iter"):
            one.fit(X, y)
        assert one.n_iter_ == 40
    assert model.loss_curve_[1:] == [0.0] * 39
    assert model.set_params(tol=1e-300).fit(X, y).n_iter_ == 7


def test_training_goes_on_for_max_iter():
    """Protects tol=None, which never stops early and never complains."""
    X, y = make_data(N_ROWS, 5, "huber")
    model = make_model("huber", tol=None, max_iter=77, n_iter_no_change=1).fit(X, y)
    assert model.n_iter_ == len(model.loss_curve_) == 77
    assert model.t_ == 77 * N_ROWS + 1


@pytest.mark.parametrize("loss", ["hinge", "squared_error"])
def test_too_few_epochs_are_said_to_be(loss):
    """Protects the warning, which points at the caller's line, and that the model is there."""
    X, y = make_data(N_ROWS, 5, loss)
    model = make_model(loss, tol=1e-9, max_iter=3)
    with pytest.warns(ConvergenceWarning, match="max_iter=3 epochs were not enough") as caught:
        model.fit(X, y)
    assert [warning.filename for warning in caught] == [__file__]
    assert model.n_iter_ == 3
    model.set_params(max_iter=5, n_iter_no_change=4, tol=1e3).fit(X, y)  # converged at the last


def test_each_class_stops_on_its_own(monkeypatch):
    """Protects one against the rest: a class that has converged waits for the others."""
    X, _ = make_data(N_ROWS, 5, "hinge")
    y = classes_of(X, 4)
    model = SGDClassifier(loss="log_loss", alpha=0.01, max_iter=500, random_state=0, batch_size=3)
    for n_jobs in (None, 2, -1):
        model.set_params(n_jobs=n_jobs).fit(X, y)
        epochs = []
        for label, coef, seed in zip(model.classes_, model.coef_, model._seeds(4), strict=True):
            one = sklearn_base.clone(model)
            monkeypatch.setattr(one, "_seeds", lambda n, seed=seed: [seed] * n)
            one.fit(X, y == label)
            assert_array_equal(one.coef_[0], coef)
            epochs.append(one.n_iter_)
        assert len(set(epochs)) > 1
        assert model.n_iter_ == len(model.loss_curve_) == max(epochs)
        assert model.t_ == max(epochs) * -(-N_ROWS // 3) + 1


def test_verbose_prints_the_objective_of_each_epoch(capsys):
    """Protects verbose."""
    X, y = make_data(N_ROWS, 5, "huber")
    model = make_model("huber", max_iter=3, verbose=1).fit(X, y)
    lines = [f"epoch {k}: objective {v:.6g}" for k, v in enumerate(model.loss_curve_, 1)]
    assert capsys.readouterr().out.splitlines() == lines


# ---- divergence ----------------------------------------------------------------------------------


def first_step_not_finite(model, X, y):
    """The number of the first update whose loss, by the reference, is no number any more."""
    X, y, w, b, states = X.tolist(), y.tolist(), [0.0] * X.shape[1], [0.0], ({}, {})
    per_epoch = -(-len(X) // model.batch_size)
    for step in itertools.count(1):
        first = (step - 1) % per_epoch * model.batch_size
        rows = range(first, min(len(X), first + model.batch_size))
        loss, *gradient = reference.linear_gradient(X, y, w, b[0], rows, model.loss)
        if not np.isfinite(loss):
            return step
        reference.linear_step(
            w, b, *gradient, states, step, lr=model.eta0, optimizer=model.optimizer
        )


@pytest.mark.parametrize("calls", [2**21, 60], ids=["one call", "many calls"])
@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("optimizer", ["sgd", ("sgd", {"momentum": 0.9})], ids=name_of)
def test_divergence_names_the_step(monkeypatch, optimizer, batch_size, calls):
    """Protects diagnosis: the step at which the loss overflows, in whatever epoch."""
    monkeypatch.setattr(train, "_ELEMENTS_PER_CALL", calls)
    X, y = make_data(50, 3, "squared_error")
    seen = []
    for eta0 in (1e4, 200.0, 40.0, 25.0):
        model = make_model("squared_error", optimizer=optimizer, batch_size=batch_size)
        model.set_params(penalty=None, shuffle=False, learning_rate="constant")
        with pytest.raises(DivergenceError) as caught:
            model.set_params(eta0=eta0, max_iter=1000).fit(X, y)
        step = first_step_not_finite(model, X, y)
        per_epoch = 50 // batch_size
        epoch, position = (step - 1) // per_epoch + 1, ((step - 1) % per_epoch + 1) * batch_size - 1
        assert f"training diverged at step {step} (epoch {epoch})" in str(caught.value)
        assert f"The learning rate, {eta0:.3g} at that step, is too high" in str(caught.value)
        assert caught.value.position == position
        assert vars(model) == model.get_params()
        seen.append(step)
    assert seen == sorted(seen)
    assert seen[-1] > per_epoch  # beyond the first epoch


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_divergence_leaves_the_estimator_as_it_was(n_jobs):
    """Protects a model in service: one that cannot be trained further is still the old one."""
    X, _ = make_data(N_ROWS, 5, "hinge")
    y = classes_of(X, 3)
    bad = X.copy()
    bad[-1, -1] = 1e200
    model = SGDClassifier(loss="squared_error", alpha=0.1, optimizer="adamw", n_jobs=n_jobs)
    for fit, options in [("fit", {}), ("partial_fit", {"classes": np.unique(y)})]:
        with pytest.raises(
            DivergenceError, match=r"training of class .* against the rest diverged"
        ):
            getattr(model, fit)(bad, y, **options)
        assert vars(model) == sklearn_base.clone(model).get_params()
    before = pickle.dumps(model.fit(X, y))
    for fit in ("fit", "partial_fit"):
        with pytest.raises(DivergenceError):
            getattr(model, fit)(bad, y)
        assert pickle.dumps(model) == before


def test_divergence_is_a_value_error_and_a_floating_point_error():
    """Protects whoever catches either."""
    assert issubclass(DivergenceError, ValueError)
    assert issubclass(DivergenceError, FloatingPointError)
    assert fastgd.DivergenceError is _core.DivergenceError


@pytest.mark.parametrize("batch_size", [1, 2])
def test_divergence_in_the_last_step(batch_size):
    """Protects the end of an epoch: no prediction follows that would show what the step did."""
    X, y = np.array([[0.0], [1e200]]), np.array([1.0, 1e150])
    model = SGDRegressor(batch_size=batch_size, shuffle=False)
    with pytest.raises(DivergenceError, match=rf"at step {2 // batch_size} \(epoch 1\)") as caught:
        model.set_params(penalty=None, max_iter=1, tol=None).fit(X, y)
    assert caught.value.position == -1
    assert vars(model) == model.get_params()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_prediction_that_overflows_is_divergence(batch_size):
    """Protects losses that are zero on one side: an infinite margin is no success."""
    X, y = np.full((8, 2), 1e10), np.arange(8) % 2
    X[::2] *= -1
    model = SGDClassifier(batch_size=batch_size, shuffle=False, penalty=None)
    with pytest.raises(DivergenceError, match="at step 1 "):
        model.fit(X, y, coef_init=[1e300, 1e300])


@pytest.mark.parametrize("loss", ["squared_error", "hinge", "huber"])
def test_finite_but_hopeless_training_is_said_to_be(loss):
    """Protects against a model that got worse, in fit and in partial_fit; not in service."""
    X, y = make_data(N_ROWS, 5, loss)
    model = make_model(loss, learning_rate="constant", eta0=0.1, random_state=0, batch_size=2)
    model.fit(X, y)
    options = {"classes": [-1, 1]} if is_classification(loss) else {}
    model.set_params(eta0=15.0 if loss == "squared_error" else 1e4)
    for fit in (model.fit, lambda *data: sklearn_base.clone(model).partial_fit(*data, **options)):
        with pytest.warns(ConvergenceWarning, match="training ended epoch . with") as caught:
            fit(X, y)
        assert "learning rate is too high" in str(caught[0].message)
        assert [warning.filename for warning in caught] == [__file__]
    assert np.isfinite(model.coef_).all()


def test_large_weights_without_a_penalty_have_a_finite_objective():
    """Protects loss_curve_ from 0 * inf: the square of the weights overflows, the loss does not."""
    X, y = make_data(N_ROWS, 5, "hinge")
    model = make_model("hinge", penalty=None, learning_rate="constant", eta0=1e200)
    with pytest.warns(ConvergenceWarning, match="learning rate is too high"):
        model.fit(X, y)
    assert np.isfinite(model.loss_curve_).all()


def test_data_that_zero_fits_best_is_no_reason_to_warn():
    """Protects a stream: a chunk whose targets are all zero says nothing of the learning rate."""
    X, y = make_data(N_ROWS, 5, "squared_error")
    model = make_model("squared_error").partial_fit(X, y)
    model.partial_fit(X, np.zeros(N_ROWS)).partial_fit(X, y, sample_weight=np.full(N_ROWS, 1e-9))
    # one target in a thousand is far from zero, and not among those looked at first
    rare = np.zeros(10_007)
    rare[5::1010] = 1e3
    X, _ = make_data(10_007, 5, "squared_error")
    make_model("squared_error", batch_size=100).fit(X, rare)


# ---- Ctrl-C --------------------------------------------------------------------------------------

INTERRUPTED = """
    import os, signal, sys, threading
    import numpy as np
    from fastgd import _core, linear_model

    training, train_linear = threading.Event(), _core.train_linear

    def announced(*args, **options):
        training.set()
        return train_linear(*args, **options)

    def interrupt():
        training.wait()
        os.kill(os.getpid(), signal.SIGINT)

    _core.train_linear = announced
    threading.Thread(target=interrupt, daemon=True).start()
    X = np.random.default_rng(0).standard_normal((20_000, 50))
    y = np.digitize(X[:, 0], [-0.5, 0.5])
    model = linear_model.{estimator}
    model.set_params(max_iter=10**9, tol=None)
    try:
        model.fit(X, y)
    except KeyboardInterrupt:
        pass
    else:
        sys.exit("not interrupted")
    assert np.isfinite(model.coef_).all() and model.coef_.any(), model.coef_
    assert len(model.loss_curve_) in (model.n_iter_, model.n_iter_ + 1), model.n_iter_
    assert model.predict(X).shape == y.shape
    model.partial_fit(X, y)
    print("usable")
"""


@pytest.mark.parametrize(
    "estimator",
    [
        "SGDRegressor()",
        "SGDRegressor(batch_size=10_000, optimizer='adam')",
        "SGDClassifier(alpha=0.1, n_jobs=2)",
    ],
)
def test_ctrl_c_is_answered(run_python, estimator):
    """Protects the user's patience: endless training ends at once, with a model to use."""
    done = run_python(textwrap.dedent(INTERRUPTED).format(estimator=estimator), check=False)
    assert (done.stdout, done.stderr) == ("usable\n", "")


@pytest.fixture
def interrupted_in_call(monkeypatch):
    """Function (number): let the call of that number into C end with a KeyboardInterrupt."""
    train_linear = _core.train_linear

    def install(number, spoil=False):
        calls = itertools.count(1)

        def interrupted(params, *args, **options):
            result = train_linear(params, *args, **options)
            if next(calls) == number:
                params[0] = np.nan if spoil else params[0]
                raise KeyboardInterrupt
            return result

        monkeypatch.setattr(_core, "train_linear", interrupted)
        monkeypatch.setattr(train, "_ELEMENTS_PER_CALL", 50 * 5)

    return install


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("number", [1, 3, 4, 10, 20])
def test_ctrl_c_keeps_what_was_learnt(interrupted_in_call, number, n_jobs):
    """Protects what a user has waited for: an interrupted model is trained up to there."""
    X, _ = make_data(150, 5, "hinge")  # three calls an epoch
    y = classes_of(X, 3)
    interrupted_in_call(number)
    model = SGDClassifier(alpha=0.1, max_iter=100, tol=None, random_state=0, n_jobs=n_jobs)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert model.n_iter_ == (number - 1) // 9  # three classes
    assert len(model.loss_curve_) in (model.n_iter_, model.n_iter_ + 1)
    assert np.isfinite(model.coef_).all()
    assert model.coef_.any()
    assert model.t_ > 1 or number == 1
    epochs = len(model.loss_curve_)
    model.partial_fit(X, y)
    assert len(model.loss_curve_) == epochs + 1


def test_one_class_that_fails_stops_the_others(monkeypatch):
    """Protects the user's patience: side by side, no class goes on with a long epoch in vain."""
    X, _ = make_data(10_000, 5, "hinge")
    y = np.arange(10_000) % 3
    train_linear, failed, calls = _core.train_linear, threading.Event(), itertools.count()

    def failing(params, states, X, target, *args, **options):
        if target[0] > 0:  # the first class
            failed.set()
            raise KeyboardInterrupt
        failed.wait()
        time.sleep(1e-3)
        next(calls)
        return train_linear(params, states, X, target, *args, **options)

    monkeypatch.setattr(_core, "train_linear", failing)
    monkeypatch.setattr(train, "_ELEMENTS_PER_CALL", 5 * 5)
    with pytest.raises(KeyboardInterrupt):
        SGDClassifier(alpha=0.1, n_jobs=3).fit(X, y)
    assert next(calls) < 2 * 10_000 / 5  # the calls of two epochs


def test_ctrl_c_in_partial_fit_goes_on_from_there(interrupted_in_call):
    """Protects streams: parameters, curve and count of updates are those of the part that ran."""
    X, y = make_data(150, 5, "huber")
    model = make_model("huber", optimizer="adam", shuffle=False).fit(X, y)
    interrupted_in_call(2)
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(X, y)
    assert model.n_iter_ == 0
    assert len(model.loss_curve_) == 2
    assert model.t_ in (2 * 150 + 50 + 1, 2 * 150 + 100 + 1)


def test_ctrl_c_in_diverging_training_changes_nothing(interrupted_in_call):
    """Protects against a model of NaN: what was interrupted on its way there is not kept."""
    X, y = make_data(150, 5, "huber")
    model = make_model("huber").fit(X, y)
    before = pickle.dumps(model)
    interrupted_in_call(2, spoil=True)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert pickle.dumps(model) == before


# ---- more elements than 32 bits can count --------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 16])
def test_indices_beyond_32_bits(tmp_path, batch_size, assert_same_bits):
    """Protects large data: rows x columns > 2^31, in a file of which a few pages exist."""
    n_rows, n_features, n = 2**21, 1100, 50
    try:
        X = np.memmap(tmp_path / "X", np.float32, "w+", shape=(n_rows, n_features))
    except OSError as error:
        pytest.skip(f"no room for a sparse file: {error}")
    small, small_y = make_data(n, n_features, "log_loss", dtype=np.float32)
    X[-n:] = small
    y = np.zeros(n_rows, np.float32)
    y[-n:] = small_y
    order = np.arange(n_rows)
    order[[0, -1]] = order[[-1, 0]]  # the last row comes first
    small_order = np.arange(n)
    results = []
    for data, targets, visits, stretches in [
        (X, y, order, [(0, 1), (n_rows - n, n_rows - 1)]),
        (small, small_y, small_order, [(n - 1, n), (0, n - 1)]),
    ]:
        params = np.zeros(n_features + 1, np.float32)
        losses = [
            _core.train_linear(
                params,
                (None,),
                data,
                targets,
                None,
                visits,
                1,
                _core.scratch(data, batch_size),
                loss=_core.LOSSES["log_loss"]["number"],
                loss_parameter=0.0,
                alpha=0.0,
                fit_intercept=True,
                rule=_core.RULES["sgd"]["number"],
                hypers=[0.0] * 6,
                lr=np.full(n, 0.5),
                t=0,
                batch_size=batch_size,
                start=start,
                stop=stop,
            )
            for start, stop in stretches
        ]
        results.append([params, np.array(losses)])
    assert_same_bits(results[0], results[1])
    assert params.any()


# ---- the conventions of estimators ---------------------------------------------------------------


@pytest.mark.parametrize("make", [SGDClassifier, SGDRegressor])
def test_parameters_and_defaults_are_scikit_learns(make):
    """Protects the promise of the same constructor: names, defaults, clone, set_params."""
    ours = make()
    theirs = getattr(sklearn_models, make.__name__)().get_params()
    parameters = ours.get_params()
    assert {parameters.pop("batch_size"), parameters.pop("optimizer")} == {1, "sgd"}
    assert parameters == theirs
    ours.set_params(batch_size=3, optimizer=("adam", {"eps": 1e-6}), alpha=0.5)
    assert sklearn_base.clone(ours).get_params() == ours.get_params()
    with pytest.raises(ValueError, match="learning_rat"):
        ours.set_params(learning_rat="optimal")
    assert "batch_size=3" in repr(ours)


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


WEIGHTS = "a row of weight 2 is one longer step, not two: as with every stochastic method"
UNSCALED = "diverges on features of size 100, where scikit-learn clips gradients at 1e12"
EXPECTED_FAILURES = {
    "SGDClassifier": {"check_sample_weight_equivalence_on_dense_data": WEIGHTS},
    "SGDRegressor": {
        "check_sample_weight_equivalence_on_dense_data": WEIGHTS,
        "check_fit_idempotent": UNSCALED,
        "check_fit_check_is_fitted": UNSCALED,
        "check_n_features_in": UNSCALED,
    },
}


# the data of these checks is small and not scaled: the default rates are too high for it
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@estimator_checks.parametrize_with_checks(
    [SGDClassifier(), SGDRegressor(), SGDClassifier(batch_size=7, shuffle="block")],
    expected_failed_checks=lambda model: EXPECTED_FAILURES[type(model).__name__],
)
def test_scikit_learns_own_checks(estimator, check):
    """Protects use in pipelines, searches and whatever else relies on the conventions."""
    check(estimator)
