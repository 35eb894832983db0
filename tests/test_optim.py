"""`fastgd.optim`: every rule of the table, held to the specification, to torch and to its word.

Its options are in ``test_optim_options.py`` and ``test_optim_nonfinite.py``, groups and schedules
in ``test_optim_groups.py``, saved states in ``test_optim_state.py``, what is taken and refused in
``test_optim_arguments.py``.
"""

import functools
import inspect
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from optimizers import (
    APART,
    BIG,
    CLASSES,
    OPTION_DEFAULTS,
    OPTIONS,
    RULES,
    SHAPES,
    STEPS,
    arrays,
    assert_twins,
    busy,
    busy_row,
    copies,
    defaults,
    everything,
    is_allowed,
    not_kept,
    option_sets,
    public,
    rows,
    state_shapes,
    step_both,
    take_reference_step,
    torch_class,
    torch_rtol,
    torch_twins,
    train,
)

import fastgd
from fastgd import _core, optim, reference

RTOL = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 200 * 2.0**-23}


class Twin:
    """What one call of the specification is for: a tensor, or all, one behind the other."""

    def __init__(self, rule, params, members):
        self.rule, self.members = rule, list(members)
        self.param, self.state = self.of(params), {}
        self.options = {}
        if "shape" in inspect.signature(reference.RULES[rule]).parameters:
            self.options["shape"] = params[members[0]].shape

    def of(self, arrays):
        """Numbers of these arrays that are the twin's."""
        return [x for i in self.members for x in np.ravel(arrays[i]).tolist()]

    def step(self, grads, t, row):
        """Take a step."""
        alone = len(self.members) == 1
        grad = grads[self.members[0]] if alone else np.array(self.of(grads))
        take_reference_step(self.rule, self.param, grad, self.state, t, row, **self.options)


def twins_in_the_specification(rule, params):
    """Return what the calls of the specification are for, if `params` are the parameters."""
    each = [[i] for i in range(len(params))] if rule in APART else [range(len(params))]
    return [Twin(rule, params, members) for members in each]


def assert_follows_reference(rule, row, params, grads, *, restart=False):
    """Fail if a step leads elsewhere than the specification, which computes in float64.

    Differences are measured by the largest number met so far. With `restart`, every step is taken
    from the same parameters: with hyper-parameters such as lr = weight_decay = 1 a trajectory can
    be chaotic, but a step, given its states, is not.
    """
    rtol = RTOL[params[0].dtype]
    start = copies(params)
    twins = twins_in_the_specification(rule, params)
    largest = [max(map(abs, twin.param), default=0.0) for twin in twins]
    opt = CLASSES[rule](params, **public(row))
    for t, step in enumerate(grads, 1):
        if restart:
            for p, s in zip(params, start, strict=True):
                p[...] = s
            for twin in twins:
                twin.param[:] = twin.of(start)
        opt.step(step)
        for i, twin in enumerate(twins):
            twin.step(step, t, row)
            largest[i] = max(largest[i], *map(abs, twin.param), 0.0)
            atol = rtol * largest[i]
            assert_allclose(twin.of(params), twin.param, 0, atol, err_msg=f"step {t}")
    saved = opt.state_dict()["state"]
    assert all(states.pop("step") == len(grads) for states in saved.values())
    for twin in twins:
        names = {name for i in twin.members for name in saved[i]}
        assert names == twin.state.keys() - not_kept(rule, row)
        for name in names:  # 1 is the size of a gradient: in an average they may cancel
            atol = rtol * max(1.0, *map(abs, twin.state[name]), 0.0)
            if name in _core.RULES[rule]["kept"]:
                assert len({saved[i][name] for i in twin.members}) == 1
                actual = [saved[twin.members[0]][name]]
            else:
                actual = twin.of([states.get(name, ()) for states in saved.values()])
            assert_allclose(actual, twin.state[name], 0, atol, err_msg=name)


# ---- the table -----------------------------------------------------------------------------------


def test_every_rule_has_a_class_and_a_specification():
    """Protects the promise that a row is enough: nothing is left out of the public names."""
    assert CLASSES.keys() == _core.RULES.keys() <= reference.RULES.keys()
    public = [optim.__dict__[name] for name in optim.__all__ if name != "Optimizer"]
    rules = {cls for cls in public if isinstance(cls, type) and issubclass(cls, optim.Optimizer)}
    assert rules == set(CLASSES.values())


def test_option_sets_change_every_hyper_parameter(rule):
    """Protects the tests below: each value that is not the default is tried, every state kept."""
    base = defaults(rule)
    sets = option_sets(rule)
    assert all(is_allowed(rule, row) for row in sets)
    assert all(any(row[name] != base[name] for row in sets) for name in base)
    states = CLASSES[rule](np.ones(1), **busy(rule)).state[0]
    assert list(states) == list(state_shapes(rule, (1,)))


