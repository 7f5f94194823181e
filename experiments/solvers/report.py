"""Tables and picture of the measurements."""

from pathlib import Path

import pandas as pd
from case import FORMED
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

COLOURS = {
    "microevo": "#0072b2",
    "exponax": "#d55e00",
    "py-pde": "#009e73",
    "FiPy": "#cc79a7",
    "semi-implicit Euler": "#7f7f7f",
}
# Where a label may stand, seen from its point [points]: first the near places.
PLACES = [
    (x, y) for far in (7, 16, 27, 40) for x, y in ((far, 0), (0, far), (-far, 0), (0, -far), (far, far), (-far, -far))
]
LEAST_RATIO, MOST_FLOOR = 25.0, 4.0  # the goals: throughput against py-pde at least, cost against the floor at most


def solver_markdown(table: pd.DataFrame) -> str:
    """One table per grid."""
    parts = []
    for cells, rows in table.groupby("cells"):
        lines = [
            f"### {cells} x {cells} cells",
            "",
            f"| solver | setting | precision | batch | steps | error, t = {FORMED} | error, t = 100 | grid error "
            "| CPU s / trajectory | wall s | / FFT floor | py-pde / it | exponax / it | prepared in |",
            "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for _, row in rows.iterrows():
            scaled = not pd.isna(row["scaled_from"])
            mark = (
                f" (t = {row['scaled_from']:g}, scaled)" if scaled else f" ({row['cpu_low']:.3g}–{row['cpu_high']:.3g})"
            )
            cells_of_row = [
                row["solver"],
                row["setting"],
                row["precision"],
                row["batch"],
                f"{row['steps']:.0f}",
                _error(row["error_formed"]),
                _error(row["error_end"]),
                _error(row["grid_error"]) if row["space"] == "5-point" else "",
                f"{row['cpu']:.3g}{mark}",
                f"{row['wall']:.3g}",
                _ratio(row, "floor_ratio"),
                _ratio(row, "py-pde_ratio") if row["solver"] != "py-pde" else "",
                _ratio(row, "exponax_ratio") if row["solver"] != "exponax" else "",
                f"{row['preparation']:.1f} s",
            ]
            lines.append("| " + " | ".join(map(str, cells_of_row)) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def goals_markdown(table: pd.DataFrame) -> str:
    """Ours, float32, batch 8, against what it should reach."""
    lines = [
        f"| cells | setting | CPU s / trajectory | py-pde / it, at least {LEAST_RATIO:g} | exponax / it, above 1 "
        f"| / FFT floor, at most {MOST_FLOOR:g} |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    ours = table[(table["solver"] == "microevo") & (table["precision"] == "float32") & (table["batch"] == 8)]
    for _, row in ours.iterrows():
        findings = (
            ("py-pde_ratio", row.get("py-pde_ratio", float("nan")) >= LEAST_RATIO),
            ("exponax_ratio", row.get("exponax_ratio", float("nan")) > 1),
            ("floor_ratio", row["floor_ratio"] <= MOST_FLOOR),
        )
        reached = " | ".join(
            "not measured" if pd.isna(row.get(name)) else f"{row[name]:.3g} {'yes' if well else 'NO'}"
            for name, well in findings
        )
        lines.append(f"| {row['cells']} | {row['setting']} | {row['cpu']:.3g} | {reached} |")
    return "\n".join(lines)


def process_markdown(table: pd.DataFrame) -> str:
    """One row per process, image and batch."""
    lines = [
        "| process | image | cells | batch | to first frame | per 100 frames | wall | recipe trajectory | target | reached |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    for _, row in table.iterrows():
        target = reached = ""
        if not pd.isna(row.get("target")):
            target = f"{row['target']:g} s / {row['target_frames']:g} frames"
            target += " from the quench" if row["from_quench"] else ""
            reached = f"{row['cost']:.3g} s {'yes' if row['cost'] <= row['target'] else 'NO'}"
        scaled = "" if pd.isna(row["scaled_from"]) else " scaled"
        cells = (
            row["process"],
            f"{row['pixels']} px",
            f"{row['cells']}²",
            row["batch"],
            "" if pd.isna(row["start"]) else f"{row['start']:.3g}",
            f"{row['per_100']:.3g} ({row['per_100_low']:.3g}–{row['per_100_high']:.3g}){scaled}",
            f"{row['per_100_wall']:.3g}",
            "" if pd.isna(row["trajectory"]) else f"{row['trajectory']:.3g} ({row['recipe_frames']} frames)",
            target,
            reached,
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Cost against error, a panel per grid."""
    grids = sorted(table["cells"].unique())
    figure = Figure(figsize=(6.4 * len(grids), 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, cells in zip(figure.subplots(1, len(grids), squeeze=False)[0], grids, strict=True):
        _panel(axes, table[table["cells"] == cells])
        axes.set_title(f"{cells} x {cells} cells, t = 0 to 100, one core", fontsize=10)
    figure.savefig(path, dpi=150)


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    rows = rows.assign(error=rows["error_end"].fillna(rows["error_formed"])).dropna(subset="error")
    for (solver, precision, batch), group in rows.groupby(["solver", "precision", "batch"]):
        group = group.sort_values("cpu")
        axes.plot(group["cpu"], group["error"], color=COLOURS[solver], linewidth=0.8, alpha=0.6)
        filled = COLOURS[solver] if precision == "float32" else "white"
        shape = {1: "o", 8: "s"}.get(int(batch), "D")
        axes.plot(group["cpu"], group["error"], shape, color=COLOURS[solver], markerfacecolor=filled, markersize=6)
    axes.set(xscale="log", yscale="log", xlabel="CPU seconds per trajectory of 100 frames")
    axes.set_ylabel("error at t = 100, relative L2, of the time steps alone")
    axes.grid(which="major", alpha=0.25)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.set_minor_formatter(NullFormatter())
    axes.margins(0.18)
    _label(axes, rows)
    for shape, filled, meaning in (("o", True, "batch 1"), ("s", True, "batch 8"), ("D", True, "larger batch")):
        axes.plot(
            [], [], shape, color="black", markerfacecolor="black" if filled else "white", markersize=5, label=meaning
        )
    axes.plot([], [], "o", color="black", markerfacecolor="white", markersize=5, label="float64 (filled: float32)")
    axes.legend(fontsize=7, loc="upper right", framealpha=0.9)


def _label(axes: Axes, rows: pd.DataFrame) -> None:
    """Write each point's name at the nearest free place."""
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    points = axes.transData.transform(rows[["cpu", "error"]].to_numpy())
    boxes = []
    # Batch and precision, which the markers show, move a point only sideways.
    for _, row in rows.sort_values("cpu").drop_duplicates(["solver", "setting"]).iterrows():
        at = f" (t = {row['scaled_from']:g})" if not pd.isna(row["scaled_from"]) else ""
        text = f"{row['solver']}, {row['setting']}{at}"
        for place in PLACES:
            aligned = {1: "left", 0: "center", -1: "right"}[(place[0] > 0) - (place[0] < 0)]
            label = axes.annotate(
                text,
                (row["cpu"], row["error"]),
                xytext=place,
                textcoords="offset points",
                fontsize=6.5,
                color=COLOURS[row["solver"]],
                ha=aligned,
                va="center",
                arrowprops={"arrowstyle": "-", "color": COLOURS[row["solver"]], "linewidth": 0.4, "shrinkB": 3},
            )
            box = label.get_window_extent().padded(2)
            inside = axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1 and axes.bbox.y0 < box.y0 and box.y1 < axes.bbox.y1
            if inside and not box.count_overlaps(boxes) and not any(box.contains(*point) for point in points):
                break
            label.remove()
        else:
            continue
        boxes.append(box)


def _error(value: float | None) -> str:
    return "" if pd.isna(value) else f"{value:.1e}"


def _ratio(row: pd.Series, name: str) -> str:
    if pd.isna(row.get(name)):
        return ""
    spread = row[f"{name}_high"] - row[f"{name}_low"]
    return f"{row[name]:.3g}" + (f" ({row[f'{name}_low']:.3g}–{row[f'{name}_high']:.3g})" if spread else "")
