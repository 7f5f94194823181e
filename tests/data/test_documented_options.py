"""The options that the texts of the project name are accepted as they stand there."""

import re
import shlex

import pytest
from conftest import ROOT

from microevo.benchmark import run as benchmark
from microevo.cli.commands import parser
from microevo.data import generate, import_frames
from microevo.data.convert import convert
from microevo.export import export
from microevo.predict import predict

README = [ROOT / "README.md", *sorted((ROOT / "data").glob("*.md"))]
OPTIONS = sorted({snippet for path in README for snippet in re.findall(r"`(--[a-z_]+ [^`]+)`", path.read_text())})
PLACEHOLDERS = {"N": "2", "a:b": "0:1", "Mine": None, "X": None}
COMMANDS = {
    "simulate": generate,
    "import": import_frames,
    "benchmark": benchmark,
    "predict": predict,
    "convert": convert,
    "export": export,
}
REQUIRED = {
    "simulate": ["--process=SpinodalDecomposition", "--output=x.zarr", "--splits={train: 1}"],
    "import": ["--input=x.npy", "--output=x.zarr"],
    "benchmark": [],
    "predict": ["--ckpt_path=a.ckpt", "--input=x.npy"],
    "convert": ["--input=x.zarr", "--output=x.nc"],
    "export": ["--ckpt_path=a.ckpt", "--output=model"],
}


def accepted(command: str, words: list[str]) -> bool:
    try:
        parser(command, COMMANDS[command]).parse_args([*REQUIRED[command], *words])
    except (Exception, SystemExit):
        return False
    return True


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_accepted_as_it_is_written(option: str) -> None:
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(option)]
    if None in words:
        pytest.skip("an option of the training, whose value is a name of the reader's own")
    assert any(accepted(command, words) for command in COMMANDS), option


def test_the_option_that_was_not_accepted_is_noticed() -> None:
    assert not accepted("import", ["--value_range", "0", "255"])
    assert "--value_range '[0, 255]'" in OPTIONS
