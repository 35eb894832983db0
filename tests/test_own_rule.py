"""Update rules of one's own: compiled functions behind `fastgd.optim.register`.

The function here is heavy-ball momentum, which ``optim.SGD`` is, too, to the last bit: whatever a
step does around a rule must come out the same around both.
"""

import ctypes
import functools
import pickle
import shutil
import subprocess

import numpy as np
import pytest
from numpy.testing import assert_allclose
from optimizers import BIG, arrays, copies, everything, train

import fastgd
from fastgd import _core, optim, projections, schedules
from fastgd._optimizer import CLASSES

SOURCE = """
#include <stddef.h>
#include <stdint.h>
#define RULE(name, T)                                                                         \\
    void name(T *p, const T *g, T *const *states, const double *hypers, int64_t t, ptrdiff_t n)\\
    {                                                                                         \\
        const T lr = (T)hypers[0], momentum = (T)hypers[1];                                   \\
        T *b = states[0];                                                                     \\
        (void)t;                                                                              \\
        for (ptrdiff_t i = 0; i < n; i++) {                                                   \\
            b[i] = momentum * b[i] + g[i];                                                    \\
            p[i] -= lr * b[i];                                                                \\
        }                                                                                     \\
    }
RULE(ball_f32, float)
RULE(ball_f64, double)
void counts(double *p, const double *g, double *const *states, const double *hypers, int64_t t,
            ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        p[i] = (double)t + 100 * hypers[0] + 1000 * hypers[1] + 10000 * hypers[2] + 0 * g[i],
        states[2][i] += states[0][i] + states[1][i] + 1;
}
"""
HYPERS = {"lr": 0.1, "momentum": 0.9}
OPTIONS = {
    "plain": {},
    "clip": {"max_norm": 1.0, "agc": 0.5, "centralize": True, "clip_value": 0.1},
    "after": {
        "ema_decay": optim.swa(1),
        "lookahead": (2, 0.5),
        "projection": projections.box(-0.5, 0.9),
        "report_norms": True,
    },
    "schedule": {"lr": schedules.cosine(0.5, 7), "nonfinite": "apply"},
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The functions, compiled, or skip."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("own")
    (folder / "ball.c").write_text(SOURCE)
    command = "cc -O2 -ffp-contract=off -shared -fPIC ball.c -o ball.so"
    subprocess.run(command.split(), cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "ball.so"))


@pytest.fixture(scope="module")
def rule(library):
    """Keyword arguments of ``register``."""
    return {
        "hypers": HYPERS,
        "domains": {"lr": "nonnegative", "momentum": "unit"},
        "states": ["momentum_buffer"],
        "float32": library.ball_f32,
        "float64": library.ball_f64,
        "doc": "Heavy-ball momentum.\n\nNotes\n-----\n::\n\n    p -= lr * b\n",
    }


@pytest.fixture(scope="module")
def ball(rule):
    """The class of the rule."""
    return optim.register("Ball", **rule)


@functools.cache
def problem(dtype):
    """Parameters and gradients, large enough for threads."""
    rng = np.random.default_rng(2)
    return arrays(rng, dtype, BIG), [arrays(rng, dtype, BIG) for _ in range(3)]


# ---- a step --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_all_options_are_those_of_a_rule_of_ours(ball, options, dtype, n_threads, assert_same_bits):
    """Protects the promise: all that a step does around a rule, for any team."""
    params, grads = problem(dtype)
    twins = [cls(copies(params), **HYPERS | options) for cls in (ball, optim.SGD)]
    for opt in twins:
        train(opt, [copies(g) for g in grads], grad_scale=2.0, zero_grads=True)
    assert_same_bits(everything(twins[0]), everything(twins[1]))
    assert repr(twins[0].last_step) == repr(twins[1].last_step)


def test_groups_freezing_and_accumulation(ball, rng, assert_same_bits):
    """Protects groups with hyper-parameters of their own, resting ones, and sums of gradients."""
    params = arrays(rng, np.float64)
    groups = [{"params": params[:2], "lr": 0.5}, {"params": params[2:3], "frozen": True}]
    twins = []
    for cls in (ball, optim.SGD):
        mine = [{**g, "params": copies(g["params"])} for g in groups]
        opt = cls(mine, **HYPERS)
        opt.add_param_group({"params": copies(params[3:]), "momentum": 0.25})
        twins.append(opt)
    for _ in range(3):
        both = [arrays(rng, np.float64) for _ in range(2)]
        for opt in twins:
            for grads in both:
                opt.accumulate(grads)
            opt.step()
    assert_same_bits(everything(twins[0]), everything(twins[1]))
    twins[0].lr = 0.0
    assert twins[0].param_groups[1]["lr"] == 0.0


