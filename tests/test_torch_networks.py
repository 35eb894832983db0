"""`fastgd.nn` held to torch: gradients, steps, and networks there and back."""

import numpy as np
import pytest
from networks import ACTIVATIONS, KINDS, LOSSES, SMOOTHED, make_data, make_network
from numpy.testing import assert_allclose

from fastgd import nn, optim
from fastgd.datasets import DataError
from fastgd.reference.network import stays

torch = pytest.importorskip("torch")
ft = pytest.importorskip("fastgd.torch")
F = torch.nn.functional
ALPHA = 0.1


@pytest.fixture(autouse=True)
def _one_thread():
    """Spare small tensors torch's threads, which wait for each other for longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Kept(torch.nn.Module):
    """Dropout with the masks of a network."""

    def __init__(self, net, layer):
        super().__init__()
        self.rate, self.n_layers = net.layers[layer].dropout, len(net.layers)
        self.next = net.seed + net.n_passes * self.n_layers + layer

    def forward(self, h):
        """Let through what the network lets through, in every training pass another mask."""
        mask = torch.tensor([stays(self.next, i, self.rate) for i in range(h.numel())])
        self.next += self.n_layers
        return h * mask.reshape(h.shape) / (1 - self.rate)


def twin_of(net):
    """The same network in torch, in training mode, with our dropout."""
    twin = net.to_torch().train()
    holders = [one for one in twin.modules() if isinstance(one, torch.nn.Sequential)]
    dropping = iter(k for k, layer in enumerate(net.layers) if layer.dropout)
    for holder in holders:
        for name, child in holder.named_children():
            if isinstance(child, torch.nn.Dropout):
                setattr(holder, name, Kept(net, next(dropping)))
    return twin


def insensitive(p, y):
    return F.relu((p - y).abs() - 0.1)


def tweedie(p, y):
    return torch.exp(0.5 * p) / 0.5 + y * torch.exp(-0.5 * p) / 0.5


TORCHS = {
    "cross_entropy": lambda p, y: F.cross_entropy(p, y, reduction="none", label_smoothing=0.1)[
        :, None
    ],
    "log_loss": lambda p, y: F.binary_cross_entropy_with_logits(p, 0.8 * y + 0.1, reduction="none"),
    "squared_error": lambda p, y: 0.5 * (p - y) ** 2,
    "huber": lambda p, y: F.huber_loss(p, y, reduction="none", delta=0.1),
    "epsilon_insensitive": insensitive,
    "squared_epsilon_insensitive": lambda p, y: insensitive(p, y) ** 2,
    "pinball": lambda p, y: 0.5 * (p - y).abs(),
    "expectile": lambda p, y: 0.5 * (p - y) ** 2,
    "poisson": lambda p, y: F.poisson_nll_loss(p, y, reduction="none"),
    "gamma": lambda p, y: p + y * torch.exp(-p),
    "tweedie": tweedie,
}


def objective(twin, loss, X, y, weights=None, alpha=ALPHA):
    """The objective of a batch."""
    losses = TORCHS[loss](twin(X), y).sum(1)
    weights = torch.ones(len(X), dtype=X.dtype) if weights is None else weights
    squares = sum((linear.weight**2).sum() for linear in layers_of(twin))
    return ((weights * losses).sum() + 0.5 * alpha * squares) / weights.sum()


def layers_of(twin):
    """The Linears of a twin."""
    return [one for one in twin.modules() if isinstance(one, torch.nn.Linear)]


def as_ours(net, tensors):
    """Tensors like the parameters of a twin as arrays like those of the network."""
    arrays = [tensor.detach().numpy() for tensor in tensors]
    return [a.T if a.ndim == 2 else a for a in arrays]


def assert_same_tensors(ours, theirs, names, tolerance):
    """Fail unless all are near, and say which is not."""
    for name, a, b in zip(names, ours, theirs, strict=True):
        assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)


# ---- gradients -----------------------------------------------------------------------------------


def test_every_loss_is_compared():
    """Protects the tests below: a new loss needs a line here."""
    assert TORCHS.keys() == set(LOSSES)
    assert SMOOTHED == {"cross_entropy": 0.1, "log_loss": 0.2}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_autograds(activation, kind, loss):
    """Protects backpropagation: every activation, loss and kind of layer, to 1e-10."""
    net = make_network(activation, loss, kind)
    twin = twin_of(net)
    X, y, weights = make_data(loss)
    value = objective(twin, loss, *map(torch.tensor, (X, y, weights)))
    value.backward()
    ours, gradients = net.loss_and_grad(X, y, weights, alpha=ALPHA)
    assert_allclose(ours, value.item(), rtol=1e-10)
    theirs = as_ours(net, [p.grad for p in twin.parameters()])
    assert_same_tensors(gradients, theirs, net.names, 1e-10)
    running = [b for name, b in twin.named_buffers() if "running" in name]
    assert_same_tensors(net.buffers.values(), as_ours(net, running), net.buffers, 1e-12)


# ---- steps ---------------------------------------------------------------------------------------

RULES = {
    "sgd": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam": ("Adam", {"lr": 0.01}),
    "adamw": ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
}


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_ten_steps_are_torchs(rule, kind, loss):
    """Protects training: batches, order, statistics, dropout and the rule, over ten steps."""
    name, settings = RULES[rule]
    net = make_network("silu", loss, kind)
    twin = twin_of(net)
    X, y, weights = make_data(loss, 38)
    order = np.random.default_rng(2).permutation(38)
    ours = getattr(optim, name)(net.parameters, **settings)
    theirs = getattr(torch.optim, name)(twin.parameters(), **settings)
    sums = net.train_epoch(
        ours, X, y, order, batch_size=4, sample_weight=weights, alpha=ALPHA
    )  # the last of ten batches has two rows
    total = 0.0
    for batch in torch.tensor(order).split(4):
        theirs.zero_grad()
        rows = (torch.tensor(a)[batch] for a in (X, y, weights))
        value = objective(twin, loss, *rows)
        value.backward()
        theirs.step()
        total += value.item() * len(batch)
    assert_allclose(sums.data + sums.penalty, total / 38, rtol=1e-9)
    # a bias before batch norm has no gradient but rounding errors, which Adam makes large
    for i, layer in enumerate(net.layers):
        if layer.norm == "batch" and rule.startswith("adam"):
            net.parameters[net.names.index(f"layers.{i}.bias")][:] = 0
            layers_of(twin)[i].bias.detach().zero_()
    assert_same_tensors(net.parameters, as_ours(net, twin.parameters()), net.names, 1e-9)


def test_clipped_steps_are_torchs():
    """Protects max_norm: the norm is that of all gradients of a step."""
    net = make_network("tanh", "cross_entropy", "layer")
    twin = twin_of(net)
    X, y, _ = make_data("cross_entropy", 40)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.5)
    net.train_epoch(optim.SGD(net.parameters, lr=0.5, max_norm=0.05), X, y, batch_size=8)
    for batch in torch.arange(40).split(8):
        optimizer.zero_grad()
        objective(
            twin, "cross_entropy", torch.tensor(X)[batch], torch.tensor(y)[batch], alpha=0.0
        ).backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.05)
        optimizer.step()
    # torch divides by the norm + 1e-6
    assert_same_tensors(net.parameters, as_ours(net, twin.parameters()), net.names, 1e-5)


# ---- to torch, and back --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_networks_go_to_torch_and_back(activation, kind, dtype, assert_same_bits):
    """Protects both ways: same predictions, and the same network again to the last bit."""
    net = make_network(activation, kind=kind, dtype=dtype)
    module = net.to_torch()
    X = make_data()[0].astype(dtype)
    tolerance = 1e-12 if dtype == np.float64 else 2e-5
    with torch.no_grad():
        predictions = module(torch.from_numpy(X)).numpy()
    assert predictions.dtype == dtype
    assert_allclose(predictions, net.predict_raw(X), rtol=tolerance, atol=tolerance)
    again = nn.Network.from_torch(module, loss=net.loss)
    for a, b in zip(again.layers, net.layers, strict=True):
        assert (a.n_outputs, a.activation, a.norm, a.dropout, a.skip) == (
            b.n_outputs, b.activation, b.norm, b.dropout, b.skip,
        )  # fmt: skip
    assert_same_bits(again.parameters, net.parameters)
    assert_same_bits(list(again.buffers.values()), list(net.buffers.values()))
    assert_same_bits(again.predict_raw(X), net.predict_raw(X))


def test_going_to_torch_draws_nothing():
    """Protects the reproducibility of what is drawn by torch afterwards."""
    before = torch.get_rng_state()
    make_network(kind="all").to_torch()
    assert (torch.get_rng_state() == before).all()


def test_nothing_is_shared():
    """Protects a network from what is trained elsewhere."""
    net = make_network()
    before = [p.copy() for p in net.parameters]
    module = net.to_torch()
    other = nn.Network.from_torch(module)
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
    for p, start, theirs in zip(net.parameters, before, other.parameters, strict=True):
        assert (p == start).all()
        assert (theirs == start).all()


def test_torchs_own_networks_are_read():
    """Protects what people have: defaults of torch, no biases, nested Sequentials, no affine."""
    tnn, rectifier = torch.nn, torch.nn.ReLU()  # which comes twice
    module = tnn.Sequential(
        tnn.Sequential(tnn.Linear(3, 4, bias=False), tnn.LayerNorm(4, bias=False)),
        tnn.Sequential(rectifier, tnn.Linear(4, 4)),
        tnn.BatchNorm1d(4, affine=False),
        rectifier,
        tnn.Dropout(0.25),
        ft.Skip(tnn.Linear(4, 4), tnn.LeakyReLU(0.3)),
        tnn.Linear(4, 2),
    )
    net = nn.Network.from_torch(module, loss="cross_entropy", label_smoothing=0.1, rng=0)
    assert net.layers[1] == nn.Dense(4, "relu", norm="batch", dropout=0.25)
    assert net.layers[2] == nn.Dense(4, "leaky_relu", activation_parameter=0.3, skip=True)
    assert (net.loss, net.label_smoothing) == ("cross_entropy", 0.1)
    X = torch.randn(7, 3)
    with torch.no_grad():
        expected = module.eval()(X).numpy()
    assert_allclose(net.predict_raw(X.numpy()), expected, rtol=2e-5, atol=1e-6)


def test_what_cannot_be_expressed_is_refused():
    """Protects from a network that would predict, or train, otherwise."""
    tnn = torch.nn
    linear = tnn.Linear(3, 3)
    for modules, words in [
        ([], "must begin with a Linear"),
        ([tnn.ReLU(), linear], r"module 0 \(ReLU\) must follow a Linear"),
        (
            [linear, tnn.ReLU(), tnn.BatchNorm1d(3)],
            r"module 2 \(BatchNorm1d\) must follow a Linear",
        ),
        ([linear, tnn.Dropout(0.5), tnn.ReLU()], r"module 2 \(ReLU\) .* in this order"),
        ([linear, tnn.ReLU(), tnn.ReLU()], r"module 2 \(ReLU\)"),
        ([linear, tnn.Conv1d(3, 3, 1)], r"module 1 \(Conv1d\) is none of Linear"),
        ([linear, tnn.Softmax(dim=1)], r"module 1 \(Softmax\) is none of"),
        ([linear, tnn.GELU("tanh")], r"must have approximate='none', got 'tanh'"),
        ([linear, tnn.Softplus(beta=2)], "must have beta=1, got 2"),
        ([linear, tnn.LayerNorm(3, eps=1e-3)], "must have eps=1e-05, got 0.001"),
        ([linear, tnn.BatchNorm1d(3, momentum=0.5)], "must have momentum=0.1, got 0.5"),
        ([linear, tnn.BatchNorm1d(3, track_running_stats=False)], "track_running_stats=True"),
        ([ft.Skip(linear, tnn.Linear(3, 3))], r"module 0 \(Skip\) must be of one layer, got 2"),
        ([linear, tnn.Linear(3, 3).double()], "one dtype, got torch.float32, torch.float64"),
        ([tnn.Linear(3, 3).bfloat16()], "float32 or float64, got torch.bfloat16"),
    ]:
        with pytest.raises(ValueError, match=words):
            nn.Network.from_torch(tnn.Sequential(*modules))
    with pytest.raises(ValueError, match=r"module itself \(Linear\) must be a torch.nn.Sequential"):
        nn.Network.from_torch(linear)


def test_absence_of_torch_names_the_extra(without_library):
    """Protects who installed fastgd alone from a riddle."""
    net = make_network()
    without_library("torch")
    for method in (net.to_torch, lambda: nn.Network.from_torch(None)):
        with pytest.raises(DataError, match=r"fastgd\[torch\]"):
            method()