def test_defaults_are_those_of_the_specification(rule):
    """Protects the one place of a default: C's row and the textbook's signature agree."""
    parameters = inspect.signature(reference.RULES[rule]).parameters
    ours = public(defaults(rule))
    assert ours == {name: parameters[name].default for name in ours}
    opt = CLASSES[rule](np.ones(1))
    assert {name: getattr(opt, name) for name in ours} == ours


def test_signature_is_torchs(torch, rule):
    """Protects code that comes from torch: names, order, defaults, and what goes by position."""
    ours = dict(inspect.signature(CLASSES[rule]).parameters)
    assert {name: ours.pop(name).default for name in OPTIONS} == OPTION_DEFAULTS
    theirs = inspect.signature(torch_class(torch, rule)).parameters
    assert list(ours) == [name for name in theirs if name in ours]
    for (name, parameter), position in zip(ours.items(), theirs, strict=False):
        assert parameter.default == theirs[name].default, name
        if parameter.kind == parameter.POSITIONAL_OR_KEYWORD:
            assert (name, theirs[name].kind) == (position, parameter.kind)


def test_signature_is_the_rows(rule):
    """Protects rules that torch does not have, and the options, which go by keyword in each."""
    parameters = inspect.signature(CLASSES[rule]).parameters
    assert list(parameters) == ["params", *public(defaults(rule)), *OPTIONS]
    after = list(parameters)[list(parameters).index("maximize") :]
    assert all(parameters[name].kind == inspect.Parameter.KEYWORD_ONLY for name in after)


def test_documentation_has_every_argument(rule):
    """Protects ``help(Adam)``: each argument is explained, in the order of the signature."""
    doc = inspect.getdoc(CLASSES[rule])
    section = doc.split("Parameters\n----------\n")[1].split("\n\nRaises\n------\n")[0]
    assert re.findall(r"^(\w+) : ", section, re.M) == list(
        inspect.signature(CLASSES[rule]).parameters
    )
    choices = re.compile(r"^\w+ : \{.*\}, default=", re.M)
    assert "{" not in choices.sub("", section)
    assert all(part in doc for part in ("\nReferences\n---", "\nExamples\n---", "TypeError"))


def test_arguments_by_position():
    """Protects calls such as ``SGD(w, 0.1, 0.9)``: positions mean what they mean in torch."""
    opt = optim.SGD(np.ones(2), 0.5, 0.25, 0.125, 0.0625)
    assert (opt.lr, opt.momentum, opt.dampening, opt.weight_decay) == (0.5, 0.25, 0.125, 0.0625)
    opt = optim.Adam(np.ones(2), 0.5, (0.25, 0.75), 0.125, 0.0625)
    assert (opt.lr, opt.betas, opt.eps, opt.weight_decay) == (0.5, (0.25, 0.75), 0.125, 0.0625)
    opt = optim.Rprop(np.ones(2), 0.5, (0.25, 1.75), (0.125, 8))
    assert (opt.lr, opt.etas, opt.step_sizes) == (0.5, (0.25, 1.75), (0.125, 8.0))
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


def test_every_hyper_parameter_follows_the_specification(rule, dtype, rng):
    """Protects the formulas over 50 steps, each hyper-parameter changed alone and all together."""
    for row in option_sets(rule):
        grads = [arrays(rng, dtype, SHAPES[:4]) for _ in range(STEPS)]
        assert_follows_reference(rule, row, arrays(rng, dtype, SHAPES[:4]), grads)


# The same examples in every run: in float32, a rule that takes a sign may fall on the other side of
# zero than the specification in float64, about once in a million elements.
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=20, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_all_hyper_parameters_follow_the_specification(rule, dtype, data, seed):
    """Protects the whole domain of each hyper-parameter, zero included."""
    row = data.draw(rows(rule))
    rng = np.random.default_rng(seed)
    params = arrays(rng, dtype)
    for p in params:
        p /= 8  # so small that weight decay cannot cancel a gradient
    grads = [arrays(rng, dtype) for _ in range(20)]
    assert_follows_reference(rule, row, params, grads, restart=True)


def test_every_isa_and_size_follows_the_specification(rule, isa, dtype, size, rng):
    """Protects the loops' ends: whole vectors, the rest behind them, nothing at all."""
    grads = [arrays(rng, dtype, [(size,)]) for _ in range(3)]
    assert_follows_reference(rule, busy_row(rule), arrays(rng, dtype, [(size,)]), grads)


