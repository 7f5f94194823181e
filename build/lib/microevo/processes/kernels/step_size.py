"""Compiled rules of the adaptive integrator's steps, trajectory by trajectory; `StepControl` holds the arrays."""

import math
from typing import no_type_check

from microevo.processes.kernels.compiler import compiled

STEPS = 4  # equal steps between two estimates of the error
ENERGY_EVERY = 25  # blocks after which the energy is looked at
ENERGY_PAUSE = 5  # blocks after a look in which an asked time needs none: frames may lie closer than steps are long
SHORTEST, LONGEST = 0.5, 2.0  # a step relative to the one before; BDF2 is stable below 2.41
ERROR_PER_BEND = 6.0  # errors of coarsening fields are that many times the second difference of a step
TOO_WRONG = 4.0  # times the tolerance; such steps are taken back
MAX_REJECTIONS = 30  # halvings of a step before giving up


@compiled(error_model="numpy")
@no_type_check
def plan(time, now, step, last, unseen, steps, size, ratio, ending, due):
    """See `StepControl.plan`; `unseen` counts the blocks since a look at the energy, and what follows it is written."""
    for lane in range(len(now)):
        size[lane] = step[lane]
        if now[lane] < time:
            left = time - now[lane]
            count = max(math.ceil(left / step[lane] - 1e-9), 1)
            # The last steps before an asked time are shortened evenly: a short one among long ones would be inaccurate.
            if count <= 2 * STEPS:
                size[lane] = left / count
            steps[lane] = min(count, STEPS)
            ending[lane] = count <= STEPS
            due[lane] = unseen[lane] + 1 >= (ENERGY_PAUSE if ending[lane] else ENERGY_EVERY)
        ratio[lane] = size[lane] / last[lane]


@compiled(error_model="numpy")
@no_type_check
def judge(
    time, steps, size, ratio, ending, due, sums, energy, tolerance, largest, energy_rise,
    now, step, last, blocks, seen, steps_taken, rejections, developed, lowest, error, wrong,
):  # fmt: skip
    """See `StepControl.judge`; from `now` on it is all written. True if a trajectory has been taken back too often."""
    hopeless = False
    for lane in range(len(now)):
        if not steps[lane]:
            continue
        bend, slow_bend, slow = math.sqrt(sums[lane, 0]), math.sqrt(sums[lane, 1]), math.sqrt(sums[lane, 2])
        r = 1.0 if steps[lane] > 1 else ratio[lane]
        relative = slow_bend / slow if slow else slow_bend
        error[lane] = 2 * r / (1 + r) * math.sqrt((ERROR_PER_BEND * bend / largest) ** 2 + relative**2)
        if not math.isfinite(slow):
            error[lane] = math.nan
        wrong[lane] = not error[lane] <= TOO_WRONG * tolerance  # so that NaN is wrong
        if due[lane] and not energy[lane] <= lowest[lane] + energy_rise * abs(lowest[lane]):
            wrong[lane] = True
        if wrong[lane]:
            rejections[lane] += 1
            hopeless |= rejections[lane] > MAX_REJECTIONS
            step[lane] = size[lane] / 2
            continue
        now[lane] = time if ending[lane] else now[lane] + steps[lane] * size[lane]
        last[lane] = size[lane]
        blocks[lane] += 1
        steps_taken[lane] += steps[lane]
        rejections[lane] = 0
        developed[lane] = slow / largest
        if due[lane]:
            lowest[lane] = energy[lane]
            seen[lane] = blocks[lane]
        # A step cut short to meet an asked time says what the full one would have done.
        expected = max(error[lane] * (step[lane] / size[lane]) ** 2, 1e-300)
        step[lane] *= min(max(0.9 * math.sqrt(tolerance / expected), SHORTEST), LONGEST)
    return hopeless
