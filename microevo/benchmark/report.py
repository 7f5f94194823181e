"""Long table and cost table -> summary table, Markdown page and picture."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, NullFormatter

from microevo import plot
from microevo.metrics import mean_at_leads

TABLE_COLUMNS = ("process", "model", "seed", "metric", "trajectory", "lead", "value")
COST_COLUMNS = (
    "parameters",
    "multiply_adds",
    "seconds",
    "peak_memory_mb",
    "memory_method",
    "batch_size",
    "device",
)
COSTS = {
    "parameters": "parameters",
    "multiply_adds": "G multiply-adds",
    "seconds": "seconds",
    "peak_memory_mb": "peak memory [MB]",
}
FILES = ("results.csv", "summary.csv", "report.png", "report.md")


def summarise(table: pd.DataFrame, cost: pd.DataFrame, leads: Sequence[int]) -> pd.DataFrame:
    """One row per model, best mean RMSE first and Persistence last.

    Args:
        table: Long table with the columns `process`, `model`, `seed`, `metric`, `trajectory`, `lead` and
            `value`, of one process; `start` too if trajectories have several windows. Needs the metric `mse`;
            `ssim` is used if there.
        cost: The table of `microevo.benchmark.cost.measure_cost`.
        leads: Leads to show; those beyond the horizon are left out.

    Returns:
        Indexed by model: `parameters`, `multiply_adds`, `seconds`, `peak_memory_mb`, `rmse_<lead>`...,
        `rmse_mean` (over all leads), `ssim_<lead>`...

    Raises:
        ValueError: If the tables lack columns, or the models were not tested on the same forecasts.
    """
    _check(table, cost)
    rmse = mean_at_leads(table, "rmse")
    shown = sorted({lead for lead in leads if lead in rmse.columns}) or [int(rmse.columns.max())]
    columns = {f"rmse_{lead}": rmse[lead] for lead in shown}
    columns["rmse_mean"] = rmse.mean(axis="columns", skipna=False)
    if (table["metric"] == "ssim").any():
        ssim = mean_at_leads(table, "ssim")
        columns |= {f"ssim_{lead}": ssim[lead] for lead in shown}
    summary = cost.set_index("model")[list(COSTS)].join(pd.DataFrame(columns), how="right")
    summary = summary.sort_values("rmse_mean")
    order = sorted(summary.index, key=lambda model: model == plot.BASELINE)
    return summary.loc[order].rename_axis("model")


def to_markdown(summary: pd.DataFrame) -> str:
    """The summary as a GitHub table; the best value of each column is bold, Persistence's costs aside."""
    titles = {name: COSTS.get(name) or _score_title(name) for name in summary.columns}
    cells = {name: [_number(name, value) for value in summary[name]] for name in summary.columns}
    for name, column in summary.items():
        rivals = column.drop(plot.BASELINE, errors="ignore") if name in COSTS else column
        best = rivals.max() if str(name).startswith("ssim") else rivals.min()
        for row, (model, value) in enumerate(column.items()):
            if value == best and model in rivals.index:
                cells[str(name)][row] = f"**{cells[str(name)][row]}**"
    lines = ["| model | " + " | ".join(titles.values()) + " |", "|---|" + "---:|" * len(titles)]
    for row, model in enumerate(summary.index):
        lines.append(f"| {model} | " + " | ".join(column[row] for column in cells.values()) + " |")
    return "\n".join(lines)


def picture(table: pd.DataFrame, cost: pd.DataFrame) -> Figure:
    """RMSE and SSIM against lead, and mean RMSE against time, a panel each."""
    metrics = [metric for metric in ("rmse", "ssim") if metric == "rmse" or (table["metric"] == metric).any()]
    panels = len(metrics) + 1
    figure = Figure(figsize=(3.5 * panels, 3.5), dpi=plot.DPI, layout=ConstrainedLayoutEngine(wspace=0.06))
    axes = figure.subplots(1, panels)
    for panel, metric in zip(axes, metrics, strict=False):
        plot.draw_against_lead(panel, table, metric)
    _draw_trade(axes[-1], table, cost)
    legend = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    names = sorted(legend, key=lambda name: name == plot.BASELINE)
    figure.legend(
        [legend[name] for name in names],
        names,
        loc="outside upper center",
        ncols=min(len(names), 6),
        frameon=False,
        fontsize=9.5,
        labelcolor=plot.INK,
    )
    return figure


