"""Groups of parameters: hyper-parameters of their own, names, rest, growth, schedules."""

import copy
import math

import numpy as np
import pytest
from optimizers import (
    APART,
    CLASSES,
    SHAPES,
    arrays,
    assert_twins,
    assert_unchanged_by,
    busy,
    copies,
    defaults,
    everything,
    one_by_one,
    public,
    step_both,
    torch_class,
    torch_twins,
    train,
)

from fastgd import optim, schedules

# ---- groups --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", APART)
def test_groups_have_hyper_parameters_of_their_own(rule, dtype, rng, assert_same_bits):
    """Protects groups: each is as an optimizer of its own, arguments fill what it leaves out."""
    params = arrays(rng, dtype)
    grads = [arrays(rng, dtype) for _ in range(3)]
    alone = copies(params)
    options = busy(rule)
    opt = CLASSES[rule](
        [
            {"params": params[:2], "lr": 0.5},
            {"params": iter(params[2:4])},
            {"params": params[4], **public(defaults(rule))},
        ],
        **options,
    )
    singles = [
        CLASSES[rule](alone[:2], **options | {"lr": 0.5}),
        CLASSES[rule](alone[2:4], **options),
        CLASSES[rule](alone[4]),
    ]
    train(opt, grads)
    for g in grads:
        for single, mine in zip(singles, (g[:2], g[2:4], g[4:]), strict=True):
            single.step(mine)
    assert_same_bits(params, alone)
    states = [state for single in singles for state in single.state]
    assert [list(s) for s in opt.state] == [list(s) for s in states]
    assert_same_bits([list(s.values()) for s in opt.state], [list(s.values()) for s in states])


def test_groups_are_torchs(torch, rule, rng):
    """Protects parity over 20 steps of groups that differ in every hyper-parameter."""
    first, second = public(defaults(rule)), busy(rule)
    second.pop("initial_accumulator_value", None)  # torch takes the first group's for all
    params = arrays(rng, np.float64, SHAPES[:3])
    twins = [torch.tensor(p, requires_grad=True) for p in params]
    theirs = torch_class(torch, rule)(
        [{"params": twins[:1]}, {"params": twins[1:], **second}],
        **first,
        **one_by_one(torch, rule),
    )
    opt = CLASSES[rule]([{"params": params[:1]}, {"params": params[1:], **second}], **first)
    for _ in range(20):
        step_both(torch, opt, theirs, twins, rng)
    assert_twins(opt, theirs, twins)


def test_a_group_is_a_mapping(rng):
    """Protects code that walks over ``param_groups``, as torch's schedulers do."""
    params = arrays(rng, np.float64)
    opt = optim.Adam([{"params": params[:3], "note": "first"}, {"params": params[3:], "lr": 0.5}])
    first, second = opt.param_groups
    assert list(first) == ["params", *public(defaults("adam")), "frozen", "note"]
    assert len(first) == len(list(first)) == len(second) + 1
    assert [p is q for p, q in zip(first["params"], params[:3], strict=True)] == [True] * 3
    assert {**second} == {
        "params": params[3:], **public(defaults("adam")), "lr": 0.5, "frozen": False
    }  # fmt: skip
    assert ("lr" in first, "momentum" in first, "param_names" in first) == (True, False, False)
    assert first.get("momentum", 3) == 3
    with pytest.raises(KeyError, match="momentum"):
        first["momentum"]
    assert "'lr': 0.5" in repr(second)
    assert repr(second).startswith(f"ParamGroup({len(params) - 3} params")


def test_keys_of_ones_own():
    """Protects notes that belong to a group, such as ``initial_lr`` of torch's schedulers."""
    opt = optim.SGD([{"params": [np.ones(2)], "note": [1]}])
    (group,) = opt.param_groups
    group["initial_lr"] = 0.25
    assert (group["note"], group["initial_lr"]) == ([1], 0.25)
    group.update({"note": 2, "lr": 0.125})
    assert (group["note"], group["lr"], opt.lr) == (2, 0.125, 0.125)
    assert group.pop("note") == 2
    del group["initial_lr"]
    assert list(group)[-1] == "frozen"


