"""Saved states: a training that goes on as if it had never stopped, and what is refused."""

import copy
import math
import pickle

import numpy as np
import pytest
from optimizers import (
    CLASSES,
    RULES,
    arrays,
    assert_twins,
    assert_unchanged_by,
    busy,
    copies,
    defaults,
    everything,
    one_by_one,
    public,
    snapshot,
    step_both,
    torch_twins,
    train,
)

from fastgd import _core, optim

SAME = ("arrays", "states", "t", "progress", "groups")


def assert_same(opt, other):
    """Fail unless both would go on alike."""
    ours, theirs = snapshot(opt), snapshot(other)
    for key in SAME:
        assert ours[key] == theirs[key], key
    assert opt.skipped == other.skipped


# ---- going on ------------------------------------------------------------------------------------


def full(rule, params, **changes):
    """An optimizer with everything switched on: groups, schedules, clipping, averages."""
    groups = [
        {"params": params[:2], "note": "first"},
        {"params": params[2:4], **public(defaults(rule)), "lr": lambda t: 0.5 / (t + 1)},
        {"params": params[4:]},
    ]
    options = busy(rule) | {"max_norm": 1.0, "clip_value": 0.5, "ema_decay": lambda t: 1 - 1 / t}
    return CLASSES[rule](groups, **options | changes, nonfinite="skip", report_norms=True)


def eventful_grads(dtype, rng):
    """Gradients of eight steps: some parameters rest, one step is skipped."""
    grads = [arrays(rng, dtype) for _ in range(8)]
    grads[1][0] = grads[2][4] = grads[5][1] = None
    grads[3][1][2] = math.nan
    return grads


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_training_goes_on_from_any_step_to_the_bit(rule, dtype, used, rng):
    """Protects resuming: save, load into another optimizer, go on as if nothing had been."""
    grads = eventful_grads(dtype, rng)
    start = arrays(rng, dtype)
    for stop in range(len(grads) + 1):
        params = copies(start)
        opt = full(rule, params)
        train(opt, grads[:stop])
        opt.param_groups[2]["frozen"] = stop == 2
        resumed = full(rule, copies(params))
        if used:
            train(resumed, grads[4:])
            resumed.param_groups[0]["momentum_of_my_own"] = 3
            resumed.param_groups[2]["frozen"] = True
            for p, q in zip(resumed.params, params, strict=True):
                p[...] = q
        resumed.load_state_dict(pickle.loads(pickle.dumps(opt.state_dict())))
        if used:
            assert resumed.param_groups[0].pop("momentum_of_my_own") == 3
        assert_same(resumed, opt)
        for o in (opt, resumed):
            train(o, grads[stop:])
        assert_same(resumed, opt)


def test_hyper_parameters_come_with_the_state(rule, rng):
    """Protects from going on with other values: the saved ones take the constructor's place."""
    opt = CLASSES[rule](arrays(rng, np.float64), **busy(rule))
    opt.step(arrays(rng, np.float64))
    other = CLASSES[rule](copies(opt.params), **public(defaults(rule)))
    other.load_state_dict(opt.state_dict())
    assert_same(other, opt)
    grads = arrays(rng, np.float64)
    for o in (opt, other):
        o.step(grads)
    assert_same(other, opt)


@pytest.mark.parametrize("name", ["momentum", "amsgrad", "centered"])
def test_states_that_pause_are_saved(name, rng):
    """Protects resuming while momentum is 0 for a while: its buffer is kept, and goes on later."""
    cls = {"momentum": optim.SGD, "amsgrad": optim.Adam, "centered": optim.RMSprop}[name]
    value = {"momentum": 0.5}.get(name, True)
    opt = cls(arrays(rng, np.float64), **{name: value})
    opt.step(arrays(rng, np.float64))
    setattr(opt, name, 0)
    opt.step(arrays(rng, np.float64))
    other = cls(copies(opt.params))
    other.load_state_dict(opt.state_dict())
    assert_same(other, opt)
    setattr(opt, name, value)
    setattr(other, name, value)
    grads = arrays(rng, np.float64)
    for o in (opt, other):
        o.step(grads)
    assert_same(other, opt)


