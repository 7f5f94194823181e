"""Phase-field processes: what evolves, on which grid, and how it is integrated."""

from microevo.processes.dendrite import DendriticSolidification
from microevo.processes.grain_growth import GrainGrowth
from microevo.processes.grid import Grid
from microevo.processes.initial import uniform_noise
from microevo.processes.integrators.base import StepError, Stepper
from microevo.processes.integrators.bdf2 import SpectralBDF2
from microevo.processes.integrators.runge_kutta import RungeKutta
from microevo.processes.parameters import Parameters
from microevo.processes.plane_wave import PlaneWave
from microevo.processes.process import (
    Field,
    Process,
    find_process,
    present_settings,
    rebuild,
    rollout,
    simulate,
    trajectory_generator,
)
from microevo.processes.regular_solution import RegularSolution
from microevo.processes.spinodal import SpinodalDecomposition

__all__ = [
    "DendriticSolidification",
    "Field",
    "GrainGrowth",
    "Grid",
    "Parameters",
    "PlaneWave",
    "Process",
    "RegularSolution",
    "RungeKutta",
    "SpectralBDF2",
    "SpinodalDecomposition",
    "StepError",
    "Stepper",
    "find_process",
    "present_settings",
    "rebuild",
    "rollout",
    "simulate",
    "trajectory_generator",
    "uniform_noise",
]
