"""Import of trajectories that others have simulated or measured, into a store."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from microevo.data.output import check_output, whole_output
from microevo.data.readers import FrameSource, Scale, as_float32, open_frames
from microevo.data.schema import SPLITS, StoreSchema, check_split_names
from microevo.data.splits import assign_splits, check_named_splits, connected_groups, frame_hashes
from microevo.data.store import TrajectoryStore
from microevo.processes import Field

COORDINATES = ("time", "z", "y", "x", "split", "group")


def import_frames(
    input: str | Path,
    output: str | Path,
    *,
    fields: Sequence[str] = ("c",),
    frame_interval: float | None = None,
    spacing: float | None = None,
    boundary: Literal["periodic", "no-flux", "unknown"] = "unknown",
    symmetries: list[Literal["shift", "flip", "rotate"]] = [],  # noqa: B006  (never changed; shown by --help)
    value_range: tuple[float, float] | None = None,
    splits: dict[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1},  # noqa: B006
    independent: bool = False,
    seed: int = 0,
    dataset: str | None = None,
    axes: str | None = None,
    frame_number: str | None = None,
    process: str = "imported",
    overwrite: bool = False,
    command: str = "",
) -> TrajectoryStore:
    """Make a store from trajectories that others have simulated or measured.

    Windows that were cut from one trajectory share successive frames. They are kept in one split, since a model would
    otherwise be tested on frames that it was trained on. Uniform frames do not count. What was found is printed on
    stderr, and the store keeps the group of each window as the coordinate `group`.

    Args:
        input: A file of NumPy, HDF5, MATLAB or netCDF with trajectories (N, T, H, W) or (N, T, C, H, W), or with one
            trajectory (T, H, W); a folder of numbered PNG, JPEG, TIFF or VTK (.vti) frames (one trajectory) or of such
            folders; a TIFF file of many pages, an exodus file (.e) on a regular grid, or a folder of these; or input and
            target frames in two files X_* and Y_*, given as either file or as their folder. Files or folders that are
            called train, val and test give the splits.
        output: Folder of the store. It appears once it is complete.
        fields: Names of the fields, in the order of the channels. Three fields take the channels of colour images, and
            arrays that are called like the fields are taken for them.
        frame_interval: Time between frames [t0]. With null it is what an exodus file says, and 1 for other files.
        spacing: Distance between pixels [l0], likewise.
        boundary: Boundary condition of the simulation. With periodic, nodes of an exodus file that repeat those of the other
            side are left out.
        symmetries: Transformations that map a trajectory onto another possible trajectory: shift (periodic
            translation), flip, rotate (quarter turns).
        value_range: The two values that become 0 and 1 [units of the input]. With null all values are kept, except
            that images of integers are divided by the largest value of their type.
        splits: Fractions of the trajectories in train, val and test, which sum to 1.
        independent: Whether to treat all trajectories as independent, although some of them share successive frames.
        seed: Seed of the random assignment to splits.
        dataset: Names of the arrays in a file of several, separated by commas, one for each field; a * takes the arrays
            of several trajectories, as in '*/data'.
        axes: Order of the axes of an array: a letter for each of trajectories N, time T, channels C, rows H and columns
            W, such as TNHW for Moving MNIST or NHWT for neural operators. With null it is NTHW or NTCHW, or what else
            fits the number of fields, and is printed.
        frame_number: Regular expression whose one group is the frame number or time in the names of images, such as
            't([0-9]+)'; images whose name does not match are left out. With null it is the only number that differs from
            name to name.
        process: Name of the process that evolves.
        overwrite: Whether to replace an existing store, once the new one is complete.
        command: The shell command of this call, kept in the store.

    Raises:
        FileNotFoundError: There is nothing at `input`.
        FileExistsError: `output` exists.
        OSError: `output` cannot be written.
        ValueError: The input cannot be read as trajectories of finite numbers, or a setting contradicts it.
    """
    _check_settings(fields, frame_interval, spacing, boundary, symmetries, value_range, splits)
    output = check_output(output, overwrite)
    with open_frames(
        input, fields=fields, dataset=dataset, axes=axes, scale_integers=value_range is None, frame_number=frame_number
    ) as source:
        source = _without_repeated_nodes(source, str(input)) if boundary == "periodic" else source
        scale = source.scale or Scale(frame_interval=1.0, first_frame=0.0, spacing=1.0, at_nodes=False)
        _, frames, channels, *image = source.shape
        if channels != len(fields):
            raise ValueError(
                f"{input} has {channels} channel{'s' * (channels > 1)} (N, T, C, H, W = {source.shape}), but "
                f"fields names {len(fields)} ({', '.join(fields)}); name each channel once"
            )
        groups = _groups(source, value_range, str(input))
        if independent:
            groups = np.arange(len(groups))
        if source.splits is None:
            names = assign_splits(groups, splits, seed)
        else:
            names = source.splits
            check_named_splits(groups, names, str(input))
        schema = StoreSchema(
            fields=tuple(Field(name=name, long_name=name, units="1") for name in fields),
            frames=frames,
            image_shape=tuple(image),
            splits=tuple(names),
            process=process,
            recipe={
                "input": str(input),
                "dataset": dataset,
                "axes": axes,
                "frame_number": frame_number,
                "fields": list(fields),
                "value_range": None if value_range is None else list(value_range),
                "splits": dict(splits) if source.splits is None else "named by the files",
                "independent": independent,
                "seed": seed,
            },
            command=command,
            frame_interval=scale.frame_interval if frame_interval is None else frame_interval,
            first_frame=scale.first_frame,
            spacing=scale.spacing if spacing is None else spacing,
            boundary=boundary,
            symmetries=tuple(symmetries),
            per_trajectory={"group": groups},
        )
        _write(source, value_range, output, schema, overwrite)
        notes = source.notes
    for sentence in [*notes, *_findings(output, schema, groups, splits if source.splits is None else None)]:
        print(sentence, file=sys.stderr)
    return TrajectoryStore.open(output)


# ------------------------------------------------------------------ checks before anything is read


def _check_settings(
    fields: Sequence[str],
    frame_interval: float | None,
    spacing: float | None,
    boundary: str,
    symmetries: Sequence[str],
    value_range: tuple[float, float] | None,
    splits: Mapping[str, float],
) -> None:
    invalid = [name for name in fields if not name.isidentifier() or name in COORDINATES]
    if invalid or not fields or len(set(fields)) < len(fields):
        raise ValueError(
            f"fields are different names of letters and digits other than {', '.join(COORDINATES)}, but "
            f"{', '.join(fields) or 'none'} was given; rename them"
        )
    for name, value in {"frame_interval": frame_interval, "spacing": spacing}.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive number, but it is {value}")
    if boundary == "no-flux" and "shift" in symmetries:
        raise ValueError("the symmetry shift needs periodic boundaries, but boundary is no-flux; leave one out")
    if value_range is not None and not -math.inf < value_range[0] < value_range[1] < math.inf:
        raise ValueError(f"value_range is two finite numbers, the lower one first, but {list(value_range)} was given")
    check_split_names(splits)
    if not all(share >= 0 for share in splits.values()) or abs(sum(splits.values()) - 1) > 1e-6:
        raise ValueError(
            f"splits must be fractions from 0 to 1 that sum to 1, but {dict(splits)} was given (sum "
            f"{sum(splits.values()):g}); change them"
        )


# ------------------------------------------------------------------ reading


def _groups(source: FrameSource, value_range: tuple[float, float] | None, label: str) -> np.ndarray:
    """Check that all values are finite, and number the groups of windows that were cut from one trajectory."""
    hashes = []
    for i in tqdm(range(source.shape[0]), desc=f"checking {label}", unit="trajectory", delay=1.0):
        trajectory = np.ascontiguousarray(source.read(i))
        finite = np.isfinite(as_float32(trajectory, value_range)).all(axis=(1, 2, 3))
        if not finite.all():
            raise ValueError(
                f"{label}, trajectory {i}, frame {int(np.argmin(finite))} holds a value that is not finite "
                "in float32; remove the trajectory or repair it"
            )
        hashes.append(frame_hashes(trajectory))
    return connected_groups(hashes)


def _without_repeated_nodes(source: FrameSource, label: str) -> FrameSource:
    """The frames without the last row and column, if they are nodes of a periodic mesh, which has each node of its edge twice.

    Raises:
        ValueError: The last row or column does not repeat the first one.
    """
    if source.scale is None or not source.scale.at_nodes:
        return source

    def read(i: int) -> np.ndarray:
        frames = source.read(i)
        tolerance = 1e-6 * float(np.ptp(frames))
        ends = frames[..., -1, :] - frames[..., 0, :], frames[..., :, -1] - frames[..., :, 0]
        if not all(np.abs(difference).max() <= tolerance for difference in ends):
            raise ValueError(
                f"boundary is periodic, but the values at opposite edges of the mesh in {label} differ; correct boundary"
            )
        return frames[..., :-1, :-1]

    *sizes, height, width = source.shape
    note = f"{label}: the nodes of the last row and column repeat those of the first, and were left out"
    return replace(source, shape=(*sizes, height - 1, width - 1), read=read, notes=(*source.notes, note))


# ------------------------------------------------------------------ writing and reporting


def _write(
    source: FrameSource, value_range: tuple[float, float] | None, output: Path, schema: StoreSchema, overwrite: bool
) -> None:
    """Write a store beside `output`, and rename it once it is complete."""
    with whole_output(output, overwrite) as path:
        store = TrajectoryStore.create(path, schema)
        for i in tqdm(range(len(store)), desc=f"writing {output}", unit="trajectory", delay=1.0):
            store.write(i, as_float32(source.read(i), value_range))
        store.finish()


def _findings(output: Path, schema: StoreSchema, groups: np.ndarray, splits: Mapping[str, float] | None) -> list[str]:
    """What to know about the splits, in sentences."""
    counts = {name: schema.splits.count(name) for name in SPLITS}
    image = " x ".join(str(pixels) for pixels in schema.image_shape)
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    origin = "" if splits is not None else " (as the files are named)"
    found = [f"{output}: {_trajectories(len(groups))} of {schema.frames} frames, {image}: {summary}{origin}"]
    sizes = np.bincount(groups)
    shared = np.flatnonzero(sizes > 1)
    if len(shared):
        if len(shared) == 1:
            kept = f"kept together in the split {schema.splits[int(np.argmax(groups == shared[0]))]}"
        else:
            kept = "those of each kept together in one split"
        cut = f"were cut from {_trajectories(len(shared))}"
        separate = "if they are separate trajectories, say so with --independent true"
        found.append(f"{sizes[shared].sum()} windows share frames and {cut}: {kept}; {separate}")
    empty = [name for name, share in (splits or {}).items() if share > 0 and not counts[name]]
    if empty:
        stay = "stays" if len(empty) == 1 else "stay"
        independent = _trajectories(len(sizes), "independent ")
        found.append(f"{' and '.join(empty)} {stay} empty: the input holds only {independent}")
    return found


def _trajectories(count: int, kind: str = "") -> str:
    return f"{count} {kind}{'trajectory' if count == 1 else 'trajectories'}"
