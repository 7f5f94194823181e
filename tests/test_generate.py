import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
import zarr

from microevo.data import Range, TrajectoryStore, generate
from microevo.processes import Grid, Process, SpinodalDecomposition

SPLITS = {"train": 3, "val": 1, "test": 1}
DRAW = {"composition": Range(low=0.4, high=0.6), "mobility": Range(low=0.5, high=2.0, log=True)}


def small(**settings: object) -> Process:
    return SpinodalDecomposition(**({"grid": Grid(shape=(16, 16)), "first_frame": 20.0} | settings))


def make(path: Path, process: Process | None = None, **settings: object) -> TrajectoryStore:
    return generate(process or small(), path, **({"splits": SPLITS, "frames": 4, "draw": DRAW, "seed": 3} | settings))


def contents(path: Path) -> dict[str, str]:
    """Every file of a store and its digest."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_batch_size_does_not_change_a_byte(tmp_path, batch_size):
    make(tmp_path / "a.zarr", batch_size=8)
    make(tmp_path / "b.zarr", batch_size=batch_size)
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")


def test_another_seed_gives_other_data(tmp_path):
    assert make(tmp_path / "a.zarr").fingerprint != make(tmp_path / "b.zarr", seed=4).fingerprint


def test_a_trajectory_does_not_depend_on_how_many_there_are(tmp_path):
    few, many = make(tmp_path / "few.zarr", splits={"train": 2}), make(tmp_path / "many.zarr")
    np.testing.assert_array_equal(few.read(1), many.read(1))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_callers_threads_do_not_change_a_byte_and_are_given_back(tmp_path, threads):
    process = small(grid=Grid(shape=(128, 128)))  # large enough that torch would share the work
    settings = {"splits": {"train": 2}, "frames": 2}
    make(tmp_path / "a.zarr", process, **settings)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        make(tmp_path / "b.zarr", process, **settings)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")


@pytest.mark.parametrize("flushes", [True, False])
def test_the_callers_subnormal_numbers_are_given_back_after_an_error(tmp_path, monkeypatch, flushes):
    torch.set_flush_denormal(flushes)
    try:
        _fail_at(monkeypatch, 0)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "a.zarr")
        assert bool(torch.tensor(1e-40) * 1 == 0) == flushes
    finally:
        torch.set_flush_denormal(False)


def _fail_at(monkeypatch, trajectory):
    write = TrajectoryStore.write

    def interrupted(self, number, frames):
        if number == trajectory:
            raise KeyboardInterrupt
        write(self, number, frames)

    monkeypatch.setattr(TrajectoryStore, "write", interrupted)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_store_is_finished_to_the_same_bytes(tmp_path, monkeypatch, overwrite):
    make(tmp_path / "a.zarr", batch_size=2)
    with monkeypatch.context() as patched:
        _fail_at(patched, 3)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "b.zarr", batch_size=2)
    half = TrajectoryStore.open(tmp_path / "b.zarr", unfinished=True)
    assert half.missing() == [3, 4]
    written = (tmp_path / "b.zarr/c/c/0/0/0/0").stat().st_mtime_ns
    make(tmp_path / "b.zarr", batch_size=3, overwrite=overwrite)
    assert (tmp_path / "b.zarr/c/c/0/0/0/0").stat().st_mtime_ns == written, "what was there is kept"
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")


def test_drawn_parameters_are_kept_and_used(tmp_path):
    store = make(tmp_path / "a.zarr", splits={"train": 8})
    composition, mobility = (store.per_trajectory[name] for name in ("composition", "mobility"))
    assert ((composition >= 0.4) & (composition <= 0.6)).all()
    assert len(set(composition)) == 8
    assert ((mobility >= 0.5) & (mobility <= 2.0)).all()
    means = np.array([store.read(i).mean(dtype=np.float64) for i in range(8)])
    np.testing.assert_allclose(means, composition, atol=1e-6)  # the mean of c is conserved
    process = small(composition=float(composition[2]), mobility=float(mobility[2]))
    alone = make(tmp_path / "b.zarr", process, splits={"train": 3}, draw=None)
    np.testing.assert_allclose(alone.read(2), store.read(2), atol=1e-5)


def test_parameters_are_drawn_independently_of_each_other_and_of_the_trajectories(tmp_path):
    both = make(tmp_path / "a.zarr")
    one = make(tmp_path / "b.zarr", draw={"composition": DRAW["composition"]})
    none = make(tmp_path / "c.zarr", draw=None)
    np.testing.assert_array_equal(both.per_trajectory["composition"], one.per_trajectory["composition"])
    np.testing.assert_array_equal(both.per_trajectory["seed"], none.per_trajectory["seed"])
    assert list(none.per_trajectory) == ["seed"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draw": {"colour": Range(low=0.0, high=1.0)}}, "can draw composition, noise, mobility, kappa .* not colour"),
        ({"splits": {"trian": 3}}, "splits are train, val, test, but trian was given"),
        ({"splits": {"train": -1}}, "train must be at least 0, but it is -1"),
        ({"splits": {"train": 0}}, "at least one trajectory"),
        ({"frames": 0}, "at least one frame"),
        ({"batch_size": 0}, "batch_size must be at least 1, but it is 0"),
        ({"seed": -1}, "seed must be at least 0, but it is -1"),
        ({"draw": {"composition": Range(low=0.4, high=1.4)}}, "composition must lie between"),
    ],
)
def test_what_cannot_be_met_is_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "a.zarr", **settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_an_absent_device_is_refused(tmp_path):
    with pytest.raises(ValueError, match="device is cuda, but PyTorch finds no CUDA device here"):
        make(tmp_path / "a.zarr", device="cuda")


@pytest.mark.parametrize(("low", "high", "log"), [(1.0, 0.5, False), (0.0, 1.0, True)])
def test_an_impossible_range_is_refused(low, high, log):
    with pytest.raises(ValueError, match="low <= high"):
        Range(low=low, high=high, log=log)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"seed": 4}, "seed is 3 there and 4 here"),
        ({"frames": 5}, "frames is 4 there and 5 here"),
        ({"process": small(kappa=2.0)}, r"process\.init_args\.kappa is 2\.5 there and 2\.0 here"),
        ({"splits": SPLITS | {"train": 4}}, r"splits\.train is 3 there and 4 here"),
        ({"draw": None}, r"draw\.composition\.high is 0\.6 there and not set here"),
    ],
)
def test_other_settings_are_refused_with_the_one_that_differs(tmp_path, settings, key):
    store = make(tmp_path / "a.zarr")
    with pytest.raises(FileExistsError, match=f"made with other settings \\({key}\\); use --overwrite"):
        make(tmp_path / "a.zarr", **settings)
    assert TrajectoryStore.open(tmp_path / "a.zarr").fingerprint == store.fingerprint
    make(tmp_path / "a.zarr", **settings, overwrite=True)
    assert TrajectoryStore.open(tmp_path / "a.zarr").fingerprint != store.fingerprint or "splits" in key


def test_a_complete_store_is_returned_at_once(tmp_path, monkeypatch):
    store = make(tmp_path / "a.zarr")
    before = contents(store.path)
    monkeypatch.setattr(SpinodalDecomposition, "initial", None)
    assert make(tmp_path / "a.zarr").fingerprint == store.fingerprint
    assert contents(store.path) == before


def test_a_store_begun_with_another_version_is_finished_with_a_warning(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        _fail_at(patched, 1)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "a.zarr", batch_size=1)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r+")
    group.attrs.update({"versions": group.attrs["versions"] | {"torch": "1.0"}})
    with pytest.warns(UserWarning, match=r"was begun with torch 1\.0 \(now "):
        make(tmp_path / "a.zarr")
    make(tmp_path / "a.zarr")  # complete: nothing is added, so nothing is said


def test_a_simulation_that_fails_names_the_trajectory_and_keeps_the_others(tmp_path, monkeypatch):
    initial = SpinodalDecomposition.initial

    def spoilt(self, generators):
        u = initial(self, generators)
        u[-1] *= float("nan")
        return u

    with monkeypatch.context() as patched:
        make_two = {"batch_size": 2, "splits": {"train": 2}}
        patched.setattr(SpinodalDecomposition, "initial", spoilt)
        with pytest.raises(ValueError, match=r"SpinodalDecomposition, trajectory 1: at time 0 .* not finite"):
            make(tmp_path / "a.zarr", **make_two)
    with pytest.raises(ValueError, match="unfinished"):
        TrajectoryStore.open(tmp_path / "a.zarr")


def test_progress_counts_frames(tmp_path, capfd):
    make(tmp_path / "a.zarr", batch_size=2)
    assert "20/20" in capfd.readouterr().err


def test_the_store_says_what_it_is(tmp_path):
    process = small(grid=Grid(shape=(16, 32), spacing=0.5, coarsen=2), frame_interval=7.0, kappa=1.5, rho=0.5)
    attributes = make(tmp_path / "a.zarr", process, command="python -m microevo simulate").attributes
    expected = {
        "process": "SpinodalDecomposition",
        "command": "python -m microevo simulate",
        "first_frame": 20.0,
        "frame_interval": 7.0,
        "spacing": 1.0,
        "boundary": "periodic",
        "symmetries": ["shift", "flip", "rotate"],
        "fields": ["c"],
        "complete": True,
    }
    assert {name: attributes[name] for name in expected} == expected
    recipe = attributes["recipe"]
    assert recipe["process"]["class_path"] == "microevo.processes.spinodal.SpinodalDecomposition"
    assert recipe["process"]["init_args"]["kappa"] == 1.5
    assert (recipe["seed"], recipe["frames"], recipe["splits"]) == (3, 4, SPLITS)
    assert recipe["draw"]["mobility"] == {"low": 0.5, "high": 2.0, "log": True}


def test_the_recipe_makes_the_store_again(tmp_path):
    store = make(tmp_path / "a.zarr")
    recipe = store.attributes["recipe"]
    settings = recipe["process"]["init_args"]
    grid = Grid(**(settings["grid"] | {"shape": tuple(settings["grid"]["shape"])}))
    again = generate(
        SpinodalDecomposition(**(settings | {"grid": grid})),
        tmp_path / "b.zarr",
        splits=recipe["splits"],
        frames=recipe["frames"],
        draw={name: Range(**limits) for name, limits in recipe["draw"].items()},
        seed=recipe["seed"],
    )
    assert again.fingerprint == store.fingerprint


@pytest.mark.parametrize(
    ("boundary", "isotropic", "symmetries"),
    [
        ("periodic", True, ["shift", "flip", "rotate"]),
        ("periodic", False, ["shift"]),
        ("no-flux", True, ["flip", "rotate"]),
        ("no-flux", False, []),
    ],
)
def test_symmetries_follow_from_the_boundary_and_the_law(tmp_path, monkeypatch, boundary, isotropic, symmetries):
    monkeypatch.setattr(SpinodalDecomposition, "isotropic", isotropic)
    process = small()
    # No process of this version has walls, and this one refuses them.
    object.__setattr__(process.grid, "boundary", boundary)
    monkeypatch.setattr(SpinodalDecomposition, "with_parameters", lambda self, values: self)
    assert make(tmp_path / "a.zarr", process, draw=None).attributes["symmetries"] == symmetries


# ------------------------------------------------------------- the real command


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Ten trajectories, one at a time, about a second's work."""
    settings = {
        "output": "a.zarr",
        "process": {
            "class_path": "microevo.processes.SpinodalDecomposition",
            "init_args": {"grid": {"shape": [64, 64]}, "first_frame": 20.0},
        },
        "draw": {"composition": {"low": 0.4, "high": 0.6}},
        "splits": {"train": 6, "val": 2, "test": 2},
        "frames": 12,
        "batch_size": 1,
        "seed": 5,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def _start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "microevo", "simulate", "--config", "recipe.yaml"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for(chunks: int, store: Path, running: subprocess.Popen[str]) -> None:
    while running.poll() is None and len(list(store.glob("c/c/*/0/0/0"))) < chunks:
        time.sleep(0.005)
    assert running.poll() is None, running.communicate()


def test_killed_and_interrupted_simulations_end_in_the_same_bytes(tmp_path, recipe, microevo):
    store = tmp_path / "a.zarr"
    for chunks in (1, 4):
        killed = _start(tmp_path)
        _wait_for(chunks, store, killed)
        killed.kill()
        killed.wait()
        with pytest.raises(ValueError, match=r"unfinished \(\d of 10 .* simulate --config recipe.yaml"):
            TrajectoryStore.open(store)

    stopped = _start(tmp_path)
    _wait_for(7, store, stopped)
    stopped.send_signal(signal.SIGINT)
    _, told = stopped.communicate()
    assert stopped.returncode == 130
    assert told.strip().splitlines()[-1] == "microevo: interrupted; the same command goes on where it was"
    assert "Traceback" not in told

    finished = microevo("simulate", "--config", "recipe.yaml")
    assert finished.returncode == 0, finished.stderr
    assert "10 trajectories (6 train, 2 val, 2 test) of 12 frames, 64 x 64 pixels" in finished.stdout
    settings = yaml.safe_load(recipe.read_text())
    settings |= {
        "output": tmp_path / "b.zarr",
        "batch_size": 4,
        "command": "python -m microevo simulate --config recipe.yaml",
    }
    settings["draw"] = {"composition": Range(low=0.4, high=0.6)}
    settings["process"] = SpinodalDecomposition(grid=Grid(shape=(64, 64)), first_frame=20.0)
    generate(settings.pop("process"), settings.pop("output"), **settings)
    assert contents(store) == contents(tmp_path / "b.zarr")
