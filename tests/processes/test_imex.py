import numpy as np
import pytest
import torch
from torch import Tensor

import microevo.processes.kernels.imex
import microevo.processes.kernels.spinodal
from microevo.processes import Grid, SpinodalDecomposition, trajectory_generator
from microevo.processes.integrators import bdf2, imex
from microevo.processes.integrators.imex import SpectralState
from microevo.processes.integrators.transforms import modes_of


def arguments(dtype: torch.dtype, batch: int = 3, channels: int = 2, laws: int = 3) -> list[Tensor]:
    """All that a step needs, at random; the second trajectory stays where it is."""
    random = torch.Generator().manual_seed(0)

    def sample(*shape: int) -> Tensor:
        return torch.rand(shape, generator=random, dtype=torch.float64).to(dtype)

    full = (batch, channels, 5, 14)
    moving = torch.arange(batch) != 1
    numbers = sample(batch, 3)
    law = [3 * sample(laws, 1, 5, 14), -sample(laws, 1, 5, 14), sample(laws), 1 + sample(2, 14)]
    sums = torch.full((batch, 3), -1.0, dtype=torch.float64)
    return [
        moving,
        numbers,
        sample(*full) - 0.5,
        sample(*full) - 0.5,
        *law,
        sample(*full) - 0.5,
        sample(*full) - 0.5,
        sums,
    ]


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("laws", [1, 3])
def test_the_compiled_step_is_that_of_tensors(dtype: torch.dtype, close: float, laws: int) -> None:
    compiled, tensors = arguments(dtype, laws=laws), arguments(dtype, laws=laws)
    microevo.processes.kernels.imex.bdf2(*(values.numpy() for values in compiled))
    imex.bdf2(*tensors)
    for mine, other, before in zip(compiled, tensors, arguments(dtype, laws=laws), strict=True):
        torch.testing.assert_close(mine, other, rtol=close, atol=close)
        if before.shape[0] == 3 and before.dtype != torch.bool:
            assert torch.equal(mine[1], before[1])
    assert bool((compiled[-1][[0, 2]] > 0).all())


def test_the_step_solves_its_equation() -> None:
    # The equation of `SpectralBDF2` in the fields themselves, not in their changes.
    moving, numbers, u, d, linear, explicit, decay_time, weights, g, h, sums = arguments(torch.float64)
    before, minus = u.clone(), u - d
    imex.bdf2(moving, numbers, u, d, linear, explicit, decay_time, weights, g, h, sums)
    dt, r, a = numbers[..., None, None, None].unbind(1)
    left = ((1 + 2 * r) / (1 + r) + dt * (linear - a * explicit)) * u
    right = (1 + r) * before - r**2 / (1 + r) * minus + dt * explicit * ((1 + r) * g - r * h)
    right -= dt * a * explicit * ((1 + r) * before - r * minus)
    torch.testing.assert_close(left[moving], right[moving])


def test_trajectories_do_not_see_each_other() -> None:
    together = arguments(torch.float32, batch=4, laws=1)
    alone = [values.clone() for values in together]
    microevo.processes.kernels.imex.bdf2(*(values.numpy() for values in together))
    for lane in (3, 0, 2):
        one = [v[lane : lane + 1].clone() if len(v) == 4 else v for v in alone]
        microevo.processes.kernels.imex.bdf2(*(values.numpy() for values in one))
        for which in (2, 3, -1):
            assert torch.equal(one[which][0], together[which][lane])


