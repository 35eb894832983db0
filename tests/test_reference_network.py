"""The executable specification of networks is right: it agrees with independent authorities."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fastgd.reference import network
from fastgd.reference.activations import ACTIVATIONS
from fastgd.reference.network import Layer, Network

TORCHS = {
    "identity": "Identity",
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "softplus": "Softplus",
}
NUMBERS = [-17.0, -3.0, -1.0, -1e-3, 0.0, 1e-3, 0.5, 2.0, 19.0]  # beyond 20 torch's softplus is z


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_torchs(name, torch):
    """Protects values and derivatives, also at corners."""
    module = getattr(torch.nn, TORCHS[name])()
    z = torch.tensor(NUMBERS, dtype=torch.float64, requires_grad=True)
    out = module(z)
    out.sum().backward()
    values, derivatives = zip(*map(ACTIVATIONS[name], NUMBERS), strict=True)
    assert_allclose(values, out.detach().numpy(), rtol=1e-14, atol=1e-16)
    assert_allclose(derivatives, z.grad.numpy(), rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_follow_ieee_arithmetic_where_numbers_end(name):
    """Protects the comparison with C on absurd input: no exception, nan comes out of nan."""
    for z in (-1e308, -800.0, 800.0, 1e308, math.inf):
        value, _ = ACTIVATIONS[name](z)
        assert not math.isnan(value)
    assert name == "relu" or math.isnan(ACTIVATIONS[name](math.nan)[0])


def some_network(layer, *, loss="squared_error", **options):
    """A layer of that kind between two plain ones: 3 inputs, 2 outputs."""
    rng = np.random.default_rng(0)
    layers = [Layer(4, "tanh"), layer, Layer(2)]
    parameters, buffers, n_inputs = {}, {}, 3
    for i, one in enumerate(layers):
        m, name = one.n_outputs, f"layers.{i}"
        parameters[f"{name}.weight"] = rng.normal(size=n_inputs * m).tolist()
        parameters[f"{name}.bias"] = rng.normal(size=m).tolist()
        if one.norm:
            parameters[f"{name}.gamma"] = rng.normal(size=m).tolist()
            parameters[f"{name}.beta"] = rng.normal(size=m).tolist()
        if one.norm == "batch":
            buffers[f"{name}.running_mean"] = rng.normal(size=m).tolist()
            buffers[f"{name}.running_var"] = rng.uniform(0.5, 2, size=m).tolist()
        n_inputs = m
    return Network(layers, parameters, buffers, loss, **options)


def some_data(loss, n=5):
    """Rows, targets that suit the loss, weights."""
    rng = np.random.default_rng(1)
    y = rng.uniform(0.1, 0.9, (n, 2)).tolist()
    if loss == "cross_entropy":
        y = rng.integers(0, 2, n).tolist()
    return rng.normal(size=(n, 3)).tolist(), y, rng.uniform(0.5, 2, n).tolist()


LAYERS = {
    "plain": Layer(4, "silu"),
    "batch": Layer(4, "elu", norm="batch"),
    "layer": Layer(4, "softplus", norm="layer"),
    "dropout": Layer(4, "gelu", dropout=0.4),
    "skip": Layer(4, "leaky_relu", 0.2, skip=True),
    "all": Layer(4, "logistic", norm="batch", dropout=0.3, skip=True),
}
LOSSES = ("cross_entropy", "log_loss", "squared_error", "poisson", "huber")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_are_slopes(kind, loss, training):
    """Protects backpropagation: of each piece, loss, penalty, weights of rows, label smoothing."""
    options = {"label_smoothing": 0.2} if loss in ("cross_entropy", "log_loss") else {}
    net = some_network(LAYERS[kind], loss=loss, **options)
    batch = some_data(loss)

    def objective():
        net.n_passes = 0
        return network.loss_and_grad(net, *batch, alpha=0.1, training=training)

    gradients, h = objective()[2], 1e-6
    assert gradients.keys() == net.parameters.keys()
    for name, values in net.parameters.items():
        for i, value in enumerate(values):
            sides = []
            for side in (-h, h):
                values[i] = value + side
                sides.append(sum(objective()[:2]))
            values[i] = value
            slope = (sides[1] - sides[0]) / (2 * h)
            assert gradients[name][i] == pytest.approx(slope, rel=1e-6, abs=1e-8), name


@pytest.mark.parametrize("kind", ["plain", "batch", "layer", "skip"])
def test_networks_are_torchs(kind, torch):
    """Protects predictions, gradients and running statistics: variances, biased and not."""
    net = some_network(LAYERS[kind])
    X, y, _ = some_data(net.loss)
    tensors = {
        name: torch.tensor(v, dtype=torch.float64, requires_grad=True)
        for name, v in net.parameters.items()
    }
    norms = {
        "batch": lambda z: torch.nn.functional.batch_norm(
            z, *running, tensors["layers.1.gamma"], tensors["layers.1.beta"], True
        ),
        "layer": lambda z: torch.nn.functional.layer_norm(
            z, (4,), tensors["layers.1.gamma"], tensors["layers.1.beta"]
        ),
    }
    running = [torch.tensor(v, dtype=torch.float64) for v in net.buffers.values()]
    h = torch.tensor(X, dtype=torch.float64)
    for i, layer in enumerate(net.layers):
        weight = tensors[f"layers.{i}.weight"].reshape(h.shape[1], -1)
        z = norms.get(layer.norm, lambda z: z)(h @ weight + tensors[f"layers.{i}.bias"])
        own = () if layer.activation_parameter is None else (layer.activation_parameter,)
        out = getattr(torch.nn, TORCHS[layer.activation])(*own)(z)
        h = out + h if layer.skip else out
    (0.5 * (h - torch.tensor(y, dtype=torch.float64)) ** 2).sum(1).mean().backward()
    predictions, _ = network.forward(net, X, training=kind != "batch")
    _, _, gradients = network.loss_and_grad(net, X, y)
    if kind != "batch":
        assert_allclose(predictions, h.detach().numpy(), rtol=1e-13)
    for name, tensor in tensors.items():
        assert_allclose(gradients[name], tensor.grad.numpy(), rtol=1e-10, atol=1e-13)
    for ours, theirs in zip(net.buffers.values(), running, strict=True):
        assert_allclose(ours, theirs.numpy(), rtol=1e-14)


def test_a_row_counts_as_often_as_its_weight():
    """Protects the objective: a weight of 2 is the row twice, also beside the penalty."""
    X, y, _ = some_data("squared_error")
    weighted = network.loss_and_grad(some_network(LAYERS["plain"]), X, y, [2, 1, 1, 1, 1], alpha=1)
    twice = network.loss_and_grad(some_network(LAYERS["plain"]), [X[0], *X], [y[0], *y], alpha=1)
    assert_allclose(weighted[:2], twice[:2], rtol=1e-14)
    for name, gradient in twice[2].items():
        assert_allclose(weighted[2][name], gradient, rtol=1e-13)


def test_dropout_draws_its_rate_and_no_pattern():
    """Protects dropout: its rate, and independence of seeds, which passes and layers have."""
    stay = np.array([[network.stays(s, i, 0.3) for i in range(4000)] for s in range(8)])
    assert stay.mean() == pytest.approx(0.7, abs=0.01)
    assert abs(np.corrcoef(stay) - np.eye(8)).max() < 0.06
    assert abs(np.corrcoef(stay.reshape(-1, 16).T) - np.eye(16)).max() < 0.1
    out, back = network.dropped([[1.0] * 1000], 0.3, 0)
    assert {round(v, 12) for v in out[0]} == {0.0, round(1 / 0.7, 12)}
    assert back([[1.0] * 1000])[0] == out


def test_epochs_go_through_all_rows_with_any_rule():
    """Protects the loop: short last batches, states, rules of all parameters together."""
    X, y, weights = some_data("squared_error")
    for rule in ("sgd", ("sgd", {"momentum": 0.9}), "adam", "lion", "prodigy"):
        net, states = some_network(LAYERS["batch"]), {}
        options = {"batch_size": 3, "optimizer": rule, "lr": 0.02, "states": states}
        curve = [
            network.train_epoch(net, X, y, sample_weight=weights, alpha=0.1, t=2 * i, **options)
            for i in range(30)
        ]
        assert sum(curve[-1]) < sum(curve[0])
        assert net.n_passes == 60