@pytest.mark.parametrize("key", ["params", "lr", "frozen"])
def test_keys_that_must_stay(key):
    """Protects a group from losing what a step needs."""
    opt = optim.SGD(np.ones(2))

    def remove():
        del opt.param_groups[0][key]

    assert_unchanged_by(opt, KeyError, f"{key} of a group must stay", remove)


@pytest.mark.parametrize("key", ["params", "param_names"])
def test_parameters_of_a_group_cannot_be_replaced(key):
    """Protects the addresses that C holds."""
    opt = optim.SGD([("a", np.ones(2))])

    def replace():
        opt.param_groups[0][key] = [np.ones(2)]

    assert_unchanged_by(opt, KeyError, f"{key} of a group must stay", replace)


def test_a_groups_hyper_parameters_are_assigned(rng, assert_same_bits):
    """Protects ``group["lr"] = ...``: that group, from the next step on; ``opt.lr`` sets all."""
    params = arrays(rng, np.float64, [(3,), (4,)])
    opt = optim.SGD([{"params": p} for p in params], lr=0.5)
    opt.param_groups[1]["lr"] = 0.25
    assert [g["lr"] for g in opt.param_groups] == [0.5, 0.25]
    assert opt.lr == 0.5
    start, grads = copies(params), arrays(rng, np.float64, [(3,), (4,)])
    opt.step(grads)
    assert_same_bits(params, [start[0] - 0.5 * grads[0], start[1] - 0.25 * grads[1]])
    opt.lr = 1.0
    assert [g["lr"] for g in opt.param_groups] == [1.0, 1.0]
    opt.param_groups[1]["momentum"] = 0.5
    opt.step(grads)
    assert [list(s) for s in opt.state] == [[], ["momentum_buffer"]]


@pytest.mark.parametrize(
    ("key", "value", "error", "words"),
    [
        ("lr", -1, ValueError, "^lr must be"),
        ("lr", None, TypeError, "^lr must be"),
        ("betas", (0.9,), TypeError, "^betas must be"),
        ("betas", (0.9, 1.0), ValueError, r"^betas\[1\] must be"),
        ("amsgrad", 2, ValueError, "^amsgrad must be"),
    ],
)
def test_bad_values_of_a_group_change_nothing(key, value, error, words):
    """Protects groups after construction as well as at it."""
    with pytest.raises(error, match=words):
        optim.Adam([{"params": [np.ones(2)]}, {"params": [np.ones(2)], key: value}])
    opt = optim.Adam([{"params": [np.ones(2)]}, {"params": [np.ones(2)]}])
    opt.step([np.ones(2), np.ones(2)])

    def assign():
        opt.param_groups[1][key] = value

    assert_unchanged_by(opt, error, words, assign)
    assert_unchanged_by(opt, error, words, lambda: setattr(opt, key, value))


def test_assignment_to_all_groups_is_whole_or_not_at_all():
    """Protects the first group from a value that the last one cannot take."""
    opt = optim.SGD(
        [{"params": [np.ones(2)], "momentum": 0.5}, {"params": [np.ones(2)], "momentum": 0.0}]
    )
    assert_unchanged_by(opt, ValueError, "^nesterov", lambda: setattr(opt, "nesterov", True))


def test_group_without_params_is_refused():
    """Protects from a dict that is no group."""
    with pytest.raises(
        ValueError, match=r'^params\[1\] must have the key "params"; got \[\'lr\'\]'
    ):
        optim.SGD([{"params": [np.ones(2)]}, {"lr": 0.5}])


def test_overlap_between_groups_is_refused():
    """Protects a parameter from being updated twice."""
    w = np.ones(3)
    with pytest.raises(ValueError, match=r"^params must not overlap"):
        optim.SGD([{"params": [w]}, {"params": [w]}])


# ---- names ---------------------------------------------------------------------------------------


