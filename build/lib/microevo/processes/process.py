"""What evolves: the interface of every process, and the simulation of a batch of trajectories."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import Grid
from microevo.processes.stepper import StepError, Stepper

OWN = "microevo.processes"  # whose modules a store may name


@dataclass(frozen=True)
class Field:
    """A named physical quantity: one entry of the axis `C`.

    Attributes:
        name: Its name in stores.
        long_name: What it is, in words.
        units: Its unit, `1` if it has none.
    """

    name: str
    long_name: str
    units: str = "1"


@dataclass(frozen=True, kw_only=True)
class Process(ABC):
    """A law of evolution with its parameters, grid and sampling in time.

    A new process is a frozen dataclass with the equation in its docstring and the three methods below. Its
    parameters are numbers, or after `with_parameters` one number per trajectory.

    Args:
        grid: Where it is solved, and how the image is made of it.
        first_frame: Time of the first saved frame; the initial state is at time 0 [t0].
        frame_interval: Time between saved frames [t0].
        precision: Floating-point numbers of the solver; frames are saved as float32.
    """

    fields: ClassVar[tuple[Field, ...]]
    parameters: ClassVar[tuple[str, ...]]
    isotropic: ClassVar[bool]

    grid: Grid = Grid()
    first_frame: float = 0.0
    frame_interval: float = 1.0
    precision: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        if self.frame_interval <= 0 or self.first_frame < 0:
            raise ValueError(
                f"frames are saved at first_frame >= 0 and every frame_interval > 0, but these are {self.first_frame} and "
                f"{self.frame_interval}"
            )

    @abstractmethod
    def initial(self, generators: Sequence[torch.Generator]) -> Float[Tensor, "n C *cells"]:
        """The state at time 0, each trajectory drawn from its own generator."""

    @abstractmethod
    def stepper(self) -> Stepper:
        """The integrator that suits this process."""

    def image(self, u: Float[Tensor, "n C *cells"]) -> Float[Tensor, "n C *pixels"]:
        """What is saved of a state."""
        return self.grid.block_mean(u).float()

    def fast(self) -> "Process":
        """The same law by the cheapest scheme whose statistics can be trusted; by default as it is."""
        return self

    def coarser(self) -> "Process | None":
        """The same law solved about twice as roughly, to compare with forecasts that err more; by default there is none.

        Never for data: what is left may be far from the solution, and is only known to be stable.
        """
        return None

    def state_from_frames(self, past: Float[Tensor, "n n_past C *pixels"]) -> Float[Tensor, "n C *cells"] | None:
        """The state at the last of some frames, where they determine it; by default they do not.

        Args:
            past: The first of the saved fields.
        """
        return None

    @property
    def dtype(self) -> torch.dtype:
        """The solver's floating-point type."""
        return {"float32": torch.float32, "float64": torch.float64}[self.precision]

    def with_parameters(self, values: Mapping[str, Sequence[float] | np.ndarray]) -> "Process":
        """A copy in which the named parameters hold one value per trajectory.

        Raises:
            ValueError: A name is none of `parameters`.
        """
        strangers = sorted(set(values) - set(self.parameters))
        if strangers:
            raise ValueError(
                f"{type(self).__name__} can draw {', '.join(self.parameters)} per trajectory, not {', '.join(strangers)}"
            )
        sizes = {name: len(value) for name, value in values.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"every drawn parameter needs one value per trajectory, but their numbers differ: {sizes}")
        drawn = copy.copy(self)
        for name, value in values.items():
            column = torch.as_tensor(np.asarray(value), dtype=torch.float64).reshape(
                -1, *(1,) * (1 + len(self.grid.shape))
            )
            # Not through the constructor: its hints are those of the command line, one number.
            object.__setattr__(drawn, name, column)
        drawn.__post_init__()
        return drawn


def rebuild(class_path: str, init_args: Mapping[str, Any]) -> Process:
    """The process of a store's recipe.

    A store may come from anybody, and must not be able to name code to run: but for the modules of `microevo.processes`,
    only processes that are imported already are looked at.

    Raises:
        ValueError: There is no such process, or its settings are not those of this version.
    """
    _import_own(class_path)
    known = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in _descendants(Process)}  # type: ignore[type-abstract]
    if class_path not in known:
        raise ValueError(
            f"there is no process {class_path} here: of the modules that stores name only those in {OWN} are imported; put "
            "its file there, import it first, or leave the physics out with --physics none --known_physics false"
        )
    settings = dict(init_args)
    grid = dict(settings.pop("grid"))
    try:
        return known[class_path](**settings, grid=Grid(**(grid | {"shape": tuple(grid["shape"])})))
    except TypeError as error:
        raise ValueError(f"the settings of {class_path} are not those of this version of microevo: {error}") from error


def _import_own(class_path: str) -> None:
    """Import the module of a class if it is one directly in this package."""
    package, _, module = class_path.rpartition(".")[0].rpartition(".")
    if package == OWN and module.isidentifier() and find_spec(f"{OWN}.{module}"):
        import_module(f"{OWN}.{module}")


def _descendants(cls: type[Process]) -> Iterator[type[Process]]:
    for child in cls.__subclasses__():
        yield child
        yield from _descendants(child)


def trajectory_generator(seed: int, index: int) -> torch.Generator:
    """The random numbers of trajectory `index` of a store, always on the CPU."""
    state = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def rollout(
    process: Process,
    generators: Sequence[torch.Generator],
    frames: int,
    device: str | torch.device = "cpu",
    names: Sequence[int] | None = None,
) -> Iterator[Float[Tensor, "n C *pixels"]]:
    """Simulate a batch of trajectories, frame by frame.

    Args:
        process: What evolves.
        generators: The random numbers of each trajectory.
        frames: Number of frames.
        device: Where to compute.
        names: Number of each trajectory, for messages.

    Raises:
        ValueError: A trajectory could not be integrated; the message names it, the time and the step.
    """
    stepper = process.stepper()
    try:
        stepper.start(process.initial(generators).to(device=device, dtype=process.dtype))
        for frame in range(frames):
            stepper.advance(process.first_frame + frame * process.frame_interval)
            yield process.image(stepper.u)
    except StepError as error:
        name = error.lane if names is None else names[error.lane]
        raise ValueError(f"{type(process).__name__}, trajectory {name}: {error}") from error


def simulate(
    process: Process, generators: Sequence[torch.Generator], frames: int, device: str | torch.device = "cpu"
) -> Float[Tensor, "n T C *pixels"]:
    """Simulate a batch of trajectories, all frames at once; see `rollout`."""
    return torch.stack(list(rollout(process, generators, frames, device)), dim=1)
