"""Known physics: the process's own solver as an entry, the ceiling of every table."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from microevo.benchmark.entry import Answer, Entry
from microevo.benchmark.protocol import Protocol
from microevo.data import TrajectoryStore, Window, WindowDataset
from microevo.processes import Process, StepError, rebuild, trajectory_generator

NO_WORSE = "Known physics, no worse than "  # begins the name of its row in the cost table, which the model's name ends


class KnownPhysics(Entry):
    """Forecasts by solving the equations that made the data, which no network is expected to beat.

    Where the last frames shown determine the state (the solver's grid is the image, the wave's quadrature follows from
    two frames) the solver starts from them, and knows no more than a network. Elsewhere it starts from the true state
    on its own finer grid, simulated again from the trajectory's seed, and goes on with the cheap scheme. What is left is
    that scheme's error, and hardly any where the data were made with it. Grains start again from their numbers, with sharp
    boundaries, which costs a little at the first lead.
    """

    def __init__(self) -> None:
        super().__init__("Known physics")

    def identity(self, protocol: str) -> str:
        """The way in which the entry forecasts."""
        return "cheap scheme from the frames, or from the true state"

    def takes_part(self, name: str, protocol: Protocol, windows: WindowDataset) -> bool:
        """Only in data that were simulated here."""
        return Physics.known(windows.store)

    def prepare(self, name: str, protocol: Protocol, windows: WindowDataset, device: torch.device) -> Answer:
        """The simulation of the frames that follow; always on the CPU, whose rounding the data have."""
        physics = Physics(windows.store, windows.fields)
        fields = [windows.store.fields.index(field) for field in windows.fields]

        def answer(window: Window) -> Tensor:
            return physics.forecast(window, protocol.horizon)[:, :, fields]

        return answer


class Start(NamedTuple):
    """What a forecast by known physics begins with.

    Attributes:
        state: The state of each window at its last frame shown, on the solver's grid (B, C, cells).
        trajectories: Index of each window's trajectory in its store (B).
        frames: That last frame, counted in the trajectory (B).
    """

    state: Float[Tensor, "B C *cells"]
    trajectories: list[int]
    frames: list[int]


class Physics:
    """The process of a store, with the parameters of each of its trajectories.

    Args:
        store: A simulated store.
        fields: The fields that windows show, in the order of the axis C; all unless given.

    Raises:
        ValueError: The store was imported, or its process is not there.
    """

    def __init__(self, store: TrajectoryStore, fields: Sequence[str] | None = None) -> None:
        if not self.known(store):
            raise ValueError(f"{store.path} was imported, so that its process is not known; give a simulated store")
        self.store, self.recipe = store, store.attributes["recipe"]
        self.shown = list(store.fields if fields is None else fields)

    @staticmethod
    def known(store: TrajectoryStore) -> bool:
        """Whether the store says what it was simulated with."""
        return "class_path" in store.attributes["recipe"].get("process", {})

    @cached_property
    def process(self) -> Process:
        """The process, without the parameters that were drawn."""
        return rebuild(**self.recipe["process"])

    def drawn(self, process: Process, trajectories: Sequence[int]) -> Process:
        """A process with the parameters of some trajectories."""
        values = {name: self.store.per_trajectory[name][list(trajectories)] for name in self.recipe["draw"]}
        return process.with_parameters(values)

    def state(self, trajectories: Sequence[int], frame: int) -> Float[Tensor, "n C *cells"]:
        """The true state on the solver's grid at a saved frame, simulated again."""
        process = self.drawn(self.process, trajectories)
        generators = [trajectory_generator(self.recipe["seed"], i) for i in trajectories]
        with self._named(trajectories):
            stepper = process.stepper()
            stepper.start(process.initial(generators).to(process.dtype))
            for k in range(frame + 1):  # as the data were made: where frames are asked, steps end
                stepper.advance(self._time(k))
            return stepper.u

    def forecast(self, window: Window, horizon: int) -> Float[Tensor, "B {horizon} C H W"]:
        """The frames that follow those shown, by the process's cheap scheme."""
        return self.solve(self.process.fast(), self.start(window), horizon)

    def timed(self, window: Window) -> "Solver":
        """The cheap scheme as a forecaster to be timed."""
        return Solver(self, self.process.fast(), self.start(window))

    def start(self, window: Window) -> Start:
        """The state at the last frame shown."""
        trajectories = window.trajectory.tolist()
        last = (window.start + window.past.shape[1] - 1).tolist()
        process = self.drawn(self.process, trajectories)
        state, first = None, process.fields[0].name
        if first in self.shown:
            state = process.state_from_frames(window.past[:, :, [self.shown.index(first)]])
        if state is None:
            each = [self.state([i], frame) for i, frame in zip(trajectories, last, strict=True)]
            state = torch.cat(each)
        return Start(state, trajectories, last)

    def solve(self, scheme: Process, start: Start, horizon: int) -> Float[Tensor, "B {horizon} C H W"]:
        """The frames that follow some states.

        Args:
            scheme: The process in the scheme to solve it with, without the parameters that were drawn.
            start: The states.
            horizon: Frames to forecast.

        Raises:
            ValueError: The scheme is too rough for the parameters of a trajectory, or could not integrate it.
        """
        # A solver has one clock: windows that begin together are solved together.
        order = sorted(range(len(start.frames)), key=start.frames.__getitem__)
        groups = [(frame, list(lanes)) for frame, lanes in groupby(order, key=start.frames.__getitem__)]
        solved = [
            self.solve_together(scheme, [start.trajectories[i] for i in own], start.state[own], frame, horizon)
            for frame, own in groups
        ]
        return torch.cat(solved)[torch.tensor(order).argsort()]

    def solve_together(
        self, scheme: Process, trajectories: Sequence[int], state: Float[Tensor, "n C *cells"], frame: int, horizon: int
    ) -> Float[Tensor, "n {horizon} C H W"]:
        """The frames that follow the states of some trajectories at one saved frame; see `solve`."""
        process = self.drawn(scheme, trajectories)
        frames = []
        with self._named(trajectories):
            stepper = process.stepper()
            stepper.start(state.to(process.dtype), self._time(frame))
            for lead in range(1, horizon + 1):
                stepper.advance(self._time(frame + lead))
                frames.append(process.image(stepper.u))
        return torch.stack(frames, dim=1)

    @contextmanager
    def _named(self, trajectories: Sequence[int]) -> Iterator[None]:
        """Say which trajectory could not be integrated."""
        try:
            yield
        except StepError as error:
            raise ValueError(
                f"known physics of {self.store.path}, trajectory {trajectories[error.lane]}: {error}; leave it out with "
                "--known_physics false"
            ) from error

    def _time(self, frame: int) -> float:
        return self.process.first_frame + frame * self.process.frame_interval


