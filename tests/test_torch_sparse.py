"""`fastgd.torch`: sparse gradients, where torch's rules take them."""

import copy
import io

import pytest
from torch_optimizers import (
    CLASSES,
    ROWS_ONLY,
    TORCHS,
    assert_close,
    assert_same_bits,
    both,
    ft,
    torch,
    twins_of,
)
from torch_optimizers import _seeded as _seeded


@pytest.fixture(autouse=True)
def _alone():
    """One thread: torch's steps on rows take long when there are more than processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TAKERS = {
    "sparse_adam": [{}, {"betas": (0.5, 0.75), "eps": 1e-3, "lr": 0.1, "maximize": True}],
    "sgd": [{"lr": 0.1}, {"lr": 0.1, "maximize": True}],
    "adagrad": [{}, {"lr_decay": 0.1, "initial_accumulator_value": 0.5, "maximize": True}],
}
CASES = [(rule, options) for rule, sets in TAKERS.items() for options in sets]
pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant")


def give_rows(*lists, share=0.3):
    """Give the parameters of several optimizers the same sparse gradients, some rows twice."""
    for same in zip(*lists, strict=True):
        n = same[0].shape[0]
        index = torch.randint(0, n, (int(n * share) + 1,))
        values = torch.randn(len(index), *same[0].shape[1:], dtype=same[0].dtype)
        for p in same:
            p.grad = torch.sparse_coo_tensor(index[None], values.clone(), p.shape)


def tables(dtype=torch.float32):
    """Parameters whose rows get gradients."""
    return [torch.nn.Parameter(torch.randn(s, dtype=dtype)) for s in ((70, 33), (9,), (30, 2, 4))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rule", "options"), CASES)
def test_fifty_steps_are_torchs(rule, options, dtype):
    """Protects torch's numerics on rows: parameters, states, counts."""
    params = tables(dtype)
    twins = twins_of(params)
    ours, theirs = both(rule, params, twins, **options)
    for _ in range(50):
        give_rows(params, twins)
        ours.step()
        theirs.step()
    assert_close(params, twins)
    for p, q in zip(params, twins, strict=True):
        assert set(ours.state[p]) == set(theirs.state[q])
        for name, e in theirs.state[q].items():
            if isinstance(e, torch.Tensor) and e.ndim:
                assert_close([ours.state[p][name]], [e])
            elif e is not None:
                assert float(ours.state[p][name]) == float(e)


@pytest.mark.parametrize("rule", TAKERS)
def test_every_sparse_shape_is_taken(rule):
    """Protects gradients whose last axes are sparse, too, and those without any element."""
    for shape, dims in (((4, 3), 2), ((4, 3, 2), 2), ((5,), 1), ((4, 3), 1)):
        dense = torch.where(torch.rand(shape) < 0.5, torch.randn(shape), torch.zeros(()))
        for grad in (dense, torch.zeros(shape)):
            params = [torch.nn.Parameter(torch.randn(shape))]
            twins = twins_of(params)
            ours, theirs = both(rule, params, twins, lr=0.1)
            for _ in range(3):
                params[0].grad, twins[0].grad = (grad.to_sparse(dims) for _ in range(2))
                ours.step()
                theirs.step()
            assert_close(params, twins)


def test_embeddings_train_beside_dense_layers():
    """Protects the usual case: one optimizer for a model with a sparse embedding."""
    nets = [torch.nn.Sequential(torch.nn.Embedding(9, 4, sparse=True), torch.nn.Linear(4, 2))]
    nets.append(copy.deepcopy(nets[0]))
    opts = ft.Adagrad(nets[0].parameters()), torch.optim.Adagrad(nets[1].parameters())
    for _ in range(3):
        for net, opt in zip(nets, opts, strict=True):
            opt.zero_grad()
            net(torch.tensor([1, 3, 3])).square().sum().backward()
            opt.step()
    assert_close(nets[0].parameters(), nets[1].parameters())


@pytest.mark.parametrize("layout", ["transposed", "gaps"])
def test_odd_layouts(layout):
    """Protects parameters whose rows do not lie together: worked on in a copy."""
    table = torch.randn(6, 8)
    view = table.t() if layout == "transposed" else table[:, ::2]
    params = [view.requires_grad_()]
    twins = [view.detach().clone().contiguous().requires_grad_()]
    ours, theirs = both("sparse_adam", params, twins, lr=0.1)
    for _ in range(3):
        give_rows(params, twins)
        ours.step()
        theirs.step()
    assert_close(params, twins)


def test_same_bits_with_any_number_of_threads():
    """Protects reproducibility, with everything else that a step does."""
    results = []
    for threads in (1, 2, 4):
        torch.manual_seed(3)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        params = [torch.nn.Parameter(torch.randn(40_000, 9)), *tables()]
        opt = ft.SparseAdam(params, max_norm=1.0, clip_value=0.1, ema_decay=0.5)
        for _ in range(3):
            give_rows(params)
            opt.step(grad_scale=2.0)
        torch.set_num_threads(before)
        results.append([*params, *opt.ema])
    for other in results[1:]:
        assert_same_bits(other, results[0])


def test_checkpoints_go_both_ways():
    """Protects training that changes its library in the middle."""
    params = tables()
    twins = twins_of(params)
    ours, theirs = both("sparse_adam", params, twins)
    for k in range(6):
        give_rows(params, twins)
        ours.step()
        theirs.step()
        if k == 2:
            saved = [io.BytesIO(), io.BytesIO()]
            for opt, file in zip((ours, theirs), saved, strict=True):
                torch.save(opt.state_dict(), file)
                file.seek(0)
            ours, theirs = both("sparse_adam", params, twins)
            ours.load_state_dict(torch.load(saved[1]))
            theirs.load_state_dict(torch.load(saved[0]))
    assert_close(params, twins)


def test_not_finite_rows_change_nothing():
    """Protects embeddings from NaN: named, and nothing changed."""
    params = tables()
    before = twins_of(params)
    give_rows(params)
    params[2].grad._values()[1, 1, 1] = float("nan")
    opt = ft.SparseAdam(params)
    with pytest.raises(ft.NonFiniteError, match=r"grads\[2\]"):
        opt.step()
    assert_same_bits(params, before)
    assert not opt.state


def test_what_torch_refuses_is_refused():
    """Protects from rows that would rest where the rule lets them decay; torch's error type."""
    params = tables()
    for rule in sorted(TORCHS.keys() - TAKERS.keys()):
        if TORCHS[rule].__name__ == "Muon":
            continue
        give_rows(params)
        with pytest.raises(RuntimeError, match="sparse gradients"):
            CLASSES[rule](params).step()
    for rule, options in (
        ("sgd", {"weight_decay": 0.1}),
        ("sgd", {"momentum": 0.5}),
        ("adagrad", {"weight_decay": 0.1}),
        ("sparse_adam", {"agc": 0.1}),
    ):
        with pytest.raises(RuntimeError, match=f"{next(iter(options))} must be off"):
            CLASSES[rule](params, **options).step()
    for rule in ROWS_ONLY:
        for p in params:
            p.grad = torch.ones_like(p)
        with pytest.raises(RuntimeError, match="must have a sparse gradient"):
            CLASSES[rule](params).step()
