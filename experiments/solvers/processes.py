"""What the data sets cost: each recipe's process on one core, single and batched, at 64 and 256 pixels a side."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
import yaml
from clock import take_turns

import microevo.processes
from microevo.processes import Grid, Process, trajectory_generator

RECIPES = Path(__file__).parents[2] / "data" / "recipes"


@dataclass
class Run:
    """Trajectories of a process that continue by a few frames with each call.

    Attributes:
        name: The process and its setting.
        process: What evolves; none of its parameters are sampled.
        batch: Trajectories at once.
        step: Frames per call.
        recipe_frames: Frames of a whole trajectory.
        target: Frames and the seconds that they may take.
        from_quench: Whether the frames of the target count from time 0, as those before the first one saved cost too.
        share: Steps of a measured frame by those of one of the recipe; None if it is one of the recipe.
    """

    name: str
    process: Process
    batch: int
    step: int
    recipe_frames: int
    target: tuple[int, float] | None = None
    from_quench: bool = False
    share: float | None = None

    @property
    def label(self) -> str:
        """Its name, image and batch."""
        return f"{self.name}, {self.process.grid.image_shape[0]} px, batch {self.batch}"

    def begin(self) -> None:
        """To the first saved frame."""
        self.stepper = self.process.stepper()
        generators = [trajectory_generator(0, index) for index in range(self.batch)]
        self.stepper.start(self.process.initial(generators).to(self.process.dtype))
        self.frame = 0
        self._frame()

    def go_on(self) -> None:
        """A few frames more."""
        for _ in range(self.step):
            self._frame()

    def _frame(self) -> None:
        self.stepper.advance(self.process.first_frame + self.frame * self.process.frame_interval)
        self.image: torch.Tensor = self.process.image(self.stepper.u)
        self.frame += 1


def runs() -> list[Run]:
    """All data sets: as their recipes say, and with four times as many cells along each side."""
    quartic, _ = recipe("spinodal.yaml")
    fast, frames = recipe("spinodal-published.yaml")
    grains, grain_frames = recipe("grain-growth-paper.yaml")
    dendrite, _ = recipe("dendrite.yaml")
    wave, _ = recipe("plane-wave.yaml")
    accurate = replace(fast, scheme="accurate")
    small = [
        run
        for batch in (1, 8)
        for run in (
            Run("Spinodal, quartic", quartic, batch, 20, 100),
            Run("Spinodal, regular solution, fast", fast, batch, 10, frames, (190, 6.0), from_quench=True),
            Run("Spinodal, regular solution, accurate", accurate, batch, 4, frames, (100, 7.0)),
            Run("Grain growth", grains, batch, 4, grain_frames, (200, 60.0)),
            Run("Dendrite", dendrite, batch, 10, 100, (100, 7.0)),
            Run("Plane wave", wave, batch, 20, 100),
        )
    ]
    # Some frames right after the start, much shorter than the recipe's, with the recipe's late steps counted instead.
    steps_of_dendrite = 39
    large = [
        Run("Spinodal, quartic", enlarged(quartic), 1, 20, 100),
        Run("Spinodal, regular solution, fast", enlarged(fast, 0.0, 0.005), 1, 2, frames, share=10 / 50),
        Run("Spinodal, regular solution, accurate", enlarged(accurate, 2**-7, 0.005), 1, 2, frames, share=10 / 250),
        Run("Grain growth", replace(enlarged(grains, 0.3, 0.1), grains=1600), 1, 2, grain_frames, share=0.1),
        Run("Dendrite", enlarged(dendrite, 0.0, 5e-4), 1, 2, 100, share=5 / steps_of_dendrite),
        Run("Plane wave", enlarged(wave), 1, 20, 100),
    ]
    return small + large


def quick_runs() -> list[Run]:
    """The same processes on few cells, from the start: shows that they run, not what they cost."""
    shrunk = []
    for run in runs():
        if run.batch == 1 and run.share is None and run.process.grid.image_shape == (64, 64):
            grid = replace(run.process.grid, shape=tuple(cells // 4 for cells in run.process.grid.shape))
            process = replace(run.process, grid=grid, first_frame=0.0, frame_interval=run.process.frame_interval / 100)
            if isinstance(process, microevo.processes.GrainGrowth):
                process = replace(process, grains=8)
            shrunk.append(replace(run, process=process, step=1))
    return shrunk


def measure(cases: Sequence[Run], rounds: int) -> pd.DataFrame:
    """Time the frames up to the first, once, and then `rounds` times some more of each case in turn.

    Returns:
        One row per case: `start` (to the first saved frame), `per_100` (frames), `trajectory` (of the recipe) and `cost` (of
        the frames of the target), all per trajectory [CPU s].
    """
    starts = {}
    for case in cases:
        warm = replace(
            case, process=replace(case.process, first_frame=0.0, frame_interval=1e-3 * case.process.frame_interval)
        )
        warm.begin()
        warm.go_on()  # compiles
        begin = time.process_time()
        case.begin()
        starts[case.label] = (time.process_time() - begin) / case.batch
    calls = take_turns({case.label: case.go_on for case in cases}, rounds, once=set())
    rows = []
    for case in cases:
        mine = calls[calls["task"] == case.label]
        frame, wall = ((mine[clock] / case.step / case.batch / (case.share or 1.0)) for clock in ("cpu", "wall"))
        start = starts[case.label] if case.share is None else None
        whole = None if start is None else start + frame.mean() * (case.recipe_frames - 1)
        row = {
            "process": case.name,
            "pixels": case.process.grid.image_shape[0],
            "cells": case.process.grid.shape[0],
            "batch": case.batch,
            "start": start,
            "per_100": 100 * frame.mean(),
            "per_100_low": 100 * frame.min(),
            "per_100_high": 100 * frame.max(),
            "per_100_wall": 100 * wall.mean(),
            "frames_timed": case.step * rounds,
            "scaled_from": case.share,
            "recipe_frames": case.recipe_frames,
            "trajectory": whole,
        }
        if case.target:
            count, most = case.target
            before = case.process.first_frame / case.process.frame_interval if case.from_quench else 0.0
            cost = frame.mean() * (count - before) + (start or 0.0) * case.from_quench
            row |= {"target_frames": count, "target": most, "cost": cost, "from_quench": case.from_quench}
        rows.append(row)
    return pd.DataFrame(rows)


def recipe(name: str) -> tuple[Process, int]:
    """Process and frames of a recipe; what is sampled per trajectory keeps the one value that it states."""
    tree = yaml.safe_load((RECIPES / name).read_text())
    settings = dict(tree["process"]["init_args"])
    grid = settings.pop("grid")
    grid = Grid(**(grid | {"shape": tuple(grid["shape"])}))
    kind = getattr(microevo.processes, tree["process"]["class_path"].rsplit(".", 1)[1])
    return kind(grid=grid, **settings), tree["frames"]


def enlarged(process: Process, first_frame: float | None = None, frame_interval: float | None = None) -> Process:
    """The process in a box with four times the side."""
    times = {"first_frame": first_frame, "frame_interval": frame_interval}
    grid = replace(process.grid, shape=tuple(4 * cells for cells in process.grid.shape))
    return replace(process, grid=grid, **{name: value for name, value in times.items() if value is not None})
