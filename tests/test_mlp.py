"""Multilayer perceptrons: what they do beyond scikit-learn, and what stops them.

In order: rows for validation, looking on, optimizers, networks, data, what is refused, trouble.
"""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score

import fastgd
from fastgd import optim, schedules
from fastgd._hypers import VECTOR_RULES
from fastgd._linear_input import losses_for
from fastgd.neural_network import MLPClassifier, MLPRegressor
from fastgd.nn import ACTIVATIONS, Dense, Network

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
N_ROWS = 131


def some_data(n_classes=0, n_rows=N_ROWS, seed=0):
    """Rows, and targets or as many classes."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, 5))
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2] / 2
    return X, (np.digitize(y, [-0.4, 0.4][: n_classes - 1]) if n_classes else y)


def classifier(**given):
    return MLPClassifier(**{"hidden_layer_sizes": (7, 7), "max_iter": 4, "batch_size": 20,
                            "random_state": 0, **given})  # fmt: skip


def regressor(**given):
    return MLPRegressor(**{"hidden_layer_sizes": (7, 7), "max_iter": 4, "batch_size": 20,
                           "random_state": 0, **given})  # fmt: skip


def assert_same_weights(one, other):
    for name in ("coefs_", "intercepts_"):
        for mine, theirs in zip(getattr(one, name), getattr(other, name), strict=True):
            assert_array_equal(mine, theirs)


# ---- rows for validation -------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [0, 2, 3])
@pytest.mark.parametrize("given", [{}, {"ema_decay": 0.9}])
def test_validation_scores_are_those_of_each_epoch(n_classes, given):
    """Protects the curve: what `score` says of the model after so many epochs; all X is trained."""
    X, y = some_data(n_classes)
    X_val, y_val = some_data(n_classes, 60, seed=1)
    weights = np.random.default_rng(0).random(60)
    model = (classifier if n_classes else regressor)(**given)
    model.fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weights)
    assert len(model.validation_scores_) == 4
    assert model.best_validation_score_ == max(model.validation_scores_)
    for epochs, score in enumerate(model.validation_scores_, 1):
        shorter = clone(model).set_params(max_iter=epochs).fit(X, y)
        assert_allclose(shorter.score(X_val, y_val, weights), score, rtol=1e-10)
    assert_same_weights(shorter, model)


def test_best_weights_are_restored():
    """Protects `restore_best_weights`, and that `early_stopping` looks at these rows."""
    X, y = some_data(3)
    X_val, y_val = some_data(3, 60, seed=1)
    model = classifier(max_iter=20, learning_rate_init=0.05, restore_best_weights=True)
    model.fit(X, y, X_val=X_val, y_val=y_val)
    best = int(np.argmax(model.validation_scores_)) + 1
    assert best < model.n_iter_
    shorter = clone(model).set_params(max_iter=best, restore_best_weights=False).fit(X, y)
    assert_same_weights(model, shorter)
    stopped = clone(model).set_params(early_stopping=True, n_iter_no_change=2)
    stopped.fit(X, y, X_val=X_val, y_val=y_val)
    assert stopped.n_iter_ < 20
    assert stopped.score(X_val, y_val) == stopped.best_validation_score_


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_too_few_epochs_are_said_to_be(solver):
    """Protects the warning, which points at the caller's line, and that the model is there."""
    X, y = some_data()
    with pytest.warns(ConvergenceWarning) as caught:
        model = regressor(solver=solver, max_iter=3).fit(X, y)
    assert [warning.filename for warning in caught] == [__file__]
    assert model.n_iter_ == 3


def test_score_of_several_labels():
    """Protects early stopping on several labels: all of a row's must be right, as in `score`."""
    X, _ = some_data()
    Y = (X[:, :3] > 0).astype(int)
    model = classifier().fit(X, Y, X_val=X[:50], y_val=Y[:50])
    assert model.validation_scores_[-1] == accuracy_score(Y[:50], model.predict(X[:50]))


