"""What the process that begins a test session needs; the fixtures are in `shared.py` and `command_line.py`."""

from pathlib import Path

import pytest

pytest_plugins = ["figures"]

ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    # With `-n` this process runs no test: without torch and Lightning the workers begin ten seconds earlier.
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        for name in ("shared", "command_line"):
            config.pluginmanager.import_plugin(name)
