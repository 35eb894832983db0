"""Linear models with `hashing` and `interactions`: those of rows that are hashed beforehand."""

import pickle

import numpy as np
import pytest
from hashed_rows import HUGE, hashed_beforehand, make_rows, sparse, with_columns
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_models import SGDClassifier, SGDRegressor, all_params
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from fastgd import _core, train
from fastgd.linear_model import SGDOneClassSVM

BITS = 7
EVERY = [((0, 3000), (0, 3000))]
# two ranges and each with itself, what lies between them left out
RANGES = [((0, 1000), (1500, 3000)), ((0, 1000), (0, 1000)), ((1500, 3000), (1500, 3000))]
INTERACTIONS = {"none": (None, ()), "quadratic": ("quadratic", EVERY), "ranges": (RANGES, RANGES)}
RATE = {"learning_rate": "constant", "eta0": 0.1}
VW = {"optimizer": "vw", "eta0": 0.5, "penalty": None}
ADAGRAD = {"optimizer": "adagrad", "batch_size": 16}
MANNERS = {
    "l2": {},
    "l1": {"penalty": "l1"},
    "elasticnet": {"penalty": "elasticnet"},
    "averaged": {"average": True},
    "positive": {"positive": True, "penalty": "l1"},
    "group": {"penalty": "group", "groups": np.arange(2**BITS) // 4, "l1_ratio": 0.9},
    "pa1": {"learning_rate": "pa1", "eta0": 1.0, "loss": "hinge"},
    "vw": VW,
    "batches": {"batch_size": 16},
    "adagrad": ADAGRAD,
    "adagrad-l1": {**ADAGRAD, "penalty": "l1"},
}


def make_model(kind=SGDClassifier, **parameters):
    """A model that trains three epochs."""
    if kind is SGDClassifier:
        parameters = {"loss": "log_loss", **parameters}
    common = {"max_iter": 3, "tol": None, "random_state": 3, **RATE}
    return kind(**{**common, **parameters})


@pytest.fixture
def few_at_a_time(monkeypatch):
    """A few rows with interactions are made at a time, so that small data take many calls."""
    monkeypatch.setattr(train, "_MADE_AT_LEAST", 1)
    monkeypatch.setattr(train, "_MADE_AT_MOST", 200)


def check_same(model, peer, X, made, exact=True):
    """Both models are the same, and predict the same."""
    compare = assert_array_equal if exact else assert_allclose
    tolerance = {} if exact else {"rtol": 1e-12, "atol": 1e-14}
    for own, others in zip(all_params(model), all_params(peer), strict=True):
        compare(own, others, **tolerance)
    rtol = 1e-5 if X.dtype == np.float32 else 1e-12
    assert_allclose(model.decision_function(X), peer.decision_function(made), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("interactions", INTERACTIONS)
@pytest.mark.parametrize("manner", MANNERS)
def test_training_is_that_on_rows_hashed_beforehand(manner, interactions, isa, dtype):
    """Protects every kernel's look at a column: to the bit, as the sums have the same order."""
    X, y = make_rows(dtype=dtype, index=np.int32 if dtype == np.float32 else np.int64)
    given, pairs = INTERACTIONS[interactions]
    made = hashed_beforehand(X, BITS, pairs)
    model = make_model(hashing=BITS, interactions=given, **MANNERS[manner]).fit(X, y)
    peer = make_model(**MANNERS[manner]).fit(made, y)
    assert model.coef_.shape == (1, 2**BITS)
    check_same(model, peer, X, made)


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("shuffle", [False, True, "block"])
def test_rows_made_a_few_at_a_time(shuffle, manner, few_at_a_time):
    """Protects the ends of calls: whole batches, the order, targets and weights of the rows."""
    X, y = make_rows(n_rows=300)
    weight = np.random.default_rng(1).integers(1, 4, len(y)).astype(float)
    made = hashed_beforehand(X, BITS, EVERY)
    manner = {**MANNERS[manner], "shuffle": shuffle}
    model = make_model(hashing=BITS, interactions="quadratic", **manner)
    model.fit(X, y, sample_weight=weight)
    if shuffle == "block":  # whose blocks depend on the width of rows
        check_same(model, model, X, X, exact=False)
        return
    peer = make_model(**manner).fit(made, y, sample_weight=weight)
    check_same(model, peer, X, made, exact=False)


@pytest.mark.parametrize("batch_size", [1, 32])
def test_many_classes(batch_size, few_at_a_time):
    """Protects softmax models, and classes one against the rest that train side by side."""
    X, y = make_rows(n_rows=300)
    labels = y + np.arange(300) % 2
    made = hashed_beforehand(X, BITS, EVERY)
    for kind in ({"loss": "multinomial"}, {"n_jobs": 2}):
        parameters = {"batch_size": batch_size, **kind}
        model = make_model(hashing=BITS, interactions="quadratic", **parameters).fit(X, labels)
        peer = make_model(**parameters).fit(made, labels)
        check_same(model, peer, X, made, exact=False)
        assert_allclose(model.predict_proba(X), peer.predict_proba(made), rtol=1e-12)
        assert_array_equal(model.predict(X), peer.predict(made))


@pytest.mark.parametrize("manner", ["l2", "adagrad"])
def test_same_bits_for_any_number_of_threads(manner, few_at_a_time, monkeypatch):
    """Protects repeatability where threads share out the making of rows."""
    monkeypatch.setattr(train, "_MADE_AT_MOST", 2**17)
    X, y = make_rows(n_rows=400, width=60)
    models = [
        make_model(hashing=10, interactions="quadratic", n_threads=n, **MANNERS[manner]).fit(X, y)
        for n in (1, 2, 3, 4)
    ]
    for model in models[1:]:
        for own, others in zip(all_params(model), all_params(models[0]), strict=True):
            assert_array_equal(own, others)


@pytest.mark.parametrize("kind", [SGDClassifier, SGDRegressor, SGDOneClassSVM])
@pytest.mark.parametrize("interactions", ["none", "quadratic"])
def test_any_number_of_columns(interactions, kind):
    """Protects hashed names as columns: 2**62 of them, by all estimators."""
    X, y = make_rows()
    X = with_columns(X, HUGE - 3000, HUGE)
    given, _ = INTERACTIONS[interactions]
    pairs = [((0, HUGE), (0, HUGE))] if given else ()
    made = hashed_beforehand(X, BITS, pairs)
    model = make_model(kind, hashing=BITS, interactions=given).fit(X, y)
    peer = make_model(kind).fit(made, y)
    assert_array_equal(model.coef_, peer.coef_)
    assert model.n_features_in_ == HUGE
    assert_allclose(model.predict(X), peer.predict(made), rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.tuples(st.integers(0, 40), st.integers(-3, 3)), max_size=9), min_size=1
    ),
    bits=st.integers(1, 31),
    ends=st.tuples(*[st.integers(1, 20)] * 2, *[st.integers(21, 41)] * 2),
    room=st.integers(1, 40),
    batch_size=st.integers(1, 3),
)
def test_rows_with_interactions_are_the_references(rows, bits, ends, room, batch_size):
    """Protects the products and their numbers: any order of columns, that also stand twice."""
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    flat = np.array([one for row in rows for one in row], dtype=np.int64).reshape(-1, 2)
    X = sparse.csr_array((flat[:, 1] * 0.5, flat[:, 0].copy(), indptr), shape=(len(rows), 41))
    low, high = (0, ends[0]), (min(ends[2:]) - 1, 41)
    pairs = [(low, high), (high, low), (low, low), ((20, 41), (20, 41))]
    expected = hashed_beforehand(X, bits, pairs)
    made = _core.Interactions(
        _core.CSR(X, bits), [[*a, *b] for a, b in pairs], len(rows), room, batch_size
    )
    order, first, found = np.arange(len(rows)), 0, []
    while first < len(rows):
        part, visited = made.take(order, 1, first, len(rows))
        assert_array_equal(visited, np.arange(first, first + len(visited)))
        assert len(visited) % batch_size == 0 or visited[-1] == len(rows) - 1
        found.append((part.data.copy(), part.indices.copy(), np.diff(part.indptr)))
        first += len(visited)
    for own, others in zip(
        map(np.concatenate, zip(*found, strict=True)),
        (expected.data, expected.indices, np.diff(expected.indptr)),
        strict=True,
    ):
        assert_array_equal(own, others)


