"""`fastgd.torch`: layouts, memory and threads; what is refused, and what is left to torch."""

import copy

import numpy as np
import pytest
from torch_optimizers import (
    CLASSES,
    NOT_COMPLEX,
    OWN,
    ROWS_ONLY,
    TORCHS,
    assert_close,
    assert_same_bits,
    assert_same_states,
    both,
    ft,
    give,
    odd_layouts,
    tensors,
    torch,
    twins_of,
)
from torch_optimizers import _seeded as _seeded
from torch_optimizers import any_rule as any_rule
from torch_optimizers import rule as rule

import fastgd
from fastgd import _core

# ---- layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("same_layout", [True, False])
def test_dense_layouts_are_taken_as_they_are(rule, same_layout):
    """Protects channels_last: elements meet their gradients and states, whatever the order."""
    params = [t.requires_grad_() for t in odd_layouts()]
    twins = [p.detach().clone().contiguous().requires_grad_() for p in params]
    neighbours = params[4]._base
    when_kept = dict(_core.RULES[rule]["states"])
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
        for name, state in ours.state.get(p, {}).items():
            moments = when_kept.get(name) in ("rows", "columns")
            assert moments or state.ndim == 0 or state.stride() == p.stride()
    assert torch.equal(neighbours[:7], before[:7])
    assert torch.equal(neighbours[60:], before[60:])


def test_parameters_with_gaps_are_updated_in_their_place(rule):
    """Protects views such as one column of a table: its numbers change, its neighbours do not."""
    tables = [torch.randn(10, 5, 2), torch.randn(9), torch.randn(4, 6)]
    before = [table.clone() for table in tables]
    params = [tables[0][..., 0], tables[1][::3], tables[2].t()[1:5:2]]
    twins = [p.clone().requires_grad_() for p in params]
    for p in params:
        p.requires_grad_()
    ours, theirs = both(rule, params, twins)
    for k in range(3):
        give(params, twins, skip=(k,))
        ours.step()
        theirs.step()
        assert_close(params, twins)
    assert_same_states(ours, theirs)
    assert torch.equal(tables[0][..., 1], before[0][..., 1])
    for k in (1, 2):
        assert torch.equal(tables[1][k::3], before[1][k::3])
    assert torch.equal(tables[2][:, ::2], before[2][:, ::2])


def test_gaps_and_averages():
    """Protects the average of a view with gaps, which lies in memory of its own."""
    table = torch.zeros(4, 2)
    param = table[:, 1].requires_grad_()
    opt = ft.SGD([param], lr=1.0, ema_decay=0.5)
    param.grad = torch.ones(4)
    opt.step()
    assert table.tolist() == [[0.0, -1.0]] * 4
    assert opt.ema[0].tolist() == [-0.5] * 4


@pytest.mark.parametrize("rule", sorted(TORCHS.keys() - NOT_COMPLEX - ROWS_ONLY))
def test_complex_parameters_are_pairs_of_real_ones(rule):
    """Protects complex numbers and their states, beside real ones."""
    made = [torch.randn(10, 5, dtype=torch.complex64), torch.randn(3, dtype=torch.complex64)]
    params = [p.requires_grad_() for p in (*made, torch.randn(10, 5), made[0].detach()[:, ::2])]
    params[3] = params[3].detach().clone()[:, ::2].requires_grad_()
    twins = [p.detach().clone().requires_grad_() for p in params]
    ours, theirs = both(rule, params, twins)
    for _ in range(3):
        give(params, twins)
        ours.step()
        theirs.step()
    assert_close(params, twins)
    assert_same_states(ours, theirs)


@pytest.mark.parametrize("rule", sorted(NOT_COMPLEX))
def test_complex_parameters_are_refused_where_torch_refuses_them(rule):
    """Protects from moments of pairs of numbers that belong together."""
    params = [torch.ones(2, 2, dtype=torch.complex64, requires_grad=True)]
    twins = twins_of(params)
    give(params, twins)
    for opt in both(rule, params, twins):
        with pytest.raises(RuntimeError, match="complex"):
            opt.step()


def test_complex_gradients_that_are_not_finite_are_found():
    """Protects from NaN in an imaginary part."""
    param = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    param.grad = torch.tensor([0, complex(0, float("nan")), 0], dtype=torch.complex64)
    with pytest.raises(ft.NonFiniteError, match=r"grads\[0\]"):
        ft.Adam([param]).step()
    assert torch.equal(param, torch.ones_like(param))


def test_states_of_another_kind_are_refused():
    """Protects from reading past a state of real numbers of a parameter that became complex."""
    param = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    param.grad = torch.ones_like(param)
    opt = ft.Adam([param])
    opt.step()
    opt.state[param]["exp_avg"] = torch.zeros(3)
    with pytest.raises(ValueError, match="state 'exp_avg' of params"):
        opt.step()


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


def test_gradients_of_numpy_memory():
    """Protects tensors that share NumPy's memory: they are trained in place."""
    array = np.ones(5, np.float32)
    param = torch.from_numpy(array).requires_grad_()
    param.grad = torch.ones(5)
    ft.SGD([param], lr=0.5).step()
    assert array.tolist() == [0.5] * 5


# ---- what is refused, and what is left to torch --------------------------------------------------

UNFIT = {
    "float8": lambda: torch.randn(3).to(torch.float8_e4m3fn),
    "meta": lambda: torch.randn(3, device="meta"),
    "expanded": lambda: torch.randn(4, 1).expand(4, 3),
    "sparse": lambda: torch.eye(3).to_sparse(),
}


@pytest.mark.parametrize("what", UNFIT)
def test_unfit_parameters_are_refused_by_name(what):
    """Protects from a parameter that is silently not trained."""
    param = torch.nn.Parameter(UNFIT[what]())
    with pytest.raises(TypeError, match=r"params\[1\] \(b\) must be a CPU tensor"):
        ft.Adam([("a", torch.nn.Parameter(torch.zeros(2))), ("b", param.requires_grad_())])


def test_unfit_later_is_refused_by_name():
    """Protects from sparse gradients, and a model converted after its optimizer was made."""
    params = tensors([(3,), (4,)])
    opt = ft.Adam(params, lr=0.1)
    give(params)
    params[1].grad = params[1].grad.to_sparse()
    kept = params[0].detach().clone()
    with pytest.raises(
        RuntimeError, match=r"does not take sparse gradients, as that of params\[1\]"
    ):
        opt.step()
    assert torch.equal(params[0], kept)
    params[0].data, params[0].grad = params[0].data.to(torch.float8_e4m3fn), None
    params[0].grad = torch.zeros(3).to(torch.float8_e4m3fn)
    with pytest.raises(TypeError, match=r"params\[0\] must be a CPU tensor"):
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
    if rule in ("adafactor", "asgd"):
        pytest.skip("torch's does not take meta tensors")

    def build():
        torch.manual_seed(1)
        odd = torch.randn(4).to("meta")
        own = [torch.randn(3), odd, torch.randn(2, 6)[:, ::2], torch.randn(5)]
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
    for name in OWN:
        with pytest.raises(ValueError, match="fallback must be False"):
            CLASSES[name](tensors(), fallback=True)
    opt = ft.SGD(tensors(), fallback=True)
    with pytest.raises(ValueError, match="grad_scale must be 1"):
        opt.step(grad_scale=2.0)


# ---- threads -------------------------------------------------------------------------------------


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
