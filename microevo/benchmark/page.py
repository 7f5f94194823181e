"""Results -> one HTML page to look at: a single file that asks for nothing from anywhere."""

import base64
import hashlib
import html
import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import imageio.v3 as imageio
import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Float

from microevo import plot
from microevo.benchmark.entry import TRUTH
from microevo.benchmark.long_table import COLUMNS, Block, LongTable
from microevo.benchmark.results import COST, Results
from microevo.benchmark.summary import (
    CEILING,
    FLOOR,
    LEVEL,
    PIXEL,
    SOURCE,
    Curves,
    Interval,
    Metric,
    not_told_apart,
)

PAGE, TEMPLATE = "report.html", Path(__file__).with_name("page.html")
BYTES = 9_000_000  # of a page that can still be sent by mail
SIZES = ((128, 3), (96, 2), (64, 2), (64, 1), (32, 1))  # largest side of a frame [px] and windows, tried in this order
BLANK = 255  # grey level of a pixel that is not finite
FEW = 10  # trajectories; intervals from fewer are known to be too narrow
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
    scratch = path.with_name(f".{PAGE}.part")
    scratch.write_text(render(results, leads), encoding="utf-8")
    scratch.replace(path)
    return path


def render(results: Results, leads: Sequence[int]) -> str:
    """The page as text."""
    about = results.about
    processes = sorted({_words(protocol["process"]) for protocol in about["protocols"].values()})
    title = "Benchmark: " + ", ".join(processes)
    cost = results.cost
    answers = {name: _Answers(results, name) for name in about["protocols"]}
    content = {
        "title": title,
        "fields": about["fields"],
        "models": _models(about["entries"]),
        "protocols": [_protocol(answers[name], name, about, leads, cost) for name in about["protocols"]],
        "cost": _cost(cost),
        "colours": [_colours(plot.FIELD_COLOURS), _colours(plot.ERROR_COLOURS)],
        "sources": _sources(results.folder, about),
    }
    for size, windows in SIZES:
        films = [_film(results, answers[name], name, size, windows) for name in about["protocols"]]
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


class _Answers:
    """What is whole of the answers to one protocol: values by entry, metric, window and lead.

    Args:
        results: The benchmark.
        protocol: Name of the protocol.
    """

    def __init__(self, results: Results, protocol: str) -> None:
        about = results.about["protocols"][protocol]
        self.windows = sorted(tuple(window) for window in about["windows"])
        self.trajectories = len({trajectory for trajectory, _ in self.windows})
        self.entries: list[dict[str, Any]] = []
        self.missing: list[str] = []
        self._values: dict[str, dict[str, Block]] = {}
        folder = results.table.group(protocol, TRUTH).parent  # other protocols need not be read
        try:
            rows = LongTable(folder).read()
        except FileNotFoundError:
            rows = pd.DataFrame(columns=COLUMNS)
        groups: dict[tuple[str, int | None], pd.DataFrame] = {}
        for _, own in rows.groupby(["model", "seed"], observed=True, dropna=False):
            model, seed = own[["model", "seed"]].iloc[0]
            groups[str(model), None if pd.isna(seed) else int(seed)] = own
        for entry in results.about["entries"]:
            if entry["label"] not in about["entries"]:
                continue
            there = groups.get((entry["model"], entry["seed"]), rows.iloc[:0])
            done = set(there[["trajectory", "start"]].drop_duplicates().itertuples(index=False, name=None))
            if done == set(self.windows):
                self.entries.append(entry)
                self._values[entry["label"]] = dict(self._blocks(there))
            else:
                self.missing.append(
                    f"{entry['label']} is left out: {len(done & set(self.windows))} of its {len(self.windows)} forecasts "
                    "are done; run the benchmark again to complete it."
                )
        self.metrics = list(dict.fromkeys(metric for blocks in self._values.values() for metric in blocks))

    def block(self, label: str, metric: str) -> Block | None:
        """The values of an entry, None if it has not got the metric."""
        return self._values[label].get(metric)

    def curves(self, metric: str) -> Curves:
        """A metric of all models that have it; windows of one trajectory are averaged."""
        models: dict[str, list[np.ndarray]] = {}
        for entry in self.entries:
            block = self.block(entry["label"], SOURCE.get(metric, metric))
            if block is not None:
                by_trajectory = block.values.reshape(self.trajectories, -1, len(block.leads)).astype(np.float64)
                models.setdefault(str(entry["model"]), []).append(by_trajectory.mean(axis=1))
        return Curves(metric, {model: np.stack(seeds) for model, seeds in models.items()})

    def leads(self, metric: str) -> list[int]:
        """The leads that a metric has, 0 alone if it belongs to the whole forecast."""
        blocks = (self.block(entry["label"], SOURCE.get(metric, metric)) for entry in self.entries)
        return next((block.leads.tolist() for block in blocks if block is not None), [])

    def lost(self, model: str) -> int:
        """How many forecasts of a model hold a frame that is not finite."""
        blocks = (self.block(entry["label"], "finite") for entry in self.entries if entry["model"] == model)
        return sum(int((block.values < 1).any(axis=1).sum()) for block in blocks if block is not None)

    def _blocks(self, rows: pd.DataFrame) -> Iterable[tuple[str, Block]]:
        rows = rows.sort_values(["trajectory", "start", "lead"], kind="stable")
        for metric, own in rows.groupby("metric", observed=True, sort=False):
            leads = np.unique(own["lead"].to_numpy())
            yield str(metric), Block(own["value"].to_numpy().reshape(len(self.windows), len(leads)), leads)


