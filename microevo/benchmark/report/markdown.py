"""A report in Markdown, for GitHub or the supplement of a paper, and its leaderboards for a terminal."""

import math
from collections.abc import Mapping, Sequence

from microevo.benchmark.bootstrap import Interval
from microevo.benchmark.competitors import REFERENCE, TRUTH
from microevo.benchmark.leaderboard import Leaderboard, ScoreCurves
from microevo.benchmark.report.build import ProtocolReport, Report
from microevo.benchmark.report.figures import figure_name

Column = tuple[ScoreCurves, int | None]  # a score and a lead time; no lead time for the mean over all of them
MEAN = "mean over lead times, or of the whole forecast"


def markdown(report: Report) -> str:
    """The whole report."""
    parts = [f"# {report.title}"]
    for protocol in report.protocols:
        parts += _protocol(protocol)
    if not report.cost.empty:
        parts += ["## Cost", *_cost(report)]
    parts += ["## Definitions", "\n".join(f"- **{term}**: {text}" for term, text in report.definitions.items())]
    return "\n\n".join(parts) + "\n"


def text_table(board: Leaderboard) -> str:
    """The leaderboard of a protocol for a terminal."""
    columns = _columns(board)
    rows = [["", *(_title(*column) for column in columns)]]
    rows += [
        [standing.name, *(f"{_cell(column, standing.name).mean:.3g}" for column in columns)]
        for standing in board.standings
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join("  ".join(row) for row in aligned)


def _protocol(protocol: ProtocolReport) -> list[str]:
    board, record, settings = protocol.board, protocol.record, protocol.settings
    parts = [f"## {protocol.name}"]
    notes = "\n".join(f"- {note}" for note in protocol.findings.notes)
    if not board.rmse.forecasters:
        return [*parts, notes]
    return [
        *parts,
        f"{settings['Input and target']}; {settings['Forecasts']} of `{record['store']}`; {settings['Frames']}. "
        f"Values for SSIM and PSNR: {settings['Values for SSIM and PSNR']}. Protocol and data: `{record['digest']}`.",
        *([f"**Note:** {record['note']}"] if record["note"] else []),
        f"![{protocol.name}]({figure_name(protocol.name)})",
        _table(board),
        *([notes] if notes else []),
        *([f"### Ensembles\n\n{_ensembles(board)}"] if board.ensembles else []),
        *_further(board),
    ]


def _columns(board: Leaderboard) -> list[Column]:
    """RMSE at each lead time and on average, and the two others that most readers ask for."""
    rmse = board.metric("rmse")
    assert rmse is not None
    others = [metric for name in ("ssim", "correlation_time_0.9") if (metric := board.metric(name)) is not None]
    return [*((rmse, lead) for lead in board.leads), (rmse, None), *((metric, None) for metric in others)]


def _title(curves: ScoreCurves, lead: int | None) -> str:
    if curves.score.whole:
        return curves.score.label
    return f"{curves.score.label} {'mean' if lead is None else f'at {lead}'}"


def _cell(column: Column, name: str) -> Interval:
    curve = column[0].curves[name]
    return curve.mean if column[1] is None else curve.at_leads[column[1]]


def _table(board: Leaderboard) -> str:
    """The leaderboard; the best model of a column is bold, and means have their intervals, if there are any."""
    columns = _columns(board)
    rows = {
        standing.name: f"{standing.name} ({standing.non_finite} not finite)" * bool(standing.non_finite)
        or standing.name
        for standing in board.standings
    }
    cells: dict[str, list[str]] = {name: [] for name in rows}
    for column in columns:
        means = {name: _cell(column, name) for name in rows}
        best = column[0].score.best({name: interval.mean for name, interval in means.items() if name != REFERENCE})
        for name, interval in means.items():
            text = f"{'≥ ' * bool(column[0].curves[name].censored)}{interval.mean:.3g}"
            if column[1] is None and math.isfinite(interval.mean) and board.rmse.independent > 1:
                text += f" ({interval.low:.3g} to {interval.high:.3g})"
            cells[name].append(f"**{text}**" if interval.mean == best and name != REFERENCE else text)
    return _grid("model", [_title(*column) for column in columns], {rows[name]: row for name, row in cells.items()})


def _further(board: Leaderboard) -> list[str]:
    """All other scores, one in each row, on average over lead times."""
    names = [standing.name for standing in board.standings]
    metrics = [metric for metric in board.metrics if metric.score.key.name not in ("rmse", "ssim")]
    errors = [quantity.errors for quantity in board.quantities]
    values = [part for quantity in board.quantities for part in (quantity.values, quantity.fit) if part is not None]
    sides = [name for name in (TRUTH, *names) if any(name in part.curves for part in values)]
    kinds = (
        ("Other pixel metrics", metrics, names),
        ("Physical quantities, error of the forecast", errors, names),
        ("Physical quantities, truth and forecasts side by side", values, sides),
    )
    return [
        f"<details><summary>{heading}</summary>\n\n{_means(scores, columns)}\n\n</details>"
        for heading, scores, columns in kinds
        if scores and columns
    ]


def _ensembles(board: Leaderboard) -> str:
    """CRPS of all forecasts, and spread and spread-skill ratio of ensembles, against lead time."""
    names = [standing.name for standing in board.standings]
    rows = {}
    for curves in board.ensembles:
        for name in (name for name in names if name in curves.curves):
            curve = curves.curves[name]
            intervals = [*(curve.at_leads[lead] for lead in board.leads), curve.mean]
            rows[f"{curves.score.label}, {name}"] = [f"{interval.mean:.3g}" for interval in intervals]
    heads = [*(f"at {lead}" for lead in board.leads), "mean over lead times"]
    return _grid("CRPS of a single forecast: its mean absolute error", heads, rows)


def _means(scores: Sequence[ScoreCurves], names: Sequence[str]) -> str:
    rows = {}
    for curves in scores:
        means = {name: curves.curves[name].mean.mean for name in names}
        best = math.nan
        if curves.score.better is not None:
            best = curves.score.best({name: mean for name, mean in means.items() if name != REFERENCE})
        cells = [
            f"**{mean:.3g}**" if mean == best and name != REFERENCE else f"{mean:.3g}" for name, mean in means.items()
        ]
        rows[curves.score.label] = cells
    return _grid(MEAN, names, rows)


def _cost(report: Report) -> list[str]:
    cost = report.cost
    columns = [
        column
        for column in report.cost_columns
        if column.name not in ("best_batch", "training_batch", "memory_method", "device", "protocol")
    ]
    rows = {
        str(row["label"]): [_number(float(row[column.name]) * column.factor) for column in columns]
        for _, row in cost.iterrows()
    }
    where = f" of {', '.join(map(str, cost['protocol'].unique()))}" if "protocol" in cost else ""
    devices = f"measured on {' and '.join(map(str, cost['device'].unique()))}, " if "device" in cost else ""
    return [
        _grid("model", [column.title for column in columns], rows),
        f"Forecasts{where}, {devices}the models taking turns; medians.",
    ]


def _grid(corner: str, heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A GitHub table."""
    lines = [f"| {corner} | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    return "\n".join([*lines, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items())])


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"
