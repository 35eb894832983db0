"""The options of a step: clipping, scaling, moving averages, norms.

Each is held to torch or to a few lines of NumPy around the plain rule, which ``test_optim.py``
holds to the specification. The guard has a file of its own, ``test_optim_nonfinite.py``.
"""

import functools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from optimizers import (
    BIG,
    CLASSES,
    OPTION_DEFAULTS,
    OPTIONS,
    arrays,
    assert_unchanged_by,
    busy,
    copies,
    everything,
    snapshot,
    train,
)

import fastgd
from fastgd import _core, optim

SHAPES = ((3, 4), (5,), (), (0, 2), (4097,))
EPS = {np.dtype(np.float32): 2.0**-23, np.dtype(np.float64): 2.0**-52}


def norm_of(grads):
    """Euclidean norm of all of them together, in float64."""
    return math.sqrt(sum(float(np.sum(np.square(g.astype(np.float64)))) for g in grads))


def twins(rule, dtype, rng, shapes=SHAPES, **options):
    """Two optimizers with the same parameters; the second has no options."""
    params = arrays(rng, dtype, shapes)
    hypers = busy(rule)
    return CLASSES[rule](copies(params), **hypers, **options), CLASSES[rule](params, **hypers)


def states_of(opt):
    """Parameters and states, without averages."""
    return everything(opt)[: len(opt.params) + sum(map(len, opt.state))]


# ---- max_norm ------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e6])
def test_max_norm_is_torchs(torch, dtype, isa, n_threads, max_norm, rng):
    """Protects parity with ``clip_grad_norm_`` over the whole list, clipping or not."""
    params = arrays(rng, dtype, SHAPES)
    start, grads = copies(params), arrays(rng, dtype, SHAPES)
    theirs = [torch.zeros(g.shape, dtype=torch.from_numpy(g).dtype) for g in grads]
    for tensor, g in zip(theirs, grads, strict=True):
        tensor.grad = torch.tensor(g)
    total = torch.nn.utils.clip_grad_norm_(theirs, max_norm, foreach=False)
    opt = optim.SGD(params, lr=1.0, max_norm=max_norm)
    opt.step(grads)
    rtol = 20 * EPS[dtype]
    assert_allclose(opt.last_step.grad_norm, float(total), rtol)
    assert_allclose(opt.last_step.grad_norm, norm_of(grads), 1e-14)
    assert_allclose(opt.last_step.clip_factor, min(1, max_norm / (float(total) + 1e-6)), rtol)
    for param, old, tensor in zip(params, start, theirs, strict=True):
        assert_allclose(param, old - tensor.grad.numpy(), rtol, 2 * rtol)


def test_max_norm_scales_what_the_rule_gets(rule, dtype, rng, assert_same_bits):
    """Protects states: they see the clipped gradients too, not only the parameters."""
    opt, plain = twins(rule, dtype, rng, max_norm=0.25)
    for _ in range(3):
        grads = arrays(rng, dtype, SHAPES)
        opt.step(grads)
        factor = dtype.type(opt.last_step.clip_factor)
        assert factor < 0.1
        plain.step([np.asarray(g * factor) for g in grads])
        assert_same_bits(everything(opt), everything(plain))


def test_short_gradients_are_not_clipped(rule, dtype, rng, assert_same_bits):
    """Protects exactness: below max_norm the factor is 1, and no bit is different."""
    opt, plain = twins(rule, dtype, rng, max_norm=1000.0)
    grads = arrays(rng, dtype, SHAPES)
    for o in (opt, plain):
        o.step(grads)
    assert opt.last_step.clip_factor == 1.0
    assert_same_bits(everything(opt), everything(plain))


def test_max_norm_of_zero_gradients(dtype):
    """Protects from 0 / 0: nothing moves, nothing is NaN, the factor is 1."""
    w = np.ones(5, dtype)
    opt = optim.SGD(w, lr=1.0, max_norm=0.5)
    opt.step(np.zeros(5, dtype))
    assert w.tolist() == [1.0] * 5
    assert opt.last_step[:2] == (0.0, 1.0)


