"""Compiled loops over the cells of a periodic grid: the Euler step, and what keeps shared order parameters apart.

The order parameters of a cell lie side by side, (H, W, Q), so that one cell is one or a few vector registers and one
pass over memory makes a step. Nothing is cached on disk: a kernel compiles in about a second. All sums have a fixed
order, so that the same machine gives the same bytes. `no_type_check` keeps the shape checks of tests, which cannot be
compiled, away from the kernels.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import no_type_check

import numpy as np
from numba import njit

# Sums may be reordered once, when compiling, into vector lanes; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz"}

SMALLEST = 1e-12  # below, an order parameter is set to 0: its cubes would become subnormal numbers, which are slow


@lru_cache
def euler_kernel(fields: int) -> Callable[..., None]:
    """Explicit Euler steps of the Fan-Chen equations for a fixed number of fields, which the compiler unrolls.

    The returned `euler(eta, out, c0, c1, c2, c3, smallest, steps)` computes, for each field e of a cell, with
    `S = sum e^2` and the sum over its four neighbours,

        e (c0 - c2 S + c1 e^2) + c3 sum_neighbours e

    alternating between the two arrays: the result is in `out` after an odd number of steps. The coefficients must have
    the type of the arrays, or everything is computed in double precision.
    """

    @njit(fastmath=FAST, error_model="numpy")
    @no_type_check
    def euler(eta, out, c0, c1, c2, c3, smallest, steps):
        rows, columns, _ = eta.shape
        zero = smallest - smallest
        for _ in range(steps):
            for y in range(rows):
                row, new = eta[y], out[y]
                up = eta[y - 1 if y > 0 else rows - 1]
                down = eta[y + 1 if y < rows - 1 else 0]
                for x in range(columns):
                    # Views of one cell: with them the compiler sees short loops of a known length and vectorises them.
                    c, n, s, o = row[x], up[x], down[x], new[x]
                    w = row[x - 1 if x > 0 else columns - 1]
                    e = row[x + 1 if x < columns - 1 else 0]
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


@njit
@no_type_check
def _wrapped(cells, reach):
    """Index `i + reach` holds `i` modulo `cells`."""
    wrap = np.empty(cells + 2 * reach, np.int64)
    for i in range(len(wrap)):
        wrap[i] = (i - reach) % cells
    return wrap


@njit
@no_type_check
def _on_edge(ids, y, x):
    rows, columns = ids.shape
    own = ids[y, x]
    return (
        ids[y - 1 if y > 0 else rows - 1, x] != own
        or ids[y + 1 if y < rows - 1 else 0, x] != own
        or ids[y, x - 1 if x > 0 else columns - 1] != own
        or ids[y, x + 1 if x < columns - 1 else 0] != own
    )


@njit
@no_type_check
def near(ids, group, offsets):
    """Squared distances between grains of one group, inf beyond the disc; (grains, grains), symmetric [cells^2]."""
    rows, columns = ids.shape
    reach = offsets[:, 0].max()
    wrap_y, wrap_x = _wrapped(rows, reach), _wrapped(columns, reach)
    distances = np.full((len(group), len(group)), np.inf, np.float32)
    for y in range(rows):
        for x in range(columns):
            if not _on_edge(ids, y, x):  # the closest cells of two grains are on their edges
                continue
            own = ids[y, x]
            for k in range(len(offsets)):
                dy, dx, squared = offsets[k, 0], offsets[k, 1], offsets[k, 2]
                if dy < 0 or (dy == 0 and dx < 0):
                    continue  # the other cell has seen this pair
                other = ids[wrap_y[y + dy + reach], wrap_x[x + dx + reach]]
                if other != own and group[other] == group[own] and squared < distances[own, other]:
                    distances[own, other] = squared
                    distances[other, own] = squared
    return distances


@njit
@no_type_check
def track(eta, ids, field_of, offsets, squares):
    """Give each cell the grain of its largest field; returns whether all fields are finite.

    A cell whose largest field changed takes, round by round, the number of a neighbour of that field, and if it stays
    cut off, that of the nearest cell within the disc that was of that field before.

    Args:
        eta: Order parameters (H, W, Q).
        ids: Grain numbers (H, W), updated in place.
        field_of: Field of each grain.
        offsets: The disc.
        squares: Receives `sum eta^2` (H, W).
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
    wrap_y, wrap_x = _wrapped(rows, reach), _wrapped(columns, reach)
    found = np.empty(left, np.int32)
    progress = True
    while progress:
        for i in range(left):
            y, x = pending[i, 0], pending[i, 1]
            found[i] = -1
            for k in range(8):  # the eight neighbours, those that share an edge first
                yy, xx = wrap_y[y + offsets[k, 0] + reach], wrap_x[x + offsets[k, 1] + reach]
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
            number = before[wrap_y[y + offsets[k, 0] + reach], wrap_x[x + offsets[k, 1] + reach]]
            if field_of[number] == largest[y, x]:
                ids[y, x] = number
                break
    return finite


@njit
@no_type_check
def move(eta, ids, field_of, grain, target, offsets):
    """Move a grain and its halo to field `target`, cut halfway to the other grains of its field."""
    rows, columns = ids.shape
    source = field_of[grain]
    reach = offsets[:, 0].max()
    wrap_y, wrap_x = _wrapped(rows, reach), _wrapped(columns, reach)
    halo = np.zeros(ids.shape, np.bool_)
    for y in range(rows):
        for x in range(columns):
            if ids[y, x] != grain:
                continue
            halo[y, x] = True
            if _on_edge(ids, y, x):
                for k in range(len(offsets)):
                    halo[wrap_y[y + offsets[k, 0] + reach], wrap_x[x + offsets[k, 1] + reach]] = True
    for y in range(rows):
        for x in range(columns):
            if not halo[y, x]:
                continue
            nearest = ids[y, x]
            k = 0
            while field_of[nearest] != source and k < len(offsets):
                nearest = ids[wrap_y[y + offsets[k, 0] + reach], wrap_x[x + offsets[k, 1] + reach]]
                k += 1
            if nearest == grain:
                eta[y, x, target] += eta[y, x, source]
                eta[y, x, source] = 0
    field_of[grain] = target
