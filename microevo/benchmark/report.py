"""Results -> summary table, Markdown and pictures for papers."""

import math
from collections.abc import Sequence

import pandas as pd

from microevo import plot
from microevo.benchmark.competitors import TRUTH
from microevo.benchmark.picture import picture, picture_name
from microevo.benchmark.results import Results
from microevo.benchmark.summary import (
    CEILING,
    FEWEST,
    FLOOR,
    LEVEL,
    Column,
    Curves,
    higher_is_better,
    leaderboard,
    metrics_of,
    not_told_apart,
    single_runs,
    title_of,
    undefined,
)
from microevo.benchmark.verdict import of_single_runs, of_undefined, reached
from microevo.provenance import write_file

COSTS = {
    "parameters": "parameters",
    "multiply_adds": "G multiply-adds",
    "multiply_adds_block": "of one block",
    "seconds": "s / forecast",
    "forecasts_per_second": "forecasts / s",
    "training_seconds": "s / training step",
    "peak_memory_mb": "peak memory [MB]",
    "rmse": "RMSE, the first windows",
}


def write_report(results: Results, leads: Sequence[int]) -> pd.DataFrame:
    """Write `summary.csv`, `report.md` and a picture for each protocol into the folder of the results.

    Args:
        results: The benchmark; nothing is computed again.
        leads: Leads of the tables; those beyond a horizon are left out.

    Returns:
        The summary: a row for each protocol, model, metric and lead (0 is the mean over all leads), with the confidence
        interval of the mean.
    """
    boards = []
    for name, about in results.about["protocols"].items():
        boards.append(
            leaderboard(results.table, name, about["horizon"], leads, metrics_of(about), results.groups(name))
        )
        if not boards[-1].empty:
            plot.save(picture(results, name), results.folder / picture_name(name))
    summary = pd.concat(boards, ignore_index=True)
    write_file(results.folder / "summary.csv", summary.to_csv(index=False))
    write_file(results.folder / "report.md", markdown(results, summary))
    return summary


def markdown(results: Results, summary: pd.DataFrame) -> str:
    """The whole page for GitHub or a paper's supplement."""
    about = results.about
    parts = [f"# Benchmark: {', '.join(sorted({p['process'] for p in about['protocols'].values()}))}"]
    for name, protocol in about["protocols"].items():
        board = summary[summary["protocol"] == name]
        left_out = [label for label in protocol["entries"] if label not in results.complete(name)]
        missing = (
            f"**Left out**, since their forecasts are not complete: {', '.join(left_out)}. Run the benchmark again."
        )
        if board.empty:
            parts += [f"## {name}", missing]
            continue
        count, independent = len(protocol["windows"]), int(board["trajectories"].max())
        parts += [
            f"## {name}",
            f"{protocol['n_past']} frames shown, {protocol['horizon']} asked, {count} forecast{'s' * (count != 1)} from "
            f"{independent} {'trajectories' if independent > 1 else 'trajectory'} of `{protocol['store']}`, "
            f"{' x '.join(map(str, protocol['image_shape']))} pixels. Protocol and data: `{protocol['digest']}`.",
            *([f"**Note:** {protocol['note']}"] if protocol["note"] else []),
            *([missing] if left_out else []),
            f"![{name}]({picture_name(name)})",
            table(board, _columns(board)),
            *_sentences(results, name, board),
            *_undefined(results, name),
            *_further(board, metrics_of(protocol)),
        ]
    if not results.cost.empty:
        parts += ["## Cost", *_cost(results.cost)]
    parts += ["## What was measured", _definitions(summary)]
    return "\n\n".join(parts) + "\n"


