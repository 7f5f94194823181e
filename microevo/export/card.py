"""The model card: the README of a model folder, with how to use it, what it was trained on, and its benchmark scores."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from microevo.benchmark.competitors import BASELINE, TRUTH
from microevo.benchmark.results import RECORD, Results
from microevo.models.folder import OF_TRAINING, model_fingerprint, training_record
from microevo.provenance import versions

NAMES = {
    "data": "data set",
    "data_fingerprint": "fingerprint of the data (SHA-256 of all values)",
    "epoch": "epoch of the weights, counted from 0",
    "steps": "optimiser steps",
    "seed": "seed",
    "lightning": "Lightning",
    "imported_from": "weights imported from",
}
HEADER = """---
library_name: microevo
tags: [microevo, microstructure, phase-field, spatiotemporal-forecasting]
---
"""


def model_card(checkpoint: Mapping[str, Any], scores: str = "", notes: str = "") -> str:
    """The text of a model card.

    Args:
        checkpoint: As `read_checkpoint` returns it.
        scores: A section in Markdown; see `benchmark_scores`.
        notes: Further sections in Markdown.
    """
    settings = {
        name: value
        for name, value in checkpoint["hyper_parameters"].items()
        if not name.startswith("_") and name not in OF_TRAINING
    }
    model, n_past = checkpoint["microevo_model"], settings.get("n_past", 10)
    fields = checkpoint.get("datamodule_hyper_parameters", {}).get("fields", [])
    weights = sum(weight.numel() for weight in checkpoint["state_dict"].values())
    conditions = f", conditioned on {', '.join(settings['parameters'])}" if settings.get("parameters") else ""
    what = f"the field{'s' * (len(fields) > 1)} {', '.join(fields)}" if fields else "microstructures"
    training = training_record(checkpoint)
    spans = {f"values of {name}": f"{low:g} to {high:g} ({source})" for name, (low, high, source) in _spans(checkpoint)}
    record = {NAMES[name]: value for name, value in training.items()} | spans
    given = (
        ", parameters={" + ", ".join(f'"{name}": ...' for name in settings["parameters"]) + "}" if conditions else ""
    )
    parts = [
        HEADER + f"# {model}",
        f"A {model} of microevo with {weights:,} numbers, which forecasts {what} from "
        f"{n_past} input frame{'s' * (n_past > 1)}{conditions}.",
        "```python\nimport microevo\n\n"
        'model = microevo.load_model("path/of/this/folder")\n'
        f"forecast = model(past, horizon=20{given})  # past: (B, {n_past}, {settings.get('channels', 1)}, H, W)\n```",
        *([notes] if notes else []),
        "## Training\n\n" + (table(("", ""), record.items()) if record else "Nothing is known of the training."),
        *([scores] if scores else []),
        "## Settings\n\n" + table(("setting", "value"), settings.items()),
        f"Written by microevo {versions()['microevo']} with PyTorch {versions()['torch']}.",
    ]
    return "\n\n".join(parts) + "\n"


def benchmark_scores(results: str | Path, checkpoint: str | Path) -> str:
    """A section with the scores of a checkpoint in a benchmark, beside those of Persistence.

    Args:
        results: The folder that `benchmark` wrote, or a file in it.
        checkpoint: The checkpoint, which is found by its fingerprint.

    Raises:
        FileNotFoundError: There is no benchmark.
        ValueError: The benchmark did not compare these weights.
    """
    path = Path(results)
    folder = next((place for place in (path, *path.parents) if (place / RECORD).exists()), path)
    benchmark, digest = Results(folder), model_fingerprint(checkpoint)
    competitors = {entry["label"]: entry["name"] for entry in benchmark.record["competitors"]}
    found = {
        (protocol, competitors[label])
        for protocol, record in benchmark.record["protocols"].items()
        for label in record["competitors"]
        if benchmark.table.fingerprint(protocol, label) == digest
    }
    if not found:
        names = [name for name in dict.fromkeys(competitors.values()) if name != TRUTH]
        raise ValueError(
            f"the benchmark in {folder} compared {', '.join(names)}, but none with the weights of "
            f"{checkpoint}; give the results of a benchmark that lists this checkpoint"
        )
    summary = pd.read_csv(folder / "summary.csv")
    summary = summary[(summary["kind"] == "metric") & (summary["statistic"] == "mean over leads")]
    rows = [row for protocol, name in sorted(found) for row in _rows(summary, protocol, name)]
    protocols = {name: benchmark.record["protocols"][name] for name, _ in sorted(found)}
    about = "\n".join(
        f"- `{name}`: {record['n_past']} to {record['horizon']} frames of `{Path(record['store']).name}`, protocol and data "
        f"`{record['digest']}`"
        for name, record in protocols.items()
    )
    columns = ("protocol", "score", "mean over lead times", "95 % interval", BASELINE, "seeds")
    return f"## Benchmark\n\n{table(columns, rows)}\n\n{about}"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _rows(summary: pd.DataFrame, protocol: str, name: str) -> list[tuple[str, ...]]:
    of_protocol = summary[summary["protocol"] == protocol]
    baseline = of_protocol[of_protocol["competitor"] == BASELINE].set_index("name")["mean"]
    return [
        (
            protocol,
            str(row["name"]),
            f"{row['mean']:.4g}",
            f"{row['low']:.4g} to {row['high']:.4g}",
            f"{baseline[row['name']]:.4g}" if row["name"] in baseline else "",
            str(row["seeds"]),
        )
        for _, row in of_protocol[of_protocol["competitor"] == name].iterrows()
    ]


def _spans(checkpoint: Mapping[str, Any]) -> list[tuple[str, tuple[float, float, str]]]:
    return [(name, tuple(span)) for name, span in checkpoint.get("microevo_spans", {}).items()]
