"""Published arrays and image frames -> store, split so that nothing leaks."""

import hashlib
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from microevo.data.layout import SPLITS, Layout
from microevo.data.readers import FrameSource, open_frames
from microevo.data.store import TrajectoryStore
from microevo.processes import Field

COORDINATES = ("time", "z", "y", "x", "split", "group")


def import_frames(
    input: str | Path,
    output: str | Path,
    *,
    fields: Sequence[str] = ("c",),
    frame_interval: float = 1.0,
    spacing: float = 1.0,
    boundary: Literal["periodic", "no-flux", "unknown"] = "unknown",
    symmetries: list[Literal["shift", "flip", "rotate"]] = [],  # noqa: B006  (never changed; shown by --help)
    value_range: tuple[float, float] | None = None,
    splits: dict[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1},  # noqa: B006
    seed: int = 0,
    dataset: str | None = None,
    process: str = "imported",
    overwrite: bool = False,
    command: str = "",
) -> TrajectoryStore:
    """Make a store of trajectories that somebody else published.

    Trajectories that have a frame in common, as windows cut from one simulation have, are kept in one split;
    frames of a single value do not count. What was found is said on stderr, and the store keeps the group of
    each trajectory as the coordinate `group`.

    Args:
        input: What to read: an .npy, .npz, .h5 or .hdf5 file of trajectories (N, T, H, W) or (N, T, C, H, W);
            a folder of numbered PNG or TIFF frames (one trajectory) or of such folders; or past and future in
            two files X_* and Y_*, given as either file or as their folder. In a folder with X_train, X_val,
            X_test and their Y_* the names decide the splits.
        output: The store's folder; it appears when it is complete.
        fields: Names of the fields, in the order of the channels; three take the channels of colour images.
        frame_interval: Time between frames [t0].
        spacing: Distance between pixels [l0].
        boundary: What the simulation assumed at the edges of the image.
        symmetries: Transformations that turn a trajectory into another possible one: shift (periodic
            translation), flip, rotate (quarter turns).
        value_range: The two values that become 0 and 1 [as in the input]; null keeps all values, except that
            images of integers are divided by the largest value of their type.
        splits: Fractions of the trajectories in train, val and test; they sum to 1.
        seed: Seed of the random assignment to splits.
        dataset: Path of the HDF5 dataset, or name of the .npz array; needed where there are several.
        process: Name of what evolves.
        overwrite: Replace a store that is there, once the new one is complete.
        command: The shell command that this call is, kept in the store.

    Raises:
        FileNotFoundError: There is nothing at `input`.
        FileExistsError: `output` exists.
        OSError: `output` cannot be written.
        ValueError: The input cannot be read as trajectories of finite numbers, or a setting contradicts it.
    """
    output = Path(output)
    _check_settings(fields, frame_interval, spacing, boundary, symmetries, value_range, splits)
    _check_output(output, overwrite)
    with open_frames(Path(input), channels=len(fields), dataset=dataset, scale_integers=value_range is None) as source:
        _, frames, channels, *image = source.shape
        if channels != len(fields):
            raise ValueError(
                f"{input} has {channels} channel{'s' * (channels > 1)} (N, T, C, H, W = {source.shape}), but "
                f"fields names {len(fields)} ({', '.join(fields)}); name each channel once"
            )
        groups = _group(source, value_range, str(input))
        if source.splits is None:
            names = _assign(groups, splits, seed)
        else:
            names = source.splits
            _check_named_splits(groups, names, str(input))
        layout = Layout(
            fields=tuple(Field(name=name, long_name=name, units="1") for name in fields),
            frames=frames,
            image_shape=tuple(image),
            splits=tuple(names),
            process=process,
            recipe={
                "input": str(input),
                "dataset": dataset,
                "fields": list(fields),
                "value_range": None if value_range is None else list(value_range),
                "splits": dict(splits) if source.splits is None else "named by the files",
                "seed": seed,
            },
            command=command,
            frame_interval=frame_interval,
            spacing=spacing,
            boundary=boundary,
            symmetries=tuple(symmetries),
            per_trajectory={"group": groups},
        )
        _write(source, value_range, output, layout, overwrite)
    for sentence in _findings(output, layout, groups, splits if source.splits is None else None):
        print(sentence, file=sys.stderr)
    return TrajectoryStore.open(output)


# ------------------------------------------------------------------ what can be refused before reading


def _check_settings(
    fields: Sequence[str],
    frame_interval: float,
    spacing: float,
    boundary: str,
    symmetries: Sequence[str],
    value_range: tuple[float, float] | None,
    splits: Mapping[str, float],
) -> None:
    odd = [name for name in fields if not name.isidentifier() or name in COORDINATES]
    if odd or not fields or len(set(fields)) < len(fields):
        raise ValueError(
            f"fields are different names of letters and digits other than {', '.join(COORDINATES)}, but "
            f"{', '.join(fields) or 'none'} was given; rename them"
        )
    for name, value in {"frame_interval": frame_interval, "spacing": spacing}.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive number, but it is {value}")
    if boundary == "no-flux" and "shift" in symmetries:
        raise ValueError("the symmetry shift needs periodic boundaries, but boundary is no-flux; leave one out")
    if value_range is not None and not -math.inf < value_range[0] < value_range[1] < math.inf:
        raise ValueError(f"value_range is two finite numbers, the lower one first, but {list(value_range)} was given")
    strangers = sorted(set(splits) - set(SPLITS))
    if strangers:
        raise ValueError(f"splits are {', '.join(SPLITS)}, but {', '.join(strangers)} was given")
    if not all(share >= 0 for share in splits.values()) or abs(sum(splits.values()) - 1) > 1e-6:
        raise ValueError(
            f"splits must be fractions from 0 to 1 that sum to 1, but {dict(splits)} was given (sum "
            f"{sum(splits.values()):g}); change them"
        )


