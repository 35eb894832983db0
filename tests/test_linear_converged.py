"""Models solved to convergence: the same coefficients as scikit-learn's, whatever the way there."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

import fastgd
from fastgd import _solvers, _solvers_first_order

sklearn = pytest.importorskip("sklearn")
from sklearn import datasets, linear_model  # noqa: E402 - after the check that it is there
from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from fastgd._linear_converged import L1_SOLVERS  # noqa: E402
from fastgd.linear_model import GLMRegressor, LogisticRegression, Ridge  # noqa: E402

SOLVERS = list(_solvers_first_order.SOLVERS)
QUASI_NEWTON = ["auto", "lbfgs"]
SCALES = np.logspace(-2, 2, 30)


def scaled(X):
    """The data as most solvers like it."""
    return (X - X.mean(axis=0)) / X.std(axis=0)


def cancer():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    return scaled(X), y


def wine():
    X, y = datasets.load_wine(return_X_y=True)
    return scaled(X), np.array(["red", "rose", "white"])[y]


def assert_close(ours, theirs, tolerance=1e-6):
    """Compare coefficients and intercepts with the largest one."""
    scale = max(np.abs(theirs.coef_).max(), np.abs(theirs.intercept_).max())
    assert_allclose(ours.coef_, theirs.coef_, rtol=0, atol=tolerance * scale)
    assert_allclose(ours.intercept_, theirs.intercept_, rtol=0, atol=tolerance * scale)


def peer_logistic(X, y, **parameters):
    """scikit-learn's solution, as exact as it gets."""
    options = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 10_000, **parameters}
    return linear_model.LogisticRegression(**options).fit(X, y)


# ---- the same coefficients -----------------------------------------------------------------------


@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("solver", QUASI_NEWTON)
@pytest.mark.parametrize("data", [cancer, wine])
def test_logistic_regression_is_solved(data, solver, C):
    """Protects both kinds of model, of much and little penalty, dense and sparse."""
    X, y = data()
    theirs = peer_logistic(X, y, C=C)
    for rows in (X, sp.csr_array(X)):
        ours = LogisticRegression(C=C, solver=solver, tol=1e-13, max_iter=10_000).fit(rows, y)
        assert_close(ours, theirs)
        assert ours.optimality_ <= 1e-9
        assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
        assert_array_equal(ours.predict(rows), theirs.predict(X))


@pytest.mark.parametrize("data", [cancer, wine])
def test_columns_of_any_scale(data):
    """Protects "auto": coordinates are the Hessian's, so units do not matter."""
    X, y = data()
    X = X * SCALES[: X.shape[1]] + 3
    ours = LogisticRegression(tol=1e-9).fit(X, y)
    assert ours.n_iter_ < 30
    assert_close(ours, peer_logistic(X, y))


@pytest.mark.parametrize("solver", QUASI_NEWTON)
@pytest.mark.parametrize("loss", ["poisson", "gamma", "tweedie", "squared_error"])
def test_generalised_linear_models_are_solved(loss, solver):
    """Protects the GLMs that scikit-learn has, weighted, with and without intercept."""
    X, y = datasets.load_diabetes(return_X_y=True)
    X, weights = scaled(X), np.random.default_rng(0).choice([0.0, 0.5, 2.0], len(y))
    peer = {
        "poisson": linear_model.PoissonRegressor,
        "gamma": linear_model.GammaRegressor,
        "tweedie": lambda **options: linear_model.TweedieRegressor(
            power=1.5, link="log", **options
        ),
        "squared_error": lambda **options: linear_model.TweedieRegressor(power=0, **options),
    }[loss]
    for fit_intercept in (True, False):
        options = {"alpha": 0.01, "fit_intercept": fit_intercept, "max_iter": 10_000}
        theirs = peer(tol=1e-11, solver="newton-cholesky", **options).fit(X, y, weights)
        ours = GLMRegressor(loss, tol=1e-10, solver=solver, **options).fit(X, y, weights)
        assert_close(ours, theirs)
        assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6)
        assert_allclose(ours.score(X, y, weights), theirs.score(X, y, weights), rtol=1e-6)


