"""Rules that make matrices orthonormal, Muon and MuSGD, on NumPy arrays.

What MuSGD does to vectors, and with all options, is tested with the other rules in
``test_optim*.py``; both on torch's tensors in ``test_torch_matrix.py``.
"""

import json
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from optimizers import (
    STEPS,
    arrays,
    assert_unchanged_by,
    busy,
    copies,
    everything,
    option_sets,
    public,
    snapshot,
    take_reference_step,
    train,
)

import fastgd
from fastgd import _core, optim

COEFFICIENTS = 3.4445, -4.7750, 2.0315
SHAPES = ((3, 4), (4, 3), (6, 2, 3, 1), (1, 5), (5, 1))
SIDES = (1, 7, 8, 9, 16, 17, 33)  # around the rows and columns of a tile
RTOL = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 200 * 2.0**-23}


@pytest.fixture(params=["muon", "musgd"])
def matrix_rule(request):
    """Name of each rule that makes matrices orthonormal."""
    return request.param


def make(rule, params, **options):
    """Return the optimizer that makes all matrices orthonormal."""
    use = {"use_muon": True} if rule == "musgd" else {}
    return optim.CLASSES[rule](params, **{**use, **options})


def newton_schulz(g, dtype=np.float64, steps=5):
    """Orthonormal rows or columns by the plain iteration."""
    a, b, c = COEFFICIENTS
    x = (g / np.linalg.norm(g.astype(np.float64))).astype(dtype)
    x = x if len(x) <= len(x.T) else x.T
    for _ in range(steps):
        gram = x @ x.T
        x = dtype(a) * x + (dtype(b) * gram + dtype(c) * (gram @ gram)) @ x
    return x if g.shape == x.shape else x.T


def orthonormal(g):
    """Return what Muon makes of a gradient."""
    w = np.zeros_like(g)
    opt = optim.Muon(w, 1.0, weight_decay=0, momentum=0, nesterov=False)
    opt.step(g)
    return -w / math.sqrt(max(1, g.shape[0] / (g.size / g.shape[0])))


def matrix(rng, shape, spread, dtype):
    """Return a matrix whose singular values lie between 10**-spread and 1."""
    u, s, v = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    return ((u * np.logspace(0, -spread, len(s))) @ v).astype(dtype)


# ---- numbers -------------------------------------------------------------------------------------


def test_fifty_steps_follow_the_specification(matrix_rule, dtype, rng):
    """Protects the formulas, with each hyper-parameter changed alone and all together."""
    shapes = SHAPES if matrix_rule == "muon" else (*SHAPES, (4, 1, 1), (5,), (2, 3, 6, 2))
    for row in option_sets(matrix_rule):
        params = arrays(rng, dtype, shapes)
        expected, states = [p.ravel().tolist() for p in params], [{} for _ in params]
        opt = optim.CLASSES[matrix_rule](params, **public(row))
        largest = [1.0] * len(params)
        for t in range(1, STEPS + 1):
            grads = arrays(rng, dtype, shapes)
            opt.step(grads)
            for i, (e, grad, state) in enumerate(zip(expected, grads, states, strict=True)):
                take_reference_step(matrix_rule, e, grad, state, t, row)
                largest[i] = max(largest[i], *map(abs, e))
                atol = RTOL[dtype] * largest[i]
                assert_allclose(params[i].ravel(), e, 0, atol, err_msg=f"{row}, step {t}")
        for found, state in zip(opt.state, states, strict=True):
            assert found.keys() == state.keys()
            for name, values in state.items():
                assert_allclose(found[name].ravel(), values, 0, 50 * RTOL[dtype], err_msg=name)


@pytest.mark.parametrize("columns", SIDES)
@pytest.mark.parametrize("rows", SIDES)
def test_products_at_every_size(isa, dtype, rows, columns, rng):
    """Protects the ends of tiles, panels and squares: each element is that of the plain loop."""
    g = arrays(rng, dtype, [(rows, columns)])[0]
    assert_allclose(orthonormal(g), newton_schulz(g), 0, 10 * RTOL[dtype])


