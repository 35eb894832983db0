"""Ultralytics' training of YOLO26n with its own step and with fastgd's, side by side.

``python bench/ultralytics_training.py`` trains from scratch on drawn shapes and prints, for each
optimizer:

- curves: how far the losses of the two runs are apart, step by step; and, since a training run
  amplifies any rounding, how far Ultralytics is from itself if one weight is one bit off at first;
- follow: how far weights and losses are apart if both get the same gradients all the time;
- shares: of the optimizer (clip, update, average) in the time of a training step;
- poison: what a NaN planted in one gradient does.

``--out FOLDER`` keeps the losses of every step as CSV files.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
import torch
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import ModelEMA, unwrap_model
from yolo import write_shapes

from fastgd.ultralytics import trainer as fast_trainer

SETTINGS = {  # learning rate and momentum as optimizer="auto" has them for two classes
    "AdamW": {"lr0": 0.001667, "momentum": 0.9},
    "MuSGD": {"lr0": 0.01, "momentum": 0.9},
}
SIDES = {"Ultralytics": DetectionTrainer, "fastgd": fast_trainer(DetectionTrainer)}


@dataclass
class Run:
    """What was seen of a training run; times are in seconds, of each step."""

    losses: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    score: float = float("nan")  # mAP50-95 of the best epoch
    broken: list[int] = field(default_factory=list)  # weights that are not finite, after each step


@dataclass(frozen=True)
class Setup:
    """How to train."""

    data: Path
    folder: Path
    epochs: int
    batch: int
    imgsz: int = 160


def train(
    setup: Setup, optimizer: str, base: type, before: Callable[[Any], None] | None = None
) -> Run:
    """Train once; `before` sees the trainer before each optimizer step."""
    run = Run()

    class WatchedTrainer(base):  # type: ignore[misc]
        def preprocess_batch(self, batch: Any) -> Any:
            self.batch_now = super().preprocess_batch(batch)
            return self.batch_now

        def optimizer_step(self) -> None:
            arrived = time.perf_counter()
            if before is not None:
                before(self)
            start = time.perf_counter()
            super().optimizer_step()
            run.step.append(time.perf_counter() - start)
            self.began += start - arrived  # `before` does not count

    def note_start(trainer: Any) -> None:
        trainer.began = time.perf_counter()

    def note_end(trainer: Any) -> None:
        run.whole.append(time.perf_counter() - trainer.began)
        run.losses.append(trainer.loss.item())
        params = trainer.model.parameters()
        run.broken.append(sum(int((~p.isfinite()).sum()) for p in params))

    def note_score(trainer: Any) -> None:
        run.score = float(trainer.best_fitness)

    model = YOLO("yolo26n.yaml", verbose=False)
    model.add_callback("on_train_batch_start", note_start)
    model.add_callback("on_train_batch_end", note_end)
    model.add_callback("on_train_end", note_score)
    log = logging.Handler(logging.WARNING)
    log.emit = lambda record: run.warnings.append(record.getMessage())  # type: ignore[method-assign]
    LOGGER.addHandler(log)
    settings = dict(
        trainer=WatchedTrainer, data=str(setup.data), epochs=setup.epochs, imgsz=setup.imgsz,
        batch=setup.batch, nbs=setup.batch, workers=0, device="cpu", seed=0, plots=False,
        deterministic=True, warmup_epochs=1, nms=False, verbose=False, optimizer=optimizer,
        project=str(setup.folder), name="run", **SETTINGS[optimizer],
    )  # fmt: skip
    try:
        model.train(**settings)
    except RuntimeError as error:  # Ultralytics gives up
        run.warnings.append(f"RuntimeError: {error}")
    LOGGER.removeHandler(log)
    return run


# ---- what is done before a step ------------------------------------------------------------------


class Nudge:
    """Moves one weight by one bit, before the first step."""

    done = False

    def __call__(self, trainer: Any) -> None:
        if not self.done:
            weight = next(unwrap_model(trainer.model).parameters()).data.view(-1)[:1]
            weight.copy_(torch.nextafter(weight, torch.full_like(weight, math.inf)))
            self.done = True


class Poison:
    """Makes one element of one gradient NaN, in the third step of an epoch."""

    def __init__(self, name: str, epoch: int) -> None:
        self.name, self.epoch = name, epoch
        self.steps = self.step = 0  # seen; the number of the one with the NaN

    def __call__(self, trainer: Any) -> None:
        self.steps += 1
        if not self.step and self.steps == len(trainer.train_loader) * (self.epoch - 1) + 3:
            dict(trainer.model.named_parameters())[self.name].grad.view(-1)[0] = math.nan
            self.step = self.steps


class Follow:
    """Has fastgd take every step, too, on a copy of the model that gets the same gradients."""

    def __init__(self, *, compare: bool) -> None:
        self.compares = compare
        self.twin: Any = None
        self.step: list[float] = []  # seconds that its steps took
        self.apart: list[tuple[float, float, float]] = []  # weights, averages, losses

    def __call__(self, trainer: Any) -> None:
        model = unwrap_model(trainer.model)
        if self.twin is None:
            self.twin = twin_of(trainer)
        elif self.compares:
            self.compare(trainer, model)
        twin = self.twin
        for param, other in zip(model.parameters(), twin.model.parameters(), strict=True):
            other.grad = None if param.grad is None else param.grad.clone()
        for buffer, other in zip(model.buffers(), twin.model.buffers(), strict=True):
            other.copy_(buffer)
        groups = zip(trainer.optimizer.param_groups, twin.optimizer.param_groups, strict=True)
        for group, other in groups:
            other.update({key: group[key] for key in ("lr", "momentum") if key in group})
        start = time.perf_counter()
        twin.optimizer_step()
        self.step.append(time.perf_counter() - start)

    def compare(self, trainer: Any, model: Any) -> None:
        """Note how far the two are apart, and their losses on the batch of this step."""
        with torch.no_grad():
            predictions = self.twin.model(trainer.batch_now["img"])
            loss = model.loss(trainer.batch_now, predictions)[0].sum().item()
        self.apart.append(
            (
                distance(model, self.twin.model),
                distance(trainer.ema.ema, self.twin.ema.ema),
                abs(loss / trainer.loss.item() - 1),
            )
        )


def twin_of(trainer: Any) -> Any:
    """Trainer of a copy of the model, in which fastgd takes the steps."""
    twin = object.__new__(fast_trainer(DetectionTrainer))
    twin.__dict__.update(trainer.__dict__)
    twin.model = copy.deepcopy(unwrap_model(trainer.model))
    twin.ema = ModelEMA(twin.model)
    first = trainer.optimizer.param_groups
    decay = max(group["weight_decay"] for group in first)
    args = trainer.args
    twin.optimizer = twin.build_optimizer(
        twin.model, args.optimizer, args.lr0, args.momentum, decay, len(first)
    )
    return twin


def distance(model: Any, other: Any) -> float:
    """Relative distance of the parameters of two models."""
    params = [p.detach().double() for p in model.parameters()]
    others = [p.detach().double() for p in other.parameters()]
    gap = sum(float((p - q).square().sum()) for p, q in zip(params, others, strict=True))
    return math.sqrt(gap / sum(float(p.square().sum()) for p in params))


# ---- tables --------------------------------------------------------------------------------------


def print_table(title: str, *rows: str) -> None:
    """Print a table in Markdown; the first row is its header."""
    head, *body = rows
    print(f"\n{title}\n", head, "|---" * (head.count("|") - 1) + "|", *body, sep="\n", flush=True)


def agreement(name: str, run: Run, other: Run, epochs: int) -> str:
    """Row of a run whose losses are held to another's."""
    a, b = np.array(run.losses), np.array(other.losses)
    apart = np.abs(b / a - 1)
    until = [next((i for i, gap in enumerate(apart) if gap > far), len(a)) for far in (1e-4, 1e-2)]
    of_epochs = np.abs(b.reshape(epochs, -1).mean(1) / a.reshape(epochs, -1).mean(1) - 1)
    return (
        f"| {name} | {until[0]} | {until[1]} | {np.median(apart):.1%} | {np.median(of_epochs):.1%} "
        f"| {of_epochs.max():.1%} | {other.score:.3f} ({run.score:.3f}) |"
    )