def test_named_parameters(rng, assert_same_bits):
    """Protects ``model.items()``: names are kept, in groups too, and change no number."""
    named = {f"layer{i}.weight": a for i, a in enumerate(arrays(rng, np.float64))}
    plain, grads = copies(named.values()), arrays(rng, np.float64)
    opt, other = optim.Adam(named.items()), optim.Adam(plain)
    assert opt.names == list(named) == opt.param_groups[0]["param_names"]
    assert (other.names, list(opt.param_groups[0])[:2]) == (None, ["params", "param_names"])
    for o in (opt, other):
        o.step(grads)
    assert_same_bits(list(named.values()), plain)
    items = list(named.items())
    opt = optim.Adam([{"params": items[:2]}, {"params": items[2:]}])
    assert [g["param_names"] for g in opt.param_groups] == [list(named)[:2], list(named)[2:]]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda a, b: [("w", a), b], "^params must be named all or none"),
        (lambda a, b: [{"params": [("w", a)]}, {"params": [b]}], "^params must be named all or n"),
        (lambda a, b: [("w", a), ("w", b)], "^params must have different names; got 'w' twice"),
        (lambda a, b: [{"params": [("w", a)]}, {"params": [("w", b)]}], "got 'w' twice"),
    ],
    ids=["mixed", "mixed groups", "twice", "twice in groups"],
)
def test_bad_names_are_refused(make, words):
    """Protects error messages and saved states, which go by the names."""
    with pytest.raises(ValueError, match=words):
        optim.SGD(make(np.ones(2), np.ones(2)))


def test_pair_without_a_name_is_no_parameter():
    """Protects from a tuple that looks like a named parameter."""
    with pytest.raises(TypeError, match=r"^params\[0\] must be a NumPy array; got tuple"):
        optim.SGD([(1, np.ones(2))])
    with pytest.raises(TypeError, match=r"^params\[0\] must be a NumPy array; got list"):
        optim.SGD([("w", [1.0])])


# ---- parameters that rest ------------------------------------------------------------------------


def test_parameters_without_gradients_rest_as_in_torch(torch, rule, dtype, rng):
    """Protects bias corrections: each parameter counts its own steps, as where grad is None."""
    opt, theirs, twins = torch_twins(torch, rule, dtype, rng, busy(rule))
    patterns = [(0,), (), (0, 1), (2,), (0, 1, 2), (), (1,), ()]
    for rests in patterns:
        before = copy.deepcopy(
            [[p, *states.values()] for p, states in zip(opt.params, opt.state, strict=True)]
        )
        step_both(torch, opt, theirs, twins, rng, rests)
        for i in rests:
            for a, b in zip([opt.params[i], *opt.state[i].values()], before[i], strict=True):
                assert np.array_equal(a, b)
    assert_twins(opt, theirs, twins)
    assert [opt.progress(i)[0] for i in range(3)] == [5, 5, 6]
    assert opt.t == len(patterns)


def test_equal_steps_with_unequal_pasts():
    """Protects what is worked out once for parameters alike: equal steps are not enough."""
    opt = optim.SGD([np.zeros(1), np.zeros(1)], lr=1.0, dampening=0.5)
    opt.step([None, np.ones(1)])
    opt.momentum = 0.5
    opt.step([np.ones(1), None])  # both have done one step; only the second's buffer is new
    opt.step([np.ones(1), np.ones(1)])
    assert [opt.progress(i)[:2] for i in range(2)] == [(2, 0), (2, 1)]
    assert [p[0] for p in opt.params] == [-1.0 - (0.5 + 0.5), -1.0 - 1.0]
    opt = optim.ASGD([np.zeros(1), np.zeros(1)], lr=0.5, lambd=0.0)
    opt.step([np.ones(1), None])
    opt.lr = 0.25
    opt.step([None, np.ones(1)])  # both have done one step, with rates of their own
    opt.step([np.ones(1), np.ones(1)])
    assert [p[0] for p in opt.params] == [-0.5 - 0.5, -0.25 - 0.25]


def test_frozen_groups_rest(rule, dtype, rng, assert_same_bits):
    """Protects fine-tuning: frozen is as if there were no gradient, until it thaws."""
    params = arrays(rng, dtype)
    groups = [{"params": p[:2]} for p in (params, copies(params))]
    others = [{"params": p[2:]} for p in (copies(params), copies(params))]
    groups[0]["frozen"] = True
    opt, twin = (CLASSES[rule]([g, o], **busy(rule)) for g, o in zip(groups, others, strict=True))
    assert [g["frozen"] for g in opt.param_groups] == [True, False]
    for _ in range(2):
        grads = arrays(rng, dtype)
        opt.step(grads)
        twin.step([None, None, *grads[2:]])
    opt.param_groups[0]["frozen"] = False
    opt.param_groups[1].update(frozen=True)
    for _ in range(2):
        grads = arrays(rng, dtype)
        opt.step(grads)
        twin.step([*grads[:2], None, None, None])
    assert_same_bits(everything(opt), everything(twin))
    assert [opt.progress(i) for i in range(5)] == [twin.progress(i) for i in range(5)]


