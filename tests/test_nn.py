"""`fastgd.nn`: what networks promise beside right gradients (``test_nn_gradients.py``)."""

import re

import numpy as np
import pytest
import scipy.sparse
from networks import KINDS, LOSSES, N_INPUTS, everything, make_data, make_network
from numpy.testing import assert_allclose

import fastgd
from fastgd import nn, optim

ROWS = (1, 7, 63, 64, 65, 4097)
WIDTHS = (1, 7, 8, 9, 63, 65)
SIZES = [(n, WIDTHS[(i + k) % 6]) for i, n in enumerate(ROWS) for k in (0, 2)]


def arrays_of(net):
    """Everything a network is and has computed, in one list."""
    return [*everything(net).values(), *(g.copy() for g in net.gradients)]


def train(net, X, y, rule="SGD", *, epochs=1, batch_size=64, **options):
    """Train, and return the optimizer and the last sums."""
    settings = {"lr": 0.01, "momentum": 0.9} if rule == "SGD" else {"lr": 0.01}
    optimizer = getattr(optim, rule)(net.parameters, **settings)
    for _ in range(epochs):
        sums = net.train_epoch(optimizer, X, y, batch_size=batch_size, **options)
    return optimizer, sums


# ---- same bits -----------------------------------------------------------------------------------


def results_of_sizes(kind, dtype):
    """What a pass over all rows, and an epoch of batches, make of networks of awkward sizes."""
    for n, width in SIZES:
        if n == 1 and kind == "batch":
            continue  # which has no variance
        layers = [nn.Dense(width, "silu"), nn.Dense(width, "tanh", **KINDS[kind]), nn.Dense(3)]
        net = nn.Network(width, layers, loss="cross_entropy", dtype=dtype, rng=width)
        X, y, weights = make_data("cross_entropy", n, n_inputs=width)
        X, weights = X.astype(dtype), weights.astype(dtype)
        loss, _ = net.loss_and_grad(X, y, weights, alpha=0.1)
        yield [np.array(loss), net.predict(X), *arrays_of(net)]
        if n % 64 != 1 or kind != "batch":
            _, sums = train(net, X, y, batch_size=256 if n > 65 else 64, sample_weight=weights)
            yield [np.array([sums.data, sums.penalty]), *arrays_of(net)]


@pytest.mark.parametrize("kind", ["batch", "layer", "dropout", "skip"])
def test_threads_do_not_change_a_bit(kind, dtype, isa, assert_same_bits):
    """Protects reproducibility: products, statistics and sums have one order, whoever computes."""
    with fastgd.threads(1):
        expected = list(results_of_sizes(kind, dtype))
    for n_threads in (2, 3, 4):
        with fastgd.threads(n_threads):
            for actual, one in zip(results_of_sizes(kind, dtype), expected, strict=True):
                assert_same_bits(actual, one)


