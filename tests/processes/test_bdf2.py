import pytest
import torch
from torch import Tensor

from microevo.processes import Grid, Parameters, SpinodalDecomposition, simulate, trajectory_generator


def process(**settings: object) -> SpinodalDecomposition:
    return SpinodalDecomposition(
        **({"grid": Grid(shape=(32, 32)), "first_frame": 50.0, "frame_interval": 25.0} | settings)
    )


def trajectories(
    law: SpinodalDecomposition, *indices: int, frames: int = 4, parameters: Parameters | None = None
) -> Tensor:
    return simulate(law, [trajectory_generator(0, index) for index in indices], frames, parameters)


def final(law: SpinodalDecomposition, time: float, *stops: float) -> Tensor:
    """The fields of four trajectories, less their means."""
    stepper = law.stepper()
    stepper.start(law.initial([trajectory_generator(0, index) for index in range(4)]).to(law.dtype))
    for stop in (*stops, time):
        stepper.advance(stop)
    u = stepper.u.double()
    return u - u.mean(dim=(1, 2, 3), keepdim=True)


def distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)


@pytest.mark.parametrize(("precision", "cells"), [("float32", 32), pytest.param("float64", 27, marks=pytest.mark.slow)])
def test_same_seed_same_bytes_in_any_batch(precision: str, cells: int) -> None:
    law = process(grid=Grid(shape=(cells, cells)), precision=precision)
    together = trajectories(law, *range(8))
    assert torch.equal(together, trajectories(law, *range(7, -1, -1)).flip(0))
    for size in (1, 2, 3):
        parts = [trajectories(law, *range(first, min(first + size, 8))) for first in range(0, 8, size)]
        assert torch.equal(together, torch.cat(parts)), f"batches of {size}"


def test_same_bytes_with_drawn_parameters_and_a_coarser_image() -> None:
    law = process(grid=Grid(shape=(32, 32), coarsen=2))
    mobility = [0.7, 1.0, 1.9]
    together = trajectories(law, 0, 1, 2, parameters=law.vary({"mobility": mobility}))
    for i in range(3):
        alone = trajectories(law, i, parameters=law.vary({"mobility": [mobility[i]]}))
        assert torch.equal(together[i : i + 1], alone)


def test_more_frames_leave_the_solution_as_it_is() -> None:
    # Until the first domain vanishes: from then on any difference grows.
    law = process(tolerance=3e-4)
    ten = final(law, 200.0, *(20.0 * i for i in range(1, 10)))
    forty = final(law, 200.0, *(5.0 * i for i in range(1, 40)))
    assert float(distance(ten, forty).max()) < 2 * 3e-4


def test_float32_follows_float64() -> None:
    low, high = (final(process(precision=precision), 400.0) for precision in ("float32", "float64"))
    assert float(distance(low, high).max()) < 4e-4


@pytest.mark.slow
def test_second_order_in_time() -> None:
    # The error estimate is of second order, so that a quarter of the tolerance halves the steps.
    coarse, half, truth = (
        final(process(precision="float64", tolerance=tolerance), 100.0) for tolerance in (4e-4, 1e-4, 2e-6)
    )
    ratio = distance(coarse, truth) / distance(half, truth)
    assert 3.2 < float(ratio.mean()) < 5.0


def test_asked_times_are_met_exactly() -> None:
    stepper = process().stepper()
    stepper.start(process().initial([trajectory_generator(0, 0), trajectory_generator(0, 1)]).float())
    for time in (0.1, 0.3, 1 / 3, 7.0):
        before = stepper.u
        stepper.advance(time)
        assert not torch.equal(before, stepper.u)
    reached = stepper.u
    stepper.advance(7.0)
    assert torch.equal(reached, stepper.u)
    with pytest.raises(ValueError, match="forward only"):
        stepper.advance(6.0)


def test_a_uniform_field_stays() -> None:
    stepper = process().stepper()
    stepper.start(torch.full((2, 1, 32, 32), 0.5))
    stepper.advance(10.0)
    torch.testing.assert_close(stepper.u, torch.full((2, 1, 32, 32), 0.5))
