"""`fastgd.torch`: every rule on torch's tensors, held to torch.optim and to fastgd.optim.

Rules come from the table, their option sets from the domains of its rows, so that a new row of
``csrc/optim_rules.h`` is tested as soon as it is there.
"""

import copy
import inspect
import io
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import fastgd
from fastgd import _core, optim
from fastgd._hypers import tuple_name

torch = pytest.importorskip("torch")
ft = pytest.importorskip("fastgd.torch")

CLASSES = {cls.rule_name: cls for cls in ft.Optimizer.__subclasses__()}
TORCHS = {rule: cls._torch_class for rule, cls in CLASSES.items() if cls._torch_class}
OWN = sorted(CLASSES.keys() - TORCHS.keys())
SHAPES = ((3, 4), (5,), (), (0, 2), (2, 3, 4, 5))
OTHER = {
    "nonnegative": 0.125, "unit": 0.5, "flag": True, "real": 0.25, "above_one": 1.5,
    "positive": 0.5, "inside_unit": 0.5,
}  # fmt: skip
TOLERANCE = {torch.float64: (1e-9, 1e-12), torch.float32: (2e-5, 2e-6)}


@pytest.fixture(params=sorted(TORCHS))
def rule(request):
    """Name of each rule that torch has, too."""
    return request.param


@pytest.fixture(params=sorted(CLASSES))
def any_rule(request):
    """Name of each rule of the table."""
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def kind(request):
    """Each dtype; the numbers in torch's states have that of torch's default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(20240229)


# ---- problems ------------------------------------------------------------------------------------


def tensors(shapes=SHAPES, **kwargs):
    """Parameters."""
    return [torch.nn.Parameter(torch.randn(shape, **kwargs)) for shape in shapes]


def twins_of(params):
    """Parameters with the same values, layouts and requires_grad."""
    return copy.deepcopy(params)


def give(*lists, skip=()):
    """Give parameters of several optimizers the same gradients."""
    for i, same in enumerate(zip(*lists, strict=True)):
        grad = torch.randn_like(same[0])
        for param in same:
            param.grad = None if i in skip else grad.clone()


def assert_close(actual, expected):
    """Fail unless lists of tensors are equal, to torch's rounding."""
    for a, e in zip(actual, expected, strict=True):
        rtol, atol = TOLERANCE[e.dtype]
        torch.testing.assert_close(a.detach(), e.detach(), rtol=rtol, atol=atol)


def assert_same_states(ours, theirs):
    """Fail unless states have the same keys, dtypes, layouts and numbers."""
    ours, theirs = ours.state_dict()["state"], theirs.state_dict()["state"]
    assert ours.keys() == theirs.keys()
    for i, state in theirs.items():
        assert list(ours[i]) == list(state)
        for name, e in state.items():
            if e is None:
                assert ours[i][name] is None
                continue
            assert (ours[i][name].dtype, ours[i][name].stride()) == (e.dtype, e.stride()), name
            assert_close([ours[i][name]], [e])


def assert_same_bits(actual, expected):
    """Fail unless lists of tensors are equal to the last bit."""
    for a, e in zip(actual, expected, strict=True):
        assert a.detach().numpy().tobytes() == e.detach().numpy().tobytes()


def option_sets(rule):
    """Some sets of hyper-parameters: defaults, each flag, all at another value, all that goes."""
    row = _core.RULES[rule]["hypers"]
    names = [name for name, _, _ in row]
    sets = [{}]
    sets += [{name: True} for name, _, domain in row if domain == "flag" and name != "nesterov"]
    sets.append({n: OTHER[d] for n, v, d in row if d not in ("flag", "above_one") and n != "lr"})
    if "momentum" in names:
        sets.append({"momentum": 0.9, "weight_decay": 0.01})
    if "nesterov" in names:
        sets.append({"momentum": 0.9, "nesterov": True, "maximize": True})
    return [public(rule, given) for given in sets]


def public(rule, given):
    """Hyper-parameters as the classes take them."""
    tuples, others = {}, dict(given)
    for name, value, _ in _core.RULES[rule]["hypers"]:
        if together := tuple_name(name):
            tuples.setdefault(together, []).append(others.pop(name, value))
    return others | {name: tuple(values) for name, values in tuples.items()}


def both(rule, params, twins, **options):
    """Our optimizer and torch's."""
    return CLASSES[rule](params, **options), TORCHS[rule](twins, **options)


def closure_for(opt, params, target=1.0):
    """Closure of a sum of squares."""

    def closure():
        opt.zero_grad()
        loss = sum(((p - target) ** 2).sum() for p in params)
        loss.backward()
        return loss

    return closure


# ---- the table and the constructors --------------------------------------------------------------


def test_every_rule_has_a_class():
    """Protects the promise that a row is enough: each class of fastgd.optim is here, too."""
    assert CLASSES.keys() == _core.RULES.keys()
    for name in optim.__all__:
        assert hasattr(ft, name) or name in (
            "CLASSES",
            "ParamGroup",
            "defaults",
            "hyper_values",
            "make_states",
        )
    assert all(issubclass(cls, torch.optim.Optimizer) for cls in CLASSES.values())


