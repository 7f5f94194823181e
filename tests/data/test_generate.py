import contextlib
import hashlib
import os
import shlex
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

from microevo.cli import main
from microevo.data import Range, StoreSchema, TrajectoryStore, generate
from microevo.processes import Grid, Process, SpinodalDecomposition

SPLITS = {"train": 3, "val": 1, "test": 1}
SAMPLE = {"composition": Range(low=0.4, high=0.6), "mobility": Range(low=0.5, high=2.0, log=True)}


def small(**settings: object) -> Process:
    return SpinodalDecomposition(**({"grid": Grid(shape=(16, 16)), "first_frame": 20.0} | settings))


def make(path: Path, process: Process | None = None, **settings: object) -> TrajectoryStore:
    return generate(
        process or small(), path, **({"splits": SPLITS, "frames": 4, "sample": SAMPLE, "seed": 3} | settings)
    )


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


def test_sampled_parameters_are_kept_and_used(tmp_path):
    store = make(tmp_path / "a.zarr", splits={"train": 8})
    composition, mobility = (store.per_trajectory[name] for name in ("composition", "mobility"))
    assert ((composition >= 0.4) & (composition <= 0.6)).all()
    assert len(set(composition)) == 8
    assert ((mobility >= 0.5) & (mobility <= 2.0)).all()
    means = np.array([store.read(i).mean(dtype=np.float64) for i in range(8)])
    np.testing.assert_allclose(means, composition, atol=1e-6)  # the mean of c is conserved
    process = small(composition=float(composition[2]), mobility=float(mobility[2]))
    alone = make(tmp_path / "b.zarr", process, splits={"train": 3}, sample=None)
    np.testing.assert_allclose(alone.read(2), store.read(2), atol=1e-5)


@pytest.mark.slow
def test_parameters_are_sampled_independently_of_each_other_and_of_the_trajectories(tmp_path):
    both = make(tmp_path / "a.zarr")
    one = make(tmp_path / "b.zarr", sample={"composition": SAMPLE["composition"]})
    none = make(tmp_path / "c.zarr", sample=None)
    np.testing.assert_array_equal(both.per_trajectory["composition"], one.per_trajectory["composition"])
    np.testing.assert_array_equal(both.per_trajectory["seed"], none.per_trajectory["seed"])
    assert list(none.per_trajectory) == ["seed"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"sample": {"colour": Range(low=0.0, high=1.0)}},
            "can vary composition, noise, mobility, kappa .* not colour",
        ),
        ({"splits": {"trian": 3}}, "splits are train, val, test, but trian was given"),
        ({"splits": {"train": -1}}, "train must be at least 0, but it is -1"),
        ({"splits": {"train": 0}}, "at least one trajectory"),
        ({"frames": 0}, "at least one frame"),
        ({"batch_size": 0}, "batch_size must be at least 1, but it is 0"),
        ({"seed": -1}, "seed must be at least 0, but it is -1"),
        ({"sample": {"composition": Range(low=0.4, high=1.4)}}, "trajectory . samples .* composition must lie between"),
        ({"fraction_sampled": 1.5}, "fraction_sampled is a part of the trajectories, from 0 to 1, but it is 1.5"),
        ({"workers": 0}, "workers must be at least 1, but it is 0"),
        ({"trajectories": "3"}, "given as first:end, as in 0:100 for 0 to 99, but they are 3;"),
        ({"trajectories": "-2:"}, "given as first:end, .* but they are -2:;"),
        ({"trajectories": "5:9"}, "trajectories 5:9 are none of this store, which has 5, numbered 0 to 4"),
        ({"trajectories": "3:3"}, "trajectories 3:3 are none of this store"),
        ({"trajectories": "0:2", "overwrite": True}, "would remove what other jobs wrote"),
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


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"seed": 4}, "seed is 3 there and 4 here"),
        ({"frames": 5}, "frames is 4 there and 5 here"),
        ({"process": small(kappa=2.0)}, r"process\.init_args\.kappa is 2\.5 there and 2\.0 here"),
        ({"splits": SPLITS | {"train": 4}}, r"splits\.train is 3 there and 4 here"),
        ({"sample": None}, r"sample\.composition\.high is 0\.6 there and not set here"),
        ({"fraction_sampled": 0.5}, r"fraction_sampled is not set there and 0\.5 here"),
        ({"resample": True}, r"resample is not set there and True here"),
    ],
)
def test_other_settings_are_refused_with_the_one_that_differs(tmp_path, settings, key):
    store = make(tmp_path / "a.zarr")
    with pytest.raises(FileExistsError, match=f"made with other settings \\({key}\\); use --overwrite"):
        make(tmp_path / "a.zarr", **settings)
    assert TrajectoryStore.open(tmp_path / "a.zarr").fingerprint == store.fingerprint
    make(tmp_path / "a.zarr", **settings, overwrite=True)
    assert TrajectoryStore.open(tmp_path / "a.zarr").fingerprint != store.fingerprint or key[:6] in ("splits", "resamp")


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

    def corrupted(self, generators, p):
        u = initial(self, generators, p)
        u[-1] *= float("nan")
        return u

    with monkeypatch.context() as patched:
        make_two = {"batch_size": 2, "splits": {"train": 2}}
        patched.setattr(SpinodalDecomposition, "initial", corrupted)
        with pytest.raises(ValueError, match=r"SpinodalDecomposition, trajectory 1: at time 0, .* not finite"):
            make(tmp_path / "a.zarr", **make_two)
    with pytest.raises(ValueError, match="unfinished"):
        TrajectoryStore.open(tmp_path / "a.zarr")


