"""What linear models tell of their training: the loss before it, the gradient after each epoch.

The losses of each epoch are in test_linear_model.py, scores in test_linear_model_extras.py.
"""

import itertools
import pickle

import numpy as np
import pytest
from hashed_rows import hashed_beforehand, make_rows
from linear_models import classes_of, is_classification, make_data, make_model
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import approx_fprime
from scipy.sparse import csr_array
from scipy.special import logsumexp

import fastgd
from fastgd import _core, reference, train
from fastgd.linear_model import LogisticRegression, SGDClassifier, SGDOneClassSVM, SGDRegressor

LOSSES = list(_core.LOSSES)
FORMS = [np.asarray, csr_array]
N_ROWS = 65


def rows_for(loss, n_rows=N_ROWS, seed=0, dtype=np.float64):
    """Rows, targets in the domain of the loss, and weights of the rows."""
    X, y = make_data(n_rows, 5, loss, seed, dtype)
    y = y if is_classification(loss) else np.abs(y) + dtype(0.1)
    weights = np.random.default_rng(seed).choice([0.5, 1.0, 2.0], n_rows).astype(dtype)
    return X, y, weights


def losses_of(model, params, X, y):
    """Loss of each row at these parameters, by the specification."""
    e = [model._loss_parameter()] if _core.LOSSES[model.loss]["parameter"] else []
    p = X @ params[:-1] + params[-1]
    pairs = zip(p.tolist(), y.tolist(), strict=True)
    return np.array([reference.LOSSES[model.loss](one, target, *e)[0] for one, target in pairs])


# ---- progressive_loss_ ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", LOSSES)
def test_progressive_loss_is_that_of_rows_not_yet_seen(loss, form):
    """Protects the number: each row is judged by what came of the rows before it alone."""
    n_rows = 17
    X, y, weights = rows_for(loss, n_rows)
    common = {"shuffle": False, "penalty": None, "learning_rate": "constant", "eta0": 0.01}
    model = make_model(loss, **common)
    params, expected = np.zeros(6), []
    for i in range(n_rows):
        expected.append(weights[i] * losses_of(model, params, X[i : i + 1], y[i : i + 1])[0])
        row = slice(i, i + 1)
        args = {"classes": [-1, 1]} if is_classification(loss) else {}
        model.partial_fit(form(X[row]), y[row], sample_weight=weights[row], **args)
        assert_allclose(model.progressive_loss_, np.mean(expected), rtol=1e-10)
        params = np.append(model.coef_.ravel(), model.intercept_)
    many = make_model(loss, max_iter=3, **common)
    many.fit(form(X), y, sample_weight=weights)
    assert_allclose(many.progressive_loss_, np.mean(expected), rtol=1e-10)


def test_progressive_loss_of_chunks():
    """Protects the mean: chunks count by their rows, and `fit` begins anew."""
    X, y = make_data(300, 5, "squared_error")
    model, total, done = SGDRegressor(penalty=None, random_state=0), 0.0, 0
    for n_rows in (1, 200, 64):
        chunk = slice(done, done + n_rows)
        model.partial_fit(X[chunk], y[chunk])
        total, done = total + n_rows * model.loss_curve_[-1], done + n_rows
        assert_allclose(model.progressive_loss_, total / done, rtol=1e-12)
    again = pickle.loads(pickle.dumps(model)).partial_fit(X, y)
    total += 300 * again.loss_curve_[-1]
    assert_allclose(again.progressive_loss_, total / (done + 300), rtol=1e-12)
    model.fit(X, y)
    assert model.progressive_loss_ == model.loss_curve_[0]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_progressive_loss_of_many_problems(n_jobs):
    """Protects one against the rest: the mean over the classes; nor do held-out rows count."""
    X, _ = make_data(300, 5, "hinge")
    y = classes_of(X, 3)
    parameters = {"penalty": None, "learning_rate": "constant", "random_state": 0}
    model = SGDClassifier(n_jobs=n_jobs, **parameters).fit(X, y)
    assert model.progressive_loss_ == model.loss_curve_[0]
    assert SGDOneClassSVM(random_state=0, tol=None).fit(X).progressive_loss_ > 0
    held_out = SGDClassifier(early_stopping=True, **parameters).fit(X, y)
    assert held_out.progressive_loss_ == held_out.loss_curve_[0]
    assert held_out._progressive[1] == 270