@pytest.mark.parametrize("interactions", ["none", "quadratic"])
def test_rows_held_out_are_scored_alike(interactions, few_at_a_time):
    """Protects early stopping, X_val and restored weights from another view of the columns."""
    X, y = make_rows(n_rows=300)
    given, pairs = INTERACTIONS[interactions]
    made = hashed_beforehand(X, BITS, pairs)
    mine, others = make_model(hashing=BITS, interactions=given), make_model()
    for model, rows in ((mine, X), (others, made)):
        model.set_params(restore_best_weights=True)
        model.fit(rows[:200], y[:200], X_val=rows[200:], y_val=y[200:])
    check_same(mine, others, X, made, exact=False)
    assert mine.validation_curve_ == others.validation_curve_
    for model, rows in ((mine, X), (others, made)):
        model.set_params(early_stopping=True).fit(rows, y)
    check_same(mine, others, X, made, exact=False)
    assert mine.validation_curve_ == others.validation_curve_


def test_training_goes_on(few_at_a_time):
    """Protects partial_fit, warm starts, coef_init, sparse weights and pickles."""
    X, y = make_rows(n_rows=300)
    made = hashed_beforehand(X, BITS, EVERY)
    model = make_model(hashing=BITS, interactions="quadratic", penalty="l1", alpha=0.01)
    mine, others = clone(model), clone(model).set_params(hashing=None, interactions=None)
    for _ in range(2):
        mine.partial_fit(X, y, classes=[-1, 1])
        others.partial_fit(made, y, classes=[-1, 1])
        mine = pickle.loads(pickle.dumps(mine))
    check_same(mine, others, X, made, exact=False)
    before = mine.decision_function(X)
    assert_allclose(mine.sparsify().decision_function(X), before, rtol=1e-12, atol=1e-12)
    mine.densify().set_params(warm_start=True).fit(X, y)
    others.set_params(warm_start=True).fit(made, y)
    check_same(mine, others, X, made, exact=False)
    start = np.ones((1, 2**BITS))
    check_same(
        clone(mine).fit(X, y, coef_init=start), clone(others).fit(made, y, coef_init=start), X,
        made, exact=False,
    )  # fmt: skip