def keep(folder: Path | None, name: str, runs: dict[str, Run]) -> None:
    """Write the losses of all steps to a file."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        table = np.column_stack([run.losses for run in runs.values()])
        header = ",".join(runs)
        np.savetxt(folder / f"losses-{name}.csv", table, "%.9g", ",", header=header, comments="")


# ---- parts ---------------------------------------------------------------------------------------


def curves(setup: Setup, optimizer: str, out: Path | None) -> None:
    """Losses, step by step."""
    runs = {side: train(setup, optimizer, base) for side, base in SIDES.items()}
    runs["Ultralytics, one bit off"] = train(setup, optimizer, DetectionTrainer, Nudge())
    keep(out, optimizer, runs)
    stock, *others = runs.values()
    print_table(
        f"Losses of {optimizer} held to Ultralytics', {len(stock.losses)} steps",
        "| | steps within 1e-4 | within 1 % | median | of epochs | largest of them | mAP50-95 |",
        *(
            agreement(name, stock, run, setup.epochs)
            for name, run in zip([*runs][1:], others, strict=True)
        ),
    )


def follow(setup: Setup, optimizer: str, out: Path | None) -> None:
    """Weights after the same gradients."""
    twin = Follow(compare=True)
    train(setup, optimizer, DetectionTrainer, twin)
    marks = [n for n in (1, 10, 100) if n < len(twin.apart)] + [len(twin.apart)]
    print_table(
        f"Relative distance of the two models after the same gradients, {optimizer}",
        "| after steps | weights | averages | losses until then, largest |",
        *(
            "| {} | {:.0e} | {:.0e} | {:.0e} |".format(
                n, *twin.apart[n - 1][:2], max(apart[2] for apart in twin.apart[:n])
            )
            for n in marks
        ),
    )


def shares(setup: Setup, optimizer: str, out: Path | None) -> None:
    """Time of the optimizer in a step, both sides in turn in one run, for two sizes of images."""
    rows = []
    for imgsz, epochs in ((160, 6), (640, 2)):
        twin = Follow(compare=False)
        run = train(
            replace(setup, epochs=epochs, imgsz=imgsz, batch=16), optimizer, DetectionTrainer, twin
        )
        stock, ours, whole = (median(times[3:]) for times in (run.step, twin.step, run.whole))
        rest = whole - stock
        cells = " | ".join(
            f"{part * 1e3:.1f} ms, {part / (rest + part):.1%}" for part in (stock, ours)
        )
        rows.append(
            f"| 16 images of {imgsz} pixels, {rest * 1e3:.0f} ms | {cells} | {stock / ours:.1f} |"
        )
    print_table(
        f"Clip, {optimizer} and average in a training step, threads: {torch.get_num_threads()}",
        "| forward and backward | Ultralytics | fastgd | ratio |",
        *rows,
    )


def poison(setup: Setup, optimizer: str, out: Path | None) -> None:
    """What one NaN in one gradient does, in the first epoch and in the second."""
    name, short = "model.2.cv1.conv.weight", replace(setup, epochs=3)
    rows = []
    for epoch in (1, 2):
        for side, base in SIDES.items():
            planted = Poison(name, epoch)
            run = train(short, optimizer, base, planted)
            before, after = planted.step - 2, planted.step
            rows.append(
                f"| {side} | {epoch} | {run.broken[after - 1]} | {run.losses[before]:.4g} "
                f"| {run.losses[after]:.4g} | {run.losses[-1]:.4g} | {run.score:.3f} |"
            )
            print(f"\n{side}, epoch {epoch}:", *run.warnings or ["no word"], sep="\n  ")
    print_table(
        f"A NaN in the gradient of {name} in one step, {optimizer}",
        "| | epoch | weights NaN after it | loss before | loss after | last loss | mAP50-95 |",
        *rows,
    )


PARTS = {part.__name__: part for part in (curves, follow, shares, poison)}


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--optimizers", nargs="+", default=[*SETTINGS], choices=[*SETTINGS])
    parser.add_argument("--parts", nargs="+", default=[*PARTS], choices=[*PARTS])
    parser.add_argument("--out", type=Path, help="folder for the losses of every step")
    options = parser.parse_args()
    LOGGER.setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="fastgd-training-") as name:
        folder = Path(name)
        data = write_shapes(folder / "shapes", options.images)
        setup = Setup(data, folder, options.epochs, options.batch)
        for part in options.parts:
            for optimizer in options.optimizers:
                PARTS[part](setup, optimizer, options.out)


if __name__ == "__main__":
    main()
