"""`fastgd.optim`: every rule of the table, held to the specification, to torch and to its word.

Rules, hyper-parameters and their domains are read from the table, so that a new row of
``csrc/optim_rules.h`` is tested as soon as it is there.
"""

import copy
import inspect
import itertools
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import fastgd
from fastgd import _core, optim, reference

CLASSES = {cls.rule_name: cls for cls in optim.Optimizer.__subclasses__()}
RULES = tuple(_core.RULES)
SHAPES = ((3, 4), (5,), (), (0, 2), (9,))
STEPS = 50

VALUES = {  # by domain: what hypothesis draws, and a value that is nobody's default
    "nonnegative": (st.just(0.0) | st.floats(1e-6, 1.0), 0.125),
    "unit": (st.just(0.0) | st.floats(1e-3, 0.9999), 0.5),
    "flag": (st.booleans(), True),
    "real": (st.just(0.0) | st.floats(-1.0, 1.0), 0.25),
}


@pytest.fixture(params=RULES)
def rule(request):
    """Name of each rule of the table."""
    return request.param


@pytest.fixture
def torch():
    """Torch, or skip."""
    return pytest.importorskip("torch")


# ---- hyper-parameters from the table -------------------------------------------------------------


def public(rule, row):
    """Hyper-parameters as the classes take them, from those of the table's row."""
    betas = tuple(value for name, value in row.items() if name.startswith("beta"))
    others = {name: value for name, value in row.items() if not name.startswith("beta")}
    return others | ({"betas": betas} if betas else {})


def specified(rule, row):
    """Hyper-parameters as the specification takes them, from those of the table's row."""
    takes_betas = "betas" in inspect.signature(reference.RULES[rule]).parameters
    return public(rule, row) if takes_betas else row


def is_allowed(rule, row):
    """Whether the hyper-parameters go together."""
    try:
        optim.hyper_values(rule, public(rule, row))
    except ValueError:
        return False
    return True


@st.composite
def rows(draw, rule):
    """Hyper-parameters in their domains: a dict by the names of the table's row."""
    row = {name: draw(VALUES[domain][0]) for name, _, domain in _core.RULES[rule]["hypers"]}
    if not is_allowed(rule, row):
        row["nesterov"] = False
    return row


def all_rows(rule):
    """Every combination of the default and another value of each hyper-parameter."""
    names = [name for name, _, _ in _core.RULES[rule]["hypers"]]
    pairs = [
        (bool(value) if domain == "flag" else value, VALUES[domain][1])
        for _, value, domain in _core.RULES[rule]["hypers"]
    ]
    combinations = (dict(zip(names, v, strict=True)) for v in itertools.product(*pairs))
    return [row for row in combinations if is_allowed(rule, row)]


def busy(rule):
    """Hyper-parameters with as much switched on as goes together: every state is kept."""
    return public(rule, max(all_rows(rule), key=lambda row: sum(v != 0 for v in row.values())))


# ---- problems ------------------------------------------------------------------------------------


def arrays(rng, dtype, shapes=SHAPES):
    """Random arrays whose elements lie between 1/4 and 1 in absolute value."""
    return [
        np.asarray(rng.uniform(0.25, 1.0, shape) * rng.choice([-1, 1], shape), dtype=dtype)
        for shape in shapes
    ]


def train(opt, grads):
    """Take a step for each list of gradients."""
    for g in grads:
        opt.step(g)


def everything(opt):
    """What a step may change, as a list of copies."""
    return [a.copy() for a in (*opt.params, *(a for s in opt.state for a in s.values()))]


RTOL = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 200 * 2.0**-23}


def assert_follows_reference(rule, row, params, grads, *, restart=False):
    """Fail if a step leads elsewhere than the specification, which computes in float64.

    Differences are measured by the largest number met so far. With `restart`, every step is taken
    from the same parameters: with hyper-parameters such as lr = weight_decay = 1 a trajectory can
    be chaotic, but a step, given its states, is not.
    """
    rtol = RTOL[params[0].dtype]
    start = [p.copy() for p in params]
    expected = [p.ravel().tolist() for p in params]
    states = [{} for _ in params]
    largest = [max(map(abs, e), default=0.0) for e in expected]
    opt = CLASSES[rule](params, **public(rule, row))
    for t, step in enumerate(grads, 1):
        if restart:
            for p, s in zip(params, start, strict=True):
                p[...] = s
            expected = [s.ravel().tolist() for s in start]
        opt.step(step)
        for i, (p, g) in enumerate(zip(params, step, strict=True)):
            reference.RULES[rule](
                expected[i], g.ravel().tolist(), states[i], t, **specified(rule, row)
            )
            largest[i] = max(largest[i], *map(abs, expected[i]), 0.0)
            assert_allclose(p.ravel(), expected[i], 0, rtol * largest[i], err_msg=f"step {t}")
    assert opt.t == len(grads)
    for have, kept in zip(opt.state, states, strict=True):
        assert have.keys() == kept.keys()
        for name, e in kept.items():  # 1 is the size of a gradient: in an average they may cancel
            atol = rtol * max(1.0, *map(abs, e), 0.0)
            assert_allclose(have[name].ravel(), e, 0, atol, err_msg=name)


# ---- the table -----------------------------------------------------------------------------------


def test_every_rule_has_a_class_and_a_specification():
    """Protects the promise that a row is enough: nothing is left out of the public names."""
    assert CLASSES.keys() == _core.RULES.keys() <= reference.RULES.keys()
    assert {cls.__name__ for cls in CLASSES.values()} == set(optim.__all__) - {"Optimizer"}


