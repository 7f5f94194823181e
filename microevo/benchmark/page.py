"""Results -> one HTML page to look at: a single file that asks for nothing from anywhere."""

import base64
import hashlib
import html
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from jaxtyping import Float

from microevo import plot
from microevo.benchmark.answers import Answers
from microevo.benchmark.competitors import TRUTH
from microevo.benchmark.film import colours, film
from microevo.benchmark.results import COST, Results
from microevo.benchmark.summary import (
    CEILING,
    FLOOR,
    Column,
    Curves,
    pixel_columns,
    undefined,
)
from microevo.benchmark.verdict import of_undefined, reached, verdict
from microevo.metrics import rows_of
from microevo.provenance import write_file

PAGE, TEMPLATE = "report.html", Path(__file__).with_name("page.html")
BYTES = 9_000_000  # of a page that can still be sent by mail
SIZES = ((128, 3), (96, 2), (64, 2), (64, 1), (32, 1))  # largest side of a frame [px] and windows, tried in this order
COSTS = {  # heading and factor to its unit, of the columns of the cost table
    "parameters": ("parameters [M]", 1e-6),
    "multiply_adds": ("multiply-adds, whole forecast [G]", 1e-9),
    "multiply_adds_block": ("multiply-adds, one block [G]", 1e-9),
    "seconds": ("seconds per forecast", 1.0),
    "forecasts_per_second": ("forecasts per second, best batch", 1.0),
    "best_batch": ("best batch", 1.0),
    "training_seconds": ("seconds per training step", 1.0),
    "training_batch": ("training batch", 1.0),
    "peak_memory_mb": ("peak memory [MB]", 1.0),
    "rmse": ("RMSE, the first windows", 1.0),
}
FILES = ("report.md", "summary.csv", COST, "benchmark.json", "table")


def write_page(results: Results, leads: Sequence[int]) -> Path:
    """Write `report.html` into the folder of the results, from what is there; nothing is computed again.

    What an interrupted benchmark has not finished is left out, and the page says so.

    Args:
        results: The benchmark.
        leads: Leads of the leaderboard; those beyond a horizon are left out.

    Returns:
        The file.
    """
    path = results.folder / PAGE
    write_file(path, render(results, leads))
    return path


def render(results: Results, leads: Sequence[int]) -> str:
    """The page as text."""
    about = results.about
    processes = sorted({_words(protocol["process"]) for protocol in about["protocols"].values()})
    title = "Benchmark: " + ", ".join(processes)
    cost = results.cost
    answers = {name: Answers(results, name) for name in about["protocols"]}
    content = {
        "title": title,
        "fields": about["fields"],
        "models": _models(about["entries"]),
        "protocols": [_protocol(answers[name], name, about, leads, cost) for name in about["protocols"]],
        "cost": _cost(cost),
        "colours": [colours(plot.FIELD_COLOURS), colours(plot.ERROR_COLOURS)],
        "sources": _sources(results.folder, about),
    }
    for size, windows in SIZES:
        films = [film(results, answers[name], name, size, windows) for name in about["protocols"]]
        data = _json(content | {"films": films})
        if len(data) < BYTES:
            break
    template = TEMPLATE.read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", template, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    parts = {"title": html.escape(title), "digest": digest, "data": data}
    # In one pass, so that nothing in the data is taken for a place to fill in.
    return re.sub(r"\{\{(title|digest|data)\}\}", lambda place: parts[place[1]], template)


