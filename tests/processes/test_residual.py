"""How far frames are from solving an equation: little for frames of the solver, and less at shorter intervals."""

from dataclasses import replace

import pytest
import torch
from starts import generators

from microevo.processes import GrainGrowth, Grid, PlaneWave, Process, SpinodalDecomposition, simulate
from microevo.processes.residual import EquationResidual

HERE = torch.tensor([0, 0])


def residual(process: Process, frames: torch.Tensor) -> float:
    """Root mean square residual, in units of the change between frames."""
    parts = EquationResidual(process, {})(frames, HERE), frames.diff(dim=1)
    return float(parts[0].square().mean().sqrt() / parts[1].square().mean().sqrt())


@pytest.mark.parametrize("boundary", ["periodic", "no-flux"])
def test_frames_of_the_solver_have_a_small_residual(boundary: str):
    process = SpinodalDecomposition(
        grid=Grid(shape=(16, 16), boundary=boundary),
        first_frame=20.0,
        frame_interval=1.0,
        precision="float64",
        tolerance=1e-4,
    )
    frames = simulate(process, generators(0, 1), 5).double()
    found = residual(process, frames)
    assert found < 1e-3
    # The trapezoidal rule is of second order: half the interval, a quarter of the residual for each change.
    finer = replace(process, frame_interval=0.5)
    halved = residual(finer, simulate(finer, generators(0, 1), 9).double())
    assert halved == pytest.approx(found / 4, rel=0.2)
    noise = 0.1 * frames.diff(dim=1).square().mean().sqrt() * torch.randn(frames.shape, generator=generators(2)[0])
    assert residual(process, frames + noise) > 50 * found
    assert residual(replace(process, mobility=1.2), frames) > 50 * found


class Relaxation(SpinodalDecomposition):
    """`du/dt = -u`, stated as a whole."""

    def rhs(self, u, p):
        return -u


def test_an_equation_in_one_piece_is_taken_as_it_is():
    process = Relaxation(grid=Grid(shape=(4, 4)), frame_interval=0.2)
    start = torch.rand(2, 1, 1, 4, 4, dtype=torch.float64)
    frames = torch.cat([start, start * (1 - 0.1) / (1 + 0.1)], dim=1)  # the trapezoidal rule itself
    found = EquationResidual(process, {})(frames, HERE)
    torch.testing.assert_close(found, torch.zeros_like(found))


def test_frames_that_do_not_determine_the_equation_are_refused():
    with pytest.raises(ValueError, match="frames of SpinodalDecomposition are not the fields of its equation"):
        EquationResidual(SpinodalDecomposition(grid=Grid(shape=(32, 32), spacing=0.5, coarsen=2)), {})
    for process in (GrainGrowth(), PlaneWave()):
        with pytest.raises(ValueError, match="does not state its equation in the methods"):
            EquationResidual(process, {})
