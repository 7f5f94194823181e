"""`~` and environment variables in settings, which a shell replaces only in words that are not quoted."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from microevo import benchmark
from microevo.cli import commands
from microevo.cli.parser import expand
from microevo.data import TrajectoryStore


@pytest.fixture(autouse=True)
def home(cli, monkeypatch, tmp_path, small_store):
    """A home folder and `$SCRATCH`, both empty, and a config whose paths begin there; nothing else may appear."""
    for name in ("home", "scratch"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv({"home": "HOME"}.get(name, name.upper()), str(tmp_path / name))
    yield
    assert not [path.name for path in Path().iterdir() if path.name[0] in "~$"]


@pytest.mark.slow
def test_paths_of_a_training(cli, small_store):
    Path("scratch/small.zarr").symlink_to(small_store)
    config = yaml.safe_load(Path("tiny.yaml").read_text())
    config["data"]["init_args"]["store"] = "$SCRATCH/small.zarr"
    config["trainer"]["callbacks"][0]["init_args"]["dirpath"] = "~/kept"
    config["trainer"]["logger"] = {"class_path": "CSVLogger", "init_args": {"save_dir": "${SCRATCH}/logs"}}
    Path("home/tiny.yaml").write_text(yaml.safe_dump(config))
    fitted = cli("fit", "--config=~/tiny.yaml", "--run_dir=~/run", "--trainer.max_epochs=1")
    assert fitted.code == 0, fitted.err
    assert {path.name for path in Path("home/kept").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert Path("home/run/config-fit.yaml").is_file()
    assert Path("scratch/logs").is_dir()
    args = ["--config=~/tiny.yaml", "--run_dir=$SCRATCH/out", "--ckpt_path=~/kept/best.ckpt"]
    assert cli("validate", *args).code == 0
    args = ["--config=~/tiny.yaml", "--run_dir=$SCRATCH/next", "--model.init_args.init_from=~/kept/best.ckpt"]
    assert cli("fit", *args, "--trainer.max_epochs=1", "--trainer.fast_dev_run=true").code == 0


def test_paths_of_simulate_and_import(cli):
    assert cli("simulate", "--config", "recipe.yaml", "--output=~/made.zarr").code == 0
    np.save("scratch/frames.npy", np.random.default_rng(0).random((4, 9, 16, 16)))
    assert cli("import", "--input=$SCRATCH/frames.npy", "--output=$SCRATCH/deep/imported.zarr").code == 0
    assert TrajectoryStore.open("scratch/deep/imported.zarr").frames == 9


def test_paths_of_a_benchmark(cli, tmp_path):
    Path("bench.yaml").write_text(
        """
output: $SCRATCH/results
protocols: {p: {store: ~/made.zarr}}
checkpoints: {FCN: $SCRATCH/best.ckpt, Seeds: [~/0.ckpt, "${SCRATCH}/1.ckpt"]}
predictions: {Mine: {p: ~/mine.npy}}
"""
    )
    settings = commands._parse("benchmark", benchmark.run, ["--config=bench.yaml"])
    home, scratch = str(tmp_path / "home"), str(tmp_path / "scratch")
    assert settings["output"] == f"{scratch}/results"
    assert settings["protocols"]["p"].store == f"{home}/made.zarr"
    assert settings["checkpoints"] == {"FCN": f"{scratch}/best.ckpt", "Seeds": [f"{home}/0.ckpt", f"{scratch}/1.ckpt"]}
    assert settings["predictions"] == {"Mine": {"p": f"{home}/mine.npy"}}


def test_paths_of_compare(cli):
    args = ["--simulated=[~/a.zarr]", "--published=$SCRATCH/b.npy", "--intervals=~/c.yaml", "--output=~/compared"]
    cli("compare", *args).refusal("home/c.yaml", code=1)


def test_a_variable_that_is_not_set_is_refused(cli):
    refused = cli("fit", "--config=tiny.yaml", "--run_dir=$NOT_SET_HERE/run")
    refused.refusal("run_dir is $NOT_SET_HERE/run", "environment variable NOT_SET_HERE is not set", code=2)
    refused = cli("simulate", "--config=recipe.yaml", "--output=data/$NOT_SET_HERE/made.zarr")
    refused.refusal("output is data/$NOT_SET_HERE/made.zarr", code=2)
    assert not Path("runs").exists()


def test_what_is_not_a_variable_stays(cli):
    for text in ("t([0-9]+)$", "costs 5 $", "a~b", "[0-9]$|x"):
        assert expand(text) == text
