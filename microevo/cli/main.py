"""One entry for all commands, and one sentence for each failure."""

import difflib
import logging
import os
import pickle
import sys
import traceback
import warnings
from collections.abc import Sequence

COMMANDS = {
    "simulate": "simulate trajectories with a phase-field solver into a zarr store",
    "import": "turn frames made by others (.npy, .npz, HDF5, PNG, TIFF) into a zarr store",
    "fit": "train a model on a store",
    "validate": "evaluate a checkpoint on the validation split",
    "test": "evaluate a checkpoint on the test split: a long CSV and a curve of error against lead",
    "predict": "write forecasts beside the truth: a zarr store, filmstrips, animations",
    "benchmark": "compare several checkpoints, and persistence, in one table and one picture",
}
DEBUG = "MICROEVO_DEBUG"


def main(args: Sequence[str] | None = None) -> None:
    """Run a command; leave with exit code 0, 1 (it failed), 2 (it was asked wrongly) or 130 (interrupted)."""
    words = list(sys.argv[1:] if args is None else args)
    debug = bool(os.environ.get(DEBUG))
    if "--debug" in words:
        words.remove("--debug")
        os.environ[DEBUG] = "1"  # for the processes that a run starts
        debug = True
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return
    if words[0] in ("-V", "--version"):
        from microevo import __version__

        print(f"microevo {__version__}")
        return
    if words[0] not in COMMANDS:
        nearest = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"the commands are {', '.join(COMMANDS)}"
        print(f"microevo: error: there is no command {words[0]}; {hint}", file=sys.stderr)
        raise SystemExit(2)

    from lightning.fabric.utilities.exceptions import MisconfigurationException

    try:
        _run(words[0], words[1:])
    except KeyboardInterrupt:
        print("\nmicroevo: interrupted; the same command goes on where it was", file=sys.stderr)
        raise SystemExit(130) from None
    except (ValueError, OSError, MisconfigurationException, pickle.UnpicklingError) as error:
        if debug:
            traceback.print_exc()
        elif os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"microevo: error: {_sentence(error)}", file=sys.stderr)
        raise SystemExit(1) from error


def _run(command: str, args: list[str]) -> None:
    _quieten(command)
    if command in ("fit", "validate", "test", "predict"):
        from microevo.cli.training import TrainingCLI

        TrainingCLI([command, *args])
        return
    from microevo.cli import commands

    {"simulate": commands.simulate, "import": commands.import_, "benchmark": commands.benchmark}[command](args)


def _sentence(error: BaseException) -> str:
    if isinstance(error, pickle.UnpicklingError):
        return (
            "the checkpoint holds Python objects that only unpickling could read, which can run code; give one that `fit` "
            "wrote, or save its weights alone"
        )
    return " ".join(str(error).split()) or type(error).__name__


def _quieten(command: str) -> None:
    """Drop advertisements, and warnings about code that is not the user's."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda line: "Tip:" not in line.getMessage())
    if command == "benchmark":  # it makes a trainer for each model
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        "LightningCLI's args parameter is intended",
        ".*LeafSpec.* is deprecated",
        ".*does not have many workers",
        ".*`instantiate_classes` was deprecated",
    ):
        warnings.filterwarnings("ignore", message=message)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return (
        "usage: python -m microevo <command> [options]\n\n"
        "Simulate, learn and benchmark microstructure evolution.\n\n"
        f"commands:\n{lines}\n\n"
        "`python -m microevo <command> --help` lists its options. `--debug` (or MICROEVO_DEBUG=1) shows the traceback of\n"
        "an error."
    )
