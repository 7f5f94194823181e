"""Trains the trials of a sweep, several at a time, together with other runners on the same folder."""

import ctypes
import json
import math
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from optuna.trial import TrialState

from microevo.provenance import write_file
from microevo.sweep.file import read_sweep
from microevo.sweep.lease import PATIENCE
from microevo.sweep.report import CALLBACK, draw, write_report
from microevo.sweep.space import flat
from microevo.sweep.trials import Claim, Trials, best_of

HISTORY = "validation.jsonl"
LOG = "log.txt"
POLL = 0.05  # seconds between two looks at the processes
LOOK = 2.0  # seconds between two looks at what they have measured, and at the other runners
KILL_DELAY = 60.0  # seconds that a training has to save itself
FAILURES = 3  # first trials that may fail before it is clear that the sweep is at fault
# A trial is a run of its own, also where this process is one of several that `wandb agent`, `srun` or `torchrun` has started:
# Lightning would wait for the others, or take the trial for a part of theirs that writes nothing.
OF_OTHERS = (
    *("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "MICROEVO_RUN_DIR"),
    *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE"),
)
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux
LIBC = ctypes.CDLL(None)


def run(config: str, output: str | None = None, trials: int | None = None, jobs: int = 1, seed: int = 0) -> None:
    """Search for good settings as a W&B sweep file says, without W&B's server.

    Args:
        config: W&B sweep file.
        output: Folder of the sweep: the journal, a folder for each trial, tables and pictures. Runners with the same folder,
            on one or several machines, share the work, and the same command resumes what was interrupted. Default:
            runs/sweeps/<name of the sweep>.
        trials: Trials that all runners begin together, those that failed too. Default: `run_cap` of the file, or all
            combinations of a grid.
        jobs: Trials at a time of this runner. Each gets its share of the GPUs and, unless OMP_NUM_THREADS is set, of the cores.
        seed: Seed of what is suggested.

    Raises:
        ValueError: The sweep cannot be understood, or has no end.
        RuntimeError: All trials fail.
    """
    sweep = read_sweep(config)
    if trials is None and sweep.run_cap is None and sweep.method != "grid":
        raise ValueError(f"{config} searches without an end; say how many trials with --trials")
    if min(jobs, 1 if trials is None else trials) < 1:
        raise ValueError(f"--jobs is {jobs} and --trials is {trials}, but both must be at least 1")
    folder = Path(output) if output else Path("runs/sweeps") / sweep.name
    runner = _Runner(Trials(sweep, folder, seed, sweep.run_cap if trials is None else trials), jobs)
    runner.work()


@dataclass
class _Job:
    """A trial whose training runs."""

    claim: Claim
    process: subprocess.Popen[bytes]
    began: float
    stopped: float | None = None  # when it was asked to stop


class _Runner:
    def __init__(self, trials: Trials, jobs: int) -> None:
        self.trials, self.sweep = trials, trials.sweep
        self.jobs: list[_Job | None] = [None] * jobs
        self.failures = 0

    def work(self) -> None:
        """Train trials until none is left."""
        before = signal.signal(signal.SIGTERM, _end)
        try:
            self._loop()
        finally:
            self._end_jobs()
            signal.signal(signal.SIGTERM, before)
            write_report(self.trials)
        draw(self.trials)
        if left := self.trials.unfinished():
            print(f"trial {', '.join(map(str, left))}: still trained by another runner, which will complete the table")
        best = self.trials.best()
        if best is not None:
            print(
                f"best {self.sweep.metric}: {best.value:.4g} in trial {best.number}; the table: {self.trials.folder}/README.md"
            )
            print(
                f"next: {shlex.join(['python', '-m', 'microevo', 'fit', '--config', f'{self.trials.folder}/best.yaml'])}"
            )

    def _loop(self) -> None:
        idle, looked = time.monotonic(), -math.inf
        while True:
            for slot, job in enumerate(self.jobs):
                if job is not None and job.process.poll() is not None:
                    self.jobs[slot] = None
                    self._finish(job)
                    looked = -math.inf
            if time.monotonic() - looked > LOOK:
                looked = time.monotonic()
                for job in filter(None, self.jobs):
                    self._look(job)
                for slot in [slot for slot, job in enumerate(self.jobs) if job is None]:
                    if (claim := self.trials.claim()) is None:
                        break
                    self.jobs[slot] = self._start(claim, slot)
                if any(self.jobs):
                    idle = time.monotonic()
                # A trial that a killed runner has left can be taken up as soon as that is certain.
                elif not self.trials.unfinished() or time.monotonic() - idle > PATIENCE + LOOK:
                    return
            time.sleep(POLL)

    def _start(self, claim: Claim, slot: int) -> _Job:
        number, folder = claim.trial.number, claim.folder
        settings = folder / "settings.json"
        write_file(settings, json.dumps(claim.settings, indent=2) + "\n")
        words = self.sweep.words(claim.settings, settings)
        callback = {"class_path": CALLBACK, "init_args": {"file": HISTORY}}
        words += [f"--run_dir={folder}", "--ckpt_path=last", f"--trainer.callbacks+={json.dumps(callback)}"]
        spoken = {name: f"{x:.4g}" if isinstance(x, float) else x for name, x in flat(claim.settings).items()}
        print(f"trial {number}: {', '.join(f'{name} {x}' for name, x in spoken.items())}", flush=True)
        with (folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                words,
                env=self._environment(number, slot),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[claim.lease.descriptor],
                process_group=0,  # Ctrl-C reaches this process, which then ends the training
                preexec_fn=_end_with_parent if hasattr(LIBC, "prctl") else None,
            )
        return _Job(claim, process, time.monotonic())

    def _environment(self, number: int, slot: int) -> dict[str, str]:
        """Settings of W&B, and this job's share of the machine."""
        environment = {name: value for name, value in os.environ.items() if name not in OF_OTHERS}
        environment |= {"WANDB_RUN_GROUP": self.sweep.name, "WANDB_NAME": f"{self.sweep.name}-{number}"}
        environment["WANDB_TAGS"] = ",".join(filter(None, [os.environ.get("WANDB_TAGS"), "sweep", self.sweep.method]))
        environment.setdefault("WANDB_MODE", "offline")
        jobs = len(self.jobs)
        if jobs > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // jobs)))
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            devices = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
            if devices:
                environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices[slot::jobs] or [devices[slot % len(devices)]])
        return environment

    def _look(self, job: _Job) -> None:
        """Show that the trial is worked on, and stop it if it is a poor one."""
        job.claim.lease.renew()
        if job.stopped is None:
            if self.trials.report(job.claim, read_history(job.claim.folder / HISTORY, self.sweep.metric)):
                job.stopped = time.monotonic()
                job.process.terminate()
        elif time.monotonic() - job.stopped > KILL_DELAY:
            os.killpg(job.process.pid, signal.SIGKILL)

    def _finish(self, job: _Job) -> None:
        """Note how a trial ended.

        Raises:
            RuntimeError: The first ones all failed.
        """
        code, number = job.process.wait(), job.claim.trial.number
        values = read_history(job.claim.folder / HISTORY, self.sweep.metric)
        notes: dict[str, Any] = {
            "best": best_of(values, self.sweep.maximize),
            "validations": len(values),
            "minutes": round((time.monotonic() - job.began) / 60, 2),
        }
        if job.stopped is None:
            self.trials.report(job.claim, values)  # for the others; this one has ended
        said = (
            f"{self.sweep.metric} {math.nan if notes['best'] is None else notes['best']:.4g}, {len(values)} validations"
        )
        failed = job.stopped is None and (code != 0 or notes["best"] is None)
        if failed:
            notes["reason"] = _reason(job.claim.folder / LOG, code, self.sweep.metric, values)
            said = f"failed: {notes['reason']}"
            self.failures += 1
        state = TrialState.FAIL if failed else TrialState.COMPLETE if job.stopped is None else TrialState.PRUNED
        self.trials.finish(job.claim, state, **notes)
        print(f"trial {number}: {said}{', stopped early' * (job.stopped is not None)}", flush=True)
        write_report(self.trials)
        states = {trial.state for trial in self.trials.all()}
        if self.failures >= min(FAILURES, self.trials.most) and states <= {TrialState.FAIL, TrialState.RUNNING}:
            raise RuntimeError(
                f"no trial has succeeded and {self.failures} failed, the last with: {notes['reason']} "
                f"(see {job.claim.folder / LOG}); correct that, and remove {self.trials.folder} to begin again"
            )

    def _end_jobs(self) -> None:
        """Let the trainings that run save themselves; they stay unfinished, and whoever comes next resumes them."""
        running = [job for job in self.jobs if job is not None]
        self.jobs = [None] * len(self.jobs)
        if not running:
            return
        numbers = ", ".join(str(job.claim.trial.number) for job in running)
        print(f"trial {numbers}: interrupted; the same command resumes it", flush=True)
        try:
            for job in running:
                job.process.terminate()
            deadline = time.monotonic() + KILL_DELAY
            for job in running:
                job.process.wait(max(0.0, deadline - time.monotonic()))
        finally:  # also when it takes too long, for the clock or for who pressed Ctrl-C again
            for job in running:
                if job.process.poll() is None:
                    os.killpg(job.process.pid, signal.SIGKILL)
                    job.process.wait()
                job.claim.lease.release()


