"""The zarr layout of simulated and imported trajectories, written and read in one place."""

import contextlib
import errno
import hashlib
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
import zarr.codecs
from jaxtyping import Float

from microevo.processes import Field

SCHEMA_VERSION = 1
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a store holds besides its numbers; all of it is written to the store's attributes.

    Args:
        fields: The saved fields, in the order of the axis `C`.
        frames: Frames per trajectory, T.
        image_shape: Pixels along (y, x).
        splits: The split (train, val or test) of each trajectory.
        process: Name of what evolves.
        recipe: Everything needed to make the store again: for a simulation the process, its settings, the
            seed; for an import the input and its options.
        command: The shell command that made the store, and that finishes an interrupted one.
        frame_interval: Time between frames [time_unit].
        first_frame: Time of the first frame [time_unit].
        spacing: Distance between pixels [length_unit].
        boundary: `periodic`, `no-flux` or `unknown`.
        symmetries: Transformations that turn a trajectory into another possible one: any of `shift`
            (periodic translation), `flip` and `rotate` (quarter turns).
        per_trajectory: Further numbers known of each trajectory (seed, drawn parameters, window group).
        time_unit: Unit of time.
        length_unit: Unit of length.
    """

    fields: tuple[Field, ...]
    frames: int
    image_shape: tuple[int, ...]
    splits: tuple[str, ...]
    process: str
    recipe: Mapping[str, Any]
    command: str = ""
    frame_interval: float = 1.0
    first_frame: float = 0.0
    spacing: float = 1.0
    boundary: str = "unknown"
    symmetries: tuple[str, ...] = ()
    per_trajectory: Mapping[str, np.ndarray] = field(default_factory=dict)
    time_unit: str = "t0"
    length_unit: str = "l0"

    def __post_init__(self) -> None:
        strangers = sorted(set(self.splits) - set(SPLITS))
        if strangers:
            raise ValueError(f"splits are {', '.join(SPLITS)}, but {', '.join(strangers)} was given")
        if not self.splits:
            raise ValueError("a store needs at least one trajectory; ask for some in `splits`")
        if self.frames < 1:
            raise ValueError(f"a trajectory needs at least one frame, but frames is {self.frames}")

    @property
    def bytes(self) -> int:
        """Size of the numbers on disk."""
        return 4 * len(self.fields) * len(self.splits) * self.frames * int(np.prod(self.image_shape))


class TrajectoryStore:
    """A zarr v3 group of trajectories that is complete in itself.

    Each field is one float32 array with the dimensions `(trajectory, time, y, x)`, one uncompressed chunk per
    trajectory; `xarray.open_zarr(path)` reads it as it is, with the split, seed and drawn parameters as
    coordinates along `trajectory`. A chunk appears under its name only when it is whole, so a trajectory
    is either there or not; the attribute `complete` is set last.

    Open stores with `TrajectoryStore.open`, make them with `TrajectoryStore.create`, `write` and `finish`.
    """

    def __init__(self, path: Path, attributes: Mapping[str, Any]) -> None:
        self.path = path
        self.attributes = dict(attributes)

    # ------------------------------------------------------------------ opening

    @classmethod
    def open(cls, path: str | os.PathLike, *, unfinished: bool = False) -> "TrajectoryStore":
        """Open an existing store for reading.

        Args:
            path: The store's folder.
            unfinished: Accept a store that is still being written; trajectories that are missing read as NaN.

        Raises:
            FileNotFoundError: There is nothing at `path`.
            ValueError: It is no trajectory store, one of a newer version, or unfinished.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(
                f"there is no trajectory store at {path}; make it with `python -m microevo simulate` or `import`"
            )
        attributes = _read_attributes(path)
        if attributes is None:
            raise ValueError(
                f"{path} is no trajectory store; give the folder that `python -m microevo simulate` or `import` wrote"
            )
        if attributes["microevo_schema"] > SCHEMA_VERSION:
            raise ValueError(
                f"{path} was written with store version {attributes['microevo_schema']}, this microevo reads up to "
                f"{SCHEMA_VERSION}; update microevo"
            )
        store = cls(path, attributes)
        if not unfinished and not attributes["complete"]:
            there = len(store) - len(store.missing())
            raise ValueError(
                f"{path} is unfinished ({there} of {len(store)} trajectories); finish it by running again: "
                f"{attributes['command'] or 'the call that made it'}"
            )
        return store

    @classmethod
    def create(cls, path: str | os.PathLike, layout: Layout, *, overwrite: bool = False) -> "TrajectoryStore":
        """Make an empty store; it appears at `path` at once or not at all.

        Args:
            path: The new store's folder; its parents are made.
            layout: What it will hold.
            overwrite: Replace a store that is there. Anything else at `path` is never replaced.

        Raises:
            FileExistsError: `path` exists, perhaps only since another process has just made it.
            OSError: The disk has too little room.
        """
        path = Path(path)
        if path.exists() and not (overwrite and _read_attributes(path) is not None):
            hint = "choose another path" if overwrite else "use --overwrite to replace it or choose another path"
            raise FileExistsError(f"{path} exists already; {hint}")
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if layout.bytes > free:
            raise OSError(
                f"{path} needs {layout.bytes / 1e9:.2f} GB but {path.parent} has {free / 1e9:.2f} GB left; ask for fewer "
                "trajectories or frames, or choose another path"
            )
        # A folder of its own: jobs that start on several computers at the same moment may share a process id.
        scratch = Path(tempfile.mkdtemp(prefix=f"{path.name}.tmp-", dir=path.parent))
        try:
            _write_skeleton(scratch / "new", layout)
            if overwrite and path.exists():
                path.rename(scratch / "old")
            (scratch / "new").rename(path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            raise FileExistsError(f"{path} has just been made by another process; give the command again") from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return cls.open(path, unfinished=True)

    # ------------------------------------------------------------------ writing

    def write(self, trajectory: int, frames: Float[np.ndarray, "T C *image"]) -> None:
        """Write one whole trajectory; several processes may write at the same time, also the same one.

        Raises:
            ValueError: The shape is not the store's, or a value is not finite.
        """
        expected = (self.frames, len(self.fields), *self.image_shape)
        if frames.shape != expected:
            raise ValueError(f"a trajectory of {self.path} has the shape {expected}, but {frames.shape} was given")
        bad = np.flatnonzero(~np.isfinite(frames).reshape(len(frames), -1).all(axis=1))
        if bad.size:
            raise ValueError(
                f"trajectory {trajectory}, frame {bad[0]} holds a value that is not finite; nothing was written"
            )
        try:
            for c, name in enumerate(self.fields):
                self._arrays[name][trajectory] = frames[:, c].astype(np.float32)
        except FileNotFoundError:
            # Someone else wrote the same, finished the store, and swept away what we had not yet given its name.
            if self.missing(range(trajectory, trajectory + 1)):
                raise

    def missing(self, trajectories: range | None = None) -> list[int]:
        """Trajectories that are not yet written, among `trajectories` or all."""
        size = 4 * self.frames * int(np.prod(self.image_shape))
        return [
            i
            for i in (range(len(self)) if trajectories is None else trajectories)
            if not all(_has_size(self._chunk(name, i), size) for name in self.fields)
        ]

    def finish(self) -> None:
        """Check that every trajectory is there, add statistics and fingerprint, and mark the store complete.

        Several processes may do so at the same time: each writes the same, at once or not at all.

        Raises:
            ValueError: A trajectory is missing.
        """
        missing = self.missing()
        if missing:
            raise ValueError(f"{self.path} misses {len(missing)} of {len(self)} trajectories (first: {missing[0]})")
        # The training split alone: statistics of the others would leak into whatever is scaled by them.
        train = set(self.split("train").tolist())
        digest = hashlib.sha256()
        moments = {name: np.zeros(2) for name in self.fields}
        extremes = {name: np.array([np.inf, -np.inf]) for name in self.fields}
        for i in range(len(self)):
            frames = self.read(i)
            digest.update(np.ascontiguousarray(frames, dtype="<f4").tobytes())
            if i not in train:
                continue
            for c, name in enumerate(self.fields):
                values = frames[:, c].astype(np.float64)
                moments[name] += values.mean(), (values**2).mean()
                extremes[name] = np.array([min(extremes[name][0], values.min()), max(extremes[name][1], values.max())])
        statistics = {}
        for name in self.fields if train else ():
            mean, square = moments[name] / len(train)
            low, high = extremes[name]
            statistics[name] = {
                "mean": float(mean),
                "std": float(np.sqrt(max(square - mean**2, 0.0))),
                "min": float(low),
                "max": float(high),
            }
        self.attributes |= {"statistics": statistics, "fingerprint": digest.hexdigest(), "complete": True}
        try:
            zarr.open_group(self.path, mode="r+").attrs.update(self.attributes)
        except FileNotFoundError:
            if not (_read_attributes(self.path) or {}).get("complete"):  # else someone else has finished and swept
                raise
        for leftover in self.path.rglob("*.partial"):
            leftover.unlink(missing_ok=True)  # of a process that was killed while it wrote

    # ------------------------------------------------------------------ reading

    def __len__(self) -> int:
        return self._arrays[self.fields[0]].shape[0]

    def __getstate__(self) -> dict[str, Any]:
        # Open arrays stay behind: a worker process opens its own.
        return {"path": self.path, "attributes": self.attributes}

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields, in the order of the axis `C`."""
        return tuple(self.attributes["fields"])

    @property
    def frames(self) -> int:
        """Frames per trajectory."""
        return self._arrays[self.fields[0]].shape[1]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Pixels along (y, x)."""
        return self._arrays[self.fields[0]].shape[2:]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all numbers; two stores with the same one hold the same data."""
        return self.attributes.get("fingerprint", "")

    @cached_property
    def per_trajectory(self) -> dict[str, np.ndarray]:
        """Numbers known of each trajectory: `seed`, drawn parameters, window groups."""
        group = zarr.open_group(self.path, mode="r")
        return {name: np.asarray(group[name]) for name in self.attributes["per_trajectory"]}

    def split(self, name: str) -> np.ndarray:
        """Indices of the trajectories of a split (train, val or test)."""
        if name not in SPLITS:
            raise ValueError(f"splits are {', '.join(SPLITS)}, but {name} was asked for")
        return np.flatnonzero(self._split == SPLITS.index(name))

    def read(
        self, trajectory: int | np.integer, start: int = 0, stop: int | None = None, fields: Sequence[str] | None = None
    ) -> Float[np.ndarray, "T C *image"]:
        """Frames `start` to `stop` of one trajectory, as float32.

        A store in our own layout is read through a memory map of the chunk, much cheaper than zarr's
        indexing; any other layout goes through zarr, with the same answer.
        """
        names = self.fields if fields is None else tuple(fields)
        parts = [self._read_field(name, trajectory, slice(start, stop)) for name in names]
        return np.stack(parts, axis=1).astype(np.float32, copy=False)

    def _read_field(self, name: str, trajectory: int | np.integer, frames: slice) -> np.ndarray:
        if self._mappable[name]:
            chunk = self._chunk(name, trajectory)
            with contextlib.suppress(FileNotFoundError):
                array = self._arrays[name]
                return np.memmap(chunk, dtype=array.dtype.newbyteorder("<"), mode="r", shape=array.shape[1:])[frames]
        return np.asarray(self._arrays[name][int(trajectory), frames])

    def _chunk(self, name: str, trajectory: int | np.integer) -> Path:
        return self.path.joinpath(name, "c", str(trajectory), *("0" * (1 + len(self.image_shape))))

    @cached_property
    def _arrays(self) -> dict[str, zarr.Array]:
        mode: Literal["r", "r+"] = "r+" if os.access(self.path, os.W_OK) else "r"
        # The arrays' own metadata: the consolidated copy is out of date where somebody has rewritten an array.
        group = zarr.open_group(self.path, mode=mode, use_consolidated=False)
        return {name: group[name] for name in self.attributes["fields"]}

    @cached_property
    def _split(self) -> np.ndarray:
        return np.asarray(zarr.open_group(self.path, mode="r")["split"])

    @cached_property
    def _mappable(self) -> dict[str, bool]:
        return {name: _is_plain(array) for name, array in self._arrays.items()}


def _read_attributes(path: Path) -> dict[str, Any] | None:
    try:
        attributes = zarr.open_group(path, mode="r").attrs.asdict()
    except (FileNotFoundError, NotADirectoryError, KeyError, ValueError):
        return None
    return attributes if "microevo_schema" in attributes else None


def _write_skeleton(path: Path, layout: Layout) -> None:
    """Write everything but the trajectories themselves."""
    n = len(layout.splits)
    group = zarr.create_group(store=path, zarr_format=3)
    per_trajectory = ["split", *layout.per_trajectory]
    for entry in layout.fields:
        group.create_array(
            entry.name,
            shape=(n, layout.frames, *layout.image_shape),
            chunks=(1, layout.frames, *layout.image_shape),
            dtype="<f4",
            compressors=None,  # zstd saves a tenth of a phase field and costs 50 times the reading time
            fill_value=np.nan,  # a missing chunk must not read as a microstructure
            config={"write_empty_chunks": True},
            dimension_names=("trajectory", "time", *_space(layout)),
            attributes={
                "long_name": entry.long_name,
                "units": entry.units,
                "coordinates": " ".join(per_trajectory),  # the CF convention; xarray makes them coordinates
            },
        )

    def coordinate(name: str, values: np.ndarray, dimension: str, **attributes: Any) -> None:
        array = group.create_array(
            name, shape=values.shape, dtype=values.dtype, dimension_names=(dimension,), attributes=attributes
        )
        array[:] = values

    coordinate(
        "time",
        layout.first_frame + layout.frame_interval * np.arange(layout.frames),
        "time",
        # Not `units`: xarray would take a unit of time for a calendar.
        unit=layout.time_unit,
    )
    for name, pixels in zip(_space(layout), layout.image_shape, strict=True):
        coordinate(name, layout.spacing * (np.arange(pixels) + 0.5), name, units=layout.length_unit)
    coordinate(
        "split",
        np.array([SPLITS.index(name) for name in layout.splits], dtype=np.int8),
        "trajectory",
        flag_values=list(range(len(SPLITS))),
        flag_meanings=" ".join(SPLITS),
    )
    for name, values in layout.per_trajectory.items():
        coordinate(name, np.asarray(values), "trajectory")

    described = asdict(layout)
    for name in ("fields", "frames", "image_shape", "splits", "per_trajectory"):
        described.pop(name)
    group.attrs.update(
        described
        | {
            "microevo_schema": SCHEMA_VERSION,
            "complete": False,
            "fields": [entry.name for entry in layout.fields],
            "per_trajectory": list(layout.per_trajectory),
            "versions": versions(),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is an extension of format 3
        zarr.consolidate_metadata(path)  # arrays never change, and a reader opens one file instead of one per array


def versions() -> dict[str, str]:
    """Versions of what decides the numbers of a simulation or a training."""
    names = ("microevo", "torch", "lightning", "torchmetrics", "numpy", "zarr")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def _space(layout: Layout) -> tuple[str, ...]:
    return ("z", "y", "x")[-len(layout.image_shape) :]


def _has_size(chunk: Path, size: int) -> bool:
    try:
        return chunk.stat().st_size == size
    except FileNotFoundError:
        return False


def _is_plain(array: zarr.Array) -> bool:
    """Whether each trajectory is one file of bare little-endian numbers."""
    metadata = array.metadata
    codecs = getattr(metadata, "codecs", ())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (
            len(codecs) == 1
            and isinstance(codecs[0], zarr.codecs.BytesCodec)
            and codecs[0].endian == zarr.codecs.Endian.little
            and array.shards is None
            and array.chunks == (1, *array.shape[1:])
            and metadata.to_dict().get("chunk_key_encoding") == {"name": "default", "configuration": {"separator": "/"}}
        )
