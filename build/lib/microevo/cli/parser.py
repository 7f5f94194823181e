"""A parser whose complaints are one sentence each."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from microevo.cli import given
from microevo.cli.complaints import explain

OUR_HELP = {  # of options that are Lightning's, and mean something else here
    "ckpt_path": "Checkpoint that `fit` wrote, or `best` or `last` for that of the run's folder. `fit` goes on where it "
    "stopped, and with `last` begins where there is none yet.",
    "weights_only": "Always true: a checkpoint is read without unpickling, which could run code.",
    "return_predictions": "Without effect: the forecasts are on disk.",
}


class UsageError(Exception):
    """The command line, or a config file that it names, cannot be understood; the message says why."""


class Parser(LightningArgumentParser):
    """jsonargparse's parser, with errors that fit on a line and say what was probably meant.

    An option must be written in full: a misspelt one is refused, never taken for another that begins alike.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The usage that is made of all options fills a page, and of the program's name it knows `__main__.py`.
        ours: dict[str, Any] = {"allow_abbrev": False, "prog": "python -m microevo", "usage": "%(prog)s [options]"}
        super().__init__(*args, **(ours | kwargs))

    def add_method_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """As jsonargparse does, but with help for what our commands make of the trainer's options."""
        added = super().add_method_arguments(*args, **kwargs)
        for action in self._actions:
            action.help = OUR_HELP.get(action.dest, action.help)
        return added

    def parse_args(self, args: Sequence[str], **kwargs: Any) -> Namespace:  # type: ignore[override]
        """Read the command line, and before it the config files that it names.

        Raises:
            UsageError: They cannot be read.
        """
        try:
            list(given.settings(args))
        except (OSError, ValueError) as error:
            raise UsageError(str(error)) from error
        return super().parse_args(args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise `UsageError`, where jsonargparse prints the usage and a page of reasons."""
        if not self.exit_on_error:  # a parser inside another one, which catches this
            raise argparse.ArgumentError(None, message) from ex
        raise UsageError(explain(message, self._asked(ex))) from ex

    def _asked(self, error: Exception | None) -> LightningArgumentParser:
        """The parser of the subcommand that was asked for, or this one."""
        subparsers = getattr(getattr(self, "_subcommands_action", None), "choices", None) or {}
        chosen = next((word for word in getattr(self, "args", None) or () if word in subparsers), None)
        return getattr(error, "subcommand_parser", None) or subparsers.get(chosen, self)
