"""The networks that come with microevo."""

import json
from pathlib import Path

import pytest
import torch
import yaml

import microevo
from microevo.data import TrajectoryStore
from microevo.models.checkpoint import read_checkpoint
from microevo.models.folder import CONFIG, WEIGHTS, pretrained
from microevo.processes import Grid, SpinodalDecomposition

ROOT = Path(__file__).parents[2]
NAMES = sorted(pretrained())
each = pytest.mark.parametrize("name", NAMES)


def recipe(name: str) -> dict:
    return yaml.safe_load((ROOT / f"data/recipes/{name}.yaml").read_text())


def test_there_are_some():
    assert {"grain-growth", "plane-wave", "spinodal", "spinodal-published"} <= set(NAMES)


@each
def test_a_name_is_that_of_a_recipe_and_its_folder_is_small(name: str):
    config = json.loads((pretrained()[name] / CONFIG).read_text())
    assert config["training"]["data_fingerprint"]
    assert "/" not in json.dumps(config["training"])  # no path of the machine that it was trained on
    assert (pretrained()[name] / WEIGHTS).stat().st_size < 2e6
    assert recipe(name)["output"].endswith(f"{name}.zarr")
    assert (ROOT / f"experiments/{name}-local.yaml").is_file()
    card = (pretrained()[name] / "README.md").read_text()
    for part in ("## What it is for", "## Where it fails", "## Benchmark", f'microevo.load_model("{name}")'):
        assert part in card


@each
def test_forecasts_frames_of_another_size(name: str):
    model = microevo.load_model(name)
    past = torch.rand(1, model.n_past, 1, 32, 48)
    parameters = dict.fromkeys(model.parameter_names, 1.5)
    with torch.no_grad():
        forecast = model(past, 2, *model.conditions(parameters))
    assert forecast.shape == (1, 2, 1, 32, 48)
    assert forecast.isfinite().all()


def test_forecasts_a_simulation_that_it_has_not_seen(tmp_path: Path):
    process = SpinodalDecomposition(grid=Grid(shape=(48, 48)), first_frame=100.0, frame_interval=10.0, kappa=2.5)
    store = microevo.simulate(
        process, tmp_path / "new.zarr", splits={"train": 1, "val": 1, "test": 1}, frames=11, seed=7
    )
    frames = torch.from_numpy(store.read(0))[None]
    with torch.no_grad():
        forecast = microevo.load_model("spinodal")(frames[:, :1], 10)
    error, unchanged = ((x - frames[:, 1:]).square().mean().sqrt() for x in (forecast, frames[:, :1]))
    assert error < 0.1 * unchanged


def test_predict_takes_a_name(cli, small_store: Path):
    done = cli("predict", "--ckpt_path=spinodal", f"--input={small_store}", "--horizon=3", "--output=out.zarr")
    assert done.code == 0, done.err
    assert TrajectoryStore.open("out.zarr").frames == 3


def test_a_file_of_that_name_comes_first(cli):
    Path("spinodal").write_text("not a checkpoint")
    cli("predict", "--ckpt_path=spinodal", "--input=x.npy").refusal("spinodal is not a checkpoint")


def test_a_name_that_is_none_is_told_the_names():
    with pytest.raises(FileNotFoundError, match="or the name of a pretrained network: "):
        read_checkpoint("spinodel")