# ---- looking on ----------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callbacks_see_each_epoch_and_may_end_training(solver):
    """Protects `callbacks`: what they are given, and that true was the last epoch."""
    X, y = some_data()
    seen = []

    def look(progress):
        seen.append(progress)
        return progress.epoch == 3

    model = regressor(solver=solver, max_iter=9, callbacks=[look, lambda progress: None])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is no failure to converge
        model.fit(X, y, X_val=X, y_val=y)
    assert model.network_.parameters[0] is model.coefs_[0]
    assert not hasattr(clone(model), "network_")
    assert [progress.epoch for progress in seen] == [1, 2, 3]
    assert model.n_iter_ == 3
    assert_allclose(seen[-1].objective, model.loss_)
    assert [p.validation_score for p in seen] == model.validation_scores_
    assert_array_equal(seen[-1].coefs[0], model.coefs_[0])
    assert not np.shares_memory(seen[-1].intercepts[0], model.intercepts_[0])


def test_what_is_printed(capsys):
    """Protects the lines of `verbose`, which are scikit-learn's, and the bar."""
    pytest.importorskip("tqdm")
    X, y = some_data(2)
    model = classifier(verbose=True, tol=10.0, n_iter_no_change=1, learning_rate="adaptive",
                       solver="sgd", early_stopping=True)  # fmt: skip
    model.fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Iteration 1, loss = {model.loss_curve_[0]:.8f}"
    assert lines[1] == f"Validation score: {model.validation_scores_[0]:f}"
    assert "Setting learning rate to 0.000200" in "".join(lines)
    classifier(verbose="bar").fit(X, y)
    assert "4/4" in capsys.readouterr().err


# ---- optimizers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", VECTOR_RULES)
def test_any_rule_trains(rule):
    """Protects `optimizer`: the loss falls by each rule, from one seed by the same numbers."""
    X, y = some_data(3)
    rate = {"lion": 1e-3, "signum": 1e-3, "prodigy": 1.0, "adadelta": 1.0, "ftrl": 0.1}
    model = classifier(optimizer=rule, learning_rate_init=rate.get(rule, 0.01), max_iter=12)
    if rule == "musgd":
        model.set_params(optimizer=(rule, {"use_muon": True}))
    model.fit(X, y)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert_same_weights(model, clone(model).fit(X, y))


def test_optimizers_in_other_words():
    """Protects the forms of `optimizer` and `schedule`: name, pair, function, rates."""
    X, y = some_data()
    pair = regressor(optimizer=("adamw", {"weight_decay": 0.1}), learning_rate_init=0.02).fit(X, y)
    made = regressor(optimizer=lambda params: optim.AdamW(params, lr=0.02, weight_decay=0.1))
    assert_same_weights(made.fit(X, y), pair)
    assert made._optimizer.optimizer.names[0] == "layers.0.weight"
    plain = regressor(solver="sgd", momentum=0, learning_rate_init=0.1)
    scheduled = clone(plain).set_params(schedule=schedules.constant(0.1))
    assert_same_weights(scheduled.fit(X, y), plain.fit(X, y))
    falling = clone(plain).set_params(schedule=schedules.linear(0.1, 1.0, 0.0, 10)).fit(X, y)
    longer = clone(falling).set_params(max_iter=9)
    assert_same_weights(falling, longer.fit(X, y))  # then the rate is 0


def test_clipping():
    """Protects `max_norm` and `clip_value`: with plain steps they bound the way that is made."""
    X, y = some_data()
    plain = regressor(solver="sgd", momentum=0, max_iter=1, batch_size=N_ROWS, alpha=0)
    start = clone(plain).set_params(learning_rate_init=1e-300).fit(X, y)
    for given, norm in (({"max_norm": 0.1}, 2), ({"clip_value": 0.001}, np.inf)):
        model = clone(plain).set_params(learning_rate_init=1.0, **given).fit(X, y * 10)
        pairs = zip(model.coefs_ + model.intercepts_, start.coefs_ + start.intercepts_, strict=True)
        way = np.concatenate([(a - b).ravel() for a, b in pairs])
        assert_allclose(np.linalg.norm(way, norm), *given.values(), rtol=1e-6)


