"""`fastgd.ultralytics`: whole trainings, and checkpoints that either side resumes."""

import copy
import math

import pytest
from ultralytics_trainers import (
    RULES,
    YOLO,
    DetectionTrainer,
    FastTrainer,
    torch,
    yolo,
)
from ultralytics_trainers import _one_thread as _one_thread
from ultralytics_trainers import log as log

pytestmark = pytest.mark.filterwarnings("default")
EXACT = ("step", "exp_avg", "exp_avg_sq", "square_avg")  # what Ultralytics does not round in files


class KilledError(Exception):
    """Ends a training in the middle."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A few small images."""
    return yolo.write_shapes(tmp_path_factory.mktemp("shapes"), 8, 2, side=64)


def train(source, kind, callbacks, **settings):
    """Train a model from its YAML file or its checkpoint; return the trainer."""
    model = YOLO(source)
    for event, callback in callbacks.items():
        model.add_callback(event, callback)
    model.train(
        trainer=kind, epochs=3, imgsz=64, batch=4, nbs=4, workers=0, device="cpu", plots=False,
        warmup_epochs=0, nms=False, **settings,
    )  # fmt: skip
    return model.trainer


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("AdamW", DetectionTrainer, FastTrainer),
        ("AdamW", FastTrainer, DetectionTrainer),
        ("MuSGD", DetectionTrainer, FastTrainer),
        ("MuSGD", FastTrainer, DetectionTrainer),
        ("AdaBelief", FastTrainer, FastTrainer),
    ],
)
def test_either_side_resumes_the_other(name, first, second, data, tmp_path):
    """Protects checkpoints: states, counts and averages go on where the other side was."""
    if name not in RULES:
        pytest.skip(f"fastgd.torch has no {name}")
    saved, resumed = {}, {}

    def save_and_die(trainer):
        if trainer.epoch == 1:
            saved.update(copy.deepcopy(trainer.optimizer.state_dict()), ema=trainer.ema.updates)
            raise KilledError

    def look(trainer):
        resumed.update(copy.deepcopy(trainer.optimizer.state_dict()), ema=trainer.ema.updates)
        resumed["epoch"] = trainer.start_epoch

    with pytest.raises(KilledError):
        train("yolo26n.yaml", first, {"on_model_save": save_and_die}, data=str(data),
              optimizer=name, lr0=1e-3, project=str(tmp_path), name="run")  # fmt: skip
    trainer = train(tmp_path / "run/weights/last.pt", second, {"on_train_start": look}, resume=True)
    assert (resumed["ema"], resumed["epoch"]) == (saved["ema"], 2) == (4, 2)
    key = "fastgd_states" if name == "AdaBelief" else "state"
    assert len(saved[key]) == len(resumed[key]) > 300
    for index, states in saved[key].items():
        for state, value in states.items():
            whole = state in EXACT or name == "AdaBelief"
            assert torch.equal(resumed[key][index][state], value if whole else value.half().float())
    for one, other in zip(resumed["param_groups"], saved["param_groups"], strict=True):
        assert [one[k] for k in ("params", "param_group", "initial_lr")] == [
            other[k] for k in ("params", "param_group", "initial_lr")
        ]
    assert trainer.ema.updates == 6
    assert trainer.loss.isfinite()
    assert YOLO(tmp_path / "run/weights/best.pt").task == "detect"


def test_training_goes_on_after_a_nan(data, tmp_path, log):
    """Protects the whole of a run from one bad gradient: the step is named and left out."""
    steps = []

    class PoisonedTrainer(FastTrainer):
        def optimizer_step(self):
            if len(steps) == 1:
                self.model.get_parameter("model.1.conv.weight").grad[0, 0, 0, 0] = math.nan
            super().optimizer_step()
            steps.append(self.optimizer.last_step.skipped)

    trainer = train("yolo26n.yaml", PoisonedTrainer, {}, data=str(data), optimizer="SGD",
                    project=str(tmp_path), name="run")  # fmt: skip
    assert steps == [False, True, False, False, False, False]
    (message,) = log.messages
    assert "step 2 (epoch 1) is left out" in message
    assert "nan in model.1.conv.weight (1 of 4608)" in message
    assert trainer.loss.isfinite()
    assert all(value.isfinite().all() for value in trainer.model.state_dict().values())
    assert (trainer.ema.updates, trainer.optimizer.skipped) == (5, 1)