class Solver:
    """Known physics as a forecaster to be timed: it goes on from the first of some windows, whatever it is shown.

    Finding the state is not part of the forecast. A batch solves that window several times.

    Args:
        physics: The process and its drawn parameters.
        scheme: The process in the scheme to solve it with, without the parameters that were drawn.
        start: The states of the windows.

    Attributes:
        device: Where it runs, whatever the device of the frames it is shown.
    """

    device = torch.device("cpu")

    def __init__(self, physics: Physics, scheme: Process, start: Start) -> None:
        self.physics, self.scheme, self.start = physics, scheme, start
        self._first = start.state[:1].clone()  # memory of its own: the others are no part of what is timed

    def __call__(self, past: Float[Tensor, "B n_past C H W"], horizon: int) -> Float[Tensor, "B {horizon} F H W"]:
        """The forecast of the first window, as often as windows are shown."""
        trajectories = self.start.trajectories[:1] * len(past)
        states = self._first.expand(len(past), *self._first.shape[1:]).contiguous()
        return self.physics.solve_together(self.scheme, trajectories, states, self.start.frames[0], horizon)

    def forecast(self, horizon: int) -> Float[Tensor, "B {horizon} F H W"]:
        """The forecast of all windows, every saved field.

        Raises:
            ValueError: See `Physics.solve`.
        """
        return self.physics.solve(self.scheme, self.start, horizon)

    def no_worse_than(
        self, largest: float, error: Callable[[Float[Tensor, "B {horizon} F H W"]], float], horizon: int
    ) -> "Solver | None":
        """The roughest solver whose forecasts still err by no more than another forecast; None if no rougher one does.

        Args:
            largest: Error of the other forecast of the windows.
            error: That of a forecast of the windows, not finite if the forecast is not.
            horizon: Frames to forecast.
        """
        found, scheme = None, self.scheme.coarser()
        while scheme is not None:
            rougher = Solver(self.physics, scheme, self.start)
            try:
                near = error(rougher.forecast(horizon)) <= largest  # false for a NaN
            except ValueError:  # too rough for the parameters that were drawn, or not to be integrated
                near = False
            if not near:
                break
            found, scheme = rougher, scheme.coarser()
        return found