def test_all_parameters_may_rest():
    """Protects a step in which no loss reached the parameters."""
    w = np.ones(3)
    opt = optim.Adam(w, max_norm=1.0)
    opt.step([None])
    assert w.tolist() == [1, 1, 1]
    assert opt.last_step.grad_norm == 0
    assert (opt.t, opt.progress(0)[0]) == (1, 0)


# ---- add_param_group -----------------------------------------------------------------------------


@pytest.mark.parametrize("rule", APART)
def test_added_group_joins_in(rule, dtype, rng, assert_same_bits):
    """Protects growth: the old ones go on as if nothing were, the new one begins at its step 1."""
    params = arrays(rng, dtype)
    extra = arrays(rng, dtype, [(7,), (2, 2)])
    alone = [CLASSES[rule](copies(a), **busy(rule), ema_decay=0.5) for a in (params, extra)]
    opt = CLASSES[rule](params, **busy(rule), ema_decay=0.5)
    for k in range(4):
        if k == 2:
            places = [a.ctypes.data for s in opt.state for a in s.values()]
            group, report = opt.param_groups[0], opt.last_step
            assert opt.add_param_group({"params": (p for p in extra), "note": 1}) is None
            assert opt.param_groups[0] is group
            assert opt.last_step == report or np.isnan(report.update_norm)
            assert opt.param_groups[1]["note"] == 1
            assert [a.ctypes.data for s in opt.state[:5] for a in s.values()] == places
        grads, more = arrays(rng, dtype), arrays(rng, dtype, [(7,), (2, 2)])
        alone[0].step(grads)
        if k < 2:
            opt.step(grads)
        else:
            alone[1].step(more)
            opt.step([*grads, *more])
    assert opt.t == 4
    assert_same_bits(opt.params, alone[0].params + alone[1].params)
    assert_same_bits(opt.ema, alone[0].ema + alone[1].ema)
    assert_same_bits([list(s.values()) for s in opt.state],
                     [list(s.values()) for o in alone for s in o.state])  # fmt: skip
    progress = [o.progress(i) for o in alone for i in range(len(o.params))]
    assert [opt.progress(i) for i in range(len(opt.params))] == progress


def test_added_group_keeps_what_the_others_have():
    """Protects frozen groups, schedules, own keys and options when the list grows."""
    opt = optim.SGD(
        [{"params": [("a", np.zeros(2))], "frozen": True, "note": "x"},
         {"params": [("b", np.zeros(2))], "lr": lambda t: 0.5 ** (t + 1), "momentum": 0.5}],
        lr=1.0, clip_value=1.0, nonfinite="skip",
    )  # fmt: skip
    opt.step([np.ones(2), np.ones(2)])
    opt.step([np.ones(2), np.full(2, math.nan)])
    opt.add_param_group({"params": [("c", np.zeros(2))], "lr": 0.125})
    assert opt.names == ["a", "b", "c"]
    assert [g["frozen"] for g in opt.param_groups] == [True, False, False]
    assert [g["lr"] for g in opt.param_groups] == [1.0, 0.25, 0.125]
    assert [g["momentum"] for g in opt.param_groups] == [0.0, 0.5, 0.0]
    assert (opt.param_groups[0]["note"], opt.clip_value, opt.nonfinite) == ("x", 1.0, "skip")
    assert (opt.t, opt.skipped) == (1, 1)
    opt.step([np.full(2, 9.0)] * 3)
    assert [p[0] for p in opt.params] == [0.0, -0.5 - 0.25 * 1.5, -0.125]