def test_neighbours_of_the_parameters_are_not_touched(rule, isa, dtype, rng):
    """Protects memory: a step writes to its own elements and to no other, and not to gradients."""
    for size in (0, 1, 7, 8, 9, 63, 64, 65, 4097):
        memory = arrays(rng, dtype, [(size + 64,)])[0]
        before, grad = memory.copy(), arrays(rng, dtype, [(size,)])[0]
        kept = grad.copy()
        CLASSES[rule](memory[32 : 32 + size], lr=0.5).step(grad)
        assert np.array_equal(grad, kept)
        assert np.array_equal(memory[:32], before[:32])
        assert np.array_equal(memory[32 + size :], before[32 + size :])
        assert not np.any(memory[32 : 32 + size] == before[32 : 32 + size])


def test_plain_sgd_needs_no_state():
    """Protects memory: what the hyper-parameters do not use is not kept."""
    assert optim.SGD(np.ones(3)).state == [{}]
    assert list(optim.SGD(np.ones(3), momentum=0.5).state[0]) == ["momentum_buffer"]
    assert list(optim.RMSprop(np.ones(3), centered=True).state[0]) == ["square_avg", "grad_avg"]
    assert "max_exp_avg_sq" not in optim.Adam(np.ones(3)).state[0]


def test_states_start_on_cache_lines(rule):
    """Protects speed: no vector of a state need be read from two lines."""
    opt = CLASSES[rule]([np.ones(n) for n in (3, 100, 1)], **busy(rule), ema_decay=0.5)
    assert all(a.ctypes.data % 64 == 0 for states in opt.state for a in states.values())
    assert all(a.ctypes.data % 64 == 0 for a in opt.ema)


def test_states_are_live_zeros_of_the_parameters_kind(rule, dtype):
    """Protects who looks into `state`: it is what the kernels use, not a copy."""
    opt = CLASSES[rule]([np.ones((2, 3), dtype), np.ones((), dtype)], **busy(rule))
    assert len(opt.state) == 2
    for param, states in zip(opt.params, opt.state, strict=True):
        assert {name: a.shape for name, a in states.items()} == state_shapes(rule, param.shape)
        for a in states.values():
            assert a.dtype == dtype
            assert not a.any()
    for g in (1, 2):
        opt.step([np.full((2, 3), g, dtype), np.full((), g, dtype)])
    for states in opt.state[:1] if _core.RULES[rule]["kind"] == "hybrid" else opt.state:
        assert all(a.all() for a in states.values())


@pytest.mark.parametrize("name", ["schedule_free_sgd", "schedule_free_adamw"])
def test_schedule_free_result_is_that_of_the_specification(name, dtype, rng):
    """Protects the result: the parameters themselves are where gradients are taken."""
    params = arrays(rng, dtype, [(5,), (2, 3)])
    start = copies(params)
    opt = CLASSES[name](params)
    for x, p in zip(opt.eval_params(), start, strict=True):
        assert np.array_equal(x, p)
    expected, states = [p.ravel().tolist() for p in params], [{}, {}]
    for t in range(1, 6):
        grads = arrays(rng, dtype, [(5,), (2, 3)])
        opt.step(grads)
        for e, g, state in zip(expected, grads, states, strict=True):
            reference.RULES[name](e, g.ravel().tolist(), state, t)
    for x, e, state in zip(opt.eval_params(), expected, states, strict=True):
        assert x.dtype == dtype
        assert_allclose(
            x.ravel(), reference.rules.schedule_free_eval(e, state), 0, 10 * RTOL[np.dtype(dtype)]
        )


@pytest.mark.parametrize("rule", APART)
def test_float32_and_float64_in_one_list(rule, rng, assert_same_bits):
    """Protects mixed models: each parameter is computed in its own precision."""
    params = [arrays(rng, d, [(67,)])[0] for d in ("f4", "f8", "f4")]
    grads = [[arrays(rng, p.dtype, [p.shape])[0] for p in params] for _ in range(3)]
    alone = [CLASSES[rule](p.copy(), **busy(rule)) for p in params]
    opt = CLASSES[rule](params, **busy(rule))
    train(opt, grads)
    for i, single in enumerate(alone):
        train(single, [g[i] for g in grads])
        assert_same_bits(params[i], single.params[0])
        assert_same_bits(list(opt.state[i].values()), list(single.state[0].values()))


# ---- numbers: torch ------------------------------------------------------------------------------


def test_every_hyper_parameter_follows_torch(torch, rule, dtype, rng):
    """Protects torch's numerics: 50 steps, each hyper-parameter changed alone and all together."""
    for row in option_sets(rule):
        opt, theirs, twins = torch_twins(torch, rule, dtype, rng, public(row))
        for _ in range(STEPS):
            step_both(torch, opt, theirs, twins, rng)
        assert_twins(opt, theirs, twins)


