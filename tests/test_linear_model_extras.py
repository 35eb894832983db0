"""Linear models: what they do beyond scikit-learn, one row an update and else.

In order: rows for validation, looking on, several targets, losses of one's own parameter, sparse
matrices, batches and threads.
"""

import builtins
import pickle

import numpy as np
import pytest
from linear_models import N_ROWS, classes_of, make_data, make_model, peers_of
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline

from fastgd import _core
from fastgd.linear_model import SGDClassifier, SGDOneClassSVM, SGDRegressor

ALL = [SGDClassifier, SGDRegressor, SGDOneClassSVM]


def some_data(make=SGDRegressor, n_rows=N_ROWS, n_classes=2, seed=0):
    """Rows, and targets for the kind of model."""
    X, y = make_data(n_rows, 5, "squared_error", seed=seed)
    return X, (classes_of(X, n_classes) if make is SGDClassifier else y)


# ---- rows for validation -------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("make", "n_classes"), [(SGDClassifier, 2), (SGDRegressor, 0)])
def test_validation_curve_is_the_score_of_each_epoch(make, n_classes, weighted):
    """Protects the curve: what `score` says of the model after so many epochs."""
    X, y = some_data(make, n_classes=n_classes)
    X_val, y_val = some_data(make, 60, n_classes, seed=1)
    weights = np.random.default_rng(0).random(60) if weighted else None
    model = make(max_iter=6, tol=None, random_state=0, alpha=0.01)
    model.fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weights)
    assert len(model.validation_curve_) == 6
    for epochs, score in enumerate(model.validation_curve_, 1):
        shorter = clone(model).set_params(max_iter=epochs).fit(X, y)
        assert_allclose(shorter.score(X_val, y_val, weights), score, rtol=1e-12)
        assert not hasattr(shorter, "validation_curve_")
    assert_array_equal(shorter.coef_, model.coef_)  # all of X is trained on, in either case


def test_validation_curve_of_many_classes():
    """Protects one against the rest: the mean of the scores of the classes."""
    X, y = some_data(SGDClassifier, n_classes=3)
    X_val, y_val = some_data(SGDClassifier, 60, 3, seed=1)
    model = SGDClassifier(max_iter=3, tol=None, random_state=0, alpha=0.01)
    model.fit(X, y, X_val=X_val, y_val=y_val)
    found = model.decision_function(X_val) > 0
    truth = y_val[:, None] == model.classes_
    assert_allclose(np.mean(found == truth), model.validation_curve_[-1])


def test_early_stopping_on_ones_own_rows():
    """Protects `early_stopping` with X_val: nothing is held out, and the score decides."""
    X, y = some_data(n_rows=300)
    X_val, y_val = some_data(n_rows=80, seed=1)
    model = SGDRegressor(early_stopping=True, n_iter_no_change=3, tol=1e-3, random_state=0)
    model.fit(X, y, X_val=X_val, y_val=y_val)
    curve = model.validation_curve_
    best, waited = -np.inf, 0
    for epoch, score in enumerate(curve, 1):
        waited = waited + 1 if score < best + 1e-3 else 0
        best = max(best, score)
        assert (waited == 3) == (epoch == model.n_iter_)
    full = clone(model).set_params(early_stopping=False, tol=None, max_iter=model.n_iter_)
    assert_array_equal(full.fit(X, y).coef_, model.coef_)


@pytest.mark.parametrize("average", [False, True])
def test_best_weights_are_restored(average):
    """Protects `restore_best_weights`: the parameters of the best score, not of the last epoch."""
    X, y = some_data()
    X_val, y_val = some_data(n_rows=40, seed=1)
    y_val = y_val + np.random.default_rng(0).standard_normal(40)
    model = SGDRegressor(learning_rate="constant", eta0=0.3, max_iter=12, tol=None, random_state=0)
    model.set_params(restore_best_weights=True, average=average)
    model.fit(X, y, X_val=X_val, y_val=y_val)
    best = 1 + int(np.argmax(model.validation_curve_))
    assert best < 12
    shorter = clone(model).set_params(max_iter=best, restore_best_weights=False).fit(X, y)
    assert_array_equal(shorter.coef_, model.coef_)
    assert_array_equal(shorter.intercept_, model.intercept_)
    assert model.n_iter_ == 12
    with pytest.raises(ValueError, match="restore_best_weights needs rows to score"):
        model.fit(X, y)
    model.set_params(early_stopping=True, tol=1e-3).fit(X, y)