@pytest.mark.parametrize("boundary", ["periodic", "no-flux"])
@pytest.mark.parametrize(("cells", "precision"), [((32, 32), "float32"), ((15,), "float64"), ((8, 6, 10), "float64")])
def test_a_decaying_field_follows_its_exponential(cells: tuple[int, ...], precision: str, boundary: str) -> None:
    # No nonlinear term: every mode decays at its own rate, to second order in the step.
    random = torch.Generator().manual_seed(0)
    field = torch.rand(3, 1, *cells, generator=random, dtype=torch.float64).to(getattr(torch, precision))
    basis = modes_of(Grid(shape=cells, boundary=boundary))
    rate = basis.wavenumbers_squared()[None, None] / 10
    exact = basis.inverse(basis.forward(field.double()) * (-rate).exp())

    def error(count: int) -> float:
        state = SpectralState(
            field.clone(),
            basis=basis,
            linear=rate,
            explicit=torch.zeros_like(rate),  # no nonlinear term
            nonlinear=lambda y, out, trajectories: out.zero_(),
            decay_time=torch.ones(1, dtype=torch.float64),
        )
        steps, sums = np.full(3, 1), np.zeros((3, 3))
        for i in range(count):
            numbers = np.array([[1 / count, float(i > 0), 0.0]] * 3, dtype=precision)
            state.advance(steps, numbers, numbers, sums)
        slow = (basis.forward(state.field.double()) / (1 + rate)).square() * basis.weights()
        slow[(slice(None), slice(None), *(0,) * len(cells))] = 0  # the mean
        torch.testing.assert_close(torch.from_numpy(sums[:, 2]), slow.flatten(1).sum(1), rtol=1e-4, atol=0)
        return float((state.field - exact).norm() / exact.norm())

    assert error(40) < 2e-3
    assert 3.2 < error(40) / error(80) < 4.8


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_whole_run_on_tensors_is_the_compiled_one(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    law = SpinodalDecomposition(grid=Grid(shape=(24, 20)), precision=precision)
    u0 = law.initial([trajectory_generator(0, index) for index in range(3)]).to(law.dtype)

    def run() -> Tensor:
        integrator = law.stepper()
        integrator.start(u0)
        integrator.advance(50.0)
        return integrator.u

    compiled = run()

    def on_tensors(*arrays: np.ndarray) -> None:
        imex.bdf2(*(torch.from_numpy(values) for values in arrays))

    def well_on_tensors(y: np.ndarray, out: np.ndarray, height: np.number, root: np.number) -> None:
        np.multiply(height * y, y * y - root, out=out)

    monkeypatch.setattr(microevo.processes.kernels.imex, "bdf2", on_tensors)
    monkeypatch.setattr(microevo.processes.kernels.spinodal, "double_well", well_on_tensors)
    torch.testing.assert_close(run(), compiled, rtol=0, atol=1e-4 if precision == "float32" else 1e-9)


@pytest.mark.gpu
def test_a_gpu_agrees() -> None:
    law = SpinodalDecomposition(grid=Grid(shape=(32, 32)), precision="float64")
    u0 = law.initial([trajectory_generator(0, index) for index in range(3)])
    ends = []
    for device in ("cpu", "cuda"):
        integrator = law.stepper()
        integrator.start(u0.to(device))
        for time in (3.0, 50.0):
            integrator.advance(time)
        ends.append(integrator.u.cpu())
    torch.testing.assert_close(*ends, rtol=0, atol=1e-8)


def test_parts_of_a_batch_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    law = SpinodalDecomposition(grid=Grid(shape=(16, 16)))
    u0 = law.initial([trajectory_generator(0, index) for index in range(9)]).float()

    def run() -> tuple[Tensor, int]:
        integrator = law.stepper()
        integrator.start(u0)
        integrator.advance(60.0)
        return integrator.u, len(integrator.states)

    whole, one = run()
    monkeypatch.setattr(bdf2, "CHUNK", 2 * 16 * 16 * 4)
    parts, four = run()
    assert (one, four) == (1, 4)
    assert torch.equal(whole, parts)


def test_rejected_steps_leave_no_trace_in_others(monkeypatch: pytest.MonkeyPatch) -> None:
    # One trajectory begins with a step that is far too long.
    law = SpinodalDecomposition(grid=Grid(shape=(16, 16)))
    u0 = law.initial([trajectory_generator(0, index) for index in range(3)]).float()
    rejected = []
    reject = SpectralState.reject
    monkeypatch.setattr(
        SpectralState, "reject", lambda self, mask: (rejected.append(mask.tolist()), reject(self, mask))
    )
    steps = 4e-4 * torch.tensor([1.0, 1e5, 1.0], dtype=torch.float64)

    def run(*batch: int) -> Tensor:
        integrator = law.stepper()
        integrator.first_step = steps[list(batch)]
        integrator.start(u0[list(batch)])
        integrator.advance(60.0)
        return integrator.u

    together = run(0, 1, 2)
    assert [False, True, False] in rejected
    assert torch.equal(together[[0, 2]], run(0, 2))
    assert torch.equal(together[1:2], run(1))
