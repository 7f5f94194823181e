"""The figure of a protocol for a paper: scores against lead time, and accuracy against time."""

import hashlib
import math
import textwrap
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from microevo import plot
from microevo.benchmark.competitors import BASELINE
from microevo.benchmark.leaderboard import CRPS, SPREAD_SKILL, Leaderboard, ScoreCurves

WORSE = 3.0  # times the score of the baseline: means above it leave the panels


def figure_name(protocol: str) -> str:
    """File of a protocol's figure; a name that cannot be read back from it gets a digest, so that no two share a file."""
    letters = protocol.replace("->", "-to-")
    name = "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in letters)
    if name.replace("-to-", "->") != protocol:
        name += "-" + hashlib.sha256(protocol.encode()).hexdigest()[:8]
    return name + ".png"


def figure(board: Leaderboard, seconds: Mapping[str, float]) -> Figure:
    """RMSE and SSIM against lead time with their confidence bands, and mean RMSE against time where it was measured.

    With ensembles there is a second row: CRPS of all forecasts, and the spread-skill ratio of the ensembles.
    """
    metrics = [metric for name in ("rmse", "ssim") if (metric := board.metric(name)) is not None]
    panels = len(metrics) + bool(seconds)
    below = [metric for key in (CRPS, SPREAD_SKILL) if (metric := board.metric(key.name)) is not None]
    panels, rows = max(panels, len(below)), 1 + bool(below)
    made = Figure(figsize=(3.5 * panels + 0.5, 3.5 * rows), dpi=plot.DPI, layout=ConstrainedLayoutEngine(wspace=0.06))
    axes, *others = made.subplots(rows, panels, squeeze=False)
    lower = others[0] if others else []
    for panel in (*axes[len(metrics) + bool(seconds) :], *lower[len(below) :]):
        panel.set_axis_off()
    for panel, metric in zip(lower, below, strict=False):
        draw_against_lead(panel, metric)
        if metric.score.key == SPREAD_SKILL:
            panel.axhline(1, lw=1, color=plot.INK, ls="--", zorder=2)
    for panel, metric in zip(axes, metrics, strict=False):
        draw_against_lead(panel, metric)
    if seconds:
        draw_against_seconds(axes[len(metrics)], metrics[0], seconds)
    handles, names = axes[0].get_legend_handles_labels()
    made.legend(
        handles,
        names,
        loc="outside upper center",
        ncols=min(len(names), 6),
        frameon=False,
        fontsize=9.5,
        labelcolor=plot.INK,
    )
    return made


def draw_against_lead(axes: Axes, metric: ScoreCurves) -> None:
    """Means against lead time, with their confidence bands."""
    styles = plot.model_styles(metric.curves)
    for name, curve in metric.curves.items():
        mean, low, high = curve.at
        leads = range(1, len(mean) + 1)
        axes.plot(leads, mean, label=name, lw=1.8, zorder=3, marker="o" if len(mean) == 1 else None, **styles[name])
        axes.fill_between(leads, low, high, color=styles[name]["color"], alpha=0.15, lw=0)
    plot.frame_axes(axes, "lead time [frames]", metric.score.label)
    axes.set_xlim(1, max(2, len(mean)))
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    if metric.score.better == "lower":
        _limit(axes, {name: curve.at for name, curve in metric.curves.items()})


def draw_against_seconds(axes: Axes, rmse: ScoreCurves, seconds: Mapping[str, float]) -> None:
    """Accuracy against time. Persistence is a line: as a point, its near zero time would stretch the axis."""
    styles = plot.model_styles(rmse.curves)
    axes.set_xscale("log")
    names = [name for name in rmse.curves if name in seconds and name != BASELINE]
    intervals = {name: rmse.curves[name].mean for name in rmse.curves if name in (*names, BASELINE)}
    for name in names:
        interval = intervals[name]
        around = [[max(interval.mean - interval.low, 0.0)], [max(interval.high - interval.mean, 0.0)]]
        axes.errorbar(
            seconds[name], interval.mean, yerr=around, fmt="o", ms=7, color=styles[name]["color"], mec="white", mew=0.8
        )
    if BASELINE in rmse.curves:
        axes.axhline(intervals[BASELINE].mean, lw=1.8, **styles[BASELINE])
    powers = [math.log10(seconds[name]) for name in names] or [0.0]
    axes.set_xlim(10 ** math.floor(min(powers) - 0.1), 10 ** math.ceil(max(powers) + 0.1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    plot.frame_axes(axes, "seconds per forecast", "RMSE, mean over lead times")
    axes.tick_params(axis="x", which="minor", length=2, width=0.5, color=plot.FAINT)
    _limit(axes, {name: np.array([[of.mean], [of.low], [of.high]]) for name, of in intervals.items()})


def _limit(axes: Axes, curves: Mapping[str, Float[np.ndarray, "3 T"]]) -> None:
    """From 0 to the highest value, but not far beyond the baseline: one diverged model would flatten all others.

    Curves are means with both ends of their intervals. Those that leave the panel are named above it.
    """
    most = WORSE * curves[BASELINE][0].max() if BASELINE in curves else math.inf
    if not most > 0:  # nothing moves, or the baseline has no mean
        most = math.inf
    beyond = [name for name, at in curves.items() if (at[0] > most).any()]
    inside = np.concatenate([np.ravel(at) for name, at in curves.items() if name not in beyond] or [np.zeros(1)])
    top = min(inside[np.isfinite(inside)].max(initial=0), most) or 1.0
    axes.set_ylim(-0.025 * top, 1.05 * top)  # lines and markers at 0 are seen whole
    if beyond:
        text = textwrap.fill(f"beyond this axis: {', '.join(beyond)}", 40)
        axes.set_title(text, fontsize=8.5, color=plot.INK, loc="left")
