"""`fastgd.optim.LBFGS`: against the specification, interrupted, resumed, and its kernels."""

import itertools
import math
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from smooth_functions import (
    FUNCTIONS,
    OPTION_SETS,
    STEPS,
    WOLFE,
    arrays,
    closure_of,
    flat,
    logistic,
    quadratic,
    reference_step,
    rosenbrock,
    start,
)

import fastgd
from fastgd import _core, reference
from fastgd._lbfgs import Minimizer
from fastgd.optim import LBFGS, NonFiniteError

# ---- kernels -------------------------------------------------------------------------------------


def pairs_for(rng, n, dtype, count=5):
    """A history with so many pairs of a quadratic function, their slots and 1 / y . s."""
    history = _core.History(count, n, dtype)
    curvature = np.linspace(0.5, 2, n)
    slots = tuple(int(slot) for slot in rng.permutation(count + 1)[:count])
    ro = []
    for slot in slots:
        d, before = (rng.standard_normal(n).astype(dtype) for _ in range(2))
        grad = (before + 0.5 * curvature * d).astype(dtype)
        ys, yy = history.put(slot, grad, before, d, 0.5)
        s, y = (a[slot].astype(np.float64) for a in (history.steps, history.changes))
        assert_allclose(history.steps[slot], dtype.type(0.5) * d, rtol=0)
        assert_allclose(history.changes[slot], grad - before, rtol=0)
        assert_allclose([ys, yy], [y @ s, y @ y], rtol=1e-13)
        ro.append(1 / ys if n else 1.0)
    return history, slots, tuple(ro)


def test_direction_is_the_recursion_of_the_specification(isa, dtype, size, rng):
    """Protects the two loops in C, whatever is left over at the end of a vector."""
    history, slots, ro = pairs_for(rng, size, dtype)
    grad = rng.standard_normal(size).astype(dtype)
    out = np.full(size, np.nan, dtype)
    for m in (0, 1, 2, 5):
        slope, al = history.direction(out, grad, slots[:m], ro[:m], 0.75)
        steps, changes = (
            [a[slot].tolist() for slot in slots[:m]] for a in (history.steps, history.changes)
        )
        h_diag = 0.75 if m else 1.0
        expected = reference.lbfgs_direction(grad.tolist(), steps, changes, h_diag) if size else []
        scale = max(map(abs, expected), default=0)
        tolerance = 1e-12 if dtype == np.float64 else 1e-5
        assert_allclose(out, expected, rtol=0, atol=tolerance * scale)
        assert_allclose(slope, grad.astype(float) @ out.astype(float), rtol=1e-12, atol=1e-12)
        assert len(al) == m


def test_vector_functions(isa, dtype, size, rng):
    """Protects the products and sums that all decisions rest on."""
    x, z = (rng.standard_normal(size).astype(dtype) for _ in range(2))
    out = np.empty(size, dtype)
    _core.move(out, x, z, 0.5)
    wide, other = x.astype(np.float64), z.astype(np.float64)
    assert_allclose(out, x + dtype.type(0.5) * z, rtol=0)
    assert_allclose(_core.dot(x, z), wide @ other, rtol=1e-13, atol=1e-13)
    largest, total = _core.magnitudes(x)
    assert largest == (abs(wide).max() if size else 0)
    assert_allclose(total, abs(wide).sum(), rtol=1e-13)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_magnitudes_tell_what_is_not_finite(isa, dtype, bad, rng):
    """Protects the guard: not one place is overlooked, and huge numbers are no alarm."""
    for at in (0, 31, 32, 63, 64, 65):
        x = rng.standard_normal(66).astype(dtype)
        x[at] = bad
        largest, total = _core.magnitudes(x)
        assert math.isnan(total) or largest == math.inf
    x[:] = np.finfo(dtype).max
    largest, total = _core.magnitudes(x)
    assert math.isfinite(largest)
    assert not math.isnan(total)


def test_bits_do_not_depend_on_threads_or_instruction_set(isa, dtype, n_threads, rng):
    """Protects repeatability: chunks and their order are the same for all."""
    n = 200_003
    history, slots, ro = pairs_for(rng, n, dtype, 3)
    grad = rng.standard_normal(n).astype(dtype)
    found, expected = np.empty(n, dtype), np.empty(n, dtype)
    measures = history.direction(found, grad, slots, ro, 0.5), _core.magnitudes(grad)
    fastgd.set_num_threads(1)
    _core.use_isa(_core.SUPPORTED_ISAS[0])
    assert measures == (history.direction(expected, grad, slots, ro, 0.5), _core.magnitudes(grad))
    assert found.tobytes() == expected.tobytes()


