"""Networks that are trained to be quantised: gradients, scales, ranges, what they become."""

import pickle
import warnings
from contextlib import suppress
from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose

import fastgd
from fastgd import _core, optim
from fastgd.nn import Dense, Network
from fastgd.quantization import (
    PreparedNetwork,
    QuantizedNetwork,
    convert,
    fake_quantize,
    learned_step_grad,
    prepare,
    quantize,
)

WAYS = {
    "plain": {},
    "4 bits": {"bits": 4, "activation_bits": 4},
    "per tensor": {"per_channel": False, "symmetric": False, "activation_symmetric": True},
    "learned": {"bits": 4, "activation_bits": 4, "learn_scales": True},
    "one learned": {"learn_scales": True, "per_channel": False, "observer": "mse"},
}


@pytest.fixture(params=WAYS)
def way(request):
    """Arguments of `prepare`."""
    return WAYS[request.param]


def problem(dtype=np.float32, n=300):
    """Rows and class numbers, always the same."""
    rng = np.random.default_rng(8)
    X = rng.normal(size=(n, 9)).astype(dtype)
    return X, (X @ rng.normal(size=(9, 4))).argmax(axis=1)


@cache
def trained(dtype):
    """Make a network with layers of all kinds, and train it a little."""
    layers = [
        Dense(16, "relu", norm="batch"),
        Dense(16, "silu", skip=True),
        Dense(8, "tanh", norm="layer"),
        Dense(4),
    ]
    net = Network(9, layers, loss="cross_entropy", dtype=dtype, rng=1)
    opt = optim.Adam(net.parameters, lr=0.01)
    for _ in range(5):
        net.train_epoch(opt, *problem(dtype))
    return pickle.dumps(net)


def network(dtype=np.float32):
    """Return a new copy of that network."""
    return pickle.loads(trained(np.dtype(dtype)))


# ---- what it computes ----------------------------------------------------------------------------


def test_a_prepared_network_predicts_what_it_becomes(way):
    """Protects the promise of `convert`: training sees what the codes will give."""
    X, y = problem()
    prepared = prepare(network(), X, **way)
    opt = optim.Adam(prepared.parameters, lr=0.003)
    for _ in range(3):
        prepared.train_epoch(opt, X, y, batch_size=37)
    found, expected = convert(prepared).predict_raw(X), prepared.predict_raw(X)
    # a rounding may go the other way where a number lies between two codes
    assert np.mean(np.abs(found - expected) > 1e-4) < 0.05
    assert np.abs(found - expected).max() < 0.5


def test_what_is_not_trained_is_what_post_training_gives():
    """Protects that both ways of quantisation see one another's ranges."""
    X, _ = problem()
    net = network()
    both = quantize(net, X), convert(prepare(net, X, observer="minmax"))
    assert both[0].predict_raw(X).tobytes() == both[1].predict_raw(X).tobytes()


