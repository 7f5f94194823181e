"""Compiled rules of the adaptive integrator's steps, trajectory by trajectory; `StepControl` holds the arrays."""

import math
from typing import no_type_check

from microevo.processes.kernels.compiler import compiled

STEPS = 4  # equal steps between two estimates of the error
ENERGY_EVERY = 25  # blocks after which the energy is looked at
ENERGY_PAUSE = 5  # blocks after a look in which a target time needs none: frames may lie closer than steps are long
SHORTEST, LONGEST = 0.5, 2.0  # a step relative to the one before; BDF2 is stable below 2.41
ERROR_PER_DIFFERENCE = 6.0  # errors of coarsening fields are that many times the second difference of a step
TOO_LARGE = 4.0  # times the tolerance; steps of such an error are rejected
MAX_REJECTIONS = 30  # halvings of a step before giving up


@compiled(error_model="numpy")
@no_type_check
def plan(time, now, step, last, unseen, steps, size, ratio, ending, due):
    """See `StepControl.plan`; `unseen` counts the blocks since a look at the energy, and what follows it is written."""
    for trajectory in range(len(now)):
        size[trajectory] = step[trajectory]
        if now[trajectory] < time:
            left = time - now[trajectory]
            count = max(math.ceil(left / step[trajectory] - 1e-9), 1)
            # The last steps before a target time are shortened evenly: a short one among long ones would be inaccurate.
            if count <= 2 * STEPS:
                size[trajectory] = left / count
            steps[trajectory] = min(count, STEPS)
            ending[trajectory] = count <= STEPS
            due[trajectory] = unseen[trajectory] + 1 >= (ENERGY_PAUSE if ending[trajectory] else ENERGY_EVERY)
        ratio[trajectory] = size[trajectory] / last[trajectory]


@compiled(error_model="numpy")
@no_type_check
def accept(
    time, steps, size, ratio, ending, due, sums, energy, tolerance, largest, energy_rise,
    now, step, last, blocks, seen, steps_taken, rejections, separation, lowest, error, rejected,
):  # fmt: skip
    """See `StepControl.accept`; from `now` on it is all written. True if steps of a trajectory were rejected too often."""
    hopeless = False
    for trajectory in range(len(now)):
        if not steps[trajectory]:
            continue
        second, slow_second, slow = (
            math.sqrt(sums[trajectory, 0]),
            math.sqrt(sums[trajectory, 1]),
            math.sqrt(sums[trajectory, 2]),
        )
        r = 1.0 if steps[trajectory] > 1 else ratio[trajectory]
        relative = slow_second / slow if slow else slow_second
        error[trajectory] = (
            2 * r / (1 + r) * math.sqrt((ERROR_PER_DIFFERENCE * second / largest[trajectory]) ** 2 + relative**2)
        )
        if not math.isfinite(slow):
            error[trajectory] = math.nan
        rejected[trajectory] = not error[trajectory] <= TOO_LARGE * tolerance  # so that NaN is rejected
        if due[trajectory] and not energy[trajectory] <= lowest[trajectory] + energy_rise * abs(lowest[trajectory]):
            rejected[trajectory] = True
        if rejected[trajectory]:
            rejections[trajectory] += 1
            hopeless |= rejections[trajectory] > MAX_REJECTIONS
            step[trajectory] = size[trajectory] / 2
            continue
        now[trajectory] = time if ending[trajectory] else now[trajectory] + steps[trajectory] * size[trajectory]
        last[trajectory] = size[trajectory]
        blocks[trajectory] += 1
        steps_taken[trajectory] += steps[trajectory]
        rejections[trajectory] = 0
        separation[trajectory] = slow / largest[trajectory]
        if due[trajectory]:
            lowest[trajectory] = energy[trajectory]
            seen[trajectory] = blocks[trajectory]
        # A step cut short to meet a target time says what the full one would have done.
        expected = max(error[trajectory] * (step[trajectory] / size[trajectory]) ** 2, 1e-300)
        step[trajectory] *= min(max(0.9 * math.sqrt(tolerance / expected), SHORTEST), LONGEST)
    return hopeless
