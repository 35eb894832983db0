"""`fastgd.plot`: pictures without a display and without pyplot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure
from matplotlib.image import imread

from fastgd.plot import loss_curve


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "loss.png"
    loss_curve([0.9, 0.5, 0.4, 0.38], path=path, title="Title", note="A note")
    image = imread(path)
    assert image.shape == (750, 1200, 4)
    assert 0.001 < float(np.mean(image[..., :3].min(axis=2) < 0.9)) < 0.2  # ink on white


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_other_formats(tmp_path: Path, suffix: str) -> None:
    loss_curve([3, 2, 1], path=tmp_path / f"loss.{suffix}")
    assert (tmp_path / f"loss.{suffix}").stat().st_size > 1000


def test_what_is_drawn() -> None:
    curve = [0.5, 0.25, 0.2]
    ax = loss_curve(curve, title="Title", note="Note", ylabel="objective")
    line = ax.lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(line.get_ydata(), curve)
    assert ax.get_title(loc="left") == "Title"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "objective")
    assert [text.get_text() for text in ax.texts] == ["0.5", "0.2", "Note"]


@pytest.mark.parametrize(
    ("curve", "log", "scale"),
    [
        ([2, 1], None, "linear"),
        ([20, 1], None, "log"),
        ([20, 0], None, "linear"),
        ([2, 1], True, "log"),
        ([20, 1], False, "linear"),
        (np.geomspace(1, 1e-3, 200), None, "log"),
    ],
)
def test_axis(curve: list[float], log: bool | None, scale: str) -> None:
    ax = loss_curve(curve, log=log)
    ax.figure.canvas.draw()
    assert ax.get_yscale() == scale


def test_one_epoch() -> None:
    ax = loss_curve([0.5])
    assert [text.get_text() for text in ax.texts] == ["0.5"]
    ax.figure.canvas.draw()


def test_on_given_axes(tmp_path: Path) -> None:
    figure = Figure()
    axes = figure.subplots(1, 2)
    assert loss_curve([2, 1], ax=axes[1], path=tmp_path / "two.png") is axes[1]
    assert not axes[0].lines
    assert imread(tmp_path / "two.png").shape[:2] == (720, 960)


def test_on_a_subfigure(tmp_path: Path) -> None:
    figure = Figure()
    left, _ = figure.subfigures(1, 2)
    loss_curve([2, 1], ax=left.subplots(), path=tmp_path / "part.png")
    assert imread(tmp_path / "part.png").shape[:2] == (720, 960)


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        ([], r"curve has shape \(0,\)"),
        ([[1.0, 2.0]], r"curve has shape \(1, 2\)"),
        ([1.0, float("nan")], "curve holds NaN"),
        ([float("inf")], "curve holds NaN or infinity"),
    ],
)
def test_refused(curve: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        loss_curve(curve)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "fastgd\[train\]"'):
        loss_curve([2, 1])


def test_pyplot_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import sys, fastgd.plot; assert 'matplotlib' not in sys.modules; "
        f"fastgd.plot.loss_curve([2, 1], path={str(tmp_path / 'a.png')!r}); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
