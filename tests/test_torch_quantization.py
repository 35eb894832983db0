"""Our optimizers on torch models with torch's own fake quantisation."""

import copy
import warnings

import pytest
from torch_optimizers import _seeded as _seeded
from torch_optimizers import assert_close, ft, torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it is said to move to another package
    quantization = pytest.importorskip("torch.ao.quantization")


def fake(learned, **codes):
    """A module that fake quantises: with torch's observers, or learned steps."""
    if learned:
        from torch.ao.quantization._learnable_fake_quantize import _LearnableFakeQuantize

        module = _LearnableFakeQuantize(
            quantization.MovingAverageMinMaxObserver,
            **codes,
            scale=0.05,
            zero_point=0.0,
            use_grad_scaling=True,
        )
        module.enable_param_learning()
        return module
    return quantization.FakeQuantize(quantization.MovingAverageMinMaxObserver, **codes)


class Model(torch.nn.Module):
    """Two layers whose weights and inputs are fake quantised."""

    def __init__(self, learned):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(6, 16), torch.nn.Linear(16, 2)])
        signed = {"quant_min": -128, "quant_max": 127, "dtype": torch.qint8}
        unsigned = {"quant_min": 0, "quant_max": 255, "dtype": torch.quint8}
        self.weights = torch.nn.ModuleList([fake(learned, **signed) for _ in self.layers])
        self.inputs = torch.nn.ModuleList([fake(learned, **unsigned) for _ in self.layers])

    def forward(self, x):
        for layer, weight, seen in zip(self.layers, self.weights, self.inputs, strict=True):
            x = torch.nn.functional.linear(seen(x), weight(layer.weight), layer.bias)
            x = x if layer is self.layers[-1] else x.relu()
        return x


@pytest.mark.parametrize("learned", [False, True], ids=["observed", "learned"])
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_trains_models_that_torch_has_prepared(name, learned):
    """Protects quantisation-aware training in torch: the same path as torch's own optimizer."""
    mine = Model(learned)
    theirs = copy.deepcopy(mine)
    x, y = torch.randn(128, 6), torch.randn(128, 2)
    options = {"lr": 0.1, "momentum": 0.9} if name == "SGD" else {"lr": 0.01}
    losses = []
    for model, optimizers in ((mine, ft), (theirs, torch.optim)):
        optimizer = getattr(optimizers, name)(model.parameters(), **options)
        for _ in range(10):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[9] < losses[0]
    # numbers near the middle between two codes may go to either: a few steps, then closely
    assert losses[:5] == pytest.approx(losses[10:15], rel=1e-4)
    assert losses[9] == pytest.approx(losses[19], rel=0.02)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert (a - b).abs().max() < 0.1
        assert a.requires_grad == b.requires_grad


def test_bare_fake_quantisation_too():
    """Protects models that call ``torch.fake_quantize_*`` themselves: one step is torch's."""
    x, y = torch.randn(64, 5), torch.randn(64, 3)
    first = torch.randn(3, 5)
    found = []
    for optimizers in (ft, torch.optim):
        weight = first.clone().requires_grad_()
        optimizer = optimizers.Adam([weight], lr=0.01)
        scale = torch.full((3,), 0.02)
        faked = torch.fake_quantize_per_channel_affine(
            weight, scale, torch.zeros(3).int(), 0, -128, 127
        )
        torch.nn.functional.mse_loss(x @ faked.T, y).backward()
        optimizer.step()
        found.append(weight.detach())
    assert_close(found[0], found[1])
