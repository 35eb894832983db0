"""`fastgd.ultralytics`: the trainer's optimizers and steps, held to Ultralytics' own."""

import importlib
import math
import pickle
import sys
import types

import pytest
from ultralytics_trainers import (
    OURS,
    RULES,
    THEIRS,
    YOLO,
    DetectionTrainer,
    FastTrainer,
    assert_near,
    fast,
    give,
    groups,
    ready,
    torch,
    trainer,
    values,
)
from ultralytics_trainers import _one_thread as _one_thread
from ultralytics_trainers import log as log
from ultralytics_trainers import model as model

import fastgd

pytestmark = pytest.mark.filterwarnings("default")

# ---- optimizers and steps ------------------------------------------------------------------------


@pytest.mark.parametrize("name", THEIRS)
def test_groups_steps_and_averages_are_ultralytics(model, name):
    """Protects the drop-in: groups, clipping, update, average and counts as in their trainer."""
    if name not in ("auto", "RMSProp") and name not in RULES:
        pytest.skip(f"fastgd.torch has no {name}")
    theirs, ours = ready(DetectionTrainer, model, name), ready(FastTrainer, model, name)
    assert type(ours.optimizer).__name__ == type(theirs.optimizer).__name__
    assert ours.args == theirs.args
    for one, other in zip(groups(ours), groups(theirs), strict=True):
        assert one.pop("param_names", []) == one["params"]
        assert {key: one[key] for key in other} == other
    for seed in range(4):
        give(theirs, ours, seed=seed)
        for each in (theirs, ours):
            for group in each.optimizer.param_groups:
                group["lr"] = 0.01 * seed  # as a warm-up does
            each.optimizer_step()
        assert ours.optimizer.last_step.clip_factor < 1
    floats = [v for v in values(theirs) if v.is_floating_point()]
    assert_near(
        [v for v in values(ours) if v.is_floating_point()],
        floats,
        1e-2 if name == "MuSGD" else 1e-5,
    )
    assert ours.ema.updates == theirs.ema.updates == 4
    assert all(param.grad is None for param in ours.model.parameters())


@pytest.mark.parametrize("name", OURS)
def test_rules_that_ultralytics_lacks(model, name):
    """Protects every other rule: Ultralytics' groups, with the settings that the rule knows."""
    ours, sgd = ready(FastTrainer, model, name.upper()), ready(DetectionTrainer, model, "SGD")
    known = RULES[name].__signature__.parameters
    for one, other in zip(groups(ours), groups(sgd), strict=True):
        for key in ("params", "param_group", "lr", "weight_decay", "momentum"):
            assert key not in known or one[key] == other[key]
        assert "betas" not in known or one["betas"] == (0.9, *known["betas"].default[1:])
    before = values(ours)
    give(ours)
    ours.optimizer_step()
    assert ours.optimizer.t == ours.ema.updates == 1
    assert all(value.isfinite().all() for value in values(ours))
    assert any((a != b).any() for a, b in zip(before, values(ours), strict=True))


def test_options_reach_the_optimizer(model):
    """Protects what the user says: clipping, guard, and hyper-parameters before Ultralytics'."""
    kind = trainer(DetectionTrainer, max_norm=0.5, clip_value=0.25, nonfinite="raise", eps=1e-6)
    ours = ready(kind, model, "adamw")
    optimizer = ours.optimizer
    assert (optimizer.max_norm, optimizer.clip_value, optimizer.nonfinite) == (0.5, 0.25, "raise")
    assert [group["eps"] for group in optimizer.param_groups] == [1e-6] * 3
    assert ready(trainer(DetectionTrainer, betas=(0.5, 0.75)), model, "Lion").optimizer.defaults[
        "betas"
    ] == (0.5, 0.75)
    with pytest.raises(ValueError, match="ema_decay must be left to Ultralytics"):
        trainer(DetectionTrainer, ema_decay=0.5)
    with pytest.raises(TypeError, match="beta9"):
        ready(trainer(DetectionTrainer, beta9=1.0), model, "Lion")


def test_names_and_devices_that_do_not_fit(model, monkeypatch):
    """Protects from training with something else than what was asked for."""
    with pytest.raises(ValueError, match=r"optimizer must be auto or one of .*Lion.*; got 'Sgdd'"):
        ready(FastTrainer, model, "Sgdd")
    monkeypatch.delattr(fast, "NAdam")
    with pytest.raises(ValueError, match="got 'NAdam'"):
        ready(FastTrainer, model, "NAdam")
    elsewhere = object.__new__(FastTrainer)
    elsewhere.device = torch.device("cuda:0")
    with pytest.raises(ValueError, match="device must be 'cpu' for fastgd's trainer; got 'cuda:0'"):
        elsewhere.build_optimizer(model, "SGD")


