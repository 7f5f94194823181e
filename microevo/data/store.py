"""TrajectoryStore: simulated or imported trajectories on disk."""

import errno
import itertools
import math
import os
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr.codecs
from jaxtyping import Float

from microevo.data.location import Folder, Location, locate, writable
from microevo.data.schema import SCHEMA_VERSION, SPLITS, StoreSchema
from microevo.data.scratch import put_in_place, scratch_folder
from microevo.data.spans import spans_of
from microevo.data.statistics import summarised
from microevo.provenance import check_replaceable
from microevo.span import Span

# What zarr's codecs raise for a chunk that is cut off or overwritten.
DECODING_ERRORS = (OSError, ValueError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile)


class TrajectoryStore:
    """A self-contained data set of trajectories: one zarr group, format 3.

    Each field is one float32 array with the dimensions `(trajectory, time, y, x)` and one uncompressed chunk per
    trajectory. `xarray.open_zarr(path)` reads a store without microevo, with the split, the seed and the sampled
    parameters as coordinates along `trajectory`. A chunk appears under its name only once it is complete, so that
    a trajectory is either there or missing. The attribute `complete` is set last.

    A store is written in a folder. It may then be zipped or uploaded, and is read there as well.

    Open a store with `TrajectoryStore.open`; make one with `TrajectoryStore.create`, `write` and `finish`.
    """

    def __init__(self, path: Path | str, attributes: Mapping[str, Any]) -> None:
        self.path = path  # a string if it is a URL
        self.attributes = dict(attributes)
        self._opened: dict[int, dict[str, zarr.Array]] = {}  # by process

    # ------------------------------------------------------------------ opening

    @classmethod
    def open(cls, path: str | os.PathLike, *, unfinished: bool = False) -> "TrajectoryStore":
        """Open an existing store for reading.

        Args:
            path: The store's folder, a zip file of it, or a URL that fsspec reads, such as s3://bucket/store.zarr.
            unfinished: Whether to accept a store that is still being written.

        Raises:
            FileNotFoundError: There is nothing at `path`.
            OSError: `path` is a URL that cannot be reached.
            ValueError: `path` is not a trajectory store, is one of a newer version, is unfinished, or is damaged.
        """
        place = locate(path)
        path = place.path
        if not place.exists():
            raise FileNotFoundError(
                f"there is no trajectory store at {path}; make it with `python -m microevo simulate` or `import`"
            )
        attributes = _read_attributes(place)
        if attributes is None:
            raise ValueError(
                f"{path} is not a trajectory store; give the folder that `python -m microevo simulate` or `import` wrote"
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
                f"{path} is unfinished ({there} of {len(store)} trajectories); finish it by running again: {store._command}"
            )
        if not unfinished and (missing := store.missing()):
            raise store._damage(missing)
        return store

    @classmethod
    def create(cls, path: str | os.PathLike, schema: StoreSchema, *, overwrite: bool = False) -> "TrajectoryStore":
        """Make an empty store. It appears at `path` complete with its metadata, or not at all.

        Args:
            path: The new store's folder. Its parent folders are made.
            schema: The metadata of the store.
            overwrite: Whether to replace an existing store. Anything else at `path` is never replaced.

        Raises:
            FileExistsError: `path` exists, possibly because another process has just made it.
            OSError: The disk has too little space.
            ValueError: `path` is a zip file or a URL.
        """
        path = writable(path)
        check_replaceable(path, overwrite, "store", lambda path: _read_attributes(Folder(path)) is not None)
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if schema.bytes > free:
            raise OSError(
                f"{path} needs {schema.bytes / 1e9:.2f} GB but {path.parent} has {free / 1e9:.2f} GB left; ask for fewer "
                "trajectories or frames, or choose another path"
            )
        with scratch_folder(path) as scratch:
            schema.write(scratch / "new")
            try:
                put_in_place(scratch / "new", path, replace=overwrite)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                raise FileExistsError(f"{path} has just been made by another process; give the command again") from None
        return cls.open(path, unfinished=True)

    # ------------------------------------------------------------------ writing

    def write(self, trajectory: int, frames: Float[np.ndarray, "T C *image"]) -> None:
        """Write one complete trajectory. Several processes may write at the same time, even the same trajectory.

        Raises:
            ValueError: The shape differs from that of the store, or a value is not finite.
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
            # Another process wrote the same trajectory, finished the store, and removed our temporary file.
            if self.missing(range(trajectory, trajectory + 1)):
                raise

    def missing(self, trajectories: range | None = None) -> list[int]:
        """Trajectories that are not yet written, among `trajectories` or among all."""
        looked_at = range(len(self)) if trajectories is None else trajectories
        return [i for i in looked_at if not all(self._is_there(name, i) for name in self.fields)]

    def reopen(self) -> None:
        """Mark a complete store as unfinished, so that the trajectories that it has lost can be written again."""
        self.attributes["complete"] = False
        self._place.group(write=True).attrs["complete"] = False

    def finish(self) -> None:
        """Check that no trajectory is missing, add statistics and fingerprint, and mark the store complete.

        Several processes may do so at the same time, because each writes the same metadata atomically.

        Raises:
            ValueError: A trajectory is missing.
        """
        missing = self.missing()
        if missing:
            raise ValueError(f"{self.path} misses {len(missing)} of {len(self)} trajectories (first: {missing[0]})")
        statistics, digest = summarised(self)
        self.attributes |= {"statistics": statistics, "fingerprint": digest, "complete": True}
        try:
            # At once: `attrs.update` writes one after the other, and a kill would leave `complete` without what it stands for.
            self._place.group(write=True).update_attributes(self.attributes)
        except FileNotFoundError:
            # Otherwise another process has finished the store.
            if not (_read_attributes(self._place) or {}).get("complete"):
                raise
        for leftover in self.folder.rglob("*.partial"):
            leftover.unlink(missing_ok=True)  # of a process that was killed while it wrote

    # ------------------------------------------------------------------ reading

    def __len__(self) -> int:
        return self._arrays[self.fields[0]].shape[0]

    def __getstate__(self) -> dict[str, Any]:
        # Open arrays are left behind, because a worker process opens its own.
        return {"path": self.path, "attributes": self.attributes, "_opened": {}}

    @property
    def folder(self) -> Path:
        """The store's folder.

        Raises:
            ValueError: It is a zip file or a URL, where nothing can be written.
        """
        return writable(self.path)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields, in the order of the axis `C`."""
        return tuple(self.attributes["fields"])

    @property
    def units(self) -> dict[str, str]:
        """Unit of each field, `1` if it has none."""
        return {name: str(array.attrs.get("units", "1")) for name, array in self._arrays.items()}

    @property
    def frames(self) -> int:
        """Frames per trajectory."""
        return self._arrays[self.fields[0]].shape[1]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Pixels along (y, x)."""
        return self._arrays[self.fields[0]].shape[2:]

    @property
    def times(self) -> Float[np.ndarray, " T"]:
        """Time of each frame [time_unit]."""
        return self.attributes["first_frame"] + self.attributes["frame_interval"] * np.arange(self.frames)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all values. Two stores with the same fingerprint hold the same data."""
        return self.attributes.get("fingerprint", "")

    @cached_property
    def per_trajectory(self) -> dict[str, np.ndarray]:
        """Values known of each trajectory: its seed, sampled parameters, or group of windows."""
        group = self._place.group()
        return {name: np.asarray(group[name]) for name in self.attributes["per_trajectory"]}

    @cached_property
    def spans(self) -> dict[str, Span]:
        """The values between which each field lies; see `microevo.data.spans`."""
        return spans_of(self)

    def split(self, name: str) -> np.ndarray:
        """Indices of the trajectories of a split (train, val or test)."""
        if name not in SPLITS:
            raise ValueError(f"splits are {', '.join(SPLITS)}, but {name} was requested")
        return np.flatnonzero(self._split == SPLITS.index(name))

    def read(
        self, trajectory: int | np.integer, start: int = 0, stop: int | None = None, fields: Sequence[str] | None = None
    ) -> Float[np.ndarray, "T C *image"]:
        """Frames `start` to `stop` of one trajectory, as float32.

        A store in microevo's own layout and in a folder is read through a memory map of the chunk, which is much faster
        than zarr's indexing. Any other store is read through zarr, with the same result.

        Raises:
            ValueError: The trajectory is missing or damaged.
        """
        names = self.fields if fields is None else tuple(fields)
        parts = [self._read_field(name, trajectory, slice(start, stop)) for name in names]
        return np.stack(parts, axis=1).astype(np.float32, copy=False)

    def _read_field(self, name: str, trajectory: int | np.integer, frames: slice) -> np.ndarray:
        array = self._arrays[name]
        if self._plain[name] and isinstance(self._place, Folder):
            if not self._is_there(name, trajectory):
                raise self._damage([int(trajectory)])
            chunk = self._place.path / self._chunk(name, trajectory)
            return np.memmap(chunk, dtype=array.dtype.newbyteorder("<"), mode="r", shape=array.shape[1:])[frames]
        try:
            values = np.asarray(array[int(trajectory), frames])
        except (ConnectionError, PermissionError, TimeoutError) as error:
            raise OSError(f"{self.path} can no longer be read ({error}); give the command again") from error
        except DECODING_ERRORS as error:
            raise self._damage([int(trajectory)]) from error
        if np.isnan(values).any():  # a store holds finite values, and zarr reads a missing chunk as NaN
            raise self._damage([int(trajectory)])
        return values

    def _is_there(self, name: str, trajectory: int | np.integer) -> bool:
        """Whether all chunks of a field of a trajectory exist, and have the size that they must have."""
        array = self._arrays[name]
        if self._plain[name]:
            whole = array.dtype.itemsize * math.prod(array.shape[1:])
            return self._place.size(self._chunk(name, trajectory)) == whole
        if array.fill_value is None or not np.isnan(
            array.fill_value
        ):  # zarr does not write chunks that consist of the fill value
            return True
        sizes = array.shards or array.chunks
        grid = [range(math.ceil(length / size)) for length, size in zip(array.shape[1:], sizes[1:], strict=True)]
        keys = (array.metadata.encode_chunk_key((int(trajectory) // sizes[0], *c)) for c in itertools.product(*grid))
        return all(self._place.size(f"{name}/{key}") is not None for key in keys)

    def _damage(self, trajectories: Sequence[int]) -> ValueError:
        """The error for trajectories that are missing or damaged, with the way to get them back."""
        others = len(trajectories) - 1
        which = f"trajectory {trajectories[0]}" + (
            f" and {others} others" if others > 1 else " and another one" * others
        )
        simulated = isinstance(self.attributes["recipe"].get("process"), dict)
        remedy = "simulate it again by running" if simulated else "make the store again, with --overwrite, by running"
        state = "damaged" if self.attributes["complete"] else "unfinished"
        command = self._command
        if not isinstance(self._place, Folder):
            remedy, command = "copy the store there again", f"it was made by {command}"
        what = f"{which} of {len(self)} {'are' if others else 'is'} missing or incomplete"
        return ValueError(f"{self.path} is {state}: {what}; {remedy}: {command}")

    def _damaged(self, what: str) -> ValueError:
        """The error for metadata that are missing."""
        return ValueError(f"{self.path} is damaged: {what}; make the store again by running: {self._command}")

    @property
    def _command(self) -> str:
        return self.attributes["command"] or "the call that made it"

    def _chunk(self, name: str, trajectory: int | np.integer) -> str:
        """The key of a chunk of microevo's own layout."""
        return "/".join((name, "c", str(trajectory), *("0" * (1 + len(self.image_shape)))))

    @cached_property
    def _place(self) -> Location:
        return locate(self.path)

    @property
    def _arrays(self) -> dict[str, zarr.Array]:
        if os.getpid() not in self._opened:  # not those of the process that this one was forked from
            self._opened = {os.getpid(): self._open_arrays()}
        return self._opened[os.getpid()]

    def _open_arrays(self) -> dict[str, zarr.Array]:
        write = isinstance(self._place, Folder) and os.access(self._place.path, os.W_OK)
        # The metadata of the arrays themselves: the consolidated copy is outdated if an array was rewritten.
        group = self._place.group(write=write, use_consolidated=False)
        arrays: dict[str, zarr.Array] = {}
        for name in self.attributes["fields"]:
            try:
                arrays[name] = group[name]  # type: ignore[assignment]
            except (KeyError, ValueError, TypeError) as error:
                raise self._damaged(f"the metadata of the field {name} are missing or incomplete") from error
        return arrays

    @cached_property
    def _split(self) -> np.ndarray:
        try:
            splits = np.asarray(self._place.group()["split"])
        except (KeyError, *DECODING_ERRORS):
            splits = np.array([-1])
        if (splits < 0).any():  # the fill value
            raise self._damaged("the split of its trajectories is missing")
        return splits

    @cached_property
    def _plain(self) -> dict[str, bool]:
        return {name: _is_plain(array) for name, array in self._arrays.items()}


def _read_attributes(place: Location) -> dict[str, Any] | None:
    try:
        attributes = place.group().attrs.asdict()
    except (FileNotFoundError, NotADirectoryError, KeyError, ValueError):
        return None
    if attributes.get("complete") and "fingerprint" not in attributes:
        attributes["complete"] = False  # killed in the last moment, in a version that wrote the one before the other
    return attributes if "microevo_schema" in attributes else None


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