def _protocol(
    answers: _Answers, name: str, about: Mapping[str, Any], leads: Sequence[int], cost: pd.DataFrame
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
            row["reached"] = _reached(row["model"], means)
        facts, said = _verdict(rmse, means, [row["model"] for row in board], horizon, cost)
        notes += said
    for row in board:
        if row["lost"]:
            notes.append(
                f"{row['model']}: {row['lost']} of {row['total']} forecasts are not finite (NaN or infinite). They are counted "
                "and not averaged away: a mean that would need them is NaN, and a model without a mean is not ranked."
            )
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
        "metrics": [_metric(answers, metric) for metric in _pixel(answers, protocol)],
        "quantities": [
            _quantity(answers, quantity) for quantity in protocol["quantities"] if _known(answers, quantity)
        ],
    }


def _pixel(answers: _Answers, protocol: Mapping[str, Any]) -> list[Metric]:
    """The pixel metrics that there are, those with a title first."""
    there = [metric for metric in PIXEL if SOURCE.get(metric.name, metric.name) in answers.metrics]
    told = {SOURCE.get(metric.name, metric.name) for metric in there}
    return [*there, *(Metric(name, name) for name in protocol["pixel"] if name in answers.metrics and name not in told)]


def _metric(answers: _Answers, metric: Metric) -> dict[str, Any]:
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


def _known(answers: _Answers, quantity: Mapping[str, Any]) -> bool:
    return any(
        metric in answers.metrics
        for metric in (quantity["name"], f"{quantity['name']}[0]", f"{quantity['name']} error")
    )


