"""Process + splits + seed -> store, trajectory by trajectory, resumable."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from microevo.data.store import SPLITS, Layout, TrajectoryStore, versions
from microevo.processes import Process, rollout, trajectory_generator


@dataclass(frozen=True, kw_only=True)
class Range:
    """A parameter drawn for each trajectory.

    Args:
        low: Smallest value.
        high: Largest value.
        log: Draw the logarithm uniformly rather than the value itself.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if self.low > self.high or (self.log and self.low <= 0):
            raise ValueError(
                f"a parameter is drawn from low <= high (and 0 < low with log), but low is {self.low}, high {self.high}"
            )

    def draw(self, generator: np.random.Generator) -> float:
        """One value."""
        if self.log:
            return float(np.exp(generator.uniform(np.log(self.low), np.log(self.high))))
        return float(generator.uniform(self.low, self.high))


def generate(
    process: Process,
    output: str | Path,
    *,
    splits: Mapping[str, int],
    frames: int = 100,
    draw: Mapping[str, Range] | None = None,
    seed: int = 0,
    batch_size: int = 8,
    device: str = "cpu",
    overwrite: bool = False,
    command: str = "",
) -> TrajectoryStore:
    """Simulate a store, or go on with an interrupted one.

    Trajectory `i` depends on the process, `draw`, `seed` and `i` alone: neither the batch size nor the number of threads
    nor an interruption changes a bit of it. Another device, or another version of torch, may round differently.

    Args:
        process: What evolves.
        output: The store's folder.
        splits: Number of trajectories in each of `train`, `val` and `test`.
        frames: Frames per trajectory.
        draw: Parameters of the process that differ between trajectories, each with its range.
        seed: Seed of the whole store.
        batch_size: Trajectories simulated at once.
        device: Where to simulate, e.g. `cpu` or `cuda`.
        overwrite: Replace a store that is there, unless it is the unfinished beginning of this one.
        command: The shell command that this call is, kept in the store for whoever has to finish it.

    Raises:
        FileExistsError: `output` exists and was made with other settings.
        ValueError: A setting cannot be met, or the simulation left the finite numbers.

    Warns:
        UserWarning: The store was begun with other versions of microevo or the libraries that compute.
    """
    strangers = sorted(set(splits) - set(SPLITS))
    if strangers:
        raise ValueError(f"splits are {', '.join(SPLITS)}, but {', '.join(strangers)} was given")
    least = {"batch_size": (batch_size, 1), "seed": (seed, 0)} | {name: (count, 0) for name, count in splits.items()}
    for name, (value, smallest) in least.items():
        if value < smallest:
            raise ValueError(f"{name} must be at least {smallest}, but it is {value}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {device}, but PyTorch finds no CUDA device here; set it to cpu")
    draw = dict(draw or {})
    names = [name for name in SPLITS for _ in range(splits.get(name, 0))]
    values = {
        name: np.array([limits.draw(_parameter_generator(seed, i, name)) for i in range(len(names))])
        for name, limits in draw.items()
    }
    layout = Layout(
        fields=process.fields,
        frames=frames,
        image_shape=process.grid.image_shape,
        splits=tuple(names),
        process=type(process).__name__,
        recipe=_recipe(process, splits, frames, draw, seed),
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
    if names:
        process.with_parameters({name: value[:1] for name, value in values.items()})  # refuses what cannot be drawn
    store = _open_or_create(Path(output), layout, overwrite)
    if store.attributes["complete"]:
        return store

    todo = store.missing()
    progress = tqdm(
        total=len(names) * frames, initial=(len(names) - len(todo)) * frames, unit="frame", desc=str(output)
    )
    with progress, _same_arithmetic():
        for first in range(0, len(todo), batch_size):
            batch = todo[first : first + batch_size]
            drawn = process.with_parameters({name: value[batch] for name, value in values.items()})
            generators = [trajectory_generator(seed, i) for i in batch]
            images = []
            for image in rollout(drawn, generators, frames, device=device, names=batch):
                images.append(image.cpu().numpy())
                progress.update(len(batch))
            for trajectory, saved in zip(batch, np.stack(images, axis=1), strict=True):
                store.write(trajectory, saved)
    store.finish()
    return store


def _open_or_create(path: Path, layout: Layout, overwrite: bool) -> TrajectoryStore:
    if not path.exists():
        return TrajectoryStore.create(path, layout)
    if overwrite and not _is_beginning(path, layout):
        return TrajectoryStore.create(path, layout, overwrite=True)
    store = TrajectoryStore.open(path, unfinished=True)
    if difference := _difference(store, layout):
        raise FileExistsError(
            f"{path} was made with other settings ({difference}); use --overwrite to replace it or choose another path"
        )
    changed = _changed_versions(store)
    if changed and not store.attributes["complete"]:
        warnings.warn(
            f"{path} was begun with {changed}; its trajectories may differ in the last bits from those that follow",
            stacklevel=3,
        )
    return store


def _is_beginning(path: Path, layout: Layout) -> bool:
    """Whether going on gives the very store that a new start would give."""
    try:
        store = TrajectoryStore.open(path, unfinished=True)
    except ValueError:
        return False
    return not (store.attributes["complete"] or _difference(store, layout) or _changed_versions(store))


def _difference(store: TrajectoryStore, layout: Layout) -> str:
    """The first setting in which the store differs from what is asked for, in words."""
    there, asked = _flatten(store.attributes["recipe"]), _flatten(layout.recipe)
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


@contextlib.contextmanager
def _same_arithmetic() -> Iterator[None]:
    """Compute in one thread, and flush subnormal numbers to zero.

    Sums and transforms round otherwise when they are shared by several threads. Decaying modes end in subnormal
    numbers, which slow a CPU down tenfold; to flush them is a setting of the calling thread alone.
    """
    threads = torch.get_num_threads()
    flushes = bool(torch.tensor(1e-40) * 1 == 0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushes)


def _recipe(
    process: Process, splits: Mapping[str, int], frames: int, draw: Mapping[str, Range], seed: int
) -> dict[str, Any]:
    return {
        "process": {
            "class_path": f"{type(process).__module__}.{type(process).__qualname__}",
            "init_args": _plain(asdict(process)),
        },
        "splits": {name: splits.get(name, 0) for name in SPLITS},
        "frames": frames,
        "draw": {name: asdict(limits) for name, limits in draw.items()},
        "seed": seed,
    }


def _symmetries(process: Process) -> tuple[str, ...]:
    shift = ("shift",) if process.grid.boundary == "periodic" else ()
    return (*shift, "flip", "rotate") if process.isotropic else shift


def _parameter_generator(seed: int, trajectory: int, name: str) -> np.random.Generator:
    # The name is part of the key, so that drawing one more parameter leaves the others as they were.
    return np.random.default_rng([seed, trajectory, *name.encode()])


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
