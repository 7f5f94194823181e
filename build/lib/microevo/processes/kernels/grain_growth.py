"""Compiled loops over the cells of a grid: the Euler step, and what keeps shared order parameters apart.

The order parameters of a cell lie side by side, (H, W, Q), so that one cell is one or a few vector registers and one
pass over memory makes a step. The grid is periodic, or with `walls` that reflect it: the cell beyond the border then is
the border cell itself.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import no_type_check

import numpy as np

from microevo.processes.kernels.compiler import FAST, compiled

SMALLEST = 1e-12  # below, an order parameter is set to 0: its cubes would become subnormal numbers, which are slow


@lru_cache
def euler_kernel(fields: int, walls: bool = False) -> Callable[..., None]:
    """Explicit Euler steps of the Fan-Chen equations for a fixed number of fields, which the compiler unrolls.

    The returned `euler(eta, out, c0, c1, c2, c3, smallest, steps)` computes, for each field e of a cell, with
    `S = sum e^2` and the sum over its four neighbours,

        e (c0 - c2 S + c1 e^2) + c3 sum_neighbours e

    alternating between the two arrays: the result is in `out` after an odd number of steps. The coefficients must have
    the type of the arrays, or everything is computed in double precision.
    """

    @compiled(fastmath=FAST, error_model="numpy")
    @no_type_check
    def euler(eta, out, c0, c1, c2, c3, smallest, steps):
        rows, columns, _ = eta.shape
        before_row, after_row = (0, rows - 1) if walls else (rows - 1, 0)
        before_column, after_column = (0, columns - 1) if walls else (columns - 1, 0)
        zero = smallest - smallest
        for _ in range(steps):
            for y in range(rows):
                row, new = eta[y], out[y]
                up = eta[y - 1 if y > 0 else before_row]
                down = eta[y + 1 if y < rows - 1 else after_row]
                for x in range(columns):
                    # Views of one cell: with them the compiler sees short loops of a known length and vectorises them.
                    c, n, s, o = row[x], up[x], down[x], new[x]
                    w = row[x - 1 if x > 0 else before_column]
                    e = row[x + 1 if x < columns - 1 else after_column]
                    total = zero
                    for q in range(fields):
                        total += c[q] * c[q]
                    factor = c0 - c2 * total
                    for q in range(fields):
                        value = c[q]
                        value = value * (factor + c1 * value * value) + c3 * ((w[q] + e[q]) + (n[q] + s[q]))
                        o[q] = zero if value < smallest else value
            eta, out = out, eta

    return euler


def disc(reach: float) -> np.ndarray:
    """Offsets `(dy, dx, dy^2 + dx^2)` of the cells within `reach`, nearest first and without the centre."""
    r = int(reach)
    dy, dx = np.mgrid[-r : r + 1, -r : r + 1]
    offsets = np.stack([dy.ravel(), dx.ravel(), (dy**2 + dx**2).ravel()], axis=1)
    offsets = offsets[(offsets[:, 2] > 0) & (offsets[:, 2] <= reach**2)]
    return offsets[np.lexsort((offsets[:, 1], offsets[:, 0], offsets[:, 2]))].astype(np.int32)


@compiled()
@no_type_check
def _place(cells, reach, walls):
    """Index `i + reach` holds the cell that is met at `i`: `i` modulo `cells`, or its reflection.

    A reflected cell is farther away than the cell itself: walls bring no two grains nearer to each other.
    """
    place = np.empty(cells + 2 * reach, np.int64)
    for i in range(len(place)):
        if walls:
            j = (i - reach) % (2 * cells)
            place[i] = min(j, 2 * cells - 1 - j)
        else:
            place[i] = (i - reach) % cells
    return place


@compiled()
@no_type_check
def _on_edge(ids, y, x, walls):
    rows, columns = ids.shape
    before_row, after_row = (0, rows - 1) if walls else (rows - 1, 0)
    before_column, after_column = (0, columns - 1) if walls else (columns - 1, 0)
    own = ids[y, x]
    return (
        ids[y - 1 if y > 0 else before_row, x] != own
        or ids[y + 1 if y < rows - 1 else after_row, x] != own
        or ids[y, x - 1 if x > 0 else before_column] != own
        or ids[y, x + 1 if x < columns - 1 else after_column] != own
    )


@compiled()
@no_type_check
def near(ids, group, offsets, walls=False):
    """Squared distances between grains of one group, inf beyond the disc; (grains, grains), symmetric [cells^2]."""
    rows, columns = ids.shape
    reach = offsets[:, 0].max()
    place_y, place_x = _place(rows, reach, walls), _place(columns, reach, walls)
    distances = np.full((len(group), len(group)), np.inf, np.float32)
    for y in range(rows):
        for x in range(columns):
            if not _on_edge(ids, y, x, walls):  # the closest cells of two grains are on their edges
                continue
            own = ids[y, x]
            for k in range(len(offsets)):
                dy, dx, squared = offsets[k, 0], offsets[k, 1], offsets[k, 2]
                if dy < 0 or (dy == 0 and dx < 0):
                    continue  # the other cell has seen this pair
                other = ids[place_y[y + dy + reach], place_x[x + dx + reach]]
                if other != own and group[other] == group[own] and squared < distances[own, other]:
                    distances[own, other] = squared
                    distances[other, own] = squared
    return distances


@compiled()
@no_type_check
def track(eta, ids, field_of, offsets, squares, walls=False):
    """Give each cell the grain of its largest field; returns whether all fields are finite.

    A cell whose largest field changed takes, round by round, the number of a neighbour of that field, and if it stays
    cut off, that of the nearest cell within the disc that was of that field before.

    Args:
        eta: Order parameters (H, W, Q).
        ids: Grain numbers (H, W), updated in place.
        field_of: Field of each grain.
        offsets: The disc.
        squares: Receives `sum eta^2` (H, W).
        walls: Whether the border reflects.
    """
    rows, columns, fields = eta.shape
    largest = np.empty(ids.shape, np.int32)
    before = ids.copy()
    pending = np.empty((ids.size, 2), np.int32)
    left = 0
    finite = True
    for y in range(rows):
        for x in range(columns):
            c = eta[y, x]
            best = 0
            total = c[0] * c[0]
            for q in range(1, fields):
                total += c[q] * c[q]
                if c[q] > c[best]:
                    best = q
            squares[y, x] = total
            finite = finite and np.isfinite(total)
            largest[y, x] = best
            if field_of[ids[y, x]] != best:
                pending[left, 0], pending[left, 1] = y, x
                ids[y, x] = -1
                left += 1
    reach = offsets[:, 0].max()
    place_y, place_x = _place(rows, reach, walls), _place(columns, reach, walls)
    found = np.empty(left, np.int32)
    progress = True
    while progress:
        for i in range(left):
            y, x = pending[i, 0], pending[i, 1]
            found[i] = -1
            for k in range(8):  # the eight neighbours, those that share an edge first
                yy, xx = place_y[y + offsets[k, 0] + reach], place_x[x + offsets[k, 1] + reach]
                if found[i] < 0 and ids[yy, xx] >= 0 and largest[yy, xx] == largest[y, x]:
                    found[i] = ids[yy, xx]
        rest = 0
        for i in range(left):
            y, x = pending[i, 0], pending[i, 1]
            ids[y, x] = found[i]
            if found[i] < 0:
                pending[rest, 0], pending[rest, 1] = y, x
                rest += 1
        progress = rest < left
        left = rest
    for i in range(left):
        y, x = pending[i, 0], pending[i, 1]
        ids[y, x] = before[y, x]
        for k in range(len(offsets)):
            number = before[place_y[y + offsets[k, 0] + reach], place_x[x + offsets[k, 1] + reach]]
            if field_of[number] == largest[y, x]:
                ids[y, x] = number
                break
    return finite


@compiled()
@no_type_check
def move(eta, ids, field_of, grain, target, offsets, walls=False):
    """Move a grain and its halo to field `target`, cut halfway to the other grains of its field."""
    rows, columns = ids.shape
    source = field_of[grain]
    reach = offsets[:, 0].max()
    place_y, place_x = _place(rows, reach, walls), _place(columns, reach, walls)
    halo = np.zeros(ids.shape, np.bool_)
    for y in range(rows):
        for x in range(columns):
            if ids[y, x] != grain:
                continue
            halo[y, x] = True
            if _on_edge(ids, y, x, walls):
                for k in range(len(offsets)):
                    halo[place_y[y + offsets[k, 0] + reach], place_x[x + offsets[k, 1] + reach]] = True
    for y in range(rows):
        for x in range(columns):
            if not halo[y, x]:
                continue
            nearest = ids[y, x]
            k = 0
            while field_of[nearest] != source and k < len(offsets):
                nearest = ids[place_y[y + offsets[k, 0] + reach], place_x[x + offsets[k, 1] + reach]]
                k += 1
            if nearest == grain:
                eta[y, x, target] += eta[y, x, source]
                eta[y, x, source] = 0
    field_of[grain] = target
