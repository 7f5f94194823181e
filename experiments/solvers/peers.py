"""Other solvers of the same case, each as its own documentation would have it used."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from solver import Solver


class SemiImplicitEuler(Solver):
    """The textbook scheme: gradient term implicit, the rest explicit, constant steps, first order (Chen & Shen 1998)."""

    name = "semi-implicit Euler"

    def prepare(self) -> None:
        """Coefficients; warm up on a step."""
        case = self.case
        dtype = {"float32": torch.float32, "float64": torch.float64}[self.precision]
        k = case.minus_laplacian("Fourier")
        denominator = 1 + self.setting * case.mobility * case.kappa * k**2
        self.keep = (1 / denominator).to(dtype)
        self.push = (-self.setting * case.mobility * k / denominator).to(dtype)
        self.initial = torch.from_numpy(case.start(self.batch)).to(dtype)
        self.saved = torch.zeros(case.frames, *self.initial.shape)
        self._solve(1, 1)

    def run(self) -> None:
        """All frames."""
        self._solve(self.case.frames, round(1 / self.setting))

    def _solve(self, frames: int, steps: int) -> None:
        y, shape = self.initial, self.initial.shape[1:]
        modes = torch.fft.rfft2(y)
        for frame in range(frames):
            for _ in range(steps):
                force = torch.fft.rfft2(y * (y.square().mul_(self.case.cubic).add_(self.case.linear)))
                modes = modes.mul_(self.keep).addcmul_(self.push, force)
                y = torch.fft.irfft2(modes, s=shape)
            self.saved[frame] = y
        self.steps = float(frames * steps)

    def frames(self) -> NDArray[np.floating]:
        """`y` of trajectory 0."""
        return self.saved[:, 0].double().numpy()


class PyPDE(Solver):
    """py-pde (Zwicker, J. Open Source Softw. 5 (2020) 2158): second-order differences, adaptive Euler, numba.

    Its Runge-Kutta scheme takes six times as long here: stability, not accuracy, limits the steps.
    """

    name = "py-pde"
    needs = "py-pde"
    space = "5-point"
    set_by = "tol"

    def prepare(self) -> None:
        """Compile, and advance by a hundredth of a unit of time."""
        import pde

        case = self.case
        grid = pde.CartesianGrid([[0, case.cells]] * 2, [case.cells] * 2, periodic=True)
        self.initial = pde.ScalarField(grid, case.start()[0])
        equation = pde.PDE(
            {"c": f"{case.mobility} * laplace({case.cubic} * c**3 + {case.linear} * c - {case.kappa} * laplace(c))"}
        )
        self.solver = pde.solvers.EulerSolver(equation, backend="numba", adaptive=True, tolerance=self.setting)
        self.advance = self.solver.make_stepper(self.initial, FIRST_STEP)
        self.saved = np.zeros((case.frames, case.cells, case.cells))
        self.advance(self.initial.copy(), 0.0, 0.01)

    def run(self) -> None:
        """All frames."""
        self.solver.info |= {"dt": FIRST_STEP, "steps": 0}
        state, time = self.initial.copy(), 0.0
        for frame in range(self.case.frames):
            time = self.advance(state, time, frame + 1.0)
            self.saved[frame] = state.data
        self.steps = float(self.solver.info["steps"])

    def frames(self) -> NDArray[np.floating]:
        """`y`."""
        return self.saved


class Exponax(Solver):
    """exponax (Koehler et al., arXiv 2411.00180): Fourier, exponential Runge-Kutta of second order, constant steps, XLA.

    Without dealiasing, as ours, so that both have the same space discretisation.
    """

    name = "exponax"
    needs = "exponax"

    def prepare(self) -> None:
        """Compile the whole trajectory."""
        import exponax
        import jax

        case, double = self.case, self.precision == "float64"
        with jax.enable_x64(double):
            stepper = exponax.stepper.reaction.CahnHilliard(
                2,
                float(case.cells),
                case.cells,
                self.setting,
                diffusivity=case.mobility,
                gamma=case.kappa,
                first_order_coefficient=case.linear,
                third_order_coefficient=case.cubic,
                dealiasing_fraction=1.0,
                order=2,
            )
            trajectory = exponax.rollout(exponax.repeat(stepper, round(1 / self.setting)), case.frames)
            self.initial = jax.numpy.asarray(case.start(self.batch)[:, None], dtype=self.precision)
            self.compiled = jax.jit(jax.vmap(trajectory)).lower(self.initial).compile()
        self.steps = float(case.frames * round(1 / self.setting))
        self.saved: Any = None

    def run(self) -> None:
        """All frames."""
        self.saved = self.compiled(self.initial).block_until_ready()

    def frames(self) -> NDArray[np.floating]:
        """`y` of trajectory 0."""
        return np.asarray(self.saved[0, :, 0], dtype=np.float64)


class FiPy(Solver):
    """FiPy (Guyer, Wheeler & Warren, Comput. Sci. Eng. 11 (2009) 6): finite volumes, implicit Euler, two sweeps, direct solver.

    `c` and the chemical potential are solved together, the well linearised about the last sweep.
    """

    name = "FiPy"
    needs = "fipy"
    space = "5-point"

    def prepare(self) -> None:
        """Import and assemble; there is nothing to compile."""
        import fipy
        from fipy.solvers.scipy import LinearLUSolver

        case = self.case
        mesh = fipy.PeriodicGrid2D(nx=case.cells, ny=case.cells, dx=1.0, dy=1.0)
        self.y = fipy.CellVariable(mesh=mesh, hasOld=True)
        self.potential = fipy.CellVariable(mesh=mesh, hasOld=True)
        slope = 3 * case.cubic * self.y**2 + case.linear
        force = case.cubic * self.y**3 + case.linear * self.y
        motion = fipy.TransientTerm(var=self.y) == fipy.DiffusionTerm(coeff=case.mobility, var=self.potential)
        balance = fipy.ImplicitSourceTerm(coeff=1.0, var=self.potential) == fipy.ImplicitSourceTerm(
            coeff=slope, var=self.y
        ) + (force - slope * self.y) - fipy.DiffusionTerm(coeff=case.kappa, var=self.y)
        self.equation = motion & balance
        self.solver = LinearLUSolver(tolerance=1e-8, iterations=10)
        self.saved = np.zeros((int(self.until), case.cells, case.cells))

    def run(self) -> None:
        """The frames until `until`, the last one perhaps in part."""
        self.y.setValue(self.case.start()[0].ravel())
        self.potential.setValue(0.0)
        per_frame, steps = round(1 / self.setting), round(self.until / self.setting)
        for step in range(1, steps + 1):
            self.y.updateOld()
            self.potential.updateOld()
            for _ in range(2):
                self.equation.sweep(dt=self.setting, solver=self.solver)
            if step % per_frame == 0:
                self.saved[step // per_frame - 1] = self.y.value.reshape(self.saved.shape[1:])
        self.steps = float(steps)

    def frames(self) -> NDArray[np.floating]:
        """`y`."""
        return self.saved


FIRST_STEP = 1e-3  # of py-pde, which adapts it
