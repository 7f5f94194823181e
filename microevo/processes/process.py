"""What evolves: the interface of every process, and the simulation of a batch of trajectories."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import Grid
from microevo.processes.integrators.base import StepError, Stepper
from microevo.processes.integrators.bdf2 import SpectralBDF2
from microevo.processes.integrators.runge_kutta import RungeKutta
from microevo.processes.integrators.transforms import modes_of
from microevo.processes.parameters import Parameters

if TYPE_CHECKING:
    import microevo.metrics

OWN = "microevo.processes"  # whose modules a store may name; also the group of entry points of other packages
# Values of settings in earlier stores, and what they are called now.
RENAMED = {("microevo.processes.regular_solution.RegularSolution", "scheme", "cheap"): "fast"}


@dataclass(frozen=True)
class Field:
    """A named physical quantity: one entry of the axis `C`.

    Attributes:
        name: Its name in stores.
        long_name: What it is, in words.
        units: Its unit, `1` if it has none.
        span: The values between which it lies by its meaning, as a composition between 0 and 1; None if that is not known.
            A field may overshoot them a little. They scale SSIM and PSNR.
    """

    name: str
    long_name: str
    units: str = "1"
    span: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Process(ABC):
    """A law of evolution with its parameters, grid and sampling in time.

    A new process is a frozen dataclass with the equation in its docstring, an initial state, and its equation: the methods
    `linear` and `nonlinear`, or `rhs`. Its settings are numbers. Those that it names in `parameters` may differ between the
    trajectories of a batch, and are handed to its methods beside it, as `p`.

    Args:
        grid: Where it is solved, and how the image is made of it.
        first_frame: Time of the first saved frame; the initial state is at time 0 [t0].
        frame_interval: Time between saved frames [t0].
        precision: Floating-point numbers of the solver; frames are saved as float32.

    Attributes:
        fields: What is saved.
        parameters: The settings that may vary from trajectory to trajectory.
        isotropic: Whether mirror images and quarter turns of a solution are solutions.
        oriented: The settings that such an image has another value of, such as the direction of a wave.
    """

    fields: ClassVar[tuple[Field, ...]]
    parameters: ClassVar[tuple[str, ...]] = ()
    isotropic: ClassVar[bool] = False
    oriented: ClassVar[tuple[str, ...]] = ()

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

    def _check_positive(self, *names: str) -> None:
        for name in names:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, but it is {getattr(self, name)}")

    def _check_two_dimensions(self) -> None:
        if len(self.grid.shape) != 2:
            raise ValueError(
                f"{type(self).__name__} is solved in two dimensions, but the shape of the grid is {self.grid.shape}; give it "
                "two sides"
            )

    def _check_resolved(self, cells: float, least: float, remedy: str, what: str = "interface") -> None:
        if cells < least:
            raise ValueError(f"the {what} is {cells:.2f} cells wide (10-90 %), but needs {least:.0f}; {remedy}")

    # ---------------------------------------------------------- the equation

    @abstractmethod
    def initial(self, generators: Sequence[torch.Generator], p: Parameters) -> Float[Tensor, "n C *cells"]:
        """The state at time 0, each trajectory from a random number generator of its own."""

    def linear(self, k2: Float[Tensor, "*modes"], p: Parameters) -> Tensor:
        """Symbol of the linear part of `du/dt` for squared wavenumbers `k2` [1/t0]; -kappa k2 for `kappa lap u`."""
        raise NotImplementedError

    def nonlinear(self, u: Float[Tensor, "n C *cells"], p: Parameters) -> Float[Tensor, "n C *cells"]:
        """The rest of `du/dt`, on the field, before it is multiplied by `nonlinear_symbol`."""
        raise NotImplementedError

    def nonlinear_symbol(self, k2: Float[Tensor, "*modes"], p: Parameters) -> Tensor:
        """What the nonlinear part is multiplied by for squared wavenumbers `k2`: 1, or -M k2 in `M lap f(u)`."""
        return torch.ones_like(k2)

    def rhs(self, u: Float[Tensor, "n C *cells"], p: Parameters) -> Float[Tensor, "n C *cells"]:
        """`du/dt` as a whole, of an equation without a stiff linear part."""
        raise NotImplementedError

    def stepper(self, p: Parameters) -> Stepper:
        """The integrator: implicit in the linear part where there is one, else explicit in the right-hand side."""
        kind = type(self)
        if kind.rhs is not Process.rhs:
            return RungeKutta(lambda u, trajectories: self.rhs(u, p.select(trajectories).to(u)))
        if kind.linear is Process.linear or kind.nonlinear is Process.nonlinear:
            raise TypeError(f"{kind.__name__} needs its equation: the methods linear and nonlinear, or the method rhs")
        basis = modes_of(self.grid)
        k2 = basis.wavenumbers_squared()

        def nonlinear(u: Tensor, out: Tensor, trajectories: np.ndarray) -> None:
            out.copy_(self.nonlinear(u, p.select(torch.from_numpy(trajectories)).to(u)))

        linear, symbol = self.linear(k2, p), self.nonlinear_symbol(k2, p)
        return SpectralBDF2(basis=basis, linear=linear, symbol=symbol, nonlinear=nonlinear)

    def image(self, u: Float[Tensor, "n C *cells"]) -> Float[Tensor, "n C *pixels"]:
        """What is saved of a state."""
        return self.grid.block_mean(u).float()

    # ---------------------------------------------------- other ways to solve it

    def fast(self) -> "Process":
        """The same law by the fastest scheme whose statistics can be trusted; by default as it is."""
        return self

    def coarser(self) -> "Process | None":
        """The same law with about twice the error or half the steps; by default there is none.

        It is compared with forecasts of a larger error, and never makes data: what is left may be far from the solution,
        and is only known to be stable.
        """
        return None

    def state_from_frames(self, past: Float[Tensor, "n n_past C *pixels"], p: Parameters) -> Tensor | None:
        """The state (n, C, *cells) at the last of some frames, where they determine it; by default they do not.

        Args:
            past: The first of the saved fields.
            p: The parameters of the trajectories.
        """
        return None

    # ------------------------------------------------------ what is measured on it

    def quantities(
        self, first: Float[np.ndarray, "n H W"], p: Parameters | None = None
    ) -> Sequence["microevo.metrics.Quantity"]:
        """Physical quantities that a benchmark measures on images of the first field; by default there are none.

        Args:
            first: First saved frame of each trajectory.
            p: The parameters of the trajectories; those of the process unless given.
        """
        return ()

    @property
    def distance_per_frame(self) -> float | None:
        """How far matter, heat, a boundary or a wave travels from one frame to the next, roughly [l0]; None if it is not known.

        A network that forecasts frame by frame must see about as far.
        """
        return None

    # ------------------------------------------------------------- parameters

    @property
    def dtype(self) -> torch.dtype:
        """The solver's floating-point type."""
        return {"float32": torch.float32, "float64": torch.float64}[self.precision]

    def vary(self, values: Mapping[str, Sequence[float] | np.ndarray]) -> Parameters:
        """The parameters of a batch in which some have one value per trajectory, and the others those of this process.

        Raises:
            ValueError: A name is none of `parameters`, or the process does not accept the values of a trajectory.
        """
        unknown = sorted(set(values) - set(self.parameters))
        if unknown:
            raise ValueError(
                f"{type(self).__name__} can vary {', '.join(self.parameters) or 'nothing'} per trajectory, not "
                f"{', '.join(unknown)}"
            )
        sizes = {name: len(value) for name, value in values.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"every parameter that varies needs one value per trajectory, but their numbers differ: {sizes}"
            )
        self._check_values(values)
        shape = (-1, *(1,) * (1 + len(self.grid.shape)))
        columns = {name: torch.as_tensor(np.asarray(value), dtype=torch.float64) for name, value in values.items()}
        return Parameters(
            {field.name: getattr(self, field.name) for field in fields(self)},
            {name: column.reshape(shape) for name, column in columns.items()},
        )

    def _check_values(self, values: Mapping[str, Sequence[float] | np.ndarray]) -> None:
        """Check the values of trajectories as the constructor does."""
        for row in zip(*values.values(), strict=True):
            settings: dict[str, Any] = {name: float(value) for name, value in zip(values, row, strict=True)}
            replace(self, **settings)