def test_signature_is_torchs(rule):
    """Protects code that comes from torch: names, order, defaults, and what goes by keyword."""
    ours = list(inspect.signature(CLASSES[rule]).parameters.values())
    theirs = list(inspect.signature(TORCHS[rule]).parameters.values())
    for a, b in zip(ours, theirs, strict=False):
        assert (a.name, a.kind, a.default) == (b.name, b.kind, b.default)
    assert {p.name for p in ours[len(theirs) :]} == set(ft._OURS)
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(theirs) :])


def test_groups_have_torchs_keys(rule):
    """Protects who reads groups, such as schedulers and checkpoints."""
    ours, theirs = both(rule, *(2 * [tensors()]))
    for key, value in theirs.param_groups[0].items():
        if key != "params":
            assert ours.param_groups[0][key] == value
    assert ours.param_groups[0].keys() == theirs.param_groups[0].keys()
    assert ours.defaults == theirs.defaults


def test_torchs_choices_are_accepted(any_rule):
    """Protects drop-in use: foreach and fused are no matter, what is not done is refused."""
    allowed = inspect.signature(CLASSES[any_rule]).parameters
    for name in ("foreach", "fused"):
        if name in allowed:
            CLASSES[any_rule](tensors(), **{name: True})
    for name in ("capturable", "differentiable"):
        if name in allowed:
            with pytest.raises(ValueError, match=f"{name} must be False"):
                CLASSES[any_rule](tensors(), **{name: True})
            with pytest.raises(ValueError, match=f"{name} must be False"):
                CLASSES[any_rule]([{"params": tensors(), name: True}])


def test_bad_arguments_are_refused():
    """Protects from silent nonsense, as torch does."""
    with pytest.raises(ValueError, match="empty parameter list"):
        ft.SGD([])
    with pytest.raises(TypeError, match="iterable of Tensors"):
        ft.SGD(torch.zeros(2))
    with pytest.raises(ValueError, match="Invalid learning rate"):
        ft.Adam(tensors(), lr=-1.0)
    with pytest.raises(ValueError, match=r"betas\[1\] must be"):
        ft.Lion(tensors(), betas=(0.9, 2.0))
    same = tensors()
    with pytest.raises(ValueError, match="more than one parameter group"):
        ft.SGD([{"params": same}, {"params": same}])
    with pytest.raises(ValueError, match="nonfinite must be"):
        ft.SGD(tensors(), nonfinite="ignore")
    with pytest.raises(TypeError, match="must be one of"):
        ft.Optimizer(tensors())
    opt = ft.SGD(tensors(), lr=0.1)
    give(opt.param_groups[0]["params"])
    opt.param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match="lr must be"):
        opt.step()


def test_repr_is_torchs():
    """Protects what one reads in a notebook."""
    assert repr(ft.SGD(tensors())) == repr(torch.optim.SGD(tensors()))


def test_absence_of_torch_names_the_extra(run_python):
    """Protects who installed fastgd alone from a riddle."""
    done = run_python(
        "import sys; sys.modules['torch'] = None\nimport fastgd\n"
        "try: fastgd.torch\nexcept ImportError as error: print(error)"
    )
    assert "fastgd[torch]" in done.stdout


# ---- numbers -------------------------------------------------------------------------------------


def test_fifty_steps_are_torchs(rule, kind):
    """Protects torch's numerics and its states: keys, order, dtypes, layouts, numbers."""
    for options in option_sets(rule):
        params = tensors()
        twins = twins_of(params)
        ours, theirs = both(rule, params, twins, **options)
        for _ in range(50):
            give(params, twins)
            ours.step()
            theirs.step()
        assert_close(params, twins)
        assert_same_states(ours, theirs)


def test_fifty_steps_are_those_of_optim(any_rule, kind):
    """Protects one formula for both: NumPy's and torch's optimizer agree to the last bit."""
    if any_rule in TORCHS and _core.RULES[any_rule]["kept"] and kind is torch.float32:
        pytest.skip("torch keeps this rule's numbers in float32")
    options = option_sets(any_rule)[-1]
    params = tensors()
    arrays = [p.detach().numpy().copy() for p in params]
    ours, plain = CLASSES[any_rule](params, **options), getattr(
        optim, CLASSES[any_rule].__name__)(arrays, **options)  # fmt: skip
    for _ in range(50):
        give(params)
        ours.step()
        plain.step([p.grad.numpy() for p in params])
    assert_same_bits(params, map(torch.from_numpy, arrays))


def test_numbers_of_float64_parameters_keep_torchs_dtype():
    """Protects checkpoints: mu_product, eta, mu and step stay float32 beside float64 parameters."""
    for rule in ("nadam", "asgd"):
        params = tensors(dtype=torch.float64)
        twins = twins_of(params)
        ours, theirs = both(rule, params, twins)
        for _ in range(50):
            give(params, twins)
            ours.step()
            theirs.step()
        torch.testing.assert_close(params, twins, rtol=1e-6, atol=1e-7)
        for p, q in zip(params, twins, strict=True):
            torch.testing.assert_close(ours.state[p], theirs.state[q], rtol=1e-6, atol=1e-7)


