"""`fastgd.torch`: what else a step does to gradients and parameters, for every layout."""

import pytest
from torch_optimizers import _seeded as _seeded
from torch_optimizers import assert_close, ft, give, odd_layouts, torch, twins_of

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
