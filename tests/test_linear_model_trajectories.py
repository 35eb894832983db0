"""Linear models, one row an update: the course of training is scikit-learn's.

Rows are shuffled by the same seed and training stops by the default tol, so that order, stopping
and numbers all have to agree: coefficients to 1e-10, epochs and updates exactly.
"""

import itertools
from copy import deepcopy

import numpy as np
import pytest
from linear_models import SCIKIT_LEARNS, classes_of, is_classification, make_data, peers_of
from numpy.testing import assert_allclose
from scipy.sparse import csr_array

from fastgd import _core
from fastgd.linear_model import SGDClassifier, SGDOneClassSVM, SGDRegressor

PENALTIES = ["l2", "l1", "elasticnet", None]
RATES = ["constant", "optimal", "invscaling", "adaptive"]
AVERAGES = [False, True, 150]
LAYOUTS = [np.asarray, csr_array]
# a regressor has the losses of both tasks, a classifier those and its own
MODELS = [
    *((SGDClassifier, loss) for loss in SCIKIT_LEARNS),
    *((SGDRegressor, loss) for loss in SCIKIT_LEARNS if not is_classification(loss)),
]


def sparse_data(n_rows=120, n_features=7):
    """Rows of which a third is zero, and targets."""
    X, y = make_data(n_rows, n_features, "squared_error")
    X[np.random.default_rng(2).random(X.shape) < 0.3] = 0.0
    return X, y


def assert_same_course(ours, X, y=None, sample_weight=None):
    """Train both; compare parameters, epochs, updates."""
    theirs = peers_of(ours).set_params(random_state=deepcopy(ours.random_state))
    for model in (ours, theirs):
        model.fit(X, y, sample_weight=sample_weight)
    assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_)
    for name in ("coef_", "intercept_", "offset_"):
        if hasattr(theirs, name):
            expected = getattr(theirs, name)
            assert_allclose(getattr(ours, name), expected, rtol=1e-10, atol=1e-12, err_msg=name)
    return ours.n_iter_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("make", "loss"), MODELS)
def test_course_of_training(make, loss, rate):
    """Protects the promise that changing the import changes nothing: the whole grid."""
    X, y = sparse_data()
    epochs = set()
    grid = itertools.product(PENALTIES, AVERAGES, LAYOUTS)
    for seed, (penalty, average, layout) in enumerate(grid):
        model = make(loss=loss, penalty=penalty, learning_rate=rate, average=average)
        model.set_params(alpha=0.02, eta0=0.02, max_iter=300, random_state=seed, epsilon=0.3)
        target = classes_of(X, 2 + seed % 2) if make is SGDClassifier else y
        epochs.add(assert_same_course(model, layout(X), target))
    assert len(epochs) > 1 or loss == "perceptron"  # which is content too soon


@pytest.mark.parametrize("rate", ["pa1", "pa2"])
@pytest.mark.parametrize(
    ("make", "loss"), [(SGDClassifier, "hinge"), (SGDRegressor, "epsilon_insensitive")]
)
def test_course_of_passive_aggressive_training(make, loss, rate):
    """Protects the rates that depend on the row."""
    X, y = sparse_data()
    for seed, (penalty, average, layout) in enumerate(
        itertools.product(PENALTIES, AVERAGES, LAYOUTS)
    ):
        model = make(loss=loss, penalty=penalty, learning_rate=rate, average=average)
        model.set_params(alpha=0.02, eta0=0.02, random_state=seed)
        target = classes_of(X, 2 + seed % 2) if make is SGDClassifier else y
        assert_same_course(model, layout(X), target)


@pytest.mark.parametrize("rate", RATES)
def test_course_of_training_one_class(rate):
    """Protects the one-class SVM: its own step of the intercept, and its own objective."""
    X, _ = sparse_data()
    grid = itertools.product([0.05, 0.5, 1.0], AVERAGES, LAYOUTS, [True, False])
    for seed, (nu, average, layout, fit_intercept) in enumerate(grid):
        model = SGDOneClassSVM(nu, fit_intercept, learning_rate=rate, average=average)
        model.set_params(eta0=0.01, random_state=seed)
        assert_same_course(model, layout(X), sample_weight=np.linspace(0.1, 2, len(X)))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("make", "loss"), MODELS)
def test_course_of_training_with_early_stopping(make, loss):
    """Protects the split, what is left out of the order, the score, and t_."""
    X, y = sparse_data(200)
    weights = np.random.default_rng(3).random(len(X))
    rates = itertools.cycle(RATES[:3])
    for seed, (penalty, weighted, layout) in enumerate(
        itertools.product(PENALTIES, [False, True], LAYOUTS)
    ):
        model = make(loss=loss, penalty=penalty, learning_rate=next(rates), shuffle=seed % 5 > 0)
        model.set_params(early_stopping=True, validation_fraction=0.2, n_iter_no_change=3)
        model.set_params(alpha=0.02, eta0=0.02, average=bool(seed % 3))
        # a generator tells whether as many numbers are drawn from it, in the same order
        model.set_params(random_state=[seed, np.random.RandomState(seed)][seed // 2 % 2])
        target = classes_of(X, 2 + seed % 2) if make is SGDClassifier else y
        assert_same_course(model, layout(X), target, weights if weighted else None)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_weights_do_not_count_in_the_objective(n_classes):
    """Protects the stopping epoch: scikit-learn's objective is of rows that all count one."""
    X, _ = sparse_data()
    y = classes_of(X, n_classes)
    weights = np.random.default_rng(3).random(len(X)) * 5
    epochs = set()
    for seed, penalty in enumerate([*PENALTIES, *PENALTIES]):
        model = SGDClassifier(penalty=penalty, random_state=seed, alpha=0.02)
        model.set_params(class_weight="balanced" if seed % 2 else None)
        epochs.add(assert_same_course(model, X, y, weights))
        assert model.loss_curve_[0] > 0
    assert len(epochs) > 1


def test_shrinking_to_nothing_and_early_stopping():
    """Protects the factor that scikit-learn keeps apart, and multiplies in when it is tiny."""
    X, y = sparse_data(200)
    for dtype, (seed, alpha) in itertools.product(
        [np.float64, np.float32], enumerate([1.0, 4.0, 30.0])
    ):
        model = SGDClassifier(learning_rate="constant", eta0=0.05, alpha=alpha, random_state=seed)
        model.set_params(early_stopping=True, n_iter_no_change=2)
        ours, theirs = model, peers_of(model)
        y = classes_of(X, 2)
        ours.fit(X.astype(dtype), y)
        assert ours.n_iter_ == theirs.fit(X.astype(dtype), y).n_iter_


def test_random_state_of_one_class():
    """Protects NumPy's own generator, from which scikit-learn draws once more."""
    X, _ = sparse_data()
    for state in (None, np.random.RandomState):
        model = SGDOneClassSVM(0.3, max_iter=3, tol=None)
        theirs = peers_of(model)
        for one in (model, theirs):
            np.random.seed(5)  # noqa: NPY002
            one.set_params(random_state=state and state(2)).fit(X)
        assert_allclose(model.coef_, theirs.coef_, rtol=1e-10)


def test_losses_are_all_of_scikit_learns():
    """Protects the grid above from a loss that is not in it."""
    assert set(SCIKIT_LEARNS) == set(peers_of(SGDClassifier()).loss_functions)
    assert set(SCIKIT_LEARNS) <= set(_core.LOSSES)
