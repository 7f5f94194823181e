"""Temporary folders beside what they become; those of killed processes are removed by the next one."""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

LOCK = "in-use.lock"


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A hidden folder beside `path`, on the same file system, which is removed at the end of the block.

    Folders that killed processes have left beside `path` are removed too. A lock tells them from those in use, since
    jobs that start on several computers at the same moment may have the same process id.
    """
    for leftover in path.parent.glob(".*.microevo-*"):
        _remove_unused(leftover)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.microevo-", dir=path.parent))
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def put_in_place(new: Path, path: Path, *, replace: bool) -> None:
    """Rename a folder in a scratch folder to `path`; what it replaces is moved there, and back if that fails."""
    replaced = new.parent / "replaced"
    try:
        if replace and path.exists():
            path.rename(replaced)
        new.rename(path)
    except BaseException:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        raise


def _remove_unused(folder: Path) -> None:
    # No lock yet: another process has just made the folder. An error: the file system knows no locks.
    with contextlib.suppress(OSError), (folder / LOCK).open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