@pytest.mark.parametrize("shape", [(64, 576), (130, 70), (96, 96), (600, 33)])
def test_long_sums(isa, dtype, shape, rng):
    """Protects inner sizes of more than a panel, and several panels."""
    g = rng.standard_normal(shape).astype(dtype)
    assert_allclose(orthonormal(g), newton_schulz(g), 0, 10 * RTOL[dtype])


def test_a_term_of_a_product_is_rounded_once(isa):
    """Protects the bits of fused sums that lie next to halfway between two numbers.

    Of the Gram matrix, one element is (1 + e) * 1 + h (1 + e) * h (1 - e), with h h half of e: a
    hair below halfway. With a product or a sum rounded on the way, it would be halfway, and then
    the even neighbour above.
    """
    e, h = 2.0**-23, 2.0**-12
    g = np.zeros((12, 3), np.float32)  # so many rows that the step is exactly 2 lr
    g[:3, :2] = [[1 + e, 1], [h * (1 + e), h * (1 - e)], [1, 0]]
    g[3, 2] = math.sqrt(4 - (g.astype(float) ** 2).sum())  # the norm is 2, and the step's element
    p = np.zeros_like(g)
    make(
        "muon", [p], lr=1.0, momentum=0.0, weight_decay=0.0, ns_coefficients=(0, 1, 0), ns_steps=1
    ).step([g])
    assert p[2, 1] == -2 * (1 + e) / 2**3


@pytest.mark.parametrize("spread", [0, 1, 2, 3, 6])
@pytest.mark.parametrize("shape", [(16, 144), (64, 576), (48, 64), (64, 64)])
def test_what_gram_matrices_lose(shape, spread, rng):
    """Protects float32 from what several iterations on one Gram matrix cost: a digit at most.

    Where a matrix is long, all are on one: 2e-3 at most, a hundredth of what bfloat16 loses.
    """
    g = matrix(rng, shape, spread, np.float32)
    exact = newton_schulz(g)
    plain = newton_schulz(g, np.float32)
    allowed = 8 * np.linalg.norm(plain - exact)
    if max(shape) >= 2 * min(shape):
        allowed = max(allowed, 2e-3 * np.linalg.norm(exact))
    assert np.linalg.norm(orthonormal(g) - exact) <= allowed


def test_scale_of_the_gradient_does_not_matter(dtype, rng):
    """Protects from overflow and underflow of squares."""
    g = rng.standard_normal((9, 20)).astype(dtype)
    for scale in (2.0**-12, 2.0**80):
        assert_allclose(orthonormal(g * dtype.type(scale)), orthonormal(g), 0, RTOL[dtype])


@pytest.mark.parametrize("eps", [0.0, 1e-7])
def test_zero_stays_zero(eps):
    """Protects parameters whose gradient vanishes: no division by zero."""
    w = np.ones((3, 4))
    optim.Muon(w, weight_decay=0, eps=eps).step(np.zeros((3, 4)))
    assert (w == 1).all()


def test_nothing_to_do(matrix_rule):
    """Protects empty matrices, and the iteration that is none."""
    w = np.zeros((0, 3))
    make(matrix_rule, w).step(w.copy())
    g = np.array([[3.0, 4.0]])
    w = np.zeros((1, 2))
    optim.Muon(w, 1.0, momentum=0, ns_steps=0).step(g)
    assert_allclose(w, -g / 5)


# ---- same bits -----------------------------------------------------------------------------------

MANY = ((300, 200), (40, 9, 3, 3), (17, 5), (64, 64))  # of the first, threads share the rows


def bits_after(rule, dtype, groups=False):
    """Parameters and states after some steps from a fixed start."""
    rng = np.random.default_rng(1)
    params = arrays(rng, dtype, MANY)
    opt = make(rule, params, momentum=0.5, nesterov=True)
    for _ in range(2):
        opt.step(arrays(rng, dtype, MANY))
    return everything(opt)


