"""A report as one HTML page: a single file that needs no network."""

import base64
import hashlib
import html
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from microevo import plot
from microevo.benchmark.competitors import BASELINE, REFERENCE, TRUTH
from microevo.benchmark.leaderboard import Curve, QuantityScores, ScoreCurves
from microevo.benchmark.report.build import ProtocolReport, Report
from microevo.benchmark.report.gallery import colours, gallery
from microevo.benchmark.results import COST, RECORD

HERE = Path(__file__).parent
SCRIPTS = ("elements.js", "charts.js", "gallery.js", "page.js")  # in this order
BYTES = 9_000_000  # of a page that can still be sent by mail
SIZES = ((128, 3), (96, 2), (64, 2), (64, 1), (32, 1))  # largest side of a frame [px] and windows, tried in this order
FILES = ("report.md", "summary.csv", COST, RECORD, "table")


def page(report: Report) -> str:
    """The page as text."""
    record = report.results.record
    content = {
        "title": report.title,
        "fields": record["fields"],
        "competitors": _competitors(report),
        "protocols": [_protocol(protocol) for protocol in report.protocols],
        "cost": _cost(report),
        "definitions": list(report.definitions.items()),
        "colours": [colours(plot.FIELD_COLOURS), colours(plot.ERROR_COLOURS)],
        "sources": _sources(report.folder, record),
    }
    for size, windows in SIZES:
        galleries = [gallery(protocol, size, windows) for protocol in report.protocols]
        data = _json(content | {"galleries": galleries})
        if len(data) < BYTES:
            break
    script = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    parts = {
        "title": html.escape(report.title),
        "digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
        "data": data,
        "script": script,
    }
    template = (HERE / "page.html").read_text(encoding="utf-8")
    # In one pass, so that nothing in the data is taken for a place to fill in.
    return re.sub(r"\{\{(title|digest|style|data|script)\}\}", lambda place: parts[place[1]], template)


def _protocol(protocol: ProtocolReport) -> dict[str, Any]:
    record, board = protocol.record, protocol.board
    return {
        "name": protocol.name,
        "note": record["note"],
        "settings": list(protocol.settings.items()),
        "horizon": record["horizon"],
        "interval": record["frame_interval"],
        "time": record["time_unit"],
        "leads": board.leads,
        "board": [vars(standing) for standing in board.standings],
        "facts": [vars(fact) for fact in protocol.findings.facts],
        "notes": protocol.findings.notes,
        "metrics": [_score(metric) for metric in board.metrics],
        "ensembles": [_score(metric) for metric in board.ensembles],
        "quantities": [_quantity(quantity) for quantity in board.quantities],
    }


def _score(scores: ScoreCurves) -> dict[str, Any]:
    score = scores.score
    return {
        "name": score.key.name,
        "title": score.title,
        "label": score.label,
        "unit": score.unit,
        "better": score.better,
        "whole": score.whole,
        "curves": {name: _curve(curve) for name, curve in scores.curves.items()},
    }


def _curve(curve: Curve) -> dict[str, Any]:
    interval = curve.mean
    return {"mean": [interval.mean, interval.low, interval.high], "at": curve.at, "censored": bool(curve.censored)}


def _quantity(quantity: QuantityScores) -> dict[str, Any]:
    values = quantity.values or (quantity.errors if quantity.bins is None else None)
    return {
        "title": quantity.title,
        "unit": quantity.unit,
        "values": values and _score(values),
        "errors": _score(quantity.errors),
        "bins": quantity.bins and vars(quantity.bins),
        "fit": quantity.fit and _score(quantity.fit),
    }


def _competitors(report: Report) -> list[dict[str, str]]:
    """Colour, dashes and role of each competitor, as in the figures for papers; without a colour it is the page's own ink."""
    names = list(dict.fromkeys(str(competitor["name"]) for competitor in report.results.record["competitors"]))
    styles = plot.model_styles(name for name in names if name != TRUTH)
    dashes = {"-": "", "--": "6 4", "-.": "8 3 2 3", ":": "2 3"}
    roles = {TRUTH: "truth", BASELINE: "baseline", REFERENCE: "reference"}
    return [
        {
            "name": name,
            "colour": "" if name in (TRUTH, REFERENCE) else styles[name]["color"],  # ink: light on a dark screen
            "dashes": "" if name == TRUTH else dashes[styles[name]["linestyle"]],
            "role": roles.get(name, ""),
        }
        for name in names
    ]


def _cost(report: Report) -> dict[str, Any]:
    cost, columns = report.cost, report.cost_columns
    return {
        "names": [str(name) for name in cost.get("competitor", [])],
        "labels": [str(label) for label in cost.get("label", [])],
        "columns": [
            {"name": column.name, "title": column.title, "values": _scaled(cost[column.name], column.factor)}
            for column in columns
        ],
    }


def _scaled(values: pd.Series, factor: float) -> list[Any]:
    if pd.api.types.is_numeric_dtype(values):
        return [float(value) * factor for value in values]
    return ["" if pd.isna(value) else str(value) for value in values]


def _sources(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Where the numbers come from: files, runs, commit, versions and settings."""
    settings = record["settings"]
    runs = []
    for model, paths in (settings.get("checkpoints") or {}).items():
        for checkpoint in [paths] if isinstance(paths, str) else paths:
            parent = Path(checkpoint).parent
            run = parent.parent if parent.name == "checkpoints" else parent
            commands = [json.loads(file.read_text()).get("command", "") for file in sorted(run.glob("run-*.json"))]
            files = [_link(path, folder) for path in (run, *sorted(run.glob("config*.yaml")), Path(checkpoint))]
            runs.append(
                {"model": str(model), "files": files, "commands": [str(command) for command in commands if command]}
            )
    return {
        "files": [_link(folder / name, folder, name) for name in FILES if (folder / name).exists()],
        "runs": runs,
        "git": record["git"] or "unknown",
        "versions": record["versions"],
        "settings": json.dumps(settings, indent=2),
    }


def _link(path: Path, folder: Path, text: str | None = None) -> dict[str, str]:
    """A file with its place relative to the page; no link if it does not exist any more."""
    place = quote(os.path.relpath(path, folder)) if path.exists() else ""
    return {"text": str(path) if text is None else text, "place": place}


def _json(content: Any) -> str:
    """JSON that may stand in HTML: NaN is null, infinity a word, and nothing can end the block."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple | np.ndarray):
            return [plain(item) for item in value]
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float):
            return float(f"{value:.4g}") if math.isfinite(value) else None if math.isnan(value) else str(value)
        return value

    text = json.dumps(plain(content), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
