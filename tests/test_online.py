"""Vowpal Wabbit's update in C: `fastgd.reference` to 1e-12, the same bits, what it is for.

Vowpal Wabbit itself is in test_online_peer.py, the estimators are in test_online_models.py.
"""

import itertools

import numpy as np
import pytest
from linear_rows import train_rows
from numpy.testing import assert_allclose, assert_array_equal

from fastgd import _core, reference
from fastgd._hypers import hyper_values, make_states

sparse = pytest.importorskip("scipy.sparse")

LOSSES = list(_core.LOSSES)
FLAGS = ("adaptive", "normalized", "invariant")
MANNERS = [dict(zip(FLAGS, flags, strict=True)) for flags in itertools.product((1, 0), repeat=3)]
N_FEATURES = [1, 2, 7, 8, 9, 15, 16, 17, 63, 65, 257, 700]
FORMS = {
    "array": lambda X: X,
    "int32": lambda X: _matrix(X, np.int32),
    "int64": lambda X: _matrix(X, np.int64),
}


def _matrix(X, index_type):
    X = sparse.csr_array(X)
    X.indices, X.indptr = X.indices.astype(index_type), X.indptr.astype(index_type)
    return X


def label(manner):
    return (
        "+".join(name for name, value in manner.items() if value is not False and value) or "none"
    )


def make_data(n_features, loss="squared_error", n_rows=90, seed=0, spread=0):
    """Rows with zeros, two of them empty, of columns of many scales; and targets for the loss."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, n_features)) / np.sqrt(n_features)
    X *= rng.random(X.shape) < rng.random((n_rows, 1))
    X[[3, 40]] = 0.0
    y = X @ rng.standard_normal(n_features) + 0.3 * rng.standard_normal(n_rows) + 0.2
    X *= 10.0 ** rng.uniform(-spread, spread, n_features)
    if _core.LOSSES[loss]["targets"] == "sign":
        return X, np.where(y > 0, 1.0, -1.0)
    return X, y if _core.LOSSES[loss]["targets"] == "real" else np.exp(0.3 * y)


def own_parameter(loss):
    row = _core.LOSSES[loss]
    return {"quantile": 0.3, "expectile": 0.7}.get(row["parameter"], row["default"])


class Trained:
    """A model in training by C, with all that is carried on."""

    def __init__(self, X, manner=None, start=None):
        self.hypers = hyper_values("vw", manner or {})
        self.params = np.zeros(X.shape[1] + 1, X.dtype) if start is None else start.copy()
        self.states = make_states("vw", self.hypers, self.params)
        self.kept = np.zeros(_core.N_KEPT)

    def on(self, X, y, lr=0.5, loss="squared_error", **given):
        """Train on; return the loss."""
        return train_rows(
            X, y, self.params, lr, rule="vw", hypers=self.hypers, states=self.states,
            kept=self.kept, loss=loss, loss_parameter=own_parameter(loss), **given,
        )  # fmt: skip

    def numbers(self):
        """All arrays that training writes to."""
        return [self.params, self.kept, *(s for s in self.states if s is not None)]


def by_reference(X, y, lr, manner, loss, start, weights=None, **given):
    """Parameters and loss of the specification, rows in order."""
    w, b, state, total = start[:-1].tolist(), [float(start[-1])], {}, 0.0
    parameter = own_parameter(loss) if _core.LOSSES[loss]["parameter"] else None
    for i in range(len(y)):
        total += reference.vw(
            X[i].tolist(), float(y[i]), w, b, state, loss=loss, loss_parameter=parameter, lr=lr,
            sample_weight=1.0 if weights is None else float(weights[i]), **manner, **given,
        )  # fmt: skip
    return np.array([*w, *b]), total


def assert_follows_reference(X, y, manner, form, loss="squared_error", weights=None, **given):
    start = np.linspace(-0.2, 0.3, X.shape[1] + 1)
    lr = 0.5 if manner.get("adaptive", True) else 0.1
    expected, loss_sum = by_reference(X, y, lr, manner, loss, start, weights, **given)
    model = Trained(X, manner, start)
    total = model.on(FORMS[form](X), y, lr, loss, sample_weight=weights, **given)
    assert_allclose(model.params, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())
    assert_allclose(total, loss_sum, rtol=1e-12)


# ---- the specification ---------------------------------------------------------------------------


def test_every_online_rule_has_a_specification():
    """Protects the promise of one row and one function; and that no array optimizer sees it."""
    assert _core.ONLINE_RULES.keys() == reference.ONLINE_RULES.keys()
    assert not _core.ONLINE_RULES.keys() & set(_core.RULES)
    numbers = [row["number"] for row in (*_core.RULES.values(), *_core.ONLINE_RULES.values())]
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("manner", MANNERS, ids=label)
@pytest.mark.parametrize("n_features", N_FEATURES)
def test_rows_follow_the_reference(n_features, manner, form):
    """Protects rows of any width, in every manner, with weights and a penalty."""
    X, y = make_data(n_features)
    weights = np.random.default_rng(1).choice([0.0, 0.5, 1.0, 3.0], len(y))
    assert_follows_reference(X, y, manner, form, weights=weights, alpha=0.01)


@pytest.mark.parametrize("form", ["array", "int32"])
@pytest.mark.parametrize("manner", MANNERS, ids=label)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_follow_the_reference(loss, manner, form):
    """Protects each loss's own path."""
    X, y = make_data(21, loss)
    assert_follows_reference(X, y, manner, form, loss)


