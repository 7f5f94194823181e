"""The command line: `python -m microevo <command>`."""

from microevo.cli.main import main

__all__ = ["main"]
