"""StoreSchema: the metadata of a trajectory store, and how they are laid out in zarr."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from microevo.processes import Field
from microevo.provenance import versions

SCHEMA_VERSION = 1
SPLITS = ("train", "val", "test")


def check_split_names(names: Iterable[str]) -> None:
    """Check that every name is that of a split.

    Raises:
        ValueError: One is not.
    """
    if unknown := sorted(set(names) - set(SPLITS)):
        raise ValueError(f"splits are {', '.join(SPLITS)}, but {', '.join(unknown)} was given")


@dataclass(frozen=True, kw_only=True)
class StoreSchema:
    """The metadata of a trajectory store: everything that it holds besides the values of its fields.

    Args:
        fields: The stored fields, in the order of the axis `C`.
        frames: Number of frames in each trajectory, T.
        image_shape: Number of pixels along (y, x).
        splits: The split (train, val or test) of each trajectory.
        process: Name of the process that evolves.
        recipe: The settings from which the store can be made again. For a simulation these are the process, its
            parameters and the seed; for an import, the input and the options.
        command: The shell command that made the store. Running it again completes an interrupted store.
        frame_interval: Time between frames [time_unit].
        first_frame: Time of the first frame [time_unit].
        spacing: Distance between pixels [length_unit].
        boundary: Boundary condition: `periodic`, `no-flux` or `unknown`.
        symmetries: Transformations that map a trajectory onto another possible trajectory: any of `shift`
            (periodic translation), `flip` and `rotate` (quarter turns).
        per_trajectory: Further values known of each trajectory, such as its seed, its sampled parameters or the
            group of windows that it belongs to.
        time_unit: Unit of time.
        length_unit: Unit of length.

    Raises:
        ValueError: A split has an unknown name, or there are no trajectories or no frames.
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
        check_split_names(self.splits)
        if not self.splits:
            raise ValueError("a store needs at least one trajectory; request some in `splits`")
        if self.frames < 1:
            raise ValueError(f"a trajectory needs at least one frame, but frames is {self.frames}")

    @property
    def bytes(self) -> int:
        """Size of all fields on disk, in bytes."""
        return 4 * len(self.fields) * len(self.splits) * self.frames * int(np.prod(self.image_shape))

    def write(self, path: Path) -> None:
        """Create the zarr group at `path`, with its metadata and empty arrays for the trajectories."""
        n = len(self.splits)
        group = zarr.create_group(store=path, zarr_format=3)
        per_trajectory = ["split", *self.per_trajectory]
        for entry in self.fields:
            group.create_array(
                entry.name,
                shape=(n, self.frames, *self.image_shape),
                chunks=(1, self.frames, *self.image_shape),
                dtype="<f4",
                compressors=None,  # zstd saves a tenth of a phase field and costs 50 times the reading time
                fill_value=np.nan,  # a missing chunk must not be read as a microstructure
                config={"write_empty_chunks": True},
                dimension_names=("trajectory", "time", *self._space),
                attributes={
                    "long_name": entry.long_name,
                    "units": entry.units,
                    "coordinates": " ".join(per_trajectory),  # by this CF convention xarray makes them coordinates
                },
            )

        def coordinate(name: str, values: np.ndarray, dimension: str, fill: int = 0, **attributes: Any) -> None:
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                fill_value=fill,
                dimension_names=(dimension,),
                attributes=attributes,
            )
            array[:] = values

        coordinate(
            "time",
            self.first_frame + self.frame_interval * np.arange(self.frames),
            "time",
            # Not `units`: xarray would take a unit of time for a calendar.
            unit=self.time_unit,
        )
        for name, pixels in zip(self._space, self.image_shape, strict=True):
            coordinate(name, self.spacing * (np.arange(pixels) + 0.5), name, units=self.length_unit)
        coordinate(
            "split",
            np.array([SPLITS.index(name) for name in self.splits], dtype=np.int8),
            "trajectory",
            fill=-1,  # a missing chunk must not be read as the training split
            flag_values=list(range(len(SPLITS))),
            flag_meanings=" ".join(SPLITS),
        )
        for name, values in self.per_trajectory.items():
            coordinate(name, np.asarray(values), "trajectory")

        described = asdict(self)
        for name in ("fields", "frames", "image_shape", "splits", "per_trajectory"):
            described.pop(name)
        group.attrs.update(
            described
            | {
                "microevo_schema": SCHEMA_VERSION,
                "complete": False,
                "fields": [entry.name for entry in self.fields],
                "spans": {entry.name: entry.span for entry in self.fields if entry.span is not None},
                "per_trajectory": list(self.per_trajectory),
                "versions": versions(),
            }
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about consolidated metadata, an extension of format 3
            # The arrays never change shape, and a reader then opens one file instead of one for each array.
            zarr.consolidate_metadata(path)

    @property
    def _space(self) -> tuple[str, ...]:
        return ("z", "y", "x")[-len(self.image_shape) :]
