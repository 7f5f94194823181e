"""What is done so far -> at most eight files to take away, each replaced as a whole."""

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from plan import NETWORKS, PUBLISHED, PUBLISHED_SPEED
from safetensors.torch import save_file

from microevo.metrics.table import mean_at_leads
from microevo.provenance import atomic, write_file

SHARD = 14e6  # bytes; a file may have 15 MB
KEPT = "grain-growth-fcn"  # the run whose weights are taken away
COLORS = ("C0", "C1", "C2", "C3", "C4", "0.6")  # of the networks, and of Persistence
LEFT = ("frames",)  # of the results: what can be made again, and is large


def collect(work: Path, out: Path, records: Mapping[str, Any]) -> None:
    """Write everything that the finished parts allow.

    Args:
        work: Folder of stores, runs and results.
        out: Where the files go: `paper.json`, `paper.md`, `paper.png`, `results.tar` and the shards of the weights; the
            log is there already.
        records: Record of each part.
    """
    results = {path.name: path for path in sorted((work / "results").glob("*")) if (path / "report.md").exists()}
    scores = pd.concat([_scores(name, path) for name, path in results.items()]) if results else pd.DataFrame()
    record = {"parts": records, "scores": scores.to_dict("records"), "speed": _speed(results)}
    write_file(out / "paper.json", json.dumps(record, indent=2, default=str) + "\n")
    write_file(out / "paper.md", _markdown(records, scores, record["speed"]))
    if results:
        with atomic(out / "paper.png") as path:
            _picture(results, path)
        with atomic(out / "results.tar") as path:
            _pack(results, path)
    checkpoint = work / "runs" / KEPT / "checkpoints" / "last.ckpt"
    if records.get(f"FCN on {KEPT.removesuffix('-fcn')}", {}).get("status") == "done" and not any(
        out.glob("weights-*")
    ):
        _write_weights(checkpoint, out)


def _scores(name: str, folder: Path) -> pd.DataFrame:
    """Mean over lead times and value at the last one, of each network."""
    summary = pd.read_csv(folder / "summary.csv")
    wanted = summary[(summary["kind"] == "metric") & summary["name"].isin(["rmse", "ssim"])]
    rows = []
    for (protocol, model), own in wanted.groupby(["protocol", "competitor"], sort=False):
        rows.append({"benchmark": name, "protocol": protocol, "model": model, "last_lead": int(own["lead"].max())})
        for metric, values in own.groupby("name"):
            rows[-1][f"{metric}_mean"] = values.loc[values["statistic"] == "mean over leads", "mean"].item()
            rows[-1][f"{metric}_last"] = values.loc[values["lead"] == values["lead"].max(), "mean"].item()
    return pd.DataFrame(rows)