def by_hand(prepared, X, y):
    """Loss's gradients of a network of two layers, ReLU between, with LSQ: plain NumPy."""
    plan, n = prepared.plan, len(X)
    arrays = dict(zip(prepared.names, prepared.parameters, strict=True)) | prepared.buffers
    weights = [arrays[f"layers.{i}.weight"] for i in (0, 1)]
    grids = [
        (
            arrays[f"layers.{i}.{of}_scale"],
            arrays[f"layers.{i}.{of}_zero"],
            codes[0],
            codes[1],
            axis,
        )
        for i in (0, 1)
        for of, codes, axis in (("weight", plan.weights, 1), ("input", plan.inputs, None))
    ]

    def fake(x, grid):
        return fake_quantize(x, *grid[:4], axis=grid[4])

    faked = [fake(weights[0], grids[0]), fake(weights[1], grids[2])]
    x = fake(X, grids[1])
    z = x @ faked[0] + arrays["layers.0.bias"]
    h = np.maximum(z, 0)
    seen = fake(h, grids[3])
    p = seen @ faked[1] + arrays["layers.1.bias"]
    delta = (p - y) / n

    def back(grad, x, grid, size):
        factor = 1 / np.sqrt(size * grid[3])
        return learned_step_grad(grad, x, *grid[:4], axis=grid[4], grad_factor=factor)

    by_w1, by_s1, _ = back(seen.T @ delta, weights[1], grids[2], len(weights[1]))
    by_h, by_input, _ = back(delta @ faked[1].T, h, grids[3], len(weights[1]))
    delta0 = by_h * (z > 0)
    by_w0, by_s0, _ = back(x.T @ delta0, weights[0], grids[0], len(weights[0]))
    return {
        "layers.0.weight": by_w0,
        "layers.0.bias": delta0.sum(axis=0),
        "layers.1.weight": by_w1,
        "layers.1.bias": delta.sum(axis=0),
        "layers.0.weight_scale": by_s0,
        "layers.1.weight_scale": by_s1,
        "layers.1.input_scale": by_input,
    }


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("learn_scales", [False, True])
def test_gradients(bits, learn_scales):
    """Protects straight-through gradients, and those of learned scales, in C."""
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(101, 9)), rng.normal(size=(101, 3))
    net = Network(9, [Dense(300, "relu"), Dense(3)], dtype=np.float64, rng=2)
    net.parameters[1][...] = rng.normal(size=300)  # or sums of few codes would be 0, and slopes any
    prepared = prepare(net, X, bits=bits, activation_bits=bits, learn_scales=learn_scales,
                       observer=("percentile", {"percentile": 99.0}))  # fmt: skip
    prepared.predict_raw(X)  # works scales of weights out that are not learned
    expected = by_hand(prepared, X, y)
    _, gradients = prepared.loss_and_grad(X, y)
    assert len(gradients) == (7 if learn_scales else 4)
    for name, found in zip(prepared.names, gradients, strict=True):
        atol = 1e-10 * np.abs(expected[name]).max()
        assert_allclose(found, expected[name], rtol=1e-8, atol=atol, err_msg=name)


def test_ranges_follow_the_batches():
    """Protects moving averages: of each batch's range, after its step; others stay."""
    X, y = problem()
    net = network()
    moving = prepare(net, X, averaging_constant=0.25)
    still = prepare(net, X, observer="minmax")
    low, high = moving.buffers["layers.0.input_range"]
    before = still.state_dict()
    for prepared in (moving, still):
        opt = optim.SGD(prepared.parameters, lr=0.0)
        prepared.train_epoch(opt, 2 * X, y, batch_size=100)
    for rows in (X[:100], X[100:200], X[200:]):
        low += 0.25 * (2 * rows.min().astype(float) - low)
        high += 0.25 * (2 * rows.max().astype(float) - high)
    assert_allclose(moving.buffers["layers.0.input_range"], [low, high], rtol=1e-12)
    scale = moving.buffers["layers.0.input_scale"]
    assert_allclose(scale, (high - low) / 255, rtol=1e-6)
    for name in ("layers.0.input_range", "layers.1.input_scale", "layers.1.input_zero"):
        assert (still.buffers[name] == before[name]).all()


def test_learned_scales_stay_above_zero():
    """Protects from codes that count nothing or less than that."""
    X, y = problem()
    prepared = prepare(network(), X, learn_scales=True)
    opt = optim.SGD(prepared.parameters, lr=10.0)
    with suppress(fastgd.NonFiniteError, fastgd.DivergenceError):
        for _ in range(5):
            prepared.train_epoch(opt, X, y)
    named = zip(prepared.names, prepared.parameters, strict=True)
    assert min(array.min() for name, array in named if name.endswith("scale")) == 2.0**-23


def test_a_refused_batch_changes_nothing():
    """Protects ranges and scales from a batch that is not finite."""
    X, y = problem()
    prepared = prepare(network(), X)
    opt = optim.SGD(prepared.parameters, lr=0.1)
    before = prepared.state_dict()
    bad = X.copy()
    bad[0, 0] = np.nan
    with pytest.raises((fastgd.NonFiniteError, fastgd.DivergenceError)):
        prepared.train_epoch(opt, bad, y, batch_size=300)
    after = prepared.state_dict()
    assert all(np.array_equal(after[k], v) for k, v in before.items() if k != "n_passes")


