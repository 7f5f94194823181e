"""Commands that begin at once: they are forked from a process that has imported everything."""

import importlib
import multiprocessing as mp
import os
import runpy
import sys
from collections.abc import Sequence
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = ("microevo.cli.training", "microevo.cli.commands", "microevo.benchmark", "pytest")
PATIENCE = 120.0  # seconds for the imports


def launcher() -> BaseContext:
    """How commands are started: forked from a server that has imported everything, or anew where that does not work.

    Importing PyTorch and Lightning takes longer than many a part. A GPU cannot be used in a process whose
    parent has begun to use it, so that the first forked process tries it out.
    """
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, __name__])
    trial = context.Process(target=_try_device)
    trial.start()
    trial.join(PATIENCE)
    if trial.exitcode == 0:
        return context
    trial.kill()
    return mp.get_context("spawn")


def start(context: BaseContext, words: Sequence[str], log: Path) -> BaseProcess:
    """Start Python with these words, such as `-m microevo fit`, its output at the end of `log`."""
    process = context.Process(target=_run, args=(list(words), str(log)))  # type: ignore[attr-defined]
    process.start()
    return process


def _run(words: list[str], log: str) -> None:
    with Path(log).open("ab", buffering=0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")


def _try_device() -> None:
    for module in PRELOADED:  # the server keeps silent about what it cannot import
        importlib.import_module(module)
    import torch

    if torch.cuda.is_available():
        torch.ones(1, device="cuda").sum().item()
