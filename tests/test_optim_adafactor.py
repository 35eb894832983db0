"""Adafactor, which keeps moments of rows and columns: what the generic tests cannot see."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from optimizers import arrays, assert_unchanged_by, copies, everything, train

import fastgd
from fastgd import _core, optim, reference

# rows and columns around the sizes of blocks and of shares, stacks of small and of large matrices
SHAPES = [
    (1, 1), (1, 4097), (4097, 1), (255, 3), (3, 257), (70, 1025), (5, 3, 3), (6, 7, 3, 3),
    (3, 130, 70), (1, 1, 1, 9), (2, 1, 5), (300, 301),
]  # fmt: skip
STATES = {"row_var", "col_var"}


def follow_reference(params, grads, **options):
    """Fail if the specification leads elsewhere."""
    expected, states = [p.ravel().tolist() for p in params], [{} for _ in params]
    opt = optim.Adafactor(params, **options)
    for t, step in enumerate(grads, 1):
        opt.step(step)
        for e, g, s, p in zip(expected, step, states, params, strict=True):
            reference.adafactor(e, g.ravel().tolist(), s, t, shape=p.shape, **options)
    for i, (p, e) in enumerate(zip(params, expected, strict=True)):
        assert_allclose(p.ravel(), e, 1e-12, 1e-12, err_msg=str(p.shape))
        for name in STATES:
            assert_allclose(opt.state[i][name].ravel(), states[i][name], 1e-12)


def test_matrices_of_all_sizes_follow_the_specification(isa, rng):
    """Protects the sums over rows and columns at the borders of blocks, and stacks of matrices."""
    params = arrays(rng, np.float64, SHAPES[:-1])
    grads = [arrays(rng, np.float64, SHAPES[:-1]) for _ in range(2)]
    follow_reference(params, grads, lr=0.1, weight_decay=0.1)


def test_same_bits_with_any_number_of_threads(dtype, isa, n_threads, assert_same_bits):
    """Protects reproducibility: a row is summed by one thread, whoever it is."""

    def bits(isa, threads, **options):
        rng = np.random.default_rng(3)
        _core.use_isa(isa)
        with fastgd.threads(threads):
            opt = optim.Adafactor(arrays(rng, dtype, SHAPES), lr=0.1, **options)
            train(opt, [arrays(rng, dtype, SHAPES) for _ in range(2)])
            return everything(opt)

    for options in ({}, {"max_norm": 1.0, "clip_value": 1e-3, "ema_decay": 0.5}):
        expected = bits(_core.ISAS[0], 1, **options)
        assert_same_bits(bits(isa, n_threads, **options), expected)


def test_list_and_single_calls_have_the_same_bits(dtype, rng, assert_same_bits):
    """Protects the one call for a list: the scratch of one matrix is not another's."""
    start = arrays(rng, dtype, SHAPES)
    grads = [arrays(rng, dtype, SHAPES) for _ in range(2)]
    opt = optim.Adafactor(copies(start))
    train(opt, grads)
    for i, p in enumerate(start):
        train(optim.Adafactor(p), [g[i] for g in grads])
        assert_same_bits(p, opt.params[i])


def test_states_have_torchs_shapes(torch, rng):
    """Protects checkpoints and memory: what is kept of a matrix are a row and a column."""
    shapes = [(3, 4), (5,), (), (2, 3, 4), (2, 3, 4, 5)]
    params = arrays(rng, np.float64, shapes)
    twins = [torch.tensor(p, requires_grad=True) for p in params]
    theirs, opt = torch.optim.Adafactor(twins), optim.Adafactor(params)
    for twin in twins:
        twin.grad = torch.ones_like(twin)
    theirs.step()
    for twin, states in zip(twins, opt.state, strict=True):
        expected = {k: tuple(v.shape) for k, v in theirs.state[twin].items() if k != "step"}
        assert {name: a.shape for name, a in states.items()} == expected