@pytest.mark.parametrize("solver", QUASI_NEWTON)
def test_ridge_is_solved(solver):
    """Protects Ridge, with a penalty and without, of several targets with weights."""
    X, y = datasets.load_diabetes(return_X_y=True)
    targets = np.column_stack([y, -2 * y + 300 * X[:, 2]])
    weights = np.random.default_rng(0).choice([0.0, 0.5, 2.0], len(y))
    for alpha, target in [(0.1, y), (0.0, y), (1.0, targets), ([0.1, 3.0], targets)]:
        theirs = linear_model.Ridge(alpha=alpha).fit(X, target, weights)
        ours = Ridge(alpha=alpha, tol=1e-9, solver=solver).fit(X, target, weights)
        assert_close(ours, theirs)
        assert ours.coef_.shape == theirs.coef_.shape
        assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-5)
        assert_close(Ridge(alpha=alpha, tol=1e-9).fit(sp.csr_array(X), target, weights), theirs)


@pytest.mark.parametrize("solver", QUASI_NEWTON)
@pytest.mark.parametrize("loss", ["huber", "expectile", "squared_epsilon_insensitive"])
def test_other_losses_reach_a_minimum(loss, solver):
    """Protects the losses that scikit-learn's GLMs lack: the gradient is zero where they end."""
    X, y = datasets.load_diabetes(return_X_y=True)
    model = GLMRegressor(
        loss, alpha=1e-3, epsilon=30.0, expectile=0.8, solver=solver, tol=1e-8, max_iter=1000
    )
    model.fit(X, y)
    assert model.optimality_ <= 1e-8
    assert 0 < model.score(X, y) < 1
    middle = GLMRegressor(loss, alpha=1e3, epsilon=30.0, expectile=0.8, tol=1e-9).fit(X, y)
    assert_allclose(middle.score(X, y), 0, atol=1e-4)


def test_expectiles_are_ordered():
    """Protects the loss's own parameter."""
    X, y = datasets.load_diabetes(return_X_y=True)
    means = [GLMRegressor("expectile", expectile=e).fit(X, y).intercept_ for e in (0.1, 0.5, 0.9)]
    assert means[0] < means[1] < means[2]


# ---- first-order solvers -------------------------------------------------------------------------

FIRST_ORDER = [solver for solver in SOLVERS if solver not in QUASI_NEWTON]
WITH_L1 = [solver for solver in L1_SOLVERS if solver != "auto"]


def thinned(X):
    """Half of the elements, and the others zero."""
    return np.where(np.random.default_rng(0).random(X.shape) < 0.5, X, 0)


@pytest.mark.parametrize("solver", FIRST_ORDER)
@pytest.mark.parametrize("data", [cancer, wine])
def test_first_order_solvers_get_there(data, solver):
    """Protects agd, sag, saga and svrg: dense, sparse with steps that wait, weighted, softmax."""
    X, y = data()
    X = thinned(X)
    weights = np.random.default_rng(0).choice([0.5, 1.0, 2.0], len(y))
    theirs = LogisticRegression(C=0.03, tol=1e-12).fit(X, y, weights)
    options = {"C": 0.03, "tol": 1e-9, "max_iter": 3000, "random_state": 0, "solver": solver}
    fits = [LogisticRegression(**options).fit(R, y, weights) for R in (X, sp.csr_array(X))]
    for ours in fits:
        assert_close(ours, theirs)
        assert ours.optimality_ <= 1e-9
    assert_allclose(fits[0].coef_, fits[1].coef_, atol=1e-7)


@pytest.mark.parametrize("solver", FIRST_ORDER)
def test_first_order_solvers_of_regressions(solver):
    """Protects their steps for losses of other curvature, and without an intercept."""
    X, y = datasets.load_diabetes(return_X_y=True)
    X = scaled(X)
    for loss in ("squared_error", "huber", "expectile", "squared_epsilon_insensitive"):
        options = {
            "alpha": 0.3,
            "epsilon": 50.0,
            "expectile": 0.8,
            "fit_intercept": loss == "huber",
        }
        theirs = GLMRegressor(loss, tol=1e-9, **options).fit(X, y)
        for rows in (X, sp.csr_array(X)):
            ours = GLMRegressor(loss, tol=1e-6, max_iter=5000, solver=solver, **options)
            assert_close(ours.fit(rows, y), theirs)
    ridge = Ridge(alpha=100.0, tol=1e-8, solver=solver).fit(X, y)
    assert_close(ridge, linear_model.Ridge(alpha=100.0).fit(X, y))


