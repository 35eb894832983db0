"""SGDClassifier(loss="multinomial"), one model of all classes; its kernels are those of batches."""

import itertools
import pickle

import numpy as np
import pytest
from linear_models import all_params, classes_of, make_data
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import fastgd
from fastgd import reference
from fastgd.linear_model import SGDClassifier

N_ROWS = 131


def make_model(**given):
    return SGDClassifier(
        **{
            "loss": "multinomial",
            "alpha": 0.01,
            "learning_rate": "invscaling",
            "eta0": 0.1,
            "max_iter": 2,
            "tol": None,
            "random_state": 7,
            **given,
        }
    )


@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet", None])
@pytest.mark.parametrize("batch_size", [1, 7, 200])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad"])
def test_it_follows_the_reference(batch_size, optimizer, penalty):
    """Protects the way of labels, weights and penalties into C, and of its results back."""
    if optimizer == "adam" and penalty in ("l1", "elasticnet"):
        pytest.skip("Adam has no proximal step")
    X, _ = make_data(N_ROWS, 9, "hinge")
    y = classes_of(X, 4)
    weights = np.random.default_rng(0).random(N_ROWS)
    model = make_model(batch_size=batch_size, optimizer=optimizer, penalty=penalty)
    model.set_params(class_weight={"nine": 2.0})
    codes = np.searchsorted(np.unique(y), y)
    w, b, curve = reference.train_linear(
        X.tolist(),
        codes.tolist(),
        [0.0] * 36,
        [0.0] * 4,
        loss="multinomial",
        penalty=penalty,
        alpha=0.01,
        max_iter=2,
        seed=model._draw(1)[0][0],
        learning_rate="invscaling",
        eta0=0.1,
        batch_size=batch_size,
        optimizer=optimizer,
        sample_weight=(weights * np.where(y == "nine", 2.0, 1.0)).tolist(),
    )
    for form in (X, csr_array(X)):
        model.fit(form, y, sample_weight=weights)
        assert_allclose(model.coef_, np.reshape(w, (4, 9)), atol=1e-12)
        assert_allclose(model.intercept_, b, atol=1e-12)
        assert_allclose(model.loss_curve_, curve, rtol=1e-12)


@pytest.mark.parametrize("load", [load_iris, load_digits])
def test_it_comes_to_what_logistic_regression_finds(load):
    """Protects the whole: labels in, probabilities out, as another method finds them."""
    X, y = load(return_X_y=True)
    X, alpha = StandardScaler().fit_transform(X), 0.1
    model = make_model(
        alpha=alpha, learning_rate="constant", eta0=0.2, optimizer=("sgd", {"momentum": 0.9}),
        batch_size=len(y), max_iter=250, shuffle=False, n_threads=1,
    )  # fmt: skip
    peer = LogisticRegression(C=1 / (alpha * len(y)), tol=1e-5, max_iter=1000).fit(X, y)
    model.fit(X, y)
    assert_allclose(model.coef_, peer.coef_, atol=1e-3)
    assert_allclose(model.intercept_, peer.intercept_, atol=1e-3)
    assert_allclose(model.predict_proba(X), peer.predict_proba(X), atol=1e-3)
    assert_array_equal(model.predict(X), peer.predict(X))


def test_probabilities_are_the_softmax_of_decisions():
    """Protects predict_proba, its logarithm, and the labels."""
    X, _ = make_data(N_ROWS, 5, "hinge")
    y = classes_of(X, 3)
    model = make_model().fit(X, y)
    assert model.coef_.shape == (3, 5)
    assert model.intercept_.shape == (3,)
    scores = model.decision_function(X)
    assert_allclose(model.predict_proba(X), softmax(scores, axis=1))
    assert_allclose(model.predict_log_proba(X), np.log(model.predict_proba(X)))
    assert_array_equal(model.predict(X), model.classes_[scores.argmax(axis=1)])
    assert model.score(X, y) > 0.6


def test_two_classes_are_logistic_regression():
    """Protects the binary case, which has one set of weights: that of "log_loss"."""
    X, _ = make_data(N_ROWS, 5, "hinge")
    y = classes_of(X, 2)
    ours, logistic = make_model().fit(X, y), make_model(loss="log_loss").fit(X, y)
    for a, b in zip(all_params(ours), all_params(logistic), strict=True):
        assert_array_equal(a, b)
    assert_array_equal(ours.predict_proba(X), logistic.predict_proba(X))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lamb"])
def test_going_on(optimizer):
    """Protects partial_fit, warm starts and pickles: weights and states of all classes."""
    X, _ = make_data(N_ROWS, 5, "hinge")
    y = classes_of(X, 4)
    once = make_model(optimizer=optimizer, batch_size=16, shuffle=False).fit(X, y)
    steps = clone(once)
    for _ in range(2):
        steps = pickle.loads(pickle.dumps(steps)).partial_fit(X, y, classes=np.unique(y))
    for a, b in zip(all_params(steps), all_params(once), strict=True):
        assert_array_equal(a, b)
    start = clone(once).set_params(max_iter=1)
    start.fit(X, y, coef_init=once.coef_, intercept_init=once.intercept_)
    again = once.set_params(warm_start=True, max_iter=1).fit(X, y)
    assert_array_equal(start.coef_, again.coef_)


def test_threads_do_not_change_a_bit(dtype, assert_same_bits):
    """Protects reproducibility."""
    X, _ = make_data(2001, 40, "hinge", dtype=dtype)
    y = classes_of(X, 4)
    for form, optimizer in itertools.product([X, csr_array(X)], ["sgd", "adam"]):
        results = []
        for threads in (1, 2, 3, 4):
            with fastgd.threads(threads):
                results.append(
                    all_params(make_model(batch_size=500, optimizer=optimizer).fit(form, y))
                )
        for result in results[1:]:
            assert_same_bits(result, results[0])


def test_early_stopping_by_accuracy():
    """Protects the score on rows held out: that of all classes together."""
    X, _ = make_data(600, 5, "hinge")
    y = classes_of(X, 3)
    model = make_model(early_stopping=True, max_iter=20, batch_size=8).fit(X, y)
    assert len(model.validation_curve_) == model.n_iter_
    model = make_model(max_iter=3).fit(X[:300], y[:300], X_val=X[300:], y_val=y[300:])
    assert model.validation_curve_[-1] == model.score(X[300:], y[300:])


@pytest.mark.parametrize("optimizer", ["adam", ("sgd", {"momentum": 0.9})])
@pytest.mark.parametrize("penalty", ["l1", "elasticnet"])
def test_l1_without_a_proximal_step_is_refused_by_name(optimizer, penalty):
    """Protects against a penalty that would be passed over."""
    X, _ = make_data(N_ROWS, 5, "hinge")
    with pytest.raises(ValueError, match="penalty must be 'l2' or None with optimizer="):
        make_model(penalty=penalty, optimizer=optimizer).fit(X, classes_of(X, 3))


def test_averages_are_refused_by_name():
    """Protects against a model that is not averaged although it was to be."""
    X, _ = make_data(N_ROWS, 5, "hinge")
    with pytest.raises(ValueError, match='average must be False with loss="multinomial"'):
        make_model(average=True).fit(X, classes_of(X, 3))
