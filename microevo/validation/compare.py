"""Validation: simulated and published trajectories compared in their descriptors, with a picture."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from microevo import plot
from microevo.data import TrajectoryStore
from microevo.data.location import may_be_store, writable
from microevo.data.readers import open_frames
from microevo.provenance import write_file
from microevo.validation.descriptors import Descriptors
from microevo.validation.join import join_windows
from microevo.validation.picture import comparison_picture
from microevo.validation.published import Case, PublishedSample
from microevo.validation.table import Run, render, tabulate

FILES = ("validation.md", "validation.csv", "validation.png")


def compare(
    simulated: str | list[str], published: str, intervals: str, output: str, overwrite: bool = False
) -> pd.DataFrame:
    """Compare simulated trajectories with published ones in the descriptors of their microstructure.

    Simulated trajectories are aligned with the published one at the first frame as old as its first frame, and the mean
    over all of them is held against the acceptance intervals. The parameters of the simulators were fitted to the published
    samples: nothing further may be chosen on this comparison.

    Args:
        simulated: One or more stores; all their trajectories are taken.
        published: The published sample: an `.npy` file of windows or trajectories (N, T, H, W), or a store that `import`
            made of one. Windows that overlap are joined.
        intervals: Published values and acceptance intervals, one of `data/published/*.yaml`.
        output: Folder for the table (`validation.md`, `validation.csv`) and the picture (`validation.png`).
        overwrite: Replace those that are there.

    Returns:
        One row for each descriptor: `published` is the value of the intervals' file, `sample` the one measured here on the
        frames of `published`, `simulated`, `lowest` and `highest` are the mean and range over the runs, `low` and `high`
        the acceptance interval, and `verdict` is `in`, `out`, or empty without one.

    Raises:
        FileExistsError: `output` holds a comparison already.
        FileNotFoundError: An input is missing.
        ValueError: The inputs do not belong together.
    """
    folder = writable(output)
    there = [name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"{folder / there[0]} exists already; use --overwrite to replace it or choose another output"
        )
    known = PublishedSample.read(intervals)
    measured = Descriptors(known)
    paths = [simulated] if isinstance(simulated, str) else simulated
    runs = [run for path in paths for run in read_runs(path, known, measured)]
    samples = [frames[: known.frames] for frames in read_published(published)]
    sizes = {frames.shape[1:] for frames in [*samples, *(run.frames for run in runs)]}
    if len(sizes) > 1:
        described = " and ".join(" x ".join(str(pixels) for pixels in size) for size in sorted(sizes))
        raise ValueError(
            f"published and simulated frames have different sizes, {described} pixels; simulate the published one"
        )
    lines = [
        line
        for i, case in enumerate(known.cases)
        for line in tabulate(
            case, _belonging(runs, case, intervals), samples[i] if i < len(samples) else None, measured
        )
    ]
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame([asdict(line) | {"verdict": line.verdict} for line in lines])
    write_file(folder / "validation.csv", table.to_csv(index=False))
    text = render(lines, known)
    write_file(folder / "validation.md", text)
    chosen = _chosen(runs, known)
    plot.save(
        comparison_picture(
            title=f"{known.process}: published and simulated",
            published=[(case.name, frames) for case, frames in zip(known.cases, samples, strict=False)],
            simulated=[(run.name, run.frames) for run in chosen],
            curves=lambda frames: {name: measured.curve(name, frames) for name in known.curves},
            expected=[case.expected for case in known.cases],
            others=[run.frames for run in runs if run not in chosen],
        ),
        folder / "validation.png",
    )
    print(text)
    print(f"{folder / 'validation.md'}, validation.csv and validation.png")
    return table


# ------------------------------------------------------------------ reading


def read_published(path: str | Path) -> list[Float[np.ndarray, "T H W"]]:
    """Trajectories of a published sample, its overlapping windows joined, first field.

    Raises:
        FileNotFoundError: There is nothing at `path`.
        ValueError: It cannot be read as trajectories.
    """
    if may_be_store(path):
        store = TrajectoryStore.open(path)
        windows = np.stack([store.read(i, fields=store.fields[:1])[:, 0] for i in range(len(store))])
    else:
        with open_frames(path) as source:
            windows = np.stack([source.read(i)[:, 0] for i in range(source.shape[0])])
    return [frames.astype(np.float32) for frames in join_windows(windows)]


def read_runs(path: str | Path, known: PublishedSample, measured: Descriptors) -> list[Run]:
    """Trajectories of a store, from the frame on that is as old as the first published one.

    Raises:
        FileNotFoundError: There is nothing at `path`.
        ValueError: It is a store of another process, or has too few frames.
    """
    store = TrajectoryStore.open(path)
    process = store.attributes["process"]
    if process != known.process:
        raise ValueError(
            f"{path} holds trajectories of {process}, but the acceptance intervals are of {known.process}; give others"
        )
    names = list(dict.fromkeys(name for case in known.cases for name in case.expected))
    fixed = store.attributes["recipe"]["process"]["init_args"]
    times = store.attributes["first_frame"] / store.attributes["frame_interval"] + np.arange(store.frames)
    runs = []
    for i in range(len(store)):
        frames = store.read(i, fields=store.fields[:1])[:, 0]
        start = first_frame(measured.clock(frames), known.aligned_at, f"{path}, trajectory {i},")
        if len(frames) - start < known.frames:
            raise ValueError(
                f"{path}, trajectory {i}, has {len(frames) - start} frames from the one on that is as old as the first "
                f"published one, but {known.frames} are compared; simulate {known.frames - len(frames) + start} more"
            )
        drawn = {name: float(values[i]) for name, values in store.per_trajectory.items()}
        runs.append(
            Run(
                name=f"{Path(path).stem} {i}",
                frames=frames[start : start + known.frames],
                parameters={name: float(v) for name, v in fixed.items() if isinstance(v, int | float)} | drawn,
                early=measured.early(names, frames, times),
            )
        )
    return runs


def first_frame(clock: Float[np.ndarray, " T"] | None, age: float | None, label: str) -> int:
    """The frame at which a falling clock comes nearest to a value when it first passes it.

    Raises:
        ValueError: It does not pass it.
    """
    if clock is None or age is None:
        return 0
    passed = np.flatnonzero(clock <= age)
    if not len(passed):
        raise ValueError(
            f"{label} is never as old as the first published frame ({clock[-1]:.4g} > {age}); simulate longer"
        )
    i = int(passed[0])
    if i == 0 and clock[0] < 0.99 * age:
        raise ValueError(
            f"{label} begins when it is older than the first published frame ({clock[0]:.4g} < {age}); lower first_frame"
        )
    return i - 1 if i and abs(clock[i - 1] - age) < abs(clock[i] - age) else i


def _belonging(runs: Sequence[Run], case: Case, intervals: str | Path) -> list[Run]:
    """The runs with the parameters of a case."""
    found = [
        run
        for run in runs
        if all(np.isclose(run.parameters.get(name, np.nan), value, rtol=1e-4) for name, value in case.where.items())
    ]
    if not found:
        asked = " and ".join(f"{name} = {value:g}" for name, value in case.where.items())
        raise ValueError(f"no simulated trajectory has {asked}, which {intervals} asks for; simulate one")
    return found


def _chosen(runs: Sequence[Run], known: PublishedSample, most: int = 3) -> list[Run]:
    """Those to look at: one of each case, or the first ones."""
    if len(known.cases) > 1:
        return [_belonging(runs, case, "")[0] for case in known.cases]
    return list(runs[:most])
