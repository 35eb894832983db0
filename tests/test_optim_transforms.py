"""What else a step does to gradients and parameters: centralisation, adaptive clipping.

Each is held to `fastgd.reference.transforms`, around the plain rule, which ``test_optim.py`` holds
to the specification, and to optax or torch where they have it.
"""

import functools
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from optimizers import CLASSES, arrays, busy, copies, everything, train

import fastgd
from fastgd import _core, optim, reference

SHAPES = ((3, 4), (5,), (), (0, 2), (2, 0), (1, 7), (4, 3, 3, 3), (2, 2049), (4097, 1), (9, 65))
# beyond FGD_SERIAL_STEP; borders of chunks lie inside units and the other way round
BIG = ((70_001,), (3, 5), (0,), (5, 12_801), (3001, 9), ())


def gradients(params, rng):
    """Gradients whose units have norms of all sizes, and means."""
    found = arrays(rng, params[0].dtype, [p.shape for p in params])
    for g in found:
        if g.ndim > 1:
            g *= 10.0 ** rng.integers(-3, 3, g.shape[:1] + (1,) * (g.ndim - 1))
            g += g.dtype.type(0.5)
    return found


def by_reference(function, *parts):
    """Apply a function of the specification to arrays of one shape, the last of which it gives."""
    flat = [a.astype(np.float64).ravel().tolist() for a in parts]
    return np.reshape(function(*flat, parts[0].shape), parts[0].shape).astype(parts[0].dtype)


def transformed(params, grads, centralize, agc):
    """Gradients as the rule is to see them."""
    if centralize:
        grads = [by_reference(reference.centralize, g) for g in grads]
    if agc is not None:
        clip = functools.partial(reference.adaptive_clip, clipping=agc)
        grads = [by_reference(clip, p, g) for p, g in zip(params, grads, strict=True)]
    return grads


TRANSFORMS = [
    {"centralize": True, "agc": None},
    {"centralize": False, "agc": 0.3},
    {"centralize": True, "agc": 0.01},
]
IDS = ["centralize", "agc", "both"]

# ---- centralisation and adaptive clipping --------------------------------------------------------


@pytest.mark.parametrize("options", TRANSFORMS, ids=IDS)
def test_units_are_those_of_the_specification(options, dtype, isa, n_threads, rng):
    """Protects the formulas, for every shape, also where a unit or a tensor is empty."""
    params = arrays(rng, dtype, SHAPES)
    start, grads = copies(params), gradients(params, rng)
    sent = copies(grads)
    optim.SGD(params, lr=1.0, **options).step(sent)
    rtol = 1e-12 if dtype == np.float64 else 2e-5
    for p, old, g in zip(params, start, transformed(start, grads, **options), strict=True):
        assert_allclose(p, old - g, rtol, rtol)
    for g, old in zip(sent, grads, strict=True):
        assert g.tobytes() == old.tobytes()


def test_rules_see_the_changed_gradients(rule, rng):
    """Protects states and layer-wise measures: they are those of a plain rule with such gradients.

    The order is unscale, max_norm, centralize, agc, clip_value.
    """
    options = {"centralize": True, "agc": 0.3}
    params = arrays(rng, np.float64, SHAPES[:7])
    more = {"max_norm": 1.0, "clip_value": 0.02}
    opt = CLASSES[rule](copies(params), **busy(rule), **options, **more)
    plain = CLASSES[rule](params, **busy(rule))
    for _ in range(3):
        grads = gradients(params, rng)
        opt.step([4 * g for g in grads], grad_scale=4.0)
        assert opt.last_step.clip_factor < 0.5
        scaled = [np.asarray(g * opt.last_step.clip_factor) for g in grads]
        changed = transformed(plain.params, scaled, **options)
        plain.step([np.clip(g, -0.02, 0.02) for g in changed])
        for a, b in zip(everything(opt), everything(plain), strict=True):
            assert_allclose(a, b, 1e-9, 1e-10)