def test_parameters_without_gradient_rest(rule):
    """Protects frozen layers: no state, no step, own counts, decay included."""
    params = tensors()
    twins = twins_of(params)
    options = {"weight_decay": 0.1} if "weight_decay" in CLASSES[rule]._names else {}
    ours, theirs = both(rule, params, twins, **options)
    for skip in ((0, 2), (1,), (0, 1, 2, 3, 4), ()):
        give(params, twins, skip=skip)
        ours.step()
        theirs.step()
        assert_close(params, twins)
        assert_same_states(ours, theirs)


def test_freezing_in_between(rule):
    """Protects fine-tuning: requires_grad=False makes a parameter rest, and back."""
    params = tensors()
    twins = twins_of(params)
    ours, theirs = both(rule, params, twins)
    for free in (True, False, True):
        for opt, own in ((ours, params), (theirs, twins)):
            own[0].requires_grad_(free)
            opt.zero_grad()
            sum((p**2).sum() for p in own if p.requires_grad).backward()
            opt.step()
    assert_close(params, twins)
    assert_same_states(ours, theirs)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(set_to_none):
    """Protects both ways to clear gradients."""
    params = tensors()
    opt = ft.Adam(params)
    give(params)
    opt.step()
    opt.zero_grad(set_to_none)
    assert all(p.grad is None if set_to_none else not p.grad.any() for p in params)


# ---- groups and schedules ------------------------------------------------------------------------


def test_groups_and_added_groups(rule):
    """Protects hyper-parameters by group, also of one that comes late, and the users' own keys."""
    params = tensors()
    twins = twins_of(params)

    def groups(own):
        return [{"params": own[:2], "mine": 3}, {"params": own[2:4], "lr": 0.05}]

    ours, theirs = both(rule, groups(params), groups(twins))
    for step in range(6):
        if step == 3:
            ours.add_param_group({"params": params[4:], "lr": 0.5})
            theirs.add_param_group({"params": twins[4:], "lr": 0.5})
            for opt in (ours, theirs) if rule == "adagrad" else ():  # torch makes no state here
                opt.state[opt.param_groups[2]["params"][0]].update(
                    step=torch.zeros(()), sum=torch.zeros(SHAPES[4])
                )
        give(params, twins)
        ours.step()
        theirs.step()
    assert ours.param_groups[0]["mine"] == 3
    assert_close(params, twins)
    assert_same_states(ours, theirs)


def test_bad_group_is_not_added():
    """Protects an optimizer from half a change."""
    opt = ft.Adam(tensors())
    for bad in ({"lr": -1.0}, {"capturable": True}):
        with pytest.raises(ValueError, match="must be"):
            opt.add_param_group({"params": tensors(), **bad})
    with pytest.raises(TypeError, match=r"params\[5\] must be"):
        opt.add_param_group({"params": [torch.zeros(3).half()]})
    assert len(opt.param_groups) == 1
    give(opt.param_groups[0]["params"])
    opt.step()


def test_dtypes_may_be_mixed(rule):
    """Protects models with some float64 parameters: each keeps its precision."""
    params = tensors([(3,), (4,)]) + tensors([(5,), (2, 2)], dtype=torch.float64)
    twins = twins_of(params)
    ours, theirs = both(rule, params, twins)
    for _ in range(3):
        give(params, twins)
        ours.step()
        theirs.step()
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q)


def test_parameters_of_a_group_may_be_exchanged():
    """Protects who edits groups by hand: the next step takes what is in the lists."""
    params = tensors()
    opt = ft.Adam(params[:2])
    give(params)
    opt.step()
    opt.param_groups[0]["params"].append(params[2])
    opt.param_groups[0]["params"][0] = params[4]
    before = [p.detach().clone() for p in params]
    opt.step()
    changed = [not torch.equal(p, b) for p, b in zip(params, before, strict=True)]
    assert changed == [False, True, True, False, True]


SCHEDULERS = {
    "StepLR": {"step_size": 3, "gamma": 0.5},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 12},
    "CosineAnnealingLR": {"T_max": 10},
    "ReduceLROnPlateau": {"patience": 1},
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("rule", ["sgd", "adamw"])
def test_schedulers_of_torch(rule, name):
    """Protects torch's schedulers, which write to the groups: learning rate, momentum and betas."""
    params = tensors()
    twins = twins_of(params)
    ours, theirs = both(rule, params, twins, **({"momentum": 0.9} if rule == "sgd" else {}))
    make = getattr(torch.optim.lr_scheduler, name)
    schedulers = [make(opt, **SCHEDULERS[name]) for opt in (ours, theirs)]
    for _ in range(10):
        give(params, twins)
        for opt, scheduler in zip((ours, theirs), schedulers, strict=True):
            opt.step()
            scheduler.step(*[1.0] * (name == "ReduceLROnPlateau"))
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]
    assert_close(params, twins)


def test_learning_rate_in_a_tensor():
    """Protects schedules that fill a 0-d tensor: its present value counts."""
    params = tensors()
    twins = twins_of(params)
    lr = torch.tensor(0.25)
    ours, theirs = ft.SGD(params, lr=lr), torch.optim.SGD(twins, lr=0.25)
    for value in (0.25, 0.5):
        lr.fill_(value)
        theirs.param_groups[0]["lr"] = value
        give(params, twins)
        ours.step()
        theirs.step()
        assert_close(params, twins)


