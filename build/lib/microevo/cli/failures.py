"""What a user is told: one sentence for each failure, and no advertisements."""

import contextlib
import errno
import logging
import os
import sys
import warnings
from collections.abc import Iterator

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from microevo.cli.complaints import unwrap
from microevo.cli.parser import UsageError

# Anything else is a mistake of ours, and its traceback is what we need to see.
EXPECTED = (UsageError, ValueError, OSError, RuntimeError, MisconfigurationException)

UNINFORMATIVE_LOGS = ("Tip:", "TPU available", "Loading `train_dataloader` to estimate", "Trainer already configured")
UNINFORMATIVE_WARNINGS = (
    "LightningCLI's args parameter is intended",
    ".*LeafSpec.* is deprecated",
    ".*does not have many workers",
    ".*`instantiate_classes` was deprecated",
    ".*is smaller than the logging interval",
    ".*all_gather is deprecated",
    "Checkpoint directory .* exists and is not empty",
)


def sentence(error: BaseException) -> str:
    """What happened and what to do, on one line."""
    if isinstance(error, torch.OutOfMemoryError):
        return (
            "the GPU has too little memory for this; lower data.init_args.batch_size and eval_batch_size, or the model"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return _about_file(error)
    return unwrap(str(error)) or type(error).__name__


def exit_code(error: BaseException) -> int:
    """2 if the command was asked wrongly, 1 if it failed."""
    return 2 if isinstance(error, UsageError) else 1


def _about_file(error: OSError) -> str:
    path = error.filename2 or error.filename or "a file"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no room on the disk to write {path}; make some and give the command again (what was complete is kept)"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to read or write {path}; change its permissions or choose another place"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return f"{path} cannot be made, for a part of that path is a file, not a folder; choose another place"
    return f"{path}: {(error.strerror or str(error)).lower()}"


@contextlib.contextmanager
def quiet(command: str) -> Iterator[None]:
    """Drop advertisements, and warnings about code that is not the user's; say the others on a line each."""
    rank_zero = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    lightning = logging.getLogger("lightning.pytorch")
    level = lightning.level
    rank_zero.addFilter(_is_informative)
    if command == "benchmark":  # it makes a trainer for each model
        lightning.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            for message in UNINFORMATIVE_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        rank_zero.removeFilter(_is_informative)
        lightning.setLevel(level)


def _is_informative(record: logging.LogRecord) -> bool:
    return not any(part in record.getMessage() for part in UNINFORMATIVE_LOGS)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"microevo: warning: {' '.join(str(message).split())}", file=sys.stderr)
