"""What linear models do row by row in C is what scikit-learn's SGD does: to 1e-10 after 3 epochs.

Every loss, penalty and schedule that both have, over arrays and matrices, with and without
averaging; passive-aggressive steps; the one-class machine; and the objective that tells when to
stop. Here C is called without an estimator of ours.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
from linear_rows import train_rows
from numpy.testing import assert_allclose

from fastgd import _core
from fastgd.schedules import SCHEDULES

sparse = pytest.importorskip("scipy.sparse")
models = pytest.importorskip("sklearn.linear_model")

N_ROWS, N_FEATURES, EPOCHS = 97, 23, 3
KINDS = ["array", "matrix"]
CLASSIFICATION = ["hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron"]
REGRESSION = ["squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"]
PENALTIES = [None, "l2", "l1", "elasticnet"]
RATES = ["constant", "invscaling", "optimal"]
EPSILON, ETA0, POWER_T, L1_RATIO, DECAY = 0.2, 0.05, 0.3, 0.4, 0.01


def make_data(loss, seed=0):
    """A sparse array of rows, of which some are empty, and targets."""
    rng = np.random.default_rng(seed)
    X = sparse.random_array((N_ROWS, N_FEATURES), density=0.3, rng=rng, format="csr")
    X = X.toarray()
    X[5] = X[60] = 0
    y = X @ rng.standard_normal(N_FEATURES) + 0.3 * rng.standard_normal(N_ROWS) + 0.1
    return X, np.where(y > 0, 1.0, -1.0) if loss in CLASSIFICATION else y


def as_kind(X, kind):
    """X as an array, or as a matrix."""
    return X if kind == "array" else sparse.csr_array(X)


@dataclass
class Model:
    """What is trained, and what is carried from call to call."""

    params: np.ndarray = field(default_factory=lambda: np.zeros(N_FEATURES + 1))
    average: np.ndarray = field(default_factory=lambda: np.zeros(N_FEATURES + 1))
    l1_state: np.ndarray = field(default_factory=lambda: np.zeros(N_FEATURES + 1))
    kept: np.ndarray = field(default_factory=lambda: np.zeros(_core.N_KEPT))
    objectives: list = field(default_factory=list)


def train(X, y, schedule, *, average=False, track=False, intercept=0.0, **given):
    """Train for three epochs, each in two calls."""
    model, n = Model(), X.shape[0]
    model.params[-1] = intercept
    given.update(l1_state=model.l1_state, kept=model.kept)
    if average:
        given.update(average=model.average, average_from=int(average))
    for epoch in range(EPOCHS):
        penalties = np.zeros(1) if track else None
        loss = 0.0
        for start, stop in [(0, 40), (40, n)]:
            t = epoch * n + start
            rates = schedule(np.arange(t, t + stop - start))
            loss += train_rows(
                X, y, model.params, rates, t=t, start=start, stop=stop, penalties=penalties, **given
            )
        model.objectives.append((loss + penalties[0]) / n if track else np.nan)
    return model


def strengths(penalty, alpha):
    """The arguments alpha and l1 of C."""
    share = {None: None, "l2": 0.0, "l1": 1.0, "elasticnet": L1_RATIO}[penalty]
    if share is None:
        return {"alpha": 0.0, "l1": 0.0}
    return {"alpha": alpha * (1 - share), "l1": alpha * share}


def peer(loss, **parameters):
    """scikit-learn's estimator for a loss, trained for three epochs."""
    kind = "SGDClassifier" if loss in CLASSIFICATION else "SGDRegressor"
    fixed = {"max_iter": EPOCHS, "tol": None, "shuffle": False, "epsilon": EPSILON, "eta0": ETA0}
    fixed.update(power_t=POWER_T, l1_ratio=L1_RATIO)
    return getattr(models, kind)(loss=loss, **{**fixed, **parameters})


def assert_same(model, theirs, average=False):
    """Weights and intercept to 1e-10, averaged ones if those are wanted."""
    ours = model.average if average else model.params
    expected = np.append(theirs.coef_, theirs.intercept_)
    assert_allclose(ours, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())
    assert np.isfinite(expected).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("loss", CLASSIFICATION + REGRESSION)
