"""One entry for all commands, and one sentence for each failure."""

import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

DEBUG = "MICROEVO_DEBUG"
COMMANDS = {
    "simulate": "simulate trajectories with a phase-field solver into a zarr store",
    "import": "turn frames made by others (.npy, .npz, HDF5, PNG, TIFF, VTK, exodus) into a zarr store",
    "compare": "compare simulated trajectories with a published sample: descriptors, acceptance intervals, a picture",
    "fit": "train a model on a store",
    "validate": "evaluate a checkpoint on the validation split",
    "test": "evaluate a checkpoint on the test split: a long CSV and a curve of error against lead",
    "predict": "write forecasts beside the truth: a zarr store, filmstrips, animations; --input FILE forecasts new frames",
    "benchmark": "score forecasts against persistence and the reference solver: accuracy, physics, cost, one page",
    "sweep": "search for good settings as a W&B sweep file says, without its server; many processes and nodes may join",
    "convert": "write a store of simulations or forecasts as NetCDF (xarray) or VTK image data (ParaView)",
    "import-checkpoint": "turn weights that were trained with OpenSTL or the paper's code into a checkpoint",
    "export": "write a trained network for other tools: a model folder, a program of PyTorch or ONNX",
}


def help_text() -> str:
    """What `python -m microevo --help` prints."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return (
        "usage: python -m microevo <command> [options]\n\n"
        "Simulate, learn and benchmark microstructure evolution.\n\n"
        f"commands:\n{lines}\n\n"
        "`python -m microevo <command> --help` lists its options. `--debug` (or MICROEVO_DEBUG=1) shows the traceback of\n"
        "an error."
    )


def main(args: Sequence[str] | None = None) -> None:
    """Run a command; leave with exit code 0, 1 (it failed), 2 (its command line is wrong) or 130 (interrupted)."""
    words = list(sys.argv[1:] if args is None else args)
    if "--debug" in words:
        words.remove("--debug")
        os.environ[DEBUG] = "1"  # for the processes that a run starts
    if not words or words[0] in ("-h", "--help"):
        print(help_text())
        return
    if words[0] in ("-V", "--version"):
        from microevo import __version__

        print(f"microevo {__version__}")
        return
    if words[0] not in COMMANDS:
        nearest = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"the commands are {', '.join(COMMANDS)}"
        _exit(f"there is no command {words[0]}; {hint}", code=2)

    # Imported here, so that the help comes at once.
    from microevo.cli import errors

    try:
        with errors.quiet(words[0]):
            _run(words[0], words[1:])
    except KeyboardInterrupt:
        print("\nmicroevo: interrupted; the same command resumes", file=sys.stderr)
        raise SystemExit(130) from None
    except SystemExit as leave:
        if isinstance(leave.__context__, KeyboardInterrupt):  # Lightning has said so, and leaves with 1
            raise SystemExit(130) from None
        raise
    except errors.expected() as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        _exit(errors.sentence(error, words[0]), code=errors.exit_code(error))


def _run(command: str, args: list[str]) -> None:
    new_frames = command == "predict" and any(word.partition("=")[0] == "--input" for word in args)
    if command in ("fit", "validate", "test", "predict") and not new_frames:
        from microevo.cli.training import TrainingCLI

        TrainingCLI([command, *args])
        return
    from microevo.cli import commands

    {
        "simulate": commands.simulate,
        "import": commands.import_,
        "compare": commands.compare,
        "benchmark": commands.benchmark,
        "predict": commands.predict,
        "sweep": commands.sweep,
        "convert": commands.convert,
        "import-checkpoint": commands.import_checkpoint,
        "export": commands.export,
    }[command](args)


def _exit(sentence: str, code: int) -> NoReturn:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # once among the processes of a run
        print(f"microevo: error: {sentence}", file=sys.stderr)
    raise SystemExit(code)
