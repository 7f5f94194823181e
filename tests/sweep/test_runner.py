import json
import multiprocessing
import os
import platform
import signal
import sys
import time

import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState
from sweeping import PROGRAM, fast_sweep

from microevo.sweep import lease, read_sweep, runner
from microevo.sweep.trials import Trials

X = {"x": {"min": -4.0, "max": 4.0}}
SLOW = PROGRAM.replace("time.sleep(", "time.sleep(0 if step + 1 < len(history.read_text().splitlines()) else ").replace(
    "for step", "history = folder / 'validation.jsonl'\nfor step"
)  # the second time it finds what it has written, and ends


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(runner, "LOOK", 0.02)
    monkeypatch.setattr(runner, "POLL", 0.005)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # which optuna calls for each line of its journal


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr(runner, "draw", lambda trials: None)


def table(folder) -> pd.DataFrame:
    return pd.read_csv(folder / "trials.csv")


def test_a_grid_ends_with_a_table_pictures_and_the_best_setting(tmp_path, cli):
    file = fast_sweep(tmp_path, {"x": {"values": [1, 3]}, "y": {"values": [0.5, 0]}, "steps": {"value": 3}}, "grid")
    out = tmp_path / "out"
    assert cli("sweep", "--config", file, "--output", out).code == 0
    rows = table(out)
    assert rows["val/mse"].tolist() == pytest.approx([1 / 3, 5 / 6, 4 + 1 / 3, 4 + 5 / 6], rel=1e-5)
    assert rows[["x", "y"]].to_numpy().tolist() == [[3, 0], [3, 0.5], [1, 0], [1, 0.5]]
    assert set(rows["state"]) == {"complete"}
    assert set(rows["validations"]) == {3}
    assert yaml.safe_load((out / "best.yaml").read_text()) == {"x": 3, "y": 0, "steps": 3}
    readme = (out / "README.md").read_text()
    assert "4 of 4 trials (4 complete)" in readme
    for picture in ("importance.png", "parallel.png"):
        assert (out / picture).stat().st_size > 10_000
        assert f"]({picture})" in readme
    again = cli("sweep", "--config", file, "--output", out)
    assert "trial 4" not in again.out
    assert f"best val/mse: 0.3333 in trial {rows['trial'][0]}" in again.out
    cli("sweep", "--config", file, "--output", out, "--seed", "1").refusal("another seed", "--output", code=1)
    file = fast_sweep(tmp_path, {"x": {"values": [1, 2]}}, "grid")
    cli("sweep", "--config", file, "--output", out).refusal("another parameters", code=1)


@pytest.mark.parametrize(("method", "count"), [("random", 3), ("bayes", 12)])  # optuna models what it knows after ten
def test_the_same_seed_suggests_the_same_also_after_an_interruption(tmp_path, method, count):
    sweep = read_sweep(fast_sweep(tmp_path, X | {"y": {"min": 1, "max": 90}}, method))

    def suggested(name, *runs, seed=0):
        for most in runs:
            trials = Trials(sweep, tmp_path / name, seed, most)
            while (claim := trials.claim()) is not None:
                trials.finish(claim, TrialState.COMPLETE, best=(claim.settings["x"] - 3) ** 2)
        return [trial.user_attrs["settings"]["x"] for trial in trials.all()]

    straight = suggested("a", count)
    assert len(set(straight)) == count
    assert suggested("b", 1, count - 1, count) == straight
    assert not set(suggested("c", 2, seed=1)) & set(straight)


