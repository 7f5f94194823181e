"""Published and simulated frames at the same ages, above what is measured on them against time."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from microevo.plot import DPI, FAINT, FIELD_COLOURS, INK, PALETTE, WIDTH, frame_axes
from microevo.validation.published import Expected

SHOWN = 7  # frames of each trajectory, the last one beyond the published frames

Frames = Float[np.ndarray, "_ H W"]  # trajectories of different lengths
Curves = Callable[[Frames], dict[str, Float[np.ndarray, " times"]]]


def comparison_picture(
    title: str,
    published: Sequence[tuple[str, Frames]],
    simulated: Sequence[tuple[str, Frames]],
    curves: Curves,
    expected: Sequence[Mapping[str, Expected]],
    others: Sequence[Frames] = (),
) -> Figure:
    """A row of frames for each trajectory, and a panel for each curve.

    Args:
        title: Heading.
        published: Name and frames of each published trajectory; where they end, panels stay empty.
        simulated: Name and frames of simulated trajectories, aligned with the published ones.
        curves: What is drawn against time.
        expected: Published values and acceptance intervals of each case, for one case or for each of the `simulated`; those
            called `<curve> at <frame>` are drawn.
        others: Further simulated trajectories, as thin lines.
    """
    sheet = [(f"published {name}".strip(), frames, INK) for name, frames in published]
    sheet += [(name, frames, PALETTE[i % len(PALETTE)]) for i, (name, frames) in enumerate(simulated)]
    length = max(len(frames) for _, frames, _ in sheet)
    covered = max((len(frames) for _, frames in published), default=length)
    times = np.unique([*np.linspace(0, covered - 1, SHOWN - 1).round().astype(int), length - 1])
    low, high = (float(limit([limit(frames) for _, frames, _ in sheet])) for limit in (np.min, np.max))
    named = [(name, curves(frames), colour) for name, frames, colour in sheet]
    thin = [curves(frames) for frames in others]

    # Of the page, in inches: heading, frames, curves.
    cell, panel, above = (WIDTH - 0.4) / len(times), 2.0, 0.5
    panels = (len(named[0][1]) + 1) // 2
    height = above + cell * len(sheet) + 0.4 + panel * panels + 0.1
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    figure.suptitle(title, x=0.02, y=1 - 0.1 / height, ha="left", va="top", fontsize=11, fontweight="bold", color=INK)
    edges = {
        "left": 0.04,
        "right": 0.995,
        "top": 1 - above / height,
        "bottom": 1 - (above + cell * len(sheet)) / height,
    }
    grid = GridSpec(len(sheet), len(times), figure, wspace=0.04, hspace=0.04, **edges)
    for row, (name, frames, colour) in enumerate(sheet):
        for column, time in enumerate(times):
            axes = figure.add_subplot(grid[row, column])
            _show(axes, frames[time] if time < len(frames) else None, low, high)
            if row == 0:
                axes.set_title(f"{'frame ' if column == 0 else ''}{time}", fontsize=9, color=INK, pad=3)
            if column == 0:
                axes.set_ylabel(name, fontsize=8, color=colour)

    edges = {"left": 0.08, "right": 0.985, "top": (panel * panels + 0.1) / height, "bottom": 0.6 / height}
    grid = GridSpec(panels, 2, figure, wspace=0.2, hspace=0.45, **edges)
    for i, quantity in enumerate(named[0][1]):
        axes = figure.add_subplot(grid[i // 2, i % 2])
        for curve in thin:
            axes.plot(curve[quantity], color=FAINT, lw=0.6, alpha=0.7)
        for j, (name, found, colour) in enumerate(named):
            measured = j < len(published)
            axes.plot(
                found[quantity], color=colour, label=name, lw=2.0 if measured else 1.2, zorder=4 if measured else 3
            )
        for j, case in enumerate(expected):
            _mark(axes, quantity, case, INK if len(expected) == 1 else PALETTE[j % len(PALETTE)])
        frame_axes(axes, "frame", quantity)
        axes.set_xlim(-1, length)
        if i == 0:
            axes.legend(frameon=False, fontsize=7.5, labelcolor=INK)
    note = "dots and bars: published values, and acceptance intervals for the mean of the simulated runs; grey: further runs"
    figure.text(0.02, 0.08 / height, note, fontsize=7.5, color=FAINT)
    return figure


def _mark(axes: Axes, quantity: str, expected: Mapping[str, Expected], colour: str) -> None:
    """Published values as dots, acceptance intervals as bars."""
    for name, row in expected.items():
        time = name.removeprefix(f"{quantity} at ")
        if not time.isdigit():
            continue
        if row.low is not None and row.high is not None:
            axes.vlines(int(time), row.low, row.high, color=colour, lw=1.0, alpha=0.6, zorder=5)
        if row.published is not None:
            axes.plot(int(time), row.published, "o", color=colour, ms=3.5, mec="white", mew=0.6, zorder=6)


def _show(axes: Axes, frame: Float[np.ndarray, "H W"] | None, low: float, high: float) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=FAINT, linewidth=0.5)
    if frame is None:
        axes.text(0.5, 0.5, "no frame\nin the sample", ha="center", va="center", fontsize=7, color=FAINT)
        axes.set_aspect("equal")
    else:
        axes.imshow(
            frame,
            cmap=matplotlib.colormaps[FIELD_COLOURS],
            vmin=low,
            vmax=high,
            origin="lower",
            interpolation="nearest",
        )
