"""Which trajectories belong together, and that they stay together."""

import numpy as np
import pytest

from microevo.data import import_frames
from microevo.data.splits import connected_groups, frame_hashes


def groups(trajectories: np.ndarray) -> list[int]:
    return connected_groups([frame_hashes(t[:, None]) for t in trajectories]).tolist()


def random_frames(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random((*shape, 4, 4), dtype=np.float32)


@pytest.mark.parametrize("common", [0, 3, -1])
def test_one_common_frame_connects_nothing(common: int) -> None:
    sweep = random_frames(10, 6)
    sweep[:, common] = sweep[0, common]
    assert groups(sweep) == list(range(10))


@pytest.mark.parametrize("common", [slice(0, 2), slice(2, 4), slice(4, 6)])
def test_two_successive_common_frames_do(common: slice) -> None:
    trajectories = random_frames(4, 6)
    trajectories[2, common] = trajectories[1, common]
    assert groups(trajectories) == [0, 1, 1, 2]


@pytest.mark.parametrize("overlap", [1, 2, 5])
def test_windows_of_one_trajectory_are_connected(overlap: int) -> None:
    long = random_frames(30)
    starts = range(0, 24, 6 - overlap)
    windows = np.stack([long[start : start + 6] for start in starts])
    order = np.random.default_rng(1).permutation(len(windows))
    assert groups(windows[order]) == [0] * len(windows)
    assert groups(np.stack([long[:6], long[6:12]])) == [0, 1]


def test_copies_are_connected_and_uniform_frames_are_not_counted() -> None:
    trajectories = random_frames(3, 1)
    trajectories[2] = trajectories[0]
    assert groups(trajectories) == [0, 1, 0]
    uniform = random_frames(3, 6)
    uniform[:, :3] = 0.5
    assert groups(uniform) == [0, 1, 2]


@pytest.mark.parametrize("common", [0, -1])
def test_a_parameter_sweep_from_one_nucleus_is_split(tmp_path, capsys, common: int) -> None:
    sweep = random_frames(10, 6)
    sweep[:, common] = sweep[0, common]
    np.save(tmp_path / "sweep.npy", sweep)
    store = import_frames(str(tmp_path / "sweep.npy"), str(tmp_path / "sweep.zarr"))
    assert [len(store.split(name)) for name in ("train", "val", "test")] == [8, 1, 1]
    assert "share frames" not in capsys.readouterr().err


def test_trajectories_can_be_declared_independent(tmp_path, capsys) -> None:
    sweep = random_frames(10, 6)
    sweep[:, :2] = sweep[0, :2]
    np.save(tmp_path / "sweep.npy", sweep)
    together = import_frames(str(tmp_path / "sweep.npy"), str(tmp_path / "together.zarr"))
    assert len(together.split("train")) == 10
    assert "if they are separate trajectories, say so with --independent true" in capsys.readouterr().err
    apart = import_frames(str(tmp_path / "sweep.npy"), str(tmp_path / "apart.zarr"), independent=True)
    assert [len(apart.split(name)) for name in ("train", "val", "test")] == [8, 1, 1]
    assert apart.per_trajectory["group"].tolist() == list(range(10))
    for name, part in {"train": sweep[:8], "test": sweep[8:]}.items():
        np.save(tmp_path / f"X_{name}.npy", part[:, :3])
        np.save(tmp_path / f"Y_{name}.npy", part[:, 3:])
    with pytest.raises(ValueError, match=r"test and train, .* say so with --independent true"):
        import_frames(str(tmp_path), str(tmp_path / "named.zarr"))
    named = import_frames(str(tmp_path), str(tmp_path / "named.zarr"), independent=True)
    assert [len(named.split(name)) for name in ("train", "test")] == [8, 2]
