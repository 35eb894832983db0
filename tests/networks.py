"""Networks, data for them and what is expected of them: what the tests of `fastgd.nn` share."""

import numpy as np

from fastgd import _core, nn, reference
from fastgd.reference import network

N_INPUTS, WIDTH, N_OUTPUTS = 3, 5, 3
ACTIVATIONS = list(reference.ACTIVATIONS)
PARAMETERS = {"leaky_relu": 0.2, "elu": 1.5}
REGRESSION = [name for name, row in _core.LOSSES.items() if row["task"] != "classification"]
LOSSES = ["cross_entropy", "log_loss", *REGRESSION]
SMOOTHED = {"cross_entropy": 0.1, "log_loss": 0.2}
KINDS = {
    "plain": {},
    "batch": {"norm": "batch"},
    "layer": {"norm": "layer"},
    "dropout": {"dropout": 0.3},
    "skip": {"skip": True},
    "all": {"norm": "batch", "dropout": 0.3, "skip": True},
}


def make_network(activation="tanh", loss="squared_error", kind="plain", *, seed=0, **options):
    """Two layers of a kind, of which the first cannot have a skip, and one of outputs."""
    settings = dict(KINDS[kind], activation_parameter=PARAMETERS.get(activation))
    layers = [
        nn.Dense(WIDTH, activation, **{**settings, "skip": False}),
        nn.Dense(WIDTH, activation, **settings),
        nn.Dense(N_OUTPUTS),
    ]
    options = {"dtype": np.float64, "label_smoothing": SMOOTHED.get(loss, 0.0), **options}
    net = nn.Network(N_INPUTS, layers, loss=loss, rng=seed, **options)
    scatter(net, seed)
    return net


def scatter(net, seed=0):
    """Give every number of a network a value of its own, so that nothing is zero, or one."""
    rng = np.random.default_rng(seed)
    for name, array in zip(net.names, net.parameters, strict=True):
        if not name.endswith("weight"):
            array[...] += rng.uniform(-0.5, 0.5, array.shape)
    for array in net.buffers.values():
        array[...] += rng.uniform(0, 0.5, array.shape)


def make_data(loss="squared_error", n=7, *, seed=1, n_inputs=N_INPUTS, n_outputs=N_OUTPUTS):
    """Rows, targets that suit the loss, and weights of the rows."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_inputs))
    weights = rng.uniform(0.5, 2.0, n)
    if loss == "cross_entropy":
        return X, rng.integers(0, n_outputs, n), weights
    return X, rng.uniform(0.05, 0.95, (n, n_outputs)), weights


def reference_of(net):
    """The same network in `fastgd.reference`."""
    layers = [
        network.Layer(
            layer.n_outputs,
            layer.activation,
            layer.activation_parameter,
            layer.norm,
            layer.dropout,
            layer.skip,
        )
        for layer in net.layers
    ]
    parameters = dict(zip(net.names, map(np.ravel, net.parameters), strict=True))
    return network.Network(
        layers,
        {name: array.tolist() for name, array in parameters.items()},
        {name: array.tolist() for name, array in net.buffers.items()},
        net.loss,
        net.loss_parameter,
        net.label_smoothing,
        net.seed,
        net.n_passes,
    )


def everything(net):
    """Copies of all that a network is, by name."""
    names = [*net.names, *net.buffers]
    arrays = [*net.parameters, *net.buffers.values()]
    return dict(zip(names, [array.copy() for array in arrays], strict=True))
