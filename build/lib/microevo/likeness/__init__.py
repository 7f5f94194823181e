"""How much simulated trajectories are like a published sample."""

from microevo.likeness.compare import compare

__all__ = ["compare"]