def test_vectors_that_do_not_fit_are_refused(rng):
    """Protects memory: nothing is read or written beyond an array."""
    history = _core.History(2, 5, np.dtype(np.float64))
    good, short = np.zeros(5), np.zeros(4)
    for call in (
        lambda: history.put(3, good, good, good, 1.0),
        lambda: history.put(-1, good, good, good, 1.0),
        lambda: history.put(0, short, good, good, 1.0),
        lambda: history.direction(short, good, (), (), 1.0),
        lambda: history.direction(good, good, (0,), (), 1.0),
        lambda: history.direction(good, good, (0, 1, 2), (1.0, 1.0, 1.0), 1.0),
        lambda: history.direction(good, good, (3,), (1.0,), 1.0),
        lambda: _core.dot(good, short),
        lambda: _core.move(good, short, good, 1.0),
        lambda: _core.History(0, 5, np.dtype(np.float64)),
    ):
        with pytest.raises(ValueError, match="must"):
            call()
    with pytest.raises(TypeError, match="must have the dtype"):
        _core.dot(good, np.zeros(5, np.float32))


# ---- the algorithm -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTION_SETS.values(), ids=OPTION_SETS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_agrees_with_the_specification(name, options):
    """Protects every decision: iterations, evaluations, line search, tolerances, memory."""
    x, expected = start(), start().tolist()
    opt, state = LBFGS(x, **options), {}
    closure = closure_of(FUNCTIONS[name], [x])
    for _ in range(STEPS[name]):
        loss = opt.step(closure)
        assert_allclose(loss, reference_step(FUNCTIONS[name], expected, state, **options), 1e-9)
        assert_allclose(x, expected, rtol=1e-9, atol=1e-12)
        ours = opt.state[0]
        assert (ours["n_iter"], ours["func_evals"]) == (state["n_iter"], state["func_evals"])
        assert len(ours.get("old_dirs", ())) == len(state["old_dirs"])


@pytest.mark.parametrize("function", [quadratic, logistic])
def test_fifty_iterations_to_12_digits(isa, function):
    """Protects against errors that grow: where the function is tame, so is the difference."""
    x, expected = start(), start().tolist()
    options = {"lr": 0.1, "history_size": 10, "max_iter": 50, "max_eval": 100}
    opt, state = LBFGS(x, **options), {}
    opt.step(closure_of(function, [x]))
    reference_step(function, expected, state, **options)
    assert state["n_iter"] == opt.state[0]["n_iter"] == 50
    assert_allclose(x, expected, rtol=1e-12)


def test_minimum_of_a_badly_conditioned_function_is_found():
    """Protects the purpose."""
    x = start()
    opt = LBFGS(x, max_iter=200, tolerance_change=0, **WOLFE)
    opt.step(closure_of(rosenbrock, [x]))
    assert_allclose(x, 1, rtol=1e-6)


def test_float32_arrays_stay_float32():
    """Protects single precision: parameters and memory, and a minimum as good as they hold."""
    x = start(dtype=np.float32)
    opt = LBFGS(x, **WOLFE)
    opt.step(closure_of(quadratic, [x]))
    assert_allclose(x, 1, rtol=1e-4)
    state = opt.state[0]
    assert {a.dtype for a in (x, state["d"], *state["old_dirs"])} == {np.dtype(np.float32)}


def test_many_arrays_are_one_vector(dtype, assert_same_bits):
    """Protects lists of parameters: scalars and empty ones, and None for a gradient of zeros."""
    params, x = arrays(dtype=dtype), start(dtype=dtype)
    several, one = LBFGS(params, **WOLFE), LBFGS(x, **WOLFE)
    several.step(closure_of(rosenbrock, params))
    one.step(closure_of(rosenbrock, [x]))
    assert_same_bits(flat(params), x)
    resting = [np.ones(2), np.ones(3)]
    LBFGS(resting, **WOLFE).step(lambda: (float(resting[0] @ resting[0]), [2 * resting[0], None]))
    assert_allclose(resting[0], 0, atol=1e-7)
    assert_same_bits(resting[1], np.ones(3))