def test_defaults_are_those_of_the_specification(rule):
    """Protects the one place of a default: C's row and the textbook's signature agree."""
    parameters = inspect.signature(reference.RULES[rule]).parameters
    row = {name: value for name, value, _ in _core.RULES[rule]["hypers"]}
    ours = specified(rule, row)
    assert ours == {name: parameters[name].default for name in ours}


def test_signature_is_torchs(torch, rule):
    """Protects code that comes from torch: names, order, defaults, and what goes by keyword."""
    ours = inspect.signature(CLASSES[rule]).parameters
    theirs = inspect.signature(getattr(torch.optim, CLASSES[rule].__name__)).parameters
    assert list(ours) == [name for name in theirs if name in ours]
    for name, parameter in ours.items():
        assert parameter.kind == theirs[name].kind, name
        assert parameter.default == theirs[name].default, name


def test_arguments_by_position():
    """Protects calls such as ``SGD(w, 0.1, 0.9)``: positions mean what they mean in torch."""
    opt = optim.SGD(np.ones(2), 0.5, 0.25, 0.125, 0.0625)
    assert (opt.lr, opt.momentum, opt.dampening, opt.weight_decay) == (0.5, 0.25, 0.125, 0.0625)
    opt = optim.Adam(np.ones(2), 0.5, (0.25, 0.75), 0.125, 0.0625)
    assert (opt.lr, opt.betas, opt.eps, opt.weight_decay) == (0.5, (0.25, 0.75), 0.125, 0.0625)
    with pytest.raises(TypeError, match="too many positional arguments"):
        optim.SGD(np.ones(2), 0.5, 0.25, 0, 0.0625, False, True)


def test_repr_shows_the_hyper_parameters():
    """Protects what one reads in a notebook."""
    opt = optim.SGD([np.ones(2), np.ones(3)], lr=0.5, momentum=0.25, maximize=True)
    assert repr(opt) == (
        "SGD(2 params, lr=0.5, momentum=0.25, dampening=0.0, weight_decay=0.0, nesterov=False, "
        "maximize=True)"
    )
    assert "betas=(0.9, 0.999)" in repr(optim.AdamW(np.ones(1)))


def test_seed_example():
    """Protects the example everybody meets first: (w - 2)^2 from w = 5 with learning rate 0.1."""
    w = np.array([5.0])
    optim.SGD(w, lr=0.1).step(2 * (w - 2))
    assert w.tolist() == [4.4]


# ---- numbers: the specification ------------------------------------------------------------------


def test_every_combination_follows_the_specification(rule, dtype, rng):
    """Protects the formulas over 50 steps, each hyper-parameter at its default and at another."""
    for row in all_rows(rule):
        grads = [arrays(rng, dtype, SHAPES[:4]) for _ in range(STEPS)]
        assert_follows_reference(rule, row, arrays(rng, dtype, SHAPES[:4]), grads)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=60)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_all_hyper_parameters_follow_the_specification(rule, dtype, data, seed):
    """Protects the whole domain of each hyper-parameter, zero included, over 50 steps."""
    row = data.draw(rows(rule))
    rng = np.random.default_rng(seed)
    params = arrays(rng, dtype)
    for p in params:
        p /= 8  # so small that weight decay cannot cancel a gradient
    grads = [arrays(rng, dtype) for _ in range(STEPS)]
    assert_follows_reference(rule, row, params, grads, restart=True)


def test_every_isa_and_size_follows_the_specification(rule, isa, dtype, size, rng):
    """Protects the loops' ends: whole vectors, the rest behind them, nothing at all."""
    row = max(all_rows(rule), key=lambda row: sum(v != 0 for v in row.values()))
    grads = [arrays(rng, dtype, [(size,)]) for _ in range(3)]
    assert_follows_reference(rule, row, arrays(rng, dtype, [(size,)]), grads)


def test_neighbours_of_the_parameters_are_not_touched(rule, isa, dtype, size, rng):
    """Protects memory: a step writes to its own elements and to no other, and not to gradients."""
    memory = arrays(rng, dtype, [(size + 64,)])[0]
    before, grad = memory.copy(), arrays(rng, dtype, [(size,)])[0]
    kept = grad.copy()
    CLASSES[rule](memory[32 : 32 + size], lr=0.5).step(grad)
    assert np.array_equal(grad, kept)
    assert np.array_equal(memory[:32], before[:32])
    assert np.array_equal(memory[32 + size :], before[32 + size :])
    assert not np.any(memory[32 : 32 + size] == before[32 : 32 + size])


def test_bad_element_stays_one(rule, isa, dtype):
    """Protects finding the cause: a NaN or inf in a gradient spoils its own element only."""
    for bad in (math.nan, math.inf, -math.inf):
        clean, spoiled = np.ones(67, dtype), np.ones(67, dtype)
        grad = np.full(67, 0.5, dtype)
        CLASSES[rule](clean, **busy(rule)).step(grad)
        grad[13] = bad
        CLASSES[rule](spoiled, **busy(rule)).step(grad)
        assert not math.isfinite(spoiled[13])
        assert np.array_equal(np.delete(spoiled, 13), np.delete(clean, 13))


def test_plain_sgd_needs_no_state():
    """Protects memory: what the hyper-parameters do not use is not kept."""
    assert optim.SGD(np.ones(3)).state == [{}]
    assert list(optim.SGD(np.ones(3), momentum=0.5).state[0]) == ["momentum_buffer"]


def test_states_start_on_cache_lines(rule):
    """Protects speed: no vector of a state need be read from two lines."""
    for states in CLASSES[rule]([np.ones(n) for n in (3, 100, 1)], **busy(rule)).state:
        assert all(a.ctypes.data % 64 == 0 for a in states.values())


