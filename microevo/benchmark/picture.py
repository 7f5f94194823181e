"""Pictures of a benchmark for papers: scores against lead, and accuracy against time."""

import math
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from microevo import plot
from microevo.benchmark.results import Results
from microevo.benchmark.summary import FLOOR, Curves, higher_is_better, title_of
from microevo.provenance import fingerprint

WORSE = 3.0  # times the floor's score: what is higher leaves the panels of a picture


def picture_name(protocol: str) -> str:
    """File of a protocol's picture; a name that cannot be read back from it gets a digest, so that no two share a file."""
    letters = protocol.replace("->", "-to-")
    name = "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in letters)
    if name.replace("-to-", "->") != protocol:
        name += "-" + fingerprint(protocol)[:8]
    return name + ".png"


def picture(results: Results, protocol: str) -> Figure:
    """RMSE and SSIM against lead with their confidence bands, and mean RMSE against time where cost was measured."""
    pixel = results.about["protocols"][protocol]["pixel"]
    metrics = ["rmse", *(["ssim"] if "ssim" in pixel else [])]
    cost = results.cost
    panels = len(metrics) + (not cost.empty)
    figure = Figure(figsize=(3.5 * panels + 0.5, 3.5), dpi=plot.DPI, layout=ConstrainedLayoutEngine(wspace=0.06))
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for panel, metric in zip(axes, metrics, strict=False):
        curves = Curves.read(results.table, protocol, metric, results.groups(protocol))
        _draw(panel, curves, title_of(metric))
        if metric == "rmse" and not cost.empty:
            _draw_trade(axes[-1], curves, cost)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside upper center",
        ncols=min(len(names), 6),
        frameon=False,
        fontsize=9.5,
        labelcolor=plot.INK,
    )
    return figure


def _draw(axes: Axes, curves: Curves, title: str) -> None:
    styles = plot.model_styles(curves.forecasters)
    for model in curves.forecasters:
        mean = curves.mean(model)
        leads = range(1, len(mean) + 1)
        low, high = curves.band(model)
        axes.plot(leads, mean, label=model, lw=1.8, zorder=3, marker="o" if len(mean) == 1 else None, **styles[model])
        axes.fill_between(leads, low, high, color=styles[model]["color"], alpha=0.15, lw=0)
    plot.frame_axes(axes, "lead [frames]", title)
    axes.set_xlim(1, max(2, len(mean)))
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    if not higher_is_better(curves.metric):
        _limit(axes, {model: (curves.mean(model), *curves.band(model)) for model in curves.forecasters})


def _draw_trade(axes: Axes, curves: Curves, cost: pd.DataFrame) -> None:
    """Accuracy against time. Persistence is a line: as a point, its near zero time would stretch the axis."""
    seconds = cost.set_index("model")["seconds"].to_dict()
    styles = plot.model_styles(curves.forecasters)
    axes.set_xscale("log")
    models = [model for model in curves.forecasters if model in seconds and model != FLOOR]
    intervals = {model: curves.interval(model) for model in curves.forecasters if model in (*models, FLOOR)}
    for model in models:
        interval = intervals[model]
        around = [[max(interval.mean - interval.low, 0.0)], [max(interval.high - interval.mean, 0.0)]]
        axes.errorbar(
            seconds[model],
            interval.mean,
            yerr=around,
            fmt="o",
            ms=7,
            color=styles[model]["color"],
            mec="white",
            mew=0.8,
        )
    if FLOOR in curves.forecasters:
        axes.axhline(intervals[FLOOR].mean, lw=1.8, **styles[FLOOR])
    powers = [math.log10(seconds[model]) for model in models] or [0.0]
    axes.set_xlim(10 ** math.floor(min(powers) - 0.1), 10 ** math.ceil(max(powers) + 0.1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    plot.frame_axes(axes, "seconds per forecast", "RMSE, mean over leads")
    axes.tick_params(axis="x", which="minor", length=2, width=0.5, color=plot.FAINT)
    _limit(axes, {model: (interval.mean, interval.low, interval.high) for model, interval in intervals.items()})


def _limit(axes: Axes, drawn: Mapping[str, tuple[Any, Any, Any]]) -> None:
    """From 0 to the highest value, but not far beyond the floor: one diverged model would flatten all others.

    Args:
        axes: The panel.
        drawn: Means of each model and both ends of their intervals. Models that leave the panel are named above it.
    """
    values = {model: np.array(of, dtype=np.float64) for model, of in drawn.items()}
    most = WORSE * values[FLOOR][0].max() if FLOOR in values else math.inf
    if not most > 0:  # nothing moves, or the floor has no mean
        most = math.inf
    beyond = [model for model, of in values.items() if (of[0] > most).any()]
    inside = np.concatenate([np.ravel(of) for model, of in values.items() if model not in beyond] or [np.zeros(1)])
    top = min(inside[np.isfinite(inside)].max(initial=0), most) or 1.0
    axes.set_ylim(-0.025 * top, 1.05 * top)  # lines and markers at 0 are seen whole
    if beyond:
        told = textwrap.fill(f"beyond this axis: {', '.join(beyond)}", 40)
        axes.set_title(told, fontsize=8.5, color=plot.INK, loc="left")
