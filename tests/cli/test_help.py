import argparse
import re
import subprocess
import sys

import pytest
from lightning import Callback

from microevo import benchmark, callbacks, models, processes, sweep, validation
from microevo.cli import commands
from microevo.cli.main import COMMANDS
from microevo.cli.parser import Parser
from microevo.cli.training import TrainingCLI
from microevo.data import Range, TrajectoryDataModule, TrajectoryStore, generate, import_frames
from microevo.data.convert import convert
from microevo.export import export
from microevo.models.imports import import_checkpoint


def test_the_overview_lists_every_command_at_once():
    words = [sys.executable, "-X", "importtime", "-m", "microevo", "--help"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|", 1)[-1].strip() for line in shown.stderr.splitlines()}
    assert not imported & {"torch", "lightning", "numpy", "jsonargparse", "zarr", "wandb"}
    for name, line in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", shown.stdout, re.MULTILINE)


def training_parser(name: str) -> Parser:
    class Captured(TrainingCLI):
        def parse_arguments(self, parser, args):
            raise StopIteration(self._subcommand_parsers[name])

    with pytest.raises(StopIteration) as stop:
        Captured([name])
    return stop.value.value


SETTABLE = (models.Forecaster, processes.Process, processes.Grid, Range, TrajectoryDataModule, Callback)
CLASSES = [
    cls
    for module in (models, processes, callbacks)
    for cls in (getattr(module, name) for name in module.__all__)
    if isinstance(cls, type) and issubclass(cls, SETTABLE) and cls is not callbacks.SaveRun
]


@pytest.mark.parametrize("cls", [*CLASSES, Range, TrajectoryDataModule], ids=lambda cls: cls.__name__)
def test_every_setting_of_our_classes_is_explained(cls):
    parser = Parser()
    parser.add_class_arguments(cls)
    assert_explained(parser)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_our_commands_is_explained(name):
    functions = {
        "simulate": generate,
        "import": import_frames,
        "compare": validation.compare,
        "benchmark": benchmark.run,
        "convert": convert,
        "import-checkpoint": import_checkpoint,
        "export": export,
        "sweep": sweep.run,
    }
    parser = commands.parser(name, functions[name]) if name in functions else training_parser(name)
    assert_explained(parser, ours=lambda option: not option.startswith("trainer"))


def assert_explained(parser, ours=lambda option: True):
    # Names of earlier versions, which recipes may still have, are not shown.
    shown = [action for action in parser._actions if action.option_strings and action.help != argparse.SUPPRESS]
    options = [action for action in shown if ours(action.dest)]
    for action in options:
        assert action.help, f"{action.dest} has no help"
        assert len(action.help) > 8
    text = " ".join(parser.format_help().split())
    for action in options:
        option = action.option_strings[-1]
        if option.endswith(("help", "config")) or "-->" in option or "configuration file" in action.help:
            continue
        shown = text.split(f" {option} ", 1)[1].split(" --", 1)[0]
        assert "default: " in shown.lower() or "required" in shown, f"{action.dest} does not show its default"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_short_to_begin_with(cli, name):
    outcome = cli(name, "--help")
    assert outcome.code == 0
    first = outcome.out.splitlines()[0]
    assert first.startswith(f"usage: python -m microevo {name} ")
    assert COMMANDS[name].split()[0] in outcome.out


def test_the_help_of_a_model_lists_its_own_settings_and_those_of_all_forecasters(cli):
    outcome = cli("fit", "--model.help", "PredRNN")
    assert outcome.code == 0
    for option in ("hidden", "layers", "patch_size", "sampling_until", "lr", "ssim_weight", "init_from"):
        assert f"--model.{option} " in outcome.out


@pytest.mark.slow
def test_overwrite_is_a_flag(cli):
    assert cli("simulate", "--config", "recipe.yaml").code == 0
    assert cli("simulate", "--config", "recipe.yaml", "--overwrite", "--seed=3").code == 0
    assert TrajectoryStore.open("made.zarr").attributes["recipe"]["seed"] == 3
    assert "--overwrite" not in TrajectoryStore.open("made.zarr").attributes["command"]
