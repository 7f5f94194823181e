"""Stored trajectories, simulated or imported: making a store, writing to it and reading it."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
import zarr.codecs
from jaxtyping import Float

from microevo.data.layout import SCHEMA_VERSION, SPLITS, Layout


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
            layout.write(scratch / "new")
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