def test_rows_for_validation_of_the_wrong_kind():
    """Protects from rows that are no such rows: refused by name, and nothing has changed."""
    X, y = some_data(SGDClassifier)
    model = SGDClassifier(alpha=0.1, random_state=0).fit(X, y)
    before = pickle.dumps(model)
    for options, match in [
        ({"X_val": X}, "X_val and y_val must be given together"),
        ({"y_val": y}, "X_val and y_val must be given together"),
        ({"X_val": X[:, :2], "y_val": y}, "^X_val, y_val.*X has 2 features"),
        ({"X_val": np.full_like(X, np.nan), "y_val": y}, "^X_val, y_val.*NaN"),
        ({"X_val": X, "y_val": y[:-1]}, "^X_val, y_val"),
        ({"X_val": X, "y_val": np.full(N_ROWS, "who")}, r"labels out of classes .* got \['who'\]"),
        (
            {"X_val": X, "y_val": y, "sample_weight_val": [1.0]},
            "sample_weight_val: .*sample_weight",
        ),
    ]:
        with pytest.raises(ValueError, match=match):
            model.fit(X, y, **options)
        assert pickle.dumps(model) == before


# ---- looking on ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ALL)
def test_callbacks_see_each_epoch_and_may_end_training(make):
    """Protects callbacks: what they are given is the model so far, and theirs to keep."""
    X, y = some_data(make)
    seen = []

    def look(progress):
        seen.append(progress)
        progress.coef[...] = np.nan
        return progress.epoch == 4

    model = make(callbacks=look, max_iter=50, tol=1e-9, random_state=0, learning_rate="constant")
    model.fit(X, y)  # without a warning: it was meant to stop
    assert [p.epoch for p in seen] == [1, 2, 3, 4]
    assert model.n_iter_ == 4
    assert [p.objective for p in seen] == model.loss_curve_
    assert {p.validation_score for p in seen} == {None}
    assert seen[-1].coef.shape == (1, 5)
    assert np.isfinite(model.coef_).all()
    several = clone(model).set_params(callbacks=[look, look, lambda progress: None])
    several.fit(X, y)
    assert len(seen) == 4 + 2 * 4


def test_callbacks_see_scores():
    """Protects `validation_score`."""
    X, y = some_data()
    scores = []
    model = SGDRegressor(callbacks=lambda p: scores.append(p.validation_score), random_state=0)
    model.fit(X, y, X_val=X, y_val=y)
    assert scores == model.validation_curve_


@pytest.mark.parametrize("loss", ["log_loss", "multinomial"])
def test_callbacks_see_each_class(loss):
    """Protects the shapes that callbacks get: those of ``coef_`` and ``intercept_``."""
    X, y = some_data(SGDClassifier, n_classes=4)
    seen = []
    model = SGDClassifier(loss, alpha=0.1, max_iter=2, tol=None, callbacks=seen.append).fit(X, y)
    assert_array_equal(seen[-1].coef, model.coef_)
    assert_array_equal(seen[-1].intercept, model.intercept_)


def test_a_callback_that_fails_changes_nothing():
    """Protects a model in service from the user's own errors."""
    X, y = some_data()
    model = SGDRegressor(random_state=0).fit(X, y)
    before = pickle.dumps(model.coef_)
    with pytest.raises(ZeroDivisionError):
        model.set_params(callbacks=lambda progress: 1 / 0).fit(X, y)
    assert pickle.dumps(model.coef_) == before


def test_verbose_prints_what_scikit_learn_prints(capsys):
    """Protects verbose: the same lines, but for the seconds."""
    sklearn_models = pytest.importorskip("sklearn.linear_model")
    X, y = some_data()
    printed = []
    for make in (SGDRegressor, sklearn_models.SGDRegressor):
        for early_stopping in (False, True):
            model = make(verbose=1, random_state=0, penalty=None, early_stopping=early_stopping)
            model.fit(X, y)
        lines = capsys.readouterr().out.splitlines()
        printed.append([line.split(" took ")[0] for line in lines if "Total" not in line])
        assert any("Total training time: " in line for line in lines)
    ours, theirs = ([line.split(", Avg. loss")[0] for line in lines] for lines in printed)
    assert ours == theirs
    assert [line for line in printed[0] if "Validation" not in line] == [
        line for line in printed[1] if "Validation" not in line
    ]


