"""The output of a command: checked before anything is read, and there as a whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from microevo.data.location import writable
from microevo.data.scratch import put_in_place, scratch_folder
from microevo.data.store import TrajectoryStore
from microevo.provenance import check_replaceable


def check_output(output: str | Path, overwrite: bool) -> Path:
    """Check that a store can be written to `output`, and return its path.

    Raises:
        FileExistsError: Something is there that may not be replaced.
        OSError: The folder cannot be written to.
        ValueError: It is a zip file or a URL.
    """
    output = writable(output)
    if not output.exists():
        folder = next(parent for parent in output.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise OSError(f"{output} cannot be written, since {folder} is not a writable folder; choose another output")
        return output
    check_replaceable(output, overwrite, "store", _is_store)
    return output


@contextlib.contextmanager
def whole_output(output: Path, overwrite: bool) -> Iterator[Path]:
    """A path for a new file or folder, which is moved to `output` at the end of the block, or removed if the block fails.

    The path lies in a temporary folder beside `output`, where the block may write other things too.

    Raises:
        OSError: `output` cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(output) as folder:
            yield folder / output.name
            put_in_place(folder / output.name, output, replace=overwrite)
    except OSError as error:
        if error.errno is None:  # the message is a sentence already
            raise
        reason = os.strerror(error.errno)
        raise OSError(f"{output} cannot be written ({reason}); choose another output") from error


def _is_store(path: Path) -> bool:
    try:
        TrajectoryStore.open(path, unfinished=True)
    except ValueError:
        return False
    return True