def test_same_bits_on_every_isa_with_any_number_of_threads(
    matrix_rule, dtype, isa, n_threads, assert_same_bits
):
    """Protects reproducibility: sums are in one order, whoever forms them."""
    found = bits_after(matrix_rule, dtype)
    _core.use_isa(_core.ISAS[0])
    with fastgd.threads(1):
        assert_same_bits(found, bits_after(matrix_rule, dtype))


def test_list_and_single_calls_have_the_same_bits(matrix_rule, n_threads, rng, assert_same_bits):
    """Protects the one call for a list: its matrices do not influence each other."""
    params, grads = (arrays(rng, np.float32, MANY) for _ in range(2))
    alone = copies(params)
    make(matrix_rule, params).step(grads)
    for p, g in zip(alone, grads, strict=True):
        make(matrix_rule, p).step(g)
    assert_same_bits(params, alone)


# ---- the rest of the step ------------------------------------------------------------------------


def test_options_of_the_step(matrix_rule, n_threads, dtype, rng):
    """Protects scaling, clipping, norms, averages and zeroing around the matrices."""
    shapes = ((70, 300), (8, 3, 2, 2))
    params, grads = (arrays(rng, dtype, shapes) for _ in range(2))
    plain, before = copies(params), copies(params)
    norm = math.sqrt(sum(float((g.astype(float) ** 2).sum()) for g in grads))
    scaled = [np.clip(g / norm, -0.01, 0.01).astype(dtype) for g in grads]
    make(matrix_rule, plain, lr=0.1).step(scaled)
    opt = make(
        matrix_rule, params, lr=0.1, max_norm=1.0, clip_value=0.01, ema_decay=0.75,
        report_norms=True,
    )  # fmt: skip
    given = [4 * g for g in grads]
    opt.step(given, grad_scale=4.0, zero_grads=True)
    assert not any(g.any() for g in given)
    moved = 0.0
    for p, b, same, ema in zip(params, before, plain, opt.ema, strict=True):
        assert_allclose(p, same, 0, 1e-5)
        assert_allclose(ema, 0.75 * b + 0.25 * p, 0, 1e-6)
        moved += float(((p - b).astype(float) ** 2).sum())
    assert_allclose(opt.last_step.grad_norm, norm, 1e-6)
    assert_allclose(opt.last_step.update_norm, math.sqrt(moved), 1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_gradients_change_nothing(matrix_rule, n_threads, bad, rng):
    """Protects parameters and both buffers: the guard comes before the momentum."""
    params, grads = (arrays(rng, np.float32, MANY) for _ in range(2))
    opt = make(matrix_rule, params, momentum=0.5, ema_decay=0.5)
    opt.step(grads)
    grads[2][3, 1] = bad
    before = snapshot(opt)
    with pytest.raises(optim.NonFiniteError, match=r"grads\[2\] must be finite"):
        opt.step(grads)
    assert snapshot(opt) == before


def test_groups_resting_and_frozen_parameters(rng):
    """Protects lists of all kinds in one call: matrices, vectors, what has no gradient."""
    kernel, dense, frozen, bias = arrays(rng, np.float32, [(8, 3, 3, 3), (9, 4), (4, 4), (8,)])
    opt = optim.MuSGD(
        [
            {"params": [kernel, dense], "use_muon": True},
            {"params": [frozen], "use_muon": True, "frozen": True},
            {"params": [bias]},
        ],
        lr=0.5,
        momentum=0.5,
    )
    grads = arrays(rng, np.float32, [p.shape for p in opt.params])
    kept = copies(opt.params)
    opt.step([grads[0], None, grads[2], grads[3]])
    assert [not np.array_equal(p, k) for p, k in zip(opt.params, kept, strict=True)] == [
        True, False, False, True,
    ]  # fmt: skip
    assert list(opt.state[3]) == ["momentum_buffer"]
    opt.add_param_group({"params": np.ones((3, 2), np.float32), "use_muon": True})
    opt.step([*grads, np.ones((3, 2), np.float32)])
    assert not np.array_equal(opt.params[4], np.ones((3, 2)))


def test_muon_may_be_switched_off_and_on(rng):
    """Protects `use_muon` as a hyper-parameter: its second buffer rests meanwhile."""
    w, g = arrays(rng, np.float64, [(3, 4)] * 2)
    opt = optim.MuSGD(w, momentum=0.5, use_muon=True)
    opt.step(g)
    rests = opt.state[0]["momentum_buffer_SGD"].copy()
    opt.use_muon = False
    opt.step(g)
    assert np.array_equal(opt.state[0]["momentum_buffer_SGD"], rests)
    opt.use_muon = True
    opt.step(g)
    assert not np.array_equal(opt.state[0]["momentum_buffer_SGD"], rests)


def test_saved_states(matrix_rule, rng, assert_same_bits):
    """Protects resuming to the bit, and hyper-parameters that are words."""
    params, grads = arrays(rng, np.float32, SHAPES), arrays(rng, np.float32, SHAPES)
    opt = make(matrix_rule, params, **{**busy(matrix_rule), "lr": 0.01})
    train(opt, [grads] * 2)
    saved = opt.state_dict()
    json.dumps(saved["param_groups"])
    other = make(matrix_rule, copies(params))
    other.load_state_dict(saved)
    assert repr(other) == repr(opt)
    for each in (opt, other):
        each.step(grads)
    assert_same_bits(everything(other), everything(opt))


# ---- what is taken -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (1, 1, 1, 1, 1)])
def test_muon_refuses_what_is_no_matrix(shape):
    """Protects biases and the like: they need another optimizer, and the error says which one."""
    w = np.ones((2, 2))
    words = r"params\[1\] must be a matrix or the filters .* for 'muon'; got shape \("
    with pytest.raises(ValueError, match=words):
        optim.Muon([w, np.ones(shape)])
    opt = optim.Muon(w)
    added = {"params": [np.ones(shape)]}
    assert_unchanged_by(opt, ValueError, words, lambda: opt.add_param_group(added))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("adjust_lr_fn", "adam", "^adjust_lr_fn must be one of .None, 'original', 'match"),
        ("ns_steps", 2.5, "^ns_steps must be a whole number from 0 to 99; got 2.5"),
        ("ns_steps", 100, "^ns_steps must be a whole number from 0 to 99; got 100"),
        ("ns_steps", math.nan, "^ns_steps must be"),
        ("ns_coefficients", (1.0, 2.0), "^ns_coefficients must be a tuple of 3 numbers"),
    ],
)
def test_arguments_of_the_iteration(name, value, words):
    """Protects from settings that mean nothing."""
    with pytest.raises((ValueError, TypeError), match=words):
        optim.Muon(np.ones((2, 2)), **{name: value})