def _quantity(answers: _Answers, quantity: Mapping[str, Any]) -> dict[str, Any]:
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
        joined = Curves(
            name, {model: np.concatenate([one.models[model] for one in each], axis=2) for model in each[0].models}
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


def _verdict(
    curves: Curves, means: Mapping[str, Interval], order: Sequence[str], horizon: int, cost: pd.DataFrame
) -> tuple[list[dict[str, str]], list[str]]:
    """Who is best, by how much, whether that is certain and what it costs; and what else there is to say."""
    ranked = [model for model in order if model != CEILING and math.isfinite(means[model].mean)]
    ranked.sort(key=lambda model: means[model].mean)
    if not ranked:
        return [], ["No model has forecasts that are finite throughout, so that there is no best one."]
    best, *others = ranked
    trajectories = curves.models[best].shape[1]
    certain = trajectories > 1
    unsure = [pair for pair in not_told_apart(curves) if all(math.isfinite(means[model].mean) for model in pair)]
    rivals = [model for model in others if (best, model) in unsure or (model, best) in unsure]
    over = f"over {horizon} leads" if horizon > 1 else "at the only lead"
    facts = [
        {"label": "Best forecasts", "value": best, "detail": f"mean RMSE {_interval(means[best], certain)} {over}"}
    ]
    if best == FLOOR:
        facts[0]["detail"] += "; no model beats repeating the last frame"
    if others:
        nearest = others[0]
        lower = {model: f"{100 * _below(means[best].mean, means[model].mean):.0f} %" for model in others}
        detail = f"in mean RMSE, which is {_number(means[nearest].mean)} for {nearest}"
        if FLOOR in others and nearest != FLOOR:
            detail += f"; {lower[FLOOR]} below {FLOOR}"
        facts.append({"label": "By how much", "value": f"{lower[nearest]} below {nearest}", "detail": detail})
        gap = curves.difference(nearest, best)
        detail = f"RMSE of {nearest} minus that of {best}: {_interval(gap, certain)}, on the same trajectories"
        answer = "No" if rivals else "Yes"
        if rivals:
            detail = f"{', '.join([best, *rivals])} are not told apart. {detail}"
        if not certain:
            answer, detail = "Unknown", "a single trajectory tells nothing about others"
        facts.append({"label": "Is it certain?", "value": answer, "detail": detail})
    reached = _reached(best, means)
    if reached is not None:
        detail = f"of the way from {FLOOR} to {CEILING.lower()}, in mean RMSE"
        facts.append({"label": "Of what is possible", "value": f"{100 * reached:.0f} %", "detail": detail})
    facts.append(_price(best, cost))
    notes = []
    if unsure and certain:
        pairs = "; ".join(f"{a} and {b}" for a, b in unsure)
        notes.append(
            f"Not told apart in mean RMSE (the {100 * LEVEL:.0f} % interval of their difference holds 0): {pairs}. All other "
            "pairs are."
        )
    elif others and certain:
        notes.append(
            f"All models are told apart in mean RMSE: no {100 * LEVEL:.0f} % interval of a difference holds 0."
        )
    if trajectories < FEW:
        plural = "trajectories" if certain else "trajectory"
        notes.append(
            f"Only {trajectories} {plural}: {'intervals are narrower than they should be' if certain else 'no intervals'}."
        )
    return facts, notes


def _below(value: float, other: float) -> float:
    """By what share a value is below another one that is not lower."""
    return 1 - value / other if other > 0 else 0.0


def _price(model: str, cost: pd.DataFrame) -> dict[str, str]:
    if cost.empty or "seconds" not in cost or model not in set(cost["model"]):
        return {"label": "What it costs", "value": "Not measured", "detail": ""}
    seconds = cost.drop_duplicates("model").set_index("model")["seconds"]
    detail = ""
    if CEILING in seconds and model != CEILING and seconds[model] > 0:
        ratio = float(seconds[CEILING] / seconds[model])
        than, factor = ("faster", ratio) if ratio >= 1 else ("slower", 1 / ratio)
        detail = f"{_number(factor)} times {than} than {CEILING.lower()}"
    timed = (
        sorted({str(protocol) for protocol in cost["protocol"]})
        if "protocol" in cost
        else ["the protocol that was timed"]
    )
    detail += f"{', ' if detail else ''}in {', '.join(timed)}"
    if "device" in cost:
        detail += f", on {', '.join(sorted({str(device) for device in cost['device']}))}"
    return {"label": "What it costs", "value": f"{_time(float(seconds[model]))} per forecast", "detail": detail}


def _reached(model: str, means: Mapping[str, Interval]) -> float | None:
    """Share of the way from the floor to the ceiling."""
    if model in (FLOOR, CEILING) or not {FLOOR, CEILING} <= means.keys():
        return None
    span = means[FLOOR].mean - means[CEILING].mean
    share = (means[FLOOR].mean - means[model].mean) / span if span > 0 else math.nan
    return share if math.isfinite(share) else None


def _place(model: str, mean: float) -> tuple[bool, bool, float]:
    """Best first, those without a mean behind them, the floor last."""
    return model == FLOOR, not math.isfinite(mean), mean


def _curve(curves: Curves, model: str) -> dict[str, Any]:
    return {"mean": [*vars(curves.interval(model)).values()], "at": _at(curves, model)}


def _at(curves: Curves, model: str) -> Float[np.ndarray, "3 T"]:
    """Mean and ends of its interval at each lead."""
    return np.stack([curves.mean(model), *curves.band(model)])


def _film(results: Results, answers: _Answers, name: str, size: int, windows: int) -> dict[str, Any] | None:
    """Frames to look at: a PNG for each model and field, a row for each window and a column for each lead."""
    about = results.about["protocols"][name]
    labels = {entry["model"]: entry for entry in reversed(answers.entries)}  # of several seeds the first
    frames = {}
    for model in dict.fromkeys(str(entry["model"]) for entry in answers.entries):
        try:
            frames[model] = _reduce(results.frames(name, labels[model]["label"])[:windows], size)
        except FileNotFoundError:
            continue
    if TRUTH not in frames or len(frames) < 2:
        return None
    truth = frames[TRUTH]
    chosen = [tuple(window) for window in about["windows"][: len(truth)]]
    fields = []
    for number, field in enumerate(results.about["fields"]):
        own = {model: stack[:, :, number] for model, stack in frames.items()}
        low, high = (float(limit) for limit in (np.nanmin(own[TRUTH]), np.nanmax(own[TRUTH])))
        span = (high - low) or 1.0
        known = np.concatenate([stack[np.isfinite(stack)] for stack in own.values()])
        # A forecast further out than the truth's own span would only coarsen the grey levels of the others: colours of
        # field and error have saturated before.
        limits = max(float(known.min()), low - span), min(float(known.max()), high + span)
        errors = np.concatenate([abs(stack - own[TRUTH]).ravel() for model, stack in own.items() if model != TRUTH])
        errors = errors[np.isfinite(errors)]
        largest = float(np.quantile(errors, 0.999)) if errors.size else span
        fields.append(
            {
                "name": field,
                "low": low,
                "high": low + span,
                "limits": limits,
                "error": _round_up(min(max(largest, 0.1 * span), span)),
                "sprites": {model: _sprite(stack, limits) for model, stack in own.items()},
            }
        )
    rmse = {}
    for model in frames:
        block = answers.block(labels[model]["label"], "mse")
        if block is not None:
            places = [answers.windows.index(window) for window in chosen]
            rmse[model] = block.values[places][:, np.asarray(about["shown_leads"]) - 1] ** 0.5
    height, width = truth.shape[-2:]
    return {
        "leads": about["shown_leads"],
        "windows": chosen,
        "size": [width, height],
        "reduced": -(-max(about["image_shape"]) // size),
        "seeds": {model: labels[model]["seed"] for model in frames},
        "fields": fields,
        "rmse": rmse,
    }


def _reduce(frames: Float[np.ndarray, "n T C H W"], size: int) -> Float[np.ndarray, "n T C h w"]:
    """Means over blocks of pixels, so that no side is longer than `size`."""
    factor = -(-max(frames.shape[-2:]) // size)
    if factor == 1:
        return frames
    more = [(0, 0)] * 3 + [(0, -side % factor) for side in frames.shape[-2:]]
    padded = np.pad(frames, more, mode="edge")
    *front, height, width = padded.shape
    return padded.reshape(*front, height // factor, factor, width // factor, factor).mean(axis=(-3, -1))


def _sprite(frames: Float[np.ndarray, "n T h w"], limits: tuple[float, float]) -> str:
    """All frames side by side in grey levels from 0 to 254, and `BLANK` where they are not finite; y points up."""
    low, high = limits
    finite = np.isfinite(frames)
    levels = (np.where(finite, frames, low) - low) / max(high - low, 1e-30) * (BLANK - 1)
    grey = np.where(finite, levels.clip(0, BLANK - 1).round(), BLANK).astype(np.uint8)[..., ::-1, :]
    n, leads, height, width = grey.shape
    sheet = grey.transpose(0, 2, 1, 3).reshape(n * height, leads * width)
    file = io.BytesIO()
    imageio.imwrite(file, sheet, extension=".png", compress_level=9)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _colours(name: str) -> str:
    """256 colours of a colour map, six hexadecimal digits each."""
    colours = matplotlib.colormaps[name](np.arange(256), bytes=True)
    return bytes(colours[:, :3].ravel()).hex()


def _models(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Colour, dashes and role of each model, the same as in the pictures for papers."""
    names = list(dict.fromkeys(str(entry["model"]) for entry in entries))
    styles = plot.model_styles(name for name in names if name != TRUTH)
    dashes = {"-": "", "--": "6 4", "-.": "8 3 2 3", ":": "2 3"}
    roles = {TRUTH: "truth", FLOOR: "floor", CEILING: "ceiling"}
    return [
        {
            "name": name,
            "colour": "" if name == TRUTH else styles[name]["color"],
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
    height, width = protocol["image_shape"]
    return [
        ("Process", f"{_words(protocol['process'])}, {protocol['boundary']} boundary"),
        ("Shown and asked", f"{protocol['n_past']} frames shown, {protocol['horizon']} asked"),
        ("Forecasts", f"{count} forecasts of {trajectories} trajectories, split {protocol['split']}"),
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


def _interval(interval: Interval, known: bool = True) -> str:
    if not known:
        return _number(interval.mean)
    return f"{_number(interval.mean)} ({_number(interval.low)} to {_number(interval.high)})"


def _time(seconds: float) -> str:
    return f"{_number(seconds)} s" if seconds >= 0.1 else f"{_number(1e3 * seconds)} ms"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}".replace("-", "\u2212")


def _round_up(value: float) -> float:
    """To the next number with one digit and a half: 1, 1.5, 2, 3, ... 9."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step for step in (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10) if step * power >= value * (1 - 1e-9)) * power


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
