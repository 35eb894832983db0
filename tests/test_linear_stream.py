"""Linear models: `fit` of a Parquet file, epoch by epoch and chunk by chunk."""

import pickle

import numpy as np
import pytest
from linear_models import make_data
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning

from fastgd import _core, train
from fastgd.datasets import DataError
from fastgd.linear_model import SGDClassifier, SGDOneClassSVM, SGDRegressor
from fastgd.streams import ParquetChunks

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

N_ROWS = 1003
X, Y = make_data(N_ROWS, 3, "squared_error")
COLOURS = np.array(["red", "green", "blue"])[np.digitize(Y, [0.2, 0.8])]


@pytest.fixture
def chunks_of(tmp_path):
    """Function (target, ...): chunks of 64 rows of a file with two targets, in float64."""
    table = {f"x{j}": X[:, j] for j in range(3)} | {"y": Y, "colour": COLOURS, "sign": Y > 0.5}
    parquet.write_table(pyarrow.table(table), tmp_path / "t.parquet", row_group_size=200)

    def make(target, **options):
        options = {"chunk_rows": 64, "dtype": np.float64, "seed": 5, **options}
        return ParquetChunks(tmp_path / "t.parquet", target, features=["x0", "x1", "x2"], **options)

    return make


MODELS = [
    (SGDRegressor(), "y"),
    (SGDRegressor(penalty="elasticnet", average=True, learning_rate="constant"), "y"),
    (SGDRegressor(batch_size=16, optimizer="adam", shuffle="block", n_threads=2), "y"),
    (SGDRegressor(loss="pinball", shuffle=False, optimizer="vw", penalty=None), "y"),
    (SGDClassifier(alpha=0.01, n_jobs=2), "colour"),
    (SGDClassifier(loss="log_loss", class_weight={"red": 3.0}, penalty="l1", alpha=1e-3), "colour"),
    (SGDClassifier(loss="multinomial", batch_size="auto", optimizer="adagrad"), "colour"),
    (SGDClassifier(average=100, alpha=0.01), "sign"),
    (SGDOneClassSVM(nu=0.3), "y"),
]


@pytest.mark.parametrize(("model", "target"), MODELS, ids=lambda value: str(value)[:60])
def test_fit_is_partial_fit_of_each_chunk(model, target, chunks_of, assert_same_bits):
    """Protects the rates, the states and the order: they go on from chunk to chunk, and epochs."""
    fitted = clone(model).set_params(max_iter=3, tol=None, random_state=0).fit(chunks_of(target))
    by_hand, chunks = clone(fitted), chunks_of(target)
    curve, progressive = [], []
    for _ in range(3):
        sizes, first = [], len(by_hand.loss_curve_) if curve else 0
        for rows, y in chunks:
            classes = {"classes": chunks.labels()} if is_classifier(model) else {}
            by_hand.partial_fit(rows, y, **classes)
            sizes.append(len(y))
        curve.append(np.average(by_hand.loss_curve_[first:], weights=sizes))
        progressive.append(by_hand.progressive_loss_)
    theirs = [fitted.coef_, *(s for p in fitted._states for s in p if s is not None)]
    ours = [by_hand.coef_, *(s for p in by_hand._states for s in p if s is not None)]
    assert_same_bits(theirs, ours)
    assert_array_equal(fitted._get_intercept(), by_hand._get_intercept())
    assert fitted.t_ == by_hand.t_
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 3
    assert_allclose(fitted.progressive_loss_, progressive[0], rtol=1e-12)
    if not fitted.penalty:  # else the penalty is that at the end of each chunk, or of the epoch
        assert_allclose(fitted.loss_curve_, curve, rtol=1e-12)
    rows = X[:20]
    assert_array_equal(fitted.predict(rows), by_hand.predict(rows))


def test_training_stops_by_the_curve_of_epochs(chunks_of):
    """Protects tol and "adaptive": both look at whole epochs, not at chunks."""
    model = SGDRegressor(penalty=None, n_iter_no_change=2, tol=1e-3, random_state=0)
    curve = np.array(model.fit(chunks_of("y")).loss_curve_)
    slow = np.append(False, curve[1:] > np.minimum.accumulate(curve)[:-1] - 1e-3)
    assert slow[-2:].all()
    assert not (slow[:-2] & slow[1:-1]).any()
    assert model.n_iter_ == len(curve) < 1000
    rate = clone(model).set_params(learning_rate="adaptive", eta0=0.1).fit(chunks_of("y"))
    assert rate.n_iter_ > 10
    with pytest.warns(ConvergenceWarning, match="Maximum number of iteration"):
        clone(model).set_params(max_iter=2).fit(chunks_of("y"))


