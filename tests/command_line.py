"""Runs of the command line in this process, and the one refusal that a wrong one must end with."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from microevo.cli import main

TINY = """
data:
  class_path: TrajectoryDataModule
  init_args: {store: STORE, fields: [c], n_past: 4, n_future: 3, horizon: 5, batch_size: 2}
model:
  class_path: FCN
  init_args: {hid_s: 2, hid_t: 4, n_s: 2, n_t: 2}
trainer:
  accelerator: cpu
  logger: false
  enable_progress_bar: false
  max_epochs: 2
  limit_train_batches: 1
  callbacks:
    - class_path: ModelCheckpoint
      init_args: {monitor: val/mse, mode: min, filename: best, auto_insert_metric_name: false}
"""
RECIPE = """
output: made.zarr
process:
  class_path: SpinodalDecomposition
  init_args: {grid: {shape: [8, 8]}, first_frame: 5.0}
splits: {train: 2, val: 1, test: 1}
frames: 3
"""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    def refusal(self, *words: str, code: int | None = None) -> str:
        """The one sentence of a command that failed, which names all `words`."""
        assert self.code == code if code else self.code != 0, self
        assert "Traceback" not in self.out + self.err
        lines = [line for line in re.split(r"[\r\n]+", self.err) if line.strip()]
        lines = [line for line in lines if "%|" not in line and not line.startswith("microevo: warning: ")]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("microevo: error: ")
        assert len(lines[0]) < 400
        for word in words:
            assert word in lines[0], (word, lines[0])
        return lines[0]


def call(capsys, *args) -> Outcome:
    capsys.readouterr()
    code = 0
    try:
        main([str(word) for word in args])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return Outcome(code, *capsys.readouterr())


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path, small_store, _nothing_is_lost):
    """Runs a command in this process, in a folder that holds tiny.yaml and recipe.yaml."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY.replace("STORE", str(small_store)))
    Path("recipe.yaml").write_text(RECIPE)
    return lambda *args: call(capsys, *args)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, small_store):
    """The folder of a run of tiny.yaml."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY.replace("STORE", str(small_store)))
    main(["fit", "--config", str(folder / "tiny.yaml"), "--run_dir", str(folder / "run")])
    return folder / "run"


@pytest.fixture
def _nothing_is_lost(request, small_store):
    """Whatever a test does, the shared store and checkpoints stay as they were."""
    kept = [small_store] + ([request.getfixturevalue("trained")] if "trained" in request.fixturenames else [])
    before = [contents(folder) for folder in kept]
    yield
    assert [contents(folder) for folder in kept] == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
