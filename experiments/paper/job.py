"""The parts of the paper's comparison: what each runs, and what of it is recorded."""

import json
import os
import platform
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from collect import collect
from launcher import launcher
from plan import NETWORKS, Data, Scale
from schedule import Part, PartError, Schedule, stays

from microevo.data import TrajectoryStore
from microevo.provenance import git_commit, versions

ROOT = Path(__file__).parents[2]
MICROEVO = ["-m", "microevo"]
CHANNELS_LAST = "microevo.callbacks.ChannelsLast"
GPU_TESTS = 45.0  # seconds, at most


class Paper:
    """The parts of the job, and where they put what they make.

    Args:
        scale: Sizes of everything.
        minutes: Time for all of it.
        work: Folder of stores, runs and results; a later call resumes there.
        out: Folder of what is to be kept.
    """

    def __init__(self, scale: Scale, minutes: float, work: Path, out: Path) -> None:
        self.scale, self.minutes, self.work, self.out = scale, minutes, work, out
        for folder in (work, out):
            folder.mkdir(parents=True, exist_ok=True)
        after = partial(collect, work, out)
        self.schedule = Schedule(self.parts(), 60 * minutes, work / "state.json", out / "log.txt", after, launcher())
        self.cores = max(1, (os.cpu_count() or 1) - (2 if torch.cuda.is_available() else 0))

    def parts(self) -> list[Part]:
        """What is done, the most telling first in each lane."""
        scale, parts = self.scale, []

        def add(name: str, lane: Any, share: float, least: float, work: Any, *needs: str, current: Any = stays) -> None:
            parts.append(Part(name, lane, share, least, work, needs, current))

        add("facts", "device", 0.01, 1, self.facts, current=lambda record: False)
        add("GPU tests", "device", 0.09, 5, self.gpu_tests)
        add("probe", "device", 0.07, 5, self.probe)
        for network, process, share in scale.trainings:
            work = partial(self.train, network, process)
            add(f"{network} on {process}", "device", share, scale.least_training, work, f"data of {process}")
        for process, share in scale.benchmarks:
            work = partial(self.benchmark, process, "")
            name, needs = f"benchmark of {process}", (f"FCN on {process}",)
            current = partial(self._compares_all, process)
            add(name, "device", share, scale.least_benchmark, work, *needs, current=current)
        for process in scale.tests:
            work, name = partial(self.benchmark, process, " at another size"), f"benchmark of {process} at another size"
            needs = (f"FCN on {process}", f"test data of {process}")
            current = partial(self._compares_all, process)
            add(name, "device", scale.larger, scale.least_benchmark, work, *needs, current=current)
        for process, share in (("grain-growth", 0.25), ("spinodal-published", 0.12), ("spinodal", 0.05)):
            add(f"data of {process}", "cores", share, 5, partial(self.simulate, scale.data[process], process))
        for process, data in scale.tests.items():
            add(f"test data of {process}", "cores", 0.29, 5, partial(self.simulate, data, f"{process}-test"))
        return parts

    def facts(self, seconds: float) -> Mapping[str, Any]:
        """What this machine is."""
        gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
        return {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "gpu": gpu and f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB",
            "cuda": torch.version.cuda,
            "git": git_commit(),
            "versions": versions(),
            "minutes": self.minutes,
        }

    def gpu_tests(self, seconds: float) -> Mapping[str, Any]:
        """The tests that need a GPU; they skip with a reason where there is none."""
        files = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
        words = ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *files]
        self.schedule.command(words, min(seconds, GPU_TESTS))
        return {"files": len(files)}

    def probe(self, seconds: float) -> Mapping[str, Any]:
        """Batch, precision and layout of the trainings."""
        scale, output = self.scale, self.work / "probe.json"
        words = ["experiments/paper/probe.py", "--output", str(output)]
        words += ["--models", json.dumps({name: self._model(name) for name in NETWORKS})]
        words += ["--precisions", json.dumps(scale.precisions), "--batches", json.dumps(scale.batches)]
        words += ["--pixels", str(scale.pixels), "--seconds", str(scale.probe_seconds)]
        self.schedule.command(words, seconds)
        return json.loads(output.read_text())

    def simulate(self, data: Data, name: str, seconds: float) -> Mapping[str, Any]:
        """A store, with as many training trajectories as the time allows."""
        path = self.work / f"{name}.zarr"
        if path.exists():  # its number of trajectories was settled by an earlier call
            recipe = TrajectoryStore.open(path, unfinished=True).attributes["recipe"]
            splits = recipe["splits"]
        else:
            fixed = sum(count for split, count in data.splits.items() if split != "train")
            rounds = int(0.6 * seconds / data.seconds) * self.cores  # the rest is for starting, and for busy memory
            splits = dict(data.splits)
            if "train" in splits:
                splits["train"] = min(splits["train"], rounds - fixed)
            elif rounds < fixed:
                raise PartError(f"not begun: {fixed} trajectories need about {data.seconds / 0.6:.0f} s each")
            if splits.get("train", data.least) < data.least:
                raise PartError(
                    f"not begun: there is time for {rounds} trajectories, and {data.least + fixed} are the least"
                )
        words = [*MICROEVO, "simulate", "--config", data.recipe, "--output", str(path), "--splits", json.dumps(splits)]
        words += ["--workers", str(self.cores), "--batch_size", str(self._batch(sum(splits.values()))), *data.options]
        begin = time.monotonic()
        # An unfinished store is of no use: rather than be cut off, it takes time from the stores after it.
        self.schedule.command(words, max(seconds, self.schedule.remaining))
        return {"splits": splits, "simulated_seconds": time.monotonic() - begin}

    def train(self, network: str, process: str, seconds: float) -> Mapping[str, Any]:
        """One network, for the time that there is."""
        run = self._run(network, process)
        choice = self.schedule.records["probe"].get("choice", {}).get(network) or self._untested
        limit = time.gmtime(max(1, int(seconds - self.scale.overhead)))
        config = Path("experiments") / f"{process}-{NETWORKS[network]}.yaml"
        words = [*MICROEVO, "fit", "--config", str(config), "--config", "experiments/paper/training.yaml"]
        settings = {
            "data.init_args.store": self.work / f"{process}.zarr",
            "data.init_args.batch_size": choice["batch"],
            "data.init_args.horizon": self.scale.horizon,
            "data.init_args.cache": "device",
            "trainer.max_time": time.strftime("00:%H:%M:%S", limit),
            "trainer.precision": choice["precision"],
            "run_dir": run,
            "ckpt_path": "last",
        }
        settings |= {f"model.init_args.{name}": value for name, value in self.scale.networks.get(network, {}).items()}
        # A list of callbacks is replaced as a whole; what belongs to the network stays.
        own = yaml.safe_load((ROOT / config).read_text())["trainer"].get("callbacks+", [])
        settings["trainer.callbacks"] = [*([{"class_path": CHANNELS_LAST}] if choice["channels_last"] else []), *own]
        words += [
            f"--{name}={value if isinstance(value, str | Path) else json.dumps(value)}"
            for name, value in settings.items()
        ]
        path, cut = run / "checkpoints" / "last.ckpt", ""
        try:
            self.schedule.command(words, seconds)
        except PartError as error:  # weights that were saved until then are worth testing
            if not path.exists():
                raise
            cut = str(error)
        checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        trained = checkpoint["callbacks"]["Timer"]["time_elapsed"]["train"]
        steps = checkpoint["global_step"]
        return {
            "steps": steps,
            "epochs": checkpoint["epoch"],
            "trained_seconds": trained,
            **choice,
            "windows_per_second": steps * choice["batch"] / trained,
            **({"why": cut} if cut else {}),
        }

    def benchmark(self, process: str, size: str, seconds: float) -> Mapping[str, Any]:
        """Trained networks on test trajectories."""
        scale = self.scale
        store = self.work / f"{process}{'-test' if size else ''}.zarr"
        there = TrajectoryStore.open(store)
        protocol = {"store": str(store), "horizon": scale.horizon}
        if not size:
            protocol["trajectories"] = scale.trajectories
        checkpoints = {
            network: str(self._run(network, process) / "checkpoints" / "last.ckpt")
            for network in self._trained(process)
        }
        output = self.work / "results" / f"{process}{'-size' if size else ''}"
        pixels = "x".join(map(str, there.image_shape))
        name = f"10->{scale.horizon}{f' at {pixels}' if size else ''}"
        words = [
            *MICROEVO,
            "benchmark",
            "--protocols",
            json.dumps({name: protocol}),
            "--checkpoints",
            json.dumps(checkpoints),
        ]
        words += ["--fields", json.dumps(there.fields[:1]), "--output", str(output), "--reference_solver", "false"]
        words += ["--leads", json.dumps([1, 10, scale.horizon])]
        words += ["--repeats", str(0 if size else scale.repeats), "--batch_size", "8" if not size else "1"]
        if torch.cuda.is_available():
            words += ["--processes", str(max(1, min(8, self.cores // 2)))]  # physical quantities are measured on cores
        self.schedule.command(words, seconds)
        return {"output": output.name, "networks": list(checkpoints)}

    def _run(self, network: str, process: str) -> Path:
        """Folder of a training."""
        return self.work / "runs" / f"{process}-{NETWORKS[network]}"

    def _trained(self, process: str) -> list[str]:
        records = self.schedule.records
        return [name for name in NETWORKS if records.get(f"{name} on {process}", {}).get("status") == "done"]

    def _compares_all(self, process: str, record: Mapping[str, Any]) -> bool:
        """Whether a benchmark has all networks that are trained by now."""
        return record["networks"] == self._trained(process)

    @property
    def _untested(self) -> dict[str, Any]:
        """How to train where the probe has not found out what is best."""
        return {"precision": self.scale.precisions[0], "channels_last": True, "batch": self.scale.batches[0]}

    def _model(self, network: str) -> dict[str, Any]:
        model = yaml.safe_load((ROOT / "experiments" / "models" / f"{NETWORKS[network]}.yaml").read_text())
        model["init_args"] |= self.scale.networks.get(network, {})
        return model

    def _batch(self, trajectories: int) -> int:
        """Trajectories that a core simulates at once, so that all cores have some."""
        return max(1, min(8, trajectories // self.cores))