@pytest.mark.parametrize("kind", KINDS)
def test_instruction_sets_agree(kind, isa):
    """Protects every compiled table: results differ by rounding alone."""
    net, (X, y, weights) = make_network("gelu", "log_loss", kind), make_data("log_loss", 65)
    loss, grads = net.loss_and_grad(X, y, weights)
    found = [loss, *(g.copy() for g in grads)]
    fastgd._core.use_isa(fastgd._core.SUPPORTED_ISAS[0])
    again = make_network("gelu", "log_loss", kind)
    loss, grads = again.loss_and_grad(X, y, weights)
    for a, b in zip(found, [loss, *grads], strict=True):
        assert_allclose(a, b, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_training_goes_on_the_same(rule, kind, dtype, assert_same_bits):
    """Protects checkpoints: parameters, statistics, dropout's count and the rule's states."""
    X, y, _ = make_data(n=130)
    X, y = X.astype(dtype), y.astype(dtype)
    whole = make_network(kind=kind, dtype=dtype)
    train(whole, X, y, rule, epochs=3)
    first, second = make_network(kind=kind, dtype=dtype), make_network(kind=kind, dtype=dtype)
    optimizer, _ = train(first, X, y, rule)
    other = getattr(optim, rule)(second.parameters)
    second.load_state_dict(first.state_dict())
    other.load_state_dict(optimizer.state_dict())
    train(first, X, y)  # what was copied is no view
    for _ in range(2):
        second.train_epoch(other, X, y, batch_size=64)
    assert_same_bits(arrays_of(second), arrays_of(whole))
    assert second.n_passes == whole.n_passes == 9


def test_seeds_are_reproducible(assert_same_bits):
    """Protects rng: int, Generator and RandomState; without one, networks differ."""
    for make in (int, np.random.default_rng, np.random.RandomState):
        one, other, third = (nn.Network(3, [nn.Dense(2)], rng=make(s)) for s in (3, 3, 4))
        assert_same_bits(one.parameters, other.parameters)
        assert one.seed == other.seed != third.seed
    one, other = (nn.Network(3, [nn.Dense(2)]) for _ in range(2))
    assert (one.parameters[0] != other.parameters[0]).all()


# ---- what goes in --------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("kind", KINDS)
def test_sparse_rows_are_dense_rows(kind, dtype, index):
    """Protects CSR: empty rows, columns of zeros, both kinds of indices, shuffled batches."""
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(70, 40)) * (rng.random((70, 40)) < 0.1)
    dense[[0, 3, 69]] = 0
    dense = dense.astype(dtype)
    sparse = scipy.sparse.csr_matrix(dense)
    sparse.indices, sparse.indptr = sparse.indices.astype(index), sparse.indptr.astype(index)
    order = rng.permutation(70)
    tolerance = 1e-11 if dtype == np.float64 else 2e-4
    results = []
    for X in (dense, sparse):
        layers = [nn.Dense(40, "relu", **KINDS[kind]), nn.Dense(9, "tanh"), nn.Dense(3)]
        net = nn.Network(40, layers, loss="cross_entropy", dtype=dtype, rng=0)
        y = np.arange(70) % 3
        _, sums = train(net, X, y, order=order, batch_size=14)
        assert_allclose(net.predict(X).sum(axis=1), 1, rtol=1e-5)
        results.append([sums.data, net.predict_raw(X), *arrays_of(net)])
    for a, b in zip(*results, strict=True):
        assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_an_order_may_have_a_sparse_row_again_and_again():
    """Protects the memory of a batch: the longest row many times, in batches of more than X."""
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(30, 300)) * (rng.random((30, 300)) < 0.02)
    dense[7] = rng.normal(size=300)
    order = np.where(np.arange(100) < 90, 7, np.arange(100) % 30)
    nets = [nn.Network(300, [nn.Dense(3)], dtype=np.float64, rng=0) for _ in range(2)]
    for net, X in zip(nets, (dense, scipy.sparse.csr_matrix(dense)), strict=True):
        train(net, X, np.zeros((30, 3)), order=order, batch_size=50)
        assert net.n_passes == 2
    assert_allclose(nets[0].parameters[0], nets[1].parameters[0], rtol=1e-11, atol=1e-14)


def test_a_weight_of_two_is_the_row_twice():
    """Protects sample_weight, also beside the penalty."""
    X, y, _ = make_data("cross_entropy", 9)
    net = make_network(loss="cross_entropy")
    once = net.loss_and_grad(X, y, np.array([2.0] + 8 * [1.0]), alpha=0.5)
    once = [once[0], *(g.copy() for g in once[1])]
    twice = net.loss_and_grad(np.vstack([X[:1], X]), np.append(y[:1], y), alpha=0.5)
    for a, b in zip(once, [twice[0], *twice[1]], strict=True):
        assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_an_order_is_a_choice_of_rows(assert_same_bits):
    """Protects subsets and repeated rows: an epoch over an order is one over those rows."""
    X, y, weights = make_data(n=40)
    order = np.array([3, 3, 39, 0, 7, 12, 3])
    chosen, copied = make_network(kind="all"), make_network(kind="all")
    _, sums = train(chosen, X, y, order=order, batch_size=4, sample_weight=weights)
    rows = (a[order] for a in (X, y))
    _, others = train(copied, *rows, batch_size=4, sample_weight=weights[order])
    assert_same_bits(arrays_of(chosen), arrays_of(copied))
    assert (sums.data, sums.penalty) == (others.data, others.penalty)


