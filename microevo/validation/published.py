"""A published sample: what is known of it, its values, and the intervals in which simulated ones are accepted; from YAML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

ENTRIES = {"published", "within", "percent", "interval"}
REQUIRED = {"process", "boundary", "frames", "cases"}
OPTIONAL = {"runs", "aligned", "curves", "objects", "profiles", "persistence"}


@dataclass(frozen=True)
class Expected:
    """What is expected of one descriptor.

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
        name: What distinguishes it from the other cases; empty if there is only one case.
        where: Parameters of the process that a simulated trajectory must have to belong here.
        expected: What is expected of each descriptor, by name; these are the ones that are measured.
    """

    name: str
    where: Mapping[str, float]
    expected: Mapping[str, Expected]


@dataclass(frozen=True)
class PublishedSample:
    """What is known of the published sample of a process.

    Attributes:
        path: File that says so.
        process: Name of the process, as stores have it.
        boundary: Whether frames continue on their opposite side.
        frames: Frames that are compared.
        runs: Simulated trajectories that the intervals hold for the mean of, at least.
        clock: Descriptor that falls steadily with time and tells the age of a frame; None if simulations begin with the
            first published frame.
        aligned_at: Its value at the first published frame.
        curves: Descriptors that the picture shows against time.
        objects: Threshold, side and connectivity of the objects that are counted, see `microevo.metrics.count_objects`.
        profiles: First frame, end and step of those whose grain boundaries are measured.
        persistence: Input frames and first frames of the windows of the persistence forecast.
        cases: Case `i` belongs to published trajectory `i`.
    """

    path: str
    process: str
    boundary: Literal["periodic", "no-flux"]
    frames: int
    runs: int = 1
    clock: str | None = None
    aligned_at: float | None = None
    curves: tuple[str, ...] = ()
    objects: Mapping[str, Any] = field(default_factory=dict)
    profiles: tuple[int | None, ...] = (None,)
    persistence: Mapping[str, Any] = field(default_factory=dict)
    cases: tuple[Case, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> "PublishedSample":
        """Read a file of `data/published`.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not what such a file should be.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there are no acceptance intervals at {path}; give one of data/published/*.yaml")
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict) or not REQUIRED <= content.keys() <= REQUIRED | OPTIONAL:
            raise ValueError(
                f"{path} must have the entries process, boundary, frames and cases, and may have {', '.join(sorted(OPTIONAL))}; "
                "compare it with those of data/published"
            )
        cases = tuple(
            Case(
                name=str(case.get("name", "")),
                where={name: float(value) for name, value in case.get("where", {}).items()},
                expected={name: _expected(entries, f"{path}, {name}") for name, entries in case["descriptors"].items()},
            )
            for case in content["cases"]
        )
        aligned = content.get("aligned")
        return cls(
            path=str(path),
            process=content["process"],
            boundary=content["boundary"],
            frames=content["frames"],
            runs=content.get("runs", 1),
            clock=aligned["by"] if aligned else None,
            aligned_at=float(aligned["at"]) if aligned else None,
            curves=tuple(content.get("curves", ())),
            objects=content.get("objects", {}),
            profiles=tuple(content.get("profiles", (None,))),
            persistence=content.get("persistence", {}),
            cases=cases,
        )


def _expected(entries: Mapping[str, Any] | None, label: str) -> Expected:
    entries = entries or {}
    tolerances = entries.keys() & {"within", "percent", "interval"}
    if entries.keys() - ENTRIES or len(tolerances) > 1 or (tolerances - {"interval"} and "published" not in entries):
        raise ValueError(
            f"{label} has the entries {', '.join(entries)}, but may have published, and one of within, percent and interval if "
            "it is tested; correct it"
        )
    published = float(entries["published"]) if "published" in entries else None
    if "interval" in entries:
        low, high = entries["interval"]
        return Expected(published, float(low), float(high))
    if published is None or not tolerances:
        return Expected(published)
    width = entries["within"] if "within" in entries else abs(published) * entries["percent"] / 100
    return Expected(published, float(published - width), float(published + width))