def test_trajectory_does_not_depend_on_threads(n_threads, assert_same_bits):
    """Protects repeatability of a whole minimisation."""
    curvature = np.linspace(1, 50, 100_003)
    found = []
    for team in (n_threads, 1):
        fastgd.set_num_threads(team)
        x = np.cos(np.arange(100_003.0))
        opt = LBFGS(x, history_size=4, **WOLFE)
        opt.step(lambda x=x: (float(curvature @ (x * x)), 2 * curvature * x))
        found.append([x, opt.state[0]["d"], np.array(opt.state[0]["ro"])])
    assert_same_bits(*found)


def test_without_parameters_there_is_nothing_to_do():
    """Protects empty arrays."""
    opt = LBFGS([np.zeros((0, 3))])
    assert opt.step(lambda: (1.5, [np.zeros((0, 3))])) == 1.5


# ---- what goes wrong in the closure --------------------------------------------------------------


def iterates(function, options, count):
    """The first points that are accepted, undisturbed."""
    x = start()
    opt, found = LBFGS(x, max_iter=1, max_eval=30, **options), [start()]
    for _ in range(count):
        opt.step(closure_of(function, [x]))
        found.append(x.copy())
    return found


def failing(closure, at, how):
    """The closure, whose evaluation number `at` fails: raises, or returns numbers like that."""
    calls = itertools.count(1)

    def fail():
        if next(calls) != at:
            return closure()
        if isinstance(how, BaseException):
            raise how
        loss, grads = closure()
        if how == "loss":
            return math.nan, grads
        grads[-1].flat[1] = how
        return loss, grads

    return fail


@pytest.mark.parametrize("options", [{"lr": 2e-3}, WOLFE], ids=["fixed", "wolfe"])
@pytest.mark.parametrize("how", [KeyboardInterrupt(), math.nan, math.inf, "loss"], ids=str)
def test_failure_leaves_the_last_accepted_point_and_goes_on_from_it(how, options, assert_same_bits):
    """Protects from Ctrl-C and bad numbers at whatever evaluation: no iterate is lost."""
    expected = iterates(rosenbrock, options, 9)
    error = KeyboardInterrupt if isinstance(how, BaseException) else NonFiniteError
    for at in range(1, 9):
        x = start()
        opt = LBFGS([("x", x)], max_iter=8, max_eval=30, **options)
        closure = closure_of(rosenbrock, [x])
        with pytest.raises(error) as caught:
            opt.step(failing(closure, at, how))
        assert_same_bits(x, expected[opt.state[0]["n_iter"]])
        if error is NonFiniteError:
            assert (caught.value.evaluation, caught.value.step) == (at, 1)
            named = ("the loss", -1) if how == "loss" else ("grads[0] (x)", 0)
            assert str(caught.value).startswith(f"{named[0]} must be finite; got ")
            assert caught.value.index == named[1]
        assert (opt.t, opt.skipped) == (0, int(error is NonFiniteError))
        opt.max_iter = 1
        while opt.state[0]["n_iter"] < 9:
            opt.step(closure)
            assert_same_bits(x, expected[opt.state[0]["n_iter"]])


def test_interruption_between_any_two_lines_loses_nothing(assert_same_bits):
    """Protects what is carried on from Ctrl-C that comes while nobody is in the closure."""
    options = {**WOLFE, "history_size": 2}
    expected = iterates(rosenbrock, options, 5)
    lines = Minimizer._iterate, Minimizer._turn, Minimizer._remember, Minimizer._go
    lines += Minimizer._accept, Minimizer._try, Minimizer._evaluate
    codes = {function.__code__ for function in lines}

    def interrupted(opt, closure, at):
        seen = itertools.count(1)

        def trace(frame, event, argument):
            if frame.f_code not in codes:
                return None
            if event == "line" and next(seen) == at:
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            opt.step(closure)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    for at in itertools.count(1):
        x = start()
        opt = LBFGS(x, max_iter=4, max_eval=30, **options)
        closure = closure_of(rosenbrock, [x])
        if not interrupted(opt, closure, at):
            break
        opt.max_iter = 1
        while opt.state[0]["n_iter"] < 5:
            opt.step(closure)
        assert_same_bits(x, expected[5])
    assert at > 100


