"""The reference solver: the numerical solver of the process that made the data, as a competitor."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from microevo.benchmark.competitors.base import REFERENCE, Competitor, Forecast
from microevo.benchmark.protocol import Protocol
from microevo.data import TrajectoryStore, Window, WindowDataset, sampled
from microevo.processes import Parameters, Process, StepError, rebuild, trajectory_generator


class ReferenceSolver(Competitor):
    """Forecasts by solving the equations that made the data, which no network is expected to beat.

    Where the last input frames determine the state (the solver's grid is the image, the wave's quadrature follows from
    two frames), the solver starts from them and knows no more than a network. Elsewhere it starts from the true state on
    its own finer grid, simulated again from the trajectory's seed, and continues with the fast scheme. What remains is the
    error of that scheme, which is nearly exact where the data were made with it. Grains restart from their numbers, with
    sharp boundaries, which costs some accuracy at the first lead times.
    """

    def __init__(self) -> None:
        super().__init__(REFERENCE)

    def fingerprint(self, protocol: str) -> str:
        """How the solver forecasts."""
        return "fast scheme from the frames, or from the true state"

    def supports(self, name: str, protocol: Protocol, windows: WindowDataset) -> bool:
        """Whether the data were simulated by microevo."""
        return StoredProcess.known(windows.store)

    def prepare(self, name: str, protocol: Protocol, windows: WindowDataset, device: torch.device) -> Forecast:
        """Return the simulation of the target frames; always on the CPU, whose rounding the data have."""
        process = StoredProcess(windows.store, windows.fields)
        fields = [windows.store.fields.index(field) for field in windows.fields]
        return lambda window: process.forecast(window, protocol.horizon)[:, :, fields]


class InitialState(NamedTuple):
    """What a forecast by the reference solver starts from.

    Attributes:
        state: The state of each window at its last input frame, on the solver's grid (B, C, cells).
        trajectories: Index of each window's trajectory in its store (B).
        frames: That last input frame, counted in the trajectory (B).
    """

    state: Float[Tensor, "B C *cells"]
    trajectories: list[int]
    frames: list[int]


class StoredProcess:
    """The process of a store, with the parameters of each of its trajectories.

    Args:
        store: A simulated store.
        fields: The fields of the input frames, in the order of the axis C; all unless given.

    Raises:
        ValueError: The store was imported, or its process is not installed.
    """

    def __init__(self, store: TrajectoryStore, fields: Sequence[str] | None = None) -> None:
        if not self.known(store):
            raise ValueError(f"{store.path} was imported, so that its process is not known; give a simulated store")
        self.store, self.recipe = store, store.attributes["recipe"]
        self.fields = list(store.fields if fields is None else fields)

    @staticmethod
    def known(store: TrajectoryStore) -> bool:
        """Whether the store says what it was simulated with."""
        return "class_path" in store.attributes["recipe"].get("process", {})

    @cached_property
    def process(self) -> Process:
        """The process, without the parameters that vary between trajectories."""
        return rebuild(**self.recipe["process"])

    def parameters(self, process: Process, trajectories: Sequence[int]) -> Parameters:
        """The parameters of some trajectories, for the process in any of its schemes."""
        return process.vary(
            {name: self.store.per_trajectory[name][list(trajectories)] for name in sampled(self.recipe)}
        )

    def state(self, trajectories: Sequence[int], frame: int) -> Float[Tensor, "n C *cells"]:
        """Simulate the true state on the solver's grid at a saved frame again."""
        p = self.parameters(self.process, trajectories)
        generators = [trajectory_generator(self.recipe["seed"], i) for i in trajectories]
        with self._naming(trajectories):
            stepper = self.process.stepper(p)
            stepper.start(self.process.initial(generators, p).to(self.process.dtype))
            for k in range(frame + 1):  # as the data were made: steps end at saved frames
                stepper.advance(self._time(k))
            return stepper.u

    def forecast(self, window: Window, horizon: int) -> Float[Tensor, "B {horizon} C H W"]:
        """Solve for the target frames with the fast scheme of the process."""
        return self.solve(self.process.fast(), self.initial_state(window), horizon)

    def timed(self, window: Window) -> "TimedSolver":
        """The fast scheme as a forecaster to be timed."""
        return TimedSolver(self, self.process.fast(), self.initial_state(window))

    def initial_state(self, window: Window) -> InitialState:
        """The state at the last input frame."""
        trajectories = window.trajectory.tolist()
        last = (window.start + window.past.shape[1] - 1).tolist()
        state, first = None, self.process.fields[0].name
        if first in self.fields:
            p = self.parameters(self.process, trajectories)
            state = self.process.state_from_frames(window.past[:, :, [self.fields.index(first)]], p)
        if state is None:
            state = torch.cat([self.state([i], frame) for i, frame in zip(trajectories, last, strict=True)])
        return InitialState(state, trajectories, last)

    def solve(self, scheme: Process, initial: InitialState, horizon: int) -> Float[Tensor, "B {horizon} C H W"]:
        """Solve for the frames that follow some states.

        Raises:
            ValueError: The scheme is too coarse for the parameters of a trajectory, or could not integrate it.
        """
        # A solver has one clock: windows that begin at the same frame are solved together.
        order = sorted(range(len(initial.frames)), key=initial.frames.__getitem__)
        groups = [(frame, list(batch)) for frame, batch in groupby(order, key=initial.frames.__getitem__)]
        solved = [
            self.solve_together(scheme, [initial.trajectories[i] for i in batch], initial.state[batch], frame, horizon)
            for frame, batch in groups
        ]
        return torch.cat(solved)[torch.tensor(order).argsort()]

    def solve_together(
        self, scheme: Process, trajectories: Sequence[int], state: Float[Tensor, "n C *cells"], frame: int, horizon: int
    ) -> Float[Tensor, "n {horizon} C H W"]:
        """Solve for the frames that follow the states of some trajectories at one saved frame; see `solve`."""
        p = self.parameters(scheme, trajectories)
        frames = []
        with self._naming(trajectories):
            stepper = scheme.stepper(p)
            stepper.start(state.to(scheme.dtype), self._time(frame))
            for lead in range(1, horizon + 1):
                stepper.advance(self._time(frame + lead))
                frames.append(scheme.image(stepper.u))
        return torch.stack(frames, dim=1)

    @contextmanager
    def _naming(self, trajectories: Sequence[int]) -> Iterator[None]:
        """Name the trajectory that could not be integrated."""
        try:
            yield
        except StepError as error:
            raise ValueError(
                f"the reference solver of {self.store.path}, trajectory {trajectories[error.index]}: {error}; leave it out "
                "with --reference_solver false"
            ) from error

    def _time(self, frame: int) -> float:
        return self.process.first_frame + frame * self.process.frame_interval