def test_momentum_that_comes_late_starts_undamped_as_in_torch():
    """Protects warm-ups of the momentum: the first gradient enters the buffer whole."""
    params = tensors()
    twins = twins_of(params)
    ours, theirs = both("sgd", params, twins, dampening=0.5, lr=0.1)
    for momentum in (0.0, 0.0, 0.9, 0.9, 0.0, 0.9):
        for opt in (ours, theirs):
            opt.param_groups[0]["momentum"] = momentum
        give(params, twins)
        ours.step()
        theirs.step()
        assert_close(params, twins)


# ---- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 7])
def test_checkpoints_go_both_ways(rule, kind, steps):
    """Protects training that changes its library in the middle: it goes on as if it had not."""
    options = option_sets(rule)[-1]
    params = tensors()
    twins = twins_of(params)
    ours, theirs = both(rule, params, twins, **options)
    for _ in range(steps):
        give(params, twins)
        ours.step()
        theirs.step()
    saved = [io.BytesIO(), io.BytesIO()]
    for opt, file in zip((ours, theirs), saved, strict=True):
        torch.save(opt.state_dict(), file)
        file.seek(0)
    ours, theirs = both(rule, params, twins)  # the checkpoint brings the options
    ours.load_state_dict(torch.load(saved[1]))
    theirs.load_state_dict(torch.load(saved[0]))
    assert ours.t == (0 if rule == "sgd" else steps)
    for _ in range(7):
        give(params, twins)
        ours.step()
        theirs.step()
    assert_close(params, twins)
    assert_same_states(ours, theirs)


def test_own_checkpoint_goes_on_to_the_bit(any_rule):
    """Protects resuming: nothing is lost between state_dict and load_state_dict."""
    options = option_sets(any_rule)[-1]
    params = tensors()
    twins = twins_of(params)
    first, second = (CLASSES[any_rule](own, **options) for own in (params, twins))
    for _ in range(3):
        give(params, twins)
        first.step()
        second.step()
    third = CLASSES[any_rule](twins)
    third.load_state_dict(copy.deepcopy(second.state_dict()))
    assert third.t == 3
    for _ in range(3):
        give(params, twins)
        first.step()
        third.step()
    assert_same_bits(params, twins)


def test_states_of_old_checkpoints_are_read():
    """Protects checkpoints whose step is a plain number, and whose states have another layout."""
    params = [torch.nn.Parameter(odd_layouts()[0])]
    twins = twins_of(params)
    ours, theirs = both("adam", params, twins)
    give(params, twins)
    ours.step()
    theirs.step()
    state = ours.state[params[0]]
    state["step"] = 1
    state["exp_avg"] = state["exp_avg"].contiguous()
    give(params, twins)
    ours.step()
    theirs.step()
    assert_close(params, twins)
    assert_same_states(ours, theirs)


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
def test_copies_go_on(any_rule, way):
    """Protects copies of a whole optimizer: parameters, states, options, averages, counts."""
    opt = CLASSES[any_rule](tensors(), max_norm=1.0, ema_decay=0.5, nonfinite="skip",
        report_norms=True)  # fmt: skip
    give(opt.param_groups[0]["params"])
    opt.step()
    twin = pickle.loads(pickle.dumps(opt)) if way == "pickle" else copy.deepcopy(opt)
    assert (twin.max_norm, twin.nonfinite, twin.t, twin.last_step) == (
        1.0, "skip", 1, opt.last_step)  # fmt: skip
    lists = [o.param_groups[0]["params"] for o in (opt, twin)]
    give(*lists)
    opt.step()
    twin.step()
    assert_same_bits(*lists)
    assert_same_bits(opt.ema, twin.ema)


# ---- closures, hooks, scaling --------------------------------------------------------------------


def test_closures_and_their_result(rule):
    """Protects training by closures: called once, with gradients, its loss returned."""
    params = tensors()
    twins = twins_of(params)
    ours, theirs = both(rule, params, twins)
    with torch.no_grad():
        for _ in range(3):
            loss = ours.step(closure_for(ours, params))
            assert loss == theirs.step(closure_for(theirs, twins))
    assert_close(params, twins)
    assert ours.step() is None


def test_hooks_run_once(any_rule):
    """Protects hooks: each of torch's six kinds is called, once."""
    params = tensors()
    opt, seen = CLASSES[any_rule](params), []
    for kind in ("step_pre", "step_post", "state_dict_pre", "state_dict_post",
                 "load_state_dict_pre", "load_state_dict_post"):  # fmt: skip
        getattr(opt, f"register_{kind}_hook")(lambda *_, kind=kind: seen.append(kind))
    give(params)
    opt.step()
    opt.load_state_dict(opt.state_dict())
    assert seen == ["step_pre", "step_post", "state_dict_pre", "state_dict_post",
                    "load_state_dict_pre", "load_state_dict_post"]  # fmt: skip


