"""A benchmark on disk: everything that a report is made of, so that it can be rendered again without computing."""

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from microevo.benchmark.bootstrap import Samples, identity
from microevo.benchmark.competitors import TRUTH, Competitor, EnsembleForecasts, Model
from microevo.benchmark.evaluation import Evaluation
from microevo.benchmark.long_table import FINITE, SCHEMA, Block, Key, LongTable
from microevo.data import WindowDataset
from microevo.metrics import Metric, Quantity, find, rows_of
from microevo.provenance import atomic, read_record, versions, write_file

RECORD, COST, VERSION = "benchmark.json", "cost.csv", 2  # the version of the columns of all tables
WRITTEN = (RECORD, COST, "table", "frames", "summary.csv", "report.md", "report.html", ".*.part")


@dataclass(frozen=True)
class Results:
    """The folder of a benchmark.

    Args:
        folder: It holds `table` (the long table), `frames` (those of the gallery), `cost.csv` and `benchmark.json`: what
            was compared, on which data, with which settings and versions.
    """

    folder: Path

    @classmethod
    def write(cls, evaluation: Evaluation, settings: Mapping[str, Any], keep: Collection[str] = ()) -> "Results":
        """Record what is compared; the numbers follow as they are computed.

        Args:
            evaluation: What is compared.
            settings: With which settings.
            keep: Protocols that stay as they are, if the folder has results of them.
        """
        known = cls(evaluation.folder).previous
        protocols = {name: record for name, record in known["protocols"].items() if name in keep}
        kept = {label for record in protocols.values() for label in record["competitors"]}
        for name in evaluation.protocols:
            protocols[name] = _protocol_record(evaluation, name)
        competitors = [_competitor_record(competitor) for competitor in evaluation.competitors]
        others = [
            competitor
            for competitor in known["competitors"]
            if competitor["label"] in kept and competitor not in competitors
        ]
        record = {
            "version": VERSION,
            "fields": evaluation.fields,
            "protocols": protocols,
            "competitors": competitors + others,
            "settings": settings,
            "git": evaluation.git,
            "versions": versions(),
        }
        write_file(evaluation.folder / RECORD, json.dumps(record, indent=2) + "\n")
        return cls(evaluation.folder)

    @cached_property
    def record(self) -> dict[str, Any]:
        """What was compared.

        Raises:
            FileNotFoundError: There is no benchmark in the folder.
            ValueError: The benchmark was written by an earlier version of microevo.
        """
        path = self.folder / RECORD
        if not path.exists():
            raise FileNotFoundError(f"there is no benchmark in {self.folder}; run it first, or correct --output")
        record = read_record(path)
        if record.get("version") != VERSION:
            raise ValueError(
                f"the results in {self.folder} were written by an earlier version of microevo, whose tables have other columns; "
                "run the benchmark with --overwrite and without --only to make them anew, or choose another --output"
            )
        return record

    @property
    def previous(self) -> dict[str, Any]:
        """What was compared before, empty if there are no results yet."""
        nothing: dict[str, Any] = {"protocols": {}, "competitors": [], "fields": [], "settings": {}}
        return self.record if (self.folder / RECORD).exists() else nothing

    def check_kept(self, keep: Collection[str], evaluation: Evaluation) -> None:
        """Check that new results belong beside those that stay: the same fields, and the same models by the same names.

        Args:
            keep: Protocols whose results are to stay, if the folder has them.
            evaluation: What the new ones are of.

        Raises:
            FileExistsError: Those that stay do not belong with them.
        """
        if not keep:
            return
        for name in (name for name in self.previous["protocols"] if name in keep):
            if self.record["fields"] != evaluation.fields:
                raise FileExistsError(
                    f"{self.folder} holds results of {name} for the fields {', '.join(self.record['fields'])}, but "
                    f"{', '.join(evaluation.fields)} are asked for; choose another --output"
                )
            trained = (entry for entry in evaluation.competitors if isinstance(entry, Model | EnsembleForecasts))
            for model in trained:
                if evaluation.table.fingerprint(name, model.label) not in (None, model.fingerprint(name)):
                    raise FileExistsError(
                        f"{self.folder} holds results of {name} by a {model.label} with other weights; run all protocols anew "
                        "(--overwrite without --only), or choose another --output"
                    )

    def delete(self, protocols: Collection[str] | None = None) -> None:
        """Remove all results, or those of some protocols, and nothing else that is in the folder."""
        if protocols is not None:
            for name in protocols:
                for folder in (self.table.group(name, TRUTH).parent, self.table.frames_path(name, TRUTH).parent):
                    shutil.rmtree(folder, ignore_errors=True)
            if "protocol" in self.cost and set(self.cost["protocol"]) <= set(protocols):
                self.delete_cost()
            return
        for pattern in WRITTEN:
            for path in self.folder.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    @property
    def table(self) -> LongTable:
        """The long table."""
        return LongTable(self.folder / "table")

    @property
    def cost(self) -> pd.DataFrame:
        """The cost table, empty where cost was not measured."""
        path = self.folder / COST
        return pd.read_csv(path, keep_default_na=True) if path.exists() else pd.DataFrame()

    def delete_cost(self) -> None:
        """Remove the cost table, because other settings give another one."""
        (self.folder / COST).unlink(missing_ok=True)

    def write_cost(self, cost: pd.DataFrame) -> None:
        """Keep the cost table."""
        with atomic(self.folder / COST) as temporary:
            cost.to_csv(temporary, index=False)