@pytest.mark.parametrize("form", ["array", "int32"])
@pytest.mark.parametrize(
    "given",
    [
        {"fit_intercept": False},
        {"alpha": 0.3},
        {"alpha": 30.0},  # the weights go to zero in each row
        {"alpha": 1.9},  # far in few rows: the factor before sparse weights is made 1 again
    ],
    ids=str,
)
def test_options_follow_the_reference(given, form):
    """Protects models without intercept, and penalties of any strength."""
    X, y = make_data(21)
    assert_follows_reference(X, y, {}, form, **given)


@pytest.mark.parametrize("form", ["array", "int32"])
@pytest.mark.parametrize("manner", MANNERS[:6], ids=label)
@pytest.mark.parametrize("power_t", [0.0, 0.3, 1.0])
def test_powers_follow_the_reference(power_t, manner, form):
    """Protects rates that fall faster or slower than with the square root."""
    X, y = make_data(21)
    manner = {**manner, "power_t": power_t}
    assert_follows_reference(X, y, manner, form, weights=np.full(len(y), 0.5))


@pytest.mark.parametrize("loss", LOSSES)
def test_steps_of_any_importance_follow_the_reference(loss):
    """Protects the paths where they are hard: tiny and huge steps from far and near."""
    rng = np.random.default_rng(0)
    manner = {"adaptive": False, "normalized": False, "power_t": 0.0}
    parameter = own_parameter(loss) if _core.LOSSES[loss]["parameter"] else None
    for y, p in itertools.product(
        (-1.0, 1.0, 2.5), rng.normal(0, [[1], [8], [30]], (3, 8)).ravel()
    ):
        if (_core.LOSSES[loss]["targets"] == "sign") == (y == 2.5):
            continue
        y = y if _core.LOSSES[loss]["targets"] in ("sign", "real") else abs(y)
        for h in 10.0 ** np.arange(-7, 5.0):
            start, X = np.array([p / 2, 0.0]), np.array([[2.0]])
            model = Trained(X, manner, start)
            model.on(X, np.array([y]), h, loss, fit_intercept=False)
            if reference.LOSSES[loss](p, y, *([parameter] if parameter else []))[1] == 0.0:
                continue
            step = 2.0 * reference.invariant_step(p, y, loss, h, 4.0, parameter)
            assert_allclose(model.params[0], start[0] + step, rtol=1e-12, atol=1e-14)


# ---- bits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("manner", [*MANNERS, {"power_t": 0.3}], ids=label)
@pytest.mark.parametrize("form", FORMS)
def test_the_same_bits_on_every_instruction_set(assert_same_bits, dtype, form, manner):
    """Protects results from the processor, in both dtypes."""
    X, y = (a.astype(dtype) for a in make_data(65, "log_loss"))
    found = []
    for isa in _core.SUPPORTED_ISAS:
        _core.use_isa(isa)
        model = Trained(X, manner)
        model.on(FORMS[form](X), y, 0.5, "log_loss", alpha=0.01)
        found.append(model.numbers())
    for other in found[1:]:
        assert_same_bits(found[0], other)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", LOSSES)
def test_float32_is_near_float64(loss, form):
    """Protects the formulas in single precision."""
    X, y = make_data(33, loss)
    wide, narrow = Trained(X), Trained(X.astype(np.float32))
    wide.on(FORMS[form](X), y, 0.5, loss)
    narrow.on(FORMS[form](X.astype(np.float32)), y.astype(np.float32), 0.5, loss)
    assert narrow.params.dtype == np.float32
    assert_allclose(narrow.params, wide.params, rtol=2e-4, atol=2e-4 * np.abs(wide.params).max())


@pytest.mark.parametrize("form", ["array", "int32"])
def test_training_in_pieces_is_training(assert_same_bits, form):
    """Protects whoever goes on: all that is remembered lies in the caller's arrays."""
    X, y = make_data(33)
    whole, pieces = Trained(X), Trained(X)
    whole.on(FORMS[form](X), y)
    for start, stop in ((0, 1), (1, 50), (50, 90)):
        pieces.on(FORMS[form](X), y, start=start, stop=stop)
    assert_same_bits(whole.numbers(), pieces.numbers())


