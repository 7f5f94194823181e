"""What is whole of a benchmark that may still be running."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from microevo.benchmark.competitors import TRUTH
from microevo.benchmark.long_table import COLUMNS, Block, LongTable
from microevo.benchmark.results import Results
from microevo.benchmark.summary import Curves
from microevo.metrics import rows_of


class Answers:
    """What is whole of the answers to one protocol: values by entry, metric, window and lead.

    Args:
        results: The benchmark.
        protocol: Name of the protocol.
    """

    def __init__(self, results: Results, protocol: str) -> None:
        about = results.about["protocols"][protocol]
        self.windows = sorted(tuple(window) for window in about["windows"])
        self.trajectories = sorted({trajectory for trajectory, _ in self.windows})
        cut = results.groups(protocol)
        self.groups = None if cut is None else tuple(cut[trajectory] for trajectory in self.trajectories)
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
            block = self.block(entry["label"], rows_of(metric))
            if block is not None:
                by_trajectory = block.values.reshape(len(self.trajectories), -1, len(block.leads)).astype(np.float64)
                models.setdefault(str(entry["model"]), []).append(by_trajectory.mean(axis=1))
        windows = len(self.windows) // max(1, len(self.trajectories))
        return Curves(metric, {model: np.stack(seeds) for model, seeds in models.items()}, self.groups, windows)

    def leads(self, metric: str) -> list[int]:
        """The leads that a metric has, 0 alone if it belongs to the whole forecast."""
        blocks = (self.block(entry["label"], rows_of(metric)) for entry in self.entries)
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
