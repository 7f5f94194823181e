"""The two pictures of a sweep: which parameters matter, and what the good trials have in common."""

from collections.abc import Collection, Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from pandas.api.types import is_numeric_dtype

from microevo.plot import DPI, FAINT, INK, PALETTE, WIDTH, frame_axes

COLOURS = "viridis_r"
MOST = 5  # values that are all written at their axis; of more the first and the last


def bars(values: Mapping[str, float], title: str) -> Figure:
    """Draw a number for each name, the largest on top."""
    names = sorted(values, key=lambda name: values[name])
    figure = Figure(figsize=(6.4, 1.0 + 0.32 * len(names)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.barh(names, [values[name] for name in names], color=PALETTE[0], height=0.6, zorder=3)
    frame_axes(axes, title, "")
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color="#d8dee4", lw=0.6)
    return figure


def parallel_coordinates(trials: pd.DataFrame, logarithmic: Collection[str], maximize: bool) -> Figure:
    """Draw a line for each trial through all its settings to its result; the better, the darker.

    Args:
        trials: A row for each trial: the settings, in the last column the result.
        logarithmic: Settings with a logarithmic axis. So has a result that spans more than a factor of ten.
        maximize: Whether more is better.
    """
    results = trials.iloc[:, -1].to_numpy(dtype=float)
    if results.min() > 0 and results.max() > 10 * results.min():
        logarithmic = {*logarithmic, trials.columns[-1]}
    places = np.empty(trials.shape)
    figure = Figure(figsize=(WIDTH, 4.2), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for column, name in enumerate(trials.columns):
        places[:, column], ticks = _places(trials[name], name in logarithmic)
        axes.axvline(column, color=FAINT, lw=0.7, zorder=1)
        for place, text in ticks.items():
            label = axes.text(column + 0.02, place, text, fontsize=8, color=INK, va="center", zorder=4)
            label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    rows = np.argsort(results if maximize else -results)  # the best last, on top
    lines = [np.column_stack([np.arange(trials.shape[1]), places[row]]) for row in rows]
    shades = matplotlib.colormaps[COLOURS](np.linspace(0, 1, len(lines)))
    axes.add_collection(LineCollection(lines, colors=shades, lw=1.4, alpha=0.85, zorder=2))
    axes.set(xlim=(-0.1, trials.shape[1] - 0.75), ylim=(-0.06, 1.06), yticks=[])
    axes.set_xticks(range(trials.shape[1]), [_broken(name) for name in trials.columns], fontsize=8, color=INK)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _places(values: pd.Series, logarithmic: bool) -> tuple[np.ndarray, dict[float, str]]:
    """Where each value lies on an axis from 0 to 1, and what is written there."""
    if not is_numeric_dtype(values):
        names = sorted(values.astype(str).unique())
        middles = {name: (i + 0.5) / len(names) for i, name in enumerate(names)}
        return values.astype(str).map(middles).to_numpy(dtype=float), {place: name for name, place in middles.items()}
    numbers = values.to_numpy(dtype=float)
    scaled = np.log(numbers) if logarithmic else numbers
    low, high = scaled.min(), scaled.max()
    places = (scaled - low) / (high - low) if high > low else np.full(len(numbers), 0.5)
    ticks = {place: f"{number:.3g}" for place, number in zip(places, numbers, strict=True)}
    return places, ticks if len(ticks) <= MOST else {place: ticks[place] for place in (0.0, 1.0)}


def _broken(name: str) -> str:
    """A long name with dots, its last part on a line of its own."""
    first, dot, last = name.rpartition(".")
    return f"{first}.\n{last}" if dot else name