class ScoreTable:
    """The scores of one protocol, of all competitors whose forecasts are complete.

    Args:
        results: The benchmark, which may still be running.
        protocol: Name of the protocol.

    Attributes:
        record: What `benchmark.json` says of the protocol.
        windows: Trajectory and first input frame of each window, sorted.
        trajectories: Those trajectories.
        competitors: The complete competitors, with `label`, `name` and `seed`, and `members` of an ensemble.
        incomplete: Label of each other competitor, with the number of its windows that are done.
    """

    def __init__(self, results: Results, protocol: str) -> None:
        self.record = results.record["protocols"][protocol]
        self._results, self._protocol = results, protocol
        self.windows = sorted(tuple(window) for window in self.record["windows"])
        self.trajectories = sorted({trajectory for trajectory, _ in self.windows})
        self.competitors: list[dict[str, Any]] = []
        self.incomplete: dict[str, int] = {}
        self._blocks: dict[str, dict[Key, Block]] = {}
        try:
            rows = results.table.read(protocol)
        except FileNotFoundError:
            rows = SCHEMA.empty_table().to_pandas()
        by_competitor: Any = rows.groupby(["competitor", "seed"], observed=True, dropna=False)
        groups = {(name, None if pd.isna(seed) else int(seed)): group for (name, seed), group in by_competitor}
        for competitor in results.record["competitors"]:
            label = competitor["label"]
            if label not in self.record["competitors"]:
                continue
            group = groups.get((competitor["name"], competitor["seed"]), rows.iloc[:0])
            done = set(group[["trajectory", "start"]].drop_duplicates().itertuples(index=False, name=None))
            if done == set(self.windows):
                self.competitors.append(competitor)
                self._blocks[label] = dict(self._split(group))
            else:
                self.incomplete[label] = len(done & set(self.windows))

    @property
    def names(self) -> list[str]:
        """Names of the complete competitors, without their seeds."""
        return list(dict.fromkeys(str(competitor["name"]) for competitor in self.competitors))

    @property
    def members(self) -> dict[str, int]:
        """Number of members of each ensemble."""
        return {str(entry["name"]): entry["members"] for entry in self.competitors if "members" in entry}

    def block(self, label: str, key: Key) -> Block | None:
        """The values of a competitor by window and lead time, None if there are none."""
        return self._blocks[label].get(_stored(key))

    def has(self, *keys: Key) -> bool:
        """Whether any competitor has values of any of some keys."""
        return any(_stored(key) in blocks for key in keys for blocks in self._blocks.values())

    def leads(self, key: Key) -> list[int]:
        """The lead times at which there are values; none if these belong to the whole forecast."""
        blocks = (blocks[_stored(key)] for blocks in self._blocks.values() if _stored(key) in blocks)
        leads = next((block.leads for block in blocks), None)
        return [] if leads is None else leads.tolist()

    def samples(self, *keys: Key) -> Samples:
        """Values of all competitors that have them, windows of one trajectory averaged; of several keys side by side."""
        values: dict[str, list[np.ndarray]] = {}
        for competitor in self.competitors:
            blocks = [block for key in keys if (block := self.block(competitor["label"], key)) is not None]
            if blocks:
                joined = np.concatenate([block.values for block in blocks], axis=1).astype(np.float64)
                by_trajectory = joined.reshape(len(self.trajectories), -1, joined.shape[1])
                values.setdefault(str(competitor["name"]), []).append(by_trajectory.mean(axis=1))
        simulations = dict(self.record["groups"] or ())
        groups = tuple(simulations[trajectory] for trajectory in self.trajectories) if simulations else None
        return Samples({name: np.stack(seeds) for name, seeds in values.items()}, groups, self._of_mean(keys[0]))

    def censored(self, key: Key) -> dict[str, float]:
        """Share of each competitor's forecasts whose value is only a lower bound."""
        shares: dict[str, list[float]] = {}
        for competitor in self.competitors:
            block = self.block(competitor["label"], key)
            if block is not None and block.censored is not None:
                shares.setdefault(str(competitor["name"]), []).append(float(block.censored.mean()))
        return {name: float(np.mean(seeds)) for name, seeds in shares.items()}

    def non_finite(self, name: str) -> int:
        """Number of forecasts of a competitor with a frame that is not finite."""
        blocks = (
            self.block(competitor["label"], FINITE) for competitor in self.competitors if competitor["name"] == name
        )
        return sum(int((block.values < 1).any(axis=1).sum()) for block in blocks if block is not None)

    def frames_path(self, label: str) -> Path:
        """The file with the kept frames of a competitor."""
        return self._results.table.frames_path(self._protocol, label)

    def frames(self, label: str) -> Float[np.ndarray, "n T C H W"]:
        """The kept frames of a competitor (`Truth` for the true ones), at the lead times `gallery_leads` of the record."""
        return np.load(self.frames_path(label)).astype(np.float32)

    def spread(self, label: str) -> Float[np.ndarray, "n T C H W"]:
        """The spread of an ensemble in its kept frames."""
        return np.load(self._results.table.spread_path(self._protocol, label)).astype(np.float32)

    def _of_mean(self, key: Key) -> Any:
        metric = find(key.name) if key.kind == "metric" else None
        if metric is None or metric.of != "mean":
            return identity
        return metric.bound(forecasts=len(self.windows)).function

    def _split(self, rows: pd.DataFrame) -> list[tuple[Key, Block]]:
        rows = rows.sort_values(["trajectory", "start", "lead"], kind="stable")
        found = []
        by_key: Any = rows.groupby(["kind", "name", "bin"], observed=True, sort=False, dropna=False)
        for (kind, name, bin_), group in by_key:
            leads = np.unique(group["lead"].dropna().to_numpy(np.int64))
            shape = (len(self.windows), max(1, len(leads)))
            censored = group["censored"].to_numpy(bool).reshape(shape)
            block = Block(
                group["value"].to_numpy().reshape(shape),
                leads if len(leads) else None,
                censored if censored.any() else None,
            )
            found.append((Key(kind, name, None if pd.isna(bin_) else int(bin_)), block))
        return found