class TimedSolver:
    """The reference solver as a forecaster to be timed: it continues from the first of some windows, whatever its input.

    Finding the state is not part of the forecast. For a batch that window is solved several times.

    Args:
        process: The process and its parameters per trajectory.
        scheme: The process with the scheme to solve it with, without the parameters that vary between trajectories.
        initial: The states of the windows.

    Attributes:
        device: Where it runs, whatever the device of its input.
    """

    device = torch.device("cpu")

    def __init__(self, process: StoredProcess, scheme: Process, initial: InitialState) -> None:
        self.process, self.scheme, self.initial = process, scheme, initial
        self._first = initial.state[:1].clone()  # memory of its own: the other states are not part of what is timed

    def __call__(self, past: Float[Tensor, "B n_past C H W"], horizon: int) -> Float[Tensor, "B {horizon} F H W"]:
        """The forecast of the first window, repeated for each window of the input."""
        trajectories = self.initial.trajectories[:1] * len(past)
        states = self._first.expand(len(past), *self._first.shape[1:]).contiguous()
        return self.process.solve_together(self.scheme, trajectories, states, self.initial.frames[0], horizon)

    def forecast(self, horizon: int) -> Float[Tensor, "B {horizon} F H W"]:
        """The forecast of all windows, every saved field.

        Raises:
            ValueError: See `StoredProcess.solve`.
        """
        return self.process.solve(self.scheme, self.initial, horizon)

    def accuracy_matched(
        self, largest: float, error: Callable[[Float[Tensor, "B {horizon} F H W"]], float], horizon: int
    ) -> "TimedSolver | None":
        """The solver with the coarsest steps whose error is no larger than that of another forecast.

        Args:
            largest: Error of the other forecast of the windows.
            error: Error of a forecast of the windows, not finite if the forecast is not.
            horizon: Number of target frames.

        Returns:
            The solver, or None if no coarser scheme than this one is as accurate.
        """
        found, scheme = None, self.scheme.coarser()
        while scheme is not None:
            coarser = TimedSolver(self.process, scheme, self.initial)
            try:
                accurate = error(coarser.forecast(horizon)) <= largest  # false for a NaN
            except ValueError:  # the scheme could not integrate a trajectory
                accurate = False
            if not accurate:
                break
            found, scheme = coarser, scheme.coarser()
        return found