def rebuild(class_path: str, init_args: Mapping[str, Any]) -> Process:
    """The process of a store's recipe.

    Raises:
        ValueError: There is no such process (see `find_process`), or its settings are not those of this version.
    """
    process = find_process(class_path)
    if process is None:
        raise ValueError(
            f"there is no process {class_path} here: a store may name those in {OWN}, and those of installed packages that "
            f"register them as entry points of the group {OWN}; install its package, import it first, or leave the physics "
            "out with --physics none --reference_solver false"
        )
    settings = present_settings(class_path, init_args)
    grid = dict(settings.pop("grid", {}))
    if "shape" not in grid:
        raise ValueError(f"the settings of {class_path} have no grid with a shape; the store's recipe is damaged")
    try:
        return process(**settings, grid=Grid(**(grid | {"shape": tuple(grid["shape"])})))
    except TypeError as error:
        raise ValueError(f"the settings of {class_path} are not those of this version of microevo: {error}") from error


def find_process(class_path: str) -> type[Process] | None:
    """The class of a process that a store names; None if there is no such class here.

    A store may come from anybody, and must not be able to name code to run. Looked at are therefore the modules of
    `microevo.processes`, packages that were installed with an entry point of the group `microevo.processes`, and
    processes that are imported already.
    """
    if class_path:
        _import_known(class_path)
    known = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in _descendants(Process)}  # type: ignore[type-abstract]
    return known.get(class_path)