def test_bad_numbers_end_a_step_if_that_is_wanted(assert_same_bits):
    """Protects ``nonfinite="skip"``: the loss before is returned, the step is counted."""
    expected = iterates(rosenbrock, WOLFE, 3)
    x = start()
    opt = LBFGS(x, nonfinite="skip", **WOLFE)
    first, _ = rosenbrock(x)
    assert opt.step(failing(closure_of(rosenbrock, [x]), 4, math.nan)) == first
    assert (opt.t, opt.skipped) == (0, 1)
    assert_same_bits(x, expected[opt.state[0]["n_iter"]])
    assert math.isnan(opt.step(failing(closure_of(rosenbrock, [x]), 1, "loss")))


@pytest.mark.parametrize(
    ("returned", "error", "words"),
    [
        (1.0, TypeError, r"closure must return \(loss, grads\); got 1.0"),
        ((1.0, [np.zeros(2)]), TypeError, "grads must be a sequence of 2 arrays"),
        ((1.0, np.zeros(2)), TypeError, "grads must be a sequence of 2 arrays"),
        ((1.0, [np.zeros(2), np.zeros(4)]), TypeError, r"grads\[1\] must be None or an array of"),
        ((1.0, [[0.0, 0.0], None]), TypeError, r"grads\[0\] must be .* got list of shape \(2,\)"),
        ((1.0, [np.zeros(2, np.float32), None]), TypeError, r"grads\[0\] .*float64.*; got float32"),
        (("1.0", [None, None]), TypeError, "the loss must be a number; got '1.0'"),
        ((None, [None, None]), TypeError, "the loss must be a number; got None"),
        ((np.zeros(2), [None, None]), TypeError, "the loss must be a number; got array"),
    ],
)
def test_closures_that_return_something_else_are_refused(returned, error, words):
    """Protects from gradients that do not belong to the parameters; nothing is changed."""
    params = [np.ones(2), np.ones(3)]
    opt = LBFGS(params)
    with pytest.raises(error, match=words):
        opt.step(lambda: returned)
    assert flat(params).tolist() == [1.0] * 5
    assert opt.state[0] == {"func_evals": 0, "n_iter": 0}
    with pytest.raises(TypeError, match="closure must be callable; got None"):
        opt.step(None)


# ---- arguments -----------------------------------------------------------------------------------

BAD = {
    "lr": [(-1.0, ValueError), ("1", TypeError), (math.nan, ValueError)],
    "max_iter": [(0, ValueError), (1.5, TypeError), (None, TypeError)],
    "max_eval": [(0, ValueError), ("3", TypeError)],
    "tolerance_grad": [(-1e-9, ValueError), (math.inf, ValueError)],
    "tolerance_change": [(-1e-9, ValueError), ([], TypeError)],
    "history_size": [(0, ValueError), (2.0, TypeError)],
    "line_search_fn": [("wolfe", ValueError), (3, ValueError)],
    "nonfinite": [("apply", ValueError), (None, ValueError)],
}
CASES = [(name, value, error) for name, row in BAD.items() for value, error in row]


@pytest.mark.parametrize(("name", "value", "error"), CASES)
def test_bad_arguments_are_refused_by_name(name, value, error):
    """Protects from misspelt settings, in the constructor and afterwards."""
    with pytest.raises(error, match=f"{name} must be"):
        LBFGS(np.zeros(2), **{name: value})
    opt = LBFGS(np.zeros(2))
    before = repr(opt)
    with pytest.raises(error, match=f"{name} must be"):
        setattr(opt, name, value)
    assert repr(opt) == before


def test_parameters_that_cannot_be_updated_are_refused():
    """Protects the caller's arrays: what is written to is checked as by the other optimizers."""
    shared, readonly = np.zeros(4), np.zeros(2)
    readonly.flags.writeable = False
    for params, error, words in (
        ([], ValueError, "at least one array"),
        (3, TypeError, "params must be an array or an iterable"),
        ([np.zeros(2), 1.0], TypeError, r"params\[1\] must be a NumPy array"),
        ([np.zeros(2, np.float16)], TypeError, "float32 or float64"),
        ([np.zeros(2), np.zeros(2, np.float32)], TypeError, "params must be of one dtype"),
        ([np.zeros((2, 2)).T[:1]], ValueError, "C-contiguous"),
        ([readonly], ValueError, "writeable"),
        ([shared[:3], shared[2:]], ValueError, "must not overlap"),
        ([("a", np.zeros(2)), ("a", np.zeros(2))], ValueError, "named all or none, differently"),
        ([{"params": [np.zeros(2)]}, {"params": [np.zeros(2)]}], ValueError, "one group"),
        ([{"params": [np.zeros(2)], "lr": 1.0}], ValueError, "one group without settings"),
    ):
        with pytest.raises(error, match=words):
            LBFGS(params)


