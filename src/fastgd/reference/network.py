"""Network: layers, backpropagation, loss, and the whole loop.

Every piece of a layer is a function that returns its value and a function that takes a gradient
back through it (Rumelhart, Hinton and Williams, 1986): from the gradient of the loss with respect
to what came out to that with respect to what went in, and to those of the parameters in between, a
dict. A network is a list of `Layer`, and two dicts of lists of floats, its parameters and its
buffers, by name: ``"layers.0.weight"`` and so on. A weight is (inputs, outputs), row after row; a
batch is a list of rows.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .activations import ACTIVATIONS
from .formats import hashed, seed_of
from .linear_model import ONE_FOR_ALL
from .losses import LOSSES, log_loss, multinomial
from .rules import RULES, State, Vector

Matrix = list[Vector]
Tensors = dict[str, Vector]
Back = Callable[[Matrix], tuple[Matrix, Tensors]]

EPS = 1e-5
"""What normalisation adds to a variance."""
MOMENTUM = 0.1
"""How far running statistics go towards those of a batch."""


@dataclass(frozen=True)
class Layer:
    """One layer: x W + b, normalised, activated, dropped out, and the input added, in this order.

    Parameters
    ----------
    n_outputs : int
        Units.
    activation : str, default="identity"
        A key of `ACTIVATIONS`.
    activation_parameter : float, optional
        The activation's own parameter, if it has one.
    norm : {"batch", "layer"}, optional
        What is normalised: each unit over the batch, or each row over the units.
    dropout : float, default=0
        The part of the activations that become zero in training.
    skip : bool, default=False
        Whether the layer's input is added to what comes out (He et al., 2016, eq. 1).
    """

    n_outputs: int
    activation: str = "identity"
    activation_parameter: float | None = None
    norm: str | None = None
    dropout: float = 0.0
    skip: bool = False


# --- the pieces of a layer ------------------------------------------------------------------------


def affine(x: Matrix, weight: Vector, bias: Vector) -> tuple[Matrix, Back]:
    """Return x W + b, and the way back.

    Examples
    --------
    >>> out, back = affine([[1.0, 2.0]], [3.0, 4.0], [0.5])
    >>> out, back([[10.0]])
    ([[11.5]], ([[30.0, 40.0]], {'weight': [10.0, 20.0], 'bias': [10.0]}))
    """
    m = len(bias)
    rows = [weight[i : i + m] for i in range(0, len(weight), m)]
    columns = _transposed(rows)

    def back(d: Matrix) -> tuple[Matrix, Tensors]:
        to_outputs = _transposed(d)
        to_weight = [_dot(xs, ds) for xs in _transposed(x) for ds in to_outputs]
        to_x = [[_dot(ds, row) for row in rows] for ds in d]
        return to_x, {"weight": to_weight, "bias": [sum(ds) for ds in to_outputs]}

    return [[_dot(xs, c) + b for c, b in zip(columns, bias, strict=True)] for xs in x], back


def standardize(x: Vector) -> tuple[Vector, Callable[[Vector], Vector]]:
    """Return (x - mean) / sqrt(variance + 1e-5) of a vector, and the way back.

    The variance is the mean square of x - mean. Both depend on every number: the gradient loses
    what is constant, and what is along the result (Ioffe and Szegedy, 2015, section 3).

    Examples
    --------
    >>> out, back = standardize([1.0, 3.0])
    >>> [round(v, 4) for v in out], [round(v, 4) for v in back([1.0, 1.0])]
    ([-1.0, 1.0], [0.0, 0.0])
    """
    n = len(x)
    mean, variance = moments(x)
    scale = 1.0 / math.sqrt(variance + EPS)
    out = [scale * (v - mean) for v in x]

    def back(d: Vector) -> Vector:
        constant, along = sum(d) / n, _dot(d, out) / n
        return [scale * (a - constant - along * b) for a, b in zip(d, out, strict=True)]

    return out, back


def moments(x: Sequence[float]) -> tuple[float, float]:
    """Return the mean, and the variance: the mean square of the differences from it.

    Examples
    --------
    >>> moments([1.0, 3.0])
    (2.0, 1.0)
    """
    mean = sum(x) / len(x)
    return mean, sum((v - mean) ** 2 for v in x) / len(x)


def layer_norm(z: Matrix) -> tuple[Matrix, Back]:
    """Standardise each row (Ba, Kiros and Hinton, 2016, eq. 4)."""
    outs, backs = zip(*map(standardize, z), strict=True)
    return list(outs), lambda d: ([back(ds) for back, ds in zip(backs, d, strict=True)], {})


def batch_norm(z: Matrix) -> tuple[Matrix, Back]:
    """Standardise each unit over the rows of a batch (Ioffe and Szegedy, 2015, algorithm 1)."""
    outs, back = layer_norm(_transposed(z))
    return _transposed(outs), lambda d: (_transposed(back(_transposed(d))[0]), {})


def running_norm(z: Matrix, mean: Vector, variance: Vector) -> tuple[Matrix, Back]:
    """Standardise each unit by statistics that are given: Ioffe and Szegedy (2015), algorithm 2.

    Examples
    --------
    >>> out, back = running_norm([[5.0]], [1.0], [4.0])
    >>> round(out[0][0], 4), round(back([[1.0]])[0][0][0], 4)
    (2.0, 0.5)
    """
    scales = [1.0 / math.sqrt(v + EPS) for v in variance]
    out = [[s * (v - m) for s, v, m in zip(scales, zs, mean, strict=True)] for zs in z]
    return out, lambda d: ([[s * v for s, v in zip(scales, ds, strict=True)] for ds in d], {})


def update_running(mean: Vector, variance: Vector, z: Matrix) -> None:
    """Take running statistics a tenth of the way to those of a batch, in place.

    The variance of n rows is the unbiased one, by n - 1 (Ioffe and Szegedy, 2015, algorithm 2);
    that of one row counts as 0.

    Examples
    --------
    >>> mean, variance = [0.0], [1.0]
    >>> update_running(mean, variance, [[1.0], [3.0]])
    >>> [round(v, 4) for v in mean + variance]
    [0.2, 1.1]
    """
    n = len(z)
    for j, (m, v) in enumerate(map(moments, _transposed(z))):
        mean[j] += MOMENTUM * (m - mean[j])
        variance[j] += MOMENTUM * (v * n / max(n - 1, 1) - variance[j])


def scaled(z: Matrix, gamma: Vector, beta: Vector) -> tuple[Matrix, Back]:
    """Return gamma z + beta, each unit by its own.

    Examples
    --------
    >>> out, back = scaled([[2.0]], [3.0], [1.0])
    >>> out, back([[10.0]])
    ([[7.0]], ([[30.0]], {'gamma': [20.0], 'beta': [10.0]}))
    """

    def back(d: Matrix) -> tuple[Matrix, Tensors]:
        units = list(zip(_transposed(d), _transposed(z), strict=True))
        to_gamma, to_beta = [_dot(ds, zs) for ds, zs in units], [sum(ds) for ds, _ in units]
        to_z = [[g * v for g, v in zip(gamma, ds, strict=True)] for ds in d]
        return to_z, {"gamma": to_gamma, "beta": to_beta}

    return [[g * v + b for g, v, b in zip(gamma, zs, beta, strict=True)] for zs in z], back


def activated(z: Matrix, activation: str, parameter: float | None) -> tuple[Matrix, Back]:
    """Apply an activation to every number.

    Examples
    --------
    >>> out, back = activated([[2.0, -2.0]], "relu", None)
    >>> out, back([[10.0, 10.0]])
    ([[2.0, 0.0]], ([[10.0, 0.0]], {}))
    """
    options = () if parameter is None else (parameter,)
    both = [[ACTIVATIONS[activation](v, *options) for v in zs] for zs in z]

    def back(d: Matrix) -> tuple[Matrix, Tensors]:
        pairs = (zip(ds, slopes, strict=True) for ds, slopes in zip(d, both, strict=True))
        return [[v * slope for v, (_, slope) in row] for row in pairs], {}

    return [[value for value, _ in row] for row in both], back


def dropped(h: Matrix, rate: float, seed: int) -> tuple[Matrix, Back]:
    """Make some numbers zero, and the others larger to make up for it (Srivastava et al., 2014).

    Parameters
    ----------
    h : list of list of float, shape (n, units)
        Activations.
    rate : float
        The part of them that become zero, but for chance; those that stay are divided by 1 - rate.
    seed : int
        With an element's number it says what stays (`stays`), whoever computes it.
    """
    units = len(h[0])

    def through(x: Matrix) -> tuple[Matrix, Tensors]:
        return [
            [v / (1.0 - rate) if stays(seed, i * units + j, rate) else 0.0 for j, v in row]
            for i, row in enumerate(map(enumerate, x))
        ], {}

    return through(h)[0], through


def stays(seed: int, element: int, rate: float) -> bool:
    """Return whether dropout leaves an element as it is: a hash of its number, as a part of 1.

    Examples
    --------
    >>> [stays(0, element, 0.5) for element in range(6)]
    [False, False, True, False, True, False]
    """
    return hashed(element, seed_of(seed, 0)) >= int(rate * 2**32)


# --- a layer, a network ---------------------------------------------------------------------------


@dataclass
class Network:
    """A network: what it is made of, and what it remembers.

    Parameters
    ----------
    layers : sequence of Layer
        The layers; the last one's outputs are the predictions.
    parameters : dict of str to list of float
        ``"layers.0.weight"`` (inputs x outputs), ``"layers.0.bias"``, and of layers that normalise
        ``"layers.0.gamma"`` and ``"layers.0.beta"``.
    buffers : dict of str to list of float
        ``"layers.0.running_mean"`` and ``"layers.0.running_var"`` of layers with batch norm.
    loss : str
        ``"cross_entropy"``, ``"log_loss"``, or a key of `LOSSES` that is of regression.
    loss_parameter : float, optional
        The loss's own parameter, if it has one.
    label_smoothing : float, default=0
        The part of the targets of a classification that goes to all classes alike (Szegedy et al.,
        2016, section 7).
    seed, n_passes : int, default=0
        Seed of dropout's generator, and the training passes so far.

    Examples
    --------
    Learn exclusive or:

    >>> network = Network(
    ...     [Layer(2, "tanh"), Layer(1)],
    ...     {
    ...         "layers.0.weight": [1.0, 1.0, 1.0, 1.0],
    ...         "layers.0.bias": [-0.5, -1.5],
    ...         "layers.1.weight": [1.0, -1.0],
    ...         "layers.1.bias": [0.0],
    ...     },
    ...     {},
    ...     loss="log_loss",
    ... )
    >>> X = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    >>> y = [[0.0], [1.0], [1.0], [0.0]]
    >>> for t in range(100):
    ...     losses = train_epoch(network, X, y, batch_size=4, lr=1.0, states={}, t=t)
    >>> [p > 0.0 for (p,) in forward(network, X)[0]]
    [False, True, True, False]
    """

    layers: Sequence[Layer]
    parameters: Tensors
    buffers: Tensors
    loss: str
    loss_parameter: float | None = None
    label_smoothing: float = 0.0
    seed: int = 0
    n_passes: int = 0

    def of_layer(self, number: int, tensors: Tensors) -> Tensors:
        """Return those of a layer's tensors, by the last part of their names."""
        start = f"layers.{number}."
        return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def layer_forward(network: Network, number: int, x: Matrix, training: bool) -> tuple[Matrix, Back]:
    """Apply one layer: its output, and the way back.

    Parameters
    ----------
    network : Network
        Whose layer it is; running statistics move in training.
    number : int
        Its place, from 0 on.
    x : list of list of float, shape (n, n_inputs)
        What goes in.
    training : bool
        Whether batch statistics and dropout are used, or running statistics and all units.

    Returns
    -------
    out : list of list of float, shape (n, n_outputs)
        What comes out.
    back : callable
        From the gradient of that to that of `x` and those of the parameters, by name.
    """
    layer = network.layers[number]
    own = network.of_layer(number, network.parameters)
    running = network.of_layer(number, network.buffers)
    pieces: list[Callable[[Matrix], tuple[Matrix, Back]]] = []
    pieces.append(partial(affine, weight=own["weight"], bias=own["bias"]))
    if layer.norm == "layer":
        pieces.append(layer_norm)
    elif layer.norm == "batch" and training:
        pieces.append(batch_norm)
    elif layer.norm == "batch":
        mean, variance = running["running_mean"], running["running_var"]
        pieces.append(partial(running_norm, mean=mean, variance=variance))
    if layer.norm:
        pieces.append(partial(scaled, gamma=own["gamma"], beta=own["beta"]))
    parameter = layer.activation_parameter
    pieces.append(partial(activated, activation=layer.activation, parameter=parameter))
    if layer.dropout and training:
        seed = network.seed + network.n_passes * len(network.layers) + number
        pieces.append(partial(dropped, rate=layer.dropout, seed=seed))

    h, backs = x, []
    for piece in pieces:
        if piece is batch_norm:
            update_running(running["running_mean"], running["running_var"], h)
        h, back_through = piece(h)
        backs.append(back_through)

    def back(d: Matrix) -> tuple[Matrix, Tensors]:
        gradients: Tensors = {}
        to_x = d
        for back_through in reversed(backs):
            to_x, new = back_through(to_x)
            gradients.update({f"layers.{number}.{name}": g for name, g in new.items()})
        return _sum(to_x, d) if layer.skip else to_x, gradients

    return _sum(h, x) if layer.skip else h, back


