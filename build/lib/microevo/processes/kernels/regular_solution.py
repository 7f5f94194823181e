"""Compiled loops of the regular solution's flux.

Fields have ghost cells on every side and lie in memory as one row per trajectory, in which the neighbour along an axis is a
stride away, in any number of dimensions.
"""

from typing import no_type_check

from microevo.processes.kernels.compiler import FAST, compiled


@compiled(nogil=True)
@no_type_check
def spread(field, rows, columns, padded):
    """Copy fields and give them ghost cells.

    Args:
        field: Without ghosts, the last axis in rows (n, rows, cells).
        rows: Which row of `field` each row of `padded` copies.
        columns: Which cell of its row each cell beside it copies, those before it first.
        padded: Receives the field and its ghosts.
    """
    width, cells = len(columns) // 2, field.shape[2]
    for lane in range(len(field)):
        for y in range(len(rows)):
            source, own = field[lane, rows[y]], padded[lane, y]
            for x in range(cells):
                own[width + x] = source[x]
            for ghost in range(width):
                own[ghost] = source[columns[ghost]]
                own[width + cells + ghost] = source[columns[width + ghost]]


@compiled(fastmath=FAST, error_model="numpy", nogil=True)
@no_type_check
def diverge(c, mu, inside, strides, of_c, of_far, of_flux, dilute, out):
    """The divergence of the flux.

    Args:
        c: Composition with three ghosts on every side (n, padded cells).
        mu: `ln(c / (1 - c))`; replaced by the chemical potential, less a constant.
        inside: Where in `c` each row of cells begins.
        strides: Distance of neighbours along each axis.
        of_c: Factor of a cell's own `c` in `mu` (n or 1).
        of_far: Factor of the second neighbours' `c`, of which that of the first ones is -16 times (n or 1).
        of_flux: A quarter of the diffusivity over the squared size of a cell (n or 1).
        dilute: The smallest composition and distance from 1 that the mobility sees.
        out: Receives the divergence (n, rows, cells).
    """
    one = dilute / dilute  # of the arrays' type, as literals are not
    most = one - dilute
    reach = 2 * strides[0]
    count = c.shape[1] - 2 * reach
    for lane in range(len(c)):
        u, m = c[lane], mu[lane]
        own, far = of_c[min(lane, len(of_c) - 1)], of_far[min(lane, len(of_far) - 1)]
        near, flux = -16 * far, of_flux[min(lane, len(of_flux) - 1)]
        middle, centre = m[reach : reach + count], u[reach : reach + count]
        for axis in range(len(strides)):
            s = strides[axis]
            # Views: with them the compiler sees that no index is negative.
            u1, u2 = u[reach - s : reach - s + count], u[reach + s : reach + s + count]
            u3, u4 = u[reach - 2 * s : reach - 2 * s + count], u[reach + 2 * s : reach + 2 * s + count]
            for i in range(count):
                middle[i] += own * centre[i] + near * (u1[i] + u2[i]) + far * (u3[i] + u4[i])
            own = own - own
        cells = out.shape[2]
        for row in range(len(inside)):
            at, target = inside[row], out[lane, row]
            u0, m0 = u[at : at + cells], m[at : at + cells]
            for axis in range(len(strides)):
                s = strides[axis]
                u1, u2 = u[at - s : at - s + cells], u[at + s : at + s + cells]
                m1, m2 = m[at - s : at - s + cells], m[at + s : at + s + cells]
                for x in range(cells):
                    here = min(max(u0[x], dilute), most) - one
                    # 4 a (1 - a) = 1 - (sum of the two cells' c - 1/2)^2
                    left = here + min(max(u1[x], dilute), most)
                    right = here + min(max(u2[x], dilute), most)
                    inflow = (one - right * right) * (m2[x] - m0[x]) - (one - left * left) * (m0[x] - m1[x])
                    target[x] = flux * inflow if axis == 0 else target[x] + flux * inflow