def test_verbose_names_the_class(capsys):
    """Protects verbose of many classes, which are trained side by side."""
    X, y = some_data(SGDClassifier, n_classes=3)
    SGDClassifier(verbose=1, alpha=0.1, max_iter=1, tol=None).fit(X, y)
    assert "training of class two against the rest: Norm" in capsys.readouterr().out


def test_progress_bar(capsys, monkeypatch):
    """Protects verbose="bar", and its error where tqdm is missing."""
    pytest.importorskip("tqdm")
    X, y = some_data()
    model = SGDRegressor(verbose="bar", max_iter=3, tol=None).fit(X, y)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert f"objective={model.loss_curve_[-1]:.4g}" in shown
    real = builtins.__import__

    def without(name, *args, **options):
        if name == "tqdm":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'verbose="bar" needs tqdm: .*fastgd\[train\]'):
        clone(model).fit(X, y)


# ---- several targets -----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"average": True}, {"batch_size": 8, "optimizer": "adam"}])
def test_several_targets_are_as_many_regressions(options, assert_same_bits):
    """Protects multi-output regression: each output is what it would be alone."""
    X, y = some_data()
    Y = np.c_[y, 2 - y, X[:, 0] ** 2]
    make = lambda: SGDRegressor(random_state=3, max_iter=200, eta0=0.05, **options)  # noqa: E731
    model = make().fit(X, Y)
    assert model.coef_.shape == (3, 5)
    assert model.predict(X).shape == Y.shape
    for k in range(3):
        alone = make().fit(X, Y[:, k])
        assert_same_bits(
            [model.coef_[k], model.intercept_[k : k + 1]], [alone.coef_, alone.intercept_]
        )
    model.partial_fit(X, Y)
    assert model.score(X, Y) > 0
    with pytest.raises(ValueError, match="coef_init"):
        model.set_params(warm_start=True).fit(X, y)


def test_targets_in_a_column_are_one_target():
    """Protects scikit-learn's way with (n, 1): a warning, and a model of one target."""
    X, y = some_data()
    with pytest.warns(UserWarning, match="column-vector y was passed"):
        model = SGDRegressor(random_state=0).fit(X, y[:, None])
    assert_array_equal(model.coef_, SGDRegressor(random_state=0).fit(X, y).coef_)


# ---- losses of one's own parameter ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "parameter"), [("poisson", None), ("gamma", None), ("tweedie", 1.7), ("tweedie", None)]
)
def test_logarithmic_losses_predict_means(loss, parameter):
    """Protects Poisson and its kin: predictions are positive, scores are of them."""
    X, y = some_data(n_rows=500)
    y = np.exp(y)
    model = SGDRegressor(loss, loss_parameter=parameter, max_iter=40, tol=None, random_state=0)
    model.fit(X, y, X_val=X, y_val=y)
    prediction = model.predict(X)
    assert_allclose(np.log(prediction), X @ model.coef_ + model.intercept_)
    assert_allclose(model.score(X, y), model.validation_curve_[-1])
    assert model.score(X, y) > 0.5
    with pytest.raises(ValueError, match=f"y must hold .* with loss='{loss}'"):
        model.fit(X, y - 10)


def test_quantiles():
    """Protects `loss_parameter`: so many targets lie below, and it must be in its range."""
    X, y = some_data(n_rows=2000)
    for quantile in (0.1, 0.5, 0.9):
        model = SGDRegressor("pinball", loss_parameter=quantile, penalty=None, random_state=0)
        model.set_params(learning_rate="adaptive", eta0=0.1).fit(X, y)
        assert abs(np.mean(y < model.predict(X)) - quantile) < 0.03
    for wrong in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="loss_parameter must be a number above 0 and below 1"):
            model.set_params(loss_parameter=wrong).fit(X, y)