def test_states_are_live_zeros_of_the_parameters_kind(rule, dtype):
    """Protects who looks into `state`: it is what the kernels use, not a copy."""
    opt = CLASSES[rule]([np.ones((2, 3), dtype), np.ones((), dtype)], **busy(rule))
    assert len(opt.state) == 2
    for param, states in zip(opt.params, opt.state, strict=True):
        assert list(states) == [name for name, _ in _core.RULES[rule]["states"]]
        for a in states.values():
            assert (a.shape, a.dtype) == (param.shape, dtype)
            assert not a.any()
    opt.step([np.ones((2, 3), dtype), np.ones((), dtype)])
    assert all(a.all() for states in opt.state for a in states.values())


# ---- numbers: torch ------------------------------------------------------------------------------


def torch_twins(torch, rule, dtype, rng, options):
    """Return one of our optimizers and torch's with the same parameters and hyper-parameters."""
    params = arrays(rng, dtype, SHAPES[:3])
    twins = [torch.tensor(p, requires_grad=True) for p in params]
    theirs = getattr(torch.optim, CLASSES[rule].__name__)(twins, foreach=False, **options)
    return CLASSES[rule](params, **options), theirs, twins


def step_both(torch, opt, theirs, twins, rng):
    """Take one step with the same gradients."""
    grads = arrays(rng, opt.params[0].dtype, SHAPES[:3])
    for twin, g in zip(twins, grads, strict=True):
        twin.grad = torch.tensor(g)
    theirs.step()
    opt.step(grads)