@pytest.mark.parametrize("unscaled", [False, True])
def test_grad_scaler(rule, unscaled):
    """Protects mixed precision: unscaled in the step or before, a step with inf is left out."""
    params = tensors()
    twins = twins_of(params)
    pair = both(rule, params, twins)
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3) for _ in pair]
    for step in range(8):
        for opt, scaler, own in zip(pair, scalers, (params, twins), strict=True):
            opt.zero_grad()
            scaler.scale(sum(((p - 1) ** 2).sum() for p in own)).backward()
            if step == 4:
                own[1].grad[2] = math.inf
            if unscaled:
                scaler.unscale_(opt)
            scaler.step(opt)
            scaler.update()
        assert scalers[0].get_scale() == scalers[1].get_scale()
        assert_close(params, twins)
    assert not hasattr(pair[0], "grad_scale")
    assert pair[0].t + pair[0].skipped == 8


def test_skipped_by_grad_scaler_shows():
    """Protects who watches `last_step`: what the scaler found counts as skipped."""
    params = tensors()
    opt, scaler = ft.SGD(params), torch.amp.GradScaler("cpu")
    scaler.scale(sum((p * math.inf).sum() for p in params)).backward()
    scaler.step(opt)
    assert (opt.last_step.skipped, opt.skipped, opt.t) == (True, 1, 0)


def test_grad_scale_of_a_step(any_rule):
    """Protects accumulation: gradients are divided in the pass and stay as they are."""
    params = tensors()
    twins = twins_of(params)
    one, other = CLASSES[any_rule](params), CLASSES[any_rule](twins)
    for _ in range(3):
        give(params, twins)
        for p in params:
            p.grad *= 4
        kept = [p.grad.clone() for p in params]
        one.step(grad_scale=4)
        other.step()
        assert_same_bits([p.grad for p in params], kept)
    assert_same_bits(params, twins)
    with pytest.raises(ValueError, match="grad_scale must be"):
        one.step(grad_scale=0)


# ---- guard, clipping, averages -------------------------------------------------------------------


def test_non_finite_gradients_are_named_and_change_nothing(any_rule):
    """Protects the model from one bad batch: parameters, states and counts stay, also at first."""
    params = tensors()
    named = [(f"layer{i}.weight", p) for i, p in enumerate(params)]
    opt = CLASSES[any_rule](named, ema_decay=0.5)
    for _ in range(2):
        give(params)
        params[1].grad[3] = math.nan
        before = [t.detach().clone() for t in (*params, *opt.ema)]
        states = copy.deepcopy(opt.state_dict()["state"])
        versions = [p._version for p in params]
        with pytest.raises(ft.NonFiniteError, match=r"grads\[1\] \(layer1.weight\)") as caught:
            opt.step()
        assert (caught.value.index, caught.value.name) == (1, "layer1.weight")
        assert_same_bits([*params, *opt.ema], before)
        assert str(opt.state_dict()["state"]) == str(states)
        assert versions == [p._version for p in params]
        give(params)
        opt.step()
    assert (opt.t, opt.skipped) == (2, 0)


def test_non_finite_steps_may_be_skipped_or_taken(any_rule):
    """Protects the choice: left out and counted, or taken as torch does."""
    params = tensors()
    opt = CLASSES[any_rule](params, nonfinite="skip")
    give(params)
    params[0].grad[0, 0] = math.inf
    before = [p.detach().clone() for p in params]
    opt.step()
    assert_same_bits(params, before)
    assert (opt.t, opt.skipped, opt.last_step.skipped) == (0, 1, True)
    opt.nonfinite = "apply"
    opt.step()
    assert (opt.t, opt.skipped) == (1, 1)
    assert not torch.equal(params[1], before[1])


def test_max_norm_is_clip_grad_norm(rule, kind):
    """Protects the fused clipping: as torch's function before the step; gradients stay."""
    params = tensors()
    twins = twins_of(params)
    ours, theirs = CLASSES[rule](params, max_norm=0.5), TORCHS[rule](twins)
    for _ in range(5):
        give(params, twins)
        kept = [p.grad.clone() for p in params]
        norm = torch.nn.utils.clip_grad_norm_(twins, 0.5)
        theirs.step()
        ours.step()
        assert ours.last_step.grad_norm == pytest.approx(norm.item(), rel=1e-5)
        assert_same_bits([p.grad for p in params], kept)
    assert_close(params, twins)


def test_clip_value_is_clip_grad_value():
    """Protects element-wise clipping."""
    params = tensors()
    twins = twins_of(params)
    ours, theirs = ft.SGD(params, lr=0.1, clip_value=0.25), torch.optim.SGD(twins, lr=0.1)
    give(params, twins)
    torch.nn.utils.clip_grad_value_(twins, 0.25)
    ours.step()
    theirs.step()
    assert_close(params, twins)


def test_norms_are_reported():
    """Protects `last_step`."""
    params = tensors()
    opt = ft.SGD(params, lr=0.5, report_norms=True)
    assert opt.last_step is None
    give(params)
    opt.step()
    norm = torch.cat([p.grad.ravel() for p in params]).norm().item()
    assert opt.last_step == pytest.approx((norm, 1.0, 0.5 * norm, False), rel=1e-5)


