"""Rules that make matrices orthonormal, Muon and MuSGD, on torch's tensors.

Peers iterate in bfloat16. Where it is taken out of them, float64 agrees to the last digits; where
it is not, we must be nearer to float64 than they are.
"""

import copy
import pickle
import warnings

import pytest
from optimizers import option_sets as rows_of
from optimizers import public
from torch_optimizers import _seeded as _seeded
from torch_optimizers import assert_close, ft, give, tensors, torch, twins_of

SHAPES = ((6, 9), (9, 4), (5, 5), (1, 7))
FILTERS = (*SHAPES, (4, 3, 3, 2), (2, 4, 3, 1), (4, 1, 1))


def ultralytics():
    """Ultralytics' MuSGD, or skip; without compiled operators, its import fails in many ways."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from ultralytics.optim import MuSGD
    except Exception as error:
        pytest.skip(f"no Ultralytics: {error!r:.80}")
    return MuSGD


@pytest.fixture
def exact_peers(monkeypatch):
    """Peers iterate in the precision of the parameters, and torch's numbers are float64."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def split(params):
    """Return Ultralytics' groups: matrices and filters, and the rest."""
    return [
        {"params": [p for p in params if p.ndim >= 2], "use_muon": True, "weight_decay": 0.01},
        {"params": [p for p in params if p.ndim < 2], "lr": 0.02},
    ]


SETTINGS = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "muon": 0.2, "sgd": 1.0}


@pytest.mark.parametrize("row", rows_of("muon"), ids=str)
def test_muon_is_torchs(exact_peers, row):
    """Protects torch's numerics over 50 steps, each hyper-parameter changed alone and together."""
    options = public(row)
    if options.pop("maximize"):
        pytest.skip("torch's has no such option")
    params = tensors(SHAPES)
    twins = twins_of(params)
    ours, theirs = ft.Muon(params, **options), torch.optim.Muon(twins, **options)
    for _ in range(50):
        give(params, twins)
        ours.step()
        theirs.step()
    assert_close(params, twins)
    assert [list(s) for s in ours.state.values()] == [list(s) for s in theirs.state.values()]


@pytest.mark.parametrize("nesterov", [False, True])
def test_musgd_is_ultralytics(exact_peers, nesterov):
    """Protects Ultralytics' numerics over 50 steps: both halves, their order, the groups."""
    params = tensors((*FILTERS, (5,), ()))
    twins = twins_of(params)
    settings = {**SETTINGS, "nesterov": nesterov}
    ours, theirs = ft.MuSGD(split(params), **settings), ultralytics()(split(twins), **settings)
    for _ in range(50):
        give(params, twins)
        ours.step()
        theirs.step()
    assert_close(params, twins)
    for p, twin in zip(params, twins, strict=True):
        assert list(ours.state[p]) == list(theirs.state[twin])
        assert_close(ours.state[p].values(), theirs.state[twin].values())


@pytest.mark.parametrize("name", ["Muon", "MuSGD"])
def test_float32_is_nearer_to_float64_than_the_peers(name):
    """Protects precision: at most twice the peer's error, in fact a hundredth of it."""
    theirs_class = torch.optim.Muon if name == "Muon" else ultralytics()
    params = tensors(SHAPES)
    others = twins_of(params)
    exact = [torch.nn.Parameter(p.detach().double()) for p in params]
    settings = {"lr": 0.1, "momentum": 0.9, "nesterov": True}
    use = {} if name == "Muon" else {"use_muon": True}
    steppers = [
        getattr(ft, name)(params, **settings, **use),
        theirs_class(others, **settings, **use),
        getattr(ft, name)(exact, **settings, **use),
    ]
    for _ in range(5):
        give(params, others)
        for e, p in zip(exact, params, strict=True):
            e.grad = p.grad.double()
        for each in steppers:
            each.step()

    def error(found):
        return max((f - e).abs().max().item() for f, e in zip(found, exact, strict=True))

    assert error(params) < error(others) / 100


def test_layouts_are_taken_as_they_are():
    """Protects channels_last and transposed parameters: the matrix is that of the indices."""
    last = torch.randn(6, 4, 3, 2).contiguous(memory_format=torch.channels_last)
    turned, narrow = torch.randn(3, 8).t(), torch.randn(8, 3).t()
    params = [torch.nn.Parameter(p) for p in (last, turned, narrow)]
    plain = [torch.nn.Parameter(p.detach().contiguous()) for p in params]
    strides = [p.stride() for p in params]
    first, second = (ft.MuSGD(each, use_muon=True, **SETTINGS) for each in (params, plain))
    for _ in range(3):
        give(params, plain)
        first.step()
        second.step()
    assert_close(params, plain)
    assert [p.stride() for p in params] == strides


def test_layouts_that_are_no_matrix_are_refused():
    """Protects from a matrix of the wrong elements."""
    between = torch.nn.Parameter(torch.randn(3, 4, 2, 5).permute(1, 0, 2, 3))
    between.grad = torch.ones_like(between)
    opt = ft.Muon([between])
    before = between.detach().clone()
    with pytest.raises(ValueError, match=r"^params\[0\] must have its first dimension before"):
        opt.step()
    assert torch.equal(between, before)
    assert not opt.state
    ft.MuSGD([between]).step()  # which takes it element by element


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4)])
def test_muon_refuses_what_is_no_matrix(shape):
    """Protects biases, and the groups: they stay as they were."""
    matrix = torch.nn.Parameter(torch.ones(2, 2))
    odd = torch.nn.Parameter(torch.ones(shape))
    with pytest.raises(ValueError, match=r"^params\[1\] \(b\) must be a matrix or the filters"):
        ft.Muon([("a", matrix), ("b", odd)])
    opt = ft.Muon([matrix])
    with pytest.raises(ValueError, match=r"^params\[1\] must be a matrix or the filters"):
        opt.add_param_group({"params": [odd]})
    assert len(opt.param_groups) == 1


def test_muon_checkpoints_go_both_ways(exact_peers):
    """Protects resuming from torch, and going back."""
    params = tensors(SHAPES)
    twins = twins_of(params)
    ours, theirs = ft.Muon(params, lr=0.1), torch.optim.Muon(twins, lr=0.2)
    for source, target in ((theirs, ours), (ours, theirs)):
        give(params, twins)
        ours.step()
        theirs.step()
        target.load_state_dict(copy.deepcopy(source.state_dict()))
        with torch.no_grad():
            for p, twin in zip(params, twins, strict=True):
                p.copy_(twin)
        give(params, twins)
        ours.step()
        theirs.step()
        assert_close(params, twins)


def test_musgd_takes_checkpoints_of_ultralytics(exact_peers):
    """Protects resuming a training that Ultralytics began."""
    params = tensors(FILTERS)
    twins = twins_of(params)
    ours, theirs = ft.MuSGD(split(params), **SETTINGS), ultralytics()(split(twins), **SETTINGS)
    give(params, twins)
    theirs.step()
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    with torch.no_grad():
        for p, twin in zip(params, twins, strict=True):
            p.copy_(twin)
    give(params, twins)
    ours.step()
    theirs.step()
    assert_close(params, twins)


def test_copies_keep_both_parts_of_the_rate():
    """Protects `muon` and `sgd`, which Ultralytics' class loses on the way."""
    opt = ft.MuSGD(tensors(SHAPES), **SETTINGS)
    for other in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        assert [other.param_groups[0][name] for name in ("muon", "sgd")] == [0.2, 1.0]