def test_states_made_late_go_on(rng):
    """Protects SGD's first gradient, which enters undamped in the step after a late start."""
    opt = optim.SGD(arrays(rng, np.float64), dampening=0.5)
    train(opt, [arrays(rng, np.float64) for _ in range(2)])
    opt.momentum = 0.5
    other = optim.SGD(copies(opt.params))
    other.load_state_dict(opt.state_dict())
    assert [other.progress(i)[:2] for i in range(5)] == [(2, 2)] * 5
    grads = arrays(rng, np.float64)
    for o in (opt, other):
        o.step(grads)
    assert_same(other, opt)


def test_training_without_states_goes_on():
    """Protects plain SGD's round trip: no arrays, but the steps and the learning rate."""
    w = np.ones(3)
    opt = optim.SGD(w, lr=0.5)
    train(opt, [np.ones(3)] * 2)
    resumed = optim.SGD(w.copy(), momentum=0.5)
    resumed.load_state_dict(opt.state_dict())
    assert (resumed.t, resumed.lr, resumed.momentum, resumed.state) == (2, 0.5, 0.0, [{}])
    assert_same(resumed, opt)


def test_schedules_of_the_loader_stay():
    """Protects schedules: they are not saved but by their value, so whoever loads brings his."""
    opt = optim.SGD(np.zeros(1), lr=lambda t: 0.5**t, momentum=0.5)
    train(opt, [np.ones(1)] * 2)
    saved = opt.state_dict()
    assert saved["param_groups"][0]["lr"] == 0.25
    constant, scheduled = optim.SGD(np.zeros(1)), optim.SGD(np.zeros(1), lr=lambda t: 0.5**t)
    for o in (constant, scheduled):
        o.load_state_dict(saved)
        o.step(np.ones(1))
    assert [o.lr for o in (constant, scheduled)] == [0.25, 0.125]
    assert constant.params[0] == scheduled.params[0] == -0.25 * 1.75


def test_averages_that_were_not_saved_start_from_the_parameters():
    """Protects averaging that begins with a loaded state; and a saved one needs no average."""
    opt = optim.SGD(np.full(2, 3.0), lr=1.0)
    opt.step(np.ones(2))
    averaging = optim.SGD(np.full(2, 2.0), ema_decay=0.5)
    averaging.step(np.ones(2))
    averaging.load_state_dict(opt.state_dict())
    assert np.array_equal(averaging.ema, averaging.params)
    averaging.ema[0][:] = 7.0
    opt.load_state_dict(averaging.state_dict())
    assert opt.ema is None
    opt.ema_decay = 0.5
    opt.load_state_dict(averaging.state_dict())
    assert opt.ema[0].tolist() == [7.0, 7.0]


# ---- layout --------------------------------------------------------------------------------------


def test_state_dict_has_torchs_layout(torch, rule, rng):
    """Protects those who look into it: the names are torch's."""
    opt, theirs, twins = torch_twins(torch, rule, np.float64, rng, busy(rule))
    step_both(torch, opt, theirs, twins, rng)
    ours, expected = opt.state_dict(), theirs.state_dict()
    assert ours.keys() == expected.keys() | {"fastgd"}
    assert ours["param_groups"][0].keys() <= expected["param_groups"][0].keys()
    assert ours["param_groups"][0]["params"] == expected["param_groups"][0]["params"]
    for i, states in expected["state"].items():
        assert ours["state"][i].keys() == states.keys() | {"step"}
        assert ours["state"][i]["step"] == 1


def test_torchs_state_dict_can_be_loaded(torch, rule, rng):
    """Protects who comes from torch in the middle of a training."""
    if rule == "sgd":
        pytest.skip("torch's SGD does not count its steps")
    opt, theirs, twins = torch_twins(torch, rule, np.float64, rng, busy(rule))
    for _ in range(3):
        step_both(torch, opt, theirs, twins, rng)
    fresh = CLASSES[rule](copies(opt.params))
    fresh.load_state_dict(theirs.state_dict())
    assert fresh.t == 3
    assert fresh.param_groups[0].get("foreach") is one_by_one(torch, rule).get("foreach")
    for _ in range(3):
        step_both(torch, fresh, theirs, twins, rng)
    assert_twins(fresh, theirs, twins)