@pytest.mark.parametrize("given", [False, True], ids=["copies", "list"])
def test_averages_of_a_list(given):
    """Protects the fused average of parameters: torch's lerp after each step."""
    params = tensors()
    expected = [p.detach().clone() for p in params]
    averages = [p.detach().clone() for p in params] if given else None
    opt = ft.SGD(params, lr=0.1, ema=averages, ema_decay=lambda t: 0.5 + t / 100)
    assert not given or opt.ema is averages
    for t in range(1, 5):
        give(params)
        opt.step()
        torch._foreach_lerp_(expected, [p.detach() for p in params], 1 - (0.5 + t / 100))
    assert_close(opt.ema, expected)
    late = tensors([(7,)])
    opt.add_param_group({"params": late})
    assert len(opt.ema) == len(params) + 1
    with pytest.raises(ValueError, match="ema must hold"):
        opt.ema = averages or opt.ema[:-1]


def model():
    """A small net with buffers."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(36, 2),
    )


def test_averages_of_a_module():
    """Protects YOLO's way: a copied module whose float numbers are averaged, buffers included."""
    net = model()
    net[0].bias.requires_grad_(False)
    ema = copy.deepcopy(net)
    expected = copy.deepcopy(net)
    trained = [p for p in reversed(list(net.parameters())) if p.requires_grad]  # not in order
    opt = ft.AdamW(trained, lr=0.01, ema=ema, ema_source=net, ema_decay=0.75)
    for _ in range(3):
        opt.zero_grad()
        net(torch.randn(5, 3, 5, 5)).square().sum().backward()
        opt.step()
        with torch.no_grad():
            for have, want in zip(expected.state_dict().values(), net.state_dict().values(),
                                  strict=True):  # fmt: skip
                have.lerp_(want, 0.25) if have.is_floating_point() else have.copy_(want)
    assert ema[1].num_batches_tracked == 3
    torch.testing.assert_close(dict(ema.state_dict()), dict(expected.state_dict()))
    copied = copy.deepcopy(opt)
    assert copied._options["ema_source"][3].weight is copied.param_groups[0]["params"][1]


def test_averages_that_do_not_fit_are_refused():
    """Protects averages from being mixed up."""
    net = model()
    with pytest.raises(ValueError, match="they differ in"):
        ft.SGD(net.parameters(), ema=model()[:2], ema_source=net, ema_decay=0.5)
    with pytest.raises(TypeError, match="if and only if ema_source"):
        ft.SGD(net.parameters(), ema=model(), ema_decay=0.5)
    with pytest.raises(ValueError, match="without ema_decay"):
        ft.SGD(net.parameters(), ema=model(), ema_source=net)
    with pytest.raises(ValueError, match="ema must hold 6 tensors"):
        ft.SGD(net.parameters(), ema=[], ema_decay=0.5)
    with pytest.raises(ValueError, match="ema must hold a tensor"):
        ft.SGD(tensors([(2,)]), ema=[torch.zeros(3)], ema_decay=0.5)
    params = tensors([(2,)])
    give(params)
    opt = ft.SGD(params, ema=[params[0].data], ema_decay=0.5)
    with pytest.raises(ValueError, match="overlap"):
        opt.step()
    with pytest.raises(TypeError, match="ema must hold dense CPU tensors"):
        opt.ema = [torch.zeros(4)[::2]]
    opt.ema = [torch.zeros(2)]  # what was refused has changed nothing
    opt.step()
    assert opt.t == 1
    matrix = tensors([(2, 3)])
    give(matrix)
    opt = ft.SGD(matrix, ema=[torch.zeros(3, 2).t()], ema_decay=0.5)
    with pytest.raises(ValueError, match="must have its shape, dtype and layout"):
        opt.step()


def test_options_may_be_assigned_between_steps():
    """Protects changing one's mind: the next step clips, guards and averages as said last."""
    params = tensors()
    twins = twins_of(params)
    opt = ft.SGD(params, lr=0.1)
    give(params, twins)
    opt.step()
    ft.SGD(twins, lr=0.1).step()
    opt.max_norm, opt.report_norms, opt.ema_decay = 0.25, True, 0.5
    other = ft.SGD(twins, lr=0.1, max_norm=0.25, report_norms=True, ema_decay=0.5)
    for _ in range(2):
        give(params, twins)
        opt.step()
        other.step()
        opt.ema_decay = other.ema_decay = 0.75
    assert opt.last_step == other.last_step
    assert_same_bits([*params, *opt.ema], [*twins, *other.ema])


# ---- layouts -------------------------------------------------------------------------------------


def odd_layouts():
    """Parameters of dense layouts that are not C-contiguous, and views."""
    memory = torch.randn(100)
    return [
        torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        torch.randn(4, 3).t(),
        torch.randn(2, 3, 4).permute(2, 0, 1),
        torch.randn(1, 3, 1, 5).contiguous(memory_format=torch.channels_last),
        memory[7:27].view(4, 5),
        memory[27:60],
    ]


@pytest.mark.parametrize("same_layout", [True, False])
def test_dense_layouts_are_taken_as_they_are(rule, same_layout):
    """Protects channels_last: elements meet their gradients and states, whatever the order."""
    params = [t.requires_grad_() for t in odd_layouts()]
    twins = [p.detach().clone().contiguous().requires_grad_() for p in params]
    neighbours = params[4]._base
    before = neighbours.clone()
    ours, theirs = both(rule, params, twins)
    for _ in range(3):
        for p, q in zip(params, twins, strict=True):
            q.grad = torch.randn(p.shape)
            p.grad = torch.empty_like(p).copy_(q.grad) if same_layout else q.grad.clone()
        ours.step()
        theirs.step()
    assert_close(params, twins)
    for p in params:
        for state in ours.state[p].values() if p in ours.state else ():
            assert state.ndim == 0 or state.stride() == p.stride()
    assert torch.equal(neighbours[:7], before[:7])
    assert torch.equal(neighbours[60:], before[60:])