def test_what_the_function_gets(library):
    """Protects the signature: step, hyper-parameters in order, states in order, zero at first."""
    counts = optim.register(
        "Counts", hypers={"flag": True, "betas": (2, 3)}, states=["a", "b", "c"],
        float64=ctypes.cast(library.counts, ctypes.c_void_p).value,
    )  # fmt: skip
    w = [np.zeros(3), np.zeros(1)]
    opt = counts(w)
    assert opt.betas == (2.0, 3.0)
    opt.step([np.ones(3), None])
    opt.step([np.ones(3), np.ones(1)])
    assert [p.tolist() for p in w] == [[32102.0] * 3, [32101.0]]
    assert [s["c"].tolist() for s in opt.state] == [[2.0] * 3, [1.0]]
    opt.flag = False
    opt.step([None, np.ones(1)])
    assert w[1].tolist() == [32002.0]


def test_guard_and_errors_leave_everything(ball):
    """Protects parameters and states: the function is not called before all is known to be good."""
    opt = ball([np.ones(3), np.ones(2)])
    opt.step([np.ones(3), np.ones(2)])
    before = [a.tobytes() for a in everything(opt)]
    with pytest.raises(fastgd.NonFiniteError, match=r"^grads\[1\]"):
        opt.step([np.ones(3), np.array([0.0, np.nan])])
    with pytest.raises(ValueError, match=r"^momentum must be a number, 0 or more and below 1"):
        opt.momentum = 1.5
    assert [a.tobytes() for a in everything(opt)] == before


@pytest.mark.parametrize("way", ["state_dict", "file"])
def test_resumes_exactly(ball, way, rng, tmp_path, assert_same_bits):
    """Protects saved states, under the class's and the states' names."""
    grads = [arrays(rng, np.float64) for _ in range(4)]
    opt = ball(arrays(rng, np.float64), ema_decay=0.5)
    train(opt, grads[:2])
    resumed = ball(copies(opt.params), ema_decay=0.5)
    if way == "file":
        pytest.importorskip("safetensors")
        opt.save(tmp_path / "ball")
        resumed.load(tmp_path / "ball")
    else:
        resumed.load_state_dict(pickle.loads(pickle.dumps(opt.state_dict())))
    for each in (opt, resumed):
        train(each, grads[2:])
    assert_same_bits(everything(resumed), everything(opt))


def test_class_and_registry(ball, rule):
    """Protects the tables: a rule of one's own is a class, and none of ours."""
    assert ball.__name__ == "Ball"
    assert ball.__doc__.startswith("Heavy-ball momentum.\n")
    assert "momentum : float, default=0.9" in ball.__doc__
    assert ball.__doc__.index("Parameters") < ball.__doc__.index("Notes")
    assert repr(ball(np.ones(2))) == "Ball(1 params, lr=0.1, momentum=0.9)"
    assert ball.rule_name not in _core.RULES
    assert ball.rule_name not in CLASSES
    again = optim.register("Ball", **rule | {"hypers": {"lr": 1.0, "momentum": 0.0}})
    assert (ball(np.ones(1)).lr, again(np.ones(1)).lr) == (0.1, 1.0)


def test_dtypes_without_a_function_are_refused(library):
    """Protects from calling the function of another dtype."""
    single = optim.register("Single", hypers=HYPERS, states=["b"], float32=library.ball_f32)
    with pytest.raises(TypeError, match=r"^params\[1\] must be of dtype float32"):
        single([np.ones(2, np.float32), np.ones(2)])
    opt = single(np.ones(2, np.float32))
    with pytest.raises(TypeError, match=r"^params\[1\] must be of dtype float32"):
        opt.add_param_group({"params": np.ones(2)})
    opt.step(np.ones(2, np.float32))
    assert len(opt.params) == 1


def test_numbas_functions(dtype):
    """Protects functions of numba, which are compiled and need no compiler here."""
    numba = pytest.importorskip("numba")
    T = numba.from_dtype(dtype)
    pointer = numba.types.CPointer

    @numba.cfunc(
        numba.void(pointer(T), pointer(T), pointer(pointer(T)), pointer(numba.float64),
                   numba.int64, numba.intp)
    )  # fmt: skip
    def descend(param, grad, states, hypers, t, n):
        for i in range(n):
            param[i] -= hypers[0] * grad[i]

    w = np.ones(5, dtype)
    descent = optim.register("Descent", hypers={"lr": 0.5}, **{dtype.name: descend})
    descent(w).step(np.full(5, 0.5, dtype))
    assert_allclose(w, 0.75)


