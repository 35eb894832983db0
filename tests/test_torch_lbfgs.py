"""`fastgd.torch.LBFGS`: torch's class of that name, and what it adds."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose
from smooth_functions import (
    FUNCTIONS,
    OPTION_SETS,
    SHAPES,
    STEPS,
    WOLFE,
    arrays,
    closure_of,
    flat,
    reference_step,
    rosenbrock,
    start,
)

import fastgd
from fastgd import optim

torch = pytest.importorskip("torch")
ft = pytest.importorskip("fastgd.torch")


def parameters(dtype=np.float64, shapes=SHAPES):
    """Parameters of these shapes."""
    return [torch.tensor(a, requires_grad=True) for a in arrays(shapes, dtype)]


def closure_for(opt, params, function):
    """Closure that does what backward would."""

    def closure():
        opt.zero_grad()
        assert torch.is_grad_enabled()
        x = flat([p.detach().numpy() for p in params])
        loss, grad = function(x.astype(np.float64))
        parts = np.split(grad.astype(x.dtype), np.cumsum([p.numel() for p in params])[:-1])
        for p, part in zip(params, parts, strict=True):
            p.grad = torch.from_numpy(part.reshape(p.shape))
        return torch.tensor(loss, dtype=torch.float64)

    return closure


def pair(function=rosenbrock, dtype=np.float64, **options):
    """Ours and torch's, each with its parameters and closure."""
    made = []
    for cls in (ft.LBFGS, torch.optim.LBFGS):
        params = parameters(dtype)
        opt = cls(params, **options)
        made.append((opt, params, closure_for(opt, params, function)))
    return made


def values(params):
    """Parameters as one array."""
    return flat([p.detach().numpy() for p in params])


def assert_same_states(ours, theirs, rtol):
    """Fail if what is remembered differs; torch keeps `lr` as the length of a step not taken."""
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        if name == "t" and ours["t"] == 0:
            continue
        if name == "al":
            pairs = len(theirs["ro"])
            assert len(ours["al"]) == len(expected)
            assert_allclose(ours["al"][:pairs], [float(a) for a in expected[:pairs]], rtol, rtol)
        elif isinstance(expected, list):
            assert len(ours[name]) == len(expected)
            for a, e in zip(ours[name], expected, strict=True):
                assert_allclose(np.asarray(a), np.asarray(e), rtol, rtol)
        else:
            assert_allclose(np.asarray(ours[name]), np.asarray(expected), rtol, rtol)


# ---- as torch's ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTION_SETS.values(), ids=OPTION_SETS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_agrees_with_torch(name, options):
    """Protects torch's numerics: parameters, losses and states, step by step; specification too."""
    (ours, params, closure), (theirs, twins, other) = pair(FUNCTIONS[name], **options)
    x, state = start().tolist(), {}
    for _ in range(STEPS[name]):
        loss, expected = ours.step(closure), theirs.step(other)
        assert loss.dtype == expected.dtype
        assert_allclose(loss, expected, 1e-9, 1e-15)
        assert_allclose(values(params), values(twins), 1e-9, 1e-12)
        assert_allclose(reference_step(FUNCTIONS[name], x, state, **options), loss, 1e-9, 1e-15)
        assert_allclose(x, values(twins), 1e-9, 1e-12)
        mine, torchs = ours.state[params[0]], theirs.state[twins[0]]
        assert mine["func_evals"] == torchs["func_evals"] == state["func_evals"]
        assert mine["n_iter"] == torchs["n_iter"] == state["n_iter"]
    if name != "rosenbrock":  # there differences of gradients lose their digits
        assert_same_states(mine, torchs, 1e-6)


@pytest.mark.parametrize("options", [{"lr": 2e-3}, WOLFE], ids=["fixed", "wolfe"])
def test_agrees_with_torch_in_single_precision(options):
    """Protects float32, where sums are taken more exactly here."""
    (ours, params, closure), (theirs, twins, other) = pair(
        FUNCTIONS["quadratic"], np.float32, max_iter=6, **options
    )
    ours.step(closure)
    theirs.step(other)
    assert_allclose(values(params), values(twins), 2e-4, 2e-5)
    assert {t.dtype for t in ours.state[params[0]]["old_dirs"]} == {torch.float32}


