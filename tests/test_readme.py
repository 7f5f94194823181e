"""Every command and every piece of code in the READMEs runs, on data and models shrunk to seconds."""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT

import microevo.metrics
from microevo.cli import main
from microevo.metrics import find

sys.path.append(str(ROOT / "tests" / "golden"))
from shrink import load

COMMAND = re.compile(r"^ {4}((?:python|make|wandb) .*?)(?: {2,}#.*)?$", re.MULTILINE)
SMALL_MODELS = {
    "microevo.models.FCN": {"hid_s": 4, "hid_t": 8, "n_t": 2},
    "microevo.models.ConvLSTM": {"hidden": [4]},
    "microevo.models.PredRNN": {"hidden": 4, "layers": 2},
    "microevo.models.PredRNNpp": {"hidden": 4, "layers": 2},
}


def commands(readme: str) -> list[str]:
    return [match[1].strip() for match in COMMAND.finditer((ROOT / readme).read_text())]


def shrink(path: Path) -> None:
    """Rewrite a recipe or an experiment with the same structure and small numbers."""
    tree = yaml.safe_load(path.read_text())
    if "process" in tree:
        tree["process"]["init_args"] |= {"first_frame": 2.0, "frame_interval": 1.0}
        tree["process"]["init_args"]["grid"]["shape"] = [32, 32]
        tree |= {"splits": {"train": 2, "val": 1, "test": 1}, "frames": 60 if path.stem == "demo" else 24}
    arguments = tree.get("init_args", {})
    if "store" in arguments:
        arguments |= {"horizon": min(arguments["horizon"], 14), "batch_size": 2}
    for part in (tree, tree.get("model")):
        if isinstance(part, dict) and part.get("class_path") in SMALL_MODELS:
            part["init_args"] |= SMALL_MODELS[part["class_path"]]
    if "model" in tree:
        tree["trainer"] = {"max_epochs": 1, "limit_train_batches": 2}
    if "checkpoints" in tree:  # what the READMEs train
        tree["checkpoints"] = {"FCN": tree["checkpoints"]["FCN"]}
        store = next(protocol["store"] for protocol in tree["protocols"].values())
        tree["protocols"] = {"10->14": {"store": store, "horizon": 14, "trajectories": 1}}
    path.write_text(yaml.safe_dump(tree, sort_keys=False))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: the project's configs, shrunk, and what else the READMEs take for granted."""
    folder = tmp_path
    monkeypatch.chdir(folder)
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    shutil.copytree(ROOT / "data" / "recipes", folder / "data" / "recipes")
    for path in [*folder.glob("experiments/**/*.yaml"), *folder.glob("data/recipes/*.yaml")]:
        if path.parent.name != "sweeps" and path.name != "defaults.yaml":
            shrink(path)
    frames = np.random.default_rng(0).random((10, 24, 16, 16), dtype=np.float32)
    np.save(folder / "frames.npy", frames)
    golden = load(ROOT / "tests" / "golden" / "simvp_gsta_c2.npz")
    weights = {key: torch.from_numpy(values) for key, values in golden.items() if key.startswith("state/")}
    torch.save({key.removeprefix("state/"): tensor for key, tensor in weights.items()}, folder / "gsta.pth")
    np.save(folder / "theirs.npy", np.zeros((1, 50, 1, 32, 32), np.float32))
    return folder


@pytest.fixture
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The runs of this process log to CSV files, as those of somebody who has never used W&B."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))


@pytest.fixture
def here(no_login: None) -> Callable[[list[str]], None]:
    """Runs a command in this process: to import torch and Lightning anew takes longer than what is asked for."""
    return main


@pytest.fixture
def apart(workplace: Path, microevo: Callable) -> Callable[[list[str]], None]:
    """Runs a command as the reader does, in a process of its own."""

    def run(words: list[str]) -> None:
        result = microevo(*words, cwd=workplace)
        assert result.returncode == 0, f"{shlex.join(words)}\n{result.stdout}\n{result.stderr}"

    return run


