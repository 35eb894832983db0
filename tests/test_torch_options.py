"""`fastgd.torch`: guard, clipping, norms and averages, held to torch's own functions."""

import copy
import math

import pytest
from torch_optimizers import (
    CLASSES,
    TORCHS,
    assert_close,
    assert_same_bits,
    ft,
    give,
    tensors,
    torch,
    twins_of,
)
from torch_optimizers import _seeded as _seeded
from torch_optimizers import any_rule as any_rule
from torch_optimizers import kind as kind
from torch_optimizers import rule as rule


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


def test_averages_of_a_part():
    """Protects averages of some tensors alone: two dicts say which, parameters or not."""
    net = model()
    sources = {"w": net[0].weight, "mean": net[1].running_mean}
    averages = {name: value.detach().clone() for name, value in sources.items()}
    opt = ft.SGD(net.parameters(), lr=0.1, ema=averages, ema_source=sources, ema_decay=0.75)
    expected = [value.clone() for value in averages.values()]
    for _ in range(3):
        opt.zero_grad()
        net(torch.randn(5, 3, 5, 5)).square().sum().backward()
        opt.step()
        torch._foreach_lerp_(expected, [value.detach() for value in sources.values()], 0.25)
    assert_close(averages.values(), expected)
    with pytest.raises(ValueError, match="they differ in"):
        opt.ema = {"w": averages["w"]}
    with pytest.raises(TypeError, match="a module or mapping if and only if ema_source is one"):
        opt.ema = list(averages.values())


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
