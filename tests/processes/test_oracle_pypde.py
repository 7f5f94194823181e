"""py-pde (Zwicker, J. Open Source Softw. 5 (2020) 2158) solves the same equation with other operators and another integrator."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from microevo.processes import Grid, SpinodalDecomposition

BOX, END = 16.0, 12.0
COARSE, FINE = 16, 24  # cells; 2.2 and 3.4 per interface parameter delta


def start(cells: int) -> NDArray[np.float64]:
    """Four waves at the cell centres, a sixth of the height that they reach."""
    x = 2 * math.pi * (np.arange(cells) + 0.5) / cells
    y, x = np.meshgrid(x, x, indexing="ij")
    return 0.03 * (np.cos(x + 0.3) + 0.7 * np.cos(y - x) + 0.5 * np.cos(2 * y + x + 1) + 0.4 * np.sin(y))


def ours(cells: int) -> NDArray[np.float64]:
    """`c - 1/2` at the end, by Fourier modes: at this resolution the grid errs by less than 1e-6."""
    law = SpinodalDecomposition(
        grid=Grid(shape=(cells, cells), spacing=BOX / cells),
        mobility=5.0,
        kappa=2.0,
        rho=5.0,
        c_alpha=0.3,
        c_beta=0.7,
        precision="float64",
        tolerance=1e-5,
    )
    stepper = law.stepper()
    stepper.start(0.5 + torch.from_numpy(start(cells))[None, None])
    stepper.advance(END)
    return stepper.u[0, 0].numpy() - 0.5


def theirs(cells: int) -> NDArray[np.float64]:
    """The same by second-order differences in time by SciPy's stiff solver."""
    pde = pytest.importorskip("pde", reason="the oracle py-pde is not installed; pip install -e '.[test]'")
    grid = pde.CartesianGrid([[0, BOX], [0, BOX]], [cells, cells], periodic=True)
    # f = 5 (c + 0.2)^2 (0.2 - c)^2, with the middle between the phases at 0.
    equation = pde.PDE(
        {"c": "5 * laplace(10 * (c + 0.2) * (0.2 - c)**2 - 10 * (c + 0.2)**2 * (0.2 - c) - 2 * laplace(c))"}
    )
    state = pde.ScalarField(grid, start(cells))
    settings = {"solver": "scipy", "method": "BDF", "rtol": 1e-6, "atol": 1e-8}
    return equation.solve(state, t_range=END, tracker=None, backend="scipy", **settings).data


def waves(field: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Amplitudes of the 9 x 9 longest waves, which do not depend on where a grid has its cells."""
    cells = len(field)
    numbers = np.r_[0:5, -4:0]
    phase = np.exp(
        -1j * math.pi * (numbers[:, None] + numbers) / cells
    )  # the first cell's centre is half a cell from 0
    return np.fft.fft2(field)[np.ix_(numbers, numbers)] / cells**2 * phase


def difference(a: NDArray, b: NDArray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.slow  # an independent solver in small steps
def test_an_independent_solver_converges_to_the_same_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.DISABLE_JIT", True)  # py-pde would compile for longer than it then computes
    coarse, fine = theirs(COARSE), theirs(FINE)
    solution = ours(COARSE), ours(FINE)
    assert np.abs(solution[0]).max() > 0.17  # the phases have formed: the well is felt, not only its slope
    assert difference(waves(solution[0]), waves(solution[1])) < 1e-5

    errors = difference(coarse, solution[0]), difference(fine, solution[1])
    order = math.log(errors[0] / errors[1]) / math.log(FINE / COARSE)
    assert 1.9 < order < 2.1, errors  # all that is left is the second order of their differences

    ratio = (FINE / COARSE) ** 2
    without_it = (ratio * waves(fine) - waves(coarse)) / (ratio - 1)
    assert difference(without_it, waves(solution[1])) < 5e-4
