"""Tiny real things that many tests share."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch  # noqa: F401  (if a test imported it first, its messages would go to what that test captures)
import numpy as np
import pytest
import torch

from microevo.cli import main
from microevo.data import StoreSchema, TrajectoryStore, generate
from microevo.metrics import registry
from microevo.processes import Field, Grid, SpinodalDecomposition

# The same bytes are promised for one thread, and the workers of the test run share the cores already.
torch.set_num_threads(1)
# A shell without job control has its background jobs ignore Ctrl-C, and all that they start inherits that: the processes
# that the tests interrupt would run on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="needs a CUDA device")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, no colours, and no settings or metrics left over from the shell or an earlier run."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(registry, "_METRICS", dict(registry._METRICS))
    for name in ("MICROEVO_RUN_DIR", "MICROEVO_DEBUG", "WANDB_API_KEY", "PL_GLOBAL_SEED"):
        monkeypatch.delenv(name, raising=False)


def small_process(**settings: object) -> SpinodalDecomposition:
    return SpinodalDecomposition(**({"grid": Grid(shape=(16, 16)), "first_frame": 20.0} | settings))


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight simulated trajectories of 24 frames, 16 x 16 pixels: 4 train, 2 val, 2 test."""
    path = tmp_path_factory.mktemp("store") / "small.zarr"
    generate(small_process(), path, splits={"train": 4, "val": 2, "test": 2}, frames=24, seed=1)
    return path


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., TrajectoryStore]:
    """Finished stores of random numbers, in any shape, or of the values (N, T, C, H, W) that are given."""

    def make(
        name: str = "made.zarr",
        *,
        splits: tuple[str, ...] = ("train", "train", "val", "test"),
        frames: int = 6,
        shape: tuple[int, ...] = (4, 5),
        fields: tuple[str, ...] = ("c",),
        values: np.ndarray | None = None,
        **settings: object,
    ) -> TrajectoryStore:
        generator = np.random.default_rng(0)
        if values is None:
            sampled = [generator.random((frames, len(fields), *shape), dtype=np.float32) for _ in splits]
            values = np.stack(sampled)
        layout = StoreSchema(
            fields=tuple(Field(field, field, "1") for field in fields),
            frames=values.shape[1],
            image_shape=values.shape[3:],
            splits=splits,
            process="noise",
            **({"recipe": {}} | settings),
        )
        store = TrajectoryStore.create(tmp_path / name, layout)
        for i, trajectory in enumerate(values):
            store.write(i, trajectory)
        store.finish()
        return TrajectoryStore.open(store.path)

    return make


@pytest.fixture
def microevo(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m microevo ...` in a process of its own."""

    def run(*args: object, cwd: Path = tmp_path, timeout: float = 240, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "microevo", *map(str, args)],
            cwd=cwd,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | env,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs a command in this process, which takes a fraction of the time that a new one needs for its imports."""
    monkeypatch.chdir(tmp_path)
    return lambda *args: main([str(word) for word in args])