def test_max_norm_counts_the_gradients_that_take_part(dtype):
    """Protects the norm from parameters that rest: None and frozen ones have no gradient."""
    params = [np.ones(2, dtype) for _ in range(3)]
    opt = optim.SGD([{"params": params[:2]}, {"params": params[2:], "frozen": True}], max_norm=1.0)
    opt.step([np.array([3, 4], dtype), None, np.full(2, 1e6, dtype)])
    assert opt.last_step.grad_norm == 5.0


# ---- clip_value, grad_scale, zero_grads ----------------------------------------------------------


def test_clip_value_cuts_each_element(rule, dtype, rng, assert_same_bits):
    """Protects ``clip_value``: what the rule gets is ``np.clip`` of the gradient, to the bit."""
    opt, plain = twins(rule, dtype, rng, clip_value=0.5)
    for _ in range(3):
        grads = arrays(rng, dtype, SHAPES)
        before = copies(grads)
        opt.step(grads)
        plain.step([np.clip(g, -0.5, 0.5) for g in grads])
        assert_same_bits(grads, before)
    assert_same_bits(everything(opt), everything(plain))


def test_clip_value_follows_max_norm(dtype, rng):
    """Protects the order: the norm is of the whole gradients, the cut is of the scaled ones."""
    grads = arrays(rng, dtype, [(6,)])
    w = np.zeros(6, dtype)
    opt = optim.SGD(w, lr=1.0, max_norm=1.0, clip_value=0.3)
    opt.step(grads)
    assert_allclose(opt.last_step.grad_norm, norm_of(grads), 1e-14)
    scaled = grads[0] / (norm_of(grads) + 1e-6)
    assert np.abs(scaled).max() > 0.3 > np.abs(scaled).min()
    assert_allclose(w, -np.clip(scaled, -0.3, 0.3), 10 * EPS[dtype])


@pytest.mark.parametrize("scale", [8.0, 3.0, 65536.0])
def test_grad_scale_divides(rule, dtype, scale, rng):
    """Protects mixed-precision training: gradients that are too large by a factor are not seen."""
    opt, plain = twins(rule, dtype, rng)
    for _ in range(3):
        grads = arrays(rng, dtype, SHAPES)
        opt.step([np.asarray(g * dtype.type(scale)) for g in grads], grad_scale=scale)
        plain.step(grads)
        for a, b in zip(everything(opt), everything(plain), strict=True):
            assert_allclose(a, b, 1000 * EPS[dtype], 1000 * EPS[dtype])


def test_grad_scale_does_not_stay(dtype):
    """Protects the next step from the scale of this one."""
    w = np.zeros(1, dtype)
    opt = optim.SGD(w, lr=1.0)
    opt.step(np.ones(1, dtype), grad_scale=2.0)
    opt.step(np.ones(1, dtype))
    assert w[0] == -1.5


def test_norm_is_of_unscaled_gradients(dtype):
    """Protects max_norm under a loss scale: it means the true gradients."""
    w = np.zeros(2, dtype)
    opt = optim.SGD(w, lr=1.0, max_norm=2.5, clip_value=1.75)
    opt.step(np.array([300.0, 400.0], dtype), grad_scale=100.0)
    assert opt.last_step.grad_norm == 5.0
    assert_allclose(opt.last_step.clip_factor, 2.5 / 5.000001, 1e-15)
    assert_allclose(w, [-1.5, -1.75], 1e-6)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_bad_grad_scales_are_refused(scale):
    """Protects from dividing by nothing."""
    opt = optim.Adam(np.ones(3))
    opt.step(np.ones(3))
    assert_unchanged_by(
        opt, ValueError, "^grad_scale must be", lambda: opt.step(np.ones(3), grad_scale=scale)
    )