def _protocol(
    answers: Answers, name: str, about: Mapping[str, Any], leads: Sequence[int], cost: pd.DataFrame
) -> dict[str, Any]:
    protocol = about["protocols"][name]
    horizon, count = protocol["horizon"], len(protocol["windows"])
    forecasters = [entry for entry in answers.entries if entry["model"] != TRUTH]
    models = list(dict.fromkeys(str(entry["model"]) for entry in forecasters))
    board: list[dict[str, Any]] = []
    for model in models:
        seeds = sum(entry["model"] == model for entry in forecasters)
        board.append({"model": model, "seeds": seeds, "lost": answers.lost(model), "total": count * seeds})
    facts: list[dict[str, str]] = []
    notes = list(answers.missing)
    rmse = answers.curves("rmse")
    if rmse.models:
        means = {model: rmse.interval(model) for model in models}
        board.sort(key=lambda row: _place(row["model"], means[row["model"]].mean))
        for row in board:
            row["reached"] = reached(row["model"], means)
        facts, said = verdict(rmse, means, [row["model"] for row in board], horizon, cost)
        notes += said
    for row in board:
        if row["lost"]:
            notes.append(
                f"{row['model']}: {row['lost']} of {row['total']} forecasts are not finite (NaN or infinite). They are counted "
                "and not averaged away: a mean that would need them is NaN, and a model without a mean is not ranked."
            )
    if missing := undefined(protocol["quantities"], answers.curves):
        notes.append(of_undefined(missing))
    return {
        "name": name,
        "note": protocol["note"],
        "about": _settings(protocol, about["fields"], count),
        "horizon": horizon,
        "interval": protocol["frame_interval"],
        "time": protocol["time_unit"],
        "leads": [lead for lead in leads if lead <= horizon] or [horizon],
        "board": board,
        "facts": facts,
        "notes": notes,
        "metrics": [
            _metric(answers, metric) for metric in pixel_columns(protocol) if rows_of(metric.name) in answers.metrics
        ],
        "quantities": [
            _quantity(answers, quantity) for quantity in protocol["quantities"] if _known(answers, quantity)
        ],
    }


def _metric(answers: Answers, metric: Column) -> dict[str, Any]:
    curves = answers.curves(metric.name)
    censored = answers.curves(f"{metric.name}_censored").models
    return {
        "name": metric.name,
        "title": metric.title,
        "better": "high" if metric.higher_is_better else "low",
        "whole": metric.whole,
        "models": {model: _curve(curves, model) for model in curves.forecasters},
        "censored": {model: bool(share.any()) for model, share in censored.items()},
    }


def _known(answers: Answers, quantity: Mapping[str, Any]) -> bool:
    return any(
        metric in answers.metrics
        for metric in (quantity["name"], f"{quantity['name']}[0]", f"{quantity['name']} error")
    )


def _quantity(answers: Answers, quantity: Mapping[str, Any]) -> dict[str, Any]:
    """Values and mean errors of a physical quantity, and what it has over bins or over the whole forecast."""
    name = quantity["name"]
    error = answers.curves(f"{name} error")
    values = answers.curves(name if quantity.get("values", True) else f"{name} error")
    shown: dict[str, Any] = {
        "name": name,
        "title": quantity["long_name"],
        "unit": quantity["unit"],
        "error_unit": quantity.get("error_unit", quantity["unit"]),
        "better": quantity["better"],
        "models": {model: _curve(values, model) for model in values.models},
        "errors": {model: [*vars(error.interval(model)).values()] for model in error.forecasters},
    }
    if "bins" in quantity:
        middles = quantity["bins"]["middles"]
        each = [answers.curves(f"{name}[{k}]") for k in range(len(middles))]
        # Bins beside each other instead of leads: one bootstrap for all of them.
        joined = replace(
            each[0],
            models={model: np.concatenate([one.models[model] for one in each], axis=2) for model in each[0].models},
        )
        shown["bins"] = {
            "title": quantity["bins"]["name"],
            "unit": quantity["bins"]["unit"],
            "middles": middles,
            "leads": answers.leads(f"{name}[0]"),
            "models": {model: _at(joined, model).reshape(3, len(middles), -1) for model in joined.models},
        }
    if "fit" in quantity:
        fits = answers.curves(quantity["fit"]["name"])
        shown["fit"] = {
            "title": quantity["fit"]["name"].replace("_", " "),
            "unit": quantity["fit"]["unit"],
            "models": {model: [*vars(fits.interval(model)).values()] for model in fits.models},
        }
    return shown


def _place(model: str, mean: float) -> tuple[bool, bool, float]:
    """Best first, those without a mean behind them, the floor last."""
    return model == FLOOR, not math.isfinite(mean), mean


def _curve(curves: Curves, model: str) -> dict[str, Any]:
    return {"mean": [*vars(curves.interval(model)).values()], "at": _at(curves, model)}


