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

from microevo.benchmark.competitors import TRUTH, Model
from microevo.benchmark.evaluation import PART, Evaluation
from microevo.benchmark.long_table import LongTable
from microevo.data import WindowDataset
from microevo.metrics import Comparison, Metric, Quantity
from microevo.provenance import versions, write_file

ABOUT, COST = "benchmark.json", "cost.csv"
WRITTEN = (ABOUT, COST, "table", "frames", "summary.csv", "report.md", "report.html", ".*.part")


@dataclass(frozen=True)
class Results:
    """The folder of a benchmark.

    Args:
        folder: It holds `table` (the long table), `frames` (those to look at), `cost.csv` and `benchmark.json`: what was
            compared, on which data, with which settings and versions.
    """

    folder: Path

    @classmethod
    def write(cls, evaluation: Evaluation, settings: Mapping[str, Any], keep: Collection[str] = ()) -> "Results":
        """Note what is compared; the numbers follow as they are computed.

        Args:
            evaluation: What is compared.
            settings: With which settings.
            keep: Protocols that stay as they are, if the folder has results of them.
        """
        there = cls(evaluation.folder)
        known = there.about if (there.folder / ABOUT).exists() else {"protocols": {}, "entries": []}
        protocols = {name: about for name, about in known["protocols"].items() if name in keep}
        kept = {label for about in protocols.values() for label in about["entries"]}
        for name, protocol in evaluation.protocols.items():
            windows = evaluation.windows(name)
            store = windows.store
            protocols[name] = asdict(protocol) | {
                "windows": windows.windows,
                "groups": _groups(windows),
                "shown_leads": evaluation.shown_leads(name),
                "digest": protocol.digest(windows),
                "fingerprint": store.fingerprint,
                "process": store.attributes["process"],
                "boundary": store.attributes["boundary"],
                "frame_interval": store.attributes["frame_interval"],
                "time_unit": store.attributes["time_unit"],
                "spacing": store.attributes["spacing"],
                "length_unit": store.attributes["length_unit"],
                "image_shape": list(store.image_shape),
                "recipe": store.attributes["recipe"],
                "entries": [one.label for one in evaluation.competitors if one.supports(name, protocol, windows)],
                "quantities": [_about(one) for one in evaluation.scores[name].quantities(windows.trajectories[:1])],
                "pixel": list(evaluation.scores[name].pixel),
                "metrics": [
                    {"name": one.name, "title": one.label, "better": one.better}
                    for one in evaluation.scores[name].pixel.values()
                    if isinstance(one, Metric)
                ],
            }
        entries = [{"label": one.label, "model": one.name, "seed": one.seed} for one in evaluation.competitors]
        about = {
            "fields": evaluation.fields,
            "protocols": protocols,
            "entries": entries + [one for one in known["entries"] if one["label"] in kept and one not in entries],
            "settings": settings,
            "git": evaluation.git,
            "versions": versions(),
        }
        folder = evaluation.folder
        write_file(folder / ABOUT, json.dumps(about, indent=2) + "\n")
        return cls(folder)

    @cached_property
    def about(self) -> dict[str, Any]:
        """What was compared.

        Raises:
            FileNotFoundError: There is no benchmark in the folder.
        """
        path = self.folder / ABOUT
        if not path.exists():
            raise FileNotFoundError(f"there is no benchmark in {self.folder}; run it first, or correct --output")
        return json.loads(path.read_text())

    @property
    def settings(self) -> dict[str, Any]:
        """With which settings the numbers were made, empty if there are none yet."""
        return self.about["settings"] if (self.folder / ABOUT).exists() else {}

    def check_kept(self, keep: Collection[str], evaluation: Evaluation) -> None:
        """Refuse to put results beside others that are of other fields, or of another model of the same name.

        Args:
            keep: Protocols whose results are to stay, if the folder has them.
            evaluation: What the new ones are of.

        Raises:
            FileExistsError: Those that stay do not belong with them.
        """
        known = self.about if (self.folder / ABOUT).exists() else {"protocols": {}, "fields": []}
        for name in (name for name in known["protocols"] if name in keep):
            if known["fields"] != evaluation.fields:
                raise FileExistsError(
                    f"{self.folder} holds results of {name} for the fields {', '.join(known['fields'])}, but "
                    f"{', '.join(evaluation.fields)} are asked for; choose another --output"
                )
            for model in (one for one in evaluation.competitors if isinstance(one, Model)):
                if evaluation.table.fingerprint(name, model.label) not in (None, model.fingerprint(name)):
                    raise FileExistsError(
                        f"{self.folder} holds results of {name} by a {model.label} with other weights; run all protocols anew "
                        "(--overwrite without --only), or choose another --output"
                    )

    def delete(self, protocols: Collection[str] | None = None) -> None:
        """Remove results, and nothing else that is in the folder.

        Args:
            protocols: Only those of these protocols; all unless given.
        """
        if protocols is not None:
            table, cost = LongTable(self.folder / "table"), self.cost
            for name in protocols:
                for folder in (table.group(name, TRUTH).parent, table.frames_path(name, TRUTH).parent):
                    shutil.rmtree(folder, ignore_errors=True)
            if "protocol" in cost and set(cost["protocol"]) <= set(protocols):
                self.drop_cost()
            return
        for pattern in WRITTEN:
            for path in self.folder.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    @property
    def table(self) -> LongTable:
        """The long table, of the entries that are compared and have answered a protocol completely."""
        groups = [(protocol, label) for protocol in self.about["protocols"] for label in self.complete(protocol)]
        return LongTable(self.folder / "table", groups)

    def complete(self, protocol: str) -> list[str]:
        """The entries that have made all forecasts of a protocol; the folder may hold others, of an earlier call."""
        about, table = self.about["protocols"][protocol], LongTable(self.folder / "table")
        parts = range(-(-len(about["windows"]) // PART))
        return [label for label in about["entries"] if all(table.part(protocol, label, i).exists() for i in parts)]

    def groups(self, protocol: str) -> dict[int, int] | None:
        """Which simulation each trajectory of a protocol was cut from, where several were cut from one."""
        groups = self.about["protocols"][protocol].get("groups")
        return None if groups is None else dict(groups)

    @property
    def cost(self) -> pd.DataFrame:
        """The cost table, empty where cost was not measured."""
        path = self.folder / COST
        return pd.read_csv(path) if path.exists() else pd.DataFrame()

    def drop_cost(self) -> None:
        """Forget the cost table, which other settings make another one."""
        (self.folder / COST).unlink(missing_ok=True)

    def write_cost(self, cost: pd.DataFrame) -> None:
        """Keep the cost table."""
        write_file(self.folder / COST, cost.to_csv(index=False))

    def frames(self, protocol: str, label: str) -> Float[np.ndarray, "n T C H W"]:
        """The kept frames of an entry (`Truth` for the true ones), at the leads `shown_leads` of the protocol."""
        return np.load(self.table.frames_path(protocol, label)).astype(np.float32)


def _groups(windows: WindowDataset) -> list[tuple[int, int]] | None:
    """Pairs of a trajectory and its group; simulated ones have none."""
    if "group" not in windows.store.per_trajectory:
        return None
    group = windows.store.per_trajectory["group"]
    return [(trajectory, int(group[trajectory])) for trajectory in windows.trajectories]


def _about(quantity: Quantity | Comparison) -> dict[str, Any]:
    """What a reader of the table has to know of a quantity; a `Comparison` has errors and no values."""
    about: dict[str, Any] = {"name": quantity.name, "long_name": quantity.long_name, "unit": quantity.unit}
    if isinstance(quantity, Comparison):
        return about | {"error_unit": quantity.unit, "better": "low", "values": False}
    about |= {"error_unit": quantity.error_unit or quantity.unit, "better": quantity.better, "values": True}
    if quantity.error_name:
        about["error_name"] = quantity.error_name
    if quantity.bins is not None:
        about["bins"] = {"name": quantity.bins.name, "unit": quantity.bins.unit, "middles": list(quantity.bins.middles)}
    if quantity.fit is not None:
        about["fit"] = {"name": quantity.fit.name, "unit": quantity.fit.unit}
    return about
