"""One entry for all commands, and one sentence for each failure."""

import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from microevo.cli.overview import COMMANDS, overview

DEBUG = "MICROEVO_DEBUG"


def main(args: Sequence[str] | None = None) -> None:
    """Run a command; leave with exit code 0, 1 (it failed), 2 (it was asked wrongly) or 130 (interrupted)."""
    words = list(sys.argv[1:] if args is None else args)
    if "--debug" in words:
        words.remove("--debug")
        os.environ[DEBUG] = "1"  # for the processes that a run starts
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return
    if words[0] in ("-V", "--version"):
        from microevo import __version__

        print(f"microevo {__version__}")
        return
    if words[0] not in COMMANDS:
        nearest = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"the commands are {', '.join(COMMANDS)}"
        _refuse(f"there is no command {words[0]}; {hint}", code=2)

    # Imported here, so that the overview comes at once.
    from microevo.cli import failures

    try:
        with failures.quiet(words[0]):
            _run(words[0], words[1:])
    except KeyboardInterrupt:
        print("\nmicroevo: interrupted; the same command goes on where it was", file=sys.stderr)
        raise SystemExit(130) from None
    except SystemExit as leave:
        if isinstance(leave.__context__, KeyboardInterrupt):  # Lightning has said so, and leaves with 1
            raise SystemExit(130) from None
        raise
    except failures.EXPECTED as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        _refuse(failures.sentence(error), code=failures.exit_code(error))


def _run(command: str, args: list[str]) -> None:
    if command in ("fit", "validate", "test", "predict"):
        from microevo.cli.training import TrainingCLI

        TrainingCLI([command, *args])
        return
    from microevo.cli import commands

    {
        "simulate": commands.simulate,
        "import": commands.import_,
        "compare": commands.compare,
        "benchmark": commands.benchmark,
    }[command](args)


def _refuse(sentence: str, code: int) -> NoReturn:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # once among the processes of a run
        print(f"microevo: error: {sentence}", file=sys.stderr)
    raise SystemExit(code)