def test_own_rows_score_each_epoch(chunks_of):
    """Protects early stopping and the best weights, on rows beside the file."""
    model = SGDClassifier(early_stopping=True, restore_best_weights=True, alpha=0.01)
    model.set_params(random_state=0, average=True)
    model.fit(chunks_of("colour"), X_val=X[:300], y_val=COLOURS[:300])
    assert len(model.validation_curve_) == model.n_iter_
    assert model.validation_curve_[-1] > 0.6
    seen = []
    model.set_params(callbacks=lambda progress: seen.append(progress.epoch), warm_start=True)
    model.fit(chunks_of("colour"), X_val=X[:300], y_val=COLOURS[:300])
    assert seen == list(range(1, model.n_iter_ + 1))


def test_a_chunk_at_a_time_is_in_memory(chunks_of, monkeypatch):
    """Protects files larger than memory: C never sees more than a chunk."""
    sizes, train_linear = [], _core.train_linear

    def noting(params, states, rows, *args, **options):
        sizes.append(rows.shape[0])
        return train_linear(params, states, rows, *args, **options)

    monkeypatch.setattr(_core, "train_linear", noting)
    SGDRegressor(max_iter=2, tol=None).fit(chunks_of("y"))
    assert max(sizes) == 64
    assert sum(sizes) == 2 * N_ROWS


@pytest.mark.parametrize(
    ("model", "options", "match"),
    [
        (SGDRegressor(), {"y": Y}, "y must be None where X is a ParquetChunks; got ndarray"),
        (SGDRegressor(), {"sample_weight": Y}, "sample_weight must be None"),
        (SGDRegressor(early_stopping=True), {}, "early_stopping must not be True"),
        (SGDRegressor(grad_norm=True), {}, "grad_norm must not be True"),
        (SGDClassifier(class_weight="balanced"), {}, "class_weight must not be 'balanced'"),
        (SGDRegressor(), {"X_val": X[:, :2], "y_val": Y}, "X has 2 features"),
        (SGDOneClassSVM(), {"sample_weight": Y}, "sample_weight must be None"),
    ],
)
def test_what_does_not_go_with_a_file_is_refused(model, options, match, chunks_of):
    """Protects from options that would be forgotten in silence; nothing has changed."""
    before = pickle.dumps(model)
    with pytest.raises(ValueError, match=match):
        model.fit(chunks_of("sign" if isinstance(model, SGDClassifier) else "y"), **options)
    assert pickle.dumps(model) == before


def test_failure_in_the_midst_of_the_file_changes_nothing(chunks_of, tmp_path):
    """Protects the model so far: a chunk that cannot be used comes late."""
    model = SGDRegressor(random_state=0).fit(chunks_of("y"))
    before, coef = pickle.dumps(model), model.coef_.copy()
    values = np.ones(1000)
    for spoilt, error, match in [
        (np.nan, ValueError, "X contains NaN"),
        (None, DataError, "column 'x' has missing values"),
    ]:
        column = [*values, spoilt]
        table = pyarrow.table({"x": column, "x2": column, "x3": column, "y": np.arange(1001.0)})
        parquet.write_table(table, tmp_path / "bad.parquet")
        bad = ParquetChunks(tmp_path / "bad.parquet", "y", chunk_rows=10, shuffle=False)
        with pytest.raises(error, match=match):
            model.set_params(eta0=1e-9).fit(bad)
        assert pickle.dumps(model.set_params(eta0=0.01)) == before
        assert_array_equal(model.coef_, coef)
    empty = pyarrow.table({"x": np.ones(0), "y": np.ones(0)})
    parquet.write_table(empty, tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match="X must have rows; got a file without any"):
        model.fit(ParquetChunks(tmp_path / "empty.parquet", "y"))


def test_ctrl_c_between_chunks_keeps_what_was_learnt(chunks_of, monkeypatch):
    """Protects what a user has waited for."""
    visit, calls = train.Run.visit, []

    def interrupted(run, problem):
        visit(run, problem)
        calls.append(1)
        if len(calls) == 20:  # an epoch has 16 chunks
            raise KeyboardInterrupt

    monkeypatch.setattr(train.Run, "visit", interrupted)
    model = SGDRegressor(random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(chunks_of("y"))
    assert model.n_iter_ == len(model.loss_curve_) == 1
    assert model.t_ == N_ROWS + 4 * 64 + 1


def test_labels_are_those_of_the_whole_column(chunks_of):
    """Protects the classes: found however far down the file they come."""
    assert chunks_of("colour").labels().tolist() == ["blue", "green", "red"]
    assert chunks_of("sign").labels().tolist() == [False, True]
    assert_array_equal(chunks_of("y").labels(), np.unique(Y))