# ---- what it is for ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["array", "int32"])
@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "poisson"])
def test_scales_do_not_matter(loss, form):
    """Protects data that nobody has scaled: the same model, whatever the columns' units."""
    X, y = make_data(9, loss)
    units = 10.0 ** np.linspace(-3, 3, 9)
    plain, scaled = Trained(X), Trained(X)
    plain.on(FORMS[form](X), y, 0.5, loss)
    scaled.on(FORMS[form](X * units), y, 0.5, loss)
    assert_allclose(scaled.params[:-1] * units, plain.params[:-1], rtol=1e-10)


def test_bad_scales_are_learned_where_plain_sgd_fails():
    """Protects the promise: at a rate that moves the small columns, sgd's weights explode."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((4000, 8)) * 10.0 ** np.linspace(-3, 3, 8)
    y = (X / np.abs(X).max(0)) @ rng.standard_normal(8) + 0.5
    model, sgd = Trained(X), np.zeros(9)
    for _ in range(5):
        model.on(X, y)
        train_rows(X, y, sgd, 0.01)
    errors = [(X @ w[:-1] + w[-1] - y).var() / y.var() for w in (model.params, sgd)]
    assert errors[0] < 1e-3
    assert errors[1] > 1e6


@pytest.mark.parametrize("loss", sorted({*LOSSES} - {"focal", "tweedie", "perceptron"}))
def test_weight_two_is_the_row_twice(loss):
    """Protects invariance, exact where no rate falls and no scale grows: all values are 1 or -1."""
    X, y = make_data(6, loss)
    X, y = np.where(X[:1] > 0, 1.0, -1.0), y[:1]
    manner = {"adaptive": False, "power_t": 0.0}
    for lr in (0.1, 3.0):
        heavy, twice = Trained(X, manner), Trained(X, manner)
        heavy.on(X, y, lr, loss, sample_weight=np.array([2.0]))
        twice.on(np.repeat(X, 2, 0), np.repeat(y, 2), lr, loss)
        assert_allclose(heavy.params, twice.params, rtol=1e-12)


@pytest.mark.parametrize("loss", sorted({*LOSSES} - {"perceptron"}))
def test_no_importance_passes_the_target(loss):
    """Protects from steps too long: the loss of the row falls, however large its weight."""
    for y in (-1.0, 1.0) if _core.LOSSES[loss]["targets"] == "sign" else (0.5, 3.0):
        X, target, last = np.array([[1.0]]), np.array([y]), np.inf
        for weight in (0.1, 1.0, 1e3, 1e6):
            model = Trained(X)
            first = model.on(X, target, 0.5, loss, sample_weight=np.array([weight])) / weight
            p = np.array([model.params.sum()])
            value = _core.evaluate_loss(loss, target, p, own_parameter(loss))[0][0]
            assert value <= min(first, last) + 1e-12
            last = value


def test_rows_without_gradient_or_weight_teach_nothing():
    """Protects what is remembered from rows that have nothing to say."""
    X = np.array([[1.0, 2.0], [5.0, 7.0]])
    model = Trained(X)
    model.on(X[:1], np.array([1.0]), loss="hinge")
    before = [a.copy() for a in model.numbers()]
    model.params[:] = before[0][:] = [0.0, 1.0, 0.0]
    model.on(X[1:], np.array([1.0]), loss="hinge")  # far on the right side
    model.on(X[1:], np.array([-1.0]), loss="hinge", sample_weight=np.zeros(1))
    before[1][0] += 1.0  # weights of rows, seen
    for now, then in zip(model.numbers(), before, strict=True):
        assert_array_equal(now, then)


def test_columns_that_stand_twice_add_up():
    """Protects matrices that were not summed up: their predictions."""
    X = sparse.csr_array((np.array([1.0, 2.0, 3.0]), np.array([1, 1, 0]), np.array([0, 3])), (1, 2))
    model = Trained(X, start=np.array([0.5, -0.25, 1.0]))
    assert_allclose(model.on(X, np.array([1.0])), 0.5 * (1.5 - 0.75) ** 2)


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"batch_size": 2}, r"batch_size and n_classes must be 1 for 'vw'.*got 2 and 1"),
        ({"l1": 0.1}, "l1 must be 0"),
        ({"aggressive": 1}, "aggressive must be 0"),
        ({"states": (None, np.zeros(6))}, r"states\[0\] must be an array: vw needs it"),
        ({"states": (np.zeros(6), None)}, r"states\[1\] must be an array: vw needs it"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused(given, words):
    """Protects parameters from options that the rule does not know, and from missing memory."""
    X, y = make_data(5)
    model = Trained(X)
    options = {"hypers": model.hypers, "states": model.states, "kept": model.kept, **given}
    with pytest.raises(ValueError, match=words):
        train_rows(X, y, model.params, 0.5, rule="vw", **options)
    assert not model.params.any()


def test_divergence_is_named():
    """Protects from silence: a prediction that is not finite, at its row."""
    X = np.array([[1.0], [1e300], [1.0]])
    with pytest.raises(_core.DivergenceError) as caught:
        Trained(X).on(X, np.ones(3))
    assert caught.value.position == 1
