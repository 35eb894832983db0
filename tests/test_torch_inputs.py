"""`fastgd.torch` on what torch tests its own optimizers with: options, errors, schedulers.

torch ships the inputs of its tests, ``torch.testing._internal.common_optimizers``; the tests here
ask the same of both sides.
"""

import copy
import warnings

import pytest
from torch_optimizers import ft, torch

pytest.importorskip("expecttest")  # which torch's module needs

with pytest.MonkeyPatch.context() as patch:
    # or the whole process may no longer set backends' flags, which Ultralytics' training does
    patch.setattr(torch.backends, "disable_global_flags", lambda: None)
    from torch.testing._internal import common_optimizers

INFOS = {info.name: info for info in common_optimizers.optim_db if info.name in ft.__all__}
CHOICES = ({}, {"foreach": True}, {"foreach": False}, {"fused": True})


def inputs_of(info):
    """Option sets, by what torch says of them."""
    return [copy.deepcopy(i.kwargs) for i in info.optim_inputs_func(device="cpu")]


CASES = [
    pytest.param(name, k, id=f"{name}-{k}")
    for name, info in INFOS.items()
    for k in range(len(inputs_of(info)))
]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(1)


def grads_for(info, params):
    """Give each parameter a gradient, sparse where the rule takes nothing else."""
    for p in params:
        p.grad = torch.randn_like(p)
        if info.only_supports_sparse_grads:
            p.grad = p.grad.to_sparse()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize(("name", "k"), CASES)
def test_every_option_set_goes_torchs_way(name, k, dtype):
    """Protects from an option that means something else here than in torch."""
    info = INFOS[name]
    if dtype.is_complex and not info.supports_complex:
        pytest.skip(f"torch's {name} takes no complex numbers")
    kwargs = inputs_of(info)[k]
    shapes = [(4, 3), (1, 5)] if name == "Muon" else [(4, 3), (5,), ()]
    params = [torch.randn(s, dtype=dtype).requires_grad_() for s in shapes]
    twins = [p.detach().clone().requires_grad_() for p in params]
    paths = [0.0] * len(params)
    ours = getattr(ft, name)(params, **copy.deepcopy(kwargs))
    theirs = info.optim_cls(twins, **kwargs)
    for step in range(7):
        grads_for(info, params)
        for p, q in zip(params, twins, strict=True):
            q.grad = p.grad.clone()
        before = [q.detach().clone() for q in twins]
        if step == 3:  # nothing moves without gradients
            ours.zero_grad()
            theirs.zero_grad()
        if info.step_requires_closure:
            ours.step(lambda: torch.zeros(()))
            theirs.step(lambda: torch.zeros(()))
        else:
            ours.step()
            theirs.step()
        for k, (p, q) in enumerate(zip(params, twins, strict=True)):
            paths[k] += (q - before[k]).detach().abs().max().item()
            # torch makes matrices orthonormal in bfloat16
            close = {"rtol": 0, "atol": 0.1 * paths[k]} if name == "Muon" else {}
            torch.testing.assert_close(p, q, **close)


ERRORS = [
    pytest.param(name, k, id=f"{name}-{k}")
    for name, info in INFOS.items()
    for k in range(len(info.optim_error_inputs_func(device="cpu", dtype=torch.float32)))
]


@pytest.mark.parametrize(("name", "k"), ERRORS)
def test_what_torch_refuses_is_refused(name, k):
    """Protects from bad arguments that torch finds and we do not; errors are of its types."""
    info = INFOS[name]
    case = info.optim_error_inputs_func(device="cpu", dtype=torch.float32)[k]
    bad = case.optimizer_error_input
    expected = pytest.warns if issubclass(case.error_type, Warning) else pytest.raises
    with expected(case.error_type):
        opt = getattr(ft, name)(bad.params, **bad.kwargs)
        if case.error_on is common_optimizers.OptimizerErrorEnum.STEP_ERROR:
            opt.step()


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", INFOS)
def test_losses_fall_with_torchs_schedulers(name, gaps):
    """Protects closures, schedulers and parameters that are views."""
    info = INFOS[name]
    for kwargs in inputs_of(info):
        for choice in CHOICES:
            if not set(choice) <= set(info.supported_impls):
                continue
            for schedulers in info.scheduler_inputs[:3]:
                weight = torch.randn(10, 5, 2)[..., 0] if gaps else torch.randn(10, 5)
                bias = torch.randn(10, 1, 2)[..., 0] if gaps else torch.randn(10, 1)
                weight, bias, x = weight.requires_grad_(), bias.requires_grad_(), torch.randn(5, 1)
                opt = getattr(ft, name)([weight, bias], **kwargs, **choice)
                made = [make(opt) for make in schedulers]

                def closure(opt=opt, weight=weight, bias=bias, x=x):
                    opt.zero_grad()
                    loss = (weight.mm(x) + bias).square().sum()
                    loss.backward()
                    if info.only_supports_sparse_grads:
                        weight.grad, bias.grad = weight.grad.to_sparse(), bias.grad.to_sparse()
                    return loss

                first = closure().item()
                for _ in range(20):
                    loss = opt.step(closure)
                    for scheduler in made:
                        with warnings.catch_warnings():
                            warnings.simplefilter("ignore")
                            if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                                scheduler.step(loss)
                            else:
                                scheduler.step()
                last = closure().item()
                assert (last > first) if kwargs.get("maximize") else (last < first)
