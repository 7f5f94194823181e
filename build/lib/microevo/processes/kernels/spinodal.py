"""Compiled loops of the quartic double well: its slope, and its energy."""

from typing import no_type_check

from microevo.processes.kernels.compiler import FAST, compiled


@compiled(fastmath=FAST, error_model="numpy", nogil=True)
@no_type_check
def double_well(y, out, height, root):
    """Slope of a quartic double well, `height y (y^2 - root)`; all of one type, in which it computes."""
    for i in range(len(y)):
        out[i] = height * y[i] * (y[i] * y[i] - root)


@compiled(fastmath=FAST, error_model="numpy", nogil=True)
@no_type_check
def double_well_energy(y, modes, root, slopes, sums):
    """What the energy of a quartic double well is made of.

    Args:
        y: Fields (n, rows, columns).
        modes: Their modes (n, rows, columns).
        root: Square of the wells' `y`.
        slopes: What to multiply squared modes by, so that they sum up to the squared gradient (rows, columns).
        sums: Receives the sums of `(y^2 - root)^2` and of the squared gradient (n, 2), float64.
    """
    for lane in range(len(y)):
        well = slope = 0.0
        for row in range(y.shape[1]):
            values, own = y[lane, row], root - root
            for x in range(len(values)):
                depth = values[x] * values[x] - root
                own += depth * depth
            well += own
        for row in range(modes.shape[1]):
            values, own, factors = modes[lane, row], root - root, slopes[row]
            for m in range(len(values)):
                own += factors[m] * values[m] * values[m]
            slope += own
        sums[lane, 0], sums[lane, 1] = well, slope