def test_matrices_are_optaxs(jax, rng):
    """Protects who comes from optax, where its definition is the same."""
    import optax

    params = arrays(rng, np.float64, [(3, 4), (5, 5), (5,)])
    theirs = [jax.numpy.asarray(p) for p in params]
    rule = optax.adafactor(
        lambda count: jax.numpy.minimum(0.3, (count + 1) ** -0.5),
        min_dim_size_to_factor=1,
        eps=1e-100,
    )
    state = rule.init(theirs)
    opt = optim.Adafactor(params, lr=0.3, eps=(1e-50, 1e-3))
    for _ in range(20):
        grads = arrays(rng, np.float64, [p.shape for p in params])
        updates, state = rule.update([jax.numpy.asarray(g) for g in grads], state, theirs)
        theirs = optax.apply_updates(theirs, updates)
        opt.step(grads)
        for p, q in zip(params, theirs, strict=True):
            assert_allclose(p, np.asarray(q), 1e-6, 1e-6)  # its decay is a float32


def test_clipping_comes_before_the_moments(rng, assert_same_bits):
    """Protects the order of a step: rows and columns see the gradients as the formula does."""
    params, grads = arrays(rng, np.float64, SHAPES), arrays(rng, np.float64, SHAPES)
    clipped = [np.clip(g / 4, -0.2, 0.2) for g in grads]
    one, other = optim.Adafactor(copies(params), clip_value=0.2), optim.Adafactor(params)
    one.step(grads, grad_scale=4.0)
    other.step(clipped)
    assert_same_bits(everything(one), everything(other))


def test_refused_step_leaves_the_moments(rng):
    """Protects the pass before the pass: nothing is written before all gradients are known."""
    opt = optim.Adafactor(arrays(rng, np.float64, [(30, 40), (5,)]))
    opt.step(arrays(rng, np.float64, [(30, 40), (5,)]))
    bad = arrays(rng, np.float64, [(30, 40), (5,)])
    bad[1][2] = np.inf
    before = everything(opt)
    with pytest.raises(optim.NonFiniteError):
        opt.step(bad)
    assert all(np.array_equal(a, b) for a, b in zip(before, everything(opt), strict=True))


def test_moments_of_another_shape_are_refused(rng):
    """Protects memory from a state that is too small."""
    opt = optim.Adafactor(arrays(rng, np.float64, [(3, 4)]))
    saved = opt.state_dict()
    saved["state"][0]["row_var"] = np.ones((3, 4))
    assert_unchanged_by(opt, ValueError, "row_var", lambda: opt.load_state_dict(saved))


def test_bad_hyper_parameters_are_refused():
    """Protects from values that torch refuses, too."""
    for bad in ({"d": 0.5}, {"beta2_decay": 0.1}, {"eps": (-1.0, 0.1)}, {"eps": (None, None)}):
        with pytest.raises((ValueError, TypeError), match=next(iter(bad))):
            optim.Adafactor(np.ones(3), **bad)
    assert optim.Adafactor(np.ones(3)).eps == (None, 1e-3)


def test_averages_of_odd_layouts(torch, rng):
    """Protects `ema` of channels_last parameters: rows are had from a copy, which goes back."""
    ft = pytest.importorskip("fastgd.torch")
    start = torch.tensor(rng.normal(size=(2, 3, 4, 5)))
    params = [start.clone().contiguous(memory_format=f).requires_grad_()
              for f in (torch.channels_last, torch.contiguous_format)]  # fmt: skip
    opts = [ft.Adafactor([p], ema_decay=0.5) for p in params]
    for _ in range(3):
        grad = torch.tensor(rng.normal(size=(2, 3, 4, 5)))
        for p, opt in zip(params, opts, strict=True):
            p.grad = grad.clone()
            opt.step()
    assert torch.equal(*params)
    assert torch.equal(opts[0].ema[0], opts[1].ema[0])
    assert opts[0].ema[0].stride() == params[0].stride() != params[1].stride()