@pytest.mark.parametrize("value", [None, "original", "match_rms_adamw"])
def test_words_stay_words(value):
    """Protects `adjust_lr_fn` as people know it, in attributes, groups and schedules."""
    opt = optim.Muon(np.ones((2, 2)), adjust_lr_fn=value, ns_steps=lambda t: 3 + t)
    assert opt.adjust_lr_fn == opt.param_groups[0]["adjust_lr_fn"] == value
    opt.step(np.ones((2, 2)))
    assert (opt.ns_steps, type(opt.ns_steps)) == (4, int)


def test_matrices_are_optaxs(jax, rng):
    """Protects who comes from optax: its matrices lie the other way, its look-ahead is another."""
    import optax

    params = arrays(rng, np.float64, [(3, 4), (7, 2), (5, 5)])
    theirs = [jax.numpy.asarray(p.T) for p in params]
    rule = optax.contrib.muon(0.1, weight_decay=0.25, eps=1e-100, nesterov=False)
    state, update = rule.init(theirs), jax.jit(rule.update)
    opt = optim.Muon(params, lr=0.1, weight_decay=0.25, eps=0.0, nesterov=False)
    for _ in range(STEPS):
        grads = arrays(rng, np.float64, [p.shape for p in params])
        updates, state = update([jax.numpy.asarray(g.T) for g in grads], state, theirs)
        theirs = optax.apply_updates(theirs, updates)
        opt.step(grads)
        for p, q in zip(params, theirs, strict=True):
            assert_allclose(p, np.asarray(q).T, 1e-7, 1e-9)
