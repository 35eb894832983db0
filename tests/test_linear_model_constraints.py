"""Estimators whose weights stay positive, or become zero by groups.

What C does is tested in ``test_linear_constraints.py``.
"""

import pickle

import numpy as np
import pytest
from linear_models import N_ROWS, classes_of, make_data, make_model
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import datasets, linear_model
from sklearn.base import clone

from fastgd import reference
from fastgd.linear_model import SGDClassifier, SGDOneClassSVM, SGDRegressor

LAYOUTS = {"dense": np.asarray, "sparse": sparse.csr_array}
GROUPS = [3, 3, 0, 0, 0, -2, -2, 9, 9, 9]


def diabetes():
    """Ten features of variance one, which are correlated, and targets of variance one."""
    X, y = datasets.load_diabetes(return_X_y=True)
    return X / X.std(axis=0), (y - y.mean()) / y.std()


def descend(**parameters):
    """Gradient descent by all rows, until it stands still."""
    settings = {"learning_rate": "constant", "eta0": 0.2, "batch_size": 442, "max_iter": 3000}
    return SGDRegressor(shuffle=False, tol=None, **{**settings, **parameters})


# ---- positive ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("penalty", ["l1", "l2", "elasticnet", None])
def test_positive_weights_come_to_what_scikit_learn_finds(penalty, layout):
    """Protects the purpose of it: the minimum among positive weights, with each penalty."""
    X, y = diabetes()
    alpha = 0.02
    if penalty == "l2":
        peer = linear_model.Ridge(alpha * len(y), positive=True, tol=1e-10)
    elif penalty is None:
        peer = linear_model.LinearRegression(positive=True)
    else:
        ratio = 1.0 if penalty == "l1" else 0.6
        peer = linear_model.ElasticNet(alpha, l1_ratio=ratio, positive=True, tol=1e-10)
    peer.fit(X, y)
    model = descend(penalty=penalty, alpha=alpha, l1_ratio=0.6, positive=True)
    model.fit(LAYOUTS[layout](X), y)
    assert_allclose(model.coef_, peer.coef_, atol=1e-6)
    assert_allclose(model.intercept_, peer.intercept_, atol=1e-6)
    assert 0 < np.count_nonzero(model.coef_ == 0) < 10


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad"])
def test_positive_weights_row_by_row(optimizer, layout):
    """Protects batches of one row, and other optimizers: they end near the same minimum."""
    X, y = diabetes()
    peer = linear_model.LinearRegression(positive=True).fit(X, y)
    rate = {"sgd": 1e-3, "adam": 1e-4, "adagrad": 0.05}[optimizer]
    model = SGDRegressor(
        optimizer=optimizer, penalty=None, positive=True, learning_rate="constant", eta0=rate,
        max_iter=150, tol=None, random_state=0,
    )  # fmt: skip
    model.fit(LAYOUTS[layout](X), y)
    assert (model.coef_ >= 0).all()
    assert_allclose(model.coef_, peer.coef_, atol=0.04)


@pytest.mark.parametrize("options", [{}, {"loss": "multinomial", "n_threads": 2}])
def test_positive_weights_of_classes_and_targets(options):
    """Protects every class's weights, and every target's."""
    X, _ = make_data(N_ROWS, 5, "huber")
    y = classes_of(X, 4)
    model = SGDClassifier(positive=True, alpha=0.01, random_state=0, max_iter=5, tol=None)
    model.set_params(**options).fit(X, y)
    assert model.coef_.shape == (4, 5)
    assert 0 < np.mean(model.coef_ == 0) < 1
    assert (model.coef_ >= 0).all()
    assert (model.intercept_ < 0).any()
    targets = SGDRegressor(positive=True, random_state=0).fit(X, np.c_[X[:, 0], -X[:, 1], X[:, 2]])
    assert (targets.coef_ >= 0).all()
    assert not targets.coef_[1, 1]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_positive_one_class_machines(layout):
    """Protects outlier detection with positive weights: as the specification, row by row."""
    X, _ = make_data(N_ROWS, 5, "huber")
    X += [1, -1, 0.5, 0, 0]
    model = SGDOneClassSVM(
        nu=0.2, positive=True, shuffle=False, learning_rate="constant", eta0=0.05, max_iter=3,
        tol=None,
    ).fit(LAYOUTS[layout](X))  # fmt: skip
    w, b, curve = reference.train_linear(
        X.tolist(), [1.0] * N_ROWS, [0.0] * 5, 1.0, loss="hinge", alpha=0.2, one_class=0.2,
        positive=True, eta0=0.05, shuffle=False, max_iter=3,
    )  # fmt: skip
    assert_allclose(model.coef_, w, atol=1e-12)
    assert_allclose(model.offset_, 1 - b, atol=1e-12)
    assert_allclose(model.loss_curve_, curve, rtol=1e-12)
    assert model.coef_[0] > 0
    assert model.coef_[1] == 0
    with pytest.raises(ValueError, match=r"average must not be True .* positive=True"):
        model.set_params(average=True).fit(X)