def test_zero_grads(rule, dtype, isa, n_threads, rng, assert_same_bits):
    """Protects accumulation: each gradient that was used is zero afterwards, and was used whole."""
    opt, plain = twins(rule, dtype, rng)
    grads = arrays(rng, dtype, SHAPES)
    plain.step([*grads[:1], None, *grads[2:]])
    rests = grads[1].copy()
    opt.step([*grads[:1], None, *grads[2:]], zero_grads=True)
    assert_same_bits(everything(opt), everything(plain))
    assert not any(g.any() for g in (grads[0], *grads[2:]))
    assert_same_bits(grads[1], rests)


BAD_TO_ZERO = {
    "read-only": lambda g: np.frombuffer(g.tobytes()),
    "strided": lambda g: np.repeat(g, 2)[::2],
    "broadcast": lambda g: np.broadcast_to(g[:1], g.shape),
}


@pytest.mark.parametrize("make", BAD_TO_ZERO.values(), ids=BAD_TO_ZERO)
def test_gradients_that_cannot_be_zeroed_are_refused(make):
    """Protects from zeroing a copy, and from writing to what is locked."""
    opt = optim.Adam([np.ones(4), np.ones(4)])
    grads = [np.ones(4), make(np.ones(4))]
    words = r"^grads\[1\] must be C-contiguous and writeable"
    assert_unchanged_by(opt, ValueError, words, lambda: opt.step(grads, zero_grads=True))
    assert grads[0].all()
    opt.step(grads)


def test_scalars_cannot_be_zeroed():
    """Protects from zeroing a copy: a NumPy scalar is not an array."""
    opt = optim.SGD(np.array(1.0))
    words = r"^grads\[0\] must be a NumPy array"
    assert_unchanged_by(opt, TypeError, words, lambda: opt.step([np.float64(1)], zero_grads=True))


OVERLAPS = {
    "twice": lambda m: [m[:4], m[:4]],
    "one element": lambda m: [m[:4], m[3:7]],
    "descending": lambda m: [m[4:8], m[2:6]],
}


@pytest.mark.parametrize("make", OVERLAPS.values(), ids=OVERLAPS)
def test_gradients_in_one_place_cannot_be_zeroed(make):
    """Protects the second from being read when the first has been zeroed already."""
    opt, memory = optim.SGD([np.ones(4), np.ones(4)]), np.ones(12)
    assert_unchanged_by(
        opt, ValueError, "^grads must not overlap",
        lambda: opt.step(make(memory), zero_grads=True),
    )  # fmt: skip
    assert memory.all()
    opt.step(make(memory))  # which is well without zeroing
    opt.step([memory[4:8], memory[:4]], zero_grads=True)  # neighbours do not overlap
    assert not memory[:8].any()
    assert memory[8:].all()


# ---- moving averages -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "decay", [0.9, 0.25, 0.0, 1.0, lambda step: min(0.9, 1 - 1 / step)],
    ids=["0.9", "0.25", "0", "1", "callable"],
)  # fmt: skip
def test_ema_is_a_plain_loop(dtype, isa, n_threads, decay, rng):
    """Protects the average: it starts with the parameters and follows each step."""
    params = arrays(rng, dtype, SHAPES)
    opt = optim.Adam(params, lr=0.1, ema_decay=decay)
    expected = [p.astype(np.float64) for p in params]
    assert [(a.dtype, a.shape) for a in opt.ema] == [(dtype, p.shape) for p in params]
    for step in range(1, 8):
        opt.step(arrays(rng, dtype, SHAPES))
        d = decay(step) if callable(decay) else decay
        expected = [d * e + (1 - d) * p for e, p in zip(expected, params, strict=True)]
        for a, e in zip(opt.ema, expected, strict=True):
            assert_allclose(a, e, 10 * EPS[dtype], 10 * EPS[dtype])


