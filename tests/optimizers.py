"""Hyper-parameters, problems and what to compare of them: what the tests of optimizers share.

Rules, hyper-parameters and their domains are read from the table, so that a new row of
``csrc/optim_rules.h`` is tested as soon as it is there.
"""

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fastgd import _core, optim, reference
from fastgd._hypers import VECTOR_RULES, _public_value, tuple_name
from fastgd.optim import CLASSES

# those that take any shape; ``test_optim_matrix.py`` tests the others
RULES = VECTOR_RULES
ROWS_ONLY = ("sparse_adam",)  # in torch, where it refuses dense gradients
APART = tuple(r for r in RULES if _core.RULES[r]["kind"] != "listwise")  # each tensor by itself
OPTION_DEFAULTS = {
    "max_norm": None, "centralize": False, "agc": None, "clip_value": None, "nonfinite": "raise",
    "lookahead": None, "projection": None, "ema_decay": None, "report_norms": False,
    "state_dtype": None, "rounding": "nearest",
}  # fmt: skip
OPTIONS = tuple(OPTION_DEFAULTS)
SHAPES = ((3, 4), (5,), (), (0, 2), (9,))
# beyond FGD_SERIAL_STEP, so that four threads share it; their borders lie inside tensors
BIG = ((70_001,), (3, 5), (0,), (64_007,), (257, 33))
STEPS = 50
COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of Muon

VALUES = {  # by domain: what hypothesis draws, and a value that is nobody's default
    "nonnegative": (st.just(0.0) | st.floats(1e-6, 1.0), 0.125),
    "unit": (st.just(0.0) | st.floats(1e-3, 0.9999), 0.625),
    "above_one": (st.floats(1.001, 2.0), 1.5),
    "positive": (st.floats(0.125, 2.0), 0.5),
    "inside_unit": (st.floats(0.25, 0.9999), 0.625),
    "optional": (st.none() | st.just(0.0) | st.floats(1e-6, 1.0), 0.125),
    "nonpositive": (st.just(0.0) | st.floats(-2.0, -0.1), -0.5),
    "at_least_one": (st.floats(1.0, 2.0), 1.5),
    "optional_unit": (st.none() | st.floats(1e-3, 0.9999), 0.625),
    "flag": (st.booleans(), True),
    "real": (st.just(0.0) | st.floats(-1.0, 1.0), 0.25),
    "count": (st.integers(0, 6), 3),
    "adjust_lr": (st.sampled_from([None, "original", "match_rms_adamw"]), "match_rms_adamw"),
}

# ---- hyper-parameters from the table -------------------------------------------------------------


def public(row):
    """Hyper-parameters as classes and specification take them, from those of the table's row."""
    found = {}
    for name, value in row.items():
        if together := tuple_name(name):
            found[together] = (*found.get(together, ()), value)
        else:
            found[name.rstrip("_")] = value
    return found


def defaults(rule):
    """The row's defaults, by its own names."""
    return {
        name: _public_value(value, domain) for name, value, domain in _core.RULES[rule]["hypers"]
    }


def is_allowed(rule, row):
    """Whether the hyper-parameters go together."""
    try:
        optim.hyper_values(rule, public(row))
    except ValueError:
        return False
    return True


def sensible(row):
    """Move hyper-parameters to where rounding errors do not grow, and a formula has a value."""
    row = dict(row)
    if row.get("centered"):  # else the variance is a difference of equal numbers
        row["alpha"] = min(max(row["alpha"], 0.5), 0.99)
    if row.get("step_size1", 0) >= row.get("step_size2", 1):
        row["step_size1"], row["step_size2"] = row["step_size2"] / 2, row["step_size1"]
    if "lambd" in row:  # a power of a negative number is none
        row["lambd"] = abs(row["lambd"])
    if any(row.get(f"ns_coefficient{k}", c) != c for k, c in enumerate(COEFFICIENTS, 1)):
        row.update(
            ns_coefficient1=15 / 8, ns_coefficient2=-10 / 8, ns_coefficient3=3 / 8
        )  # converge
    return row


@st.composite
def rows(draw, rule):
    """Hyper-parameters in their domains: a dict by the names of the table's row."""
    row = {name: draw(VALUES[domain][0]) for name, _, domain in _core.RULES[rule]["hypers"]}
    if not is_allowed(rule, row):
        row["nesterov"] = False
    if rule in (
        "adabelief",
        "yogi",
    ):  # they divide by a difference, which nothing else keeps from 0
        row["eps"] = draw(st.floats(1e-2, 1.0))
    return sensible(row)


def option_sets(rule):
    """The defaults; each hyper-parameter changed alone; all changed: those that go together."""
    base = defaults(rule)
    other = {name: VALUES[domain][1] for name, _, domain in _core.RULES[rule]["hypers"]}
    sets = [base]
    for name in base:
        alone = base | {name: other[name]}
        pairs = [alone | {second: other[second]} for second in base]
        sets.append(next(s for s in (alone, *pairs) if is_allowed(rule, s)))
    all_but = [other | {name: base[name]} for name in base]
    together = [other] if is_allowed(rule, other) else [s for s in all_but if is_allowed(rule, s)]
    return [sensible(row) for row in sets + together]


def busy(rule):
    """Hyper-parameters with as much switched on as goes together: every state is kept."""
    return public(busy_row(rule))


def busy_row(rule):
    """The same by the names of the table's row."""
    base = defaults(rule)

    def is_busy(row):
        different = sum(row[name] != base[name] for name in base)
        return sum(v not in (0, None) for v in row.values()), different

    return max(option_sets(rule), key=is_busy)