@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
@pytest.mark.parametrize("solver", WITH_L1)
def test_l1_makes_coefficients_zero(solver, l1_ratio):
    """Protects L1: the same zeros as scikit-learn's saga, dense and where steps wait."""
    X, y = cancer()
    X = thinned(X)
    options = {"C": 0.03, "l1_ratio": l1_ratio, "random_state": 0}
    theirs = linear_model.LogisticRegression(solver="saga", tol=1e-9, max_iter=10_000, **options)
    theirs.fit(X, y)
    for rows in (X, sp.csr_array(X)):
        ours = LogisticRegression(solver=solver, tol=1e-8, max_iter=10_000, **options)
        ours.fit(rows, y)
        assert_array_equal(ours.coef_ == 0, theirs.coef_ == 0)
        assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)
        assert ours.optimality_ <= 1e-8


def test_l1_of_other_models():
    """Protects L1 of a softmax and of a GLM: "auto" is agd there."""
    X, y = wine()
    ours = LogisticRegression(C=0.1, l1_ratio=1.0, tol=1e-8, max_iter=2000).fit(X, y)
    theirs = linear_model.LogisticRegression(
        C=0.1, l1_ratio=1.0, solver="saga", tol=1e-9, max_iter=20_000
    ).fit(X, y)
    assert_array_equal(ours.coef_ == 0, theirs.coef_ == 0)
    assert_close(ours, theirs, 1e-4)
    X, y = datasets.load_diabetes(return_X_y=True)
    ours = GLMRegressor("squared_error", alpha=1.0, l1_ratio=1.0, tol=1e-7, max_iter=2000)
    assert_close(ours.fit(X, y), linear_model.Lasso(alpha=1.0, tol=1e-12).fit(X, y), 1e-5)