def assert_twins(opt, theirs, twins, rtol):
    """Fail if parameters or states differ."""
    for param, states, twin in zip(opt.params, opt.state, twins, strict=True):
        assert_allclose(param, twin.detach().numpy(), rtol=rtol, atol=rtol)
        for name, a in states.items():
            expected = theirs.state[twin].get(name)
            assert_allclose(a, 0 if expected is None else expected.numpy(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("rule", RULES)
def test_every_combination_follows_torch(torch, rule, dtype, rng):
    """Protects torch's numerics: 50 steps, each hyper-parameter at its default and at another."""
    rtol = 1e-12 if dtype == np.float64 else 1e-5
    for row in all_rows(rule):
        opt, theirs, twins = torch_twins(torch, rule, dtype, rng, public(rule, row))
        for _ in range(STEPS):
            step_both(torch, opt, theirs, twins, rng)
        assert_twins(opt, theirs, twins, rtol)


@pytest.mark.parametrize(
    ("rule", "name"), [(r, name) for r in RULES for name in CLASSES[r](np.ones(1))._settings()]
)
def test_assigned_hyper_parameters_take_effect_as_in_torch(torch, rule, name, rng):
    """Protects schedules: the next step uses the new value, and the old one when it is back."""
    options = public(rule, {n: v for n, v, _ in _core.RULES[rule]["hypers"]})
    if name in ("dampening", "nesterov"):
        options["momentum"] = 0.5
    other = busy(rule).get(name, True) or True
    opt, theirs, twins = torch_twins(torch, rule, np.float64, rng, options)
    for value in (options[name], other, options[name]):
        setattr(opt, name, value)
        theirs.param_groups[0][name] = value
        assert getattr(opt, name) == value
        for _ in range(3):
            step_both(torch, opt, theirs, twins, rng)
            assert_twins(opt, theirs, twins, 1e-13)


def test_momentum_that_comes_late_starts_undamped_as_in_torch(torch, rng):
    """Protects the first gradient in the buffer: it enters whole whenever that is."""
    opt, theirs, twins = torch_twins(torch, "sgd", np.float64, rng, {"dampening": 0.5, "lr": 0.1})
    step_both(torch, opt, theirs, twins, rng)
    opt.momentum = theirs.param_groups[0]["momentum"] = 0.75
    for _ in range(3):
        step_both(torch, opt, theirs, twins, rng)
        assert_twins(opt, theirs, twins, 1e-13)


def test_momentum_that_pauses_keeps_its_buffer_as_in_torch(torch, rng):
    """Protects the buffer from steps without momentum, which in torch do not touch it."""
    opt, theirs, twins = torch_twins(torch, "sgd", np.float64, rng, {"momentum": 0.75, "lr": 0.1})
    for value in (0.75, 0.0, 0.5):
        opt.momentum = theirs.param_groups[0]["momentum"] = value
        for _ in range(2):
            step_both(torch, opt, theirs, twins, rng)
            assert_twins(opt, theirs, twins, 1e-13)


# ---- same bits -----------------------------------------------------------------------------------

# beyond FGD_SERIAL_STEP, so that four threads share it; their borders lie inside tensors
BIG = ((70_001,), (3, 5), (0,), (64_007,), (257, 33))


def bits_after(rule, dtype, steps=3, shapes=BIG):
    """Parameters and states after some steps from a fixed start."""
    rng = np.random.default_rng(1)
    opt = CLASSES[rule](arrays(rng, dtype, shapes), **busy(rule))
    train(opt, [arrays(rng, dtype, shapes) for _ in range(steps)])
    return everything(opt)


@pytest.fixture(scope="module")
def baseline():
    """Function (rule, dtype) -> bits of one thread on the first instruction set."""
    known = {}

    def get(rule, dtype):
        if (rule, dtype) not in known:
            isa = _core.active_isa()
            _core.use_isa(_core.ISAS[0])
            with fastgd.threads(1):
                known[rule, dtype] = bits_after(rule, dtype)
            _core.use_isa(isa)
        return known[rule, dtype]

    return get


def test_same_bits_on_every_isa_with_any_number_of_threads(
    rule, dtype, isa, n_threads, baseline, assert_same_bits
):
    """Protects reproducibility: neither the processor nor the team decides a single bit."""
    assert_same_bits(bits_after(rule, dtype), baseline(rule, dtype))


def test_list_and_single_calls_have_the_same_bits(rule, dtype, n_threads, rng, assert_same_bits):
    """Protects the one call for a list: tensors do not influence each other."""
    params, grads = arrays(rng, dtype, BIG), [arrays(rng, dtype, BIG) for _ in range(3)]
    alone = [p.copy() for p in params]
    opt = CLASSES[rule](params, **busy(rule))
    train(opt, grads)
    singles = [CLASSES[rule](p, **busy(rule)) for p in alone]
    for g in grads:
        for single, gi in zip(singles, g, strict=True):
            single.step(gi)
    assert_same_bits(params, alone)
    assert_same_bits([list(s.values()) for s in opt.state],
                     [list(s.state[0].values()) for s in singles])  # fmt: skip


@pytest.mark.parametrize("offset", [1, 3])
def test_place_in_memory_does_not_matter(rule, isa, dtype, offset, rng, assert_same_bits):
    """Protects views such as ``a[1:]``, whose vectors lie across the processor's borders."""
    start, grad = arrays(rng, dtype, [(1003,), (1003,)])
    memory = np.zeros((2, 1003 + offset), dtype)
    param, view = memory[0, offset:], memory[1, offset:]
    param[:], view[:] = start, grad
    opt, moved = CLASSES[rule](start, **busy(rule)), CLASSES[rule](param, **busy(rule))
    for _ in range(3):
        opt.step(grad)
        moved.step(view)
    assert_same_bits(param, start)
    assert_same_bits(everything(moved), everything(opt))


# ---- what is accepted ----------------------------------------------------------------------------


@pytest.mark.parametrize("container", [list, tuple, iter, lambda a: dict(enumerate(a)).values()],
                         ids=["list", "tuple", "generator", "dict values"])  # fmt: skip
def test_containers_of_parameters_and_gradients(container, rng, assert_same_bits):
    """Protects ``SGD(p for p in ...)`` and its kind, which torch takes too."""
    params, grads = arrays(rng, np.float64), arrays(rng, np.float64)
    expected = [p - 0.5 * g for p, g in zip(params, grads, strict=True)]
    opt = optim.SGD(container(params), lr=0.5)
    opt.step(container(grads))
    assert_same_bits(params, expected)
    assert all(a is b for a, b in zip(opt.params, params, strict=True))


def test_single_array_needs_no_list():
    """Protects the shortest call, with one array instead of a list of one, and its list."""
    for grads in (np.ones((2, 2)), [np.ones((2, 2))]):
        w = np.ones((2, 2))
        optim.SGD(w, lr=0.5).step(grads)
        assert w.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_rows_of_an_array_are_gradients():
    """Protects iteration over an array when there are several parameters."""
    params = [np.ones(3), np.ones(3)]
    optim.SGD(params, lr=1.0).step(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    assert [p.tolist() for p in params] == [[0, -1, -2], [-3, -4, -5]]


def unaligned(a):
    """Return a copy whose address is no multiple of the size of an element."""
    memory = np.zeros(a.nbytes + 1, np.uint8)
    view = memory[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned
    return view


GRADIENTS = {
    "Fortran order": np.asfortranarray,
    "strided": lambda g: np.repeat(g, 2, axis=1)[:, ::2],
    "backwards": lambda g: g[::-1].copy()[::-1],
    "transposed": lambda g: g.T.copy().T,
    "broadcast": lambda g: np.broadcast_to(g[:1, :1], g.shape),
    "big-endian": lambda g: g.astype(g.dtype.newbyteorder(">")),
    "unaligned": unaligned,
    "read-only": lambda g: np.frombuffer(g.tobytes(), g.dtype).reshape(g.shape),
    "subclass": lambda g: g.view(type("Sub", (np.ndarray,), {})),
}


@pytest.mark.parametrize("make", GRADIENTS.values(), ids=GRADIENTS)
def test_gradients_of_any_layout(make, rule, dtype, rng, assert_same_bits):
    """Protects gradients as they come out of NumPy: layout is ours to care for, not the user's."""
    param, grad = arrays(rng, dtype, [(6, 5), (6, 5)])
    given, expected = make(grad), param.copy()
    before = given.copy()
    plain = np.ascontiguousarray(given, dtype=dtype)
    CLASSES[rule](expected, **busy(rule)).step(plain)
    CLASSES[rule](param, **busy(rule)).step(given)
    assert_same_bits(param, expected)
    assert np.array_equal(given, before)


def test_strided_gradient_may_overlap_the_parameter(assert_same_bits):
    """Protects ``step(w.T)``: it is copied first, so the order of the elements does not matter."""
    w = np.arange(9.0).reshape(3, 3)
    expected = w - 0.5 * w.T
    optim.SGD(w, lr=0.5).step(w.T)
    assert_same_bits(w, expected)


def test_scalar_and_empty_parameters(rule, rng):
    """Protects the two smallest shapes, alone and between others."""
    scalar, empty = np.array(2.0), np.empty((0, 3))
    opt = CLASSES[rule](scalar, lr=0.5)
    opt.step(np.array(1.0))
    assert scalar.shape == ()
    assert scalar < 2.0
    opt = CLASSES[rule](empty)
    opt.step(empty)
    assert opt.t == 1
    CLASSES[rule]([empty, np.ones(2), np.empty(0)]).step([empty, np.ones(2), np.empty(0)])


def test_parts_of_one_array_are_separate_parameters():
    """Protects parameters laid end to end in one buffer: neighbours do not overlap."""
    memory = np.ones(10)
    optim.SGD([memory[5:], memory[:5]], lr=1.0).step([np.full(5, 2.0), np.full(5, 3.0)])
    assert memory.tolist() == [-2.0] * 5 + [-1.0] * 5


def test_hyper_parameters_may_be_numpy_numbers():
    """Protects values out of a schedule or a search: they are float64 or int64, or 0-d arrays."""
    opt = optim.Adam(np.ones(1), lr=np.float32(0.5), betas=[np.float64(0.5), 0], eps=np.array(1))
    assert (opt.lr, opt.betas, opt.eps) == (0.5, (0.5, 0.0), 1.0)
    assert optim.SGD(np.ones(1), maximize=np.bool_(True)).maximize is True


# ---- what is refused -----------------------------------------------------------------------------


def locked(a):
    """Return the array, read-only."""
    a.flags.writeable = False
    return a


def overlapping():
    """Two views of one array that share an element."""
    a = np.ones(10)
    return [a[5:], a[:6]]


def the_same_twice():
    """Twice the same array."""
    a = np.ones(3)
    return [a, np.ones(3), a]


class NotANumber:
    """Something that has no float value."""

    def __repr__(self):
        return "NotANumber()"


SGD, ADAM, ADAMW = optim.SGD, optim.Adam, optim.AdamW
W = np.ones(3)
BAD_ARGUMENTS = {
    # params
    "no params": (SGD, lambda: [], {}, ValueError, r"^params must hold at least one array"),
    "not iterable": (SGD, lambda: 3, {}, TypeError, r"^params must be"),
    "list of numbers": (SGD, lambda: [1.0, 2.0], {}, TypeError, r"^params\[0\] .*; got float"),
    "nested list": (SGD, lambda: [W, [1.0]], {}, TypeError, r"^params\[1\] .*; got list"),
    "NumPy scalar": (SGD, lambda: [np.float64(1)], {}, TypeError, r"^params\[0\] .*; got float64"),
    "integers": (SGD, lambda: np.ones(3, int), {}, TypeError, r"^params\[0\] .* got int64"),
    "half": (SGD, lambda: [np.ones(3, "f2")], {}, TypeError, r"^params\[0\] .* got float16"),
    "complex": (SGD, lambda: [np.ones(3, "c16")], {}, TypeError, r"^params\[0\] .* got complex128"),
    "long double": (SGD, lambda: np.ones(3, "g"), {}, TypeError, r"^params\[0\] .* got "),
    "objects": (SGD, lambda: np.ones(3, object), {}, TypeError, r"^params\[0\] .* got object"),
    "big-endian": (SGD, lambda: np.ones(3, ">f8"), {}, ValueError, r"^params\[0\] .* byte order"),
    "unaligned": (SGD, lambda: [unaligned(W)], {}, ValueError, r"^params\[0\] must be aligned"),
    "mixed": (SGD, lambda: [W, np.ones(3, "f4")], {}, TypeError, r"^params must .* params\[1\]"),
    "strided": (SGD, lambda: [W, np.ones(6)[::2]], {}, ValueError, r"^params\[1\] must be C-cont"),
    "Fortran": (SGD, lambda: np.ones((2, 3), order="F"), {}, ValueError, r"^params\[0\] .* C-cont"),
    "read-only": (SGD, lambda: [W, locked(np.ones(3))], {}, ValueError, r"^params\[1\] .* writeab"),
    "of bytes": (SGD, lambda: np.frombuffer(bytes(8)), {}, ValueError, r"^params\[0\] .* writeabl"),
    "overlap": (SGD, overlapping, {}, ValueError, r"params\[1\] and params\[0\] do$"),
    "twice": (SGD, the_same_twice, {}, ValueError, r"params\[0\] and params\[2\] do$"),
    # names
    "unknown": (SGD, lambda: W, {"momentumm": 0.9}, TypeError, "momentumm"),
    "another rule's": (ADAM, lambda: W, {"momentum": 0.9}, TypeError, "momentum"),
    # values
    "negative lr": (SGD, lambda: W, {"lr": -0.1}, ValueError, r"^lr must be .*; got -0.1$"),
    "nan lr": (SGD, lambda: W, {"lr": math.nan}, ValueError, r"^lr must be .*; got nan$"),
    "infinite lr": (SGD, lambda: W, {"lr": math.inf}, ValueError, r"^lr must be .*; got inf$"),
    "lr a str": (SGD, lambda: W, {"lr": "0.1"}, TypeError, r"^lr must be .*; got '0.1'$"),
    "lr None": (SGD, lambda: W, {"lr": None}, TypeError, r"^lr must be .*; got None$"),
    "lr an array": (SGD, lambda: W, {"lr": np.ones(2)}, TypeError, r"^lr must be .*; got array"),
    "huge lr": (SGD, lambda: W, {"lr": 10**400}, ValueError, r"^lr must be .*; got 1000"),
    "lr complex": (SGD, lambda: W, {"lr": 1j}, TypeError, r"^lr must be .*; got 1j$"),
    "momentum": (SGD, lambda: W, {"momentum": -0.1}, ValueError, r"^momentum must .*; got -0.1$"),
    "dampening": (SGD, lambda: W, {"dampening": math.inf}, ValueError, r"^dampening .*; got inf$"),
    "decay": (ADAMW, lambda: W, {"weight_decay": -1}, ValueError, r"^weight_decay .*; got -1$"),
    "eps": (ADAM, lambda: W, {"eps": -1e-8}, ValueError, r"^eps must be .*; got -1e-08$"),
    "nan eps": (ADAM, lambda: W, {"eps": math.nan}, ValueError, r"^eps must be .*; got nan$"),
    "beta1 = 1": (ADAM, lambda: W, {"betas": (1.0, 0.9)}, ValueError, r"^betas\[0\] .*; got 1.0$"),
    "beta2 = 1": (ADAMW, lambda: W, {"betas": (0.9, 1)}, ValueError, r"^betas\[1\] .*; got 1$"),
    "beta < 0": (ADAM, lambda: W, {"betas": (-0.1, 0.9)}, ValueError, r"^betas\[0\] .* got -0.1$"),
    "nan beta": (ADAM, lambda: W, {"betas": (0.9, math.nan)}, ValueError, r"^betas\[1\].* got nan"),
    "one beta": (ADAM, lambda: W, {"betas": (0.9,)}, TypeError, r"^betas must be .* 2 numbers"),
    "three betas": (ADAM, lambda: W, {"betas": (0.9,) * 3}, TypeError, r"^betas must be .* 2 num"),
    "betas a number": (ADAM, lambda: W, {"betas": 0.9}, TypeError, r"^betas must be .*; got 0.9$"),
    "odd beta": (ADAM, lambda: W, {"betas": (NotANumber(), 0.9)}, TypeError, r"^betas\[0\] must"),
    "maximize": (SGD, lambda: W, {"maximize": 2}, ValueError, r"^maximize must be True or False"),
    "maximize a str": (SGD, lambda: W, {"maximize": "yes"}, TypeError, r"^maximize must be True"),
    "nesterov alone": (SGD, lambda: W, {"nesterov": True}, ValueError, r"^nesterov .* momentum=0"),
    "nesterov damped": (
        SGD, lambda: W, {"nesterov": True, "momentum": 0.9, "dampening": 0.5}, ValueError,
        r"^nesterov .* dampening=0.5",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "params", "options", "error", "words"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS
)
def test_bad_arguments_are_refused_by_name(cls, params, options, error, words):
    """Protects the user from guessing: the message names what is wrong."""
    with pytest.raises(error, match=words):
        cls(params(), **options)


def test_params_must_be_given():
    """Protects the first argument's name in the message."""
    with pytest.raises(TypeError, match="params"):
        optim.SGD(lr=0.1)


def test_hyper_values_refuses_names_of_other_rules():
    """Protects estimators, which hand a user's dict of hyper-parameters straight to it."""
    with pytest.raises(TypeError, match=r"^'betas' must be a hyper-parameter of 'sgd', one of lr,"):
        optim.hyper_values("sgd", {"lr": 0.1, "betas": (0.9, 0.9)})


def overlapping_state(opt):
    """Return a gradient that lies in the first state of the first parameter."""
    return next(iter(opt.state[0].values()))


BAD_GRADIENTS = {
    "None": (lambda opt: None, TypeError, r"^grads must be"),
    "number": (lambda opt: 1.0, TypeError, r"^grads must be"),
    "too few": (lambda opt: [np.ones((2, 3))], ValueError, r"^grads must hold 2 .*; got 1"),
    "too many": (lambda opt: [W] * 3, ValueError, r"^grads must hold 2 arrays.*; got 3"),
    "lists": (lambda opt: [[1.0], [1.0]], TypeError, r"^grads\[0\] .*; got list"),
    "None inside": (lambda opt: [np.ones((2, 3)), None], TypeError, r"^grads\[1\] .*; got NoneTyp"),
    "number inside": (lambda opt: [np.ones((2, 3)), 1.0], TypeError, r"^grads\[1\] .*; got float"),
    "dtype": (
        lambda opt: [np.ones((2, 3)), np.ones(4, "f4")], TypeError,
        r"^grads\[1\] must be of dtype float64, as params\[1\]; got float32",
    ),
    "integers": (lambda opt: [np.ones((2, 3)), np.ones(4, int)], TypeError, r"^grads\[1\].*int64"),
    "shape": (lambda opt: [np.ones((2, 3)), np.ones(5)], ValueError, r"^grads\[1\] .* \(5,\) is n"),
    "transposed": (lambda opt: [np.ones((3, 2)), np.ones(4)], ValueError, r"^grads\[0\] .*3, 2\)"),
    "flat": (lambda opt: [np.ones(6), np.ones(4)], ValueError, r"^grads\[0\] must have the shape"),
    "the parameter": (lambda opt: list(opt.params), ValueError, r"^grads\[0\] must not overlap"),
    "another parameter": (
        lambda opt: [np.ones((2, 3)), opt.params[0].ravel()[1:5]], ValueError,
        r"^grads\[1\] must not overlap",
    ),
    "a state": (
        lambda opt: [overlapping_state(opt), np.ones(4)], ValueError, r"^grads\[0\] must not overl",
    ),
    "another's state": (
        lambda opt: [np.ones((2, 3)), overlapping_state(opt).ravel()[2:]], ValueError,
        r"^grads\[1\] must not overlap",
    ),
}  # fmt: skip


def assert_unchanged_by(opt, error, words, action):
    """Fail unless `action` raises `error` with `words`, and the optimizer is as it was before."""
    before, t, settings_ = everything(opt), opt.t, opt._settings()
    with pytest.raises(error, match=words):
        action()
    after = everything(opt)
    assert [a.tobytes() for a in after] == [b.tobytes() for b in before]
    assert (opt.t, opt._settings()) == (t, settings_)


@pytest.mark.parametrize(("grads", "error", "words"), BAD_GRADIENTS.values(), ids=BAD_GRADIENTS)
@pytest.mark.parametrize("rule", RULES)
def test_bad_gradients_are_refused_and_change_nothing(rule, grads, error, words, rng):
    """Protects a training from half a step: all is checked before anything is written."""
    opt = CLASSES[rule](arrays(rng, np.float64, [(2, 3), (4,)]), **busy(rule))
    opt.step(arrays(rng, np.float64, [(2, 3), (4,)]))
    assert_unchanged_by(opt, error, words, lambda: opt.step(grads(opt)))


def test_parameter_made_read_only_later_is_refused(rule, rng):
    """Protects what the owner has locked since."""
    opt = CLASSES[rule](arrays(rng, np.float64), **busy(rule))
    opt.params[1].flags.writeable = False
    grads = arrays(rng, np.float64)
    assert_unchanged_by(opt, ValueError, r"^params\[1\] was .*read-only", lambda: opt.step(grads))
    opt.params[1].flags.writeable = True
    opt.step(grads)
    assert opt.t == 1


@pytest.mark.parametrize("size", [2, 100_000])
def test_resized_parameter_is_refused(rule, size, rng):
    """Protects memory that has been given back: the addresses of construction are checked."""
    opt = CLASSES[rule]([np.ones(3), np.ones(5)], **busy(rule))
    opt.params[1].resize(size, refcheck=False)
    grads = [np.ones(3), np.ones(size)]
    assert_unchanged_by(opt, ValueError, r"^params\[1\] was resized", lambda: opt.step(grads))


def test_replaced_parameter_is_refused():
    """Protects from a write to an array that has left the list."""
    params = [np.ones(3), np.ones(3)]
    opt = optim.SGD(params, lr=1.0)
    opt.params[1] = np.ones(3)
    with pytest.raises(ValueError, match=r"^params\[1\] was"):
        opt.step([np.ones(3), np.ones(3)])
    assert all(p.tolist() == [1, 1, 1] for p in (*params, *opt.params))


BAD_ASSIGNMENTS = [
    ("sgd", "lr", -1, ValueError, "^lr must be"),
    ("sgd", "lr", "fast", TypeError, "^lr must be"),
    ("sgd", "nesterov", True, ValueError, "^nesterov must be False"),
    ("sgd", "momentum", math.nan, ValueError, "^momentum must be"),
    ("adam", "betas", (0.9, 1.0), ValueError, r"^betas\[1\] must be"),
    ("adam", "betas", 0.9, TypeError, "^betas must be"),
    ("adamw", "eps", -1e-9, ValueError, "^eps must be"),
]


@pytest.mark.parametrize(("rule", "name", "value", "error", "words"), BAD_ASSIGNMENTS)
def test_bad_assignments_are_refused_and_change_nothing(rule, name, value, error, words):
    """Protects hyper-parameters after construction as well as at it."""
    opt = CLASSES[rule](np.ones(3))
    opt.step(np.ones(3))
    assert_unchanged_by(opt, error, words, lambda: setattr(opt, name, value))


def test_switching_momentum_on_fails_whole_or_not_at_all():
    """Protects the states if they cannot be made: a parameter is read-only by now."""
    opt = optim.SGD([np.ones(3), np.ones(3)], lr=0.5)
    opt.params[1].flags.writeable = False
    assert_unchanged_by(opt, ValueError, r"^params\[1\] ", lambda: setattr(opt, "momentum", 0.5))
    assert opt.state == [{}, {}]


# ---- state_dict ----------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_training_continues_from_a_state_dict_to_the_bit(rule, dtype, used, rng, assert_same_bits):
    """Protects resuming: save, load into another optimizer, go on as if nothing had been."""
    params, grads = arrays(rng, dtype), [arrays(rng, dtype) for _ in range(6)]
    opt = CLASSES[rule](params, **busy(rule))
    train(opt, grads[:3])
    resumed = CLASSES[rule]([p.copy() for p in params])
    if used:
        train(resumed, grads[4:])
        for p, q in zip(resumed.params, params, strict=True):
            p[...] = q
    resumed.load_state_dict(pickle.loads(pickle.dumps(opt.state_dict())))
    assert (resumed.t, resumed._settings()) == (opt.t, opt._settings())
    assert_same_bits(everything(resumed), everything(opt))
    train(opt, grads[3:])
    train(resumed, grads[3:])
    assert_same_bits(everything(resumed), everything(opt))


def test_training_without_states_continues_from_a_state_dict(assert_same_bits):
    """Protects plain SGD's round trip: no arrays, but the steps and the learning rate."""
    w = np.ones(3)
    opt = optim.SGD(w, lr=0.5)
    train(opt, [np.ones(3)] * 2)
    resumed = optim.SGD(w.copy(), momentum=0.5)
    resumed.load_state_dict(opt.state_dict())
    assert (resumed.t, resumed._settings(), resumed.state) == (2, opt._settings(), [{}])
    train(opt, [np.ones(3)])
    train(resumed, [np.ones(3)])
    assert_same_bits(everything(resumed), everything(opt))


def test_state_dict_has_torchs_layout(torch, rule, rng):
    """Protects those who look into it: the names are torch's."""
    opt, theirs, twins = torch_twins(torch, rule, np.float64, rng, busy(rule))
    step_both(torch, opt, theirs, twins, rng)
    ours, expected = opt.state_dict(), theirs.state_dict()
    assert ours.keys() == expected.keys()
    assert ours["param_groups"][0].keys() <= expected["param_groups"][0].keys()
    assert ours["param_groups"][0]["params"] == expected["param_groups"][0]["params"]
    for i, states in expected["state"].items():
        assert ours["state"][i].keys() == states.keys() | {"step"}
        assert ours["state"][i]["step"] == 1


def test_state_dict_is_a_copy_both_ways(rule, rng, assert_same_bits):
    """Protects a saved state from the steps that follow, and the optimizer from its reader."""
    opt = CLASSES[rule](arrays(rng, np.float64), **busy(rule))
    opt.step(arrays(rng, np.float64))
    saved = opt.state_dict()
    kept = copy.deepcopy(saved)
    opt.step(arrays(rng, np.float64))
    opt.load_state_dict(saved)
    opt.step(arrays(rng, np.float64))
    for i, states in kept["state"].items():
        assert saved["state"][i].keys() == states.keys()
        for name, a in states.items():
            assert_same_bits(saved["state"][i][name], a)


def without(name):
    """Return a function that takes the key `name` out of each parameter's state."""

    def change(saved):
        for states in saved["state"].values():
            del states[name]

    return change


def put(*path, value):
    """Return a function that puts a value at a path."""

    def change(saved):
        for key in path[:-1]:
            saved = saved[key]
        saved[path[-1]] = value

    return change


BAD_STATE_DICTS = {
    "no groups": lambda saved: saved.pop("param_groups"),
    "no state": lambda saved: saved.pop("state"),
    "two groups": lambda saved: saved["param_groups"].append({}),
    "another rule": lambda saved: saved["param_groups"][0].pop("lr"),
    "bad value": put("param_groups", 0, "lr", value=-1.0),
    "fewer parameters": lambda saved: saved["state"].pop(1),
    "other indices": lambda saved: saved["state"].update({7: saved["state"].pop(1)}),
    "no step": without("step"),
    "bad step": put("state", 0, "step", value="soon"),
    "negative step": put("state", 0, "step", value=-1),
    "no array": without("KEPT"),
    "array of another shape": put("state", 1, "KEPT", value=np.ones(5)),
    "array of another kind": put("state", 1, "KEPT", value=np.array(["a", "b", "c", "d"])),
    "complex array": put("state", 1, "KEPT", value=np.ones(4, complex)),
}


@pytest.mark.parametrize("change", BAD_STATE_DICTS.values(), ids=BAD_STATE_DICTS)
@pytest.mark.parametrize("rule", RULES)
def test_bad_state_dicts_are_refused_and_change_nothing(rule, change, rng):
    """Protects a running training from a file that does not belong to it."""
    shapes = [(2, 3), (4,)]
    opt = CLASSES[rule](arrays(rng, np.float64, shapes), **busy(rule))
    opt.step(arrays(rng, np.float64, shapes))
    other = CLASSES[rule](arrays(rng, np.float64, shapes), **busy(rule) | {"lr": 0.75})
    train(other, [arrays(rng, np.float64, shapes) for _ in range(2)])
    saved = other.state_dict()
    kept = next(iter(opt.state[0]))
    for states in saved["state"].values():  # so that the table need not know the rule's names
        states["KEPT"] = states.pop(kept)
    change(saved)
    for states in saved.get("state", {}).values():
        if "KEPT" in states:
            states[kept] = states.pop("KEPT")
    assert_unchanged_by(
        opt, (ValueError, TypeError), "^state_dict |^lr ", lambda: opt.load_state_dict(saved)
    )


def test_state_dict_of_another_rule_is_refused():
    """Protects from loading Adam's averages into SGD, and the other way round."""
    sgd, adam = optim.SGD(np.ones(2), momentum=0.5), optim.Adam(np.ones(2))
    for opt, saved in ((sgd, adam.state_dict()), (adam, sgd.state_dict())):
        assert_unchanged_by(
            opt, ValueError, "^state_dict ", lambda opt=opt, saved=saved: opt.load_state_dict(saved)
        )


def test_failed_load_leaves_the_states_that_a_step_writes_to(rng, assert_same_bits):
    """Protects memory: after a refused load the kernels still use the arrays in `state`."""
    shapes = [(50,), (60,)]
    params, grads = arrays(rng, np.float64, shapes), arrays(rng, np.float64, shapes)
    opt = optim.Adam(params)
    twin = optim.Adam([p.copy() for p in params])
    for o in (opt, twin):
        o.step(grads)
    other = optim.Adam([p.copy() for p in params])
    params[1].flags.writeable = False
    assert_unchanged_by(
        opt, ValueError, r"^params\[1\] ", lambda: opt.load_state_dict(other.state_dict())
    )
    params[1].flags.writeable = True
    for o in (opt, twin):
        o.step(grads)
    assert_same_bits(everything(opt), everything(twin))


# ---- as objects ----------------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copying_an_optimizer_is_refused(copies):
    """Protects from two optimizers behind one set of addresses: ``state_dict`` is the way."""
    with pytest.raises(TypeError, match="pickling"):
        copies(optim.SGD(np.ones(3)))


def test_subclass_keeps_its_rule():
    """Protects who extends an optimizer in Python: a subclass need not name the rule again."""

    class Noisy(optim.SGD):
        def step(self, grads):
            super().step([g + 1 for g in grads])

    w = np.ones(2)
    opt = Noisy([w], lr=0.5)
    opt.step([np.zeros(2)])
    assert w.tolist() == [0.5, 0.5]
    assert repr(opt).startswith("Noisy(1 params, lr=0.5")


def test_base_class_needs_a_rule():
    """Protects from an optimizer without a formula."""
    with pytest.raises(TypeError, match="rule"):
        optim.Optimizer(np.ones(2))


def test_optimizer_keeps_its_parameters_alive(rng, assert_same_bits):
    """Protects memory: nobody else need hold the arrays."""
    opt = optim.Adam(arrays(rng, np.float64, [(1000,)] * 20))
    twin = optim.Adam([p.copy() for p in opt.params])
    grads = arrays(rng, np.float64, [(1000,)] * 20)
    junk = [np.full(1000, np.nan) for _ in range(50)]  # takes whatever was given back
    opt.step(grads)
    twin.step(grads)
    assert_same_bits(everything(opt), everything(twin))
    del junk