def test_gradients_of_stride_zero_are_read_right():
    """Protects from torch's own trap: the gradient of a sum is one number, expanded."""
    param = torch.nn.Parameter(torch.zeros(3, 4))
    param.grad = torch.tensor(2.0).expand(3, 4)
    ft.SGD([param], lr=0.5).step()
    assert torch.equal(param, torch.full((3, 4), -1.0))


def test_memory_may_be_replaced_between_steps():
    """Protects from stale addresses: data, gradient, states and step are looked up in each step."""
    params = tensors()
    twins = twins_of(params)
    ours, theirs = both("adam", params, twins)
    for _ in range(4):
        give(params, twins)
        ours.step()
        theirs.step()
        for p in params:
            p.data = p.data.clone()
            ours.state[p] = {name: value.clone() for name, value in ours.state[p].items()}
            ours.state[p]["exp_avg"].data = ours.state[p]["exp_avg"].data.clone()
    assert_close(params, twins)
    assert_same_states(ours, theirs)
    ours.state.clear()  # starts anew
    give(params)
    ours.step()
    assert [s["step"].item() for s in ours.state.values()] == [1.0] * len(params)


def test_states_are_live():
    """Protects who looks at the states after a step, or writes to them before."""
    params = tensors()
    opt = ft.Adam(params)
    for t in (1, 2):
        give(params)
        opt.step()
        assert opt.state[params[0]]["step"].item() == t
    opt.state[params[0]]["step"].fill_(10)
    opt.step()
    assert opt.state[params[0]]["step"].item() == 11


def test_autograd_sees_the_change():
    """Protects from wrong gradients: a graph that needs the old parameters is refused."""
    param = torch.nn.Parameter(torch.randn(3))
    loss = (param**2).sum()
    param.grad = torch.ones(3)
    ft.SGD([param]).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# ---- what is refused, and what is left to torch --------------------------------------------------

UNFIT = {
    "bfloat16": lambda: torch.randn(3).bfloat16(),
    "float16": lambda: torch.randn(3).half(),
    "complex64": lambda: torch.randn(3, dtype=torch.complex64),
    "meta": lambda: torch.randn(3, device="meta"),
    "strided": lambda: torch.randn(4, 6)[:, ::2],
    "sparse": lambda: torch.eye(3).to_sparse(),
}


@pytest.mark.parametrize("what", UNFIT)
def test_unfit_parameters_are_refused_by_name(what):
    """Protects from a parameter that is silently not trained."""
    param = torch.nn.Parameter(UNFIT[what]()) if what != "strided" else UNFIT[what]()
    with pytest.raises(TypeError, match=r"params\[1\] \(b\) must be a dense tensor"):
        ft.Adam([("a", torch.nn.Parameter(torch.zeros(2))), ("b", param.requires_grad_())])


def test_unfit_later_is_refused_by_name():
    """Protects from sparse gradients, and a model converted after its optimizer was made."""
    params = tensors([(3,), (4,)])
    opt = ft.SGD(params, lr=0.1)
    give(params)
    params[1].grad = params[1].grad.to_sparse()
    kept = params[0].detach().clone()
    with pytest.raises(TypeError, match=r"the gradient of params\[1\] must be a dense tensor"):
        opt.step()
    assert torch.equal(params[0], kept)
    params[0].data, params[0].grad = params[0].data.half(), None
    params[0].grad = torch.zeros(3).half()
    with pytest.raises(TypeError, match=r"params\[0\] must be a dense tensor"):
        opt.step()


def test_overlapping_parameters_are_refused():
    """Protects from results that depend on the order of threads."""
    memory = torch.zeros(10)
    params = [memory[:6].requires_grad_(), memory[4:].requires_grad_()]
    opt = ft.SGD(params)
    give(params)
    with pytest.raises(ValueError, match="must not overlap"):
        opt.step()
    param = torch.nn.Parameter(torch.zeros(4))
    param.grad = param.data
    with pytest.raises(ValueError, match="must not overlap"):
        ft.SGD([param]).step()


def test_states_that_do_not_fit_are_refused():
    """Protects memory from a state of another size."""
    params = tensors([(3,)])
    opt = ft.Adam(params)
    give(params)
    opt.step()
    for wrong in (torch.zeros(4), torch.zeros(3).double(), "x"):
        opt.state[params[0]]["exp_avg"] = wrong
        with pytest.raises(ValueError, match="state 'exp_avg' of"):
            opt.step()


