"""Fixtures, problems and what to compare of them: what the tests of `fastgd.torch` share.

Rules come from the table, their option sets from the domains of its rows, so that a new row of
``csrc/optim_rules.h`` is tested as soon as it is there. Where torch is missing, importing this
skips the file that does.
"""

import copy

import pytest

from fastgd import _core
from fastgd._hypers import VECTOR_RULES, tuple_name

torch = pytest.importorskip("torch")
ft = pytest.importorskip("fastgd.torch")

CLASSES = {cls.rule_name: cls for cls in ft.Optimizer.__subclasses__()}
# those that take any shape; ``test_torch_matrix.py`` tests the others
TORCHS = {rule: CLASSES[rule]._torch_class for rule in VECTOR_RULES if CLASSES[rule]._torch_class}
OWN = sorted(rule for rule, cls in CLASSES.items() if not cls._torch_class)
SHAPES = ((3, 4), (5,), (), (0, 2), (2, 3, 4, 5))
OTHER = {
    "nonnegative": 0.125, "unit": 0.5, "flag": True, "real": 0.25, "above_one": 1.5,
    "positive": 0.5, "inside_unit": 0.5, "optional_unit": 0.5,
    "optional": 0.125, "nonpositive": -0.5, "at_least_one": 1.5,
}  # fmt: skip
TOLERANCE = {torch.float64: (1e-9, 1e-12), torch.float32: (2e-5, 2e-6)}


NOT_COMPLEX = {"adafactor"}  # refused by torch, too
NOT_EMPTY = {"adafactor"}  # which in torch divide by the number of elements


ROWS_ONLY = {"sparse_adam"}  # which refuse the dense gradients of `give`


@pytest.fixture(params=sorted(TORCHS.keys() - ROWS_ONLY))
def rule(request, monkeypatch):
    """Name of each rule that torch has, too; parameters have shapes that torch takes."""
    if request.param in NOT_EMPTY:
        some = [(3, 2) if 0 in shape else shape for shape in SHAPES]
        monkeypatch.setitem(globals(), "SHAPES", tuple(some))
    return request.param


@pytest.fixture(params=sorted(set(VECTOR_RULES) - set(ROWS_ONLY)))
def any_rule(request):
    """Name of each rule of the table that takes any shape."""
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def kind(request):
    """Each dtype; the numbers in torch's states have that of torch's default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(20240229)


# ---- problems ------------------------------------------------------------------------------------


def tensors(shapes=None, **kwargs):
    """Parameters."""
    return [torch.nn.Parameter(torch.randn(shape, **kwargs)) for shape in shapes or SHAPES]


def odd_layouts():
    """Parameters of dense layouts that are not C-contiguous, and views."""
    memory = torch.randn(100)
    return [
        torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        torch.randn(4, 3).t(),
        torch.randn(2, 3, 4).permute(2, 0, 1),
        torch.randn(1, 3, 1, 5).contiguous(memory_format=torch.channels_last),
        memory[7:27].view(4, 5),
        memory[27:60],
    ]


def twins_of(params):
    """Parameters with the same values, layouts and requires_grad."""
    return copy.deepcopy(params)


def give(*lists, skip=()):
    """Give parameters of several optimizers the same gradients."""
    for i, same in enumerate(zip(*lists, strict=True)):
        grad = torch.randn_like(same[0])
        for param in same:
            param.grad = None if i in skip else grad.clone()


def assert_close(actual, expected):
    """Fail unless lists of tensors are equal, to torch's rounding."""
    for a, e in zip(actual, expected, strict=True):
        rtol, atol = TOLERANCE[e.dtype.to_real()]
        torch.testing.assert_close(a.detach(), e.detach(), rtol=rtol, atol=atol)


def assert_same_states(ours, theirs):
    """Fail unless states have the same keys, dtypes, layouts and numbers."""
    ours, theirs = ours.state_dict()["state"], theirs.state_dict()["state"]
    assert ours.keys() == theirs.keys()
    for i, state in theirs.items():
        assert list(ours[i]) == list(state)
        for name, e in state.items():
            if e is None:
                assert ours[i][name] is None
                continue
            assert (ours[i][name].dtype, ours[i][name].stride()) == (e.dtype, e.stride()), name
            assert_close([ours[i][name]], [e])


def assert_same_bits(actual, expected):
    """Fail unless lists of tensors are equal to the last bit."""
    for a, e in zip(actual, expected, strict=True):
        assert a.detach().numpy().tobytes() == e.detach().numpy().tobytes()


def option_sets(rule):
    """Some sets of hyper-parameters: defaults, each flag, all at another value, all that goes."""
    row = _core.RULES[rule]["hypers"]
    names = [name for name, _, _ in row]
    sets = [{}]
    sets += [{name: True} for name, _, domain in row if domain == "flag" and name != "nesterov"]
    sets.append({n: OTHER[d] for n, v, d in row if d not in ("flag", "above_one") and n != "lr"})
    if "momentum" in names:
        sets.append({"momentum": 0.9, "weight_decay": 0.01})
    if "nesterov" in names:
        sets.append({"momentum": 0.9, "nesterov": True, "maximize": True})
    return [public(rule, given) for given in sets]


def public(rule, given):
    """Hyper-parameters as the classes take them."""
    tuples, others = {}, dict(given)
    for name, value, _ in _core.RULES[rule]["hypers"]:
        if together := tuple_name(name):
            tuples.setdefault(together, []).append(others.pop(name, value))
        elif name.endswith("_") and name in others:
            others[name.rstrip("_")] = others.pop(name)
    return others | {name: tuple(values) for name, values in tuples.items()}


def both(rule, params, twins, **options):
    """Our optimizer and torch's."""
    return CLASSES[rule](params, **options), TORCHS[rule](twins, **options)


def closure_for(opt, params, target=1.0):
    """Closure of a sum of squares."""

    def closure():
        opt.zero_grad()
        loss = sum(((p - target) ** 2).sum() for p in params)
        loss.backward()
        return loss

    return closure