def present_settings(class_path: str, init_args: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a process in a store, with the names that this version writes."""
    return {
        name: RENAMED.get((class_path, name, value), value) if isinstance(value, str) else value
        for name, value in init_args.items()
    }


def _import_known(class_path: str) -> None:
    """Import the module of a class if it is one directly in this package, or what its package has registered."""
    package, _, module = class_path.rpartition(".")[0].rpartition(".")
    if package == OWN and module.isidentifier() and find_spec(f"{OWN}.{module}"):
        import_module(f"{OWN}.{module}")
        return  # without reading the entry points of all packages, which takes a while
    for entry in entry_points(group=OWN):
        if entry.module.split(".")[0] == class_path.split(".")[0]:
            entry.load()


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
    parameters: Parameters | None = None,
    device: str | torch.device = "cpu",
    names: Sequence[int] | None = None,
) -> Iterator[Float[Tensor, "n C *pixels"]]:
    """Simulate a batch of trajectories, frame by frame.

    Args:
        process: What evolves.
        generators: The random numbers of each trajectory.
        frames: Number of frames.
        parameters: The parameters of each trajectory, from `process.vary`; those of the process unless given.
        device: Where to compute.
        names: Number of each trajectory, for messages.

    Raises:
        ValueError: A trajectory could not be integrated; the message names it, the time and the step.
    """
    p = process.vary({}) if parameters is None else parameters
    stepper = process.stepper(p)
    try:
        stepper.start(process.initial(generators, p).to(device=device, dtype=process.dtype))
        for frame in range(frames):
            stepper.advance(process.first_frame + frame * process.frame_interval)
            yield process.image(stepper.u)
    except StepError as error:
        name = error.index if names is None else names[error.index]
        raise ValueError(f"{type(process).__name__}, trajectory {name}: {error}") from error


def simulate(
    process: Process,
    generators: Sequence[torch.Generator],
    frames: int,
    parameters: Parameters | None = None,
    device: str | torch.device = "cpu",
) -> Float[Tensor, "n T C *pixels"]:
    """Simulate a batch of trajectories, all frames at once; see `rollout`."""
    return torch.stack(list(rollout(process, generators, frames, parameters, device)), dim=1)
