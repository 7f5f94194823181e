"""Compiled step of `SpectralState`: one pass over the modes, which are held as real numbers and fill the processor's vectors."""

from typing import no_type_check

from microevo.processes.kernels.compiler import FAST, compiled


@compiled(fastmath=FAST, error_model="numpy", nogil=True)
@no_type_check
def bdf2(moving, numbers, modes, change, linear, explicit, decay_time, weights, terms, terms_before, sums):
    """One step of `SpectralBDF2`, in place; trajectories that do not move stay as they are.

    All arrays but `moving` and `sums` have one type, in which it computes.

    Args:
        moving: Which trajectories take the step (n).
        numbers: Size, its ratio to that of the step before, and `A` (n, 3).
        modes: The field's modes `u` (n, C, rows, columns), replaced by those after the step.
        change: What the step before has added to them, likewise replaced.
        linear: `L` of each mode (n or 1, C or 1, rows, columns).
        explicit: `P`, likewise.
        decay_time: How long errors matter (n or 1).
        weights: Of the squares in each column; in the first row, and in the others (2, columns).
        terms: Modes `G` of the nonlinear terms, shaped as `modes`.
        terms_before: Those of the step before.
        sums: Receives the squares of the second difference, and, with the weights `1 / (1 + L decay_time)`, those of the
            second difference and of the field about its mean (n, 3), float64.
    """
    n, channels, rows, columns = modes.shape
    for trajectory in range(n):
        if not moving[trajectory]:
            continue
        dt, r, shift = numbers[trajectory]
        one = dt / dt  # of the arrays' type, as a literal is not
        a, b, e = (one + r + r) / (one + r), r * r / (one + r), one + r
        fading = decay_time[min(trajectory, len(decay_time) - 1)]
        second = slow_second = slow_norm = 0.0
        for channel in range(channels):
            own_linear = linear[min(trajectory, linear.shape[0] - 1), min(channel, linear.shape[1] - 1)]
            own_explicit = explicit[min(trajectory, explicit.shape[0] - 1), min(channel, explicit.shape[1] - 1)]
            for y in range(rows):
                # Views of one row: with them the compiler sees that they are contiguous.
                u, d = modes[trajectory, channel, y], change[trajectory, channel, y]
                g, h = terms[trajectory, channel, y], terms_before[trajectory, channel, y]
                row_linear, row_explicit, w = own_linear[y], own_explicit[y], weights[min(y, 1)]
                row_second = row_slow_second = row_slow_norm = dt - dt
                for m in range(columns):
                    p, q = dt * row_explicit[m], dt * row_linear[m]
                    s = shift * p
                    implicit = a - s + q
                    forgets = one + fading * row_linear[m]
                    inverse = one / (implicit * forgets)  # one division for two
                    new = ((b - r * s) * d[m] - q * u[m] + p * (e * g[m] - r * h[m])) * (inverse * forgets)
                    after = u[m] + new
                    square = new - r * d[m]
                    square = w[m] * square * square
                    fade = inverse * implicit
                    row_second += square
                    row_slow_second += square * fade * fade
                    row_slow_norm += w[m] * (after * fade) * (after * fade)
                    d[m] = new
                    u[m] = after
                second += row_second
                slow_second += row_slow_second
                slow_norm += row_slow_norm
        sums[trajectory, 0], sums[trajectory, 1], sums[trajectory, 2] = second, slow_second, slow_norm
