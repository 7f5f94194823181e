"""The steps of the adaptive integrator: which to try, and whether to keep them; each trajectory on its own."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from microevo.processes.integrators.base import StepError


class Block(NamedTuple):
    """Up to four equal steps of each trajectory.

    Attributes:
        steps: How many; none of those that have reached the target time.
        size: The step [t0].
        ratio: Its ratio to the step before; 0 at the very first one, which is of first order.
        ending: Whether the block ends at the target time.
        due: Whether the energy has to be looked at after it.
    """

    steps: Int[np.ndarray, " n"]
    size: Float[np.ndarray, " n"]
    ratio: Float[np.ndarray, " n"]
    ending: Bool[np.ndarray, " n"]
    due: Bool[np.ndarray, " n"]


class StepControl:
    """Holds the error at `tolerance`, and sees to it that the energy does not rise.

    Args:
        time: Where all trajectories begin [t0].
        first_step: The first step of each one (n) [t0].
        tolerance: The error that is allowed.
        largest: Norm of a fully developed field, of each trajectory (n).
        growing: Whether `largest` grows with the fields.
        energy_rise: Relative rise of the energy that rounding explains.

    Attributes:
        time: Where each trajectory is (n) [t0].
        separation: Degree of phase separation: `|u - mean|` of the slow modes, relative to a fully developed field (n).
        lowest: The last energy that was looked at (n).
        steps_taken: Accepted steps (n).
    """

    def __init__(
        self,
        time: float,
        first_step: Float[np.ndarray, " n"],
        *,
        tolerance: float,
        largest: Float[np.ndarray, " n"],
        growing: bool,
        energy_rise: float,
    ) -> None:
        from microevo.processes.kernels import step_size  # numba takes its time to import

        self.kernel = step_size
        n = len(first_step)
        self.tolerance, self.energy_rise, self.growing = tolerance, energy_rise, growing
        self.largest = np.maximum(largest, 1e-30)  # a field of zeros has no error relative to itself
        self.time = np.full(n, time, dtype=float)
        self.step = first_step.astype(float)  # what the error control asks for
        self.last = np.full(n, np.inf)  # the step just taken; an infinite one makes the next of first order
        self.separation, self.lowest = np.zeros(n), np.full(n, np.inf)
        # Blocks so far, and of them when the energy was looked at last.
        self.blocks, self.seen, self.steps_taken, self.rejections = np.zeros((4, n), dtype=np.int64)

    def plan(self, time: float) -> Block:
        """The next block on the way to exactly `time`."""
        n = len(self.time)
        block = Block(np.zeros(n, np.int64), np.empty(n), np.empty(n), np.zeros(n, bool), np.zeros(n, bool))
        self.kernel.plan(time, self.time, self.step, self.last, self.blocks - self.seen, *block)
        return block

    def accept(
        self, block: Block, time: float, sums: Float[np.ndarray, "n 3"], energy: Float[np.ndarray, " n"]
    ) -> Bool[np.ndarray, " n"]:
        """Accept the block of each trajectory, or reject it.

        The error has two parts, of which the squares are added: 6 times the second difference of the field relative to
        a fully developed one, and that of the slow modes relative to these.

        Args:
            block: What was tried.
            time: The target time [t0].
            sums: Squares of the second difference in the last step, of that of the slow modes, and of these.
            energy: The energy after it, of those for which it is due.

        Returns:
            Mask of the trajectories whose block is rejected, and has to be repeated with smaller steps.

        Raises:
            StepError: No step of a trajectory is small enough.
        """
        error, rejected = np.zeros(len(energy)), np.zeros(len(energy), bool)
        limits = (self.tolerance, self.largest, self.energy_rise)
        state = (self.time, self.step, self.last, self.blocks, self.seen, self.steps_taken, self.rejections)
        if self.kernel.accept(
            time, *block, sums, energy, *limits, *state, self.separation, self.lowest, error, rejected
        ):
            self._give_up(block, error, energy)
        if self.growing:
            taken = ~rejected & (block.steps > 0)
            self.largest[taken] = np.maximum(self.largest, np.sqrt(sums[:, 2]))[taken]
        return rejected

    def _give_up(self, block: Block, error: Float[np.ndarray, " n"], energy: Float[np.ndarray, " n"]) -> None:
        index = int(self.rejections.argmax())
        if not math.isfinite(error[index]):
            why = "the field is not finite"
        elif error[index] > self.kernel.TOO_LARGE * self.tolerance:
            why = f"its error estimate stays at {error[index]:.1e}"
        else:
            why = f"its energy rises to {energy[index]:.6g}"
        raise StepError(
            index,
            f"at time {self.time[index]:.6g} no step down to {block.size[index]:.1e} is accepted, because {why} (last energy "
            f"{self.lowest[index]:.6g}); lower the tolerance or refine the grid",
        )