# ---- saved states --------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"lr": 2e-3}, WOLFE], ids=["fixed", "wolfe"])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_training_goes_on_to_the_bit(dtype, options, steps, tmp_path, assert_same_bits):
    """Protects resuming, from a dict and from a file: nothing that matters is left out."""
    pytest.importorskip("safetensors")
    made = []
    for _ in range(3):
        params = arrays(dtype=dtype)
        opt = LBFGS(params, max_iter=3, history_size=4, **options)
        made.append((opt, params, closure_of(rosenbrock, params)))
    (first, params, closure), (from_dict, *_), (from_file, *_) = made
    for _ in range(steps):
        first.step(closure)
    saved = first.state_dict()
    first.save(tmp_path / "lbfgs.safetensors", params=True)
    from_file.load(tmp_path / "lbfgs.safetensors")
    from_dict.load_state_dict(saved)
    for mine, theirs in zip(made[1][1], params, strict=True):
        mine[...] = theirs
    for _ in range(4):
        losses = [opt.step(closure) for opt, _, closure in made]
        assert len(set(losses)) == 1
        assert_same_bits([flat(p) for _, p, _ in made[1:]], [flat(params)] * 2)
    assert from_dict.t == from_file.t == first.t == steps + 4
    assert repr(first.state_dict()) == repr(from_dict.state_dict()) == repr(from_file.state_dict())


def test_saved_state_is_a_copy_with_torchs_names():
    """Protects what was saved from what happens afterwards."""
    x = start()
    opt = LBFGS(x, max_iter=4, history_size=3, **WOLFE)
    opt.step(closure_of(rosenbrock, [x]))
    saved = opt.state_dict()
    before = repr(saved)
    opt.step(closure_of(rosenbrock, [x]))
    assert repr(saved) == before
    names = "func_evals n_iter d t old_dirs old_stps ro H_diag prev_flat_grad prev_loss al"
    assert list(saved["state"][0]) == names.split()
    assert len(saved["state"][0]["al"]) == 3
    assert repr(opt).startswith("LBFGS(1 params, lr=1.0, max_iter=4, max_eval=5, ")


def test_states_that_do_not_fit_change_nothing():
    """Protects a training from the wrong file."""
    x = start()
    opt = LBFGS(x, max_iter=4, **WOLFE)
    opt.step(closure_of(rosenbrock, [x]))
    before = repr(opt.state_dict())
    good = opt.state_dict()
    state, group = good["state"][0], good["param_groups"][0]
    for bad in (
        {},
        {**good, "param_groups": []},
        {**good, "param_groups": [{**group, "params": [0, 1]}]},
        {**good, "param_groups": [{**group, "lr": -1.0}]},
        {**good, "state": {0: {**state, "d": np.zeros(3)}}},
        {**good, "state": {0: {**state, "old_dirs": [np.zeros(3)] * 3}}},
        {**good, "state": {0: {**state, "ro": state["ro"][:1]}}},
        {**good, "state": {0: {"n_iter": 3}}},
        {**good, "state": 3},
    ):
        with pytest.raises(ValueError, match=r"state_dict must|lr must"):
            opt.load_state_dict(bad)
        assert repr(opt.state_dict()) == before


def test_memory_may_grow_and_shrink_between_steps():
    """Protects ``history_size`` as a setting: the latest pairs stay."""
    x, expected = start(), start()
    opt, other = (LBFGS(p, max_iter=6, history_size=6, **WOLFE) for p in (x, expected))
    for o, p in ((opt, x), (other, expected)):
        o.step(closure_of(rosenbrock, [p]))
    newest = [y.copy() for y in opt.state[0]["old_dirs"]]
    opt.history_size = 2
    opt.max_iter = other.max_iter = 1
    opt.step(closure_of(rosenbrock, [x]))
    kept = opt.state[0]["old_dirs"]
    assert len(kept) == 2
    assert kept[0].tobytes() == newest[-1].tobytes()
    other.history_size = 50  # and to where it makes no difference
    other.step(closure_of(rosenbrock, [expected]))
    assert len(other.state[0]["old_dirs"]) == 6
