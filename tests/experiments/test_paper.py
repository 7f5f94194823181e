"""The job of a borrowed GPU: what its schedule promises, and its rehearsal."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "experiments" / "paper"


sys.path.insert(0, str(PAPER))  # as the script has it
schedule = importlib.import_module("schedule")


class Job:
    """Parts that note when they run, and a schedule for them."""

    def __init__(self, folder: Path, seconds: float = 30.0) -> None:
        self.folder, self.seconds = folder, seconds
        self.ran: list[str] = []
        self.parts: list = []
        self.budgets: dict[str, float] = {}

    def add(
        self,
        name: str,
        lane: str = "device",
        share: float = 1.0,
        least: float = 0.0,
        needs: tuple = (),
        work=None,
        **more,
    ):
        def run(seconds: float) -> dict:
            self.ran.append(name)
            self.budgets[name] = seconds
            return {"told": name} if work is None else work(seconds)

        self.parts.append(schedule.Part(name, lane, share, least, run, needs, **more))

    def run(self) -> dict:
        made = schedule.Schedule(self.parts, self.seconds, self.folder / "state.json", self.folder / "log.txt")
        made.run()
        return made.records


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_time_that_is_left_over_goes_to_later_parts(job: Job):
    job.add("first", share=1)
    job.add("second", share=1)
    job.add("third", share=2)
    assert {record["status"] for record in job.run().values()} == {"done"}
    assert job.budgets["first"] == pytest.approx(7.5, abs=1)
    assert job.budgets["second"] == pytest.approx(10, abs=1)
    assert job.budgets["third"] == pytest.approx(30, abs=1)


def test_a_part_that_no_longer_fits_is_skipped_with_a_sentence(job: Job):
    job.add("short", share=1, least=60)
    job.add("after", share=1)
    records = job.run()
    assert records["short"]["status"] == "skipped"
    assert records["short"]["why"].startswith("it needs 60 s and 15 s were left")
    assert job.ran == ["after"]


def test_lanes_run_at_once_and_wait_for_each_other(job: Job):
    started = threading.Event()

    def simulate(seconds: float) -> dict:
        assert started.wait(10)
        return {}

    job.add("other", work=lambda seconds: started.set() or {})
    job.add("training", needs=("data",))
    job.add("data", lane="cores", work=simulate)
    job.run()
    assert sorted(job.ran[:2]) == ["data", "other"]
    assert job.ran[2] == "training"


def test_what_needs_a_failed_part_is_skipped(job: Job):
    def fail(seconds: float) -> dict:
        raise schedule.PartError("there is no data")

    job.add("data", lane="cores", work=fail)
    job.add("training", needs=("data",))
    records = job.run()
    assert records["data"]["why"] == "there is no data"
    assert records["training"] == records["training"] | {"status": "skipped", "why": "data is not done"}


def test_a_later_call_does_the_rest(job: Job):
    broken = [True]

    def sometimes(seconds: float) -> dict:
        if broken[0]:
            raise schedule.PartError("not now")
        return {}

    job.add("data", lane="cores")
    job.add("training", needs=("data",), work=sometimes)
    job.add("benchmark", needs=("data",), current=lambda record: False)
    job.run()
    broken[0] = False
    assert job.run()["training"]["status"] == "done"
    assert sorted(job.ran) == ["benchmark", "benchmark", "data", "training", "training"]


def test_what_may_be_stale_keeps_its_share(job: Job):
    job.add("benchmark of one", current=lambda record: "training" not in job.ran)
    job.run()
    job.parts.clear()
    job.add("training", share=1)
    job.add("benchmark of one", share=2, current=lambda record: "training" not in job.ran)
    job.run()
    assert job.ran == ["benchmark of one", "training", "benchmark of one"]
    assert job.budgets["training"] == pytest.approx(10, abs=1)


def test_a_command_is_stopped_when_its_time_is_up(job: Job):
    made = schedule.Schedule([], 30, job.folder / "state.json", job.folder / "log.txt")
    slow, failing = job.folder / "slow.py", job.folder / "failing.py"
    slow.write_text("import time; time.sleep(600)")
    failing.write_text("print('told'); raise SystemExit(3)")
    with pytest.raises(schedule.PartError, match="not done after 1 s"):
        made.command([str(slow)], 1)
    with pytest.raises(schedule.PartError, match="exit code 3"):
        made.command([str(failing)], 60)
    assert "told" in (job.folder / "log.txt").read_text()


def rehearse(folder: Path, minutes: float = 6) -> subprocess.Popen:
    """As `make paper SCALE=tiny`, with time for a busy machine; in a process group of its own, as from a terminal."""
    words = [sys.executable, PAPER / "paper.py", "--scale", "tiny", "--minutes", minutes]
    words += ["--out", folder / "out", "--work", folder / "work"]
    return subprocess.Popen(list(map(str, words)), start_new_session=True, stdout=subprocess.PIPE, text=True)


def state(folder: Path) -> dict:
    path = folder / "work" / "state.json"
    return json.loads(path.read_text()) if path.exists() else {}


@pytest.mark.slow
def test_the_rehearsal_survives_a_kill(tmp_path: Path):
    first = rehearse(tmp_path)
    deadline = time.monotonic() + 600
    while state(tmp_path).get("FCN on grain-growth", {}).get("status") != "done":
        assert first.poll() is None, first.stdout.read() if first.stdout else ""
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(3)  # into the next part
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = {name for name, record in state(tmp_path).items() if record["status"] == "done"}
    assert {"probe", "FCN on grain-growth"} <= before
    assert json.loads((tmp_path / "out" / "paper.json").read_text())["parts"]["probe"]["status"] == "done"

    second = rehearse(tmp_path)
    printed, _ = second.communicate(timeout=900)
    assert second.returncode == 0, printed
    records = state(tmp_path)
    assert {name: record["status"] for name, record in records.items() if record["status"] != "done"} == {}, printed
    assert "] probe" not in printed  # it was done by the first call
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) <= 8
    assert sum(path.stat().st_size for path in files) < 100e6
    assert {"log.txt", "paper.json", "paper.md", "paper.png", "results.tar"} <= {path.name for path in files}
    record = json.loads((tmp_path / "out" / "paper.json").read_text())
    assert {row["model"] for row in record["scores"]} == {
        *("FCN", "ConvLSTM", "PredRNN", "PredRNN++", "LocalNet", "Persistence")
    }
    assert {row["benchmark"] for row in record["scores"]} >= {"grain-growth", "spinodal-published"}
    recurrent = next(row for row in record["speed"] if row["model"] == "ConvLSTM")
    assert recurrent["paper"] == 17.6
    assert recurrent["times_fcn_alone"] > 0

    from safetensors.torch import load_file

    weights = {
        name: value for path in files if path.suffix == ".safetensors" for name, value in load_file(path).items()
    }
    path = tmp_path / "work" / "runs" / "grain-growth-fcn" / "checkpoints" / "last.ckpt"
    trained = torch.load(path, weights_only=True)["state_dict"]
    assert weights.keys() == trained.keys()
    for name, value in trained.items():
        torch.testing.assert_close(weights[name].to(value), value, rtol=1e-3, atol=1e-6)
