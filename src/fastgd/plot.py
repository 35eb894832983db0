"""Pictures of training.

Drawn with matplotlib, which is imported when a picture is asked for. Figures are made without
pyplot: no window, no display and no state of the caller's is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["loss_curve"]

SIZE = (8.0, 5.0)  # inches
DPI = 150  # so a picture is 1200 x 750 pixels
INK, QUIET, GRID, LINE = "#1c2733", "#5f6b7a", "#e3e8ee", "#1769aa"


def loss_curve(
    curve: Sequence[float],
    *,
    ax: Axes | None = None,
    path: str | Path | None = None,
    title: str = "Loss by epoch",
    note: str = "",
    ylabel: str = "mean training objective",
    log: bool | None = None,
) -> Axes:
    """Draw the training objective against the epoch.

    Parameters
    ----------
    curve : sequence of float, shape (n_epochs,)
        Objective of each epoch, as in the attribute `loss_curve_` of an estimator.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new figure of 8 x 5 inches, 1200 x 750 pixels when saved.
    path : str or Path, optional
        File to save the figure to, in the format its name ends in; by default none.
    title : str, default="Loss by epoch"
        First line above the picture.
    note : str, optional
        Second line above the picture, smaller.
    ylabel : str, default="mean training objective"
        What the vertical axis shows.
    log : bool, optional
        Whether the vertical axis is logarithmic; by default it is where all values are positive
        and the largest is more than 10 times the smallest.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on; its ``figure`` is the whole picture.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If `curve` is empty, has more than one dimension or holds NaN or infinity.

    Examples
    --------
    >>> ax = loss_curve([0.9, 0.4, 0.2, 0.15], title="Four epochs")
    >>> ax.get_xlabel()
    'epoch'
    """
    values = np.asarray(curve, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"curve has shape {values.shape}; it must be one number for each epoch")
    if not np.isfinite(values).all():
        raise ValueError("curve holds NaN or infinity; it must hold finite numbers")
    if ax is None:
        ax = _new_axes()
    if log is None:
        log = bool(values.min() > 0 and values.max() > 10 * values.min())
    _draw(ax, values, log)
    _label(ax, title, note, ylabel)
    if path is not None:
        ax.figure.figure.savefig(path, dpi=DPI)  # the figure that a subfigure is part of
    return ax


def _new_axes() -> Axes:
    """Return the axes of a new figure that needs no display."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ImportError(
            f"drawing needs matplotlib, which cannot be imported ({error}); "
            f'install it with: pip install "fastgd[train]"'
        ) from error
    layout = ConstrainedLayoutEngine(w_pad=0.2, h_pad=0.2)  # inches
    figure = Figure(figsize=SIZE, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    axes: Axes = figure.add_subplot()
    return axes


def _draw(ax: Axes, values: np.ndarray[Any, np.dtype[np.float64]], log: bool) -> None:
    """Draw the line, its end points and their values."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    epochs = np.arange(1, len(values) + 1)
    if log:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    few = len(values) <= 40
    ax.plot(
        epochs,
        values,
        color=LINE,
        linewidth=2.2,
        marker="o" if few else "",
        markersize=4.5,
        solid_capstyle="round",
        clip_on=False,
        zorder=3,
    )
    ax.margins(x=0.02, y=0.12)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    for index in sorted({0, len(values) - 1}):
        ax.plot(
            epochs[index],
            values[index],
            "o",
            color=LINE,
            markersize=7.5,
            markeredgecolor="white",
            markeredgewidth=1.5,
            clip_on=False,
            zorder=4,
        )
        last = index == len(values) - 1 and index > 0
        ax.annotate(
            f"{values[index]:.4g}",
            (epochs[index], values[index]),
            xytext=(0, 11) if last else (11, 0),
            textcoords="offset points",
            ha="right" if last else "left",
            va="bottom" if last else "center",
            color=INK,
            fontsize=10.5,
            fontweight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},  # clear of the grid
            zorder=5,
        )


def _label(ax: Axes, title: str, note: str, ylabel: str) -> None:
    """Write the words and tidy the frame."""
    ax.set_xlabel("epoch", color=QUIET, fontsize=11)
    ax.set_ylabel(ylabel, color=QUIET, fontsize=11)
    ax.set_title(
        title, loc="left", color=INK, fontsize=14, fontweight="bold", pad=28 if note else 12
    )
    if note:
        ax.annotate(
            note,
            (0, 1),
            xycoords="axes fraction",
            xytext=(0, 10),
            textcoords="offset points",
            color=QUIET,
            fontsize=10.5,
        )
    ax.grid(True, which="major", axis="y", color=GRID, linewidth=0.9)
    ax.set_axisbelow(True)
    ax.tick_params(which="both", colors=QUIET, labelsize=10, length=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color("#b8c2cc")