def forward(network: Network, X: Matrix, *, training: bool = False) -> tuple[Matrix, Back]:
    """Return a network's predictions before the link, and the way back.

    Parameters
    ----------
    network : Network
        The network.
    X : list of list of float, shape (n, n_inputs)
        Data.
    training : bool, default=False
        Whether batch statistics and dropout are used, or running statistics and all units.

    Returns
    -------
    out : list of list of float, shape (n, n_outputs)
        Predictions.
    back : callable
        From the gradient of the predictions to that of `X` and those of all parameters, by name.
    """
    h, backs = X, []
    for number in range(len(network.layers)):
        h, back_through = layer_forward(network, number, h, training)
        backs.append(back_through)

    def back(d: Matrix) -> tuple[Matrix, Tensors]:
        gradients: Tensors = {}
        for back_through in reversed(backs):
            d, new = back_through(d)
            gradients.update(new)
        return d, gradients

    return h, back


# --- the objective --------------------------------------------------------------------------------


def cross_entropy(p: Vector, y: int, smoothing: float = 0.0) -> tuple[float, Vector]:
    """Loss of softmax, with part of the target spread over all classes (Szegedy et al., 2016).

    The loss is linear in the target: (1 - e) times `multinomial` of the class, and e / K times
    that of each of the K classes.

    Examples
    --------
    >>> cross_entropy([0.0, 0.0], 1, smoothing=0.5)[1]
    [0.25, -0.25]
    """
    value, derivatives = multinomial(p, y)
    if smoothing:
        of_all = [multinomial(p, k) for k in range(len(p))]
        part = smoothing / len(p)
        value = (1.0 - smoothing) * value + part * sum(v for v, _ in of_all)
        derivatives = [
            (1.0 - smoothing) * d + part * sum(column)
            for d, column in zip(
                derivatives, zip(*(ds for _, ds in of_all), strict=True), strict=True
            )
        ]
    return value, derivatives


