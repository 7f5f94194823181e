import math
import multiprocessing
import re
from dataclasses import dataclass

import numpy as np
import pytest
from test_generate import contents, make

from microevo.data import Range, TrajectoryStore, generate
from microevo.data.workers import batches
from microevo.processes import Grid, PlaneWave
from microevo.processes.plane_wave import TurningWave

BREAKS = 1.05  # angular frequency above which `Unwatched` breaks


class Unwatching(TurningWave):
    """From time 2 on, fast waves are not finite."""

    def _fields(self):
        u = super()._fields().clone()
        if self.t >= 2:
            u[self.omega.flatten() > BREAKS, 1] = math.inf
        return u


@dataclass(frozen=True, kw_only=True)
class Unwatched(PlaneWave):
    """Waves, some of which leave the finite numbers; here, for a worker has to import it."""

    def stepper(self, p=None):
        wave = super().stepper(p)
        return Unwatching(wave.omega, wave.alpha)


def waves(path, **settings):
    law = Unwatched(grid=Grid(shape=(8, 8), boundary="no-flux"), first_frame=0.5)
    sample = {"wavelength": Range(low=15.0, high=25.0)}
    return generate(law, path, **({"splits": {"train": 6}, "frames": 5, "sample": sample, "seed": 5} | settings))


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 64, 100])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_batches_occupy_all_workers(count, batch_size, workers):
    trajectories = [3 * i for i in range(count)]
    parts = batches(trajectories, batch_size, workers)
    assert [i for part in parts for i in part] == trajectories
    sizes = [len(part) for part in parts]
    assert all(1 <= size <= batch_size for size in sizes)
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert len(parts) == count or len(parts) % workers == 0
    assert len(parts) < math.ceil(count / batch_size) + workers  # no more than it takes


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_does_not_change_a_byte(tmp_path, workers, capfd):
    make(tmp_path / "a.zarr")
    make(tmp_path / "b.zarr", workers=workers, batch_size=2)
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")
    # One bar each, over all frames; a bar may be drawn more than once when it is full.
    bars = [line.rpartition("\r")[2] for line in capfd.readouterr().err.split("\n") if "\r" in line]
    for name, bar in zip(("a.zarr", "b.zarr"), bars, strict=True):
        assert re.search(rf"{name}: 100%.* 20/20 ", bar)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_frames_that_are_not_finite_never_reach_the_store(tmp_path, workers):
    """Whoever computes: the same sentence, with process, trajectory, time and step; what is whole is kept."""
    lengths = np.array([np.random.default_rng([5, i, *b"wavelength"]).uniform(15, 25) for i in range(6)])
    assert np.flatnonzero(2 * np.pi * PlaneWave().speed / lengths > BREAKS).tolist() == [2]
    with pytest.raises(ValueError, match="not finite") as caught:
        waves(tmp_path / "a.zarr", batch_size=1, workers=workers)
    # Frames at 0.5, 1.5, 2.5: the third is the first not to be finite.
    assert str(caught.value) == (
        "Unwatched, trajectory 2: at time 2.5, in the step of length 1, component 1 of the field is not finite"
    )
    if workers > 1:
        assert "_check_finite" in caught.value.__notes__[0]  # where it happened, for --debug
    assert not multiprocessing.active_children()
    store = TrajectoryStore.open(tmp_path / "a.zarr", unfinished=True)
    assert {2, 5} <= set(store.missing())
    for i in set(range(6)) - set(store.missing()):
        assert np.isfinite(store.read(i)).all()


def test_workers_share_cores_and_nothing_else(tmp_path):
    with pytest.raises(
        ValueError, match=r"share the cores of a CPU, but there are 2 for the device mps; .* leave workers"
    ):
        waves(tmp_path / "a.zarr", workers=2, device="mps")
    assert not list(tmp_path.iterdir())