def _at(curves: Curves, model: str) -> Float[np.ndarray, "3 T"]:
    """Mean and ends of its interval at each lead."""
    return np.stack([curves.mean(model), *curves.band(model)])


def _models(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Colour, dashes and role of each model, as in the pictures for papers; without a colour it is the page's own ink."""
    names = list(dict.fromkeys(str(entry["model"]) for entry in entries))
    styles = plot.model_styles(name for name in names if name != TRUTH)
    dashes = {"-": "", "--": "6 4", "-.": "8 3 2 3", ":": "2 3"}
    roles = {TRUTH: "truth", FLOOR: "floor", CEILING: "ceiling"}
    return [
        {
            "name": name,
            "colour": "" if name in (TRUTH, CEILING) else styles[name]["color"],  # ink on paper, light on a dark screen
            "dashes": "" if name == TRUTH else dashes[styles[name]["linestyle"]],
            "role": roles.get(name, ""),
        }
        for name in names
    ]


def _cost(cost: pd.DataFrame) -> dict[str, Any]:
    columns = []
    for name in cost.columns.drop("model", errors="ignore"):
        title, factor = COSTS.get(str(name), (str(name).replace("_", " "), 1.0))
        if cost[name].notna().any():
            columns.append({"title": title, "name": str(name), "values": _scaled(cost[name], factor)})
    return {"models": [str(model) for model in cost.get("model", [])], "columns": columns}


def _scaled(values: pd.Series, factor: float) -> list[Any]:
    if pd.api.types.is_numeric_dtype(values):
        return [float(value) * factor for value in values]
    return ["" if pd.isna(value) else str(value) for value in values]


def _settings(protocol: Mapping[str, Any], fields: Sequence[str], count: int) -> list[tuple[str, str]]:
    """What makes two numbers comparable, in words."""
    trajectories = len({trajectory for trajectory, _ in protocol["windows"]})
    cut = len({group for _, group in protocol.get("groups") or []})
    origin = f", cut from {cut} simulation{'s' * (cut > 1)}" if 0 < cut < trajectories else ""
    height, width = protocol["image_shape"]
    return [
        ("Process", f"{_words(protocol['process'])}, {protocol['boundary']} boundary"),
        ("Shown and asked", f"{protocol['n_past']} frames shown, {protocol['horizon']} asked"),
        ("Forecasts", f"{count} forecasts of {trajectories} trajectories, split {protocol['split']}{origin}"),
        ("First frames shown", ", ".join(map(str, protocol["starts"]))),
        ("Missing past frames", f"filled by {protocol['missing_past']}"),
        (
            "Frames",
            f"{height} × {width} pixels of {protocol['spacing']:g} {protocol['length_unit']}, field {', '.join(fields)}",
        ),
        ("Time between frames", f"{protocol['frame_interval']:g} {protocol['time_unit']}"),
        ("Data", f"{protocol['store']}, fingerprint {protocol['fingerprint'][:16]}"),
        ("Protocol and data", protocol["digest"]),
        ("Recipe of the data", json.dumps(protocol["recipe"], indent=2)),
    ]


def _sources(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Where the numbers come from: files, runs, commit, versions and settings."""
    settings = about["settings"]
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
        "git": about["git"] or "unknown",
        "versions": about["versions"],
        "settings": json.dumps(settings, indent=2),
    }


def _link(path: Path, folder: Path, text: str | None = None) -> dict[str, str]:
    """A file with its place relative to the page; no link where it is not there any more."""
    place = quote(os.path.relpath(path, folder)) if path.exists() else ""
    return {"text": str(path) if text is None else text, "place": place}


def _words(name: str) -> str:
    """`SpinodalDecomposition` as two words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def _json(content: Any) -> str:
    """JSON that may stand in HTML: NaN is null, infinity a word, and nothing can end the block."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(own) for key, own in value.items()}
        if isinstance(value, list | tuple | np.ndarray):
            return [plain(own) for own in value]
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float):
            return float(f"{value:.4g}") if math.isfinite(value) else None if math.isnan(value) else str(value)
        return value

    text = json.dumps(plain(content), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