@pytest.mark.parametrize("given", [{"ema_decay": 0.8}, {"optimizer": "schedule_free_sgd"}])
def test_averages_are_the_result_and_training_goes_on_from_its_own_weights(given):
    """Protects averaged weights: those of `optim` predict, and epochs in parts are the same."""
    X, y = some_data()
    model = regressor(shuffle=False, **given)
    model.partial_fit(X, y).partial_fit(X, y)
    params = model._optimizer.optimizer
    averages = params.ema if "ema_decay" in given else None
    if averages is not None:
        assert_array_equal(model.coefs_[0], averages[0])
    assert not np.array_equal(model.coefs_[0], model._trained[0])
    whole = clone(model).set_params(max_iter=2, tol=0).fit(X, y)
    assert_same_weights(model, whole)


# ---- networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_layers_of_each_kind_train(activation, norm):
    """Protects activations, norms, dropout and skips: they reach the network, and learn."""
    X, y = some_data(3)
    given = {"activation": activation, "norm": norm, "dropout": 0.1, "skip": True}
    model = classifier(max_iter=15, learning_rate_init=0.02, **given).fit(X, y)
    first, second, last = model._network.layers
    assert first == Dense(7, activation, norm=norm, dropout=0.1)
    assert second == Dense(7, activation, norm=norm, dropout=0.1, skip=True)
    assert last == Dense(3)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert_array_equal(model.predict_proba(X), model.predict_proba(X))  # nothing is left out
    assert_same_weights(model, clone(model).fit(X, y))


def test_initializers():
    """Protects `initializer`: the network's own, with biases of zero, by the same seed."""
    X, y = some_data()
    given = {"initializer": "orthogonal", "solver": "sgd", "learning_rate_init": 1e-300}
    model = regressor(max_iter=1, **given).fit(X, y)
    assert_allclose(model.coefs_[1].T @ model.coefs_[1], np.eye(7), atol=1e-12)
    assert np.abs(model.intercepts_[0]).max() < 1e-290
    assert_same_weights(model, clone(model).fit(X, y))


def test_class_weights_are_weights_of_rows():
    """Protects `class_weight`, beside weights of the rows, and "balanced"."""
    X, y = some_data(3)
    weights = np.random.default_rng(0).random(N_ROWS)
    by_class = np.array([0.5, 2.0, 1.0])
    model = classifier(class_weight=dict(enumerate(by_class)))
    model.fit(X, y, weights, X_val=X, y_val=y)
    assert model.validation_scores_[-1] == model.score(X, y)  # of which they are none
    assert_same_weights(model, classifier().fit(X, y, weights * by_class[y]))
    balanced = N_ROWS / 3 / np.bincount(y)
    model, twin = classifier(class_weight="balanced"), classifier()
    model.fit(X, y, X_val=X[y == 1], y_val=y[y == 1])  # where some classes are missing
    assert_allclose(model.coefs_[0], twin.fit(X, y, balanced[y]).coefs_[0], rtol=1e-12)


def test_label_smoothing():
    """Protects `label_smoothing`: predictions stay away from 0 and 1."""
    X, y = some_data(2)
    sharp, soft = (
        classifier(solver="lbfgs", alpha=0, max_iter=100, label_smoothing=e).fit(X, y)
        for e in (0.0, 0.2)
    )
    assert sharp.predict_proba(X).max() > 0.99
    assert_allclose(np.median(soft.predict_proba(X).max(axis=1)), 0.9, atol=0.02)


@pytest.mark.parametrize("loss", losses_for("regression"))
def test_losses_of_regression(loss):
    """Protects the losses of the table, in batches and by L-BFGS; the link of what predicts."""
    X, y = some_data()
    y = np.exp(y) if loss in ("poisson", "gamma", "tweedie") else y
    model = regressor(loss=loss, learning_rate_init=0.01, max_iter=10).fit(X, y)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert (model.predict(X) > 0).all() == (model.out_activation_ == "exp")
    model.set_params(solver="lbfgs", max_iter=50).fit(X, y)
    assert model.score(X, y) > 0.5


