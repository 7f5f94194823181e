"""Filmstrips, animations and error curves, drawn without the global state of pyplot."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as imageio
import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from microevo.metrics import find, rows_of
from microevo.provenance import atomic

if TYPE_CHECKING:
    import pandas as pd

FIELD_COLOURS = "magma"
ERROR_COLOURS = "RdBu_r"
WIDTH = 9.0  # inches; at DPI this is twice the width of a GitHub page, sharp on any screen
DPI = 200
INK, FAINT = "#24292f", "#8c959f"
# Okabe and Ito's palette, distinguishable with any colour vision, less its yellow and black.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
BASELINE, REFERENCE = "Persistence", "Reference solver"
# These have the same colour in every picture, whichever of them it shows.
NETWORKS = ("FCN", "ConvLSTM", "PredRNN", "LocalNet", "PredRNN++")

Frames = Float[np.ndarray, "T H W"]


def spread_leads(horizon: int, most: int = 7) -> list[int]:
    """Round lead times from 1 to `horizon`, at most `most + 1` of them, for a row of pictures."""
    steps = (digit * 10**power for power in range(9) for digit in (1, 2, 5, 10, 15))
    step = next(step for step in steps if horizon <= step * (most - 1))
    return sorted({1, *range(step, horizon + 1, step), horizon})


def filmstrip(
    truth: Frames | None, forecast: Frames, leads: Sequence[int], title: str = "", spread: Frames | None = None
) -> Figure:
    """Draw truth, forecast and their difference at some lead times, or the forecast alone where the truth is not known.

    Below them is the spread of an ensemble: the error as far as its members know.

    The colours span the range of the truth. A forecast outside this range is shown in the last colour, and the
    colour bar then ends in an arrow.

    Args:
        truth: One field of one trajectory. Its first frame has the lead time 1.
        forecast: The forecast of the same frames.
        leads: Lead times to show [frames].
        title: Title of the figure.
        spread: The spread of the ensemble whose mean the forecast is.

    Raises:
        ValueError: A lead time is beyond the last frame.
    """
    outside = [lead for lead in leads if not 1 <= lead <= len(forecast)]
    if outside or not len(leads):
        raise ValueError(f"leads must lie between 1 and the {len(forecast)} frames given, got {list(leads)}.")
    shown = np.asarray(leads) - 1
    spread = None if spread is None else spread[shown]
    if truth is None:
        return _forecast_alone(forecast[shown], leads, title, spread)
    truth, forecast = truth[shown], forecast[shown]
    error = forecast - truth
    low, high, most = _ranges(truth, error)
    rows = 3 + (spread is not None)
    figure, axes = _grid(rows, len(leads), truth.shape[1:], title, _cell(len(leads)), captions=True)
    for column, lead in enumerate(leads):
        axes[0, column].set_title(f"lead {lead}", fontsize=9, color=INK, pad=4)
        above = _image(axes[0, column], truth[column], FIELD_COLOURS, low, high)
        _image(axes[1, column], forecast[column], FIELD_COLOURS, low, high)
        below = _image(axes[2, column], error[column], ERROR_COLOURS, -most, most)
        rmse = np.sqrt(np.square(error[column], dtype=np.float64).mean())
        axes[-1, column].set_xlabel(f"{'RMSE ' if column == 0 else ''}{rmse:.2g}", fontsize=8, color=INK, labelpad=3)
        if spread is not None:  # in the colours of the error
            _image(axes[3, column], spread[column], ERROR_COLOURS, -most, most)
    for row, name in enumerate(("truth", "forecast", "error", "spread")[:rows]):
        axes[row, 0].set_ylabel(name, fontsize=9, color=INK)
    _colour_bar(figure, above, axes[:2], _extend(forecast, low, high))
    _colour_bar(figure, below, axes[2:], _extend(error, -most, most))
    return figure


def _forecast_alone(forecast: Frames, leads: Sequence[int], title: str, spread: Frames | None) -> Figure:
    low, high, most = _ranges(forecast, np.zeros(1) if spread is None else spread)
    figure, axes = _grid(1 + (spread is not None), len(leads), forecast.shape[1:], title, _cell(len(leads)))
    for column, lead in enumerate(leads):
        axes[0, column].set_title(f"lead {lead}", fontsize=9, color=INK, pad=4)
        image = _image(axes[0, column], forecast[column], FIELD_COLOURS, low, high)
        if spread is not None:
            below = _image(axes[1, column], spread[column], ERROR_COLOURS, -most, most)
    axes[0, 0].set_ylabel("forecast", fontsize=9, color=INK)
    _colour_bar(figure, image, axes[:1])
    if spread is not None:
        axes[1, 0].set_ylabel("spread", fontsize=9, color=INK)
        _colour_bar(figure, below, axes[1:])
        figure.axes[-1].set_ylim(0, most)  # a spread is not negative
    return figure


def preview(frames: Sequence[Frames] | Frames, times: Sequence[float] | np.ndarray, title: str = "") -> Figure:
    """Draw trajectories over time, one in each row.

    Args:
        frames: One field of one trajectory, or of several with the same number of frames.
        times: Time of each frame [t0]. Eight frames, evenly spaced, are shown.
        title: Title of the figure.
    """
    rows = [frames] if isinstance(frames, np.ndarray) else list(frames)
    shown = np.unique(np.linspace(0, len(times) - 1, 8).round().astype(int))
    rows = [row[shown] for row in rows]
    low, high = (float(limit) for limit in (np.nanmin(rows), np.nanmax(rows)))
    figure, axes = _grid(len(rows), len(shown), rows[0].shape[1:], title, _cell(len(shown)))
    for column, frame in enumerate(shown):
        axes[0, column].set_title(f"{'t = ' if column == 0 else ''}{times[frame]:.4g}", fontsize=9, color=INK, pad=4)
        for row, trajectory in enumerate(rows):
            image = _image(axes[row, column], trajectory[column], FIELD_COLOURS, low, high)
    _colour_bar(figure, image, axes)
    return figure


def error_against_lead(table: "pd.DataFrame", metric: str) -> Figure:
    """Draw a metric against lead time: for each model the mean, and a band from the 10th to the 90th percentile.

    Args:
        table: Long table with the columns `model`, `metric`, `trajectory`, `lead` and `value`, such as `test.csv`.
        metric: Name of the metric; `rmse` is derived from `mse`.

    Raises:
        ValueError: The table does not have the metric.
    """
    from microevo.metrics.table import mean_at_leads  # takes its time to import

    figure = Figure(figsize=(6.4, 4.0), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    means = mean_at_leads(table, metric)
    known = find(metric)
    rows = table[table["metric"] == rows_of(metric)]
    styles = model_styles(means.index)
    leads = means.columns.to_numpy(dtype=float)
    for model, mean in means.iterrows():
        style = styles[str(model)]
        marker = "o" if len(leads) == 1 else None
        axes.plot(leads, mean, label=model, lw=1.8, marker=marker, zorder=3, **style)
        groups = rows[rows["model"] == model].groupby("lead")["value"]
        low, high = (groups.quantile(q).reindex(leads).to_numpy() for q in (0.1, 0.9))
        if known is not None and known.of == "mean":
            low, high = known.function(low), known.function(high)
        axes.fill_between(leads, low, high, color=style["color"], alpha=0.13, lw=0)
    frame_axes(axes, "lead time [frames]", metric.replace("_", " ") if known is None else known.title)
    axes.set_xlim(leads.min(), leads.max() + (len(leads) == 1))
    if known is None or known.better == "lower":
        axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure


def model_styles(models: Iterable[object]) -> dict[str, dict[str, Any]]:
    """Colour and line style of each model: fixed for `NETWORKS`, by name for others, grey for baseline and reference."""
    others = sorted({str(model) for model in models} - {BASELINE, REFERENCE, *NETWORKS})
    dashes = ("-", "-.", ":")
    styles: dict[str, dict[str, Any]] = {
        name: {"color": PALETTE[i % len(PALETTE)], "linestyle": dashes[i // len(PALETTE) % len(dashes)]}
        for i, name in enumerate([*NETWORKS, *others])
    }
    return {**styles, BASELINE: {"color": FAINT, "linestyle": "--"}, REFERENCE: {"color": INK, "linestyle": ":"}}


def frame_axes(axes: Axes, x: str, y: str) -> None:
    """Label a panel, and leave only the lines that carry information."""
    axes.set_xlabel(x, fontsize=9.5, color=INK)
    axes.set_ylabel(y, fontsize=9.5, color=INK)
    axes.tick_params(labelsize=8.5, colors=INK, length=3, width=0.7)
    axes.grid(axis="y", color="#d8dee4", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=FAINT, linewidth=0.7)


def animation(truth: Frames | None, forecast: Frames, path: str | Path, frames_per_second: float = 12.0) -> Path:
    """Write truth, forecast and error side by side as a GIF that repeats forever; without a truth the forecast alone."""
    path = Path(path)
    if truth is None:
        low, high, _ = _ranges(forecast, np.zeros(1))
        panels = [("forecast", forecast, FIELD_COLOURS, low, high)]
    else:
        error = forecast - truth
        low, high, most = _ranges(truth, error)
        panels = [
            ("truth", truth, FIELD_COLOURS, low, high),
            ("forecast", forecast, FIELD_COLOURS, low, high),
            (f"error, to \u00b1{most:.2g}", error, ERROR_COLOURS, -most, most),
        ]
    figure, axes = _grid(1, len(panels), forecast.shape[1:], " ", cell=2.2, bars=False)
    figure.set_dpi(100)
    canvas = FigureCanvasAgg(figure)
    images = []
    for axis, (name, frames, colours, lowest, highest) in zip(axes[0], panels, strict=True):
        axis.set_title(name, fontsize=9, color=INK, pad=4)
        images.append((_image(axis, frames[0], colours, lowest, highest), frames))
    (counter,) = figure.texts
    pictures = []
    for lead in range(1, len(forecast) + 1):
        for image, frames in images:
            image.set_data(frames[lead - 1])
        counter.set_text(f"lead {lead} of {len(forecast)}")
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    with atomic(path) as temporary:
        imageio.imwrite(temporary, np.stack(pictures), extension=".gif", duration=1000 / frames_per_second, loop=0)
    return path


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure in the format given by the suffix, complete or not at all. Its folder is made."""
    path = Path(path)
    with atomic(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix("."), facecolor="white")
    return path