def test_matrices_are_as_in_optax(jax, rng):
    """Protects parity with optax, whose units of a matrix are its columns."""
    import optax

    params = arrays(rng, np.float64, [(7, 5), (6,)])
    grads = gradients(params, rng)
    theirs = [jax.numpy.asarray(p.T) for p in params]
    clip = optax.adaptive_grad_clip(0.1)
    seen, _ = clip.update([jax.numpy.asarray(g.T) for g in grads], clip.init(theirs), theirs)
    start = copies(params)
    optim.SGD(params, lr=1.0, agc=0.1).step(grads)
    for p, old, g in zip(params, start, seen, strict=True):
        assert_allclose(p, old - np.asarray(g).T, 1e-12, 1e-14)

    center = optax.centralize()
    (seen,), _ = center.update([jax.numpy.asarray(grads[0])], center.init(theirs[:1]))
    start = params[0].copy()
    optim.SGD(params[0], lr=1.0, centralize=True).step(grads[0])
    assert_allclose(params[0], start - np.asarray(seen), 1e-12, 1e-14)


@functools.cache
def problem(dtype):
    """Parameters and gradients, large enough for threads."""
    rng = np.random.default_rng(2)
    params = arrays(rng, dtype, BIG)
    return params, [gradients(params, rng) for _ in range(2)]


def bits_after(rule, dtype, one_by_one=False, **options):
    """All there is after some steps from a fixed start, by one optimizer or one for each array."""
    params, grads = problem(dtype)
    params = copies(params)
    lists = [[p] for p in params] if one_by_one else [params]
    opts = [CLASSES[rule](each, **busy(rule), **options) for each in lists]
    for g in grads:
        sent = iter(g)
        for opt in opts:
            opt.step(list(itertools.islice(sent, len(opt.params))))
    return [*params, *(a for opt in opts for a in (opt.ema or ()))], [
        list(states.values()) for opt in opts for states in opt.state
    ]


@functools.cache
def bits_of_one_thread(rule, dtype, **options):
    """The same on the first instruction set, array by array."""
    isa = _core.active_isa()
    _core.use_isa(_core.ISAS[0])
    with fastgd.threads(1):
        bits = bits_after(rule, dtype, one_by_one=True, **options)
    _core.use_isa(isa)
    return bits


@pytest.mark.parametrize(
    ("rule", "options"),
    [("sgd", TRANSFORMS[0]), ("adam", TRANSFORMS[1]), ("lars", TRANSFORMS[2])],
)
def test_same_bits(rule, options, dtype, isa, n_threads, assert_same_bits):
    """Protects reproducibility: for any team, processor, one call or a call per tensor."""
    expected = bits_of_one_thread(rule, dtype, **options)
    assert_same_bits(bits_after(rule, dtype, **options), expected)