def test_half_the_set_keeps_the_look_of_the_process(tmp_path):
    store = make(tmp_path / "a.zarr", splits={"train": 12}, fraction_sampled=0.5)
    own = np.flatnonzero(store.per_trajectory["composition"] == 0.5)
    assert 0 < len(own) < 12
    np.testing.assert_array_equal(own, np.flatnonzero(store.per_trajectory["mobility"] == 1.0))
    plain = make(tmp_path / "b.zarr", splits={"train": 12}, sample=None)
    for i in range(12):
        assert np.allclose(store.read(i), plain.read(i), atol=1e-5) == (i in own)
    assert store.attributes["recipe"]["fraction_sampled"] == 0.5


# ------------------------------------------------------ parts of a store


def test_ranges_fill_a_store_in_any_order(tmp_path, capfd):
    make(tmp_path / "a.zarr")
    capfd.readouterr()
    for trajectories, missing in (("3:4", [0, 1, 2, 4]), (":1", [1, 2, 4]), ("4:900", [1, 2]), ("0:2", [2])):
        store = make(tmp_path / "b.zarr", trajectories=trajectories)
        assert not store.attributes["complete"]
        assert store.missing() == missing
    assert "8/8" in capfd.readouterr().err  # the bar counts the frames of the range
    last = make(tmp_path / "b.zarr", trajectories="2:3")
    assert last.attributes["complete"]
    assert make(tmp_path / "b.zarr", trajectories="1:2").attributes["complete"]  # nothing left to do
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")


def test_a_part_is_finished_by_the_call_without_a_range(tmp_path):
    make(tmp_path / "a.zarr")
    make(tmp_path / "b.zarr", trajectories="1:3")
    make(tmp_path / "b.zarr")
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")


def _beaten(monkeypatch, rival):
    """Another process makes the store while this one is about to."""
    write = StoreSchema.write

    def slow(layout, path):
        write(layout, path)
        monkeypatch.setattr(StoreSchema, "write", write)
        rival()

    monkeypatch.setattr(StoreSchema, "write", slow)


def test_jobs_that_start_at_the_same_moment_share_one_store(tmp_path, monkeypatch):
    make(tmp_path / "a.zarr")
    _beaten(monkeypatch, lambda: make(tmp_path / "b.zarr", trajectories="3:"))
    assert make(tmp_path / "b.zarr", trajectories=":3").attributes["complete"]
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def test_the_slower_of_two_jobs_with_different_settings_is_refused(tmp_path, monkeypatch):
    _beaten(monkeypatch, lambda: make(tmp_path / "b.zarr", seed=4))
    with pytest.raises(FileExistsError, match="seed is 4 there and 3 here"):
        make(tmp_path / "b.zarr", trajectories=":3")
    assert TrajectoryStore.open(tmp_path / "b.zarr").attributes["recipe"]["seed"] == 4


@pytest.mark.slow
def test_jobs_may_overlap_and_end_at_the_same_moment(tmp_path, monkeypatch):
    """While one job writes what it simulated, another has done the same and finishes the store."""
    make(tmp_path / "a.zarr")
    write = TrajectoryStore.write

    def overtaken(self, trajectory, frames):
        monkeypatch.setattr(TrajectoryStore, "write", write)
        assert make(tmp_path / "b.zarr").attributes["complete"]
        write(self, trajectory, frames)

    monkeypatch.setattr(TrajectoryStore, "write", overtaken)
    assert make(tmp_path / "b.zarr", trajectories="1:4", batch_size=1).attributes["complete"]
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")


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
    assert recipe["sample"]["mobility"] == {"low": 0.5, "high": 2.0, "log": True}


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
        sample={name: Range(**limits) for name, limits in recipe["sample"].items()},
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
    process = small(grid=Grid(shape=(16, 16), boundary=boundary))
    assert make(tmp_path / "a.zarr", process, sample=None).attributes["symmetries"] == symmetries


