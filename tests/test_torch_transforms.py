"""`fastgd.torch`: what else a step does to gradients and parameters, for every layout."""

import copy

import pytest
from torch_optimizers import _seeded as _seeded
from torch_optimizers import (
    assert_close,
    assert_same_bits,
    ft,
    give,
    odd_layouts,
    tensors,
    torch,
    twins_of,
)

from fastgd.projections import box, l1_ball, l2_ball, simplex

TRANSFORMS = [
    {"centralize": True},
    {"agc": 0.05},
    {"centralize": True, "agc": 0.05},
]


def unitwise(grad, param, centralize=False, agc=None):
    """Gradient as the rule is to see it; the units are as timm has them."""
    dims = tuple(range(1, grad.ndim)) or None
    if centralize and grad.ndim > 1:
        grad = grad - grad.mean(dims, keepdim=True)
    if agc is not None:
        has = torch.linalg.vector_norm(grad, dim=dims, keepdim=True)
        wanted = agc * torch.linalg.vector_norm(param, dim=dims, keepdim=True).clamp(1e-3)
        grad = torch.where(has > wanted, grad * (wanted / has), grad)
    return grad


@pytest.mark.parametrize("options", TRANSFORMS, ids=["centralize", "agc", "both"])
def test_units_share_the_first_index_in_every_layout(options):
    """Protects filters of channels_last models: units are those of the shape, not of memory."""
    params = [p.detach().requires_grad_() for p in (*odd_layouts(), torch.randn(()))]
    twins = twins_of(params)
    opt = ft.Adam(params, lr=0.1, max_norm=1.0, **options)
    theirs = torch.optim.Adam(twins, lr=0.1)
    for _ in range(3):
        give(params, twins)
        torch.nn.utils.clip_grad_norm_(twins, 1.0)
        for twin in twins:
            twin.grad = unitwise(twin.grad, twin.detach(), **options)
        opt.step()
        theirs.step()
    assert_close(params, twins)


def test_units_of_replaced_memory():
    """Protects parameters that get other data: the layout is read anew in each step."""
    w = torch.nn.Parameter(torch.ones(2, 3))
    opt = ft.SGD([w], lr=1.0, centralize=True)
    w.data = torch.ones(3, 2).t()
    w.grad = torch.tensor([[1.0, 2, 3], [5, 5, 5]])
    opt.step()
    assert w.tolist() == [[2.0, 1.0, 0.0], [1.0, 1.0, 1.0]]


@pytest.mark.parametrize("options", TRANSFORMS[:2], ids=["centralize", "agc"])
def test_fallback_has_no_transforms(options):
    """Protects from options that would not reach torch's part."""
    with pytest.raises(ValueError, match="with fallback=True"):
        ft.SGD([torch.zeros(1)], fallback=True, **options)


@pytest.mark.parametrize("name", ["SGD", "Adam", "Lion"])
def test_lookahead_in_every_layout(name):
    """Protects the slow weights: beside the states, laid out as the parameters."""
    params = [p.detach().requires_grad_() for p in odd_layouts()]
    twins = twins_of(params)
    slow = [p.detach().clone() for p in twins]
    opt = getattr(ft, name)(params, lr=0.1, lookahead=(2, 0.25), ema_decay=0.5)
    plain = getattr(ft, name)(twins, lr=0.1)
    for t in range(1, 6):
        give(params, twins)
        opt.step()
        plain.step()
        if t % 2 == 0:
            torch._foreach_lerp_(slow, [p.detach() for p in twins], 0.25)
            for twin, s in zip(twins, slow, strict=True):
                twin.data.copy_(s)
    assert_close(params, twins)
    assert_close([opt.state[p]["slow_param"] for p in params], slow)
    assert [opt.state[p]["slow_param"].stride() for p in params] == [p.stride() for p in params]


def test_slow_weights_are_saved_and_torchs_own_class_loads_them():
    """Protects resuming to the bit, and going back to torch."""
    params = tensors()
    opt = ft.Adam(params, lr=0.1, lookahead=(3, 0.5))
    give(params)
    opt.step()
    saved = copy.deepcopy(opt.state_dict())
    resumed = twins_of(params)
    other = ft.Adam(resumed, lr=0.1, lookahead=(3, 0.5))
    other.load_state_dict(saved)
    theirs = torch.optim.Adam(twins := twins_of(params), lr=0.1)
    theirs.load_state_dict(copy.deepcopy(saved))
    for _ in range(3):
        give(params, resumed, twins)
        for each in (opt, other, theirs):
            each.step()
    assert_same_bits(resumed, params)
    assert [p.tolist() for p in twins] != [p.tolist() for p in params]
    opt.lookahead = None
    assert not any("slow_param" in state for state in opt.state.values())


def test_lookahead_starts_with_states_of_torch():
    """Protects a switch in the middle: torch's momentum goes on, slow weights begin here."""
    params = tensors()
    theirs = torch.optim.SGD(params, lr=0.1, momentum=0.9)
    give(params)
    theirs.step()
    opt = ft.SGD(twins := twins_of(params), lr=0.1, momentum=0.9, lookahead=(2, 0.5))
    opt.load_state_dict(copy.deepcopy(theirs.state_dict()))
    give(params, twins)
    opt.step()
    theirs.step()
    assert_close(twins, params)


