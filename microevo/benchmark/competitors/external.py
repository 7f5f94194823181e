"""Forecasts made elsewhere, read from files and scored like those of any model."""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import zarr
from torch import Tensor

from microevo.benchmark.competitors.base import Competitor, Forecast
from microevo.benchmark.protocol import Protocol
from microevo.data import TrajectoryStore, Window, WindowDataset
from microevo.data.location import is_url
from microevo.data.readers.arrays import npz_arrays
from microevo.provenance import fingerprint

T = TypeVar("T", np.ndarray, zarr.Array)


class ExternalForecasts(Competitor):
    """Forecasts in files, one file for each protocol.

    A file holds the target frames, in the order of the protocol's windows: trajectories of the split in the order of
    the store, for each of them the windows in the order of `starts`. It is

    - a `.npy` file or a zarr array of the shape (windows, horizon, fields, height, width); the axis of fields may be
      left out where there is one;
    - a `.npz` file with one array, or one alone that has this shape;
    - or the `forecasts.zarr` that `python -m microevo predict` writes, or a zip file of it.

    Args:
        name: Name of the row.
        files: The file of each protocol.
        seed: Seed of the training, if there was one.
    """

    def __init__(self, name: str, files: Mapping[str, str | Path], seed: int | None = None) -> None:
        super().__init__(name, seed)
        for path in files.values():
            if is_url(path):
                raise ValueError(f"predictions are read from disk, but {path} is a URL; download it first")
        self.files = {protocol: Path(path) for protocol, path in files.items()}
        for path in self.files.values():
            if not path.exists():
                raise FileNotFoundError(f"there are no predictions at {path}; correct `predictions`")

    def fingerprint(self, protocol: str) -> str:
        """The digest of the file."""
        path, digest = self.files[protocol], hashlib.sha256()
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(str(file.relative_to(path)).encode() + bytes.fromhex(fingerprint(file)))
        return digest.hexdigest()

    def supports(self, name: str, protocol: Protocol, windows: WindowDataset) -> bool:
        """Whether there is a file for the protocol."""
        return name in self.files

    def prepare(self, name: str, protocol: Protocol, windows: WindowDataset, device: torch.device) -> Forecast:
        """Return the frames of the file, read batch by batch."""
        path = self.files[name]
        rows = {window: row for row, window in enumerate(windows.windows)}
        target = (len(rows), protocol.horizon, len(windows.fields), *windows.store.image_shape)
        possible = [target, target[:2] + target[3:]] if target[2] == 1 else [target]
        frames = _from_npz(path, possible) if path.suffix == ".npz" else self._open(path, windows)
        shape = tuple(frames.shape)
        if shape not in possible:
            raise ValueError(
                f"the predictions {path} have the shape {shape}, but {name} asks for {target} (windows, frames, fields, "
                "height, width); see the protocol for the number of windows"
            )

        def forecast(window: Window) -> Tensor:
            selected = [rows[key] for key in zip(window.trajectory.tolist(), window.start.tolist(), strict=True)]
            read = np.stack([np.asarray(frames[row], np.float32) for row in selected])
            return torch.from_numpy(read).reshape(len(selected), *target[1:])

        return forecast

    def _open(self, path: Path, windows: WindowDataset) -> "np.ndarray | zarr.Array | _ForecastStore":
        if path.suffix == ".npy":
            try:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
            except ValueError as error:
                raise ValueError(f"{path} is not a NumPy file of numbers; save it with numpy.save") from error
            return _check_real(array, path)
        if path.suffix == ".zip":
            return _ForecastStore(TrajectoryStore.open(path), windows)
        try:
            node = zarr.open(path, mode="r")
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(
                f"{path} is neither a .npy or .npz file nor a zarr array; see the README for the layout"
            ) from error
        if isinstance(node, zarr.Array):
            return _check_real(node, path)
        if "microevo_schema" not in node.attrs:
            raise ValueError(
                f"{path} is a zarr group that predict did not write; give the array in it ({', '.join(node) or 'it is empty'})"
            )
        return _ForecastStore(TrajectoryStore.open(path), windows)


def _from_npz(path: Path, possible: Sequence[tuple[int, ...]]) -> np.ndarray:
    """The only array of an archive, or the only one that has a possible shape."""
    try:
        arrays = npz_arrays(path)
        fitting = (
            list(arrays) if len(arrays) == 1 else [name for name, array in arrays.items() if array.shape in possible]
        )
        if len(fitting) == 1:
            return _check_real(arrays[fitting[0]].open(), path)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a NumPy archive of numbers; save it with numpy.savez") from error
    inside = ", ".join(f"{name} {entry.shape}" for name, entry in arrays.items()) or "nothing"
    count = f"{' and '.join(fitting)} have" if fitting else "none has"
    raise ValueError(
        f"{path} holds {inside}, of which {count} the shape of the predictions, {possible[0]}; save the predictions alone"
    )


def _check_real(array: T, path: Path) -> T:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{path} holds {array.dtype}, but predictions are real numbers")
    return array


class _ForecastStore:
    """The store that `predict` writes, read in the order of a protocol's windows."""

    def __init__(self, store: TrajectoryStore, windows: WindowDataset) -> None:
        self.store = store
        self.names = [f"{field}_forecast" for field in windows.fields]
        known = store.per_trajectory
        absent = [name for name in self.names if name not in store.fields]
        if absent or "source_trajectory" not in known:
            raise ValueError(
                f"{store.path} holds no forecasts of {', '.join(windows.fields)}; give the forecasts.zarr that predict wrote"
            )
        source = store.attributes["recipe"].get("source")
        if source != windows.store.fingerprint:
            raise ValueError(
                f"{store.path} holds forecasts of other data than {windows.store.path}; predict again with this store"
            )
        where = zip(known["source_trajectory"].tolist(), known["source_start"].tolist(), strict=True)
        rows = {window: row for row, window in enumerate(where)}
        missing = [window for window in windows.windows if window not in rows]
        if missing:
            raise ValueError(
                f"{store.path} lacks the forecast of trajectory {missing[0][0]} from frame {missing[0][1]} on and "
                f"{len(missing) - 1} others; predict them all"
            )
        self.rows = [rows[window] for window in windows.windows]
        self.shape = (len(self.rows), store.frames, len(self.names), *store.image_shape)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.store.read(self.rows[row], fields=self.names)
