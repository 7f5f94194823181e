"""Each sweep file is expanded by W&B's own agent, and the command that comes out is run."""

import itertools
import os
import sys
from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace
from tiny_models import shrink
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args
from wandb.wandb_agent import Agent

from microevo.cli.training import TrainingCLI
from microevo.sweep import read_sweep

ROOT = Path(__file__).parents[1]
SWEEPS = sorted(ROOT.glob("experiments/sweeps/*.yaml"))


def load(sweep: Path) -> dict:
    return yaml.safe_load(sweep.read_text())


def experiment_of(sweep: Path) -> Path:
    command = load(sweep)["command"]
    return ROOT / command[command.index("--config") + 1]


def values_of(parameter: dict) -> list:
    """Values that the server may send: all of a list, both ends and the middle of a range."""
    if "values" in parameter:
        return parameter["values"]
    low, high = parameter["min"], parameter["max"]
    return [low, (low * high) ** 0.5, high]


def parsed(words: list[str]) -> Namespace:
    """What `fit` makes of its command line, before anything is built."""

    class Parsed(TrainingCLI):
        def before_instantiate_classes(self):
            raise StopIteration(self.config[self.subcommand])

    with pytest.raises(StopIteration) as stop:
        Parsed(["fit", *words])
    return stop.value.value


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """Lets W&B's agent start a command, as if the server had sent it parameters; returns its exit code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    # The agent leaves its traces in the environment, and starts whatever `python` is on the path.
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def start(sweep: Path, parameters: dict, extra: list[str]) -> int:
        agent = Agent(api=None, queue=None, sweep_id="none")
        agent._sweep_command = [*load(sweep)["command"], *extra]
        arguments = {name: {"value": value} for name, value in parameters.items()}
        agent._command_run({"run_id": "trial", "program": load(sweep)["program"], "args": arguments})
        process = agent._run_processes["trial"]
        return process.wait(timeout=240) if hasattr(process, "wait") else process._popen.wait(timeout=240)

    return start


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.stem)
@pytest.mark.slow
def test_the_command_of_a_sweep_trains(sweep, launch, small_store):
    if sweep.stem == "fno":
        pytest.importorskip("neuralop")
    parameters = {name: values_of(parameter)[0] for name, parameter in load(sweep)["parameters"].items()}
    assert launch(sweep, parameters, shrink(experiment_of(sweep), small_store)) == 0
    run = Path("runs") / experiment_of(sweep).stem
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert len(list((run / "wandb").glob("offline-run-*-trial"))) == 1
    config = yaml.safe_load((run / "config-fit.yaml").read_text())
    shrunk = {option.partition("=")[0].removeprefix("--") for option in shrink(experiment_of(sweep), small_store)}
    for name in parameters.keys() - shrunk - {"model"}:
        value = config
        for key in name.split("."):
            value = value[key]
        assert value == parameters[name]
    if "model" in parameters:
        assert config["model"]["class_path"] == load(ROOT / parameters["model"])["class_path"]


@pytest.mark.parametrize(
    "sweep", [pytest.param(p, id=p.stem, marks=() if p.stem == "fcn" else pytest.mark.slow) for p in SWEEPS]
)
def test_every_value_of_a_sweep_is_a_valid_setting(sweep, monkeypatch):
    monkeypatch.chdir(ROOT)
    parameters = load(sweep)["parameters"]
    ranges = [[(name, value) for value in values_of(parameter)] for name, parameter in parameters.items()]
    longest = max(map(len, ranges))
    for trial in itertools.islice(zip(*map(itertools.cycle, ranges), strict=True), longest):
        config = parsed(["--config", str(experiment_of(sweep)), *(f"--{name}={value}" for name, value in trial)])
        for name, value in trial:
            if name == "model":  # as its file has it
                chosen = config.model
                model, sizes = chosen.class_path, chosen.init_args
                for key, size in load(ROOT / value)["init_args"].items():
                    assert key == "lr" or sizes[key] == size
                assert model == load(ROOT / value)["class_path"]
            else:
                assert config[name] == value


@pytest.mark.parametrize("macro", ["args", "args_no_equals", "args_json", "args_json_file"])
def test_every_form_of_the_settings_arrives_as_it_was_sent(macro, monkeypatch, tmp_path):
    sent = {
        "data": {"init_args": {"n_future": 20}},
        "model.class_path": "microevo.models.UNet",
        "model.init_args.increments": False,
        "model.init_args.lr": 3.0e-4,
        "model.init_args.widths": [8, 16],
        "trainer.max_epochs": 3,
    }
    words = create_sweep_command_args({"args": {name: {"value": value} for name, value in sent.items()}})
    (tmp_path / "trial.json").write_text(words["args_json"][0])
    words["args_json_file"] = [str(tmp_path / "trial.json")]
    monkeypatch.chdir(ROOT)
    config = parsed(
        ["--config", "experiments/spinodal-fcn.yaml", *["--config"] * macro.startswith("args_json"), *words[macro]]
    )
    assert config.data.init_args.n_future == 20
    assert config.data.init_args.n_past == 10
    assert config.model.class_path == "microevo.models.UNet"
    assert {name: config.model.init_args[name] for name in ("increments", "lr", "widths")} == {
        "increments": False,
        "lr": 3.0e-4,
        "widths": [8, 16],
    }
    assert config.trainer.max_epochs == 3


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_asks_for_what_the_runs_log(sweep):
    asked = load(sweep)
    assert asked["metric"] == {"name": "val/mse", "goal": "minimize"}
    assert asked["program"] == "microevo"
    assert asked["command"][-1] == "${args}"  # one that drops false or the hyphens would change what is trained
    assert all("." in name or name in ("model", "seed_everything") for name in asked["parameters"])
    assert sweep.read_text().startswith(f"# wandb sweep {sweep.relative_to(ROOT)}")


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_is_read_without_the_server_too(sweep, tmp_path):
    read = read_sweep(sweep)
    names = {dimension.name for dimension in read.space.dimensions}
    assert names == set(load(sweep)["parameters"])
    words = read.words(dict.fromkeys(sorted(names), 1), tmp_path / "trial.json")
    assert words[1:5] == [sys.executable, "-m", "microevo", "fit"]
    assert words[-len(names) :] == [f"--{name}=1" for name in sorted(names)]
    assert f"python -m microevo sweep --config {sweep.relative_to(ROOT)} --trials" in sweep.read_text()


def test_every_model_of_the_experiments_has_a_sweep():
    models = {
        path.stem.removeprefix("spinodal-")
        for path in ROOT.glob("experiments/spinodal-*.yaml")
        if "published" not in path.stem
    }
    assert {sweep.stem for sweep in SWEEPS} == models | {"models"}