def test_training_goes_on_with_positive_weights():
    """Protects partial_fit, warm starts and starts from elsewhere: never below zero."""
    X, y = diabetes()
    model = SGDRegressor(random_state=0, max_iter=3, tol=None, warm_start=True).fit(X, y)
    assert (model.coef_ < 0).any()
    negative = model.coef_.copy()
    model.set_params(positive=True).partial_fit(X[:1] * 0, y[:1])
    assert_allclose(model.coef_, np.maximum(negative, 0), rtol=1e-3)
    for start in (-np.ones(10), np.ones(10)):
        assert (model.fit(X, y, coef_init=start).coef_ >= 0).all()


# ---- groups --------------------------------------------------------------------------------------


def group_lasso(X, y, groups, alpha, l1_ratio, epochs=3000):
    """Proximal gradient descent on squared error / 2, group by group, in NumPy."""
    Xc, yc = X - X.mean(axis=0), y - y.mean()
    step = len(y) / np.linalg.norm(Xc, 2) ** 2
    w = np.zeros(X.shape[1])
    for _ in range(epochs):
        w = w - step * (Xc.T @ (Xc @ w - yc) / len(y) + alpha * (1 - l1_ratio) * w)
        for one in np.unique(groups):
            inside = groups == one
            norm = np.linalg.norm(w[inside])
            by = step * alpha * l1_ratio * np.sqrt(inside.sum())
            w[inside] *= max(0, 1 - by / norm) if norm else 0
    return w


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("l1_ratio", [None, 1.0, 0.7])
def test_groups_come_to_the_minimum(l1_ratio, layout):
    """Protects the group lasso: the minimum that another program finds, and its objective."""
    X, y = diabetes()
    groups, alpha = np.array(GROUPS), 0.12
    model = descend(penalty="group", groups=GROUPS, alpha=alpha, l1_ratio=l1_ratio)
    model.fit(LAYOUTS[layout](X), y)
    ratio = 1.0 if l1_ratio is None else l1_ratio
    expected = group_lasso(X, y, groups, alpha, ratio)
    assert_allclose(model.coef_, expected, atol=1e-6)
    zero = [not model.coef_[groups == one].any() for one in np.unique(groups)]
    assert 0 < sum(zero) < len(zero)
    assert_array_equal(model.coef_ == 0, expected == 0)
    w = model.coef_
    objective = 0.5 * np.mean((y - X @ w - model.intercept_) ** 2) + alpha * (
        ratio * sum(np.sqrt(sum(groups == g)) * np.linalg.norm(w[groups == g]) for g in set(GROUPS))
        + (1 - ratio) / 2 * w @ w
    )
    assert_allclose(model.loss_curve_[-1], objective, rtol=1e-12)


@pytest.mark.parametrize("n_classes", [1, 4])
@pytest.mark.parametrize("positive", [False, True])
def test_estimators_follow_the_reference(n_classes, positive):
    """Protects what reaches C, and the curve: penalties are in it."""
    X, y = make_data(N_ROWS, 10, "log_loss")
    y = np.unique(classes_of(X, 4), return_inverse=True)[1] if n_classes > 1 else y
    loss = "multinomial" if n_classes > 1 else "log_loss"
    given = {"alpha": 0.02, "l1_ratio": 0.8, "batch_size": 9, "positive": positive}
    model = SGDClassifier(
        loss, penalty="group", groups=GROUPS, learning_rate="constant", eta0=0.5, shuffle=False,
        max_iter=4, tol=None, **given,
    ).fit(X, y)  # fmt: skip
    w, b, curve = reference.train_linear(
        X.tolist(), y.tolist(), [0.0] * (10 * n_classes), [0.0] * n_classes if n_classes > 1 else 0,
        loss=loss, penalty="group", groups=GROUPS, eta0=0.5, shuffle=False, max_iter=4, **given,
    )  # fmt: skip
    assert_allclose(model.coef_.ravel(), w, atol=1e-12)
    assert_allclose(model.intercept_, np.ravel(b), atol=1e-12)
    assert_allclose(model.loss_curve_, curve, rtol=1e-12)


