"""Process + splits + seed -> store, trajectory by trajectory, resumable."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from microevo.data.location import writable
from microevo.data.sampling import Range, Sampling, in_present_words
from microevo.data.schema import SPLITS, StoreSchema, check_split_names
from microevo.data.store import TrajectoryStore
from microevo.data.workers import Simulation, batches, simulate_batches
from microevo.processes import Process, trajectory_generator
from microevo.provenance import versions

ALL = ":"  # trajectories; Python's slice


def generate(
    process: Process,
    output: str | Path,
    *,
    splits: Mapping[str, int],
    frames: int = 100,
    sample: Mapping[str, Range] | None = None,
    fraction_sampled: float = 1.0,
    resample: bool = False,
    seed: int = 0,
    trajectories: str = ALL,
    workers: int = 1,
    batch_size: int = 8,
    device: str = "cpu",
    overwrite: bool = False,
    command: str = "",
) -> TrajectoryStore:
    """Simulate a store, or a part of it, or resume an interrupted one.

    Trajectory `i` depends on the process, `sample`, `fraction_sampled`, `resample`, `seed` and `i` alone: neither the
    batch size nor the number of threads or workers nor an interruption changes a bit of it. Another device, or another version of
    torch, may round differently. Several calls, also on several computers with a common file system, may fill one store
    at the same time, each its own range of trajectories; the one that finds that all are there finishes the store.

    Args:
        process: What evolves.
        output: The store's folder.
        splits: Number of trajectories in each of `train`, `val` and `test`.
        frames: Frames per trajectory.
        sample: Parameters of the process that are sampled for each trajectory, each with its range.
        fraction_sampled: Fraction of the trajectories whose parameters are sampled; the others keep all values of the
            process.
        resample: Sample the parameters of a trajectory again, all of them, while the process does not accept their values
            together, instead of stopping before the first trajectory is simulated.
        seed: Seed of the whole store.
        trajectories: Simulate these alone, numbered from 0 through all splits: `100:200` are 100 to 199, and the end may
            lie beyond the last. The jobs of an array fill one store, each its range; the last to end finishes it.
        workers: Processes that share the work, each with one thread: as many as there are cores, and as the memory holds
            batches.
        batch_size: Largest number of trajectories that a worker simulates at once.
        device: Where to simulate, e.g. `cpu` or `cuda`.
        overwrite: Replace a store that is there, unless it is the unfinished beginning of this one.
        command: The shell command that finishes the whole store, kept in it for whoever has to do so.

    Returns:
        The store; unfinished if trajectories outside the selected range are missing.

    Raises:
        FileExistsError: `output` exists and was made with other settings.
        RuntimeError: A worker was killed.
        ValueError: A setting cannot be met, or a field became NaN or infinite.

    Warns:
        UserWarning: The store was begun with other versions of microevo or the libraries that compute.
    """
    folder = writable(output)
    _check_settings(splits, batch_size, workers, seed, device)
    if overwrite and trajectories != ALL:
        raise ValueError(
            f"overwrite with trajectories {trajectories} would remove what other jobs wrote to {output}; remove the old store "
            "before the jobs start"
        )
    sampling = Sampling(ranges=dict(sample or {}), fraction=fraction_sampled, resample=resample)
    names = [name for name in SPLITS for _ in range(splits.get(name, 0))]
    values = sampling.values(process, seed, len(names))
    layout = StoreSchema(
        fields=process.fields,
        frames=frames,
        image_shape=process.grid.image_shape,
        splits=tuple(names),
        process=type(process).__name__,
        recipe=_recipe(process, splits, frames, sampling, seed),
        command=command,
        frame_interval=process.frame_interval,
        first_frame=process.first_frame,
        spacing=process.grid.image_spacing,
        boundary=process.grid.boundary,
        symmetries=_symmetries(process),
        per_trajectory={
            "seed": np.array([trajectory_generator(seed, i).initial_seed() for i in range(len(names))], np.uint64),
            **values,
        },
    )
    selected = _selected(trajectories, len(names))
    store = _open_or_create(folder, layout, overwrite)
    if store.attributes["complete"]:
        return store

    todo = store.missing(selected)
    simulation = Simulation(process=process, values=values, seed=seed, store=store, device=device)
    total = len(selected) * frames
    with tqdm(total=total, initial=total - len(todo) * frames, unit="frame", desc=str(output)) as progress:
        simulate_batches(simulation, batches(todo, batch_size, workers), workers, progress.update)
    if len(selected) == len(store) or not store.missing():
        store.finish()
    return store


def _check_settings(splits: Mapping[str, int], batch_size: int, workers: int, seed: int, device: str) -> None:
    check_split_names(splits)
    least = {"batch_size": (batch_size, 1), "workers": (workers, 1), "seed": (seed, 0)}
    for name, (value, smallest) in (least | {name: (count, 0) for name, count in splits.items()}).items():
        if value < smallest:
            raise ValueError(f"{name} must be at least {smallest}, but it is {value}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {device}, but PyTorch finds no CUDA device here; set it to cpu")
    if workers > 1 and not device.startswith("cpu"):
        raise ValueError(
            f"workers share the cores of a CPU, but there are {workers} for the device {device}; raise batch_size instead, "
            "and leave workers at 1"
        )


def _selected(trajectories: str, count: int) -> range:
    """The trajectories that a text such as `100:200` selects among `count`."""
    ends = re.fullmatch(r"(\d*):(\d*)", trajectories)
    if not ends:
        raise ValueError(
            f"trajectories are given as first:end, as in 0:100 for 0 to 99, but they are {trajectories}; numbers start at 0, "
            "and either may be left out"
        )
    first, end = (int(number) if number else None for number in ends.groups())
    selected = range(count)[first:end]
    if not selected:
        raise ValueError(
            f"trajectories {trajectories} are none of this store, which has {count}, numbered 0 to {count - 1}; begin with one "
            "of these, and end above it"
        )
    return selected


def _open_or_create(path: Path, layout: StoreSchema, overwrite: bool) -> TrajectoryStore:
    if not path.exists():
        try:
            return TrajectoryStore.create(path, layout)
        except FileExistsError:
            if not path.exists():  # a part of the path is a file
                raise
            # another job was faster
    elif overwrite and not _is_beginning(path, layout):
        return TrajectoryStore.create(path, layout, overwrite=True)
    store = TrajectoryStore.open(path, unfinished=True)
    if difference := _difference(store, layout):
        raise FileExistsError(
            f"{path} was made with other settings ({difference}); use --overwrite to replace it or choose another path"
        )
    if store.attributes["complete"] and store.missing():
        store.reopen()
    changed = _changed_versions(store)
    if changed and not store.attributes["complete"]:
        warnings.warn(
            f"{path} was begun with {changed}; its trajectories may differ in the last bits from those that follow",
            stacklevel=3,
        )
    return store


def _is_beginning(path: Path, layout: StoreSchema) -> bool:
    """Whether going on gives the very store that a new start would give."""
    try:
        store = TrajectoryStore.open(path, unfinished=True)
    except ValueError:
        return False
    return not (store.attributes["complete"] or _difference(store, layout) or _changed_versions(store))


def _difference(store: TrajectoryStore, layout: StoreSchema) -> str:
    """The first setting in which the store differs from what is asked for, in words."""
    recipe = in_present_words(store.attributes["recipe"])
    there, asked = _flatten(recipe), _flatten(layout.recipe)
    for key in sorted(there.keys() | asked.keys()):
        if there.get(key) != asked.get(key):
            return f"{key} is {there.get(key, 'not set')} there and {asked.get(key, 'not set')} here"
    return ""


def _changed_versions(store: TrajectoryStore) -> str:
    now, then = versions(), store.attributes["versions"]
    return ", ".join(
        f"{name} {then.get(name)} (now {now[name]})"
        for name in ("microevo", "torch", "numpy")
        if then.get(name) != now[name]
    )


def _recipe(process: Process, splits: Mapping[str, int], frames: int, sampling: Sampling, seed: int) -> dict[str, Any]:
    return {
        "process": {
            "class_path": f"{type(process).__module__}.{type(process).__qualname__}",
            "init_args": _plain(asdict(process)),
        },
        "splits": {name: splits.get(name, 0) for name in SPLITS},
        "frames": frames,
        **sampling.described(),
        "seed": seed,
    }


def _symmetries(process: Process) -> tuple[str, ...]:
    shift = ("shift",) if process.grid.boundary == "periodic" else ()
    return (*shift, "flip", "rotate") if process.isotropic else shift


def _plain(value: Any) -> Any:
    """The same with lists for tuples, as JSON gives it back."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