@pytest.mark.parametrize("options", [{"lr": 2e-3}, WOLFE], ids=["fixed", "wolfe"])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_checkpoints_go_both_ways(options, steps):
    """Protects a training that changes its library in the middle: it goes on as if it had not."""
    sides = pair(max_iter=3, history_size=4, **options)
    for opt, _, closure in sides * steps:
        opt.step(closure)
    saved = []
    for opt, _, _ in sides:
        file = io.BytesIO()
        torch.save(opt.state_dict(), file)
        file.seek(0)
        saved.append(torch.load(file))
    (ours, params, _), (theirs, twins, _) = sides
    ours, theirs = ft.LBFGS(params), torch.optim.LBFGS(twins)  # the options are in the checkpoint
    ours.load_state_dict(saved[1])
    theirs.load_state_dict(saved[0])
    x = values(params)
    numpys = optim.LBFGS(x)
    numpys.load_state_dict(
        {**saved[1], "param_groups": [{**saved[1]["param_groups"][0], "params": [0]}]}
    )
    for _ in range(3):
        ours.step(closure_for(ours, params, rosenbrock))
        theirs.step(closure_for(theirs, twins, rosenbrock))
        numpys.step(closure_of(rosenbrock, [x]))
    assert_allclose(values(params), values(twins), 1e-9, 1e-12)
    assert_allclose(x, values(twins), 1e-9, 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpys_checkpoint_goes_on_to_the_bit(dtype):
    """Protects the one algorithm: arrays and tensors do the same, and load each other's states."""
    (params, arrays_) = parameters(dtype), arrays(SHAPES, dtype)
    ours, numpys = (cls(p, max_iter=4, **WOLFE) for cls, p in (
        (ft.LBFGS, params), (optim.LBFGS, arrays_)))  # fmt: skip
    closures = closure_for(ours, params, rosenbrock), closure_of(rosenbrock, arrays_)
    ours.step(closures[0])
    numpys.step(closures[1])
    mine, theirs = ours.state_dict(), numpys.state_dict()
    ours.load_state_dict(theirs)
    numpys.load_state_dict(mine)
    ours.step(closures[0])
    numpys.step(closures[1])
    assert values(params).tobytes() == flat(arrays_).tobytes()


def test_copies_go_on_to_the_bit():
    """Protects pickling and deepcopy, and what was saved from the steps that follow."""
    (opt, params, closure), _ = pair(max_iter=3, history_size=50, **WOLFE)
    opt.step(closure)
    whole = pickle.dumps(opt)
    saved = opt.state_dict()
    before = repr(saved)
    made = [copy.deepcopy(opt), pickle.loads(whole)]
    for other in made:
        mine = other.param_groups[0]["params"]
        assert (other.t, other.skipped, other.nonfinite) == (1, 0, "raise")
        other.step(closure_for(other, mine, rosenbrock))
    opt.step(closure)
    for other in made:
        assert values(other.param_groups[0]["params"]).tobytes() == values(params).tobytes()
    assert repr(saved) == before
    file = io.BytesIO()
    torch.save(saved, file)
    assert len(file.getvalue()) < 30_000  # and not the memory for 51 pairs
    assert len(whole) < 30_000


def test_states_may_be_replaced():
    """Protects those who start anew, or change what is remembered, by hand."""
    (opt, params, closure), (_, twins, _) = pair(max_iter=3, **WOLFE)
    opt.step(closure)
    fresh = ft.LBFGS(twins, max_iter=3, **WOLFE)
    with torch.no_grad():
        for mine, theirs in zip(twins, params, strict=True):
            mine.copy_(theirs)
    opt.state.clear()
    opt.step(closure)
    fresh.step(closure_for(fresh, twins, rosenbrock))
    assert values(params).tobytes() == values(twins).tobytes()
    opt.param_groups[0]["history_size"] = 2
    opt.step(closure)
    assert len(opt.state[params[0]]["old_dirs"]) == 2


def test_hooks_schedulers_and_names():
    """Protects what torch builds on: hooks run once a step, a scheduler sets the learning rate."""
    params = parameters()
    named = [(f"p{i}", p) for i, p in enumerate(params)]
    opt = ft.LBFGS(named, lr=torch.tensor(0.5), max_iter=1)
    calls = []
    opt.register_step_pre_hook(lambda *_: calls.append("before"))
    opt.register_step_post_hook(lambda *_: calls.append("after"))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, 0.5)
    for _ in range(2):
        opt.step(closure_for(opt, params, FUNCTIONS["quadratic"]))
        scheduler.step()
    assert calls == ["before", "after"] * 2
    assert float(opt.state[params[0]]["t"]) == 0.25
    assert isinstance(opt, torch.optim.LBFGS)
    closure = closure_for(opt, params, lambda x: (1.0, np.where(np.arange(18) == 14, np.nan, x)))
    with pytest.raises(ft.NonFiniteError, match=r"^grads\[3\] \(p3\) must be finite; got nan at"):
        opt.step(closure)


# ---- tensors of all kinds ------------------------------------------------------------------------


def test_tensors_of_any_layout_are_updated_in_place():
    """Protects views, channels_last and scalars: their own memory, and nothing beside it."""
    storage = torch.zeros(2, 8, dtype=torch.float64)
    odd = [
        torch.randn(2, 3, 4, 5, dtype=torch.float64).to(memory_format=torch.channels_last),
        storage[:, ::2],
        torch.randn((), dtype=torch.float64),
        torch.zeros(0, 3, dtype=torch.float64),
        torch.randn(3, 4, dtype=torch.float64).T,
    ]
    plain = [t.detach().clone(memory_format=torch.contiguous_format) for t in odd]
    for params in (odd, plain):
        for p in params:
            p.requires_grad_()
        opt = ft.LBFGS(params, **WOLFE)

        def closure(opt=opt, params=params):
            opt.zero_grad()
            loss = sum(((p - 1) ** 2 * (1 + p**2)).sum() for p in params)
            loss.backward()
            return loss

        versions = [p._version for p in params]
        opt.step(closure)
        assert all(p._version > v for p, v in zip(params, versions, strict=True))
    for mine, theirs in zip(odd, plain, strict=True):
        assert mine.detach().contiguous().numpy().tobytes() == theirs.detach().numpy().tobytes()
    assert not storage[:, 1::2].any()
    assert_allclose(storage[:, ::2].detach(), 1, rtol=1e-5)