def test_added_group_takes_over_the_first_ones_schedule():
    """Protects a schedule of all groups: it is not frozen at its value of this moment."""
    opt = optim.SGD(np.zeros(1), lr=lambda t: [1.0, 0.5, 0.25][t])
    opt.step(np.ones(1))
    opt.add_param_group({"params": np.zeros(1)})
    for _ in range(2):
        opt.step([np.ones(1), np.ones(1)])
    assert [p[0] for p in opt.params] == [-1.75, -0.75]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda opt: {"params": opt.params[0]}, ValueError, "^params must not overlap"),
        (lambda opt: {"params": [np.ones(2)], "lr": -1}, ValueError, "^lr must be"),
        (lambda opt: {"params": [[1.0]]}, TypeError, r"^params\[2\] must be a NumPy array"),
        (lambda opt: {"params": np.ones(2, int)}, TypeError, r"^params\[2\] must be of dtype"),
        (lambda opt: {"lr": 0.5}, ValueError, '^params.* must have the key "params"'),
        (lambda opt: {"params": [("new", np.ones(2))]}, ValueError, "^params must be named all"),
        (
            lambda opt: {"params": np.ones(2), "lr": lambda t: 1 / (1 - t)},
            ZeroDivisionError,
            "division",
        ),
    ],
    ids=["overlap", "value", "type", "dtype", "no params", "named", "schedule"],
)
def test_group_that_cannot_be_added_changes_nothing(make, error, words, rng):
    """Protects a running training from a group that does not fit."""
    opt = optim.Adam(arrays(rng, np.float64, SHAPES[:2]), ema_decay=0.5)
    opt.step(arrays(rng, np.float64, SHAPES[:2]))
    assert_unchanged_by(opt, error, words, lambda: opt.add_param_group(make(opt)))
    assert len(opt.param_groups) == 1
    opt.step(arrays(rng, np.float64, SHAPES[:2]))
    assert opt.t == 2


# ---- schedules -----------------------------------------------------------------------------------


def test_schedules_set_each_update(rule, dtype, rng, assert_same_bits):
    """Protects schedules of every hyper-parameter: update t has the value of t, from 0 on."""
    params = arrays(rng, dtype)
    plain = copies(params)
    base, other = public(defaults(rule)), busy(rule)

    def changing(a, b):
        if isinstance(a, tuple):
            return tuple(map(changing, a, b))
        return lambda t: b if t % 2 else a

    given = {name: changing(base[name], other[name]) for name in base}
    opt, twin = CLASSES[rule](params, **given), CLASSES[rule](plain)
    for t in range(5):
        values = other if t % 2 else base
        grads = arrays(rng, dtype)
        assert {name: getattr(opt, name) for name in base} == values
        assert {name: opt.param_groups[0][name] for name in base} == values
        opt.step(grads)
        twin._change_all(values)  # all at once: some go together only
        twin.step(grads)
    assert_same_bits(params, plain)


def test_schedules_are_torchs(torch, rng):
    """Protects parity with a scheduler over 30 steps, in one group of two."""
    params = arrays(rng, np.float64, SHAPES[:2])
    twins = [torch.tensor(p, requires_grad=True) for p in params]
    theirs = torch.optim.SGD(
        [{"params": twins[:1]}, {"params": twins[1:], "lr": 0.5}], lr=0.25, momentum=0.5
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, 20, 0.125)
    opt = optim.SGD(
        [{"params": params[:1]}, {"params": params[1:], "lr": schedules.cosine(0.5, 20, 0.125)}],
        lr=schedules.cosine(0.25, 20, 0.125),
        momentum=0.5,
    )
    for _ in range(30):
        step_both(torch, opt, theirs, twins, rng)
        scheduler.step()
    assert_twins(opt, theirs, twins)


def test_schedule_inside_a_tuple():
    """Protects ``betas=(schedule, 0.999)``."""
    opt = optim.Adam(np.ones(2), betas=(lambda t: 0.5 + t / 8, 0.75))
    seen = []
    for _ in range(3):
        seen.append(opt.betas)
        opt.step(np.ones(2))
    assert seen == [(0.5, 0.75), (0.625, 0.75), (0.75, 0.75)]
    opt.betas = (0.25, 0.5)
    opt.step(np.ones(2))
    assert opt.betas == (0.25, 0.5)


def test_schedule_may_come_and_go(rng):
    """Protects assignment: a number takes a schedule's place, and the other way round."""
    w = np.zeros(1)
    opt = optim.SGD(w, lr=1.0)
    path = []
    for lr in (1.0, lambda t: 0.25 * t, 0.5):
        opt.lr = lr
        opt.step(np.ones(1))
        path.append(w[0])
    assert path == [-1.0, -1.25, -1.75]
    assert not opt.dynamic