def test_progressive_loss_of_half_an_epoch(monkeypatch):
    """Protects Ctrl-C in the first epoch: no mean of rows that were never reached."""
    X, y = make_data(150, 5, "huber")
    model = make_model("huber").partial_fit(X, y)
    before, train_linear = model.progressive_loss_, _core.train_linear

    def interrupted(*args, **options):
        train_linear(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(_core, "train_linear", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(X, y)
    assert model.progressive_loss_ == before
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert np.isnan(model.progressive_loss_)


# ---- grad_norm_curve_ ----------------------------------------------------------------------------


def subgradient(model, params, X, y, weights):
    """Gradient of mean loss and penalty, by the specification; of L1 the smallest one."""
    e = model._loss_parameter() if _core.LOSSES[model.loss]["parameter"] else None
    _, w, b = reference.linear_gradient(
        X.tolist(),
        y.tolist(),
        params[:-1].tolist(),
        float(params[-1]),
        range(len(y)),
        model.loss,
        **({} if e is None else {"loss_parameter": e}),
        sample_weight=weights.tolist(),
    )
    ratio = {"l1": 1.0, "elasticnet": model.l1_ratio}.get(model.penalty, 0.0)
    coef, l1 = params[:-1], model.alpha * ratio * (model.penalty is not None)
    grad = np.array(w) + model.alpha * (1 - ratio) * (model.penalty is not None) * coef
    smallest = np.sign(grad) * np.maximum(np.abs(grad) - l1, 0)
    return np.append(
        np.where(coef == 0, smallest, grad + l1 * np.sign(coef)), b * model.fit_intercept
    )


@pytest.mark.parametrize(
    ("loss", "penalty", "fit_intercept"),
    [
        *((loss, "l2", True) for loss in LOSSES),
        *itertools.product(["log_loss", "huber"], ["l1", "elasticnet", None], [True, False]),
    ],
)
def test_grad_norm_is_that_of_the_specification(loss, penalty, fit_intercept):
    """Protects each loss and penalty, dense and sparse, with weights, epoch by epoch."""
    X, y, weights = rows_for(loss)
    for form in FORMS:
        model = make_model(loss, penalty=penalty, fit_intercept=fit_intercept, alpha=0.1)
        model.set_params(grad_norm=True, max_iter=3, eta0=0.02)
        model.fit(form(X), y, sample_weight=weights)
        assert len(model.grad_norm_curve_) == 3
        params = np.append(model.coef_.ravel(), model.intercept_)
        expected = np.linalg.norm(subgradient(model, params, X, y, weights))
        assert_allclose(model.grad_norm_curve_[-1], expected, rtol=1e-10)
        plain = make_model(loss, penalty=penalty, fit_intercept=fit_intercept, alpha=0.1, eta0=0.02)
        plain.set_params(max_iter=3).fit(form(X), y, sample_weight=weights)
        assert_array_equal(plain.coef_, model.coef_)
        assert not hasattr(plain, "grad_norm_curve_")


def test_grad_norm_of_a_softmax_and_of_one_against_the_rest():
    """Protects models of many classes: one gradient of all of them, or the mean over them."""
    X, _ = make_data(N_ROWS, 5, "hinge")
    y, weights = classes_of(X, 4), np.random.default_rng(0).random(N_ROWS)
    codes = np.searchsorted(np.unique(y), y)
    softmax = SGDClassifier(loss="multinomial", alpha=0.1, grad_norm=True, random_state=0)
    softmax.fit(X, y, sample_weight=weights)

    def objective(w):
        coef, b = w[:20].reshape(4, 5), w[20:]
        p = X @ coef.T + b
        losses = logsumexp(p, axis=1) - p[np.arange(N_ROWS), codes]
        return (weights * losses).mean() + 0.05 * (coef**2).sum()

    found = approx_fprime(np.append(softmax.coef_, softmax.intercept_), objective)
    assert_allclose(softmax.grad_norm_curve_[-1], np.linalg.norm(found), rtol=1e-5)
    model = SGDClassifier(loss="log_loss", alpha=0.1, grad_norm=True, random_state=0)
    model.set_params(tol=None, max_iter=4).fit(X, y, sample_weight=weights)
    each = [
        subgradient(model, np.append(w, b), X, np.where(y == one, 1.0, -1.0), weights)
        for one, w, b in zip(model.classes_, model.coef_, model.intercept_, strict=True)
    ]
    expected = np.mean(np.linalg.norm(each, axis=1))
    assert_allclose(model.grad_norm_curve_[-1], expected, rtol=1e-10)


def test_grad_norm_of_a_one_class_svm():
    """Protects the offset's part of the objective."""
    X, _ = make_data(N_ROWS, 5, "hinge")
    model = SGDOneClassSVM(nu=0.3, grad_norm=True, random_state=0).fit(X)
    b = 1 - model.offset_
    inside = X @ model.coef_ + b <= 1
    grad = np.append(0.3 * model.coef_ - X[inside].sum(axis=0) / N_ROWS, 0.3 - inside.mean())
    assert_allclose(model.grad_norm_curve_[-1], np.linalg.norm(grad), rtol=1e-10)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize(("alpha", "none_left"), [(0.02, False), (10.0, True)])
def test_grad_norm_with_groups_and_bounds(alpha, none_left, positive, n_classes):
    """Protects the smallest subgradient: it is zero where full-batch training has converged."""
    X, _ = make_data(N_ROWS, 6, "hinge")
    y = classes_of(X, n_classes)
    model = SGDClassifier(loss="multinomial", penalty="group", groups=[0, 1, 1, 2, 0, 2])
    model.set_params(alpha=alpha, positive=positive, batch_size=N_ROWS, shuffle=False, tol=None)
    model.set_params(learning_rate="constant", eta0=1.0, max_iter=2000, grad_norm=True)
    curve = model.fit(X, y).grad_norm_curve_
    assert curve[-1] < 1e-7 < 1e-4 < curve[0]
    assert model.coef_.any() != none_left
    model.set_params(penalty="l1", groups=None)
    assert model.fit(X, y).grad_norm_curve_[-1] < 1e-7


@pytest.mark.parametrize("shuffle", [True, False])
def test_grad_norm_with_hashing_and_interactions(shuffle, monkeypatch):
    """Protects features that are made on the way: the gradient is that of them all."""
    monkeypatch.setattr(train, "_MADE_AT_LEAST", 100)  # some rows at a time
    X, y = make_rows(n_columns=300)
    weights, pairs = np.random.default_rng(0).random(len(y)), [((0, 150), (150, 300))]
    common = {"alpha": 0.01, "grad_norm": True, "random_state": 0, "shuffle": shuffle}
    common |= {"batch_size": 8, "learning_rate": "constant", "max_iter": 3, "tol": None}
    own = {"hashing": 7, "interactions": pairs}
    for more, made in [(own, pairs), ({"hashing": 7}, ())]:
        model = SGDClassifier("log_loss", **common, **more).fit(X, y, sample_weight=weights)
        peer = SGDClassifier("log_loss", **common)
        peer.fit(hashed_beforehand(X, 7, made), y, sample_weight=weights)
        assert_allclose(model.grad_norm_curve_, peer.grad_norm_curve_, rtol=1e-10)


def test_grad_norm_of_the_model_that_is_returned():
    """Protects averages, rows held out, and the curve of chunks."""
    X, y, weights = rows_for("huber", 300)
    model = make_model("huber", average=True, grad_norm=True).fit(X, y, sample_weight=weights)
    params = np.append(model.coef_, model.intercept_)
    expected = np.linalg.norm(subgradient(model, params, X, y, weights))
    assert_allclose(model.grad_norm_curve_[-1], expected, rtol=1e-10)
    assert len(model.partial_fit(X, y).grad_norm_curve_) == 3
    assert not hasattr(model.set_params(grad_norm=False).fit(X, y), "grad_norm_curve_")
    held = make_model("huber", early_stopping=True, grad_norm=True, tol=1e-3, max_iter=50)
    held.fit(X, y, sample_weight=weights)
    _, mask = held._draw(1, lambda: held._split(held._read(X, y, weights, False)))
    params = np.append(held.coef_, held.intercept_)
    grad = subgradient(held, params, X[~mask], y[~mask], weights[~mask])
    assert_allclose(held.grad_norm_curve_[-1], np.linalg.norm(grad), rtol=1e-10)


def test_grad_norm_tells_convergence_from_a_small_rate():
    """Protects its purpose: zero where LogisticRegression ends, not where steps became short."""
    X, y = make_data(200, 5, "log_loss")
    solved = LogisticRegression(C=1 / 2, tol=1e-10).fit(X, y)
    common = {"loss": "log_loss", "alpha": 1 / 100, "grad_norm": True, "tol": None}
    at_end = SGDClassifier(learning_rate="constant", eta0=1e-12, max_iter=1, **common)
    at_end.fit(X, y, coef_init=solved.coef_, intercept_init=solved.intercept_)
    assert at_end.grad_norm_curve_[-1] < 1e-9
    stuck = SGDClassifier(learning_rate="invscaling", power_t=2.0, max_iter=30, **common)
    stuck.fit(X, y)
    assert stuck.loss_curve_[-2] - stuck.loss_curve_[-1] < 1e-6
    assert stuck.grad_norm_curve_[-1] > 0.1


def test_grad_norm_has_the_same_bits_for_any_number_of_threads(n_threads, dtype):
    """Protects reproducibility."""
    X, y, _ = rows_for("log_loss", 4097, dtype=dtype)
    curves = []
    for team in (1, n_threads):
        fastgd.set_num_threads(team)
        model = make_model("log_loss", grad_norm=True, batch_size=64).fit(X, y)
        curves.append(model.grad_norm_curve_)
    assert curves[0] == curves[1]
