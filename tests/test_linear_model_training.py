"""Linear models: how training goes on, when it stops, and what stops it.

In order: other data or another rule, tol and max_iter, divergence, Ctrl-C.
"""

import itertools
import pickle
import textwrap
import threading
import time

import numpy as np
import pytest
from linear_models import (
    LOSSES,
    N_ROWS,
    all_params,
    classes_of,
    fit_by_reference,
    is_classification,
    make_data,
    make_model,
    name_of,
    peers_of,
)
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import fastgd
from fastgd import DivergenceError, _core, reference, train
from fastgd.linear_model import SGDClassifier, SGDRegressor

# ---- going on with other data or another rule ----------------------------------------------------


def test_partial_fit_on_another_dtype(assert_same_bits):
    """Protects a stream whose chunks change dtype: parameters and states follow the data's."""
    X, y = make_data(N_ROWS, 9, "huber")
    small, small_y = X.astype(np.float32), y.astype(np.float32)
    model = make_model("huber", optimizer="adam", learning_rate="constant").fit(small, small_y)
    twin = make_model("huber", optimizer="adam", learning_rate="constant").fit(small, small_y)
    for name in ("coef_", "intercept_"):
        setattr(twin, name, getattr(twin, name).astype(np.float64))
    twin._states = [
        tuple(s if s is None else s.astype(np.float64) for s in states) for states in twin._states
    ]
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
    """Protects tol and n_iter_no_change: the first epoch that fulfils the rule is the last.

    Without a penalty where scikit-learn's objective counts it at another time than the curve.
    """
    X, y = make_data(N_ROWS, 5, loss)
    seen = set()
    for tol, n_iter_no_change in [(1e-3, 5), (1e-2, 5), (1e-3, 2), (0.0, 3), (1e3, 4)]:
        model = make_model(loss, batch_size=batch_size, tol=tol, learning_rate="constant")
        model.set_params(max_iter=2000, n_iter_no_change=n_iter_no_change)
        model.set_params(penalty=None if batch_size == 1 else "l2").fit(X, y)
        assert epochs_until_stop(model.loss_curve_, tol, n_iter_no_change) == model.n_iter_
        assert len(model.loss_curve_) == model.n_iter_
        _, curve = fit_by_reference(model, X, y)
        assert_allclose(model.loss_curve_, curve, rtol=1e-10)
        seen.add(model.n_iter_)
    assert len(seen) > 1
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
        for label, coef, seed in zip(model.classes_, model.coef_, model._draw(4)[0], strict=True):
            one = clone(model)
            monkeypatch.setattr(one, "_draw", lambda n, split, seed=seed: ([seed] * n, None))
            one.fit(X, y == label)
            assert_array_equal(one.coef_[0], coef)
            epochs.append(one.n_iter_)
        assert len(set(epochs)) > 1
        assert model.n_iter_ == len(model.loss_curve_) == max(epochs)
        assert model.t_ == max(epochs) * -(-N_ROWS // 3) + 1


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
    seen, eta0 = [], 0.01
    for place, others in ((5, 1.0), (30, 1.0), (30, 0.0)):  # a row of that size, then one like it
        X, y = make_data(50, 3, "squared_error")
        X[:, 0] *= others
        X[place, 0] = 1e200
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
        assert vars(model) == clone(model).get_params()
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
    X, y = np.array([[0.0], [1e300]]), np.array([1.0, 1e150])
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
    for fit in (model.fit, lambda *data: clone(model).partial_fit(*data, **options)):
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

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    training, train_linear = threading.Event(), _core.train_linear

    def announced(*args, **options):
        result = train_linear(*args, **options)
        training.set()  # not before: what was never trained has no weights to show
        return result

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