def test_ema_is_exact_at_both_ends(dtype, rng, assert_same_bits):
    """Protects decay 0, which is the parameter itself, and decay 1, which is the start."""
    params = arrays(rng, dtype, SHAPES)
    start = copies(params)
    opt = optim.Adam(params, lr=0.1, ema_decay=1.0)
    opt.step(arrays(rng, dtype, SHAPES))
    assert_same_bits(opt.ema, start)
    opt.ema_decay = 0.0
    opt.step(arrays(rng, dtype, SHAPES))
    assert_same_bits(opt.ema, params)


def test_ema_does_not_change_the_training(rule, dtype, rng, assert_same_bits):
    """Protects parameters and states from being averaged over."""
    opt, plain = twins(rule, dtype, rng, ema_decay=0.75)
    grads = [arrays(rng, dtype, SHAPES) for _ in range(3)]
    for o in (opt, plain):
        train(o, grads)
    assert_same_bits(states_of(opt), states_of(plain))
    assert plain.ema is None


def test_ema_of_resting_parameters_moves():
    """Protects the average of what has been frozen since: it goes on towards the parameter."""
    params = [np.zeros(2), np.zeros(2)]
    opt = optim.SGD([{"params": params[:1]}, {"params": params[1:]}], lr=1.0, ema_decay=0.5)
    opt.step([np.full(2, -1.0), np.full(2, -1.0)])
    opt.param_groups[1]["frozen"] = True
    opt.step([None, np.full(2, -1.0)])
    assert [p.tolist() for p in params] == [[1, 1], [1, 1]]
    assert [a.tolist() for a in opt.ema] == [[0.75, 0.75], [0.75, 0.75]]


def test_ema_callable_gets_the_number_of_the_step():
    """Protects warm-up formulas: steps are counted from 1 on, and a skipped one is not counted."""
    seen = []
    opt = optim.SGD(np.ones(2), ema_decay=lambda step: seen.append(step) or 0.5, nonfinite="skip")
    for g in (1.0, math.nan, 1.0):
        opt.step(np.full(2, g))
    assert seen == [1, 2, 2]


@pytest.mark.parametrize("value", [1.5, -0.1, math.nan, "0.5", None])
def test_bad_value_of_an_ema_callable_changes_nothing(value):
    """Protects the average from a formula that is wrong in a late step."""
    opt = optim.Adam(
        np.ones(3), lr=lambda t: 0.5 / (t + 1), ema_decay=lambda step: 0.5 if step < 2 else value
    )
    opt.step(np.ones(3))
    assert_unchanged_by(
        opt, (TypeError, ValueError), "^ema_decay must", lambda: opt.step(np.ones(3))
    )


def test_ema_switched_on_late_starts_from_the_parameters(rng, assert_same_bits):
    """Protects averaging over the end of a training only; switching off forgets."""
    params = arrays(rng, np.float64)
    opt = optim.SGD(params, lr=0.5)
    opt.step(arrays(rng, np.float64))
    opt.ema_decay = 0.5
    assert_same_bits(opt.ema, params)
    before = copies(params)
    opt.step(arrays(rng, np.float64))
    for a, p, b in zip(opt.ema, params, before, strict=True):
        assert_allclose(a, (p + b) / 2, 1e-15)
    opt.ema_decay = None
    assert opt.ema is None
    opt.step(arrays(rng, np.float64))


# ---- reports -------------------------------------------------------------------------------------


def test_norms_are_numpys(rule, dtype, isa, n_threads, rng):
    """Protects ``last_step``: both norms are over the whole list, in float64."""
    params = arrays(rng, dtype, SHAPES)
    opt = CLASSES[rule](params, **busy(rule), report_norms=True, clip_value=0.5)
    assert opt.last_step is None
    for _ in range(2):
        before, grads = copies(params), arrays(rng, dtype, SHAPES)
        opt.step(grads)
        assert_allclose(opt.last_step.grad_norm, norm_of(grads), 1e-14)
        changes = [np.asarray(p - b) for p, b in zip(params, before, strict=True)]
        assert_allclose(opt.last_step.update_norm, norm_of(changes), 1e-14)
    assert opt.last_step._fields == ("grad_norm", "clip_factor", "update_norm", "skipped")
    assert opt.last_step[1::2] == (1.0, False)