def test_the_curve_counts_the_penalty_on_groups():
    """Protects the objective that stops training: mean loss, L2 and groups, each with its share."""
    X, y = diabetes()
    coef = np.linspace(-1, 1, 10)
    model = SGDRegressor(
        penalty="group", groups=GROUPS, l1_ratio=0.6, alpha=0.5, fit_intercept=False, max_iter=1,
        tol=None, batch_size=len(y), learning_rate="constant", eta0=1e-15,
    ).fit(X, y, coef_init=coef)  # fmt: skip
    groups = [coef[np.equal(GROUPS, number)] for number in set(GROUPS)]
    lengths = [np.sqrt(group.size) * np.linalg.norm(group) for group in groups]
    penalty = 0.5 * (0.6 * sum(lengths) + 0.4 * coef @ coef / 2)
    assert_allclose(model.loss_curve_, [np.mean((X @ coef - y) ** 2) / 2 + penalty])


def test_features_are_selected_for_all_classes_at_once():
    """Protects groups=None of a softmax: a feature that tells nothing has no weight at all."""
    X, y = datasets.load_iris(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    X = np.c_[X, np.random.default_rng(0).standard_normal((150, 6))]
    model = SGDClassifier(
        "multinomial", penalty="group", l1_ratio=None, alpha=0.03, batch_size=150, max_iter=1000,
        tol=None, learning_rate="constant", eta0=0.3,
    ).fit(X, y)  # fmt: skip
    selected = model.coef_.any(axis=0)
    assert_array_equal(selected, (model.coef_ != 0).all(axis=0))
    assert not selected[4:].any()
    assert selected[2:4].all()
    assert model.score(X, y) > 0.9


def test_each_target_has_its_own_weights_in_a_group(assert_same_bits):
    """Protects several targets: each is what it would be alone."""
    X, y = diabetes()
    model = descend(penalty="group", groups=GROUPS, alpha=0.1, max_iter=30)
    both = clone(model).fit(X, np.c_[y, -2 * y])
    assert_same_bits(both.coef_[0], model.fit(X, y).coef_)


# ---- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"positive": "yes"}, "'positive' parameter"),
        ({"penalty": "groups"}, "'penalty' parameter"),
        ({"groups": 3}, "'groups' parameter"),
        ({"penalty": "group"}, r"groups must be an array of integers, the number .* got None"),
        ({"penalty": "group", "groups": [1, 2]}, r"groups must be .* 5 features; got shape \(2,\)"),
        ({"penalty": "group", "groups": np.zeros(5)}, "groups must be .* dtype float64"),
        (
            {"penalty": "group", "optimizer": "adagrad"},
            "penalty must be 'l2' or 'l1' or .* got 'group'",
        ),
        ({"positive": True, "optimizer": "vw"}, "positive must be False with optimizer='vw'"),
        ({"positive": True, "average": True}, "average must not be True .* positive=True"),
        ({"positive": True, "penalty": "l1", "optimizer": "adam"}, "penalty must be 'l2' or None"),
    ],
)
def test_wrong_parameters_are_refused_by_name(options, match):
    """Protects from combinations without a meaning; the estimator stays as it was."""
    X, y = make_data(N_ROWS, 5, "huber")
    model = SGDRegressor().set_params(**options)
    with pytest.raises(ValueError, match=match):
        model.fit(X, y)
    assert vars(model).keys() == model.get_params().keys()


def test_groups_are_a_parameter_like_others():
    """Protects clone and pickle of an estimator with an array among its parameters."""
    X, y = diabetes()
    model = descend(penalty="group", groups=np.array(GROUPS), alpha=0.1, max_iter=20)
    expected = model.fit(X, y).coef_
    assert_array_equal(clone(model).fit(X, y).coef_, expected)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.groups, GROUPS)
    assert_array_equal(again.partial_fit(X, y).coef_, model.partial_fit(X, y).coef_)


def test_a_penalty_of_no_strength_is_none(assert_same_bits):
    """Protects alpha=0 and l1_ratio=0: plain sgd, row by row, with averages."""
    X, y = make_data(N_ROWS, 5, "huber")
    fit = lambda **given: make_model("huber", average=True, **given).fit(X, y).coef_  # noqa: E731
    given = {"penalty": "group", "groups": [0, 0, 1, 1, 1]}
    assert_same_bits(fit(alpha=0.0, **given), fit(alpha=0.0))
    assert_same_bits(fit(l1_ratio=0.0, **given), fit())
