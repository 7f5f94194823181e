"""Phase-field processes: what evolves, on which grid, and how it is integrated."""

from microevo.processes.grid import Grid
from microevo.processes.initial import uniform_noise
from microevo.processes.process import Field, Process, rollout, simulate, trajectory_generator
from microevo.processes.spinodal import SpinodalDecomposition
from microevo.processes.stepper import SpectralBDF2, StepError, Stepper

__all__ = [
    "Field",
    "Grid",
    "Process",
    "SpectralBDF2",
    "SpinodalDecomposition",
    "StepError",
    "Stepper",
    "rollout",
    "simulate",
    "trajectory_generator",
    "uniform_noise",
]