def _speed(results: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Cost of each network, and how many times that of the FCN it is."""
    rows = []
    for name, folder in results.items():
        if not (folder / "cost.csv").exists():
            continue
        cost = pd.read_csv(folder / "cost.csv").set_index("competitor").dropna(subset="training_seconds")
        for model in cost.index:
            row = {"benchmark": name, "model": model, "paper": PUBLISHED_SPEED.get(str(model))}
            for column in (
                "seconds",
                "forecasts_per_second",
                "best_batch",
                "training_seconds",
                "training_batch",
                "device",
            ):
                row[column] = cost.loc[model, column]
            if "FCN" in cost.index:
                fcn = cost.loc["FCN"]
                row["times_fcn_alone"] = cost.loc[model, "seconds"] / fcn["seconds"]
                row["times_fcn_in_batches"] = fcn["forecasts_per_second"] / cost.loc[model, "forecasts_per_second"]
            rows.append(row)
    return rows


def _markdown(records: Mapping[str, Any], scores: pd.DataFrame, speed: list[dict[str, Any]]) -> str:
    facts = records.get("facts", {})
    lines = ["# The paper's setting", "", f"{facts.get('gpu') or facts.get('processor')}, {facts.get('cores')} cores, "]
    lines[-1] += f"{facts.get('minutes')} minutes, commit {facts.get('git')}."
    if not scores.empty:
        lines += ["", "| data | model | RMSE, mean | RMSE, last | SSIM, mean | SSIM, last | the paper's FCN |"]
        lines += ["|---|---|---:|---:|---:|---:|---|"]
        for row in scores.to_dict("records"):
            comparable = row["model"] == "FCN" and row["protocol"].startswith("10->90")
            limit = PUBLISHED.get(row["benchmark"]) if comparable else None
            published = f"RMSE < {limit['rmse']}, SSIM > {limit['ssim']}" if limit else ""
            values = " | ".join(f"{row[name]:.3g}" for name in ("rmse_mean", "rmse_last", "ssim_mean", "ssim_last"))
            lines.append(f"| {row['benchmark']}, {row['protocol']} | {row['model']} | {values} | {published} |")
    if speed:
        lines += [
            "",
            "| data | model | s / forecast | forecasts / s | s / training step | times the FCN's: alone, in batches | paper |",
        ]
        lines += ["|---|---|---:|---:|---:|---:|---:|"]
        for row in speed:
            times = (
                f"{row.get('times_fcn_alone', float('nan')):.3g}, {row.get('times_fcn_in_batches', float('nan')):.3g}"
            )
            costs = " | ".join(f"{row[name]:.3g}" for name in ("seconds", "forecasts_per_second", "training_seconds"))
            lines.append(f"| {row['benchmark']} | {row['model']} | {costs} | {times} | {row['paper'] or ''} |")
    lines += ["", "| part | status | seconds | |", "|---|---|---:|---|"]
    for name, part in records.items():
        detail = part.get("why") or ", ".join(
            f"{key} {part[key]:.4g}" for key in ("steps", "epochs", "windows_per_second", "batch") if key in part
        )
        lines.append(f"| {name} | {part['status']} | {part.get('seconds', 0):.0f} | {detail} |")
    return "\n".join(lines) + "\n"


def _picture(results: Mapping[str, Path], path: Path) -> None:
    """RMSE against lead time, a panel for each benchmark."""
    figure, axes = plt.subplots(1, len(results), figsize=(4 * len(results), 3.4), squeeze=False, layout="constrained")
    models, lines = [*NETWORKS, "Persistence"], {}
    for panel, (name, folder) in zip(axes[0], results.items(), strict=True):
        table = pd.read_parquet(folder / "table")
        scores = table[(table["kind"] == "metric") & (table["competitor"] != "Truth")]
        curves = mean_at_leads(scores.rename(columns={"competitor": "model", "name": "metric"}), "rmse")
        for model, curve in curves.iterrows():
            color = COLORS[models.index(str(model)) % len(COLORS)]
            lines[str(model)] = panel.plot(curve.index, curve.to_numpy(), color=color)[0]
        panel.set(title=name, xlabel="lead time [frames]", ylabel="RMSE")
    figure.legend(lines.values(), lines.keys(), loc="outside right", frameon=False)
    figure.savefig(path, format="png", dpi=150)
    plt.close(figure)


def _pack(results: Mapping[str, Path], path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for name, folder in results.items():
            for file in sorted(folder.rglob("*")):
                if file.is_file() and not set(file.relative_to(folder).parts) & set(LEFT):
                    tar.add(file, f"{name}/{file.relative_to(folder)}")


def _write_weights(checkpoint: Path, out: Path) -> None:
    """Half-precision weights in shards; buffers such as counters keep their type."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    shards: list[dict[str, torch.Tensor]] = [{}]
    size = 0.0
    for name, value in state.items():
        small = value.half().contiguous() if value.is_floating_point() else value
        if size + small.nbytes > SHARD and shards[-1]:
            shards.append({})
            size = 0.0
        shards[-1][name] = small
        size += small.nbytes
    for number, shard in enumerate(shards, start=1):
        with atomic(out / f"weights-{KEPT}-{number}-of-{len(shards)}.safetensors") as path:
            save_file(shard, path)
            path.chmod(0o644)  # it comes readable by its owner alone