def binary_cross_entropy(p: float, y: float, smoothing: float = 0.0) -> tuple[float, float]:
    """Logistic loss of a target from 0 to 1, part of which goes to both classes alike.

    With the target s = (1 - e) y + e / 2: s `log_loss` (p, 1) + (1 - s) `log_loss` (p, -1).

    Examples
    --------
    >>> binary_cross_entropy(0.0, 0.75)[1]
    -0.25
    """
    s = (1.0 - smoothing) * y + 0.5 * smoothing
    (positive, rise), (negative, fall) = log_loss(p, 1.0), log_loss(p, -1.0)
    return s * positive + (1.0 - s) * negative, s * rise + (1.0 - s) * fall


def row_loss(network: Network, p: Vector, y: Any) -> tuple[float, Vector]:
    """Return the loss of one row, summed over the outputs, and its derivatives by the predictions.

    Parameters
    ----------
    network : Network
        Whose loss it is.
    p : list of float, shape (n_outputs,)
        Predictions before the link.
    y : int or sequence of float, shape (n_outputs,)
        Number of the class for ``"cross_entropy"``, else a target for each output.

    Returns
    -------
    value : float
        The loss.
    derivatives : list of float, shape (n_outputs,)
        Its derivative with respect to each prediction.
    """
    if network.loss == "cross_entropy":
        return cross_entropy(p, int(y), network.label_smoothing)
    if network.loss == "log_loss":
        loss = partial(binary_cross_entropy, smoothing=network.label_smoothing)
        both = list(map(loss, p, y))
    else:
        options = () if network.loss_parameter is None else (network.loss_parameter,)
        both = [LOSSES[network.loss](pk, yk, *options) for pk, yk in zip(p, y, strict=True)]
    return sum(value for value, _ in both), [derivative for _, derivative in both]