def table(board: pd.DataFrame, columns: Sequence[tuple[str, int]]) -> str:
    """A leaderboard as a GitHub table; the best model of a column is bold, and means have their intervals, if there are any.

    Args:
        board: Rows of one protocol.
        columns: Metric and lead of each column; the lead 0 is the mean over all leads.
    """
    models = [model for model in dict.fromkeys(board["model"]) if model != TRUTH]
    cells = board.set_index(["metric", "lead", "model"]).sort_index()
    lines = ["| model | " + " | ".join(_title(*column) for column in columns) + " |", "|---|" + "---:|" * len(columns)]
    best: dict[tuple[str, int], float] = {}
    for metric, lead in columns:
        means: pd.Series = cells.loc[(metric, lead), "mean"]  # type: ignore[assignment]
        rivals = means.drop(CEILING, errors="ignore").dropna()  # to beat that one is not expected
        best[metric, lead] = float(rivals.max() if higher_is_better(metric) else rivals.min())
    for model in models:
        row = []
        for metric, lead in columns:
            cell: pd.Series = cells.loc[(metric, lead, model)]  # type: ignore[index]
            text = f"{'≥ ' * bool(cell['censored'] > 0)}{cell['mean']:.3g}"
            if lead == 0 and math.isfinite(cell["mean"]) and cell["trajectories"] > 1:
                text += f" ({cell['low']:.3g} to {cell['high']:.3g})"
            row.append(f"**{text}**" if cell["mean"] == best[metric, lead] and model != CEILING else text)
        lost = int(cells.loc[(*columns[0], model), "diverged"])
        name = f"{model} ({lost} not finite)" if lost else model
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def text_table(summary: pd.DataFrame, protocol: str) -> str:
    """The leaderboard of a protocol for a terminal."""
    board = summary[summary["protocol"] == protocol]
    columns = _columns(board)
    cells = board.set_index(["model", "metric", "lead"])["mean"]
    models = [model for model in dict.fromkeys(board["model"]) if model != TRUTH]
    text = [["", *(_title(*column) for column in columns)]]
    text += [[model, *(f"{cells[(model, *column)]:.3g}" for column in columns)] for model in models]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in text
    )


def _columns(board: pd.DataFrame) -> list[tuple[str, int]]:
    """RMSE at each lead and on average, and the two others that most readers ask for."""
    leads = sorted(set(board.loc[board["metric"] == "rmse", "lead"]) - {0})
    others = [name for name in ("ssim", "correlation_time_0.9") if name in set(board["metric"])]
    return [("rmse", lead) for lead in [*leads, 0]] + [(name, 0) for name in others]


def _further(board: pd.DataFrame, metrics: Sequence[Column]) -> list[str]:
    """All other metrics, one in each row, on average over leads."""
    models = [model for model in dict.fromkeys(board["model"]) if model != TRUTH]
    metrics = [metric for metric in metrics if metric.name in set(board["metric"])]  # an older table may lack one
    means = board[board["lead"] == 0].set_index(["metric", "model"])["mean"].sort_index()
    parts = []
    kinds = (
        ("Other pixel metrics", [m for m in metrics if not (m.physical or m.value or m.name in ("rmse", "ssim"))]),
        ("Physical quantities, error of the forecast", [m for m in metrics if m.physical]),
    )
    for heading, chosen in kinds:
        if not chosen:
            continue
        lines = [
            "| mean over leads, or of the whole forecast | " + " | ".join(models) + " |",
            "|---|" + "---:|" * len(models),
        ]
        for metric in chosen:
            values = {model: float(means[metric.name, model]) for model in models}
            rivals = [value for model, value in values.items() if model != CEILING and not math.isnan(value)]
            best = (max if metric.higher_is_better else min)(rivals, default=math.nan)
            cells = [f"**{v:.3g}**" if v == best and m != CEILING else f"{v:.3g}" for m, v in values.items()]
            lines.append(f"| {metric.title}{unit_of(metric)} | " + " | ".join(cells) + " |")
        parts.append(_folded(heading, lines))
    if physical := [metric for metric in metrics if metric.value]:
        sides = [side for side in (TRUTH, *models) if side in set(board["model"])]  # an interruption may leave no truth
        lines = [
            "| mean over leads, or of the whole forecast | " + " | ".join(sides) + " |",
            "|---|" + "---:|" * len(sides),
        ]
        for metric in physical:
            cells = [f"{means[metric.name, model]:.3g}" for model in sides]
            lines.append(f"| {metric.title}{unit_of(metric)} | " + " | ".join(cells) + " |")
        parts.append(_folded("Physical quantities, truth and forecasts side by side", lines))
    return parts


def _folded(heading: str, lines: Sequence[str]) -> str:
    return f"<details><summary>{heading}</summary>\n\n" + "\n".join(lines) + "\n\n</details>"


def unit_of(metric: Column) -> str:
    """A metric's unit behind its title, nothing if it has none."""
    return f" [{metric.unit}]" if metric.unit != "1" else ""