@pytest.mark.parametrize("interactions", ["none", "quadratic"])
def test_rows_of_a_mapped_file(interactions, tmp_path, monkeypatch):
    """Protects reading ahead: windows of a file end where calls and batches do."""
    X, y = make_rows(n_rows=3000)
    for name in ("data", "indices", "indptr"):
        np.save(tmp_path / f"{name}.npy", getattr(X, name))
    arrays = [np.load(tmp_path / f"{n}.npy", mmap_mode="r") for n in ("data", "indices", "indptr")]
    mapped = sparse.csr_array(X.shape)
    mapped.data, mapped.indices, mapped.indptr = arrays
    monkeypatch.setattr("fastgd._paging._SEGMENT_BYTES", 4096)
    monkeypatch.setattr("fastgd._paging._SEGMENTS", 2)
    monkeypatch.setattr(train, "_ELEMENTS_PER_CALL", 1000)
    given, pairs = INTERACTIONS[interactions]
    parameters = {**ADAGRAD, "shuffle": False, "max_iter": 1}
    model = make_model(hashing=BITS, interactions=given, **parameters).fit(mapped, y)
    made = hashed_beforehand(X, BITS, pairs)
    check_same(model, make_model(**parameters).fit(made, y), X, made, exact=False)


def test_norm_of_the_gradient():
    """Protects what looks at all rows at once from columns that are not masked."""
    X, y = make_rows(n_rows=300)
    model = make_model(hashing=BITS, grad_norm=True).fit(X, y)
    peer = make_model(grad_norm=True).fit(hashed_beforehand(X, BITS), y)
    assert model.grad_norm_curve_ == peer.grad_norm_curve_


