"""`fastgd.nn`: gradients of every activation, loss and kind of layer; steps of every rule.

They are held to central differences and to `fastgd.reference`; to torch in
``test_torch_networks.py``.
"""

import numpy as np
import pytest
from networks import ACTIVATIONS, KINDS, LOSSES, everything, make_data, make_network, reference_of
from numpy.testing import assert_allclose

from fastgd import optim
from fastgd.reference import network

ALPHA = 0.1


def named(net, arrays):
    """Arrays like the parameters, flattened, by name."""
    return {name: np.ravel(a).copy() for name, a in zip(net.names, arrays, strict=True)}


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_those_of_the_reference(activation, kind, training):
    """Protects backpropagation, running statistics and dropout's masks: 1e-12 for each loss."""
    for loss in LOSSES:
        net = make_network(activation, loss, kind)
        X, y, weights = make_data(loss)
        expected = reference_of(net)
        data, penalty, gradients = network.loss_and_grad(
            expected, X.tolist(), y.tolist(), weights.tolist(), alpha=ALPHA, training=training
        )
        value, grads = net.loss_and_grad(X, y, weights, alpha=ALPHA, training=training)
        assert_allclose(value, data + penalty, rtol=1e-12, err_msg=loss)
        largest = max(abs(g) for gradient in gradients.values() for g in gradient)
        for name, gradient in named(net, grads).items():
            assert_allclose(gradient, gradients[name], 1e-12, 1e-12 * largest, err_msg=name)
        for name, running in net.buffers.items():
            assert_allclose(running, expected.buffers[name], rtol=1e-12, err_msg=name)
        assert net.n_passes == expected.n_passes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_slopes(activation, kind):
    """Protects gradients by what they mean, for each loss: central differences to 1e-7."""
    h = 1e-5
    for loss in LOSSES:
        net = make_network(activation, loss, kind)
        batch = make_data(loss)
        start = net.state_dict()

        def objective(net=net, batch=batch, start=start):
            net.load_state_dict({**start, **dict(zip(net.names, net.parameters, strict=True))})
            return net.loss_and_grad(*batch, alpha=ALPHA)

        gradients = named(net, objective()[1])
        for name, values in zip(net.names, net.parameters, strict=True):
            flat, slopes = values.reshape(-1), []
            for i in range(flat.size):
                value = flat[i]
                flat[i] = value + h
                above = objective()[0]
                flat[i] = value - h
                slopes.append((above - objective()[0]) / (2 * h))
                flat[i] = value
            assert_allclose(gradients[name], slopes, 1e-7, 1e-7, err_msg=f"{loss}, {name}")


RULES = {
    "sgd": ("SGD", {"momentum": 0.9}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {"weight_decay": 0.1}),
    "lion": ("Lion", {}),
    "rmsprop": ("RMSprop", {}),
    "prodigy": ("Prodigy", {}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_epochs_are_those_of_the_reference(rule, kind):
    """Protects the loop: batches, order, rows left over, states of the rule, dropout, sums."""
    name, options = RULES[rule]
    net = make_network("silu", "squared_error", kind)
    X, y, weights = make_data(n=30)
    order = np.random.default_rng(3).permutation(30)
    expected, states = reference_of(net), {}
    optimizer = getattr(optim, name)(net.parameters, lr=0.01, **options)
    for epoch in range(2):
        sums = net.train_epoch(
            optimizer, X, y, order, batch_size=4, sample_weight=weights, alpha=ALPHA
        )
        both = network.train_epoch(
            expected,
            X.tolist(),
            y.tolist(),
            order.tolist(),
            batch_size=4,
            sample_weight=weights.tolist(),
            alpha=ALPHA,
            optimizer=(rule, options),
            lr=0.01,
            states=states,
            t=8 * epoch,
        )
        assert_allclose([sums.data, sums.penalty], both, rtol=1e-9)
    for tensor, array in everything(net).items():
        layer, _, part = tensor.rpartition(".")
        if f"{layer}.running_mean" in net.buffers and part in ("bias", "running_mean"):
            continue  # batch norm takes biases away: their gradients are rounding errors
        theirs = {**expected.parameters, **expected.buffers}[tensor]
        assert_allclose(array.ravel(), theirs, 1e-9, 1e-9, err_msg=tensor)