@given(
    shape=st.lists(st.integers(1, 5), max_size=4).map(tuple),
    size=st.floats(1e-9, 1e9),
    agc=st.floats(1e-3, 10),
)
def test_no_unit_is_longer_than_allowed(shape, size, agc):
    """Protects what adaptive clipping is for: the update of a unit is short beside the unit."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=shape)
    start = w.copy()
    optim.SGD(w, lr=1.0, agc=agc).step(np.asarray(rng.normal(size=shape) * size))
    rows = (shape[0] if len(shape) > 1 else 1, -1)
    norms = [np.linalg.norm(x.reshape(rows), axis=1) for x in (w - start, start)]
    assert (norms[0] <= agc * np.maximum(norms[1], 1e-3) * (1 + 1e-9) + 1e-12).all()


@pytest.mark.parametrize("options", TRANSFORMS, ids=IDS)
def test_resting_and_bad_gradients(options):
    """Protects what takes no part, and everything where the guard finds a gradient."""
    params = [np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 2))]
    opt = optim.SGD(params, lr=1.0, **options)
    opt.step([None, np.array([[3.0, -3, 0], [0, 0, 0]]), np.zeros((2, 2))])
    assert [bool((p == 1).all()) for p in params] == [True, False, True]
    before = copies(params)
    with pytest.raises(fastgd.NonFiniteError, match=r"grads\[2\]"):
        opt.step([np.ones((2, 3)), np.ones((2, 3)), np.full((2, 2), np.nan)])
    assert [p.tobytes() for p in params] == [p.tobytes() for p in before]


def test_units_of_late_groups_and_after_switching_off(rng, assert_same_bits):
    """Protects scratch that grows: options set later, parameters added later."""
    opt, twin = (optim.SGD(np.ones((2, 2)), lr=0.5) for _ in range(2))
    opt.agc = 0.25
    opt.add_param_group({"params": [np.ones((500, 3))]})
    grads = arrays(rng, np.float64, [(2, 2), (500, 3)])
    opt.step(grads)
    units = np.linalg.norm(opt.params[1] - 1, axis=1)
    assert_allclose(units, 0.5 * 0.25 * np.sqrt(3.0))
    opt.agc = None
    before = opt.params[0].copy()
    train(opt, [grads])
    train(twin, [grads[:1]])
    assert_same_bits(opt.params[0], before - 0.5 * grads[0])


# ---- look-ahead ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pace", [(3, 0.5), (1, 0.25), (2, 1.0), (2, 0.0)], ids=str)
def test_lookahead_is_the_specifications(pace, dtype, isa, n_threads, rng):
    """Protects the formula, and the order: averages see the parameters that look ahead."""
    params = arrays(rng, dtype, [(3, 5), (), (0,), (2049,)])
    opt = optim.SGD(params, lr=0.5, lookahead=pace, ema_decay=0.75)
    fast, slow, ema = ([p.ravel().tolist() for p in params] for _ in range(3))
    for t in range(1, 8):
        grads = arrays(rng, dtype, [p.shape for p in params])
        opt.step(grads)
        for i, g in enumerate(grads):
            reference.sgd(fast[i], g.ravel().tolist(), {}, t, lr=0.5)
            reference.lookahead(fast[i], slow[i], t, *pace)
            ema[i] = [0.75 * e + 0.25 * p for e, p in zip(ema[i], fast[i], strict=True)]
    rtol = 1e-12 if dtype == np.float64 else 1e-5
    kept = [states["slow_param"] for states in opt.state]
    for mine, expected in zip((params, kept, opt.ema), (fast, slow, ema), strict=True):
        for a, e in zip(mine, expected, strict=True):
            assert_allclose(a.ravel(), e, rtol, rtol)


def test_lookahead_is_optaxs(jax, rng):
    """Protects parity with ``optax.lookahead`` around a rule with states."""
    import optax

    w = arrays(rng, np.float64, [(7, 5)])[0]
    theirs = optax.lookahead(optax.adam(0.1), sync_period=3, slow_step_size=0.25)
    params = optax.LookaheadParams.init_synced(jax.numpy.asarray(w))
    state = theirs.init(params)
    opt = optim.Adam(w, lr=0.1, lookahead=(3, 0.25))
    for _ in range(8):
        (g,) = arrays(rng, np.float64, [(7, 5)])
        opt.step(g)
        updates, state = theirs.update(jax.numpy.asarray(g), state, params)
        params = optax.apply_updates(params, updates)
    assert_allclose(w, params.fast, 1e-9)
    assert_allclose(opt.state[0]["slow_param"], params.slow, 1e-9)


@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9, "max_norm": 50.0}], ids=["", "more"])
def test_lookahead_has_the_same_bits(rule, options, n_threads, assert_same_bits):
    """Protects reproducibility in the fused pass, for any team and one call or many."""
    options = {"lookahead": (2, 0.3), **options}
    expected = bits_of_one_thread(rule, np.dtype(np.float32), **{**options, "max_norm": None})
    actual = bits_after(rule, np.dtype(np.float32), **options | {"max_norm": None})
    assert_same_bits(actual, expected)


@pytest.mark.parametrize("way", ["state_dict", "file"])
def test_slow_weights_resume_exactly(rule, way, rng, tmp_path, assert_same_bits):
    """Protects resuming between two synchronisations: slow weights and the count are restored."""
    params = arrays(rng, np.float64)
    grads = [arrays(rng, np.float64) for _ in range(6)]
    options = busy(rule) | {"lookahead": (3, 0.5), "ema_decay": 0.5}
    opt = CLASSES[rule](copies(params), **options)
    train(opt, grads[:2])
    resumed = CLASSES[rule](copies(opt.params), **options)
    if way == "file":
        pytest.importorskip("safetensors")
        opt.save(tmp_path / "half", params=True)
        resumed.load(tmp_path / "half")
    else:
        resumed.load_state_dict(opt.state_dict())
    for each in (opt, resumed):
        train(each, grads[2:])
    assert_same_bits(everything(resumed), everything(opt))


def test_lookahead_waits_for_parameters_that_rest():
    """Protects frozen parameters from being pulled back, and skipped steps from being counted."""
    params = [np.zeros(2), np.zeros(2)]
    opt = optim.SGD(params, lr=1.0, lookahead=(2, 0.5), nonfinite="skip")
    up = np.full(2, -1.0)
    opt.step([up, up])
    opt.step([up, np.full(2, np.nan)])
    assert [p.tolist() for p in params] == [[1, 1], [1, 1]]
    opt.step([up, None])
    assert [p.tolist() for p in params] == [[1, 1], [1, 1]]
    assert [s["slow_param"].tolist() for s in opt.state] == [[1, 1], [0, 0]]


def test_lookahead_may_be_switched_on_and_off(rng, assert_same_bits):
    """Protects late starts: slow weights begin where the parameters are, and are forgotten."""
    w = np.zeros(2)
    opt = optim.SGD(w, lr=1.0)
    opt.step(np.full(2, -4.0))
    assert "slow_param" not in opt.state[0]
    opt.lookahead = (2, 0.5)
    opt.step(np.full(2, -4.0))
    assert w.tolist() == [6.0, 6.0]
    opt.add_param_group({"params": np.ones(1)})
    assert opt.state[1]["slow_param"].tolist() == [1.0]
    opt.lookahead = None
    opt.lookahead = (2, 0.5)
    opt.step([np.zeros(2), np.zeros(1)])
    assert opt.state[0]["slow_param"].tolist() == [6.0, 6.0]


# ---- stochastic weight averaging -----------------------------------------------------------------


@pytest.mark.parametrize(("start", "every"), [(0, 1), (3, 1), (0, 3), (4, 2)])
def test_swa_is_the_mean(start, every, dtype, rng, assert_same_bits):
    """Protects the average: equal weights from `start` on, nothing before and in between."""
    (w,) = arrays(rng, dtype, [(9,)])
    first, seen = w.copy(), []
    opt = optim.Adam(w, lr=0.1, ema_decay=optim.swa(start, every))
    for t in range(1, 13):
        before = opt.ema[0].copy()
        opt.step(arrays(rng, dtype, [(9,)])[0])
        if t > start and (t - start) % every == 0:
            seen.append(w.astype(np.float64))
            rtol = 1e-14 if dtype == np.float64 else 1e-6
            assert_allclose(opt.ema[0], np.mean(seen, axis=0), rtol, rtol)
        else:
            assert_same_bits(opt.ema[0], before)
    assert seen
    opt.ema_decay = optim.swa(100)
    opt.step(np.zeros(9, dtype))
    assert not np.array_equal(opt.ema[0], first)


def test_swa_can_be_pickled_and_refuses():
    """Protects resuming in another process, and a pace that is none."""
    assert pickle.loads(pickle.dumps(optim.swa(3, 2))) == optim.swa(3, 2)
    for arguments, error, words in [
        ({"start": -1}, ValueError, "^start must be at least 0; got -1$"),
        ({"every": 0}, ValueError, "^every must be at least 1; got 0$"),
        ({"every": 0.5}, TypeError, "^every must be a whole number; got 0.5$"),
    ]:
        with pytest.raises(error, match=words):
            optim.swa(**arguments)


def test_an_average_with_no_weight_is_not_touched():
    """Protects `ema` from 0 * NaN in steps that do not average."""
    w = np.zeros(2)
    opt = optim.SGD(w, ema_decay=optim.swa(5), nonfinite="apply")
    opt.step(np.full(2, np.nan))
    assert np.isnan(w).all()
    assert opt.ema[0].tolist() == [0.0, 0.0]