def _grid(
    rows: int, columns: int, shape: tuple[int, ...], title: str, cell: float, bars: bool = True, captions: bool = False
) -> tuple[Figure, np.ndarray]:
    """A figure of `rows` x `columns` panels with the aspect ratio of `shape`, each `cell` inches wide.

    They are placed without a layout engine, so that the gaps are equal whatever the text around them.
    """
    left, right, gap = 0.3, 0.75 if bars else 0.12, 0.05
    above, below = 0.27 + 0.3 * bool(title), 0.25 if captions else 0.1
    tall = cell * shape[0] / shape[1]
    width = left + columns * (cell + gap) - gap + right
    height = above + rows * (tall + gap) - gap + below
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = np.empty((rows, columns), dtype=object)
    for row, column in np.ndindex(rows, columns):
        x, y = left + column * (cell + gap), height - above - tall - row * (tall + gap)
        axes[row, column] = figure.add_axes((x / width, y / height, cell / width, tall / height))
    if title:
        figure.text(left / width, 1 - 0.08 / height, title, fontsize=11, fontweight="bold", color=INK, va="top")
    return figure, axes


def _cell(columns: int) -> float:
    # A few columns do not fill the page, because wider images look coarse.
    return min((WIDTH - 1.05) / columns - 0.05, 1.9)