# ---- how it computes -----------------------------------------------------------------------------


def after_training(way, dtype, batch_size, rows):
    """All there is after an epoch from a fixed start."""
    X, y = problem(dtype, rows)
    prepared = prepare(network(dtype), *problem(dtype)[:1], **way)
    opt = optim.Adam(prepared.parameters, lr=0.01)
    order = np.random.default_rng(4).permutation(rows)
    loss = prepared.train_epoch(opt, X, y, order, batch_size=batch_size, alpha=0.1)
    state = [v for v in prepared.state_dict().values() if isinstance(v, np.ndarray)]
    return [*state, np.array(loss), prepared.predict_raw(X), convert(prepared).predict_raw(X)]


@pytest.mark.parametrize(("rows", "batch_size"), [(515, 128), (9, 1)])
def test_same_bits(way, dtype, n_threads, rows, batch_size, assert_same_bits):
    """Protects reproducibility: any team, learned scales and moving ranges included."""
    actual = after_training(way, dtype, batch_size, rows)
    with fastgd.threads(1):
        assert_same_bits(actual, after_training(way, dtype, batch_size, rows))


def test_training_goes_on_to_the_bit(way, assert_same_bits):
    """Protects resumption: from a state dict, and from a pickle."""
    X, y = problem()
    prepared = prepare(network(), X, **way)
    opt = optim.Adam(prepared.parameters, lr=0.01)
    prepared.train_epoch(opt, X, y)
    loaded, unpickled = prepare(network(), 3 * X, **way), pickle.loads(pickle.dumps(prepared))
    loaded.load_state_dict(prepared.state_dict())
    saved = opt.state_dict()
    prepared.train_epoch(opt, X, y)
    for other in (loaded, unpickled):
        assert isinstance(other, PreparedNetwork)
        onward = optim.Adam(other.parameters, lr=0.01)
        onward.load_state_dict(saved)
        other.train_epoch(onward, X, y)
        assert_same_bits(other.parameters, prepared.parameters)
        assert_same_bits(list(other.buffers.values()), list(prepared.buffers.values()))


# ---- what it is for ------------------------------------------------------------------------------


def test_training_beats_what_comes_after(rng):
    """Protects the reason for all this: weights of 4 bits, trained so, are better than made so.

    Of four networks together, by far less than they are: one alone depends on every rounding.
    """
    X = rng.uniform(-1, 1, (512, 1)).astype(np.float32)
    y = np.sin(3 * X)
    bits = {"bits": 4, "activation_bits": 8}
    after = trained = 0.0
    for seed in range(4):
        net = Network(1, [Dense(32, "relu"), Dense(1)], rng=seed)
        opt = optim.Adam(net.parameters, lr=0.01)
        for _ in range(60):
            net.train_epoch(opt, X, y)
        after += np.abs(quantize(net, X, **bits).predict(X) - y[:, 0]).mean()
        prepared = prepare(net, X, learn_scales=True, **bits)
        opt = optim.Adam(prepared.param_groups(0.003))
        for _ in range(60):
            prepared.train_epoch(opt, X, y)
        trained += np.abs(convert(prepared).predict(X) - y[:, 0]).mean()
    assert trained < after / 2, (trained, after)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", ["log_loss", "multinomial"])