def test_kept_numbers_and_steps_are_in_the_state(rule, rng):
    """Protects what a rule carries along beside arrays: it is saved by its name, per parameter."""
    opt = CLASSES[rule](arrays(rng, np.float64), **busy(rule))
    train(opt, [[None, *arrays(rng, np.float64)[1:]] for _ in range(2)])
    kept = _core.RULES[rule]["kept"]
    for i, states in opt.state_dict()["state"].items():
        assert list(states) == ["step", *opt.state[i], *kept]
        assert states["step"] == 2 * (i > 0)
        assert [states[name] for name in kept] == list(opt.progress(i)[2][: len(kept)])
        assert all((states[name] != 0) == (i > 0) for name in kept)


def test_state_dict_is_a_copy_both_ways(rule, rng, assert_same_bits):
    """Protects a saved state from the steps that follow, and the optimizer from its reader."""
    opt = CLASSES[rule](arrays(rng, np.float64), **busy(rule), ema_decay=0.5)
    opt.step(arrays(rng, np.float64))
    saved = opt.state_dict()
    kept = copy.deepcopy(saved)
    opt.step(arrays(rng, np.float64))
    opt.load_state_dict(saved)
    opt.step(arrays(rng, np.float64))
    assert_same_bits(saved["fastgd"]["ema"], kept["fastgd"]["ema"])
    for i, states in kept["state"].items():
        assert saved["state"][i].keys() == states.keys()
        for name, a in states.items():
            assert_same_bits(saved["state"][i][name], a)


# ---- what is refused -----------------------------------------------------------------------------


def put(*path, value):
    """Return a function that puts a value at a path."""

    def change(saved):
        for key in path[:-1]:
            saved = saved[key]
        saved[path[-1]] = value

    return change


def without(*path):
    """Return a function that takes the last key of a path away."""

    def change(saved):
        for key in path[:-1]:
            saved = saved[key]
        del saved[path[-1]]

    return change


BAD_STATE_DICTS = {
    "no groups": without("param_groups"),
    "no state": without("state"),
    "one group": lambda saved: saved["param_groups"].pop(),
    "three groups": lambda saved: saved["param_groups"].append({"params": []}),
    "groups no list": put("param_groups", value=3),
    "group no dict": put("param_groups", 0, value=[1]),
    "other members": put("param_groups", 0, "params", value=[1]),
    "another rule": without("param_groups", 0, "lr"),
    "bad value": put("param_groups", 1, "lr", value=-1.0),
    "value a str": put("param_groups", 1, "lr", value="fast"),
    "fewer parameters": without("state", 1),
    "other indices": lambda saved: saved["state"].update({7: saved["state"].pop(1)}),
    "state no dict": put("state", 1, value=[1]),
    "no step": without("state", 1, "step"),
    "bad step": put("state", 0, "step", value="soon"),
    "negative step": put("state", 0, "step", value=-1),
    "half a step": put("state", 0, "step", value=1.5),
    "endless steps": put("state", 0, "step", value=math.inf),
    "no array": without("state", 1, "ARRAY"),
    "no array in the last": without("state", 2, "ARRAY"),
    "array of another shape": put("state", 1, "ARRAY", value=np.ones(5)),
    "array of another kind": put("state", 1, "ARRAY", value=np.array(["a", "b", "c", "d"])),
    "complex array": put("state", 1, "ARRAY", value=np.ones(4, complex)),
    "fastgd no dict": put("fastgd", value=3),
    "too few starts": put("fastgd", "since", value=[0]),
    "starts no numbers": put("fastgd", "since", value=["a", "b", "c"]),
    "too few averages": put("fastgd", "ema", value=[np.ones((2, 3))]),
    "average of another shape": put("fastgd", "ema", 2, value=np.ones(3)),
    "too few frozen": put("fastgd", "frozen", value=[True]),
    "bad t": put("fastgd", "t", value="now"),
    "negative t": put("fastgd", "t", value=-1),
    "bad skipped": put("fastgd", "skipped", value=None),
}


