import numpy as np
import pytest
import torch

from microevo.data import WindowDataset
from microevo.data.windows import transform


def test_a_window_is_the_slice_that_it_came_from(make_store):
    store = make_store(frames=9)
    windows = WindowDataset(store, store.split("train"), fields=["c"], n_past=3, n_future=2, stride=2)
    assert [w[1] for w in windows.windows] == [0, 2, 4] * 2
    for window in windows:
        source = store.read(int(window.trajectory), int(window.start), int(window.start) + 5)
        np.testing.assert_array_equal(torch.cat([window.past, window.future]), source)


@pytest.mark.parametrize("preload", [False, True])
def test_past_and_future_are_transformed_alike(make_store, preload):
    store = make_store(frames=9, shape=(6, 6), fields=("c", "T"), symmetries=("shift", "flip", "rotate"))
    settings = {"fields": ["c", "T"], "n_past": 3, "n_future": 2, "symmetries": ["shift", "flip", "rotate"]}
    windows = WindowDataset(store, [0, 1], preload=preload, **settings)
    moved = 0
    for index, (trajectory, start) in enumerate(windows.windows):
        source = torch.from_numpy(store.read(trajectory, start, start + 5))
        window = windows[index, 100 + index]
        expected = transform(source, settings["symmetries"], torch.Generator().manual_seed(100 + index))
        assert torch.equal(torch.cat([window.past, window.future]), expected)
        moved += not torch.equal(expected, source)
    assert moved == len(windows.windows)


def test_memory_and_disk_give_the_same_windows(make_store):
    store = make_store(frames=9, fields=("c", "T"))
    settings = {"fields": ["T"], "n_past": 3, "n_future": 2}
    for one, two in zip(
        WindowDataset(store, [0, 1], **settings),
        WindowDataset(store, [0, 1], preload=True, **settings),
        strict=True,
    ):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_window_can_be_written_to_without_harm(make_store):
    store = make_store()
    windows = WindowDataset(store, [0], fields=["c"], n_past=2, n_future=2, preload=True)
    before = windows[0].past.clone()
    windows[0].past.zero_()
    assert torch.equal(windows[0].past, before)


def test_a_window_longer_than_the_trajectory_is_refused_with_the_arithmetic(make_store):
    store = make_store(frames=6)
    with pytest.raises(ValueError, match=r"4 \+ 90 = 94 frames, but .* has 6"):
        WindowDataset(store, [0], fields=["c"], n_past=4, n_future=90)


def test_an_unknown_field_is_refused(make_store):
    with pytest.raises(ValueError, match="has the fields c, not phi"):
        WindowDataset(make_store(), [0], fields=["phi"], n_past=1, n_future=1)


def test_a_symmetry_that_the_physics_lacks_is_refused(make_store):
    with pytest.raises(ValueError, match="allows the symmetries flip, not shift"):
        WindowDataset(
            make_store(symmetries=("flip",)),
            [0],
            fields=["c"],
            n_past=1,
            n_future=1,
            symmetries=["shift", "flip"],
        )


@pytest.mark.parametrize("symmetries", [["shift"], ["flip"], ["rotate"], ["shift", "flip", "rotate"]])
@pytest.mark.parametrize("shape", [(6, 6), (4, 8)])
def test_a_transformation_moves_pixels_and_nothing_else(symmetries, shape):
    frames = torch.arange(2 * shape[0] * shape[1], dtype=torch.float32).reshape(1, 2, *shape).repeat(3, 1, 1, 1)
    seen = set()
    torch.manual_seed(0)
    for _ in range(40):
        moved = transform(frames, symmetries)
        assert moved.shape == frames.shape
        assert torch.equal(moved.flatten().sort().values, frames.flatten().sort().values)
        assert torch.equal(moved[0], moved[2]), "all frames must move together"
        seen.add(tuple(moved[0, 0].flatten().tolist()))
    assert len(seen) > 1


def test_a_window_brings_the_parameters_of_its_trajectory(make_store):
    known = {"speed": np.array([1.0, 2.0, 3.0, 4.0]), "group": np.arange(4)}
    store = make_store(per_trajectory=known)
    settings = {"fields": ["c"], "n_past": 1, "n_future": 1}
    windows = WindowDataset(store, [2, 1], parameters=["speed"], **settings)
    assert [float(window.parameters) for window in windows] == [3.0] * 5 + [2.0] * 5
    assert WindowDataset(store, [0], **settings)[0].parameters.shape == (0,)
    with pytest.raises(ValueError, match="has the parameters speed, not group; choose among these"):
        WindowDataset(store, [0], parameters=["group"], **settings)
    with pytest.raises(ValueError, match="has no parameters, not speed"):
        WindowDataset(make_store("bare.zarr"), [0], parameters=["speed"], **settings)


def test_frames_are_not_turned_where_a_parameter_is_a_direction(make_store):
    grid = {"shape": [8, 8], "boundary": "no-flux"}
    arguments = {"direction": 30.0, "speed": 2.0, "grid": grid}
    process = {"class_path": "microevo.processes.plane_wave.PlaneWave", "init_args": arguments}
    store = make_store(recipe={"process": process}, symmetries=("flip", "rotate"))
    settings = {"fields": ["c"], "n_past": 1, "n_future": 1, "symmetries": ["flip"]}
    assert WindowDataset(store, [0], parameters=["speed"], **settings)[0].parameters.tolist() == [2.0]
    with pytest.raises(ValueError, match=r"the symmetries flip change direction of a noise.*leave out either"):
        WindowDataset(store, [0], parameters=["speed", "direction"], **settings)