def read_history(path: Path, metric: str) -> list[float]:
    """What the validations of a training measured so far, in their order; of several after the same step the last one."""
    values: dict[int, float] = {}
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        if not line.endswith("\n"):  # it is being written
            continue
        try:
            logged = json.loads(line)
        except ValueError:  # a training that was killed left the beginning of a line
            continue
        if metric in logged:
            values[logged["step"]] = float(logged[metric])
    return [values[step] for step in sorted(values)]


def _reason(log: Path, code: int, metric: str, values: Sequence[float]) -> str:
    """Why a trial failed, in one line."""
    if code == 0:
        what = f"{metric} was never finite" if values else f"no validation logged {metric}"
        return f"{what}, in {len(values)} validations" if values else what
    lines = [line.strip() for line in re.split(r"[\r\n]+", log.read_text(errors="replace")) if line.strip()]
    errors = [line for line in lines if line.startswith("microevo: error: ")]
    last = (errors or lines or ["it wrote nothing"])[-1].removeprefix("microevo: error: ")
    return f"killed by {signal.Signals(-code).name}, after: {last}" if code < 0 else last


def _end(number: int, *_: object) -> None:
    raise SystemExit(128 + number)


def _end_with_parent() -> None:
    """Let the training save itself and end when its runner is killed."""
    LIBC.prctl(DEATH_SIGNAL, signal.SIGTERM)