def test_targets_of_one_output_may_be_flat(assert_same_bits):
    """Protects (n,) beside (n, 1)."""
    X, y, _ = make_data(n=20, n_outputs=1)
    nets = [nn.Network(N_INPUTS, [nn.Dense(1)], dtype=np.float64, rng=0) for _ in range(2)]
    train(nets[0], X, y)
    train(nets[1], X, y.ravel())
    assert_same_bits(arrays_of(nets[0]), arrays_of(nets[1]))


# ---- what comes out ------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_predictions_are_after_the_link(loss):
    """Protects predict beside predict_raw: probabilities, means."""
    net, X = make_network(loss=loss), make_data(n=9)[0]
    raw, predictions = net.predict_raw(X), net.predict(X)
    if loss == "cross_entropy":
        expected = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    elif loss == "log_loss":
        expected = 1 / (1 + np.exp(-raw))
    else:
        expected = np.exp(raw) if loss in ("poisson", "gamma", "tweedie") else raw
    assert_allclose(predictions, expected, rtol=1e-13)
    assert predictions.shape == (9, net.n_outputs)


def test_predictions_do_not_depend_on_their_company(assert_same_bits):
    """Protects inference: a row alone, among others, after another batch; nothing moves."""
    net, X = make_network(kind="all"), make_data(n=200)[0]
    before, whole = everything(net), net.predict_raw(X)
    for part in (slice(0, 1), slice(7, 200), slice(64, 65)):
        assert_same_bits(net.predict_raw(X[part]), whole[part])
    net.loss_and_grad(X, whole, training=False)
    assert_same_bits(list(everything(net).values()), list(before.values()))
    assert net.n_passes == 0


def test_gradients_are_always_the_same_arrays():
    """Protects who holds views: nothing is copied."""
    net = make_network()
    held = list(net.gradients)
    _, grads = net.loss_and_grad(*make_data())
    train(net, *make_data()[:2])
    for a, b, c in zip(held, grads, net.gradients, strict=True):
        assert a is b is c


def test_dropout_has_its_rate():
    """Protects dropout: the part that is left out, what is left in, another mask in each pass."""
    net = nn.Network(1, [nn.Dense(2000, dropout=0.3), nn.Dense(1)], dtype=np.float64, rng=0)
    net.parameters[1][:] = 1
    masks = []
    for _ in range(2):
        net.loss_and_grad(np.zeros((1, 1)), np.ones((1, 1)))
        masks.append(net.gradients[2].ravel() != 0)  # the last weights: activation times residual
        kept = net.gradients[2][masks[-1]] / net.gradients[3]
        assert_allclose(kept, 1 / 0.7, rtol=1e-12)
        assert np.mean(masks[-1]) == pytest.approx(0.7, abs=0.04)
    assert np.mean(masks[0] == masks[1]) == pytest.approx(0.7**2 + 0.3**2, abs=0.05)


def test_running_statistics_are_those_of_the_data():
    """Protects inference after training: means and unbiased variances of what goes in."""
    rng = np.random.default_rng(0)
    X = rng.normal(3.0, 2.0, (50, 1))
    net = nn.Network(1, [nn.Dense(1, norm="batch")], dtype=np.float64, rng=0)
    net.parameters[0][:] = 1
    for _ in range(300):
        net.loss_and_grad(X, X)
    assert_allclose(net.buffers["layers.0.running_mean"], X.mean(axis=0), rtol=1e-12)
    assert_allclose(net.buffers["layers.0.running_var"], X.var(axis=0, ddof=1), rtol=1e-12)


def test_what_the_optimizer_has_not_rests(assert_same_bits):
    """Protects frozen layers and groups: only what is in a group is trained, at its rate."""
    net, (X, y, _) = make_network(), make_data(n=20)
    before = everything(net)
    weight, bias = net.parameters[2], net.parameters[3]
    optimizer = optim.SGD([{"params": [bias], "lr": 0.0}, {"params": [weight]}], lr=0.1)
    net.train_epoch(optimizer, X, y)
    for name, array in everything(net).items():
        assert (array != before[name]).any() == (name == "layers.1.weight"), name