def loss_and_grad(
    network: Network,
    X: Matrix,
    y: Sequence[Any],
    sample_weight: Sequence[float] | None = None,
    *,
    alpha: float = 0.0,
    training: bool = True,
) -> tuple[float, float, Tensors]:
    """Return the objective of a batch, in two parts, and its gradient.

    (sum_i s_i sum_k loss_ik + alpha / 2 ||W||^2) / sum_i s_i, where W are the weights of all
    layers, not biases, gammas and betas: scikit-learn's objective. A training pass moves running
    statistics, and is counted.

    Parameters
    ----------
    network : Network
        The network.
    X : list of list of float, shape (n, n_inputs)
        Data.
    y : sequence, shape (n,)
        Of each row what `row_loss` takes.
    sample_weight : sequence of float, shape (n,), optional
        Weight of each row, 1 by default.
    alpha : float, default=0
        Strength of the penalty.
    training : bool, default=True
        Whether batch statistics and dropout are used.

    Returns
    -------
    data, penalty : float
        The two parts of the objective.
    gradients : dict of str to list of float
        The gradient of their sum, as the parameters.
    """
    s = [1.0] * len(X) if sample_weight is None else sample_weight
    total = sum(s)
    predictions, back = forward(network, X, training=training)
    network.n_passes += training
    losses = [row_loss(network, p, yi) for p, yi in zip(predictions, y, strict=True)]
    data = sum(si * value for si, (value, _) in zip(s, losses, strict=True)) / total
    _, gradients = back(
        [[si * d / total for d in ds] for si, (_, ds) in zip(s, losses, strict=True)]
    )
    penalty = 0.0
    for name, w in network.parameters.items():
        if name.endswith(".weight"):
            penalty += 0.5 * alpha * _dot(w, w) / total
            gradients[name] = [
                g + alpha * wi / total for g, wi in zip(gradients[name], w, strict=True)
            ]
    return data, penalty, gradients