# ---- data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_rows(dtype):
    """Protects CSR, which is not made dense: results as of arrays, to rounding."""
    X, y = some_data(3)
    X = np.where(np.abs(X) > 0.5, X, 0).astype(dtype)
    model, dense = classifier().fit(sparse.csr_array(X), y), classifier().fit(X, y)
    tolerance = 1e-4 if dtype is np.float32 else 1e-9
    for mine, other in zip(model.coefs_, dense.coefs_, strict=True):
        assert mine.dtype == dtype
        assert_allclose(mine, other, rtol=tolerance, atol=tolerance)
    assert_allclose(
        model.predict_proba(sparse.csr_matrix(X)), dense.predict_proba(X), rtol=10 * tolerance
    )


def test_weights_may_be_written_to_and_replaced():
    """Protects `coefs_`: what the network works on, not a copy."""
    X, y = some_data()
    model = regressor().fit(X, y)
    before = model.predict(X)
    model.coefs_[-1] *= 2
    model.intercepts_[-1] *= 2
    assert_allclose(model.predict(X), 2 * before)
    model.coefs_[-1] = [[0.0]] * 7
    model.intercepts_[-1] = np.ones(1)
    assert_array_equal(model.predict(X), 1)
    model.partial_fit(X, y)
    assert not np.array_equal(model.predict(X), np.ones(N_ROWS))
    model.coefs_[0] = np.ones((2, 2))
    with pytest.raises(ValueError, match=r"coefs_\[0\] must be of shape \(5, 7\); got \(2, 2\)"):
        model.predict(X)


def test_same_bits_for_any_threads():
    """Protects results from the number of threads."""
    X, y = some_data(3, 700)
    found = []
    for n_threads in (1, 2, 3, 4):
        with fastgd.threads(n_threads):
            model = classifier(batch_size=200, early_stopping=True).fit(X, y)
            found.append((model.coefs_[0], model.predict_proba(X), model.loss_curve_))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert_array_equal(a, b)


# ---- what is refused -----------------------------------------------------------------------------

REFUSED = [
    ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be > 0"),
    ({"activation": "cube"}, "'activation' parameter"),
    ({"optimizer": "sdg"}, "optimizer must be one of sgd, adam, .*; got 'sdg'"),
    ({"optimizer": "muon"}, "optimizer must be one of"),
    ({"optimizer": ("adam", {"lr": 1})}, "see learning_rate_init"),
    ({"optimizer": ("adam", {"betas": 1})}, "betas must be a tuple"),
    ({"optimizer": lambda params: params}, "optimizer must return an Optimizer"),
    ({"optimizer": optim.Adam, "max_norm": 1.0}, "max_norm must be None where optimizer is"),
    ({"optimizer": optim.Adam, "learning_rate": "adaptive"}, "learning_rate must be 'constant'"),
    ({"solver": "sgd", "learning_rate": "invscaling", "schedule": schedules.constant(1)},
     "learning_rate must be 'constant' with a schedule"),
    ({"solver": "lbfgs", "optimizer": "adam"}, "optimizer must be None with solver='lbfgs'"),
    ({"solver": "lbfgs", "ema_decay": 0.5}, "ema_decay must be None with solver='lbfgs'"),
    ({"solver": "lbfgs", "dropout": 0.5}, "dropout must not be 0.5 with solver='lbfgs'"),
    ({"solver": "lbfgs", "norm": "batch"}, "norm must not be 'batch' with solver='lbfgs'"),
    ({"hidden_layer_sizes": (3, 4), "skip": True}, "skip must be False without two hidden layers"),
    ({"restore_best_weights": True}, "restore_best_weights needs rows"),
    ({"dropout": 1.0}, "'dropout' parameter"),
    ({"class_weight": {0: np.nan}}, "class_weight must be finite"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "words"), REFUSED, ids=[words for _, words in REFUSED])
@pytest.mark.parametrize("fitted", [False, True])
def test_parameters_that_do_not_go_together(given, words, fitted):
    """Protects the error's words, and the estimator, which is as it was before."""
    X, y = some_data(3)
    model = classifier()
    if fitted:
        model.fit(X, y)
    before = {k: v for k, v in vars(model).items() if k.endswith("_") or k.startswith("_")}
    model.set_params(**given)
    with pytest.raises((ValueError, TypeError), match=words):
        model.fit(X, y)
    after = {k: v for k, v in vars(model).items() if k.endswith("_") or k.startswith("_")}
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