def _check_output(output: Path, overwrite: bool) -> None:
    if not output.exists():
        folder = next(parent for parent in output.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise OSError(f"{output} cannot be written, for {folder} is no folder to write to; choose another output")
        return
    if not overwrite:
        raise FileExistsError(f"{output} exists already; use --overwrite to replace it or choose another path")
    try:
        TrajectoryStore.open(output, unfinished=True)
    except ValueError as error:
        raise FileExistsError(
            f"{output} exists already and is no store that may be replaced; choose another path"
        ) from error


# ------------------------------------------------------------------ reading and splitting


def _standard(frames: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """The input's numbers as float32 of order one."""
    if value_range is not None:
        low, high = value_range
        frames = (frames.astype(np.float64) - low) / (high - low)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused by name
        return frames.astype(np.float32)


def _group(source: FrameSource, value_range: tuple[float, float] | None, label: str) -> np.ndarray:
    """Number the sets of trajectories that share frames, and refuse values that are not finite."""
    parent = list(range(source.shape[0]))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    seen: dict[bytes, int] = {}
    for i in tqdm(range(len(parent)), desc=f"checking {label}", unit="trajectory", delay=1.0):
        trajectory = np.ascontiguousarray(source.read(i))
        finite = np.isfinite(_standard(trajectory, value_range)).all(axis=(1, 2, 3))
        if not finite.all():
            raise ValueError(
                f"{label}, trajectory {i}, frame {int(np.argmin(finite))} holds a value that is not finite "
                "in float32; remove the trajectory or repair it"
            )
        for frame in trajectory:
            first = seen.setdefault(hashlib.blake2b(frame, digest_size=16).digest(), i)
            # A blank frame says nothing about where it was cut from.
            if first != i and (frame != frame[:, :1, :1]).any():
                low, high = sorted((root(first), root(i)))
                parent[high] = low
    return np.unique([root(i) for i in range(len(parent))], return_inverse=True)[1].astype(np.int64)


def _assign(groups: np.ndarray, splits: Mapping[str, float], seed: int) -> tuple[str, ...]:
    """A split for each trajectory; groups stay whole, and large ones are placed before small ones."""
    sizes = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    wanted = {name: splits[name] * len(groups) for name in SPLITS if splits.get(name, 0) > 0}
    empty = set(wanted)
    split_of: dict[int, str] = {}
    for left, group in zip(range(len(order), 0, -1), order, strict=True):
        # With no more groups than empty splits, each of them gets one.
        among = [name for name in wanted if name in empty or left > len(empty)]
        split_of[group] = max(among, key=wanted.__getitem__)
        wanted[split_of[group]] -= sizes[group]
        empty.discard(split_of[group])
    return tuple(split_of[group] for group in groups)


def _check_named_splits(groups: np.ndarray, names: Sequence[str], label: str) -> None:
    found: dict[int, set[str]] = {}
    for group, name in zip(groups.tolist(), names, strict=True):
        found.setdefault(group, set()).add(name)
    for group, together in found.items():
        if len(together) > 1:
            raise ValueError(
                f"{label} has {int((groups == group).sum())} windows that share frames and were cut from 1 "
                f"trajectory, but its files put them in {' and '.join(sorted(together))}, where a score "
                "would be too good; import each pair into a store of its own"
            )


# ------------------------------------------------------------------ writing and telling


def _write(
    source: FrameSource,
    value_range: tuple[float, float] | None,
    output: Path,
    layout: Layout,
    overwrite: bool,
) -> None:
    """Write a store beside `output` and rename it when it is complete."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as folder:
            store = TrajectoryStore.create(Path(folder) / output.name, layout)
            for i in tqdm(range(len(store)), desc=f"writing {output}", unit="trajectory", delay=1.0):
                store.write(i, _standard(source.read(i), value_range))
            store.finish()
            replaced = Path(folder) / "replaced"
            try:
                if overwrite and output.exists():
                    output.rename(replaced)
                store.path.rename(output)
            except BaseException:
                if replaced.exists() and not output.exists():
                    replaced.rename(output)
                raise
    except OSError as error:
        if error.errno is None:  # a sentence already
            raise
        reason = os.strerror(error.errno)
        raise OSError(f"{output} cannot be written ({reason}); choose another output") from error


def _findings(output: Path, layout: Layout, groups: np.ndarray, splits: Mapping[str, float] | None) -> list[str]:
    """What there is to know about the splits, a sentence each."""
    counts = {name: layout.splits.count(name) for name in SPLITS}
    image = " x ".join(str(pixels) for pixels in layout.image_shape)
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    origin = "" if splits is not None else " (as the files are named)"
    found = [f"{output}: {_trajectories(len(groups))} of {layout.frames} frames, {image}: {told}{origin}"]
    sizes = np.bincount(groups)
    shared = np.flatnonzero(sizes > 1)
    if len(shared):
        if len(shared) == 1:
            kept = f"kept together in the split {layout.splits[int(np.argmax(groups == shared[0]))]}"
        else:
            kept = "those of each kept together in one split"
        cut = f"were cut from {_trajectories(len(shared))}"
        found.append(f"{sizes[shared].sum()} windows share frames and {cut}: {kept}")
    empty = [name for name, share in (splits or {}).items() if share > 0 and not counts[name]]
    if empty:
        stay = "stays" if len(empty) == 1 else "stay"
        independent = _trajectories(len(sizes), "independent ")
        found.append(f"{' and '.join(empty)} {stay} empty: the input holds only {independent}")
    return found


def _trajectories(count: int, kind: str = "") -> str:
    return f"{count} {kind}{'trajectory' if count == 1 else 'trajectories'}"