def _draw_trade(axes: Axes, table: pd.DataFrame, cost: pd.DataFrame) -> None:
    """Accuracy against time. Persistence is a line: as a point, its near zero time would stretch the axis."""
    scores = mean_at_leads(table, "rmse").mean(axis="columns", skipna=False)
    seconds = cost.set_index("model")["seconds"].to_dict()
    styles = plot.model_styles(scores.index)
    axes.set_xscale("log")
    models = [model for model in scores.index if model != plot.BASELINE]
    for model in models:
        axes.plot(seconds[model], scores[model], "o", ms=8, color=styles[model]["color"], mec="white", mew=0.8)
    if plot.BASELINE in scores.index:
        axes.axhline(scores[plot.BASELINE], lw=1.8, **styles[plot.BASELINE])
    powers = [math.log10(seconds[model]) for model in models] or [0.0]
    axes.set_xlim(10 ** math.floor(min(powers) - 0.1), 10 ** math.ceil(max(powers) + 0.1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    plot.frame_axes(axes, "seconds per forecast", "RMSE, mean over leads")
    axes.tick_params(axis="x", which="minor", length=2, width=0.5, color=plot.FAINT)
    finite = scores[scores < math.inf]  # NaN is not smaller: a diverged model is off the picture
    axes.set_ylim(0, 1.1 * max(finite, default=0.0) or 1.0)


def write_report(
    table: pd.DataFrame,
    cost: pd.DataFrame,
    leads: Sequence[int],
    folder: str | Path,
    title: str,
    notes: Sequence[str] = (),
    overwrite: bool = False,
) -> pd.DataFrame:
    """Write `results.csv` (the long table), `summary.csv`, `report.md` and `report.png`.

    Each file appears complete or not at all, and `report.md` last.

    Args:
        table: Long table, see `summarise`.
        cost: Cost table, see `summarise`.
        leads: Leads to show; those beyond the horizon are left out.
        folder: Where to write; made if needed.
        title: Heading of the page.
        notes: Further sentences about how the numbers came about, one list item each.
        overwrite: Replace an existing report.

    Returns:
        The summary.

    Raises:
        FileExistsError: If the folder holds a report already and `overwrite` is off.
    """
    folder = Path(folder)
    taken = [name for name in FILES if (folder / name).exists()]
    if taken and not overwrite:
        raise FileExistsError(f"{folder} already holds {', '.join(taken)}: choose another folder or overwrite it.")
    summary = summarise(table, cost, leads)
    page = _page(table, cost, summary, title, notes)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".report-", dir=folder) as drafts:
        draft = Path(drafts)
        table.to_csv(draft / "results.csv", index=False)
        summary.to_csv(draft / "summary.csv")
        plot.save(picture(table, cost), draft / "report.png")
        (draft / "report.md").write_text(page, encoding="utf-8")
        for name in FILES:
            (draft / name).replace(folder / name)
    return summary


def _check(table: pd.DataFrame, cost: pd.DataFrame) -> None:
    for name, given, needed in (("results", table, TABLE_COLUMNS), ("cost", cost, ("model", *COST_COLUMNS))):
        missing = sorted(set(needed) - set(given.columns))
        if missing:
            raise ValueError(f"The {name} table lacks the columns {', '.join(missing)}.")
    processes = sorted(map(str, table["process"].unique()))
    if len(processes) > 1:
        raise ValueError(f"A report is about one process, got {', '.join(processes)}: write one report for each.")
    tested, priced = set(table["model"]), list(cost["model"])
    if len(priced) != len(set(priced)) or not tested <= set(priced):
        raise ValueError(f"The cost table needs one row for each of {', '.join(sorted(tested))}, got {priced}.")
    keys = ["metric", *_forecast_columns(table), "lead"]
    scored = table[table["metric"].isin(("mse", "ssim"))][["model", *keys]].drop_duplicates()
    if (scored.groupby(keys).size() != len(tested)).any():
        raise ValueError("The models were not scored on the same forecasts: test all of them on the same windows.")


def _page(table: pd.DataFrame, cost: pd.DataFrame, summary: pd.DataFrame, title: str, notes: Sequence[str]) -> str:
    forecasts = len(table[_forecast_columns(table)].drop_duplicates())
    trajectories = table["trajectory"].nunique()
    horizon = table["lead"].max()
    seeds = table[table["seed"] >= 0].groupby("model")["seed"].unique()
    trained = "; ".join(f"{model} {', '.join(map(str, sorted(values)))}" for model, values in seeds.items())
    devices = " and ".join(map(str, cost["device"].unique()))
    batches = " and ".join(map(str, sorted(cost["batch_size"].unique())))
    methods = " and ".join(map(str, cost["memory_method"].unique()))
    counted = {"live tensors": "followed tensor by tensor, without scratch space inside an operation"}
    items = [
        f"Accuracy: {forecasts} forecasts of {horizon} frames from {trajectories} trajectories, the same for "
        "every model. Columns `at n` are the n-th frame forecast, `mean` is over all of them.",
        "RMSE is the root of the squared error averaged over forecasts, fields and pixels. The bands in the "
        "picture hold the middle 80 % of the forecasts.",
        "SSIM has a Gaussian 11 x 11 window and is averaged over the whole frame; other definitions differ.",
        f"Time and memory: measured on {devices}, batches of {batches}. Time is the median of repeated calls "
        "taken in turn, per forecast; memory is the peak of one call, weights and input included "
        f"({counted.get(methods, methods)}).",
        "Multiply-adds are those of convolutions, linear layers and attention for one whole forecast "
        f"({horizon} frames).",
        *([f"Seeds of training: {trained}."] if trained else []),
        *notes,
    ]
    if not (table["metric"] == "ssim").any():
        items = [item for item in items if not item.startswith("SSIM")]
    if plot.BASELINE in summary.index:
        items.append(f"{plot.BASELINE} repeats the last known frame: a model no better than that has learned nothing.")
    details = "\n".join(f"- {item}" for item in items)
    return (
        f"# {title}\n\n![Accuracy against lead and against time](report.png)\n\n{to_markdown(summary)}\n\n"
        f"## What was measured\n\n{details}\n"
    )


def _forecast_columns(table: pd.DataFrame) -> list[str]:
    return [name for name in ("trajectory", "start") if name in table.columns]


def _score_title(name: str) -> str:
    metric, lead = name.split("_")
    return f"{metric.upper()} {'mean' if lead == 'mean' else f'at {lead}'}"


def _number(name: str, value: float | int) -> str:
    if math.isnan(value):
        return "NaN"
    if name == "parameters":
        return f"{value / 1e6:.2f} M" if value >= 1e4 else f"{value:.0f}"
    if name == "multiply_adds":
        return f"{value / 1e9:,.0f}" if value >= 1e11 else f"{value / 1e9:.3g}"
    if name == "peak_memory_mb" and value >= 10:
        return f"{value:,.0f}"
    if name.startswith("ssim"):
        return f"{value:.4f}"
    return f"{value:.3g}"