def _stored(key: Key) -> Key:
    """The key of the rows that a score is computed from: RMSE, for instance, is a function of the mean of MSE."""
    return key._replace(name=rows_of(key.name)) if key.kind == "metric" else key


def _competitor_record(competitor: Competitor) -> dict[str, Any]:
    record = {"label": competitor.label, "name": competitor.name, "seed": competitor.seed}
    return record | ({"members": len(competitor.members)} if isinstance(competitor, EnsembleForecasts) else {})


def _protocol_record(evaluation: Evaluation, name: str) -> dict[str, Any]:
    """Everything that a report says of a protocol, apart from the numbers."""
    protocol, windows, scores = evaluation.protocols[name], evaluation.windows(name), evaluation.scores[name]
    store = windows.store
    described = ("process", "boundary", "frame_interval", "time_unit", "spacing", "length_unit", "recipe")
    return (
        asdict(protocol)
        | {key: store.attributes[key] for key in described}
        | {
            "windows": windows.windows,
            "groups": _groups(windows),
            "gallery_leads": evaluation.gallery_leads(name),
            "digest": protocol.digest(windows),
            "fingerprint": store.fingerprint,
            "image_shape": list(store.image_shape),
            "spans": scores.spans,
            "units": {name: store.units[name] for name in windows.fields},
            "competitors": [
                competitor.label
                for competitor in evaluation.competitors
                if competitor.supports(name, protocol, windows)
            ],
            "metrics": [_metric_record(name, metric) for name, metric in scores.pixel.items()],
            "quantities": [_quantity_record(quantity) for quantity in scores.quantities(windows.trajectories[:1])],
        }
    )


def _groups(windows: WindowDataset) -> list[tuple[int, int]] | None:
    """Pairs of a trajectory and the simulation that it was cut from; simulated trajectories have none."""
    if "group" not in windows.store.per_trajectory:
        return None
    group = windows.store.per_trajectory["group"]
    return [(trajectory, int(group[trajectory])) for trajectory in windows.trajectories]


def _metric_record(name: str, metric: Any) -> dict[str, str | None]:
    if isinstance(metric, Metric):
        return {"name": name, "title": metric.title, "unit": metric.unit, "better": metric.better}
    return {"name": name, "title": name, "unit": "1", "better": "lower"}


def _quantity_record(quantity: Quantity) -> dict[str, Any]:
    """What a reader of the table has to know of a quantity."""
    record: dict[str, Any] = {"name": quantity.name, "title": quantity.long_name, "unit": quantity.unit}
    record |= {
        "values": quantity.statistic is not None,
        "error_title": ", ".join(filter(None, (quantity.long_name, quantity.error_name))),
        "error_unit": quantity.error_unit or quantity.unit,
    }
    if quantity.bins is not None:
        record["bins"] = {
            "title": quantity.bins.name,
            "unit": quantity.bins.unit,
            "middles": list(quantity.bins.middles),
        }
    if quantity.fit is not None:
        record["fit"] = {"name": quantity.fit.name, "unit": quantity.fit.unit}
    return record