def test_linear_classifiers(name, n_classes, tmp_path, rng):
    """Protects the way of linear models: prepared, trained on labels, converted, saved."""
    linear_model = pytest.importorskip("fastgd.linear_model")
    X = rng.normal(size=(400, 12)).astype(np.float32)
    y = np.array(["a", "b", "c"])[(X @ rng.normal(size=(12, n_classes))).argmax(axis=1)]
    model = linear_model.SGDClassifier(loss="log_loss", random_state=0)
    model = model if name == "log_loss" else linear_model.LogisticRegression()
    model.fit(X, y)
    prepared = prepare(model, X, bits=4)
    opt = optim.Adam(prepared.parameters, lr=0.01)
    for _ in range(5):
        prepared.train_epoch(opt, X, prepared.targets(y))
    small = convert(prepared)
    assert (small.predict(X) == y).mean() > 0.9
    assert small.predict_proba(X).shape == (400, n_classes)
    with pytest.raises(ValueError, match=r"^y must hold labels out of"):
        prepared.targets(["a", "z"])


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression"])
def test_multilayer_perceptrons(kind, rng):
    """Protects estimators: quantised as they are, and prepared, with their labels."""
    neural_network = pytest.importorskip("fastgd.neural_network")
    X = rng.normal(size=(300, 8)).astype(np.float32)
    scores = X @ rng.normal(size=(8, 3)).astype(np.float32)
    y = {
        "binary": np.where(scores[:, 0] > 0, "yes", "no"),
        "multiclass": scores.argmax(axis=1) + 5,
        "multilabel": (scores > 0).astype(int),
        "regression": scores[:, 0],
    }[kind]
    of = neural_network.MLPRegressor if kind == "regression" else neural_network.MLPClassifier
    model = of(hidden_layer_sizes=(16,), max_iter=20, tol=0.0, n_iter_no_change=20, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        model.fit(X, y)
    prepared = prepare(model, X, learn_scales=True)
    opt = optim.Adam(prepared.param_groups(1e-4))
    prepared.train_epoch(opt, X, y if prepared.classes is None else prepared.targets(y))
    for small in (quantize(model, X), convert(prepared)):
        found, expected = small.predict(X), model.predict(X)
        if kind == "multilabel":
            found = (found > 0.5).astype(int)
        if kind == "regression":
            assert np.abs(found - expected).mean() < 0.1 * np.std(expected)
        else:
            assert found.dtype == expected.dtype
            assert (found == expected).mean() > 0.95


def test_linear_regressors(rng):
    """Protects losses and links."""
    linear_model = pytest.importorskip("fastgd.linear_model")
    X = rng.normal(size=(300, 5)).astype(np.float32)
    y = np.exp(0.3 * X @ rng.normal(size=5))
    model = linear_model.GLMRegressor(loss="poisson").fit(X, y)
    prepared = prepare(model, X)
    before = np.abs(convert(prepared).predict(X) - y).mean()
    opt = optim.Adam(prepared.parameters, lr=0.001)
    for _ in range(5):
        prepared.train_epoch(opt, X, y)
    assert np.abs(convert(prepared).predict(X) - y).mean() < 1.2 * before
    with pytest.raises(TypeError, match=r"^targets are made of labels"):
        prepared.targets(y)


def test_what_cannot_be_prepared_is_refused(rng):
    """Protects from arguments that make no sense, by name."""
    X, y = problem()
    net = network()
    for options, words in (
        ({"bits": 1}, "^bits must be an integer from 2 to 8; got 1$"),
        ({"averaging_constant": 0}, "^averaging_constant must be above 0"),
        ({"weight_observer": "mse"}, '^weight_observer must be None or "minmax"'),
    ):
        with pytest.raises(ValueError, match=words):
            prepare(net, X, **options)
    with pytest.raises(TypeError, match=r"^prepared must be a network from prepare; got Network$"):
        convert(net)
    sparse = pytest.importorskip("scipy.sparse")
    prepared = prepare(net, sparse.csr_array(X))
    with pytest.raises(TypeError, match=r"^X must be an array for a network that is prepared"):
        prepared.predict_raw(sparse.csr_array(X))
    linear_model = pytest.importorskip("fastgd.linear_model")
    hinge = linear_model.SGDClassifier(random_state=0).fit(X, y)
    with pytest.raises(TypeError, match=r"^model must have a loss that networks are trained with"):
        prepare(hinge, X)


def test_other_networks_pay_nothing(assert_same_bits):
    """Protects networks that are not prepared: a copy is made, and nothing else changes."""
    X, _ = problem()
    net = network()
    before = [p.copy() for p in net.parameters]
    prepared = prepare(net, X)
    assert_same_bits(net.parameters, before)
    assert not any(np.shares_memory(a, b) for a, b in zip(net.parameters, prepared.parameters,
                                                          strict=True))  # fmt: skip
    assert isinstance(convert(prepared), QuantizedNetwork)
    assert _core.int8_name(portable=True) == "portable"