def test_a_trial_knows_its_sweep_and_its_share_of_the_machine(tmp_path, undrawn, monkeypatch):
    program = PROGRAM + "import os\n(folder / 'env.json').write_text(json.dumps(dict(os.environ)))\n"
    file = fast_sweep(tmp_path, X, program=program, name="parabolas")
    for name in ("WANDB_MODE", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_TAGS", "mine")
    for name in ("WANDB_SWEEP_ID", "SLURM_NTASKS", "SLURM_PROCID"):
        monkeypatch.setenv(name, "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    monkeypatch.chdir(tmp_path)
    runner.run(str(file), trials=2, jobs=2)
    seen = []
    for number in (0, 1):
        seen.append(json.loads((tmp_path / f"runs/sweeps/parabolas/trials/{number:04d}/env.json").read_text()))
        assert seen[-1]["WANDB_MODE"] == "offline"
        assert seen[-1]["WANDB_RUN_GROUP"] == "parabolas"
        assert seen[-1]["WANDB_NAME"] == f"parabolas-{number}"
        assert seen[-1]["WANDB_TAGS"] == "mine,sweep,random"
        assert not {"WANDB_SWEEP_ID", "SLURM_NTASKS", "SLURM_PROCID"} & seen[-1].keys()
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in seen] == ["4,7", "5"]


def test_a_trial_that_fails_is_noted_and_the_sweep_goes_on(tmp_path, undrawn, capsys):
    program = PROGRAM + "if value > 3: print('one'); sys.exit('microevo: error: too large\\n')\n"
    program = program.replace("value = ", "value = float('nan') if options['x'] == '2' else ")
    file = fast_sweep(tmp_path, {"x": {"values": [0, 2, 3]}}, "grid", program)
    runner.run(str(file), str(tmp_path / "out"))
    rows = table(tmp_path / "out")
    assert rows["state"].tolist() == ["complete", "failed", "failed"]
    assert rows["reason"].tolist()[1:] == ["too large", "val/mse was never finite, in 2 validations"]
    assert "trial 0: failed: too large" in capsys.readouterr().out


def test_a_sweep_whose_first_trials_all_fail_ends_with_one_sentence(tmp_path, cli):
    file = fast_sweep(tmp_path, X, program="import sys; sys.exit('there is no such store')")
    done = cli("sweep", "--config", file, "--output", tmp_path / "out", "--trials", "9", "--jobs", "2")
    done.refusal("no trial has succeeded and 3 failed", "there is no such store", str(tmp_path / "out"), code=1)
    assert (table(tmp_path / "out")["state"] == "failed").sum() == 3


def test_poor_trials_are_stopped_early(tmp_path, undrawn):
    parameters = {"x": {"values": [3, 20, 30]}, "steps": {"value": 4}, "pause": {"value": 0.01}}
    endless = PROGRAM.replace('int(options.get("steps", 2))', '4 if options["x"] == "3" else 10**6')
    file = fast_sweep(tmp_path, parameters, "grid", endless, early_terminate={"type": "hyperband", "min_iter": 2})
    runner.run(str(file), str(tmp_path / "out"))
    rows = table(tmp_path / "out")
    assert rows["state"].tolist() == ["complete", "stopped early", "stopped early"]
    assert rows["x"].tolist() == [3, 20, 30]


def test_no_trial_is_begun_after_the_target(tmp_path, undrawn):
    metric = {"name": "val/mse", "goal": "minimize", "target": 1.0}
    file = fast_sweep(tmp_path, {"x": {"values": [1, 3, 2]}}, "grid", metric=metric)
    runner.run(str(file), str(tmp_path / "out"))
    assert table(tmp_path / "out")["x"].tolist() == [3, 1]


def test_ctrl_c_ends_the_trainings_and_the_same_command_resumes_them(tmp_path, undrawn, capsys):
    file = fast_sweep(tmp_path, {"x": {"values": [1, 2]}, "pause": {"value": 60}}, "grid", SLOW)
    out = tmp_path / "out"

    def interrupt(*_):
        if all((out / f"trials/{number:04d}/validation.jsonl").exists() for number in (0, 1)):
            signal.setitimer(signal.ITIMER_REAL, 0)  # once
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            runner.run(str(file), str(out), jobs=2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert "trial 0, 1: interrupted; the same command resumes it" in capsys.readouterr().out
    assert table(out)["state"].tolist() == ["running", "running"]
    runner.run(str(file), str(out), jobs=2)
    assert table(out)["state"].tolist() == ["complete", "complete"]
    assert len(list((out / "trials").iterdir())) == 2


def test_two_runners_share_the_trials_and_take_up_what_the_other_left(tmp_path, monkeypatch):
    sweep = read_sweep(fast_sweep(tmp_path, X))
    ours, theirs = (Trials(sweep, tmp_path / "out", seed=0, most=3) for _ in range(2))
    first, second = ours.claim(), theirs.claim()
    assert [first.trial.number, second.trial.number] == [0, 1]
    first.lease.release()  # as the end of its process does
    again = theirs.claim()
    assert (again.trial.number, again.settings) == (0, first.settings)
    third = ours.claim()
    assert third.trial.number == 2
    assert ours.claim() is theirs.claim() is None
    theirs.finish(again, TrialState.COMPLETE, best=1.0)
    ours.finish(first, TrialState.FAIL)  # too late: it was taken over
    assert ours.unfinished() == [1, 2]
    assert ours.best().number == 0


@pytest.fixture
def another_runner():
    """Starts a runner in a process of its own."""
    started = []

    def start(*args, **options) -> multiprocessing.Process:
        process = multiprocessing.get_context("fork").Process(target=runner.run, args=args, kwargs=options)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_runner_takes_its_trainings_with_it_and_another_one_resumes_them(tmp_path, undrawn, another_runner):
    file = fast_sweep(tmp_path, {"x": {"values": [1, 2]}, "pause": {"value": 60}}, "grid", SLOW)
    history = tmp_path / "out/trials/0000/validation.jsonl"
    killed = another_runner(str(file), str(tmp_path / "out"), trials=1)
    wait_for(history.exists)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    runner.run(str(file), str(tmp_path / "out"), trials=1)
    rows = table(tmp_path / "out")
    assert rows["state"].tolist() == ["complete"]
    assert len(history.read_text().splitlines()) == 3  # one of the first training, two of the second


def test_two_runners_at_once_train_each_trial_once(tmp_path, undrawn, another_runner):
    values = [1, 2, 3]
    file = fast_sweep(tmp_path, {"x": {"values": values}, "pause": {"value": 0.05}}, "grid")
    other = another_runner(str(file), str(tmp_path / "out"))
    runner.run(str(file), str(tmp_path / "out"))
    other.join()
    rows = table(tmp_path / "out")
    assert sorted(rows["x"]) == values
    assert set(rows["state"]) == {"complete"}
    for number in range(3):
        assert len((tmp_path / f"out/trials/{number:04d}/validation.jsonl").read_text().splitlines()) == 2


def test_a_runner_of_another_machine_is_dead_after_long_silence(tmp_path, monkeypatch):
    path = tmp_path / "lease"
    assert lease.is_abandoned(path)
    path.write_text("another machine")
    assert not lease.is_abandoned(path)
    os.utime(path, (time.time() - 2 * lease.PATIENCE,) * 2)
    assert lease.is_abandoned(path)
    held = lease.Lease(path)
    assert path.read_text() == platform.node()
    os.utime(path, (0, 0))
    assert not lease.is_abandoned(path)  # on this machine the lock tells
    monkeypatch.setattr(lease, "BEAT", 0.0)
    held.renew()
    assert path.stat().st_mtime > 0
    held.release()
    assert lease.is_abandoned(path)


def test_what_is_half_written_is_not_read(tmp_path):
    path = tmp_path / "validation.jsonl"
    assert runner.read_history(path, "val/mse") == []
    path.write_text(
        '{"step": 2, "val/mse": 4}\n{"ste{"step": 3}\n{"step": 2, "val/mse": 3}\n{"step": 1, "val/mse": NaN}\n{"step": 9, '
    )
    values = runner.read_history(path, "val/mse")
    assert values[1:] == [3.0]
    assert values[0] != values[0]


def test_without_optuna_one_sentence_says_what_to_install(cli, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("microevo.sweep")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    cli("sweep", "--config", "sweep.yaml").refusal("the package optuna", 'pip install "microevo[sweep]"', code=1)


def test_a_search_without_an_end_is_refused(tmp_path, cli):
    file = fast_sweep(tmp_path, X)
    cli("sweep", "--config", file).refusal("without an end", "--trials", code=1)
    cli("sweep", "--config", file, "--trials", "2", "--jobs", "0").refusal("--jobs is 0", code=1)
    cli("sweep").refusal("config", code=2)
    cli("sweep", "--config", "missing.yaml", "--trials", "2").refusal("missing.yaml", code=1)