def test_norms_without_resting_parameters(dtype):
    """Protects the norms from what took no part: an earlier step's sums are not added."""
    params = [np.zeros(5000, dtype), np.zeros(2, dtype)]
    opt = optim.SGD(params, lr=1.0, report_norms=True, ema_decay=0.5)
    opt.step([np.ones(5000, dtype), np.ones(2, dtype)])
    opt.step([None, np.array([3, 4], dtype)])
    assert opt.last_step == (5.0, 1.0, 5.0, False)
    opt.step([None, None])
    assert opt.last_step == (0.0, 1.0, 0.0, False)


# ---- all together --------------------------------------------------------------------------------

ON = {"max_norm": 50.0, "clip_value": 0.4, "ema_decay": 0.9, "report_norms": True}


@functools.cache
def problem(dtype):
    """Parameters and gradients, large enough for threads."""
    rng = np.random.default_rng(2)
    return arrays(rng, dtype, BIG), [arrays(rng, dtype, BIG) for _ in range(2)]


def bits_after(rule, dtype, **options):
    """What there is after some steps from a fixed start, and the last report."""
    params, grads = problem(dtype)
    opt = CLASSES[rule](copies(params), **busy(rule), **options)
    sent = [copies(g) for g in grads]
    train(opt, sent, grad_scale=2.0, zero_grads=True)
    return [*everything(opt), *sent[0]], opt.last_step


@functools.cache
def bits_of_one_thread(rule, dtype, **options):
    """The same on the first instruction set."""
    isa = _core.active_isa()
    _core.use_isa(_core.ISAS[0])
    with fastgd.threads(1):
        bits = bits_after(rule, dtype, **options)
    _core.use_isa(isa)
    return bits


@pytest.mark.parametrize("rule", ["sgd", "adam", "asgd"])
@pytest.mark.parametrize("options", [ON, ON | {"report_norms": False, "max_norm": None}],
                         ids=["all", "no norm"])  # fmt: skip
def test_same_bits_with_all_options(rule, options, dtype, isa, n_threads, assert_same_bits):
    """Protects reproducibility: sums do not depend on the team, nor on the processor."""
    bits, report = bits_after(rule, dtype, **options)
    expected, expected_report = bits_of_one_thread(rule, dtype, **options)
    assert_same_bits(bits, expected)
    assert repr(report) == repr(expected_report)
    assert options["max_norm"] is None or report.clip_factor < 0.9


def test_one_call_is_a_call_per_tensor(rule, dtype, n_threads, assert_same_bits):
    """Protects the fused pass: where no norm is involved, tensors do not know of each other."""
    params, grads = problem(dtype)
    options = {"clip_value": 0.4, "ema_decay": 0.9}
    opt = CLASSES[rule](copies(params), **busy(rule), **options)
    singles = [CLASSES[rule](p.copy(), **busy(rule), **options) for p in params]
    for g in grads:
        opt.step(g, grad_scale=2.0)
        for single, gi in zip(singles, g, strict=True):
            single.step(gi, grad_scale=2.0)
    assert_same_bits(opt.params, [s.params[0] for s in singles])
    assert_same_bits(opt.ema, [s.ema[0] for s in singles])
    assert_same_bits([list(s.values()) for s in opt.state],
                     [list(s.state[0].values()) for s in singles])  # fmt: skip


def test_options_may_be_assigned_between_steps(rule, dtype, rng, assert_same_bits):
    """Protects schedules of the options: each holds from the next step on."""
    opt, plain = twins(rule, dtype, rng)
    for name, value in [("clip_value", 0.5), ("max_norm", 1e9), ("report_norms", True)]:
        setattr(opt, name, value)
        assert getattr(opt, name) == value
        grads = arrays(rng, dtype, SHAPES)
        opt.step(grads)
        plain.step([np.clip(g, -0.5, 0.5) for g in grads])
        assert np.isfinite(opt.last_step.update_norm) == (name == "report_norms")
    opt.clip_value = opt.max_norm = None
    opt.nonfinite, opt.report_norms = "apply", False
    grads = arrays(rng, dtype, SHAPES)
    for o in (opt, plain):
        o.step(grads)
    assert np.isnan(opt.last_step.grad_norm)
    assert_same_bits(everything(opt), everything(plain))


