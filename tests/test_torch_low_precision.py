"""States and parameters in 16 and 8 bits: torch's tensors."""

import copy

import pytest
from torch_optimizers import CLASSES, TORCHS, ft, give, tensors, torch

SHORT = [torch.float16, torch.bfloat16]
APART = sorted(TORCHS.keys() - {"adafactor", "rprop", "sparse_adam"})  # rprop jumps at a sign
KEPT = {"bfloat16": torch.bfloat16, "int8": torch.uint8}


@pytest.fixture(params=SHORT, ids=str)
def short(request):
    """Each dtype of 16 bits."""
    return request.param


def steps(opt, params, n=5, seed=1):
    """Take some steps with gradients that depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        for p in params:
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            p.grad = noise.bfloat16().to(p.dtype)
        opt.step()


@pytest.mark.parametrize("rule", APART)
def test_closer_to_float64_than_torch(rule, short):
    """Protects accuracy: the error against a float64 run is at most twice torch's own."""
    start = [(p.detach() * 3).to(short) for p in tensors()]
    runs = []
    for cls, dtype in [
        (CLASSES[rule], short),
        (TORCHS[rule], short),
        (TORCHS[rule], torch.float64),
    ]:
        params = [p.to(dtype).requires_grad_() for p in copy.deepcopy(start)]
        steps(cls(params, lr=0.01), params)
        runs.append(torch.cat([p.detach().double().flatten() for p in params]))
    ours, theirs, exact = runs
    assert (ours - exact).norm() <= 2 * (theirs - exact).norm()


def test_master_copies_are_float32s(short):
    """Protects 16-bit training: the master copy goes as a float32 parameter does, to the bit."""
    params = [p.detach().to(short).requires_grad_() for p in tensors()]
    wide = [p.detach().float().requires_grad_() for p in params]
    ours, plain = ft.AdamW(params, lr=0.1), ft.AdamW(wide, lr=0.1)
    for opt, members in ((ours, params), (plain, wide)):
        steps(opt, members)
    for p, w in zip(params, wide, strict=True):
        assert torch.equal(ours.state[p]["master"], w.detach())
        assert torch.equal(p.detach(), w.detach().to(short))
        assert ours.state[p]["exp_avg"].dtype == torch.float32


def test_without_master_copies(short):
    """Protects memory: stochastic rounding keeps none, and differs from run to run in nothing."""
    runs = []
    for _ in range(2):
        params = [p.detach().to(short).requires_grad_() for p in (torch.ones(300), torch.ones(7))]
        opt = ft.SGD(params, lr=2.0**-9, rounding="stochastic")
        steps(opt, params)
        assert all("master" not in state for state in opt.state.values())
        runs.append(params)
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert len(runs[0][0].unique()) > 2


@pytest.mark.parametrize("kept_in", KEPT)
def test_states_in_fewer_bits(kept_in):
    """Protects memory and bits: as in `fastgd.optim`."""
    import numpy as np

    from fastgd import optim

    params = tensors([(300,), (4, 5), ()])
    arrays = [p.detach().numpy().copy() for p in params]
    opt = ft.AdamW(params, lr=0.1, state_dtype=kept_in)
    twin = optim.AdamW(arrays, lr=0.1, state_dtype=kept_in)
    for _ in range(3):
        give(params)
        opt.step()
        twin.step([p.grad.numpy().copy() for p in params])
    for p, a, state in zip(params, arrays, twin.state, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), a)
        assert opt.state[p]["exp_avg"].dtype == KEPT[kept_in]
        for name, s in state.items():
            bits = opt.state[p][name].view(torch.int16 if kept_in == "bfloat16" else torch.uint8)
            np.testing.assert_array_equal(bits.numpy().view(s.dtype), s)


@pytest.mark.parametrize("options", [{}, {"state_dtype": "int8"}, {"state_dtype": torch.bfloat16},
                                     {"rounding": "stochastic"}], ids=str)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, *SHORT], ids=str)
def test_resumed_to_the_bit(options, dtype, tmp_path):
    """Protects checkpoints: torch would cast states to the parameter's dtype on loading."""
    params = [p.detach().to(dtype).requires_grad_() for p in tensors([(300,), (4, 5)])]
    opt = ft.Adam(params, lr=0.1, **options)
    steps(opt, params)
    torch.save([opt.state_dict(), params], tmp_path / "a")
    saved, twins = torch.load(tmp_path / "a", weights_only=False)
    resumed = ft.Adam(twins, lr=0.1, **options)
    resumed.load_state_dict(saved)
    for o, members in ((opt, params), (resumed, twins)):
        steps(o, members, seed=2)
    for a, b in zip(params, twins, strict=True):
        assert torch.equal(a, b)
        for name, value in opt.state[a].items():
            assert resumed.state[b][name].dtype == value.dtype, name
            assert torch.equal(resumed.state[b][name], value), name


def test_torchs_checkpoint_is_taken_over(short):
    """Protects moving from torch: its 16-bit states become float32, a master copy is made."""
    params = [p.detach().to(short).requires_grad_() for p in tensors([(300,), (4, 5)])]
    twins = copy.deepcopy(params)
    theirs = torch.optim.AdamW(twins, lr=0.1, eps=1e-3)  # float16 has no 1e-8
    steps(theirs, twins)
    ours = ft.AdamW([p.detach().clone().requires_grad_() for p in twins], lr=0.1)
    ours.load_state_dict(theirs.state_dict())
    mine = ours.param_groups[0]["params"]
    assert ours.state[mine[0]]["exp_avg"].dtype == torch.float32
    steps(ours, mine)
    assert torch.equal(ours.state[mine[0]]["master"].to(short), mine[0].detach())


def test_averages_of_16_bits_are_float32(short):
    """Protects the average from standing still."""
    model = torch.nn.Linear(3, 2).to(short)
    opt = ft.SGD(model.parameters(), lr=0.1, ema_decay=0.5)
    assert all(a.dtype == torch.float32 for a in opt.ema)
    averaged = copy.deepcopy(model).float()
    opt = ft.SGD(model.parameters(), lr=0.1, ema_decay=0.5, ema=averaged, ema_source=model)
    start = model.weight.detach().float()
    steps(opt, list(model.parameters()), 1)
    torch.testing.assert_close(
        averaged.weight.detach(), (start + opt.state[model.weight]["master"]) / 2
    )
    with pytest.raises(ValueError, match=r"^ema must hold a tensor of torch\.float32"):
        ft.SGD(model.parameters(), ema_decay=0.5, ema=copy.deepcopy(model), ema_source=model)


@pytest.mark.parametrize("kept_in", KEPT)
def test_complex_parameters_keep_whole_states(kept_in):
    """Protects from a format that would take an element for two."""
    with pytest.raises(TypeError, match=r"^params\[0\] must be a CPU tensor .*complex64"):
        ft.Adam([torch.zeros(3, dtype=torch.complex64)], state_dtype=kept_in)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite_gradients_are_found(short, value):
    """Protects the guard for gradients of 16 bits; nothing has changed."""
    params = [torch.ones(300, dtype=short, requires_grad=True)]
    opt = ft.Adam(params, lr=0.1)
    params[0].grad = torch.ones(300, dtype=short)
    params[0].grad[7] = value
    with pytest.raises(ft.NonFiniteError, match=r"^grads\[0\] must be finite; got .* at \[7\]"):
        opt.step()
    assert not opt.state
    assert params[0].detach().eq(1).all()