def test_divergence_names_the_step(few_at_a_time):
    """Protects the message: the step counts from the epoch's beginning, not the call's."""
    X, y = make_rows(n_rows=300)
    parameters = {"loss": "squared_error", "learning_rate": "constant", "eta0": 1e150}
    made = hashed_beforehand(X, BITS, EVERY)
    with pytest.raises(_core.DivergenceError) as mine:
        make_model(SGDRegressor, hashing=BITS, interactions="quadratic", **parameters).fit(X, y)
    with pytest.raises(_core.DivergenceError) as others:
        make_model(SGDRegressor, **parameters).fit(made, y)
    assert str(mine.value) == str(others.value)
    assert mine.value.position == others.value.position


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"hashing": 0}, "hashing"),
        ({"hashing": 32}, "hashing"),
        ({"hashing": True}, "hashing must be a number of bits"),
        ({"interactions": "quadratic"}, "interactions must be None without hashing"),
        ({"hashing": 5, "interactions": "cubic"}, "interactions"),
        ({"hashing": 5, "interactions": []}, "interactions must name at least one"),
        ({"hashing": 5, "interactions": [(0, 5)]}, "interactions must be"),
        ({"hashing": 5, "interactions": [((0, 5), (5, 3001))]}, "3000 columns"),
        ({"hashing": 5, "interactions": [((0, 5), (7, 7))]}, "start < stop"),
        ({"hashing": 5, "interactions": [((0, 5), (4, 9))]}, "no column in common"),
        ({"hashing": 5, "interactions": [((0, 5), (6, 9)), ((6, 9), (0, 5))]}, "each once"),
    ],
)
def test_what_is_out_of_range_is_refused(parameters, message):
    """Protects from models that are not what was asked for; a refusal changes nothing."""
    X, y = make_rows()
    model = make_model(**parameters)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)
    assert vars(model) == before


def test_dense_rows_are_refused():
    """Protects from a copy: in training, in validation and in prediction."""
    X, y = make_rows()
    with pytest.raises(TypeError, match="sparse matrix"):
        make_model(hashing=5).fit(X.toarray(), y)
    with pytest.raises(TypeError, match="sparse matrix"):
        make_model(hashing=5).fit(X, y, X_val=X.toarray(), y_val=y)
    with pytest.raises(TypeError, match="sparse matrix"):
        make_model(hashing=5).fit(X, y).predict(X.toarray())


def test_the_mapping_may_not_change_on_the_way():
    """Protects partial_fit from weights that stand for other columns."""
    X, y = make_rows()
    model = make_model(hashing=5).partial_fit(X, y, classes=[-1, 1])
    for changed in ({"hashing": 6}, {"hashing": None}, {"interactions": "quadratic"}):
        with pytest.raises(ValueError, match="when partial_fit began"):
            pickle.loads(pickle.dumps(model)).set_params(**changed).partial_fit(X, y)
    before = model.decision_function(X)
    model.set_params(hashing=6)  # the next fit's
    assert_array_equal(model.decision_function(X), before)


def test_interactions_of_vowpal_wabbit():
    """Protects the name: the weights of Vowpal Wabbit's own features and pairs of them."""
    vowpalwabbit = pytest.importorskip("vowpalwabbit")
    X, y = make_rows(n_rows=200, n_columns=300, dtype=np.float32)
    X.sum_duplicates()
    peer = vowpalwabbit.Workspace(
        "--quiet -b 18 --loss_function hinge -l 0.5 --initial_t 0 --noconstant -q aa "
        "--adaptive --invariant --min_prediction -1e9 --max_prediction 1e9"
    )
    for first, last, label in zip(X.indptr, X.indptr[1:], y, strict=False):
        features = zip(X.indices[first:last], X.data[first:last], strict=True)
        peer.learn(f"{label} |a " + " ".join(f"{c}:{float(v)!r}" for c, v in features))
    # it adds the namespace's hash to names that are integers
    X = with_columns(X, peer.hash_space("a"), 2**33)
    manner = {**VW, "optimizer": ("vw", {"normalized": False}), "loss": "hinge", "shuffle": False}
    model = make_model(
        hashing=18, interactions="quadratic", fit_intercept=False, max_iter=1, **manner
    ).fit(X, y)
    found = np.array([peer.get_weight(j) for j in range(2**18)])
    peer.finish()
    assert np.count_nonzero(found) > 1000
    assert_allclose(model.coef_[0], found, rtol=1e-4, atol=1e-6)
