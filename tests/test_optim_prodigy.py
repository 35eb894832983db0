"""Prodigy, whose estimate is one for all parameters: what the generic tests cannot see."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose
from optimizers import arrays, copies, everything, snapshot, train

import fastgd
from fastgd import optim

SHAPES = [(3, 4), (70_001,), (), (0, 2), (5,)]


def slopes(params, target=3.0):
    """Gradients of half the squared distance to a point."""
    return [p - p.dtype.type(target) for p in params]


def estimates(opt):
    """Estimate of each parameter's part of the state."""
    return [states["d"] for states in opt.state_dict()["state"].values()]


def test_list_of_parameters_is_optaxs(jax, rng):
    """Protects the estimate: its sums are over the whole list, as over optax's tree."""
    import optax

    for options in ({}, {"safeguard_warmup": True, "weight_decay": 0.01, "beta3": 0.9}):
        params = arrays(rng, np.float64, [(3, 4), (5,), ()])
        theirs = [jax.numpy.asarray(p) for p in params]
        rule = optax.contrib.prodigy(0.5, **options)
        state = rule.init(theirs)
        opt = optim.Prodigy(params, lr=0.5, **options)
        for _ in range(60):
            updates, state = rule.update(slopes(theirs), state, theirs)
            theirs = optax.apply_updates(theirs, updates)
            opt.step(slopes(params))
            for p, q in zip(params, theirs, strict=True):
                assert_allclose(p, np.asarray(q), 1e-11, 1e-11)
        assert_allclose(estimates(opt), float(state.estim_lr), 1e-11)
        assert estimates(opt)[0] > 5e-6


def test_same_bits_with_any_number_of_threads_while_the_estimate_grows(dtype, assert_same_bits):
    """Protects the sums over the list: chunks are fixed, threads add them up in order."""
    bits = []
    for threads in (1, 2, 3, 4):
        rng = np.random.default_rng(7)
        with fastgd.threads(threads):
            opt = optim.Prodigy(arrays(rng, dtype, SHAPES), max_norm=100.0)
            for _ in range(30):
                opt.step(slopes(opt.params))
            bits.append([everything(opt), estimates(opt)])
    assert min(estimates(opt)[:3]) > 1e-3
    for other in bits[1:]:
        assert_same_bits(other, bits[0])


def test_parameters_that_rest_or_come_late_share_the_estimate(rng):
    """Protects one estimate for a model: who joins takes it over, who rests is told of it."""
    opt = optim.Prodigy(arrays(rng, np.float64, [(4,), (5,)]))
    for _ in range(5):
        opt.step(slopes(opt.params))
    grown = estimates(opt)[0]
    opt.step([None, slopes(opt.params)[1]])
    assert grown < estimates(opt)[0] == estimates(opt)[1]
    opt.add_param_group({"params": arrays(rng, np.float64, [(3,)])})
    assert estimates(opt)[2] == 0
    opt.step([None, None, slopes(opt.params)[2]])
    assert estimates(opt)[0] == estimates(opt)[1] == estimates(opt)[2] >= grown


def test_refused_step_leaves_the_estimate(rng):
    """Protects the estimate from a gradient that is not finite, and a late parameter's from it."""
    opt = optim.Prodigy(arrays(rng, np.float64, [(4,), (5,)]))
    train(opt, [[slopes(opt.params)[0], None]] * 3)
    bad = slopes(opt.params)
    bad[1][2] = np.nan
    before = snapshot(opt)
    with pytest.raises(optim.NonFiniteError, match=r"^grads\[1\]"):
        opt.step(bad)
    assert snapshot(opt) == before
    assert estimates(opt)[1] == 0


def test_mixed_dtypes_share_the_estimate(rng):
    """Protects models of two dtypes: the sums are in double, whatever the parameters."""
    params = [arrays(rng, d, [(67,)])[0] for d in ("f4", "f8")]
    opt = optim.Prodigy(params)
    both = optim.Prodigy([p.astype("f8") for p in params])
    for _ in range(20):
        opt.step(slopes(opt.params))
        both.step(slopes(both.params))
    assert estimates(opt)[0] == estimates(opt)[1]
    assert_allclose(estimates(opt)[0], estimates(both)[0], 0.05)  # first steps are near rounding


def test_schedule_and_groups(rng):
    """Protects what one changes while training: a learning rate that falls, one group at rest."""
    params = arrays(rng, np.float64, [(4,), (5,)])
    start = copies(params)
    opt = optim.Prodigy(
        [{"params": params[:1]}, {"params": params[1:], "lr": 0.0}], lr=lambda t: 1 - t / 40
    )
    for _ in range(40):
        opt.step(slopes(params))
    assert np.array_equal(params[1], start[1])
    assert np.max(np.abs(params[0] - 3)) < np.max(np.abs(start[0] - 3))


def test_training_with_torch_goes_on_to_the_bit(torch, rng, assert_same_bits):
    """Protects the estimate in a checkpoint: it stays a double beside float32 parameters."""
    ft = pytest.importorskip("fastgd.torch")
    params = [torch.tensor(a, requires_grad=True) for a in arrays(rng, np.float32, [(4,), (5,)])]

    def go(opt, steps, used=2):
        for _ in range(steps):
            own = opt.param_groups[0]["params"]
            for i, p in enumerate(own):
                p.grad = p.detach() - 3 if i < used else None
            opt.step()

    opt = ft.Prodigy(params)
    go(opt, 5)
    go(opt, 1, used=1)
    twins = [p.detach().clone().requires_grad_() for p in params]
    other = ft.Prodigy(twins)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    for o in (opt, other):
        go(o, 1, used=1)
        go(o, 5)
    assert_same_bits([p.detach().numpy() for p in twins], [p.detach().numpy() for p in params])
    numbers = [[float(o.state[p]["d"]) for p in o.param_groups[0]["params"]] for o in (opt, other)]
    assert numbers[0] == numbers[1]
    assert numbers[0][0] == numbers[0][1] > 1e-5


def test_linear_models_take_it():
    """Protects ``optimizer="prodigy"``: one estimate for weights and intercept."""
    linear_model = pytest.importorskip("fastgd.linear_model")
    X = np.random.default_rng(0).normal(size=(400, 5))
    y = X @ np.arange(1.0, 6.0) + 2
    model = linear_model.SGDRegressor(
        optimizer="prodigy", learning_rate="constant", eta0=1.0, alpha=0.0, batch_size=100,
        max_iter=300, tol=None, random_state=0,
    )  # fmt: skip
    assert model.fit(X, y).score(X, y) > 0.99
