import re
import sys
from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from microevo.sweep import read_sweep
from microevo.sweep.file import EarlyStop

SWEEP = {
    "program": "microevo",
    "method": "random",
    "metric": {"name": "val/mse"},
    "parameters": {"model.init_args.lr": {"min": 1e-4, "max": 1e-2}},
    "command": ["${env}", "${interpreter}", "-m", "${program}", "fit", "${args}"],
}
SETTINGS = {
    "model.init_args.lr": 0.001,
    "model.init_args.widths": [16, 32],
    "flag": False,
    "data": {"init_args": {"n": 3}},
}


def written(folder: Path, **changed) -> Path:
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in (SWEEP | changed).items() if value is not None}))
    return path


def expanded_by_wandb(command: list[str], json_file: Path) -> list[str]:
    """As `wandb.wandb_agent.Agent` does it."""
    values = create_sweep_command_args({"args": {name: {"value": value} for name, value in SETTINGS.items()}})
    values |= {"env": ["/usr/bin/env"], "interpreter": [sys.executable], "program": ["microevo"]}
    values["args_json_file"] = [str(json_file)]
    words = []
    for word in create_sweep_command(command):
        words += values[word[2:-1]] if re.fullmatch(r"\$\{\w+\}", word) else [word]
    return words


@pytest.mark.parametrize("macro", ["args", "args_no_equals", "args_json", "args_json_file"])
def test_a_command_is_expanded_as_wandb_expands_it(macro, tmp_path, monkeypatch):
    monkeypatch.setenv("STORES", "/data")
    command = ["${env}", "${interpreter}", "-m", "${program}", "fit", "--config", "${envvar:STORES}/a.yaml"]
    command.append(f"${{{macro}}}")
    sweep = read_sweep(written(tmp_path, command=list(command)))
    assert sweep.words(SETTINGS, tmp_path / "trial.json") == expanded_by_wandb(command, tmp_path / "trial.json")


def test_a_file_without_a_command_has_that_of_wandb(tmp_path):
    words = read_sweep(written(tmp_path, command=None, program="train.py")).words({"a": 1}, tmp_path / "trial.json")
    assert words == ["/usr/bin/env", sys.executable, "train.py", "--a=1"]


@pytest.mark.parametrize(
    ("asked", "stop"),
    [
        ({"min_iter": 3}, EarlyStop(3, 3)),
        ({"min_iter": 2, "eta": 4}, EarlyStop(2, 4)),
        ({"max_iter": 27, "s": 2}, EarlyStop(3, 3)),
        ({"max_iter": 5, "s": 4, "eta": 2}, EarlyStop(1, 2)),
    ],
)
def test_hyperband_says_when_trials_are_compared(asked, stop, tmp_path):
    assert read_sweep(written(tmp_path, early_terminate={"type": "hyperband", **asked})).early_stop == stop


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"method": "annealing"}, ["method is annealing", "grid, random, bayes"]),
        ({"metric": None}, ["no metric", "val/mse"]),
        ({"metric": {"name": "val/mse", "goal": "lower"}}, ["goal is lower"]),
        ({"parameters": None}, ["not a W&B sweep file"]),
        ({"parametres": {}}, ["a sweep has no parametres"]),
        ({"run_cap": 0}, ["run_cap is 0"]),
        ({"command": ["a", "${args_no_boolean_flags}"]}, ["${args_no_boolean_flags}", "leaves out what is false"]),
        ({"command": ["a", "${args_no_hyphens}"]}, ["${args_no_hyphens}", "Hydra"]),
        ({"command": ["a", "${arguments}"]}, ["${arguments}", "${args_json_file}"]),
        ({"command": ["a"]}, ["add ${args}"]),
        ({"parameters": {"x": {"values": [[None], 1]}}}, ["null", "the text None", "${args_json_file}"]),
        (
            {"parameters": {"a": {"values": [1]}, "a.b": {"values": [1]}}, "command": ["--config", "${args_json}"]},
            ["a and a.b", "only the second", "use ${args}"],
        ),
        ({"early_terminate": {"type": "envelope"}}, ["early_terminate is", "hyperband"]),
        ({"early_terminate": {"type": "hyperband"}}, ["min_iter, or max_iter and s"]),
        ({"early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 1}}, ["eta is 1", "from 2"]),
        ({"early_terminate": {"type": "hyperband", "min_iter": 3, "strict": True}}, ["strict"]),
        ({"early_terminate": {"type": "hyperband", "minimum": 3}}, ["no minimum"]),
    ],
)
def test_what_a_sweep_cannot_do_without_the_server_is_refused(changed, words, tmp_path):
    path = written(tmp_path, **changed)
    with pytest.raises(ValueError, match=re.escape(str(path))) as refused:
        read_sweep(path)
    assert len(str(refused.value)) < 400
    for word in words:
        assert word in str(refused.value)


def test_null_is_passed_in_a_file(tmp_path):
    command = ["python", "--config", "${args_json_file}"]
    sweep = read_sweep(written(tmp_path, parameters={"x": {"values": [None, 1]}}, command=command))
    assert sweep.words({"x": None}, tmp_path / "a.json") == ["python", "--config", str(tmp_path / "a.json")]