@pytest.mark.parametrize("change", BAD_STATE_DICTS.values(), ids=BAD_STATE_DICTS)
@pytest.mark.parametrize("rule", RULES)
def test_bad_state_dicts_are_refused_and_change_nothing(rule, change, rng):
    """Protects a running training from a file that does not belong to it."""
    shapes = [(2, 3), (4,), (5,)]

    def make(**changes):
        first, second, third = arrays(rng, np.float64, shapes)
        return CLASSES[rule](
            [{"params": [first]}, {"params": [second, third], "note": 1}],
            **busy(rule) | changes,
            ema_decay=0.5,
        )

    opt, other = make(), make(lr=0.75)
    opt.step(arrays(rng, np.float64, shapes))
    train(other, [arrays(rng, np.float64, shapes) for _ in range(2)])
    saved = other.state_dict()
    names = [next(iter(states)) for states in opt.state]
    for i, states in saved["state"].items():  # so that the table need not know the rule's names
        states["ARRAY"] = states.pop(names[i])
    change(saved)
    for i, states in saved.get("state", {}).items():
        if isinstance(states, dict) and "ARRAY" in states:
            states[names[min(i, 2)]] = states.pop("ARRAY")
    assert_unchanged_by(
        opt, (ValueError, TypeError), "^state_dict |^lr ", lambda: opt.load_state_dict(saved)
    )


@pytest.mark.parametrize("given", [None, [], {}, "state", optim.SGD])
def test_what_is_no_state_dict_is_refused(given):
    """Protects from another file."""
    opt = optim.SGD(np.ones(2))
    assert_unchanged_by(opt, ValueError, "^state_dict must", lambda: opt.load_state_dict(given))


@pytest.mark.parametrize("value", ["much", None, [1.0]])
def test_bad_kept_numbers_are_refused(value):
    """Protects the numbers that NAdam and ASGD carry along."""
    for cls, name in ((optim.NAdam, "mu_product"), (optim.ASGD, "eta")):
        opt = cls([np.ones(2), np.ones(2)])
        saved = opt.state_dict()
        saved["state"][1][name] = value
        load = opt.load_state_dict
        assert_unchanged_by(opt, ValueError, "^state_dict must", lambda s=saved, f=load: f(s))
        del saved["state"][1][name]
        assert_unchanged_by(opt, ValueError, "^state_dict must", lambda s=saved, f=load: f(s))


def test_state_dict_of_another_rule_is_refused():
    """Protects from loading Adam's averages into SGD, and the other way round."""
    sgd, adam = optim.SGD(np.ones(2), momentum=0.5), optim.Adam(np.ones(2))
    for opt, saved in ((sgd, adam.state_dict()), (adam, sgd.state_dict())):
        assert_unchanged_by(
            opt, ValueError, "^state_dict ", lambda opt=opt, saved=saved: opt.load_state_dict(saved)
        )


def test_failed_load_leaves_the_states_that_a_step_writes_to(rng, assert_same_bits):
    """Protects memory: after a refused load the kernels still use the arrays in `state`."""
    shapes = [(50,), (60,)]
    params, grads = arrays(rng, np.float64, shapes), arrays(rng, np.float64, shapes)
    opt, twin, other = (optim.Adam(p) for p in (params, copies(params), copies(params)))
    for o in (opt, twin):
        o.step(grads)
    params[1].flags.writeable = False
    assert_unchanged_by(
        opt, ValueError, r"^params\[1\] ", lambda: opt.load_state_dict(other.state_dict())
    )
    params[1].flags.writeable = True
    for o in (opt, twin):
        o.step(grads)
    assert_same_bits(everything(opt), everything(twin))


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copying_an_optimizer_is_refused(way):
    """Protects from two optimizers behind one set of addresses: ``state_dict`` is the way."""
    with pytest.raises(TypeError, match="pickling"):
        way(optim.SGD(np.ones(3)))