def test_training_learns():
    """Protects the whole: a network learns what a linear model cannot."""
    X = np.random.default_rng(0).uniform(-1, 1, (512, 2)).astype(np.float32)
    y = (X.prod(axis=1) > 0).astype(int)
    layers = [nn.Dense(16, "gelu"), nn.Dense(16, "gelu", skip=True), nn.Dense(2)]
    net = nn.Network(2, layers, loss="cross_entropy", rng=0)
    train(net, X, y, "Adam", epochs=60, batch_size=32)
    assert np.mean(net.predict(X).argmax(axis=1) == y) > 0.97


# ---- what is refused -----------------------------------------------------------------------------


def test_numbers_that_are_not_finite_are_found_and_named():
    """Protects a model from NaN: the tensor and the step are named, all is as the step before."""
    X, y, _ = make_data(n=40)
    for bad in (np.nan, np.inf):
        net, other = make_network(kind="all"), make_network(kind="all")
        spoilt = X.copy()
        spoilt[30, 1] = bad
        params = list(zip(net.names, net.parameters, strict=True))
        optimizer = optim.SGD(params, lr=0.01, momentum=0.9)
        with pytest.raises(fastgd.NonFiniteError, match=r"layers\.0\.weight") as error:
            net.train_epoch(optimizer, spoilt, y, batch_size=8)
        assert re.search(r"step 4\b", str(error.value))
        train(other, X, y, order=np.arange(24), batch_size=8)
        for name, array in everything(other).items():
            np.testing.assert_array_equal(everything(net)[name], array, err_msg=name)
        assert net.n_passes == other.n_passes == 3


X, Y, WEIGHTS = make_data(n=10)
BAD_CALLS = {
    "X": [
        {"X": X.astype(np.float32)},
        {"X": X[:, :2]},
        {"X": X[0]},
        {"X": np.asfortranarray(X)},
        {"X": X.tolist()},
        {"X": scipy.sparse.csc_matrix(X)},
    ],
    "y": [{"y": Y[:9]}, {"y": Y[:, :2]}, {"y": Y[:, 0]}, {"y": Y.astype(str)}],
    "sample_weight": [
        {"sample_weight": WEIGHTS[:9]},
        {"sample_weight": -WEIGHTS},
        {"sample_weight": 0 * WEIGHTS},
        {"sample_weight": WEIGHTS * np.nan},
    ],
    "alpha": [{"alpha": -1.0}, {"alpha": np.nan}, {"alpha": "1"}],
}
BAD_EPOCHS = {
    **BAD_CALLS,
    "order": [
        {"order": np.array([0, 10])},
        {"order": np.array([-1])},
        {"order": np.array([0.5])},
        {"order": np.zeros((2, 2), int)},
    ],
    "batch_size": [{"batch_size": 0}, {"batch_size": 2.5}],
}


def calls(bad):
    """Pairs of the argument that must be named and the arguments."""
    return [
        pytest.param(name, kwargs, id=f"{name}{i}")
        for name, several in bad.items()
        for i, kwargs in enumerate(several)
    ]


@pytest.mark.parametrize(("name", "kwargs"), calls(BAD_EPOCHS))
def test_bad_arguments_are_named_and_nothing_changes(name, kwargs, assert_same_bits):
    """Protects from silent nonsense, and a model from half an epoch."""
    net = make_network(kind="all")
    before = everything(net)
    optimizer = optim.SGD(net.parameters, lr=0.1)
    arguments = {"X": X, "y": Y, **kwargs}
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
        net.train_epoch(optimizer, **arguments)
    if name in BAD_CALLS:
        with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
            net.loss_and_grad(**arguments)
    assert_same_bits(list(everything(net).values()), list(before.values()))
    assert net.n_passes == 0


