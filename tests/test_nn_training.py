"""An epoch in one call of C is, to the bit, a loop of `loss_and_grad` and `step`."""

import numpy as np
import pytest
import scipy.sparse

import fastgd
from fastgd import nn, optim, projections
from fastgd.nn import Dense, Network

X = np.random.default_rng(3).standard_normal((300, 40)).astype(np.float32)
Y = np.arange(300) % 5
OPTIONS = {
    "plain": {},
    "clipped and averaged": {"max_norm": 0.5, "ema_decay": 0.9},
    "scheduled": {"lr": lambda step: 1e-3 / (1 + step), "ema_decay": lambda step: 1 - 1 / step},
    "look-ahead": {"lookahead": (3, 0.5)},
    "centralised": {"centralize": True, "clip_value": 1e-3},
    "projected": {"projection": projections.l2_ball(3.0)},
}


def network():
    layers = [
        Dense(64, "gelu", norm="batch", dropout=0.1),
        Dense(64, "relu", norm="layer", skip=True),
        Dense(5),
    ]
    return Network(40, layers, loss="cross_entropy", rng=1)


def trained_params(net, rule):
    return [p for p in net.parameters if p.ndim == 2 or rule != "muon"]


def loop(net, opt, rows, order, batch_size):
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        _, grads = net.loss_and_grad(rows[batch], Y[batch], alpha=1e-3)
        pairs = zip(grads, net.parameters, strict=True)
        opt.step([g for g, p in pairs if any(p is own for own in opt.params)])


def arrays(net, opt):
    return [*net.parameters, *net.buffers.values(), *(opt.ema or [])]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("rule", optim.CLASSES)
def test_an_epoch_is_a_loop_of_steps(rule, options):
    nets = network(), network()
    opts = [optim.CLASSES[rule](trained_params(net, rule), **OPTIONS[options]) for net in nets]
    for epoch in range(2):
        order = np.random.default_rng(epoch).permutation(300)
        nets[0].train_epoch(opts[0], X, Y, order, batch_size=64, alpha=1e-3)
        loop(nets[1], opts[1], X, order, 64)
    for a, b in zip(arrays(nets[0], opts[0]), arrays(nets[1], opts[1]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert opts[0].t == opts[1].t == 10


def spoiled():
    """Rows of which number 100 is not finite."""
    rows = X.copy()
    rows[100, 3] = np.nan
    return rows


@pytest.mark.parametrize("options", [{}, {"max_norm": 1.0}], ids=["plain", "clipped"])
def test_a_batch_that_is_not_finite_is_skipped(options):
    """The others are as if it had not been there, but for dropout, which goes on."""
    nets = network(), network()
    opts = [optim.Adam(net.parameters, nonfinite="skip", **options) for net in nets]
    nets[0].train_epoch(opts[0], spoiled(), Y, batch_size=60)
    order = np.arange(300)
    nets[1].train_epoch(opts[1], X, Y, order[:60], batch_size=60)
    nets[1].n_passes += 1
    nets[1].train_epoch(opts[1], X, Y, order[120:], batch_size=60)
    for a, b in zip(arrays(nets[0], opts[0]), arrays(nets[1], opts[1]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (opts[0].t, opts[0].skipped) == (4, 1)


@pytest.mark.parametrize("options", [{}, {"max_norm": 1.0}], ids=["plain", "clipped"])
def test_a_batch_that_is_not_finite_is_named(options):
    """Everything is as after the step before."""
    nets = network(), network()
    opts = [optim.Adam(net.parameters, **options) for net in nets]
    with pytest.raises(fastgd.NonFiniteError, match=r"grads\[0\] must be finite.* in step 2"):
        nets[0].train_epoch(opts[0], spoiled(), Y, batch_size=60)
    nets[1].train_epoch(opts[1], X, Y, np.arange(60), batch_size=60)
    for a, b in zip(arrays(nets[0], opts[0]), arrays(nets[1], opts[1]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert opts[0].t == 1


def test_a_loss_that_is_not_finite_is_named():
    """Here with gradients that are finite: half the square of 1e25 overflows, 1e25 does not."""
    net = Network(1, [Dense(1)], initializer="zeros", rng=0)
    opt = optim.SGD(net.parameters, lr=1e-30)
    with pytest.raises(fastgd.DivergenceError, match="loss is not finite in step 1"):
        net.train_epoch(opt, np.ones((8, 1), np.float32), np.full(8, 1e25))
    assert opt.t == 0
    assert not any(p.any() for p in net.parameters)


def test_parameters_that_the_optimizer_does_not_have_rest():
    net = network()
    before = [p.copy() for p in net.parameters]
    net.train_epoch(optim.SGD(net.parameters[4:5], lr=0.1), X, Y)
    changed = [bool((a != b).any()) for a, b in zip(net.parameters, before, strict=True)]
    assert changed == [i == 4 for i in range(len(before))]


def test_an_optimizer_of_other_arrays_is_refused():
    net = network()
    opt = optim.SGD([net.parameters[0], np.zeros(2, np.float32)])
    with pytest.raises(ValueError, match=r"of the network's parameters; params\[1\] is none"):
        net.train_epoch(opt, X, Y)


@pytest.mark.parametrize("sparse", [False, True], ids=["array", "CSR"])
def test_many_rows_are_passed_in_parts(monkeypatch, sparse):
    """Loss and gradients are those of one batch, to rounding."""
    layers = [Dense(16, "tanh", norm="layer"), Dense(5, "softplus")]
    net = Network(40, layers, loss="log_loss", rng=1, dtype=np.float64)
    rows = X.astype(np.float64) * (X > 0)
    y, weight = np.random.default_rng(0).random((300, 5)), np.random.default_rng(1).random(300)
    given = scipy.sparse.csr_array(rows) if sparse else rows
    loss, grads = net.loss_and_grad(given, y, weight, alpha=0.3)
    grads = [g.copy() for g in grads]
    monkeypatch.setattr(nn, "_PRODUCTS_PER_CALL", 1)
    monkeypatch.setattr(nn, "_ROWS_PER_CALL", 64)
    in_parts, others = net.loss_and_grad(given, y, weight, alpha=0.3)
    assert in_parts == pytest.approx(loss, rel=1e-14)
    for a, b in zip(grads, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-15)
    assert net.n_passes == 1 + 5
