"""A parser whose complaints are one sentence each."""

import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser


class Parser(LightningArgumentParser):
    """jsonargparse's parser, with errors that fit on a line and say what was probably meant."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one sentence and leave with exit code 2."""
        if self.exit_on_error and not getattr(self, "_nested", False):
            print(f"microevo: error: {self._sentence(message)}", file=sys.stderr)
            raise SystemExit(2)
        super().error(message, ex)
        raise AssertionError("jsonargparse's error() returns never")

    def _sentence(self, message: str) -> str:
        sentence = " ".join(str(message).split())
        unknown = re.search(r"(?:Unrecognized arguments: -*|Key ['\"]|Option ['\"])([\w.]+)", sentence)
        if unknown:
            meant = self._nearest(unknown[1])
            if meant:
                sentence = f"{sentence.rstrip('.')}; did you mean {meant}?"
        return sentence if len(sentence) < 600 else f"{sentence[:597]}..."

    def _nearest(self, word: str) -> str | None:
        known = {name.lstrip("-") for action in self._actions for name in action.option_strings}
        for choices in (known, {name.rsplit(".", 1)[-1] for name in known}):
            match = difflib.get_close_matches(word.split("=")[0], choices, n=1)
            if match:
                return match[0]
        return None


def defaults_beside(args: Sequence[str]) -> list[Any]:
    """The `defaults.yaml` of the first config file named in `args`: beside it or in a folder above it.

    Without one, that of `experiments/` under the folder one runs from.
    """
    for word, following in zip(args, [*args[1:], ""], strict=True):
        config = following if word in ("--config", "-c") else word.partition("--config=")[2]
        if not config:
            continue
        folder = Path(config).parent
        for candidate in (folder / "defaults.yaml", folder.parent / "defaults.yaml"):
            if candidate.is_file():
                return [str(candidate)]
    return ["experiments/defaults.yaml"]