@pytest.mark.parametrize("options", [{"lr": 0.05}, WOLFE], ids=["fixed", "wolfe"])
def test_complex_and_sparse_and_missing_gradients(options):
    """Protects torch's odd gradients: complex numbers, sparse ones, and none."""
    found = []
    for cls in (ft.LBFGS, torch.optim.LBFGS):
        torch.manual_seed(1)
        z = torch.randn(3, dtype=torch.complex128, requires_grad=True)
        table = torch.nn.Embedding(5, 2, sparse=True, dtype=torch.float64)
        resting = torch.ones(2, dtype=torch.float64, requires_grad=True)
        for params, loss_of in (
            ([z], lambda z=z: ((z - 1j).abs() ** 2 + z.real**4).sum()),
            (
                [resting, table.weight],
                lambda table=table: (table(torch.tensor([1, 3, 3])) - 1).square().sum(),
            ),
        ):
            opt = cls(params, **options)

            def closure(opt=opt, loss_of=loss_of):
                opt.zero_grad()
                loss = loss_of()
                loss.backward()
                return loss

            opt.step(closure)
        found.append([z.detach(), table.weight.detach(), resting.detach()])
    for ours, theirs in zip(*found, strict=True):
        assert_allclose(ours, theirs, 1e-9, 1e-12)


def test_parameters_that_do_not_fit_are_refused():
    """Protects from silence about what is not trained."""
    good = torch.zeros(2, requires_grad=True)
    for bad, words in (
        (torch.zeros(2, dtype=torch.int64), r"params\[1\] must be .*; got a tensor of torch.int64"),
        (torch.zeros(2, device="meta"), r"params\[1\] must be .* on meta"),
        (torch.zeros(1).expand(3), r"params\[1\] must be .* that do not share memory"),
        (torch.zeros(2, dtype=torch.float64), "params must be of one dtype; .*float32.*float64"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            ft.LBFGS([good, bad])
    with pytest.raises(ValueError, match="parameter groups"):
        ft.LBFGS([{"params": [good]}, {"params": [torch.zeros(2)]}])
    opt = ft.LBFGS([good])
    with pytest.raises(TypeError, match="closure must be callable; got None"):
        opt.step()
    with pytest.raises(ValueError, match="nonfinite must be"):
        ft.LBFGS([good], nonfinite="apply")
    opt.add_param_group({"params": [torch.zeros(2)]})
    with pytest.raises(ValueError, match="param_groups must hold one group; got 2"):
        opt.step(lambda: 1.0)
    opt.param_groups.pop()
    opt.param_groups[0]["max_iter"] = 0
    with pytest.raises(ValueError, match="max_iter must be 1 or more"):
        opt.step(lambda: 1.0)


# ---- what goes wrong in the closure, threads -----------------------------------------------------


@pytest.mark.parametrize("what", [KeyboardInterrupt, "nan", "skip"])
def test_failure_leaves_the_last_accepted_point(what):
    """Protects from Ctrl-C and bad numbers: parameters and state go on as if nothing had been."""
    (opt, params, closure), _ = pair(max_iter=6, **WOLFE)
    twins = parameters()
    twin = ft.LBFGS(twins, max_iter=1, max_eval=30, **WOLFE)
    points = [values(twins)]
    for _ in range(6):
        twin.step(closure_for(twin, twins, rosenbrock))
        points.append(values(twins))
    calls = []

    def failing():
        calls.append(1)
        if len(calls) == 5 and what is KeyboardInterrupt:
            raise KeyboardInterrupt
        loss = closure()
        return loss * math.nan if len(calls) == 5 else loss

    if what == "skip":
        opt.nonfinite = "skip"
        assert float(opt.step(failing)) == rosenbrock(points[0])[0]
    else:
        with pytest.raises(KeyboardInterrupt if what != "nan" else ft.NonFiniteError):
            opt.step(failing)
    done = opt.state[params[0]]["n_iter"]
    assert 0 < done < 6
    assert values(params).tobytes() == points[done].tobytes()
    assert (opt.t, opt.skipped) == (0, int(what is not KeyboardInterrupt))
    opt.param_groups[0]["max_iter"] = 1
    opt.step(closure)
    assert values(params).tobytes() == points[done + 1].tobytes()


def test_team_is_torchs(monkeypatch):
    """Protects one pool of threads: torch's number, or less if fastgd's is less."""
    params = parameters()
    opt = ft.LBFGS(params)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        opt.step(closure_for(opt, params, rosenbrock))
        assert opt._minimizer.n_threads == 2
        fastgd.set_num_threads(1)
        opt.step(closure_for(opt, params, rosenbrock))
        assert opt._minimizer.n_threads == 1
    finally:
        torch.set_num_threads(before)