@pytest.mark.parametrize(
    ("rule", "name"), [(r, name) for r in RULES for name in public(defaults(r))]
)
def test_assigned_hyper_parameters_take_effect_as_in_torch(torch, rule, name, rng):
    """Protects hand-made schedules: the next step uses the new value, and then the old again."""
    options = public(defaults(rule))
    if name in ("dampening", "nesterov"):
        options["momentum"] = 0.5
    other = busy(rule)[name] or True
    assert other != options[name]
    values = [options[name], other]
    if name in ("amsgrad", "centered") or (rule, name) == ("rmsprop", "momentum"):
        values.reverse()  # torch makes their states at the first step only
    opt, theirs, twins = torch_twins(torch, rule, np.float64, rng, options | {name: values[0]})
    for value in (*values, values[0]):
        setattr(opt, name, value)
        theirs.param_groups[0][name] = value
        assert getattr(opt, name) == value
        for _ in range(3):
            step_both(torch, opt, theirs, twins, rng)
            assert_twins(opt, theirs, twins, max(1e-13, torch_rtol(rule, np.float64) / 10))


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


@functools.cache
def big_problem(dtype, steps=3):
    """Parameters and gradients, large enough for threads."""
    rng = np.random.default_rng(1)
    return arrays(rng, dtype, BIG), [arrays(rng, dtype, BIG) for _ in range(steps)]


def bits_after(rule, dtype):
    """Parameters and states after some steps from a fixed start."""
    params, grads = big_problem(dtype)
    opt = CLASSES[rule](copies(params), **busy(rule))
    train(opt, grads)
    return everything(opt)


@pytest.fixture(scope="module")
def baseline():
    """Function (rule, dtype) -> bits of one thread on the first instruction set."""

    @functools.cache
    def get(rule, dtype):
        isa = _core.active_isa()
        _core.use_isa(_core.ISAS[0])
        with fastgd.threads(1):
            bits = bits_after(rule, dtype)
        _core.use_isa(isa)
        return bits

    return get


def test_same_bits_on_every_isa_with_any_number_of_threads(
    rule, dtype, isa, n_threads, baseline, assert_same_bits
):
    """Protects reproducibility: neither the processor nor the team decides a single bit."""
    assert_same_bits(bits_after(rule, dtype), baseline(rule, dtype))


def test_same_bits_at_every_size(rule, dtype, size, rng, assert_same_bits):
    """Protects reproducibility at the ends of loops, of threads and of chunks."""
    param, grads = arrays(rng, dtype, [(size,)]), arrays(rng, dtype, [(size,)] * 3)
    bits = []
    for name in _core.SUPPORTED_ISAS:
        _core.use_isa(name)
        for threads in (1, 3):
            with fastgd.threads(threads):
                opt = CLASSES[rule](param[0].copy(), **busy(rule))
                train(opt, grads)
                bits.append(everything(opt))
    for other in bits[1:]:
        assert_same_bits(other, bits[0])


@pytest.mark.parametrize("cls", [optim.SGD, optim.AdamW])
def test_same_bits_where_arrays_are_fetched_ahead(cls, rng, assert_same_bits):
    """Protects reproducibility of arrays longer than caches, which are gone through otherwise."""
    size = 2**22 + 700
    whole = rng.standard_normal(size, np.float32)
    parts = [p.copy() for p in np.array_split(whole, 3)]
    options = {"momentum": 0.9} if cls is optim.SGD else {}
    one, many = (cls(p, lr=0.1, **options) for p in ([whole], parts))
    with fastgd.threads(1):
        for _ in range(2):
            grad = rng.standard_normal(size, np.float32)
            one.step([grad])
            many.step(np.array_split(grad, 3))
    assert_same_bits(whole, np.concatenate(parts))


@pytest.mark.parametrize("rule", APART)
def test_list_and_single_calls_have_the_same_bits(rule, dtype, assert_same_bits):
    """Protects the one call for a list: tensors do not influence each other."""
    fastgd.set_num_threads(3)
    start, grads = big_problem(dtype)
    params, alone = copies(start), copies(start)
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
    assert_same_bits(everything(moved), everything(opt))


def test_bad_element_stays_one(rule, isa, dtype):
    """Protects finding the cause: a NaN or inf that is applied spoils its own element only."""
    for bad in (math.nan, math.inf, -math.inf):
        clean, spoiled = (
            CLASSES[rule](np.ones(67, dtype), **busy(rule), nonfinite="apply") for _ in range(2)
        )
        grad = np.full(67, 0.5, dtype)
        clean.step(grad)
        grad[13] = bad
        spoiled.step(grad)
        for a, b in zip(everything(spoiled), everything(clean), strict=True):
            if _core.RULES[rule]["kind"] == "elementwise":
                assert np.array_equal(np.delete(a, 13), np.delete(b, 13))
        assert not all(np.isfinite(a[13]) for a in everything(spoiled))
