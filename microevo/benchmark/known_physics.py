"""Known physics: the process's own solver as an entry, the ceiling of every table."""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from microevo.benchmark.entry import Answer, Entry
from microevo.benchmark.protocol import Protocol
from microevo.data import TrajectoryStore, Window, WindowDataset
from microevo.processes import Process, rebuild, trajectory_generator


class KnownPhysics(Entry):
    """Forecasts by solving the equations that made the data, which no network is expected to beat.

    Where the last frames shown determine the state (the solver's grid is the image, the wave's quadrature follows from
    two frames) the solver starts from them, and knows no more than a network. Elsewhere it starts from the true state
    on its own finer grid, simulated again from the trajectory's seed, and goes on with the cheap scheme: what is left is
    that scheme's error.
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
        physics = Physics(windows.store)
        fields = [windows.store.fields.index(field) for field in windows.fields]

        def answer(window: Window) -> Tensor:
            return physics.forecast(window, protocol.horizon)[:, :, fields]

        return answer


class Physics:
    """The process of a store, with the parameters of each of its trajectories.

    Args:
        store: A simulated store.

    Raises:
        ValueError: The store was imported, or its process is not there.
    """

    def __init__(self, store: TrajectoryStore) -> None:
        if not self.known(store):
            raise ValueError(f"{store.path} was imported, so that its process is not known; give a simulated store")
        self.store, self.recipe = store, store.attributes["recipe"]

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
        stepper = process.stepper()
        generators = [trajectory_generator(self.recipe["seed"], i) for i in trajectories]
        stepper.start(process.initial(generators).to(process.dtype))
        stepper.advance(self._time(frame))
        return stepper.u

    def forecast(self, window: Window, horizon: int) -> Float[Tensor, "B {horizon} C H W"]:
        """The frames that follow those shown, by the process's cheap scheme."""
        state, last = self._start(window)
        # A solver has one clock: windows that begin together are solved together.
        order = sorted(range(len(last)), key=last.__getitem__)
        groups = [(frame, list(lanes)) for frame, lanes in groupby(order, key=last.__getitem__)]
        solved = [self._solve(window.trajectory[own].tolist(), state[own], frame, horizon) for frame, own in groups]
        return torch.cat(solved)[torch.tensor(order).argsort()]

    def timed(self, window: Window) -> Callable[[Tensor, int], Tensor]:
        """The solver as a forecaster to be timed: it starts from the state of one window, whatever it is shown.

        Finding the state is not part of the forecast. A batch solves that window several times.
        """
        state, (last,) = self._start(window)

        def forecast(past: Tensor, horizon: int) -> Tensor:
            states = state.expand(len(past), *state.shape[1:]).contiguous()
            return self._solve(window.trajectory.tolist() * len(past), states, last, horizon)

        return forecast

    def _start(self, window: Window) -> tuple[Float[Tensor, "B C *cells"], list[int]]:
        """The state at the last frame shown, and that frame of each trajectory: what a forecast begins with."""
        trajectories = window.trajectory.tolist()
        last = (window.start + window.past.shape[1] - 1).tolist()
        state = self.drawn(self.process, trajectories).recover(window.past)
        if state is None:
            each = [self.state([i], frame) for i, frame in zip(trajectories, last, strict=True)]
            state = torch.cat(each)
        return state, last

    def _solve(
        self, trajectories: Sequence[int], state: Float[Tensor, "n C *cells"], frame: int, horizon: int
    ) -> Float[Tensor, "n {horizon} C H W"]:
        """The frames that follow a state at a saved frame."""
        process = self.drawn(self.process.cheap(), trajectories)
        stepper = process.stepper()
        stepper.start(state.to(process.dtype), self._time(frame))
        frames = []
        for lead in range(1, horizon + 1):
            stepper.advance(self._time(frame + lead))
            frames.append(process.image(stepper.u))
        return torch.stack(frames, dim=1)

    def _time(self, frame: int) -> float:
        return self.process.first_frame + frame * self.process.frame_interval