@pytest.mark.parametrize("y", [np.array([0, 3] * 5), np.array([-1] * 10), np.full(10, 0.5)])
def test_classes_are_checked(y):
    """Protects from reading beyond the outputs."""
    net = make_network(loss="cross_entropy")
    with pytest.raises((TypeError, ValueError), match=r"\by\b"):
        net.loss_and_grad(X, y)


def test_targets_out_of_a_losss_domain_are_refused():
    """Protects probabilities and means: log_loss from 0 to 1, poisson from 0 on, gamma above 0."""
    for loss, target in [("log_loss", 1.5), ("log_loss", -0.1), ("poisson", -1.0), ("gamma", 0.0)]:
        net = make_network(loss=loss)
        with pytest.raises(ValueError, match=r"\by\b"):
            net.loss_and_grad(X, np.full_like(Y, target))


def test_an_optimizer_of_other_arrays_is_refused():
    """Protects from an epoch that trains nothing, or something else."""
    net, other = make_network(), make_network()
    copies = [p.copy() for p in net.parameters]
    for params in (other.parameters, copies, [net.parameters[0], copies[1]]):
        with pytest.raises(ValueError, match="optimizer"):
            net.train_epoch(optim.SGD(params, lr=0.1), X, Y)
    with pytest.raises(TypeError, match="optimizer"):
        net.train_epoch("sgd", X, Y)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("n_outputs", lambda: nn.Dense(0)),
        ("n_outputs", lambda: nn.Dense(2.5)),
        ("activation", lambda: nn.Dense(2, "swish")),
        ("activation_parameter", lambda: nn.Dense(2, "relu", activation_parameter=0.1)),
        ("activation_parameter", lambda: nn.Dense(2, "elu", activation_parameter=np.nan)),
        ("norm", lambda: nn.Dense(2, norm="group")),
        ("dropout", lambda: nn.Dense(2, dropout=1.0)),
        ("dropout", lambda: nn.Dense(2, dropout=-0.1)),
        ("skip", lambda: nn.Network(3, [nn.Dense(2, skip=True)])),
        ("n_inputs", lambda: nn.Network(0, [nn.Dense(2)])),
        ("layers", lambda: nn.Network(3, [])),
        ("layers", lambda: nn.Network(3, ["relu"])),
        ("loss", lambda: nn.Network(3, [nn.Dense(2)], loss="mse")),
        ("loss", lambda: nn.Network(3, [nn.Dense(2)], loss="hinge")),
        ("loss_parameter", lambda: nn.Network(3, [nn.Dense(2)], loss_parameter=1.0)),
        ("loss_parameter", lambda: nn.Network(3, [nn.Dense(2)], loss="huber", loss_parameter=-1)),
        ("label_smoothing", lambda: nn.Network(3, [nn.Dense(2)], label_smoothing=0.1)),
        (
            "label_smoothing",
            lambda: nn.Network(3, [nn.Dense(2)], loss="cross_entropy", label_smoothing=1.5),
        ),
        ("dtype", lambda: nn.Network(3, [nn.Dense(2)], dtype=np.int64)),
        ("initializer", lambda: nn.Network(3, [nn.Dense(2)], initializer="xavier")),
        ("rng", lambda: nn.Network(3, [nn.Dense(2)], rng="0")),
    ],
)
def test_bad_networks_are_refused(name, make):
    """Protects from typing errors: the argument is named."""
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
        make()


def test_bad_states_are_refused(assert_same_bits):
    """Protects a network from half a checkpoint."""
    net = make_network(kind="batch")
    before, state = everything(net), net.state_dict()
    for key in ("layers.0.weight", "layers.1.running_var"):
        missing = {k: v for k, v in state.items() if k != key}
        wrong = {**state, key: np.zeros(2), "layers.0.bias": np.ones(5)}
        for bad in (missing, wrong):
            with pytest.raises((KeyError, ValueError), match=re.escape(key)):
                net.load_state_dict(bad)
    with pytest.raises((KeyError, ValueError), match=r"layers\.9"):
        net.load_state_dict({**state, "layers.9.weight": np.zeros(2)})
    assert_same_bits(list(everything(net).values()), list(before.values()))
