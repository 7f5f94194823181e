"""Compiled loops of the integrator with fixed steps."""

from typing import no_type_check

from microevo.processes.kernels.compiler import FAST, compiled


@compiled(fastmath=FAST, error_model="numpy", nogil=True)
@no_type_check
def combine(drive, drive_before, increment, of_drive, of_increment, share):
    """The modes of a step's increment, in place of those of the increment before.

    Args:
        drive: Modes of the explicit rate (n, C, modes).
        drive_before: Those of the step before.
        increment: `of_drive (drive - share drive_before) + of_increment increment` replaces it.
        of_drive: Factor of each mode (n or 1, C or 1, modes).
        of_increment: Likewise.
        share: How much of the rate before is taken off.
    """
    n, channels, modes = increment.shape
    for trajectory in range(n):
        for channel in range(channels):
            own = min(trajectory, of_drive.shape[0] - 1), min(channel, of_drive.shape[1] - 1)
            a, b = of_drive[own], of_increment[own]
            d, e, u = drive[trajectory, channel], drive_before[trajectory, channel], increment[trajectory, channel]
            for m in range(modes):
                u[m] = a[m] * (d[m] - share * e[m]) + b[m] * u[m]


@compiled(fastmath=FAST, error_model="numpy", nogil=True)
@no_type_check
def add(total, increment, after, field, low, high, outside):
    """Add an increment to double precision.

    Args:
        total: The field (n, values), float64.
        increment: What is added.
        after: Receives the sum, float64.
        field: Receives it in the type of `increment`.
        low: The least value that a field may have.
        high: The largest one.
        outside: Receives how many values of each field are not between them (n).
    """
    for trajectory in range(len(total)):
        before, more, now, rounded = total[trajectory], increment[trajectory], after[trajectory], field[trajectory]
        wrong = 0
        for i in range(len(before)):
            value = before[i] + more[i]
            now[i] = value
            rounded[i] = value
            wrong += not (low <= value <= high)  # so that NaN is wrong
        outside[trajectory] = wrong
