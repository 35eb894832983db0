# ruff: noqa: E402
"""Fixtures and trainers: what the tests of `fastgd.ultralytics` share.

Where Ultralytics is missing, importing this skips the file that does.
"""

import copy
import types

import pytest

yolo = pytest.importorskip("yolo", reason="needs ultralytics", exc_type=ImportError)
pytest.importorskip("ultralytics")

import torch
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import ModelEMA

from fastgd import torch as fast
from fastgd.ultralytics import trainer

__all__ = ["YOLO"]

THEIRS = ["Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSProp", "SGD", "MuSGD", "auto"]
RULES = {name: found for name, found in vars(fast).items() if hasattr(found, "rule_name")}
NARROW = {"Muon", "SparseAdam"}  # take matrices or sparse gradients alone
OURS = sorted(RULES.keys() - {"RMSprop", *THEIRS, *NARROW})
FastTrainer = trainer(DetectionTrainer)


@pytest.fixture(autouse=True)
def _one_thread():
    """Keep a busy machine from slowing many small operations down."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    """A YOLO26 with heads for two classes."""
    torch.manual_seed(0)
    return DetectionModel("yolo26n.yaml", nc=2, verbose=False).train()


@pytest.fixture
def log(caplog):
    """Messages of Ultralytics' log from warnings on."""
    caplog.set_level("WARNING")
    LOGGER.addHandler(caplog.handler)
    yield caplog
    LOGGER.removeHandler(caplog.handler)


def ready(kind, model, name, scaler=None):
    """Trainer of a copy of a model, as it is before its first step."""
    made = object.__new__(kind)
    made.args = types.SimpleNamespace(optimizer=name, lr0=0.01, warmup_bias_lr=0.1)
    made.data, made.device, made.epoch = {"nc": 2}, torch.device("cpu"), 0
    made.model = copy.deepcopy(model)
    made.ema = ModelEMA(made.model)
    made.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
    made.optimizer = made.build_optimizer(
        model=made.model, name=name, lr=0.01, momentum=0.9, decay=5e-4, iterations=100
    )
    return made


def give(*trainers, seed=0, scale=1.0):
    """Give models the same gradients and statistics, as a forward and a backward pass do."""
    for each in trainers:
        torch.manual_seed(seed)
        for param in each.model.parameters():
            param.grad = scale * torch.randn_like(param)
        for buffer in each.model.buffers():
            buffer.add_(1)


def values(trainer):
    """Return copies of the model's and the averages' numbers, one after the other."""
    states = trainer.model.state_dict(), trainer.ema.ema.state_dict()
    return [value.clone() for state in states for value in state.values()]


def assert_near(some, others, far):
    """Fail unless lists of tensors are equal, but for this part of the norm of each."""
    for one, other in zip(some, others, strict=True):
        assert (one.double() - other.double()).norm() <= far * other.double().norm()


def groups(trainer):
    """Return the groups of a trainer's optimizer, with the names of the parameters."""
    names = {id(param): name for name, param in trainer.model.named_parameters()}
    return [
        {**group, "params": [names[id(param)] for param in group["params"]]}
        for group in trainer.optimizer.param_groups
    ]