def test_fallback_leaves_the_rest_to_torch(rule):
    """Protects mixed models: torch's own class takes what cannot be updated here."""

    def build():
        torch.manual_seed(1)
        own = [torch.randn(3), torch.randn(4).bfloat16(), torch.randn(2, 6)[:, ::2], torch.randn(5)]
        return [t.requires_grad_() for t in own]

    params, twins = build(), build()
    ours, theirs = CLASSES[rule](params, fallback=True), TORCHS[rule](twins)
    for _ in range(3):
        give(params, twins)
        ours.step()
        theirs.step()
    for a, b in zip(params, twins, strict=True):
        torch.testing.assert_close(a, b)
    assert ours.state_dict()["state"].keys() == theirs.state_dict()["state"].keys()


@pytest.mark.filterwarnings("ignore:Sparse invariant")
@pytest.mark.parametrize("rule", ["sgd", "adagrad"])
def test_fallback_takes_sparse_gradients(rule):
    """Protects embeddings: torch's rules that take sparse gradients take them here."""
    nets = [torch.nn.Sequential(torch.nn.Embedding(9, 4, sparse=True), torch.nn.Linear(4, 2))]
    nets.append(copy.deepcopy(nets[0]))
    ours = CLASSES[rule](nets[0].parameters(), lr=0.1, fallback=True)
    theirs = TORCHS[rule](nets[1].parameters(), lr=0.1)
    for _ in range(3):
        for net, opt in zip(nets, (ours, theirs), strict=True):
            opt.zero_grad()
            net(torch.tensor([1, 3, 3])).square().sum().backward()
            opt.step()
    assert_close(nets[0].parameters(), nets[1].parameters())


def test_fallback_has_its_limits():
    """Protects from options that would not reach torch's part."""
    for options in ({"max_norm": 1.0}, {"clip_value": 1.0}, {"ema_decay": 0.5}):
        with pytest.raises(ValueError, match="must be None with fallback=True"):
            ft.SGD(tensors(), fallback=True, **options)
    for rule in OWN:
        with pytest.raises(ValueError, match="fallback must be False"):
            CLASSES[rule](tensors(), fallback=True)
    opt = ft.SGD(tensors(), fallback=True)
    with pytest.raises(ValueError, match="grad_scale must be 1"):
        opt.step(grad_scale=2.0)


# ---- threads and processes -----------------------------------------------------------------------


@pytest.fixture
def _torch_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_torch_threads")
def test_team_is_torchs(monkeypatch):
    """Protects the one pool of threads: its size is torch's, or less if the user wants less."""
    params, teams = tensors(), []
    opt = ft.SGD(params)

    def spy(self, state, team, scale):
        teams.append(team)
        return []

    monkeypatch.setattr(ft._Table, "step_tensors", spy, raising=False)
    monkeypatch.setattr(ft._Table, "report", lambda self: (0.0, 1.0, 0.0, False), raising=False)
    for n in (1, 3, 2):
        torch.set_num_threads(n)
        opt.step()
    with fastgd.threads(1):
        opt.step()
    assert teams == [1, 3, 2, 1]


@pytest.mark.usefixtures("_torch_threads")
def test_same_bits_with_any_number_of_threads(any_rule):
    """Protects reproducibility: the team does not decide a single bit."""
    results = []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        torch.manual_seed(0)
        params = tensors([(70_001,), (3, 5), (257, 333)])
        opt = CLASSES[any_rule](params, max_norm=1.0, ema_decay=0.5)
        for _ in range(3):
            give(params)
            opt.step()
        results.append([*params, *opt.ema])
    assert_same_bits(results[1], results[0])
    assert_same_bits(results[2], results[0])


DDP = """
import os, sys, torch, torch.distributed as dist, torch.multiprocessing as mp
import fastgd.torch as ft

def work(rank, path):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method="file://" + path, rank=rank, world_size=2)
    results = []
    for make in (ft.AdamW, torch.optim.AdamW):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
        ddp = torch.nn.parallel.DistributedDataParallel(net, gradient_as_bucket_view=True)
        opt = make(ddp.parameters(), lr=0.05)
        data = torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(1))[rank]
        for batch in data:
            opt.zero_grad()
            ddp(batch).square().sum().backward()
            opt.step()
        results.append(torch.cat([p.detach().ravel() for p in net.parameters()]))
    torch.testing.assert_close(*results)
    both = [torch.zeros_like(results[0]) for _ in range(2)]
    dist.all_gather(both, results[0])
    assert torch.equal(*both)
    dist.barrier()  # neither leaves while the other still listens
    dist.destroy_process_group()
    print("done", rank, flush=True)

if __name__ == "__main__":
    rank = int(sys.argv[1]) if len(sys.argv) > 1 else int(os.environ["RANK_OF_TEST"])
    work(rank, os.environ["STORE"])
"""


def test_in_distributed_data_parallel(tmp_path):
    """Protects training in two processes: as with torch's optimizer, and the same in both."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("needs torch with gloo")
    script = tmp_path / "work.py"
    script.write_text(DDP)
    env = {**os.environ, "STORE": str(tmp_path / "store"), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank)],
            env=env,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], said


def test_gradients_of_numpy_memory():
    """Protects tensors that share NumPy's memory: they are trained in place."""
    array = np.ones(5, np.float32)
    param = torch.from_numpy(array).requires_grad_()
    param.grad = torch.ones(5)
    ft.SGD([param], lr=0.5).step()
    assert array.tolist() == [0.5] * 5