@pytest.mark.slow
@pytest.mark.parametrize("how", ["here", "apart"])
def test_the_readmes_commands_run_in_their_order(workplace, request, how):
    run = request.getfixturevalue(how)
    run(["simulate", "--config", "data/recipes/demo.yaml"])  # `make demo` did
    done = set()
    for command in [*commands("README.md"), *commands("data/README.md")]:
        program, *rest = shlex.split(command)
        if program == "make":
            subprocess.run(["make", "--dry-run", *rest], cwd=ROOT, check=True, capture_output=True)
        elif program == "python":
            assert rest[:2] == ["-m", "microevo"]
            if command in done:
                continue
            if rest[2] == "convert":
                needed = "h5netcdf" if rest[-1].endswith(".nc") else "vtkmodules"
                if importlib.util.find_spec(needed) is None:
                    continue
            # The seed suggests a setting that needs no more than these few frames.
            fewer = {"benchmark": ["--repeats=1"], "sweep": ["--trials=1", "--seed=9"]}
            run([*rest[2:], *fewer.get(rest[2], [])])
            done.add(command)
        else:
            assert (ROOT / rest[1]).exists() or "<sweep id>" in command  # tests/test_sweeps.py runs what they start
    assert {command.split()[3] for command in done} == {
        "simulate",
        "import",
        "fit",
        "validate",
        "test",
        "predict",
        "benchmark",
        "sweep",
        "import-checkpoint",
        "export",
        "convert",
    }
    assert (workplace / "results/spinodal/report.html").exists()


def test_the_demo_runs_what_is_tested():
    """`make demo` is made of commands whose configs test_experiments runs, each of them existing."""
    dry = subprocess.run(
        ["make", "--dry-run", "--always-make", "demo"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    demo = [shlex.split(line) for line in dry.stdout.splitlines() if line.startswith(".venv/bin/python -m")]
    assert [words[3] for words in demo] == ["simulate", *["fit"] * 4, "test", "predict", "benchmark"]
    for words in demo:
        assert (ROOT / words[words.index("--config") + 1]).exists()


@pytest.mark.slow
def test_the_readmes_training_options_run_together(workplace, small_store, here):
    block = re.search(r"```yaml\n(data: .*?InputNoise.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    experiment = yaml.safe_load(block[1])
    assert (ROOT / "experiments" / experiment["data"]).exists()
    windows = {"store": str(small_store), "n_past": 4, "n_future": 12, "horizon": 8, "batch_size": 2}
    experiment["data"] = {"class_path": "microevo.data.TrajectoryDataModule", "init_args": windows}
    experiment["model"]["init_args"] |= SMALL_MODELS["microevo.models.FCN"]
    unrolling = experiment["trainer"]["callbacks+"][0]["init_args"]
    unrolling["frames"] = [frames * 4 // 10 for frames in unrolling["frames"]]
    few = {"max_steps": 4, "limit_train_batches": 4, "accelerator": "cpu", "logger": False}
    experiment["trainer"] |= few
    Path("experiments/better.yaml").write_text(yaml.safe_dump(experiment))
    here(["fit", "--config", "experiments/better.yaml"])
    checkpoint = torch.load("runs/better/checkpoints/best.ckpt", weights_only=True)
    assert {"current_model_state", "averaging_state"} <= checkpoint.keys()
    assert checkpoint["hyper_parameters"]["boundary"] == "periodic"
    assert float(checkpoint["state_dict"]["change_rms"]) > 0


def test_the_readmes_code_runs(workplace, here):
    here(["simulate", "--config", "data/recipes/demo.yaml"])  # `make demo` did
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        exec(block, names)
    assert names["forecast"].shape == (1, 20, 1, 32, 32)
    assert torch.equal(names["model"](names["frames"][None, :10], 20), names["forecast"])
    past = torch.rand(2, 10, 1, 16, 16)
    assert names["Mine"](width=4)(past, 3).shape == (2, 3, 1, 16, 16)
    from microevo.processes import simulate, trajectory_generator

    stripes = simulate(names["SwiftHohenberg"](), [trajectory_generator(0, 0)], 30)
    assert stripes.shape == (1, 30, 1, 64, 64)
    assert float(stripes[:, -1].std()) > 5 * float(stripes[:, 5].std())
    metric = find("mass_drift")
    assert metric is not None
    assert torch.allclose(metric(past + 0.25, past), torch.full((2, 10), 0.25))


def test_the_functions_that_the_readme_names_are_public():
    sentence = re.search(r"`microevo\.metrics` holds them all.*?others\.", (ROOT / "README.md").read_text(), re.DOTALL)
    assert sentence
    names = re.findall(r"`(\w+)`", sentence.group())
    assert len(names) >= 7
    assert set(names) <= set(microevo.metrics.__all__)
