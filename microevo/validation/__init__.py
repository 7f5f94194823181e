"""Validation of the simulators: simulated trajectories compared with published samples."""

from microevo.validation.compare import compare

__all__ = ["compare"]