def test_a_store_of_an_earlier_version_is_recognised(tmp_path):
    store = make(tmp_path / "a.zarr", fraction_sampled=0.5)
    earlier = {"sample": "draw", "fraction_sampled": "drawn_share"}
    recipe = {earlier.get(key, key): value for key, value in store.attributes["recipe"].items()}
    assert {"draw", "drawn_share"} < set(recipe)
    zarr.open_group(store.path, mode="r+").attrs["recipe"] = recipe
    zarr.consolidate_metadata(store.path)
    assert make(tmp_path / "a.zarr", fraction_sampled=0.5).fingerprint == store.fingerprint
    with pytest.raises(FileExistsError, match=r"fraction_sampled is 0\.5 there and 0\.25 here"):
        make(tmp_path / "a.zarr", fraction_sampled=0.25)


# ------------------------------------------------------------- the real command

COUNT = 18
COMMAND = "python -m microevo simulate --config recipe.yaml"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eighteen trajectories, one at a time, about two seconds' work."""
    settings = {
        "output": "a.zarr",
        "process": {
            "class_path": "microevo.processes.SpinodalDecomposition",
            "init_args": {"grid": {"shape": [64, 64]}, "first_frame": 20.0},
        },
        "sample": {"composition": {"low": 0.4, "high": 0.6}},
        "fraction_sampled": 0.5,
        "splits": {"train": 10, "val": 4, "test": 4},
        "frames": 12,
        "batch_size": 1,
        "seed": 5,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(tmp_path)
    return path


def _uninterrupted(recipe: Path, command: str) -> dict[str, str]:
    settings = yaml.safe_load(recipe.read_text()) | {"output": recipe.with_name("b.zarr"), "batch_size": 4}
    settings["sample"] = {"composition": Range(low=0.4, high=0.6)}
    settings["process"] = SpinodalDecomposition(grid=Grid(shape=(64, 64)), first_frame=20.0)
    return contents(generate(**settings, command=command).path)


def _start(folder: Path, *args: str) -> subprocess.Popen[str]:
    """The command, at the head of a process group as a shell would have it."""
    return subprocess.Popen(
        [sys.executable, "-m", "microevo", "simulate", "--config", "recipe.yaml", *args],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _written(store: Path) -> int:
    return len(list(store.glob("c/c/*/0/0/0")))


def _wait_for(chunks: int, store: Path, running: subprocess.Popen[str]) -> None:
    while running.poll() is None and _written(store) < chunks:
        time.sleep(0.005)
    assert running.poll() is None, running.communicate()


def _group(leader: int) -> dict[int, str]:
    """The processes of a group and their commands, but for those that are dead already."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            state, _, group = (process / "stat").read_text().rsplit(")", 1)[1].split()[:3]
            if int(group) == leader and state not in "ZX":
                found[int(process.name)] = (process / "cmdline").read_text()
    return found


def _workers(leader: int) -> list[int]:
    return [pid for pid, command in _group(leader).items() if "spawn_main" in command]


def _all_end(leader: int) -> bool:
    patience = time.monotonic() + 10
    while _group(leader) and time.monotonic() < patience:
        time.sleep(0.02)
    return not _group(leader)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
def test_killed_and_interrupted_simulations_end_in_the_same_bytes(tmp_path, recipe, capsys, workers):
    store, several = tmp_path / "a.zarr", ["--workers", str(workers)]
    killed = _start(tmp_path, *several)
    _wait_for(1, store, killed)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    with pytest.raises(ValueError, match=r"unfinished \(\d+ of 18 .* simulate --config recipe.yaml --workers"):
        TrajectoryStore.open(store)

    if workers > 1:
        bereft = _start(tmp_path, *several)
        _wait_for(_written(store) + 2, store, bereft)
        crew = _workers(bereft.pid)
        assert len(crew) == workers
        os.kill(crew[0], signal.SIGKILL)
        _, printed = bereft.communicate(timeout=60)
        assert bereft.returncode == 1
        assert printed.strip().splitlines()[-1] == (
            "microevo: error: a worker process was ended by SIGKILL, as happens when memory runs out; what is complete is "
            "kept: give the command again, with fewer workers or a smaller batch_size"
        )
        assert "Traceback" not in printed
        assert _all_end(bereft.pid)

    stopped = _start(tmp_path, *several)
    _wait_for(_written(store) + 2, store, stopped)
    os.killpg(stopped.pid, signal.SIGINT)  # Ctrl-C reaches every process
    _, printed = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert printed.strip().splitlines()[-1] == "microevo: interrupted; the same command resumes"
    assert "Traceback" not in printed
    assert _all_end(stopped.pid)

    main(["simulate", "--config", "recipe.yaml", "--batch_size=9"])
    assert "18 trajectories (10 train, 4 val, 4 test) of 12 frames, 64 x 64 pixels" in capsys.readouterr().out
    assert contents(store) == _uninterrupted(recipe, f"{COMMAND} --workers {workers}")


@pytest.mark.slow
def test_workers_end_with_their_parent(tmp_path, recipe):
    orphaned = _start(tmp_path, "--workers", "2")
    _wait_for(1, tmp_path / "a.zarr", orphaned)
    assert len(_workers(orphaned.pid)) == 2
    orphaned.kill()
    orphaned.wait()
    assert _all_end(orphaned.pid)


@pytest.mark.slow
def test_ctrl_c_while_workers_start_is_quiet(tmp_path, recipe):
    started = _start(tmp_path, "--workers", "3")
    while len(_workers(started.pid)) < 3:
        time.sleep(0.01)
    os.killpg(started.pid, signal.SIGINT)
    _, printed = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "Traceback" not in printed
    assert _all_end(started.pid)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_kills_at_random_moments_leave_a_store_that_can_be_finished(tmp_path, recipe, microevo, seed):
    store, random = tmp_path / "a.zarr", np.random.default_rng(seed)
    outcomes = []
    for _ in range(5):
        running = _start(tmp_path, "--workers", "3")
        while running.poll() is None and len(_workers(running.pid)) < 3:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 5))
        crew = _workers(running.pid)
        if crew and random.random() < 0.5:
            os.kill(int(random.choice(crew)), signal.SIGKILL)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
        running.communicate(timeout=60)
        outcomes.append(running.returncode)
        assert _all_end(running.pid)
        if running.returncode == 0:
            break
        assert not store.exists() or not TrajectoryStore.open(store, unfinished=True).attributes["complete"]
    assert set(outcomes) & {1, -9}, outcomes
    assert microevo("simulate", "--config", "recipe.yaml").returncode == 0
    assert contents(store) == _uninterrupted(recipe, f"{COMMAND} --workers 3")


@pytest.mark.slow
@pytest.mark.parametrize("ranges", [("0:9", "9:18"), ("0:12", "6:18")], ids=["apart", "overlapping"])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_array_of_jobs_that_are_killed_ends_in_the_same_bytes(tmp_path, recipe, microevo, ranges, seed):
    store, random = tmp_path / "a.zarr", np.random.default_rng(seed)
    for _ in range(3):
        jobs = [_start(tmp_path, f"--trajectories={part}") for part in ranges]  # both find no store
        _wait_for(_written(store) + 1, store, jobs[0])
        for job in jobs:
            time.sleep(random.uniform(0, 0.3))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)
            job.communicate()
    if seed:  # both to the end, where they may finish the store at the same moment
        jobs = [_start(tmp_path, f"--trajectories={part}") for part in ranges]
        printed = [job.communicate(timeout=120)[0] for job in jobs]
        assert [job.returncode for job in jobs] == [0, 0]
        assert any("18 trajectories (10 train" in words for words in printed)
    else:
        assert microevo("simulate", "--config", "recipe.yaml").returncode == 0
    assert contents(store) == _uninterrupted(recipe, COMMAND)


@pytest.mark.slow
def test_a_job_says_what_is_missing_and_how_to_finish(tmp_path, recipe, capsys):
    words = ["simulate", "--config", "recipe.yaml", "--frames=2", "--process.init_args.grid.shape=[16,16]"]
    main([*words, "--trajectories", "16:18"])
    printed = capsys.readouterr().out
    store = TrajectoryStore.open("a.zarr", unfinished=True)
    assert "a.zarr: trajectories 16:18 are there, 16 of 18 are still missing" in printed
    assert printed.strip().endswith(f"as does: {store.attributes['command']}")
    assert store.attributes["command"] == f"{COMMAND} --frames=2 '--process.init_args.grid.shape=[16,16]'"
    main([*words, "--trajectories=0:16"])
    assert "a.zarr: 18 trajectories (10 train, 4 val, 4 test) of 2 frames" in capsys.readouterr().out
    assert TrajectoryStore.open("a.zarr").attributes["command"] == store.attributes["command"]


@pytest.mark.slow
def test_a_range_in_a_config_file_is_not_in_the_command_that_finishes(tmp_path, recipe):
    recipe.write_text(recipe.read_text() + "trajectories: '3:4'\n")
    words = ["simulate", "--config", "recipe.yaml", "--frames=2", "--process.init_args.grid.shape=[16,16]"]
    main(words)
    command = shlex.split(TrajectoryStore.open("a.zarr", unfinished=True).attributes["command"])
    assert command[-2:] == ["--trajectories", ":"]
    main(command[3:])
    assert TrajectoryStore.open("a.zarr").attributes["complete"]