# ---- sparse matrices -----------------------------------------------------------------------------


def sparse_rows():
    """Rows with zeros, one of them empty, and a column that no row has."""
    X, y = some_data(n_rows=80)
    X[np.abs(X) < 0.3] = 0.0
    X[7], X[:, 3] = 0.0, 0.0
    return X, y


@pytest.mark.parametrize("make", ALL)
def test_sparse_formats_and_wide_indices(make, assert_same_bits):
    """Protects sparse input: any format, any width of indices, no more than what CSR gives."""
    X, y = sparse_rows()
    y = y > 0 if make is SGDClassifier else y
    fit = lambda given: make(max_iter=3, tol=None, random_state=0).fit(given, y)  # noqa: E731
    expected = fit(sparse.csr_array(X))
    wide = sparse.csr_array(X)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    backwards = sparse.csr_array(X)
    for first, end in zip(backwards.indptr[:-1], backwards.indptr[1:], strict=True):
        for part in (backwards.indices, backwards.data):
            part[first:end] = part[first:end][::-1].copy()
    for given in (
        wide,
        sparse.csr_matrix(X),
        sparse.csc_array(X),
        sparse.coo_matrix(X),
        sparse.dok_array(X),
    ):
        model = fit(given)
        parts = [[one.coef_, one._get_intercept(), one.loss_curve_] for one in (model, expected)]
        assert_same_bits(*([np.asarray(part) for part in one] for one in parts))
        assert_allclose(model.predict(given), expected.predict(X))
    assert_allclose(fit(backwards).coef_, expected.coef_, rtol=1e-12)


@pytest.mark.parametrize("make", ALL)
def test_sparse_rows_that_are_not_finite(make):
    """Protects sparse input from NaN, wherever it stands."""
    X, y = sparse_rows()
    y = y > 0 if make is SGDClassifier else y
    for place in (0, -1):
        matrix = sparse.csr_array(X)
        matrix.data[place] = np.nan
        model = make()
        with pytest.raises(ValueError, match="X contains NaN"):
            model.fit(matrix, y)
        assert vars(model) == model.get_params()


@pytest.mark.parametrize("make", ALL)
def test_training_goes_on_from_sparse_weights(make):
    """Protects `sparsify`, after which scikit-learn cannot go on."""
    X, y = some_data(make)
    penalty = {} if make is SGDOneClassSVM else {"penalty": "l1", "alpha": 0.05}
    model = make(random_state=0, max_iter=3, tol=None, warm_start=True, **penalty).fit(X, y)
    dense = pickle.loads(pickle.dumps(model))
    model.sparsify()
    assert sparse.issparse(model.coef_)
    assert_allclose(model.predict(X), dense.predict(X)) if make is not SGDClassifier else None
    assert_array_equal(model.fit(X, y).coef_, dense.fit(X, y).coef_)
    model.sparsify().partial_fit(X, y)
    assert_array_equal(model.coef_, dense.partial_fit(X, y).coef_)
    assert_array_equal(model.sparsify().densify().coef_.ravel(), dense.coef_.ravel())


@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("options", [{"average": True}, {"average": 100}, {"penalty": "l1"}])
def test_chunks_of_an_average_and_of_l1(options, layout):
    """Protects partial_fit: averages go on, and what L1 penalties are owed begins anew."""
    X, y = some_data()
    X[np.abs(X) < 0.2] = 0.0
    ours = SGDRegressor(random_state=0, alpha=0.02, **options)
    theirs = peers_of(ours)
    for first in (0, 50, 90):
        for model in (ours, theirs):
            model.partial_fit(layout(X[first : first + 40]), y[first : first + 40])
        for name in ("coef_", "intercept_", "t_"):
            assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-11)


# ---- batches and threads -------------------------------------------------------------------------


def test_batches_of_a_size_that_fits():
    """Protects batch_size="auto": one row for plain sgd, else 64 updates an epoch or 256 rows."""
    for n_rows, optimizer, expected in [
        (131, "sgd", 1),
        (131, ("sgd", {"momentum": 0.5}), 2),
        (50, "adam", 1),
        (5000, "adam", 78),
        (100_000, "adam", 256),
    ]:
        model = SGDRegressor(batch_size="auto", optimizer=optimizer)
        assert model._rows_of_a_batch(n_rows) == expected
    X, y = some_data()
    auto = make_model("huber", batch_size="auto", optimizer="adam").fit(X, y)
    assert_array_equal(
        auto.coef_, make_model("huber", batch_size=2, optimizer="adam").fit(X, y).coef_
    )


