"""States and parameters in 16 and 8 bits: NumPy arrays, held to `fastgd.reference.formats`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from optimizers import (
    APART,
    BIG,
    SHAPES,
    arrays,
    assert_unchanged_by,
    busy,
    copies,
    everything,
    train,
)  # fmt: skip

from fastgd import _core, optim, projections
from fastgd._low_precision import EIGHT_BIT
from fastgd.optim import CLASSES
from fastgd.reference import formats

KEPT = ("bfloat16", "int8")
BLOCKWISE = [rule for rule in APART if _core.RULES[rule]["kind"] in _core.BLOCKWISE]
AWKWARD = ((), (0,), (1,), (7,), (255,), (256,), (257,), (3, 171), (4097,))
FLOATS = st.integers(0, 0xFFFFFFFF).map(formats.from_bits)


@pytest.fixture(params=["float16", "bfloat16"])
def short(request):
    """Each dtype of 16 bits that a parameter may have."""
    if request.param == "float16":
        return np.dtype(np.float16)
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)


def decoded(name, state, shape):
    """Values of a state's array."""
    if state.dtype == np.uint16:
        return (state.astype(np.uint32) << 16).view(np.float32)
    if state.dtype != np.uint8:
        return state
    n = int(np.prod(shape))
    n_blocks = -(-n // formats.BLOCK)
    scales, codes = state[: 4 * n_blocks].view(np.float32), state[4 * n_blocks :]
    signed = not name.endswith("_sq")
    values = [
        formats.decode(int(codes[formats.place(i)]), float(scales[i // formats.BLOCK]), signed)
        for i in range(n)
    ]
    return np.array(values, np.float32).reshape(shape)


def encoded(values, kept_in, step, array, signed):
    """What the specification makes of a state's values."""
    flat = [float(v) for v in values.ravel()]
    if kept_in == "bfloat16":
        noise = (formats.noise(step, array, i, 16) for i in range(len(flat)))
        bits = [formats.to_bfloat16(x, r) for x, r in zip(flat, noise, strict=True)]
        return np.array(bits, np.uint16).reshape(values.shape)
    blocks = [flat[i : i + formats.BLOCK] for i in range(0, len(flat), formats.BLOCK)]
    scales = [formats.scale_of(block) for block in blocks]
    codes = np.zeros(len(blocks) * formats.BLOCK, np.uint8)
    for i, x in enumerate(flat):
        random = formats.noise(step, array, i, 20)
        codes[formats.place(i)] = formats.encode(x, scales[i // formats.BLOCK], signed, random)
    parts = [np.array(scales, np.float32).view(np.uint8), codes]
    return np.concatenate(parts) if flat else np.zeros(0, np.uint8)


# ---- formats -------------------------------------------------------------------------------------


@given(FLOATS)
def test_formats_of_16_bits_are_numpys(x):
    """Protects the specification: rounding to nearest is NumPy's and ml_dtypes', everywhere."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with np.errstate(over="ignore"):
        for dtype, to, back in [
            (np.float16, formats.to_float16, formats.from_float16),
            (ml_dtypes.bfloat16, formats.to_bfloat16, formats.from_bfloat16),
        ]:
            assert_allclose(back(to(x)), float(np.float32(x).astype(dtype)), rtol=0)


@given(st.integers(0, 0xFFFF), st.integers(0, 2**13 - 1))
def test_what_is_a_number_of_16_bits_stays(bits, random):
    """Protects resting parameters: stochastic rounding does not move what needs no rounding."""
    for to, back in [
        (formats.to_float16, formats.from_float16),
        (formats.to_bfloat16, formats.from_bfloat16),
    ]:
        if back(bits) == back(bits):
            assert to(back(bits), random) == bits


@given(st.integers(0, 255), st.integers(-90, 120), st.booleans(), st.integers(0, 2**20 - 1))
def test_what_is_a_code_stays(code, exponent, signed, random):
    """Protects a state from drifting: decoding and encoding is the identity."""
    scale = 2.0**exponent
    assert formats.encode(formats.decode(code, scale, signed), scale, signed, random) == code


def test_stochastic_rounding_is_right_on_average():
    """Protects averages whose steps are smaller than a unit in the last place."""
    x, n = 1.0 + 0.3 / 128, 4000
    for bits, back, to in [
        (16, formats.from_bfloat16, formats.to_bfloat16),
        (13, formats.from_float16, formats.to_float16),
    ]:
        got = [back(to(x, formats.noise(7, 1, i, bits))) for i in range(n)]
        assert abs(np.mean(got) - x) < 4 / 128 / 2 / np.sqrt(n)
    for signed in (True, False):
        got = [formats.encode(0.8, 1.0, signed, formats.noise(7, 1, i, 20)) for i in range(n)]
        got = [formats.decode(code, 1.0, signed) for code in got]
        assert abs(np.mean(got) - 0.8) < 4 / 16 / 2 / np.sqrt(n)


def test_small_averages_of_squares_do_not_become_zero():
    """Protects the division by their root."""
    assert formats.encode(1e-30, 1.0, False, 0) == 0
    assert formats.decode(0, 1.0, False) == 2.0**-31
    assert formats.decode(0, 0.0, False) == 0


# ---- states: C is the specification --------------------------------------------------------------


@pytest.mark.parametrize("kept_in", KEPT)
@pytest.mark.parametrize("shape", AWKWARD, ids=str)
def test_states_are_the_specifications(kept_in, shape, isa, rng, assert_same_bits):
    """Protects the formats: one step of AdamW from a state, to the bit."""
    opt = optim.AdamW(arrays(rng, np.float32, [shape])[0], lr=0.1, state_dtype=kept_in)
    plain = optim.AdamW(opt.params[0].copy(), lr=0.1)
    for step in range(3):
        for name, state in plain.state[0].items():
            state[...] = decoded(name, opt.state[0][name], shape)
        plain.params[0][...] = opt.params[0]
        grads = arrays(rng, np.float32, [shape])
        for o in (opt, plain):
            o.step(grads)
        assert_same_bits(opt.params, plain.params)
        for k, (name, state) in enumerate(plain.state[0].items()):
            expected = encoded(state, kept_in, step, k, not name.endswith("_sq"))
            assert_same_bits(opt.state[0][name], expected)


@pytest.mark.parametrize("kept_in", KEPT)
@pytest.mark.parametrize("size", [300, 4097])
def test_wide_ranges_of_states(kept_in, size, isa, rng, assert_same_bits):
    """Protects subnormal, tiny, huge and zero states, all in one block."""
    grad = (10.0 ** rng.uniform(-40, 18, size) * rng.choice([-1, 0, 1], size)).astype(np.float32)
    opt = optim.Adam(np.zeros(size, np.float32), state_dtype=kept_in)
    plain = optim.Adam(np.zeros(size, np.float32))
    for o in (opt, plain):
        o.step(grad)
    for k, (name, state) in enumerate(plain.state[0].items()):
        assert_same_bits(
            opt.state[0][name], encoded(state, kept_in, 0, k, not name.endswith("_sq"))
        )


@pytest.mark.parametrize("rule", EIGHT_BIT)
def test_a_block_that_is_not_finite_is_nan(rule, rng):
    """Protects from a NaN that hides in a scale: the block is lost visibly, the others are not."""
    opt = CLASSES[rule](np.ones(600, np.float32), **busy(rule), state_dtype="int8",
                        nonfinite="apply")  # fmt: skip
    grad = np.ones(600, np.float32)
    grad[300] = np.nan
    opt.step(grad)
    opt.step(np.ones(600, np.float32))
    lost = np.isnan(opt.params[0])
    assert lost[256:512].all()
    assert not lost[:256].any()
    assert not lost[512:].any()


@pytest.mark.parametrize("size", [5, 64, 65, 300])
@pytest.mark.parametrize("rule", ["adan", "rprop", "signum"])
def test_a_nan_stays_one_in_bfloat16(rule, size):
    """Protects from NaNs that rounding up carries into the sign, or cutting turns into infinity."""
    bits = [0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFFBFFFFF, 0x7FC00000]
    grad = np.resize(np.array(bits, np.uint32), size).view(np.float32)
    opt = CLASSES[rule](np.ones(size, np.float32), state_dtype="bfloat16", nonfinite="apply")
    opt.step(grad)
    for name, state in opt.state[0].items():
        if name in ("exp_avg", "previous_grad", "prev"):
            assert (state & 0x7FFF > 0x7F80).all()


# ---- states: every rule, every option ------------------------------------------------------------

ON = {
    "max_norm": 50.0,
    "clip_value": 0.4,
    "ema_decay": 0.9,
    "report_norms": True,
    "lookahead": (2, 0.5),
}


def run(rule, dtype, shapes, steps=3, **options):
    """Arrays after some steps from a fixed start."""
    rng = np.random.default_rng(3)
    opt = CLASSES[rule](arrays(rng, dtype, shapes), **busy(rule), **options)
    train(opt, [arrays(rng, dtype, shapes) for _ in range(steps)])
    return opt


@pytest.mark.parametrize("rule", BLOCKWISE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bfloat16_states_of_every_rule(rule, dtype):
    """Protects each rule: two steps are as those with whole states, to the rounding of states."""
    opt, plain = (run(rule, dtype, SHAPES, 2, state_dtype=k) for k in ("bfloat16", None))
    assert all(s.dtype == np.uint16 for states in opt.state for s in states.values())
    for a, b in zip(opt.params, plain.params, strict=True):
        assert a.dtype == dtype
        assert_allclose(a, b, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("kept_in", KEPT)
@pytest.mark.parametrize("options", [{}, ON], ids=["plain", "all options"])
def test_same_bits_everywhere(kept_in, options, isa, n_threads, assert_same_bits):
    """Protects reproducibility: of any team, on any processor."""
    opt = run("adamw", np.float32, BIG, state_dtype=kept_in, **options)
    key = kept_in, str(options)
    if key not in _SEEN:
        _SEEN[key] = everything(opt)
    assert_same_bits(everything(opt), _SEEN[key])


_SEEN = {}


@pytest.mark.parametrize("size", [1, 63, 65, 1089, 4097])
@pytest.mark.parametrize("rule", [r for r in APART if _core.RULES[r]["kind"] == "elementwise"])
def test_bfloat16_in_the_rules_loop_and_block_by_block(rule, size, isa, rng, assert_same_bits):
    """Protects both ways of conversion from drifting apart; an average needs blocks."""
    plain, averaged = (
        CLASSES[rule](np.linspace(-1, 1, size, dtype=np.float32), state_dtype="bfloat16", **given)
        for given in (busy(rule), busy(rule) | {"ema_decay": 0.5})
    )
    for _ in range(2):
        grad = rng.standard_normal(size).astype(np.float32)
        plain.step(grad)
        averaged.step(grad)
    assert_same_bits(plain.params[0], averaged.params[0])
    for name, state in plain.state[0].items():
        assert_same_bits(state, averaged.state[0][name])


@pytest.mark.parametrize("kept_in", KEPT)
def test_memory_shrinks(kept_in):
    """Protects the purpose."""
    opt = optim.AdamW(np.zeros(100_000, np.float32), state_dtype=kept_in)
    per_element = sum(s.nbytes for s in opt.state[0].values()) / 100_000
    assert per_element <= {"bfloat16": 4, "int8": 2.04}[kept_in]


@pytest.mark.parametrize("kept_in", KEPT)
@pytest.mark.parametrize("by_file", [False, True], ids=["dict", "file"])
def test_resumed_to_the_bit(kept_in, by_file, tmp_path, rng, assert_same_bits):
    """Protects checkpoints: the training goes on as if it had not been interrupted."""
    params, grads = arrays(rng, np.float32), [arrays(rng, np.float32) for _ in range(4)]
    opt = optim.Adam(params, amsgrad=True, state_dtype=kept_in, ema_decay=0.5)
    train(opt, grads[:2])
    resumed = optim.Adam(copies(params), amsgrad=True, state_dtype=kept_in, ema_decay=0.5)
    if by_file:
        pytest.importorskip("safetensors")
        opt.save(tmp_path / "a", params=True)
        resumed.load(tmp_path / "a")
    else:
        resumed.load_state_dict(opt.state_dict())
    for o in (opt, resumed):
        train(o, grads[2:])
    assert_same_bits(everything(resumed), everything(opt))


@pytest.mark.parametrize("mine", [None, *KEPT])
@pytest.mark.parametrize("theirs", [None, *KEPT])
def test_states_of_another_format_are_refused(mine, theirs):
    """Protects from codes that are read as numbers."""
    if mine == theirs:
        return
    opt, other = (optim.Adam(np.ones(300, np.float32), state_dtype=k) for k in (mine, theirs))
    for o in (opt, other):
        o.step(np.ones(300, np.float32))
    saved = other.state_dict()
    assert_unchanged_by(
        opt, ValueError, "^state_dict must hold exp_avg", lambda: opt.load_state_dict(saved)
    )


def test_rules_without_8_bits_are_refused():
    """Protects from a format that does not suit a rule; the error names those that it does."""
    words = r"^state_dtype must not be \"int8\" for 'rprop': .* sgd, adam, adamw, lion$"
    with pytest.raises(ValueError, match=words):
        optim.Rprop(np.ones(3), state_dtype="int8")


@pytest.mark.parametrize("value", ["float16", "uint8", 8, np.float16, ""])
def test_unknown_formats_are_refused(value):
    """Protects from a typing error that would cost memory, or accuracy."""
    with pytest.raises(ValueError, match=r"^state_dtype must be None, \"bfloat16\" or \"int8\""):
        optim.Adam(np.ones(3), state_dtype=value)
    with pytest.raises(ValueError, match=r"^rounding must be"):
        optim.Adam(np.ones(3), rounding=value)


def test_formats_go_by_dtypes_too():
    """Protects those who have a dtype at hand."""
    assert optim.SGD(np.ones(3), state_dtype=np.int8).state_dtype == "int8"
    assert optim.SGD(np.ones(3), state_dtype=np.dtype(np.int8)).state_dtype == "int8"
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert optim.SGD(np.ones(3), state_dtype=ml_dtypes.bfloat16).state_dtype == "bfloat16"


def test_a_state_that_appears_late_has_the_format():
    """Protects momentum that is switched on in a later step."""
    opt = optim.SGD(np.ones(300, np.float32), state_dtype="int8")
    opt.step(np.ones(300, np.float32))
    opt.momentum = 0.5
    opt.step(np.ones(300, np.float32))
    assert opt.state[0]["momentum_buffer"].nbytes == _core.code_bytes(300)


# ---- parameters of 16 bits -----------------------------------------------------------------------


@pytest.mark.parametrize("rule", BLOCKWISE)
def test_master_weights_are_float32s(rule, short, rng, assert_same_bits):
    """Protects 16-bit training: the master copy goes as a float32 parameter does, to the bit."""
    params = arrays(rng, short, SHAPES)
    opt = CLASSES[rule](params, **busy(rule))
    plain = CLASSES[rule]([p.astype(np.float32) for p in params], **busy(rule))
    for k in range(3):
        grads = arrays(rng, short, SHAPES)
        wide = [g.astype(np.float32) for g in grads]
        opt.step(wide if k == 1 else grads)  # gradients may have either dtype
        plain.step(wide)
    assert_same_bits([s["master"] for s in opt.state], plain.params)
    assert_same_bits(params, [p.astype(short) for p in plain.params])


def test_assigning_to_a_parameter_reaches_its_master(short):
    """Protects loaded weights: the master copy does not undo them."""
    w = np.ones(70, short)
    opt = optim.SGD(w, lr=1.0)
    opt.step(np.full(70, 2.0**-12, short))
    kept = opt.state[0]["master"][0]
    w[3] = 5
    opt.step(np.zeros(70, short))
    assert opt.state[0]["master"][3] == 5
    assert opt.state[0]["master"][0] == kept != w[0].astype(np.float32)


def test_stochastic_parameters_are_the_specifications(short, isa, n_threads, rng, assert_same_bits):
    """Protects rounding without a master copy, to the bit."""
    w = np.asarray(rng.uniform(-1e-4 if short == np.float16 else -1, 1, 4097), short)
    w[:50] = rng.uniform(-6e-8, 6e-8, 50).astype(short)
    opt = optim.SGD(w, lr=1e-3, rounding="stochastic")
    assert "master" not in opt.state[0]
    bits, to = (13, formats.to_float16) if short == np.float16 else (16, formats.to_bfloat16)
    for step in range(2):
        grad = rng.standard_normal(4097).astype(np.float32)
        wide = w.astype(np.float32)
        optim.SGD(wide, lr=1e-3).step(grad)
        opt.step(grad)
        expected = [to(float(x), formats.noise(step, 4, i, bits)) for i, x in enumerate(wide)]
        assert_same_bits(w.view(np.uint16), np.array(expected, np.uint16))


def test_small_steps_add_up(short):
    """Protects learning: steps that rounding to nearest would drop move the mean as they should."""
    w = np.ones(20_000, short)
    opt = optim.SGD(w, lr=1.0, rounding="stochastic")
    for _ in range(20):
        opt.step(np.full(20_000, 2.0**-13, np.float32))
    assert_allclose(w.astype(np.float64).mean(), 1 - 20 * 2.0**-13, rtol=2e-4)


def test_averages_and_norms_of_16_bits(short, rng):
    """Protects the options: averages are float32, norms and clipping see 16-bit gradients."""
    w = arrays(rng, short, [(700,)])[0]
    start = w.astype(np.float32)
    opt = optim.SGD(w, lr=0.5, ema_decay=0.75, max_norm=1.0, report_norms=True)
    grad = np.asarray(rng.standard_normal(700), short)
    opt.step(grad.copy(), zero_grads=True)
    norm = np.linalg.norm(grad.astype(np.float64))
    assert_allclose(opt.last_step.grad_norm, norm, 1e-12)
    master = opt.state[0]["master"]
    assert_allclose(master, start - 0.5 * grad.astype(np.float32) / norm, 1e-5, 1e-6)
    assert opt.ema[0].dtype == np.float32
    assert_allclose(opt.ema[0], 0.75 * start + 0.25 * master, 1e-5, 1e-6)


def test_16_bit_gradients_are_zeroed(short):
    """Protects accumulation in place."""
    grad = np.ones(700, short)
    optim.SGD(np.ones(700, short)).step(grad, zero_grads=True)
    assert not grad.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_16_bit_gradients_are_found(short, value, assert_same_bits):
    """Protects the guard: index and value are named, and nothing has changed."""
    opt = optim.Adam([np.ones(3, short), np.ones(2000, short)], max_norm=1.0)
    opt.step([np.ones(3, short), np.ones(2000, short)])
    grads = [np.ones(3, short), np.ones(2000, short)]
    grads[1][1234] = value
    before = everything(opt)
    with pytest.raises(
        optim.NonFiniteError, match=r"^grads\[1\] must be finite; got .* at \[1234\]"
    ):
        opt.step(grads)
    assert_same_bits(everything(opt), before)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_16_bit_training_resumed_to_the_bit(short, rounding, tmp_path, rng, assert_same_bits):
    """Protects checkpoints with their parameters, of either dtype."""
    pytest.importorskip("safetensors")
    params, grads = arrays(rng, short), [arrays(rng, short) for _ in range(4)]
    opt = optim.AdamW(params, rounding=rounding, lookahead=(2, 0.5))
    train(opt, grads[:3])
    opt.save(tmp_path / "a", params=True)
    resumed = optim.AdamW([np.zeros_like(p) for p in params], rounding=rounding, lookahead=(2, 0.5))
    resumed.load(tmp_path / "a")
    for o in (opt, resumed):
        train(o, grads[3:])
    assert_same_bits(everything(resumed), everything(opt))


def test_accumulated_16_bit_gradients(short):
    """Protects the mean of many small gradients: it is added up in float32."""
    w = np.zeros(3, short)
    opt = optim.SGD(w, lr=1.0)
    opt.accumulate(np.full(3, 1.0, short))
    for _ in range(3):
        opt.accumulate(np.full(3, 2.0**-12, short))
    opt.step()
    assert_allclose(opt.state[0]["master"], -(1 + 3 * 2.0**-12) / 4, 1e-7)


WRONG = {
    "dtype": (lambda g: g.astype(np.float64), TypeError, r"^grads\[0\] must be of dtype"),
    "shape": (lambda g: g[:2], ValueError, r"^grads\[0\] must have the shape"),
}


@pytest.mark.parametrize(("make", "error", "words"), WRONG.values(), ids=WRONG)
def test_wrong_gradients_of_16_bit_parameters(short, make, error, words):
    """Protects from numbers that are read as others."""
    opt = optim.Adam(np.ones(3, short))
    assert_unchanged_by(opt, error, words, lambda: opt.step(make(np.ones(3, short))))


def test_overlaps_are_found_in_every_format(short):
    """Protects from reading what has been written: lengths are those of the format."""
    memory = np.ones(16, short)
    with pytest.raises(ValueError, match=r"^params must not overlap"):
        optim.SGD([memory[:9], memory[8:]])
    opt = optim.SGD([memory[:8]])
    assert_unchanged_by(
        opt, ValueError, r"^grads\[0\] must not overlap", lambda: opt.step([memory[7:15]])
    )
    opt.step([memory[8:]])


@pytest.mark.parametrize("option", [{"centralize": True}, {"agc": 0.1}], ids=str)
def test_options_that_look_at_units_refuse_16_bits(short, option):
    """Protects from a pass over the gradient that reads it as float32."""
    with pytest.raises(ValueError, match=rf"^{next(iter(option))} must not be used with"):
        optim.SGD(np.ones((3, 4), short), **option)


def test_units_with_low_states(rng, assert_same_bits):
    """Protects centralisation and adaptive clipping where only the states are short."""
    shapes = [(70, 30), (5, 3, 7)]
    params = arrays(rng, np.float32, shapes)
    opts = [optim.SGD(copies(params), lr=0.1, momentum=0.0, centralize=True, agc=0.5, state_dtype=k)
            for k in (None, "bfloat16")]  # fmt: skip
    moved = optim.SGD(copies(params), lr=0.1, momentum=0.5, centralize=True, agc=0.5,
                      state_dtype="bfloat16")  # fmt: skip
    grads = arrays(rng, np.float32, shapes)
    for o in (*opts, moved):
        o.step(grads)
    assert_same_bits(opts[0].params, opts[1].params)
    assert_same_bits(opts[0].params, moved.params)


def test_projections_of_16_bits(short):
    """Protects bounds; what looks at a whole tensor would read it as float32, and is refused."""
    w = np.ones(300, short)
    optim.SGD(w, lr=1.0, projection=projections.box(0, 0.5)).step(np.zeros(300, short))
    assert (w == 0.5).all()
    with pytest.raises(ValueError, match=r"^projection must not be used with"):
        optim.SGD(w, projection=projections.l2_ball(1.0))
    opt = optim.SGD(w)
    with pytest.raises(ValueError, match=r"^projection must not be used with"):
        opt.param_groups[0]["projection"] = projections.l2_ball(1.0)
    assert "projection" not in opt.param_groups[0]


def test_factored_moments_are_whole(short):
    """Protects from a format that a rule's loops do not convert."""
    with pytest.raises(TypeError, match=r"^params\[0\] must be of dtype float32 or float64 for"):
        optim.Adafactor(np.ones((3, 4), short))
    with pytest.raises(ValueError, match=r"^state_dtype must be None for 'adafactor'"):
        optim.Adafactor(np.ones((3, 4)), state_dtype="bfloat16")
