"""Sweeps without a server: a W&B sweep file, optuna's suggestions, and trainings that many processes and nodes share."""

from microevo.sweep.file import SweepFile, read_sweep
from microevo.sweep.runner import run

__all__ = ["SweepFile", "read_sweep", "run"]
