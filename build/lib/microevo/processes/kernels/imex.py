"""Compiled step of `SpectralState`: one pass over the modes, which are held as real numbers and fill the processor's vectors."""

from typing import no_type_check

from microevo.processes.kernels.compiler import FAST, compiled


@compiled(fastmath=FAST, error_model="numpy", nogil=True)
@no_type_check
def bdf2(moving, numbers, modes, change, linear, explicit, memory, weights, terms, terms_before, sums):
    """One step of `SpectralBDF2`, in place; trajectories that do not move stay as they are.

    All arrays but `moving` and `sums` have one type, in which it computes.

    Args:
        moving: Which trajectories take the step (n).
        numbers: Size, its ratio to that of the step before, and `A` (n, 3).
        modes: The field's modes `u` (n, C, rows, columns), replaced by those after the step.
        change: What the step before has added to them, likewise replaced.
        linear: `L` of each mode (n or 1, C or 1, rows, columns).
        explicit: `P`, likewise.
        memory: How long errors matter (n or 1).
        weights: Of the squares in each column; in the first row, and in the others (2, columns).
        terms: Modes `G` of the nonlinear terms, shaped as `modes`.
        terms_before: Those of the step before.
        sums: Receives the squares of the second difference, and, with the weights `1 / (1 + L memory)`, those of the second
            difference and of the field about its mean (n, 3), float64.
    """
    n, channels, rows, columns = modes.shape
    for lane in range(n):
        if not moving[lane]:
            continue
        dt, r, shift = numbers[lane]
        one = dt / dt  # of the arrays' type, as a literal is not
        a, b, e = (one + r + r) / (one + r), r * r / (one + r), one + r
        fading = memory[min(lane, len(memory) - 1)]
        bend = slow_bend = slow_norm = 0.0
        for channel in range(channels):
            own_linear = linear[min(lane, linear.shape[0] - 1), min(channel, linear.shape[1] - 1)]
            own_explicit = explicit[min(lane, explicit.shape[0] - 1), min(channel, explicit.shape[1] - 1)]
            for y in range(rows):
                # Views of one row: with them the compiler sees that they are contiguous.
                u, d = modes[lane, channel, y], change[lane, channel, y]
                g, h = terms[lane, channel, y], terms_before[lane, channel, y]
                row_linear, row_explicit, w = own_linear[y], own_explicit[y], weights[min(y, 1)]
                row_bend = row_slow_bend = row_slow_norm = dt - dt
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
                    row_bend += square
                    row_slow_bend += square * fade * fade
                    row_slow_norm += w[m] * (after * fade) * (after * fade)
                    d[m] = new
                    u[m] = after
                bend += row_bend
                slow_bend += row_slow_bend
                slow_norm += row_slow_norm
        sums[lane, 0], sums[lane, 1], sums[lane, 2] = bend, slow_bend, slow_norm
