"""`fastgd.torch`: every rule on torch's tensors, held to torch.optim and to fastgd.optim."""

import inspect

import pytest
from torch_optimizers import (
    CLASSES,
    SHAPES,
    TORCHS,
    assert_close,
    assert_same_bits,
    assert_same_states,
    both,
    ft,
    give,
    option_sets,
    tensors,
    torch,
    twins_of,
)
from torch_optimizers import _seeded as _seeded
from torch_optimizers import any_rule as any_rule
from torch_optimizers import kind as kind
from torch_optimizers import rule as rule

from fastgd import _core, optim

# ---- the table and the constructors --------------------------------------------------------------


def test_every_rule_has_a_class():
    """Protects the promise that a row is enough: each class of fastgd.optim is here, too."""
    assert CLASSES.keys() == _core.RULES.keys()
    for name in optim.__all__:
        assert hasattr(ft, name) or name in (
            "RowGradient",
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
    for name in ("nadam", "asgd"):
        params = tensors(dtype=torch.float64)
        twins = twins_of(params)
        ours, theirs = both(name, params, twins)
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
        opt.add_param_group({"params": [torch.zeros(3, device="meta")]})
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