BAD = [
    ({"name": "a b"}, ValueError, "^name must be one that a class can have; got 'a b'$"),
    ({"float32": None, "float64": None}, TypeError, "^float32 or float64 must be a function"),
    ({"float32": len}, TypeError, "^float32 must be a compiled function or its address"),
    ({"float32": 0}, ValueError, "^float32 must be the address of a function; got 0$"),
    ({"states": ["a", "a"]}, ValueError, "^states must be at most 4 different names"),
    ({"states": list("abcde")}, ValueError, "^states must be at most 4 different names"),
    ({"states": ["step"]}, ValueError, "^states must have names of their own; got 'step'$"),
    ({"hypers": {"max_norm": 1}}, ValueError, "^hypers must have names of their own"),
    ({"hypers": {"state": 1}}, ValueError, "^hypers must not hold 'state'"),
    ({"hypers": {"beta1": 1}}, ValueError, "^hypers must not hold 'beta1'"),
    ({"hypers": {"beta": (1, 2)}}, ValueError, "^hypers must name a tuple of up to 9"),
    ({"hypers": {"lr": "1"}}, TypeError, "^lr must be a finite number; got '1'$"),
    ({"hypers": dict.fromkeys("abcdefghijklmnopq", 0)}, ValueError, "^hypers must be at most 16"),
    ({"hypers": {"lr": -1}, "domains": {"lr": "positive"}}, ValueError, "^lr must be"),
    ({"domains": {"x": "positive"}}, ValueError, r"^domains must be of hypers; got \['x'\]$"),
    ({"domains": {"lr": "odd"}}, ValueError, "^domains must be one of .*; got 'odd'$"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "error", "words"), BAD)
def test_bad_rules_are_refused(changes, error, words):
    """Protects from a function that gets what it does not know; nothing is registered."""
    before = dict(_core.OWN_RULES)
    with pytest.raises(error, match=words):
        optim.register(**{"name": "Bad", "hypers": {"lr": 1}, "float32": 1} | changes)
    assert before == _core.OWN_RULES


# ---- torch ---------------------------------------------------------------------------------------


def test_torch(torch, rule):
    """Protects the adapter: the same rule for tensors, groups, states and checkpoints of torch."""
    ft = pytest.importorskip("fastgd.torch")
    cls = ft.register("Ball", **rule)
    assert issubclass(cls, torch.optim.Optimizer)
    assert cls.__doc__.startswith("Heavy-ball momentum.\n")
    start = [torch.randn(3, 4), torch.randn(2, 3, 4).transpose(0, 2), torch.randn(())]
    twins = [[t.clone().requires_grad_() for t in start] for _ in range(2)]
    options = {"lr": 0.1, "momentum": 0.9, "max_norm": 1.0, "lookahead": (2, 0.5), "ema_decay": 0.5}
    opts = [kind(params, **options) for kind, params in zip((cls, ft.SGD), twins, strict=True)]
    rates = [torch.optim.lr_scheduler.ExponentialLR(opt, 0.9) for opt in opts]
    for t in range(4):
        for mine, theirs in zip(*twins, strict=True):
            mine.grad = torch.randn_like(mine)
            theirs.grad = mine.grad.clone()
        if t == 2:
            resumed = cls(twins[0], **options, ema=opts[0].ema)
            resumed.load_state_dict(opts[0].state_dict())
            opts[0], rates[0] = resumed, torch.optim.lr_scheduler.ExponentialLR(resumed, 0.9)
            rates[0].load_state_dict(rates[1].state_dict())
        for opt, rate in zip(opts, rates, strict=True):
            opt.step()
            rate.step()
    found = [params + opt.ema for params, opt in zip(twins, opts, strict=True)]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*found, strict=True))


def test_torch_refuses_other_dtypes(torch, library):
    """Protects from calling the function of another dtype."""
    ft = pytest.importorskip("fastgd.torch")
    cls = ft.register("Single", hypers=HYPERS, states=["b"], float32=library.ball_f32)
    param = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    param.grad = torch.ones_like(param)
    opt = cls([param])
    with pytest.raises(TypeError, match=r"^params\[0\] must be of dtype float32"):
        opt.step()
    assert not opt.state
    with pytest.raises(ValueError, match="fallback must be False"):
        cls([param], fallback=True)