def test_data_that_do_not_fit():
    """Protects the words about y, weights, rows for validation and going on."""
    X, y = some_data(3)
    model = classifier().fit(X, y)
    weights = [np.array(w) for w in model.coefs_]
    for words, fit in (
        ("y must hold labels", lambda: model.fit(X, np.column_stack([y, y]))),
        ("X contains NaN", lambda: model.fit(X * np.nan, y)),
        ("sample_weight", lambda: model.fit(X, y, np.full(N_ROWS, np.inf))),
        ("X_val, y_val, .*features", lambda: model.fit(X, y, X_val=X[:, :2], y_val=y)),
        ("X_val and y_val must be given together", lambda: model.fit(X, y, X_val=X)),
        ("X_val, y_val, .*classes not in", lambda: model.fit(X, y, X_val=X, y_val=y + 9)),
        ("classes", lambda: model.partial_fit(X, y + 1)),
        ("y must be multiclass", lambda: model.partial_fit(X, np.eye(3, dtype=int)[y])),
        ("class_weight must be None", lambda: classifier(class_weight="balanced").fit(
            X, np.eye(3, dtype=int)[y])),
        ("class_weight 'balanced' is not", lambda: classifier(
            class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])),
        ("hidden_layer_sizes and norm must be what they were", lambda: model.set_params(
            warm_start=True, hidden_layer_sizes=(4,)).fit(X, y)),
        ("y must hold .* 0 or more", lambda: regressor(loss="poisson").fit(X, y - 1)),
        ("y must have 1 outputs", lambda: regressor().fit(X, y).partial_fit(X, X[:, :2])),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=words):
            fit()
    for mine, before in zip(model.coefs_, weights, strict=True):
        assert_array_equal(mine, before)


# ---- trouble -------------------------------------------------------------------------------------


def test_divergence():
    """Protects the estimator: a fit that leaves the numbers leaves it as it was, or at its best."""
    X, y = some_data()
    model = regressor(solver="sgd", alpha=0).fit(X, y)
    before = [np.array(p) for p in model.coefs_ + model.intercepts_]
    for train in (model.fit, model.partial_fit):
        with pytest.raises(fastgd.DivergenceError, match=r"non-finite .*\(layers.* step \d+\.$"):
            train(X * 1e200, y)
        for mine, other in zip(model.coefs_ + model.intercepts_, before, strict=True):
            assert_array_equal(mine, other)
    wild = regressor(solver="sgd", learning_rate_init=1e6, early_stopping=True, max_iter=50)
    with pytest.warns(ConvergenceWarning, match="left the finite numbers in epoch"):
        wild.fit(X, y)
    assert np.isnan(wild.validation_scores_[-1])
    assert np.isfinite(wild.predict(X)).all()


@pytest.mark.parametrize("given", [{}, {"ema_decay": 0.9, "optimizer": "adamw"}])
def test_partial_fit_that_fails_at_a_later_batch(given):
    """Protects weights, averages and the optimizer's state: as if nothing had been tried."""
    X, y = some_data()
    model, twin = (regressor(shuffle=False, **given).partial_fit(X, y) for _ in range(2))
    with pytest.raises(fastgd.DivergenceError):
        model.partial_fit(np.where(np.arange(N_ROWS)[:, None] < 60, X, 1e200), y)
    assert_same_weights(model, twin)
    assert_same_weights(model.partial_fit(X, y), twin.partial_fit(X, y))
    assert model.loss_curve_ == twin.loss_curve_


@pytest.mark.parametrize("given", [{}, {"solver": "lbfgs"}])
def test_ctrl_c_leaves_a_model(monkeypatch, given):
    """Protects what was learnt before Ctrl-C, and training, which goes on from there."""
    X, y = some_data()
    model = regressor(max_iter=9, **given)
    name = "loss_and_grad" if given else "train_epoch"
    method, calls = getattr(Network, name), []

    def interrupted(self, *args, **options):
        calls.append(0)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return method(self, *args, **options)

    monkeypatch.setattr(Network, name, interrupted)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(X, y)
    assert 0 < model.n_iter_ <= 3
    assert np.isfinite(model.predict(X)).all()
    assert np.isfinite(model.loss_)
    model.set_params(warm_start=True).fit(X, y)