@pytest.mark.parametrize("solver", ["sag", "saga", "svrg"])
def test_seeds_and_threads_of_rows(solver, n_threads, assert_same_bits):
    """Protects reproducibility: random_state alone decides."""
    X, y = cancer()
    options = {"solver": solver, "max_iter": 3, "tol": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fits = [LogisticRegression(random_state=s, **options).fit(X, y) for s in (1, 1, 2)]
    assert_same_bits(fits[0].coef_, fits[1].coef_)
    assert (fits[0].coef_ != fits[2].coef_).any()


def test_columns_that_stand_twice_add_up():
    """Protects the steps that wait from rows that have a column twice."""
    X = sp.csr_array((np.array([1.0, 2.0, -3.0, 1.0]), [0, 0, 0, 1], [0, 2, 3, 4]), shape=(3, 2))
    for solver in SOLVERS:
        model = LogisticRegression(solver=solver, tol=1e-7, max_iter=1000)
        other = clone(model).fit(X.toarray(), [1, 0, 1])
        assert_allclose(model.fit(X, [1, 0, 1]).coef_, other.coef_, atol=1e-5)
    assert X.nnz == 4


def test_losses_of_unbounded_curvature_have_no_step_for_rows():
    """Protects from steps of rows whose length nothing bounds."""
    with pytest.raises(ValueError, match="solver must be one that needs no bound"):
        GLMRegressor("poisson", solver="sag").fit([[1.0], [2.0]], [1.0, 2.0])


# ---- many rows -----------------------------------------------------------------------------------


def many_rows(dtype, n_rows=60_000, n_features=12):
    """Enough rows to start from a sample of them."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((n_rows, n_features)).astype(dtype)
    p = X @ rng.standard_normal(n_features) + 0.5
    y = rng.random(n_rows) < 1 / (1 + np.exp(-p))
    return X * np.logspace(-2, 2, n_features).astype(dtype), y


def test_few_looks_at_all_rows_are_enough(dtype):
    """Protects the start from a sample: 1e-8 of the best loss, in float32, too, in a few looks."""
    X, y = many_rows(dtype)
    size = _solvers.sample_size(*X.shape, X.itemsize)
    assert 0 < size < len(X) / 2
    model = LogisticRegression(tol=1e-5, C=1e3).fit(X, y)
    assert model.n_iter_ <= 5
    assert model.coef_.dtype == dtype
    theirs = peer_logistic(X.astype(np.float64), y, C=1e3)

    def loss(model):
        p = X.astype(np.float64) @ model.coef_[0].astype(np.float64) + float(model.intercept_[0])
        penalty = 0.5 / 1e3 * float(np.vdot(model.coef_, model.coef_))
        return (np.logaddexp(0, np.where(y, -p, p)).sum() + penalty) / len(y)

    assert loss(model) <= loss(theirs) * (1 + 1e-8)


def test_rows_that_are_sorted_are_sampled_fairly():
    """Protects the sample from an order by label, and from one that repeats."""
    X, y = many_rows(np.float32)
    for order in (np.argsort(y, kind="stable"), np.argsort(np.arange(len(y)) % 8, kind="stable")):
        model = LogisticRegression(tol=1e-5).fit(X[order], y[order])
        assert model.n_iter_ <= 6


@pytest.mark.parametrize("solver", QUASI_NEWTON)
def test_threads_do_not_change_a_bit(solver, n_threads, assert_same_bits):
    """Protects reproducibility of whole fits."""
    cases = [(many_rows(np.float32, 30_000), {}), (cancer(), {}), (wine(), {})]
    for (X, y), options in cases:
        for rows in (X, sp.csr_array(X)):
            model = LogisticRegression(solver=solver, max_iter=5, tol=0, **options)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                fastgd.set_num_threads(1)
                expected = clone(model).fit(rows, y)
                fastgd.set_num_threads(n_threads)
                model.fit(rows, y)
            assert_same_bits([model.coef_, model.intercept_], [expected.coef_, expected.intercept_])


def test_indices_of_64_bits(assert_same_bits):
    """Protects CSR of int64 indices: the same as int32."""
    X, y = cancer()
    narrow = sp.csr_array(X)
    wide = sp.csr_array(X)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    models = [LogisticRegression().fit(rows, y) for rows in (narrow, wide)]
    assert_same_bits(models[0].coef_, models[1].coef_)


# ---- weights, starts -----------------------------------------------------------------------------


@pytest.mark.parametrize("data", [cancer, wine])
def test_weights_are_repeated_rows(data):
    """Protects sample_weight and class_weight."""
    X, y = data()
    weights = np.random.default_rng(1).integers(0, 3, len(y))
    repeated = np.repeat(np.arange(len(y)), weights)
    model = LogisticRegression(tol=1e-10)
    assert_close(clone(model).fit(X, y, weights), clone(model).fit(X[repeated], y[repeated]))
    labels = np.unique(y)
    by_class = {label: 1.0 + k for k, label in enumerate(labels)}
    model.set_params(class_weight=by_class).fit(X, y)
    of_rows = np.array([by_class[label] for label in y])
    assert_close(model, LogisticRegression(tol=1e-10).fit(X, y, of_rows))
    balanced = model.set_params(class_weight="balanced").fit(X, y, of_rows)
    assert_close(balanced, peer_logistic_weighted(X, y, of_rows))


def peer_logistic_weighted(X, y, weights):
    model = linear_model.LogisticRegression(
        solver="newton-cholesky", tol=1e-12, class_weight="balanced"
    )
    return model.fit(X, y, weights)


@pytest.mark.parametrize("solver", QUASI_NEWTON)
def test_a_warm_start_is_the_end_of_the_fit_before(solver):
    """Protects warm_start: nothing is left to do; and a start that does not fit is refused."""
    X, y = cancer()
    model = LogisticRegression(warm_start=True, solver=solver, tol=1e-6, max_iter=1000).fit(X, y)
    before = model.coef_.copy()
    model.fit(X, y)
    assert model.n_iter_ == 0
    assert_array_equal(model.coef_, before)
    with pytest.raises(ValueError, match="warm_start"):
        model.fit(X[:, :5], y)
    target = X[:, 0] ** 2
    glm = GLMRegressor("poisson", warm_start=True, solver=solver, max_iter=1000).fit(X, target)
    glm.fit(X, target)
    assert glm.n_iter_ == 0


# ---- what goes wrong -----------------------------------------------------------------------------

REFUSED = [
    (LogisticRegression(C=0.0), {}, "C"),
    (LogisticRegression(dual=True), {}, "dual=False"),
    (LogisticRegression(solver="newton-cg"), {}, "solver"),
    (LogisticRegression(), {"sample_weight": np.full(100, -1.0)}, "sample_weight"),
    (LogisticRegression(), {"sample_weight": np.zeros(100)}, "sample_weight"),
    (LogisticRegression(class_weight={0: 0.0, 1: 0.0}), {}, "class_weight"),
    (LogisticRegression(class_weight={0: -1.0}), {}, "class_weight"),
    (LogisticRegression(solver="lbfgs", l1_ratio=0.5), {}, "elasticnet penalty"),
    (Ridge(alpha=-1.0), {}, "alpha"),
    (Ridge(alpha=[1.0, 2.0]), {}, "alpha has 2 elements"),
    (Ridge(alpha=[-1.0]), {}, "alpha must be 0 or more"),
    (Ridge(positive=True), {}, "positive"),
    (GLMRegressor("pinball"), {}, "loss"),
    (GLMRegressor("gamma"), {}, "y must be positive"),
    (GLMRegressor("tweedie", power=3.0), {}, "y must be positive"),
    (GLMRegressor(solver="lbfgs", l1_ratio=0.5), {}, "l1_ratio must be 0"),
]


@pytest.mark.parametrize(("model", "options", "message"), REFUSED, ids=str)
def test_what_is_refused_leaves_the_model_as_it_was(model, options, message):
    """Protects a fitted model from a call that fails."""
    X, y = (part[:100] for part in cancer())
    fitted = type(model)().fit(X, y).set_params(**model.get_params())
    before = pickle.dumps(vars(fitted))
    with pytest.raises((ValueError, TypeError), match=message):
        fitted.fit(X, y, **options)
    assert pickle.dumps(vars(fitted)) == before


@pytest.mark.parametrize("model", [LogisticRegression(), Ridge(), GLMRegressor()], ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_found(model, value):
    """Protects from NaN, wherever it is: also in a row that no sample holds."""
    X, y = many_rows(np.float32)
    for row in (0, 31_415, len(X) - 1):
        bad = X.copy()
        bad[row, 3] = value
        for rows in (bad, sp.csr_array(bad[:, :4])):
            with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
                model.fit(rows, y)
    assert not hasattr(model, "coef_")


def test_too_few_iterations_are_said(capsys):
    """Protects the warning, and what verbose prints."""
    X, y = wine()
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge after 2 iterations"):
        LogisticRegression(max_iter=2, tol=1e-12, solver="lbfgs", verbose=1).fit(X, y)
    assert capsys.readouterr().out.count("largest absolute gradient") == 2


def test_interrupted(monkeypatch):
    """Protects Ctrl-C: the model is as it was."""
    X, y = cancer()
    model = LogisticRegression().fit(X, y)
    before = model.coef_

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_solvers.Objective, "sums", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, 1 - y)
    assert model.coef_ is before


def test_rounding_ends_a_fit(dtype):
    """Protects from iterations without end, where the gradient cannot get any smaller."""
    X, y = (part[:300] for part in cancer())
    model = LogisticRegression(tol=0, max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X.astype(dtype), y)
    assert model.optimality_ < (1e-6 if dtype == np.float32 else 1e-13)


# ---- scikit-learn's contract ---------------------------------------------------------------------


@parametrize_with_checks(
    [
        LogisticRegression(tol=1e-9),
        LogisticRegression(tol=1e-9, solver="lbfgs", max_iter=1000),
        Ridge(tol=1e-9),
        Ridge(tol=1e-9, solver="lbfgs"),
        GLMRegressor(tol=1e-9),
        GLMRegressor("poisson", tol=1e-9),
        GLMRegressor("gamma", tol=1e-9, solver="lbfgs"),
    ]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_check_estimator(estimator, check):
    """Protects the estimators' contract."""
    check(estimator)
