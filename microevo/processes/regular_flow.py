"""Finite volumes of the regular solution: chemical potential, and the divergence of the flux down its gradient."""

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import Grid
from microevo.processes.parameters import Parameters

GHOSTS = 3  # cells on every side: two for the Laplacian of 4th order, one for the flux
DILUTE = 1e-5  # of the logarithm and the mobility, which see nothing more dilute


class RegularFlow:
    """The right-hand side, in buffers of its own; compiled on a CPU.

        div( D a(1-a) grad mu ),    mu = ln(c/(1-c)) + Omega (1-2c) - kappa lap c

    The field is laid out with ghost cells on every side as one long row per trajectory, in which the neighbour along an
    axis is a shift by its stride: every operation then runs over contiguous memory, and what it leaves in the ghost cells
    is never used. The logarithm is kept although `c(1-c) grad ln(c/(1-c)) = grad c`: without it a uniform mu is not an
    equilibrium of the grid.

    Args:
        grid: Where the fields live.
        p: Parameters, of which are used `omega` [kT], `kappa` [kT px^2] and `diffusivity` [px^2/fr].
    """

    def __init__(self, grid: Grid, p: Parameters) -> None:
        self.grid = grid
        self.omega, self.kappa, self.diffusivity = (p.flat(name)[:, None] for name in ("omega", "kappa", "diffusivity"))
        self.padded = tuple(cells + 2 * GHOSTS for cells in grid.shape)
        self.strides = tuple(math.prod(self.padded[axis + 1 :]) for axis in range(len(self.padded)))
        self.cells = (slice(None), None, *(slice(GHOSTS, -GHOSTS) for _ in self.padded))
        self.buffers = torch.empty(5, 0, 0)

    def potential(self, c: Float[Tensor, "n 1 *cells"]) -> Float[Tensor, "n 1 *cells"]:
        """`mu` of each cell."""
        self._fill(c)
        return self.mu.view(-1, *self.padded)[self.cells] + self.omega.to(c).reshape(-1, *(1,) * (c.ndim - 1))

    def rate(self, c: Float[Tensor, "n 1 *cells"], out: Float[Tensor, "n 1 *cells"]) -> None:
        """Write the divergence of the flux to `out`; on a face `a` is the mean of its two cells."""
        if c.is_cpu:
            self._rate_compiled(c, out)
        else:
            self.rate_on_tensors(c, out)

    def rate_on_tensors(self, c: Float[Tensor, "n 1 *cells"], out: Float[Tensor, "n 1 *cells"]) -> None:
        """The same on any device."""
        self._fill(c)
        a = self.c.clamp_(DILUTE, 1 - DILUTE).sub_(0.5)
        begin, end = 2 * self.strides[0], a.shape[1] - 2 * self.strides[0]
        for axis, stride in enumerate(self.strides):
            left, right = slice(begin, end - stride), slice(begin + stride, end)
            # 4 a(1-a) = 1 - (sum of the cells' c - 1/2)^2
            mobility = torch.add(a[:, left], a[:, right], out=self.one[:, left]).square_()
            step = torch.sub(self.mu[:, right], self.mu[:, left], out=self.two[:, left])
            torch.addcmul(step, step, mobility, value=-1, out=self.one[:, left])
            inflow, outflow = self.one[:, begin + stride : end - stride], self.one[:, begin : end - 2 * stride]
            divergence = self.sum[:, begin + stride : end - stride]
            if axis == 0:
                torch.sub(inflow, outflow, out=divergence)
            else:
                divergence.add_(inflow).sub_(outflow)
        of_flux = self.of_flux.reshape(-1, *(1,) * (c.ndim - 1))
        torch.mul(self.sum.view(-1, *self.padded)[self.cells], of_flux, out=out)

    # --------------------------------------------------------------- internals

    def _rate_compiled(self, c: Tensor, out: Tensor) -> None:
        from microevo.processes.kernels import regular_solution as kernel  # numba takes its time to import

        self._allocate(c)
        last = self.grid.shape[-1]
        rows = (len(c), -1, last)
        kernel.spread(c.view(rows).numpy(), self.rows, self.columns, self.c.view(len(c), -1, last + 2 * GHOSTS).numpy())
        torch.logit(self.c, DILUTE, out=self.mu)
        c_and_mu = self.c.numpy(), self.mu.numpy()
        kernel.diverge(*c_and_mu, self.inside, self.strides, *self.factors, out.view(rows).numpy())

    def _fill(self, c: Tensor) -> None:
        """`c` with its ghosts, and `mu` less Omega where it has two neighbours on every side."""
        self._allocate(c)
        torch.gather(c.flatten(1), 1, self.source, out=self.c)
        begin, end = 2 * self.strides[0], self.c.shape[1] - 2 * self.strides[0]
        inside = slice(begin, end)
        near, far, pair, mu = self.sum[:, inside], self.one[:, inside], self.two[:, inside], self.mu[:, inside]
        near.zero_()
        far.zero_()
        for stride in self.strides:
            for total, apart in ((near, stride), (far, 2 * stride)):
                before, after = slice(begin - apart, end - apart), slice(begin + apart, end + apart)
                total.add_(torch.add(self.c[:, before], self.c[:, after], out=pair))
        # Of the whole buffer, since the logarithm of memory with gaps is another one in the last bit.
        torch.logit(self.c, DILUTE, out=self.mu)
        mu.addcmul_(self.of_c, self.c[:, inside]).addcmul_(self.of_far, far.add_(near, alpha=-16))

    def _allocate(self, c: Tensor) -> None:
        if self.buffers.shape[1] == len(c) and self.buffers.dtype == c.dtype and self.buffers.device == c.device:
            return
        cells = (len(c), math.prod(self.padded))
        self.buffers = torch.zeros((5, *cells), dtype=c.dtype, device=c.device)
        self.c, self.mu, self.sum, self.one, self.two = self.buffers
        self.source = self.grid.ghosts(GHOSTS).to(c.device).expand(cells)
        # -kappa lap c = kappa/(12 h^2) (30 d c - 16 nearest + next), in d dimensions.
        of_far = self.kappa / (12 * self.grid.spacing**2)
        self.of_far = of_far.to(c)
        self.of_c = (30 * len(self.padded) * of_far - 2 * self.omega).to(c)
        self.of_flux = (self.diffusivity / (4 * self.grid.spacing**2)).to(c)
        if c.is_cpu:
            factors = tuple(values[:, 0].numpy() for values in (self.of_c, self.of_far, self.of_flux))
            self.factors = (*factors, factors[0].dtype.type(DILUTE))
            *others, last = self.grid.shape
            row = np.arange(math.prod(self.padded)).reshape(self.padded)
            self.inside = row[tuple(slice(GHOSTS, GHOSTS + cells) for cells in others)][..., GHOSTS].ravel()
            columns = replace(self.grid, shape=(last,), coarsen=1).ghosts(GHOSTS).numpy()
            self.columns = np.concatenate([columns[:GHOSTS], columns[-GHOSTS:]])
            self.rows = np.zeros(1, dtype=np.int64)
            if others:
                self.rows = replace(self.grid, shape=tuple(others), coarsen=1).ghosts(GHOSTS).numpy()