def test_threads_of_one_model(monkeypatch):
    """Protects n_threads: what C is told."""
    X, y = some_data()
    seen = set()
    train_linear = _core.train_linear

    def watched(*args, n_threads, **options):
        seen.add(n_threads)
        return train_linear(*args, n_threads=n_threads, **options)

    monkeypatch.setattr(_core, "train_linear", watched)
    for n_threads in (1, 3, None):
        make_model("huber", n_threads=n_threads, batch_size=7).fit(X, y)
    assert seen == {1, 3, _core.threads()}


@pytest.mark.parametrize("make", [SGDClassifier, SGDRegressor])
def test_metadata_is_routed(make):
    """Protects searches and pipelines: weights and rows for validation reach fit on request."""
    X, y = some_data(make)
    X_val, y_val = some_data(make, 30, seed=1)
    seen = []
    with config_context(enable_metadata_routing=True):
        model = make(max_iter=3, tol=None, callbacks=lambda p: seen.append(p.validation_score))
        model.set_fit_request(sample_weight=True, X_val=True, y_val=True)
        pipe = make_pipeline(model.set_score_request(sample_weight=True))
        pipe.fit(X, y, sample_weight=np.ones(N_ROWS), X_val=X_val, y_val=y_val)
    assert len(seen) == 3
    assert None not in seen


@pytest.mark.parametrize("make", ALL)
def test_negative_powers_are_deprecated(make):
    """Protects scikit-learn's promise of power_t: below 0 works with a warning, as there."""
    X, y = some_data(make)
    model = make(power_t=-0.1, max_iter=2, tol=None, learning_rate="invscaling")
    with pytest.warns(
        FutureWarning, match="Negative values for `power_t` are deprecated"
    ) as caught:
        model.fit(X, y)
    assert [warning.filename for warning in caught] == [__file__]


def test_parameters_that_do_not_go_together():
    """Protects from combinations without a meaning: refused by name."""
    X, y = some_data()
    for options, match in [
        ({"learning_rate": "pa1"}, "learning_rate: .* 'pa1' only works with loss 'epsilon_insen"),
        ({"penalty": "elasticnet", "l1_ratio": None}, "l1_ratio must be set"),
        ({"learning_rate": "optimal", "alpha": 0}, "alpha must be above 0"),
    ]:
        model = SGDRegressor(**options)
        with pytest.raises(ValueError, match=match):
            model.fit(X, y)
        assert vars(model) == model.get_params()
    for options, match in [
        ({"batch_size": 2, "average": True}, "average must not be True .* one row an update"),
        ({"optimizer": "adam", "average": 5}, "average must not be 5 .* optimizer='adam'"),
        ({"optimizer": "adam", "penalty": "l1"}, "penalty must be 'l2' or None"),
        ({"batch_size": 3, "loss": "epsilon_insensitive", "learning_rate": "pa2"}, "learning_rate"),
    ]:
        model = SGDRegressor(**options)
        with pytest.raises(ValueError, match=match):
            model.fit(X, y)
        assert vars(model) == model.get_params()
    SGDRegressor(optimizer="adagrad", penalty="l1", batch_size=4, max_iter=3, tol=None).fit(X, y)
    with pytest.raises(ValueError, match="learning_rate must not be 'pa2' for SGDOneClassSVM"):
        SGDOneClassSVM(learning_rate="pa2").fit(X)
    with pytest.raises(ValueError, match="early_stopping should be False with partial_fit"):
        SGDRegressor(early_stopping=True).partial_fit(X, y)


def test_too_few_epochs_of_several_outputs_are_said_to_be():
    """Protects the warning, which comes once."""
    X, y = some_data()
    with pytest.warns(ConvergenceWarning, match="Maximum number of iteration") as caught:
        SGDRegressor(max_iter=2, tol=1e-9).fit(X, np.c_[y, -y])
    assert len(caught) == 1
