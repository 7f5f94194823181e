"""Which physical quantities a benchmark measures on which data."""

import numpy as np
import torch

from microevo.benchmark.physics import Kind, PhysicalQuantities
from microevo.data import generate
from microevo.metrics import Quantity, measure
from microevo.processes import Grid, SpinodalDecomposition


def discs(above: bool) -> np.ndarray:
    """Two discs of one phase in a matrix of the other, four equal frames (T, C, H, W)."""
    y, x = np.mgrid[:32, :32]
    inside = (np.hypot(y - 8, x - 8) < 4) | (np.hypot(y - 22, x - 20) < 5)
    return np.broadcast_to(np.where(inside == above, 0.9, 0.1), (4, 1, 32, 32)).astype(np.float32)


def counted(quantities: PhysicalQuantities, store, trajectories: list[int]) -> list[list[float]]:
    particles = [q for q in quantities(trajectories) if q.name == "particle_count"]
    frames = torch.from_numpy(np.stack([store.read(i) for i in trajectories]))
    assert isinstance(particles[0], Quantity)
    return measure([particles[0]], frames)["particle_count"].tolist()


def test_particles_are_the_minority_of_each_trajectory(make_store):
    """One store may hold mixtures on both sides of the middle."""
    store = make_store(splits=("train", "val", "test"), values=np.stack([discs(False), discs(True), discs(False)]))
    quantities = PhysicalQuantities(store, "spinodal", 2)
    assert counted(quantities, store, [0, 1, 2]) == [[2.0] * 4] * 3
    assert counted(quantities, store, [1]) == [[2.0] * 4]


def test_exponents_need_the_time_since_the_quench(make_store, tmp_path):
    """The clock of imported frames starts at the first of them."""

    def fits(store, kind: Kind) -> list[str]:
        found = PhysicalQuantities(store, kind, 2)([0])
        return [one.fit.name for one in found if isinstance(one, Quantity) and one.fit]

    assert fits(make_store(), "spinodal") == []
    assert fits(make_store("other.zarr"), "auto") == []
    process = SpinodalDecomposition(grid=Grid(shape=(16, 16)), first_frame=20.0)
    simulated = generate(process, tmp_path / "s.zarr", splits={"test": 1}, frames=3)
    assert fits(simulated, "auto") == ["coarsening_exponent"]