def _sentences(results: Results, protocol: str, board: pd.DataFrame) -> list[str]:
    """What the table does not say by itself."""
    curves = Curves.read(results.table, protocol, "rmse", results.groups(protocol))
    sentences = []
    if curves.independent == 1:
        sentences.append(
            "A single trajectory tells nothing about others: no intervals, and no two models are told apart."
        )
    elif curves.independent < FEWEST:
        sentences.append(
            f"{curves.independent} trajectories are too few to tell models apart: at least {FEWEST} could, since of fewer all "
            f"differences have one sign by chance too often."
        )
    elif pairs := not_told_apart(curves):
        told = "; ".join(f"{a} and {b}" for a, b in pairs)
        sentences.append(
            f"Not told apart by mean RMSE (the interval of their difference over the same trajectories holds 0): {told}."
        )
    if runs := single_runs(curves):
        sentences.append(of_single_runs(runs))
    means = {model: curves.interval(model) for model in board["model"].unique() if model in curves.models}
    shares = {model: share for model in means if (share := reached(model, means)) is not None}
    if shares:
        told = ", ".join(f"{model} {100 * share:.0f} %" for model, share in shares.items())
        sentences.append(f"Of the way from {FLOOR} to the reference solver, in mean RMSE: {told}.")
    return sentences


def _undefined(results: Results, protocol: str) -> list[str]:
    """Which means are missing although the forecasts are finite."""

    def curves_of(metric: str) -> Curves:
        return Curves.read(results.table, protocol, metric, results.groups(protocol))

    counts = undefined(results.about["protocols"][protocol]["quantities"], curves_of)
    return [of_undefined(counts)] if counts else []


def _cost(cost: pd.DataFrame) -> list[str]:
    there = {name: title for name, title in COSTS.items() if name in cost and cost[name].notna().any()}
    lines = ["| model | " + " | ".join(there.values()) + " |", "|---|" + "---:|" * len(there)]
    for _, row in cost.iterrows():
        lines.append(f"| {row['model']} | " + " | ".join(_number(name, float(row[name])) for name in there) + " |")
    devices = " and ".join(map(str, cost["device"].unique()))
    asked = f" of {', '.join(map(str, cost['protocol'].unique()))}" if "protocol" in cost else ""
    return ["\n".join(lines), f"Forecasts{asked}, measured on {devices}, the models taking turns; medians."]


def _definitions(summary: pd.DataFrame) -> str:
    items = [
        "RMSE at a lead is the root of the squared error averaged over forecasts, fields and pixels.",
        "A correlation time is the first lead at which the correlation with the truth is under 0.9 or 0.8, or not finite; one "
        "that it outlasts counts as the lead after the last (\u2265).",
        f"Intervals hold {100 * LEVEL:.0f} % of the means of trajectories drawn again (bootstrap, wider where they are few; "
        "those cut from one simulation together), and of seeds where a model has several.",
        "`mean` is over all leads; other columns are one lead.",
    ]
    if (summary["metric"] == "ssim").any():
        items.append(
            "SSIM has a Gaussian 11 x 11 window and is averaged over the whole frame; other definitions differ."
        )
    models = set(summary["model"])
    if summary["metric"].str.endswith("_total").any():
        items.append(
            "MicroEvoEval's L-ETAP and L-EAPSR are roots of a sum of squares over leads and forecasts: they grow with the "
            "number of both, and compare for equal test sets only."
        )
    if FLOOR in models:
        items.append(f"{FLOOR} repeats the last known frame: a model no better than that has learned nothing.")
    if CEILING in models:
        items.append(
            "Reference solver is the process's own solver, from the frames shown where they determine the state, else from the "
            "true state on its finer grid by its fast scheme, which is nearly exact where the data were made with it."
        )
    return "\n".join(f"- {item}" for item in items)


def _title(metric: str, lead: int) -> str:
    if metric.startswith("correlation_time"):
        return title_of(metric)
    return f"{title_of(metric)} {'mean' if lead == 0 else f'at {lead}'}"


def _number(name: str, value: float) -> str:
    if math.isnan(value):
        return ""
    if name == "parameters":
        return f"{value / 1e6:.2f} M" if value >= 1e4 else f"{value:.0f}"
    if name.startswith("multiply_adds"):
        return f"{value / 1e9:,.0f}" if value >= 1e11 else f"{value / 1e9:.3g}"
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"