def test_weights_go_where_scikit_learns_go(loss, penalty, rate, kind):
    """Protects the promise that changing the import changes nothing."""
    X, y = make_data(loss)
    rows = as_kind(X, kind)
    alpha = 0.3 if rate == "optimal" else 0.02
    schedules = {
        "constant": lambda: SCHEDULES["constant"](ETA0),
        "invscaling": lambda: SCHEDULES["invscaling"](ETA0, POWER_T),
        "optimal": lambda: SCHEDULES["optimal"](alpha, loss, EPSILON),
    }
    weights = np.random.default_rng(1).choice([0.0, 0.5, 1.0, 2.0], N_ROWS)
    for average, weighted, fit_intercept in [
        (False, False, True),
        (True, True, True),
        (60, True, False),
    ]:
        theirs = peer(loss, penalty=penalty, learning_rate=rate, alpha=alpha, average=average)
        theirs.set_params(fit_intercept=fit_intercept)
        theirs.fit(rows, y, sample_weight=weights if weighted else None)
        model = train(
            rows,
            y,
            schedules[rate](),
            loss=loss,
            loss_parameter=EPSILON,
            average=average,
            sample_weight=weights if weighted else None,
            fit_intercept=fit_intercept,
            intercept_decay=1.0 if kind == "array" else DECAY,
            **strengths(penalty, alpha),
        )
        assert_same(model, theirs, average)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("aggressive", [1, 2])
@pytest.mark.parametrize("loss", ["hinge", "epsilon_insensitive"])
def test_passive_aggressive_steps_are_scikit_learns(loss, aggressive, penalty, kind):
    """Protects PA-I and PA-II, of which the first passes over rows of zeros."""
    X, y = make_data(loss)
    rows = as_kind(X, kind)
    for average in (False, True, 30):
        theirs = peer(loss, penalty=penalty, learning_rate=f"pa{aggressive}", alpha=0.02)
        theirs.set_params(average=average).fit(rows, y)
        model = train(
            rows,
            y,
            SCHEDULES["constant"](ETA0),
            loss=loss,
            loss_parameter=EPSILON,
            aggressive=aggressive,
            average=average,
            intercept_decay=1.0 if kind == "array" else DECAY,
            **strengths(penalty, 0.02),
        )
        assert_same(model, theirs, average)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", RATES)
def test_the_one_class_machine_is_scikit_learns(rate, kind):
    """Protects nu: the intercept, which is one minus their offset, loses lr nu with each row."""
    X, _ = make_data("hinge")
    rows, nu = as_kind(X, kind), 0.4
    schedules = {
        "constant": SCHEDULES["constant"](ETA0),
        "invscaling": SCHEDULES["invscaling"](ETA0, POWER_T),
        "optimal": SCHEDULES["optimal"](nu, "hinge"),
    }
    for average in (False, True):
        theirs = models.SGDOneClassSVM(nu=nu, max_iter=EPOCHS, tol=None, shuffle=False)
        theirs.set_params(learning_rate=rate, eta0=ETA0, power_t=POWER_T, average=average)
        theirs.fit(rows)
        model = train(
            rows,
            np.ones(N_ROWS),
            schedules[rate],
            loss="hinge",
            alpha=nu,
            one_class=nu,
            intercept=1.0,  # an offset of zero
            average=average,
            intercept_decay=1.0 if kind == "array" else DECAY,
        )
        ours = model.average if average else model.params
        assert_allclose(ours[:-1], theirs.coef_.ravel(), rtol=1e-10, atol=1e-12)
        assert_allclose(1 - ours[-1:], theirs.offset_, rtol=1e-10)


def objectives_of(theirs, X, y, capsys, sample_weight=None):
    """The objective of each epoch, as scikit-learn prints it."""
    theirs.set_params(verbose=1).fit(X, y, sample_weight=sample_weight)
    printed = capsys.readouterr().out
    return [float(line.rpartition(" ")[2]) for line in printed.splitlines() if "Objective" in line]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", [*PENALTIES, "pa1"])
@pytest.mark.parametrize("loss", ["hinge", "epsilon_insensitive"])
def test_the_objective_that_tells_when_to_stop(loss, penalty, kind, capsys):
    """Protects the number of epochs: the penalties of the rows are counted as scikit-learn does.

    A matrix's are those of the weights in the row alone, and no sample weight is in it.
    """
    X, y = make_data(loss)
    rows = as_kind(X, kind)
    weights = np.random.default_rng(1).choice([0.0, 0.5, 1.0, 2.0], N_ROWS)
    aggressive = penalty == "pa1"
    theirs = peer(loss, penalty="l2" if aggressive else penalty, alpha=0.5)
    theirs.set_params(learning_rate="pa1" if aggressive else "constant")
    expected = objectives_of(theirs, rows, y, capsys, weights)
    model = train(
        rows,
        y,
        SCHEDULES["constant"](ETA0),
        loss=loss,
        loss_parameter=EPSILON,
        track=True,
        sample_weight=weights,
        aggressive=int(aggressive),
        intercept_decay=1.0 if kind == "array" else DECAY,
        **strengths("l2" if aggressive else penalty, 0.5),
    )
    assert_same(model, theirs)
    assert_allclose(model.objectives, expected, atol=6e-7)  # they print six digits
    assert len(expected) == EPOCHS
