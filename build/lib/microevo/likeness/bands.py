"""Published values of the statistics of a process, and the bands that simulated ones must lie in; from a YAML file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ENTRIES = {"published", "within", "percent", "band"}


@dataclass(frozen=True)
class Row:
    """One statistic.

    Attributes:
        published: Value of the published sample; None if unknown.
        low: Least value that a mean over simulated runs may have; None if it is not tested.
        high: Largest one.
    """

    published: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Case:
    """Trajectories with the same parameters.

    Attributes:
        name: Told apart by; empty if there is only one case.
        where: Parameters of the process that a simulated trajectory must have to belong here.
        rows: The statistics, by name.
    """

    name: str
    where: Mapping[str, float]
    rows: Mapping[str, Row]


@dataclass(frozen=True)
class Bands:
    """What is known of the published sample of a process.

    Attributes:
        process: Name of the process, as stores have it.
        frames: Frames that are compared.
        runs: Simulated trajectories that the bands hold for the mean of, at least.
        aligned_at: Value of the clock of the process at the first published frame; None if simulations begin there.
        cases: Case `i` belongs to published trajectory `i`.
    """

    process: str
    frames: int
    runs: int
    aligned_at: float | None
    cases: tuple[Case, ...] = field(default_factory=tuple)

    @classmethod
    def read(cls, path: str | Path) -> "Bands":
        """Read a file of `data/published`.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not what such a file should be.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there are no bands at {path}; give one of data/published/*.yaml")
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is no YAML file: {' '.join(str(error).split())}") from error
        expected = {"process", "frames", "cases"}
        if not isinstance(content, dict) or not expected <= content.keys() <= expected | {"runs", "aligned_at"}:
            raise ValueError(
                f"{path} must have the entries process, frames and cases, and may have runs and aligned_at; compare it with "
                "those of data/published"
            )
        cases = tuple(
            Case(
                name=str(case.get("name", "")),
                where={name: float(value) for name, value in case.get("where", {}).items()},
                rows={name: _row(entries, f"{path}, {name}") for name, entries in case["statistics"].items()},
            )
            for case in content["cases"]
        )
        return cls(
            process=content["process"],
            frames=content["frames"],
            runs=content.get("runs", 1),
            aligned_at=float(content["aligned_at"]) if "aligned_at" in content else None,
            cases=cases,
        )


def _row(entries: Mapping[str, Any], label: str) -> Row:
    tolerances = entries.keys() & {"within", "percent", "band"}
    if entries.keys() - ENTRIES or len(tolerances) > 1 or not entries.keys() & {"published", "band"}:
        raise ValueError(
            f"{label} has the entries {', '.join(entries)}, but needs published, and one of within, percent and band if it is "
            "tested; correct it"
        )
    published = float(entries["published"]) if "published" in entries else None
    if "band" in entries:
        low, high = entries["band"]
        return Row(published, float(low), float(high))
    assert published is not None  # one of the two is there
    if not tolerances:
        return Row(published)
    width = entries["within"] if "within" in entries else abs(published) * entries["percent"] / 100
    return Row(published, float(published - width), float(published + width))
