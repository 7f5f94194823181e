"""Does interrupted work end as work that was not interrupted? Real signals at random moments, round after round.

    make soak
    python experiments/soak/soak.py --rounds 20 --seed 1

In each round one command of microevo runs in a process of its own and is sent SIGKILL, SIGTERM, SIGUSR1 or Ctrl-C up to three
times, each time at a random moment, after which the same command is given again. What it has made in the end is compared bit
for bit with what it makes without interruption. After the last round the figures are written into README.md. Ctrl-C ends the
soak itself, and shows what was done until then.
"""

import argparse
import collections
import os
import platform
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from microevo.cli import main as microevo
from microevo.data import TrajectoryStore
from microevo.provenance import versions, write_file

README = Path(__file__).with_name("README.md")
FIGURES = "## The last figures\n"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
# But for what Python itself reports of a destructor, as of an event loop whose making was interrupted: no program can catch it.
TRACEBACK = re.compile(r"^(?!Exception ignored).*\nTraceback|\ATraceback", re.MULTILINE)
STORE = "data.zarr"
SIMULATE = ["simulate", "--process=SpinodalDecomposition", "--process.grid.shape=[16, 16]", "--process.first_frame=20"]
EMA = {"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.9, "use_buffers": False}}
FITS: dict[str, dict[str, Any]] = {
    "fcn": {
        "model": {"class_path": "FCN", "init_args": {"hid_s": 2, "hid_t": 4, "n_s": 2, "n_t": 2, "drop_path": 0.2}},
        "callbacks": [
            EMA,
            {"class_path": "InputNoise", "init_args": {"std": 0.3}},
            {"class_path": "Unrolling", "init_args": {"frames": [4, 8], "gradient": "last"}},
        ],
    },
    "convlstm": {
        "model": {"class_path": "ConvLSTM", "init_args": {"hidden": [4]}},
        "trainer": {"accumulate_grad_batches": 2, "val_check_interval": 5},
        "callbacks": [
            {"class_path": "Unrolling", "init_args": {"frames": [4, 8]}},
            {"class_path": "SaveLast", "init_args": {"every_n_steps": 2}},
        ],
    },
    "local": {
        "model": {"class_path": "LocalNet", "init_args": {"widths": [4], "blocks": 1}},
        "data": {"num_workers": 2},
        "trainer": {"val_check_interval": 7, "check_val_every_n_epoch": None},
        "callbacks": [EMA],
    },
}


@dataclass(frozen=True)
class Task:
    """A command, and what counts of what it makes.

    Attributes:
        command: Its words.
        output: What it writes.
        result: Reads that from the output.
    """

    command: list[str]
    output: str
    result: Callable[[Path], Any]


@dataclass(frozen=True)
class Reference:
    """What a task makes without interruption, and how long that takes [s]."""

    result: Any
    seconds: float


def tasks() -> dict[str, Task]:
    """The commands that are interrupted; those of `fit` take turns."""
    fits = {
        f"fit {name}": Task(
            ["fit", "--config", f"{name}.yaml", "--run_dir", "run", "--ckpt_path", "last"], "run", _weights
        )
        for name in FITS
    }
    simulate = [*SIMULATE, "--splits", "{train: 24}", "--frames=40", "--batch_size=4", "--output=made.zarr"]
    score = ["benchmark", "--config", "benchmark.yaml", "--output=scores"]
    return {
        "simulate": Task(simulate, "made.zarr", _trajectories),
        **fits,
        "benchmark": Task(score, "scores", _scores),
    }


def prepare() -> None:
    """Make the data, the configs and a trained network in the present folder, and import all that the commands need.

    Their processes are forked from this one, and begin at once.
    """
    microevo([*SIMULATE, "--splits", "{train: 5, val: 3, test: 3}", "--frames=24", f"--output={STORE}"])
    for name, own in FITS.items():
        best = {"monitor": "val/mse", "filename": "best", "auto_insert_metric_name": False}
        data = {"store": STORE, "fields": ["c"], "n_past": 4, "n_future": 8, "horizon": 8, "batch_size": 5}
        config = {
            "data": {"symmetries": ["shift", "flip", "rotate"], **data, **own.get("data", {})},
            "model": {**own["model"], "init_args": own["model"]["init_args"] | {"lr": 0.01}},
            "trainer": {
                "accelerator": "cpu",
                "devices": 1,
                "max_epochs": 3,
                "gradient_clip_val": 1.0,
                "logger": False,
                "enable_progress_bar": False,
                **own.get("trainer", {}),
                "callbacks": [{"class_path": "ModelCheckpoint", "init_args": best}, *own["callbacks"]],
            },
        }
        config["data"] = {"class_path": "TrajectoryDataModule", "init_args": config["data"]}
        Path(f"{name}.yaml").write_text(yaml.safe_dump(config))
    microevo(["fit", "--config", "local.yaml", "--run_dir", "trained", "--data.init_args.num_workers=0"])
    protocols = {"4->8": {"store": STORE, "n_past": 4, "horizon": 8}}
    settings = {"protocols": protocols, "checkpoints": {"LocalNet": "trained/checkpoints/best.ckpt"}, "repeats": 0}
    Path("benchmark.yaml").write_text(yaml.safe_dump({**settings, "batch_size": 1, "device": "cpu"}))
    microevo([*tasks()["benchmark"].command[:3], "--output=first"])


def soak(rounds: int, seed: int, folder: Path) -> list[tuple[str, list[str], bool]]:
    """Do the rounds in a folder, and say what was done: the command, the signals, and whether the result was the same."""
    os.chdir(folder)
    print(f"soak: {rounds} rounds, seed {seed}, in {folder}", flush=True)
    prepare()
    known, moments = tasks(), random.Random(seed)
    references: dict[str, Reference] = {}
    for name, task in known.items():
        start = time.monotonic()
        _wait(_start(task.command, Path("reference.log")), "reference.log")
        references[name] = Reference(task.result(Path(task.output)), time.monotonic() - start)
        _remove(task.output)
        print(f"{name}: {references[name].seconds:.1f} s without interruption", flush=True)
    done: list[tuple[str, list[str], bool]] = []
    try:
        for number in range(1, rounds + 1):
            # Every other round trains, the networks in turn.
            fits = [name for name in known if name.startswith("fit")]
            name = fits[number // 2 % len(fits)] if number % 2 else ("simulate", "benchmark")[number // 2 % 2]
            sent, same = one_round(known[name], references[name], moments)
            done.append((name, [which for which, _ in sent], same))
            story = ", ".join(f"{which} at {seconds:.2f} s" for which, seconds in sent) or "ended before every signal"
            print(f"round {number:3d}  {name:12s}  {story}: {'identical' if same else 'NOT identical'}", flush=True)
            if same:
                _remove(known[name].output)
            else:
                Path(known[name].output).rename(f"round-{number}")
                for log in Path().glob("round.*.log"):
                    log.rename(Path(f"round-{number}") / log.name)
    except KeyboardInterrupt:
        print(f"\nsoak: interrupted after {len(done)} rounds", file=sys.stderr)
        done.append(("", [], False))  # tells that it is not complete
    return done


def one_round(task: Task, reference: Reference, moments: random.Random) -> tuple[list[tuple[str, float]], bool]:
    """Interrupt a task up to three times, then let it end.

    Returns:
        The signals that met it with their moments [s], and whether the result is that of the reference.
    """
    for old in Path().glob("round.*.log"):
        old.unlink()
    sent: list[tuple[str, float]] = []
    logs: list[Path] = []  # of the processes that end as they should, so that none prints a traceback
    for attempt in range(moments.randint(1, 3)):
        number, moment = moments.choice(SIGNALS), moments.uniform(0, reference.seconds)
        log = Path(f"round.{attempt}.log")
        child = _start(task.command, log)
        try:
            time.sleep(moment)
        except KeyboardInterrupt:
            _end(child)
            raise
        if os.waitpid(child, os.WNOHANG)[0]:
            logs.append(log)
            break  # it had ended
        os.kill(child, number)
        # What ends within its last moments is not interrupted; Ctrl-C and SIGTERM are answered between two steps.
        sent.append((signal.Signals(number).name, moment))
        _join(child)
        if number != signal.SIGKILL:  # which the loader processes that are left complain of
            logs.append(log)
    logs.append(Path("round.end.log"))
    clean = _join(_start(task.command, logs[-1])) == 0 and not any(TRACEBACK.search(log.read_text()) for log in logs)
    return sent, clean and _same(task.result(Path(task.output)), reference.result)


def _start(words: list[str], log: Path) -> int:
    """Run a command in a new process, and return its number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setpgid(0, 0)  # the Ctrl-C of the terminal is for the soak
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        microevo(words)
        code = 0
    except SystemExit as leave:
        code = int(leave.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _join(child: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except KeyboardInterrupt:
        _end(child)
        raise


def _end(child: int) -> None:
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _wait(child: int, log: str) -> None:
    if code := _join(child):
        raise SystemExit(f"soak: a command failed with exit code {code}:\n{Path(log).read_text()[-2000:]}")


def _remove(output: str) -> None:
    for path in Path().glob(f"{Path(output).stem}*"):  # with its preview
        if path.suffix not in (".yaml", ".log"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _weights(run: Path) -> dict[str, Any]:
    """Weights, their average, the optimiser and its schedule; and that no part of a checkpoint is left."""
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    names = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "global_step")
    parts = sorted(path.name for path in (run / "checkpoints").glob(".*"))
    return {name: last[name] for name in names if name in last} | {"parts": parts}


def _trajectories(path: Path) -> dict[str, Any]:
    """All frames and the record of their values."""
    store = TrajectoryStore.open(path)
    frames = np.stack([store.read(i) for i in range(len(store))])
    return {"frames": frames, "fingerprint": store.fingerprint, "complete": store.attributes["complete"]}


def _scores(folder: Path) -> dict[str, Any]:
    """The long table, in one order: its numbers are written so that they can be read back exactly."""
    rows = sorted(pd.read_parquet(folder / "table").to_csv(index=False).splitlines())
    return {"rows": rows, "page": (folder / "report.html").exists()}


def _same(one: Any, other: Any) -> bool:
    """Whether two results are equal bit for bit."""
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, torch.Tensor | np.ndarray):
        return one.shape == other.shape and bool((one == other).all())
    return one == other


def summary(done: list[tuple[str, list[str], bool]]) -> str:
    """A table in Markdown: rounds and signals of each command, and how many of its results were the same."""
    rows = collections.defaultdict(lambda: {which.name: 0 for which in SIGNALS} | {"rounds": 0, "same": 0})
    for name, sent, same in done:
        if name:
            rows[name]["rounds"] += 1
            rows[name]["same"] += same
            for which in sent:
                rows[name][which] += 1
    total = {key: sum(row[key] for row in rows.values()) for key in next(iter(rows.values()), {})}
    head = "| command | rounds | SIGKILL | SIGTERM | SIGUSR1 | SIGINT | identical | not |\n|---|" + "---:|" * 7
    lines = [head]
    for name, row in [*sorted(rows.items()), ("**all**", total)] if rows else []:
        signals = " | ".join(str(row[which.name]) for which in SIGNALS)
        lines.append(f"| {name} | {row['rounds']} | {signals} | {row['same']} | {row['rounds'] - row['same']} |")
    return "\n".join(lines)


def main() -> None:
    """Read the options, soak, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readme", type=Path, default=README, help="file that the figures are written into")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, but it is {args.rounds}")
    torch.set_num_threads(1)
    os.environ["WANDB_MODE"] = "offline"
    readme, start = args.readme.resolve(), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="microevo-soak-"))
    done = soak(args.rounds, args.seed, folder)
    table = summary(done)
    print(table)
    complete, bad = len(done) == args.rounds, [entry for entry in done if entry[0] and not entry[2]]
    if bad:
        print(f"soak: {len(bad)} results differ; they are kept in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    if complete:
        minutes = (time.monotonic() - start) / 60
        machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, one thread"
        known = ", ".join(
            f"{name} {number}" for name, number in versions().items() if name in ("python", "torch", "lightning")
        )
        figures = f"`soak.py --rounds {args.rounds} --seed {args.seed}`: {minutes:.0f} minutes on {machine}; {known}."
        text = readme.read_text() if readme.exists() else FIGURES
        write_file(readme, text.partition(FIGURES)[0] + f"{FIGURES}\n{figures}\n\n{table}\n")
    raise SystemExit(1 if bad else 0 if complete else 130)


if __name__ == "__main__":
    main()
