"""Messages for the user: one sentence for each error, and no advertisements."""

import contextlib
import errno
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch


class UsageError(Exception):
    """The command line, or a config file that it names, cannot be understood; the message says why."""


OF_LIBRARIES = {"lightning.fabric.utilities.exceptions": "MisconfigurationException", "wandb.errors": "Error"}
LONGEST = 370  # letters of a message
# jsonargparse's reasons fill a page. These lines say nothing that the others do not; should their wording change, the
# message gets longer and stays right.
REPETITIONS = (
    "Does not validate against any",
    "Subtypes:",
    "Errors:",
    "Expected a <class 'NoneType'>",
    "Given value type:",
    "Given value: NestedArg",
    "Given value: {",
    "Given value: Namespace(",
)
PLAIN = {
    ":, ": ": ",
    "Parser key ": "option ",
    "Problem with given class_path": "in",
    "a <class 'int'>": "a whole number",
    "a <class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'int'>": "a whole number",
    "a typing.Literal[": "one of [",
}
MEMORY = {  # what to lower if it does not suffice
    "fit": "lower data.init_args.batch_size and eval_batch_size, set --trainer.precision=bf16-mixed, or compute activations "
    "again for the gradient (LocalNet: --model.init_args.checkpointing=true); the checkpoints of the run are kept",
    **dict.fromkeys(("validate", "test", "predict"), "lower data.init_args.eval_batch_size"),
    **dict.fromkeys(("simulate", "benchmark"), "lower --batch_size"),
}
UNINFORMATIVE_LOGS = (
    "Tip:",
    "TPU available",
    "Loading `train_dataloader` to estimate",
    "Trainer already configured",
    "`weights_only` was not set",  # of reading, said where Lightning saves for SLURM
)
UNINFORMATIVE_WARNINGS = (
    "LightningCLI's args parameter is intended",
    ".*LeafSpec.* is deprecated",
    ".*does not have many workers",
    ".*`instantiate_classes` was deprecated",
    ".*is smaller than the logging interval",
    ".*all_gather is deprecated",
    "Checkpoint directory .* exists and is not empty",
)


def expected() -> tuple[type[Exception], ...]:
    """Errors that are reported in a sentence. Anything else is a mistake of ours, and its traceback is what we need to see."""
    errors = [UsageError, ValueError, OSError, RuntimeError, MemoryError]
    # Not every command imports these, for they take long.
    errors += [getattr(sys.modules[module], name) for module, name in OF_LIBRARIES.items() if module in sys.modules]
    return tuple(errors)


def sentence(error: BaseException, command: str = "") -> str:
    """What happened and what to do, on one line."""
    if memory := _exhausted(error):
        return f"the {memory} has too little memory for this; {MEMORY.get(command, 'take less data at once')}"
    if isinstance(error, OSError) and error.errno is not None:
        return _about_file(error)
    return one_line(str(error)) or type(error).__name__


def exit_code(error: BaseException) -> int:
    """2 if the command line is wrong, 1 if it failed."""
    return 2 if isinstance(error, UsageError) else 1


def one_line(message: str) -> str:
    """A message of many indented lines on one line, in plain words and without the lines that repeat others."""
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    text = ", ".join(dict.fromkeys(line for line in lines if line and not line.startswith(REPETITIONS)))
    for theirs, ours in PLAIN.items():
        text = text.replace(theirs, ours)
    return shorten(text, LONGEST)


def shorten(text: str, letters: int) -> str:
    """The beginning of a text that is too long."""
    return text if len(text) <= letters else f"{text[: letters - 3]}..."


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, the one that it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _exhausted(error: BaseException) -> str:
    """Whose memory is exhausted: that of the GPU or the computer; empty for another error."""
    text = str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in text):
        return "computer"
    words = ("out of memory", "_ALLOC_FAILED")  # of CUDA itself, and of cuBLAS, cuDNN and cuFFT
    # The error of a process that a command started has only its text.
    exhausted = isinstance(error, torch.OutOfMemoryError) or any(word in text for word in words)
    return "GPU" if exhausted and isinstance(error, RuntimeError) else ""


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
    """Drop advertisements, and warnings about code that is not the user's; print each of the others on a line."""
    rank_zero = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    lightning = logging.getLogger("lightning.pytorch")
    levels = {logger: logger.level for logger in (rank_zero, lightning)}
    rank_zero.addFilter(_is_informative)
    if command == "benchmark":  # it makes a trainer for each model
        lightning.setLevel(logging.WARNING)
        rank_zero.setLevel(logging.INFO)
        rank_zero.addFilter(_is_ours)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            for message in UNINFORMATIVE_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for known in (_is_informative, _is_ours):
            rank_zero.removeFilter(known)
        for logger, level in levels.items():
            logger.setLevel(level)


def _is_informative(record: logging.LogRecord) -> bool:
    return not any(part in record.getMessage() for part in UNINFORMATIVE_LOGS)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether microevo says something, rather than Lightning about its trainer."""
    return record.levelno >= logging.WARNING or "lightning" not in Path(record.pathname).parts


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"microevo: warning: {' '.join(str(message).split())}", file=sys.stderr)
