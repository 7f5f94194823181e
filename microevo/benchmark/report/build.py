"""Results -> one report: read once, averaged once, put into words once; the other files of this package render it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from microevo.benchmark.leaderboard import Leaderboard
from microevo.benchmark.report.definitions import definitions
from microevo.benchmark.report.findings import Findings, findings
from microevo.benchmark.results import Results, ScoreTable
from microevo.span import described


@dataclass(frozen=True)
class CostColumn:
    """What is shown of a column of the cost table."""

    name: str
    title: str
    factor: float = 1.0


COSTS = (
    CostColumn("parameters", "parameters [M]", 1e-6),
    CostColumn("multiply_adds", "multiply-adds, whole forecast [G]", 1e-9),
    CostColumn("multiply_adds_block", "multiply-adds, one block [G]", 1e-9),
    CostColumn("seconds", "seconds per forecast"),
    CostColumn("forecasts_per_second", "forecasts per second, best batch"),
    CostColumn("best_batch", "best batch"),
    CostColumn("training_seconds", "seconds per training step"),
    CostColumn("training_batch", "training batch"),
    CostColumn("peak_memory_mb", "peak memory [MB]"),
    CostColumn("rmse", "RMSE, the first windows"),
    CostColumn("memory_method", "memory method"),
    CostColumn("device", "device"),
    CostColumn("protocol", "protocol"),
)


@dataclass(frozen=True)
class ProtocolReport:
    """Everything that a report says of a protocol.

    Attributes:
        name: Its name.
        table: Its scores, with the record of its settings.
        board: Those scores averaged.
        findings: What they say.
        settings: What makes two numbers comparable, in words.
        fields: The fields that are forecast.
    """

    name: str
    table: ScoreTable
    board: Leaderboard
    findings: Findings
    settings: dict[str, str]
    fields: list[str]

    @property
    def record(self) -> Mapping[str, Any]:
        """The settings of the protocol and the quantities, as `benchmark.json` has them."""
        return self.table.record


@dataclass(frozen=True)
class Report:
    """A benchmark, ready to be rendered.

    Attributes:
        results: Where it was read from.
        protocols: Its protocols; what an interrupted benchmark has not finished is left out of them.
        cost: The cost table, with a column `label` for what the row is called; empty where cost was not measured.
        definitions: The terms of the report, and what they mean.
    """

    results: Results
    protocols: list[ProtocolReport]
    cost: pd.DataFrame
    definitions: dict[str, str]

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        return self.results.folder

    @property
    def title(self) -> str:
        """The processes that were forecast."""
        processes = sorted({_words(protocol.record["process"]) for protocol in self.protocols})
        return f"Benchmark: {', '.join(processes)}"

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row for each protocol, competitor, score and lead time; see `Leaderboard.summary`."""
        tables = [protocol.board.summary() for protocol in self.protocols]
        return pd.concat([table for table in tables if not table.empty] or tables[:1], ignore_index=True)

    @property
    def reported(self) -> list[ProtocolReport]:
        """The protocols that any model has forecast completely."""
        return [protocol for protocol in self.protocols if protocol.board.rmse.forecasters]

    @property
    def seconds(self) -> dict[str, float]:
        """Time of one forecast of each competitor that was timed."""
        if "seconds" not in self.cost:
            return {}
        rows = self.cost.drop_duplicates("competitor")
        return dict(zip(rows["competitor"], rows["seconds"], strict=True))

    @property
    def cost_columns(self) -> list[CostColumn]:
        """The columns of the cost table that hold anything."""
        known = [column for column in COSTS if column.name in self.cost and self.cost[column.name].notna().any()]
        return [column for column in known if self.cost[column.name].astype(str).str.len().any()]


def build(results: Results, leads: Sequence[int]) -> Report:
    """Read the results, average the scores and put the findings into words; nothing is forecast again."""
    cost, fields = results.cost, results.record["fields"]
    protocols = []
    for name, record in results.record["protocols"].items():
        table = ScoreTable(results, name)
        board = Leaderboard.of(name, table, leads)
        settings = _settings(record, fields)
        protocols.append(ProtocolReport(name, table, board, findings(board, table, cost), settings, fields))
    if not cost.empty:
        cost = cost.assign(label=[_cost_label(row) for _, row in cost.iterrows()])
    return Report(results, protocols, cost, definitions([protocol.board for protocol in protocols], cost))


def _cost_label(row: pd.Series) -> str:
    matched = row.get("matched_to")
    return str(row["competitor"]) if pd.isna(matched) else f"{row['competitor']}, accuracy-matched to {matched}"


def _settings(record: Mapping[str, Any], fields: Sequence[str]) -> dict[str, str]:
    """What makes two numbers comparable, in words."""
    trajectories = len({trajectory for trajectory, _ in record["windows"]})
    simulations = len({group for _, group in record["groups"] or []})
    cut = f", cut from {simulations} simulation{'s' * (simulations > 1)}" if 0 < simulations < trajectories else ""
    height, width = record["image_shape"]
    return {
        "Process": f"{_words(record['process'])}, {record['boundary']} boundary",
        "Input and target": f"{record['n_past']} input frames, {record['horizon']} target frames",
        "Forecasts": f"{len(record['windows'])} forecasts of {trajectories} trajectories, split {record['split']}{cut}",
        "First input frames": ", ".join(map(str, record["starts"])),
        "Missing input frames": f"filled by {record['missing_past']}",
        "Frames": (
            f"{height} × {width} pixels of {record['spacing']:g} {record['length_unit']}, field {', '.join(fields)}"
        ),
        "Values for SSIM and PSNR": described(record.get("spans") or {}) or "from 0 to 1",
        "Time between frames": f"{record['frame_interval']:g} {record['time_unit']}",
        "Data": f"{record['store']}, fingerprint {record['fingerprint'][:16]}",
        "Protocol and data": record["digest"],
        "Recipe of the data": json.dumps(record["recipe"], indent=2),
    }


def _words(name: str) -> str:
    """`SpinodalDecomposition` as two words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()