def _image(axes: Axes, frame: np.ndarray, colours: str, low: float, high: float) -> AxesImage:
    # Frames may be NaN after a model diverged. They are grey, to differ from the white background.
    colour_map = matplotlib.colormaps[colours].with_extremes(bad="#b0b0b0")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=FAINT, linewidth=0.5)
    return axes.imshow(frame, cmap=colour_map, vmin=low, vmax=high, origin="lower", interpolation="nearest")


def _colour_bar(figure: Figure, image: AxesImage, rows: np.ndarray, extend: str = "neither") -> None:
    """A colour bar as high as the rows it belongs to."""
    last, first = rows[-1, -1].get_position(), rows[0, -1].get_position()
    inch = 1 / figure.get_figwidth()
    box = (last.x1 + 0.1 * inch, last.y0, 0.11 * inch, first.y1 - last.y0)
    bar = figure.colorbar(image, cax=figure.add_axes(box), extend=extend, extendfrac=0.04)
    bar.ax.tick_params(labelsize=8, colors=INK, length=2.5, width=0.6)
    bar.ax.locator_params(nbins=5)
    bar.outline.set(edgecolor=FAINT, linewidth=0.5)


def _ranges(truth: np.ndarray, error: np.ndarray) -> tuple[float, float, float]:
    """Colour limits of the field and of the error, the latter never wider than the field's span."""
    low, high = float(np.nanmin(truth)), float(np.nanmax(truth))
    span = high - low or 1.0
    largest = np.abs(error[np.isfinite(error)]).max(initial=0.0)
    return low, max(high, low + 1e-12), float(min(largest, span)) or span


def _extend(values: np.ndarray, low: float, high: float) -> str:
    slack = 0.01 * (high - low)  # an overshoot that nobody could see gets no arrow
    below, above = bool((values < low - slack).any()), bool((values > high + slack).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]