def test_schedule_is_not_counted_on_by_skipped_steps():
    """Protects the schedule from bad batches: it goes by updates that were done."""
    w = np.zeros(1)
    opt = optim.SGD(w, lr=lambda t: 0.5**t, nonfinite="skip")
    for g in (1.0, math.nan, 1.0):
        opt.step(np.array([g]))
    assert w[0] == -1.5


@pytest.mark.parametrize("name", ["momentum", "amsgrad", "centered"])
def test_schedule_that_switches_a_state_on_makes_it(torch, name, rng):
    """Protects momentum that sets in late: its state is made then, and torch's bits are ours."""
    cls = {"momentum": optim.SGD, "amsgrad": optim.Adam, "centered": optim.RMSprop}[name]
    value = {"momentum": 0.5}.get(name, True)
    params = arrays(rng, np.float64, SHAPES[:3])
    late = cls(params, **{name: lambda t: value if t > 1 else 0}, lr=0.125)
    by_hand = cls(copies(params), lr=0.125)
    before = len(late.state[0])
    for t in range(5):
        if t == 2:
            setattr(by_hand, name, value)
        grads = arrays(rng, np.float64, SHAPES[:3])
        for o in (late, by_hand):
            o.step(grads)
    assert len(late.state[0]) == before + 1
    for a, b in zip(everything(late), everything(by_hand), strict=True):
        assert np.array_equal(a, b)
    assert [late.progress(i) for i in range(3)] == [by_hand.progress(i) for i in range(3)]


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (-1.0, ValueError, r"^lr must be .*; got -1.0$"),
        (math.nan, ValueError, r"^lr must be .*; got nan$"),
        ("0.5", TypeError, r"^lr must be .*; got '0.5'$"),
        (None, TypeError, r"^lr must be .*; got None$"),
        (ZeroDivisionError("no"), ZeroDivisionError, "^no$"),
    ],
)
def test_bad_value_of_a_schedule_changes_nothing(value, error, words):
    """Protects all groups when one of the schedules fails in a late step."""

    def failing(t):
        if t < 2:
            return 0.5
        if isinstance(value, Exception):
            raise value
        return value

    opt = optim.SGD(
        [{"params": [np.ones(2)], "lr": lambda t: 1 / (1 + t)},
         {"params": [np.ones(2)], "lr": 0.5}], momentum=0.5, ema_decay=lambda step: 1 - 1 / step,
    )  # fmt: skip
    opt.param_groups[1]["lr"] = failing
    train(opt, [[np.ones(2), np.ones(2)]] * 2)
    arrays_before = [a.tobytes() for a in everything(opt)]
    numbers = [opt.hyper(g, k) for g in range(2) for k in range(6)]
    with pytest.raises(error, match=words):
        opt.step([np.ones(2), np.ones(2)])
    assert [a.tobytes() for a in everything(opt)] == arrays_before
    assert [opt.hyper(g, k) for g in range(2) for k in range(6)] == numbers
    assert opt.t == 2
    opt.param_groups[1]["lr"] = 0.5
    opt.step([np.ones(2), np.ones(2)])
    assert opt.t == 3


def test_bad_schedule_is_refused_at_once():
    """Protects construction and assignment: the first value is checked there."""
    with pytest.raises(ValueError, match=r"^lr must be .*; got -1"):
        optim.SGD(np.ones(2), lr=lambda t: t - 1)
    with pytest.raises(ValueError, match=r"^betas\[1\] must be .*; got 1"):
        optim.Adam(np.ones(2), betas=(0.9, lambda t: 1))
    with pytest.raises(TypeError, match=r"^betas must be a tuple of 2 numbers"):
        optim.Adam(np.ones(2), betas=lambda t: (0.9, 0.99))
    opt = optim.SGD(np.ones(2))
    assert_unchanged_by(opt, ValueError, "^lr must be", lambda: setattr(opt, "lr", lambda t: -1.0))
    assert not opt.dynamic


def test_hyper_parameters_are_checked_together_in_each_step():
    """Protects nesterov from a momentum that a schedule has let go to zero."""
    opt = optim.SGD(np.ones(2), momentum=lambda t: 0.5 - t / 4, nesterov=True)
    train(opt, [np.ones(2)] * 2)
    with pytest.raises(ValueError, match=r"^nesterov must be .* momentum=0.0"):
        opt.step(np.ones(2))
    assert opt.t == 2