def not_kept(rule, row):
    """Names of the states that the hyper-parameters do not need."""
    return {n for n, kept_if in _core.RULES[rule]["states"] if not row.get(kept_if, True)}


def state_shapes(rule, shape):
    """Shapes of the states of a parameter of this shape, by name."""
    rows = _core.RULES[rule]["states"]
    shapes = {name: _core.state_shape(kept_if, shape) for name, kept_if in rows}
    return {name: found for name, found in shapes.items() if found is not None}


def take_reference_step(rule, param, grad, state, t, row, **options):
    """Change `param`, a list, as the specification does; `grad` is an array of its shape."""
    shape = {"shape": grad.shape} if _core.RULES[rule]["kind"] in ("matrix", "hybrid") else {}
    reference.RULES[rule](
        param, grad.ravel().tolist(), state, t, **(shape | options), **public(row)
    )


# ---- problems ------------------------------------------------------------------------------------


def arrays(rng, dtype, shapes=SHAPES):
    """Random arrays whose elements lie between 1/4 and 1 in absolute value."""
    return [
        np.asarray(rng.uniform(0.25, 1.0, shape) * rng.choice([-1, 1], shape), dtype=dtype)
        for shape in shapes
    ]


def copies(params):
    """Copies of arrays."""
    return [p.copy() for p in params]


def train(opt, grads, **options):
    """Take a step for each list of gradients."""
    for g in grads:
        opt.step(g, **options)


# ---- what an optimizer is ------------------------------------------------------------------------


def everything(opt):
    """What a step may change of the arrays, as a list of copies: parameters, states, averages."""
    states = [a for states in opt.state for a in states.values()]
    return copies([*opt.params, *states, *(opt.ema or ())])


def snapshot(opt):
    """All there is of an optimizer but the number of steps left out and the last step's report."""
    return {
        "arrays": [(a.dtype, a.shape, a.tobytes()) for a in everything(opt)],
        "states": [list(states) for states in opt.state],
        "places": [a.ctypes.data for s in opt.state for a in s.values()],
        "t": opt.t,
        "progress": [opt.progress(i) for i in range(len(opt.params))],
        "groups": [{k: v for k, v in g.items() if k != "params"} for g in opt.param_groups],
        "members": [[id(p) for p in g["params"]] for g in opt.param_groups],
        "schedules": [dict(g.schedules) for g in opt.param_groups],
        "options": {name: getattr(opt, name) for name in OPTIONS},
        "names": opt.names,
    }


def assert_unchanged_by(opt, error, words, action):
    """Fail unless `action` raises `error` with `words`, and the optimizer is as it was before."""
    before, skipped, report = snapshot(opt), opt.skipped, opt.last_step
    with pytest.raises(error, match=words):
        action()
    assert snapshot(opt) == before
    assert opt.skipped == skipped
    assert repr(opt.last_step) == repr(report)  # NaN is not equal to itself


# ---- torch ---------------------------------------------------------------------------------------


def torch_class(torch, rule):
    """Torch's class for a rule, or skip."""
    cls = getattr(torch.optim, CLASSES[rule].__name__, None)
    if cls is None:
        pytest.skip(f"torch has no {CLASSES[rule].__name__}")
    return cls


def one_by_one(torch, rule):
    """Arguments that let torch take parameters one after the other."""
    return {} if rule in ROWS_ONLY else {"foreach": False}


def torch_twins(torch, rule, dtype, rng, options, shapes=SHAPES[:3]):
    """Return one of our optimizers and torch's with the same parameters and hyper-parameters."""
    params = arrays(rng, dtype, shapes)
    twins = [torch.tensor(p, requires_grad=True) for p in params]
    theirs = torch_class(torch, rule)(twins, **one_by_one(torch, rule), **options)
    return CLASSES[rule](params, **options), theirs, twins


def step_both(torch, opt, theirs, twins, rng, rests=()):
    """Take one step with the same gradients, none for the parameters that rest."""
    grads = arrays(rng, opt.params[0].dtype, [p.shape for p in opt.params])
    for i in rests:
        grads[i] = None
    for twin, g in zip(twins, grads, strict=True):
        twin.grad = None if g is None else torch.tensor(g)
        if g is not None and opt.rule_name in ROWS_ONLY:
            twin.grad = twin.grad.to_sparse()
    theirs.step()
    opt.step(grads)


# in torch, the numbers that these two carry from step to step are float32 whatever the parameters
IN_FLOAT32 = {"nadam": {"mu_product"}, "asgd": {"eta", "mu"}}


def torch_rtol(rule, dtype):
    """How far we may be from torch."""
    return 1e-12 if dtype == np.float64 and rule not in IN_FLOAT32 else 1e-5


def assert_twins(opt, theirs, twins, rtol=None):
    """Fail if parameters, states or what is carried along differ."""
    saved = opt.state_dict()["state"]
    for i, (param, twin) in enumerate(zip(opt.params, twins, strict=True)):
        tolerance = torch_rtol(opt.rule_name, param.dtype) if rtol is None else rtol
        assert_allclose(param, twin.detach().numpy(), rtol=tolerance, atol=tolerance)
        for name, a in saved[i].items():
            if name == "step" and "step" not in theirs.state[twin]:  # SGD does not count
                continue
            expected = theirs.state[twin].get(name, 0)
            if expected is None:
                expected = 0
            assert_allclose(a, np.asarray(expected), tolerance, tolerance, err_msg=name)