def test_without_an_average(model):
    """Protects trainers that keep none, or that rest it for a while."""
    ours = ready(FastTrainer, model, "SGD")
    for enabled in (True, False, True):
        ours.ema.enabled = enabled
        give(ours)
        ours.optimizer_step()
    assert ours.ema.updates == 2
    ours.ema = None
    give(ours)
    ours.optimizer_step()
    assert ours.optimizer.ema is None
    assert ours.optimizer.t == 4


# ---- steps that are left out ---------------------------------------------------------------------


def test_bad_steps_are_named_and_change_nothing(model, log):
    """Protects a run from one bad batch: named, left out, and training goes on."""
    ours = ready(FastTrainer, model, "AdamW")
    give(ours)
    ours.optimizer_step()
    before = values(ours)
    give(ours, seed=1)
    for name, value in (("model.0.conv.weight", math.nan), ("model.1.conv.weight", -math.inf)):
        ours.model.get_parameter(name).grad.view(-1)[3:5] = value
    ours.model.get_parameter("model.2.cv1.conv.weight").grad.fill_(math.nan)
    spoilt = "model.4.cv1.bn.running_var"
    for name, buffer in ours.model.named_buffers():  # what the forward pass did, undone
        buffer.sub_(1) if name != spoilt else buffer.fill_(math.nan)
    ours.optimizer_step()
    assert log.messages[0].endswith(
        "fastgd: step 2 (epoch 1) is left out, gradients must be finite; got nan in "
        "model.0.conv.weight (2 of 432), in 1 more parameters, nan in model.2.cv1.conv.weight "
        "(1024 of 1024)"
    )
    assert log.messages[1].endswith(f"fastgd: taken back from the averages: {spoilt}")
    average = ours.ema.ema.get_buffer(spoilt)
    names = list(ours.model.state_dict())
    for name, one, other in zip(names, values(ours), before, strict=False):
        assert torch.equal(one, average if name == spoilt else other)
    assert (ours.optimizer.t, ours.optimizer.skipped, ours.ema.updates) == (1, 1, 1)
    give(ours)
    ours.optimizer_step()
    assert (ours.optimizer.t, ours.ema.updates, len(log.messages)) == (2, 2, 2)


def test_bad_steps_may_end_the_training(model):
    """Protects the choice to stop, with nothing changed."""
    ours = ready(trainer(DetectionTrainer, nonfinite="raise"), model, "SGD")
    give(ours)
    ours.model.get_parameter("model.0.conv.weight").grad[0, 0, 0, 0] = math.nan
    before = values(ours)
    with pytest.raises(fastgd.NonFiniteError, match=r"model\.0\.conv\.weight"):
        ours.optimizer_step()
    assert all(torch.equal(a, b) for a, b in zip(values(ours), before, strict=True))


def test_grad_scaler(model, log):
    """Protects mixed precision: the step unscales, and what overflows halves the scale."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    ours, plain = ready(FastTrainer, model, "SGD", scaler), ready(FastTrainer, model, "SGD")
    scaler.scale(torch.zeros(1))
    give(ours, scale=1024.0)
    give(plain)
    for each in (ours, plain):
        each.optimizer_step()
    assert_near(values(ours), values(plain), 1e-6)
    give(ours)
    next(ours.model.parameters()).grad.fill_(math.inf)
    before = values(ours)
    ours.optimizer_step()
    assert all(torch.equal(a, b) for a, b in zip(values(ours), before, strict=True))
    assert scaler.get_scale() == 512.0
    assert "inf in model.0.conv.weight (432 of 432)" in log.messages[0]


# ---- trainers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", YOLO("yolo26n.yaml").task_map)
def test_every_task_has_a_trainer(task):
    """Protects all tasks that Ultralytics has: a subclass of the trainer of each."""
    stub = types.SimpleNamespace(task=task, task_map=YOLO("yolo26n.yaml").task_map)
    made = trainer(stub)
    base = stub.task_map[task]["trainer"]
    assert issubclass(made, base)
    assert made.__name__ == f"Fast{base.__name__}"
    assert "optimizer_step" not in vars(base)  # of which ours would take the place


@pytest.mark.parametrize("wrong", ["yolo26n.pt", int, None])
def test_models_that_are_none(wrong):
    """Protects from a mistake that would show late."""
    with pytest.raises(TypeError, match="model must be a model or a trainer class of Ultralytics"):
        trainer(wrong)


def test_trainers_can_be_sent_to_other_processes():
    """Protects distributed training, for which Ultralytics pickles the trainer's class."""
    cloudpickle = pytest.importorskip("cloudpickle")
    kind = trainer(DetectionTrainer, max_norm=1.0)
    other = pickle.loads(cloudpickle.dumps(kind))
    assert issubclass(other, DetectionTrainer)
    assert other.optimizer_options == kind.optimizer_options
    assert other.optimizer_step is kind.optimizer_step


def test_without_ultralytics(monkeypatch):
    """Protects users from guessing: the error names the extra."""
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    monkeypatch.delitem(sys.modules, "fastgd.ultralytics")
    with pytest.raises(ImportError, match=r'pip install "fastgd\[ultralytics\]"'):
        importlib.import_module("fastgd.ultralytics")