BAD_OPTIONS = [
    ("max_norm", -1.0, ValueError, r"^max_norm must be .*; got -1.0$"),
    ("max_norm", math.nan, ValueError, r"^max_norm must be .*; got nan$"),
    ("max_norm", math.inf, ValueError, r"^max_norm must be .*; got inf$"),
    ("max_norm", "1", TypeError, r"^max_norm must be .*; got '1'$"),
    ("agc", -0.5, ValueError, r"^agc must be .*; got -0.5$"),
    ("agc", "0.1", TypeError, r"^agc must be .*; got '0.1'$"),
    ("centralize", 2, ValueError, r"^centralize must be True or False; got 2$"),
    ("projection", abs, TypeError, r"^projection must be None or one of .*; got <built-in"),
    ("lookahead", 5, TypeError, r"^lookahead must be .*; got 5$"),
    ("lookahead", (5.0, 0.5), TypeError, r"^lookahead must be .*; got \(5.0, 0.5\)$"),
    ("lookahead", (0, 0.5), ValueError, r"^lookahead must be .*; got \(0, 0.5\)$"),
    ("lookahead", (5, 1.5), ValueError, r"^lookahead must be .*; got \(5, 1.5\)$"),
    ("clip_value", -0.5, ValueError, r"^clip_value must be .*; got -0.5$"),
    ("clip_value", [1.0], TypeError, r"^clip_value must be .*; got \[1.0\]$"),
    ("nonfinite", "ignore", ValueError, r"^nonfinite must be \"raise\", .*; got 'ignore'$"),
    ("nonfinite", None, ValueError, r"^nonfinite must be .*; got None$"),
    ("ema_decay", 1.5, ValueError, r"^ema_decay must be a number from 0 to 1; got 1.5$"),
    ("ema_decay", -0.1, ValueError, r"^ema_decay must be .*; got -0.1$"),
    ("ema_decay", "0.9", TypeError, r"^ema_decay must be .*; got '0.9'$"),
    ("report_norms", 2, ValueError, r"^report_norms must be True or False; got 2$"),
    ("report_norms", "yes", TypeError, r"^report_norms must be True or False; got 'yes'$"),
]


@pytest.mark.parametrize(("name", "value", "error", "words"), BAD_OPTIONS)
def test_bad_options_are_refused(name, value, error, words):
    """Protects from a clip that does not clip: at construction and later, nothing has changed."""
    with pytest.raises(error, match=words):
        optim.SGD(np.ones(3), **{name: value})
    opt = optim.Adam(np.ones(3), max_norm=1.0, clip_value=0.5, ema_decay=0.5)
    opt.step(np.ones(3))
    assert_unchanged_by(opt, error, words, lambda: setattr(opt, name, value))
    twin = optim.Adam(np.ones(3), max_norm=1.0, clip_value=0.5, ema_decay=0.5)
    train(twin, [np.ones(3)] * 2)
    opt.step(np.ones(3))
    assert snapshot(opt)["arrays"] == snapshot(twin)["arrays"]


def test_options_are_read_as_they_were_given():
    """Protects who looks: what is set can be read, by the names of the constructor."""
    opt = optim.SGD(np.ones(1))
    assert {name: getattr(opt, name) for name in OPTIONS} == OPTION_DEFAULTS
    decay = math.sin
    given = ON | {"ema_decay": decay, "nonfinite": "skip", "agc": 0.5, "centralize": True}
    opt = optim.SGD(np.ones(1), **given)
    assert {name: getattr(opt, name) for name in OPTIONS} == OPTION_DEFAULTS | given