# --- training -------------------------------------------------------------------------------------


def train_epoch(
    network: Network,
    X: Matrix,
    y: Sequence[Any],
    order: Sequence[int] | None = None,
    *,
    batch_size: int = 32,
    sample_weight: Sequence[float] | None = None,
    alpha: float = 0.0,
    optimizer: str | tuple[str, dict[str, Any]] = "sgd",
    lr: float,
    states: dict[str, State],
    t: int = 0,
) -> tuple[float, float]:
    """Train a network once through some rows, in place: a step for each batch of them.

    Parameters
    ----------
    network : Network
        The network; parameters, buffers and the count of passes change.
    X, y, sample_weight, alpha
        As in `loss_and_grad`, of all rows.
    order : sequence of int, optional
        Numbers of rows, as they are visited; by default all as they are.
    batch_size : int, default=32
        Rows in a batch; the last may have fewer.
    optimizer : str or (str, dict), default="sgd"
        Name of the update rule, a key of `RULES`, or that and its hyper-parameters but for lr.
    lr : float
        Learning rate.
    states : dict of str to dict
        What the rule remembers of each parameter, updated in place; empty at first.
    t : int, default=0
        Steps done before.

    Returns
    -------
    data, penalty : float
        Means over the rows visited of their batch's two parts of the objective, before its step.
    """
    visits = range(len(X)) if order is None else order
    data = penalty = 0.0
    for step, start in enumerate(range(0, len(visits), batch_size), t + 1):
        batch = visits[start : start + batch_size]
        weights = None if sample_weight is None else [sample_weight[i] for i in batch]
        *parts, gradients = loss_and_grad(
            network, [X[i] for i in batch], [y[i] for i in batch], weights, alpha=alpha
        )
        data += parts[0] * len(batch)
        penalty += parts[1] * len(batch)
        update(network, gradients, states, step, optimizer, lr)
    return data / len(visits), penalty / len(visits)


def update(
    network: Network,
    gradients: Tensors,
    states: dict[str, State],
    t: int,
    optimizer: str | tuple[str, dict[str, Any]],
    lr: float,
) -> None:
    """Update all parameters by a rule, in place; t counts the steps from 1 on."""
    name, options = (optimizer, {}) if isinstance(optimizer, str) else optimizer
    parameters = network.parameters
    if name in ONE_FOR_ALL:
        whole = [v for w in parameters.values() for v in w]
        gradient = [v for key in parameters for v in gradients[key]]
        RULES[name](whole, gradient, states.setdefault("", {}), t, lr=lr, **options)
        for w in parameters.values():
            w[:], whole = whole[: len(w)], whole[len(w) :]
        return
    for key, w in parameters.items():
        RULES[name](w, gradients[key], states.setdefault(key, {}), t, lr=lr, **options)


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _sum(A: Matrix, B: Matrix) -> Matrix:
    return [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(A, B, strict=True)]


def _transposed(A: Matrix) -> Matrix:
    return [list(column) for column in zip(*A, strict=True)]