def test_a_refused_step_makes_no_slow_weights():
    """Protects states from what a failed first step has begun."""
    for name in ("SGD", "Adam"):
        params = tensors()
        opt = getattr(ft, name)(params, lookahead=(2, 0.5))
        give(params)
        params[0].grad[0, 0] = torch.nan
        with pytest.raises(ft.NonFiniteError):
            opt.step()
        assert not opt.state


def test_swa_is_averaged_model():
    """Protects parity with ``torch.optim.swa_utils`` and its mean of all models."""
    net = torch.nn.Linear(3, 2)
    model = torch.optim.swa_utils.AveragedModel(net)
    opt = ft.SGD(net.parameters(), lr=0.1, ema_decay=ft.swa(start=2, every=2))
    for t in range(1, 9):
        give(list(net.parameters()))
        opt.step()
        if t in (4, 6, 8):
            model.update_parameters(net)
    assert_close(opt.ema, list(model.module.parameters()))


def test_complex_units():
    """Protects adaptive clipping of complex numbers by their absolute values; means are refused."""
    param = torch.nn.Parameter(torch.ones(2, 3, dtype=torch.complex64))
    param.grad = torch.tensor([[3 + 4j, 0, 0], [0, 0, 0.1j]])
    ft.SGD([param], lr=1.0, agc=0.5).step()
    unit = 0.5 * 3**0.5  # half the norm of a row of ones
    expected = torch.tensor([[1 - unit * (0.6 + 0.8j), 1, 1], [1, 1, 1 - 0.1j]])
    torch.testing.assert_close(param.detach(), expected)
    with pytest.raises(TypeError, match="centralize must be False for params"):
        ft.SGD([param], lr=1.0, centralize=True).step()


@pytest.mark.parametrize("projection", [box(-0.1, 0.2), l1_ball(2.0), l2_ball(0.5), simplex(3.0)])
def test_projections_in_every_layout(projection):
    """Protects views and channels_last: the tensors themselves are projected, then averaged."""
    params = [p.detach().requires_grad_() for p in odd_layouts()]
    twins = twins_of(params)
    opt = ft.Adam(params, lr=0.1, projection=projection, ema_decay=0.5)
    plain = ft.Adam(twins, lr=0.1)
    ema = [p.detach().clone() for p in twins]
    for _ in range(3):
        give(params, twins)
        opt.step()
        plain.step()
        for twin, average in zip(twins, ema, strict=True):
            twin.data.copy_(torch.from_numpy(projection(twin.detach().numpy())))
            average.lerp_(twin.detach(), 0.5)
    assert_close(params, twins)
    assert_close(opt.ema, ema)


def test_projections_of_groups():
    """Protects groups of one's own, and state dicts from what torch would not load."""
    own = {"params": [torch.zeros(2, requires_grad=True)], "projection": l2_ball(1.0)}
    opt = ft.SGD([{"params": [torch.zeros(2, requires_grad=True)]}, own], lr=1.0)
    opt.projection = box(0, 2)
    for group in opt.param_groups:
        group["params"][0].grad = torch.tensor([3.0, -4.0])
    opt.step()
    values = [group["params"][0].tolist() for group in opt.param_groups]
    assert values == [[0, 2], pytest.approx([-0.6, 0.8])]
    saved = opt.state_dict()
    assert not any("projection" in group for group in saved["param_groups"])
    opt.load_state_dict(saved)
    assert opt.param_groups[1]["projection"] == l2_ball(1.0)
    opt.param_groups[0]["projection"] = 1
    with pytest.raises(TypeError, match=r"^projection must be None or one of"):
        opt.step()
    with pytest.raises(TypeError, match=r"^projection must be None or one of"):
        opt.add_param_group({"params": [torch.zeros(1)], "projection": 1})
    assert len(opt.param_groups) == 2
    with pytest.raises(ValueError, match=r"^projection must be None with fallback=True"):
        ft.SGD([{"params": [torch.zeros(1)], "projection": simplex()}], fallback=True)


def test_gaps_in_memory():
    """Protects parameters that are worked on as a copy: projected, then copied back."""
    memory = torch.randn(6, 6)
    params = [memory[:, ::2].requires_grad_()]
    twins = [params[0].detach().clone().requires_grad_()]
    options = {"agc": 0.1, "centralize": True, "lookahead": (2, 0.5), "projection": l2_ball(1.0)}
    opts = [ft.Adam(each, lr=0.1, **options) for each in (params, twins)]
    between = memory[:, 1::2].clone()
    for _ in range(3):
        give(params, twins)
        for opt in opts:
            opt.step()
    assert_same_bits([p.detach().contiguous() for p in params], twins)
    assert torch.equal(memory[:, 1::2], between)


@pytest.mark.parametrize("projection", [box(0, 1), l2_ball()])
def test_complex_projections_are_refused(projection):
    """Protects complex numbers from bounds on their parts, and from half a step."""
    param = torch.nn.Parameter(torch.ones(2, 3, dtype=torch.complex64))
    param.grad = torch.ones_like(param)
    with pytest.raises(TypeError, match=r"^projection must be None for params\[0\] of"):
        ft.SGD([param], projection=projection).step()
    assert torch.equal(param.detach(), torch.ones_like(param))
