"""Who works on a trial: a file that is locked and renewed as long as somebody does."""

import errno
import fcntl
import os
import platform
import time
from pathlib import Path
from typing import IO

BEAT = 15.0  # seconds between two signs of life
PATIENCE = 120.0  # seconds of silence after which the runner on another machine is taken for dead


class Lease:
    """The right to work on a trial, until it is released or all processes that hold it have ended.

    Args:
        path: The file. On this machine its lock tells who is alive; on others, whose locks a network file system may not
            show, the time of its last renewal.

    Raises:
        BlockingIOError: Somebody on this machine works on the trial.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a+")
        if _is_locked(self._file):
            self._file.close()
            raise BlockingIOError(f"{path} is locked")
        # The trial's process has the lock too: one that outlives its runner keeps others out.
        os.set_inheritable(self._file.fileno(), True)
        self._file.truncate(0)
        self._file.write(platform.node())
        self._file.flush()
        self._renewed = time.monotonic()

    @property
    def descriptor(self) -> int:
        """What the process of the trial inherits."""
        return self._file.fileno()

    def renew(self) -> None:
        """Give a sign of life, if the last one was some time ago."""
        if time.monotonic() - self._renewed > BEAT:
            os.utime(self.path)
            self._renewed = time.monotonic()

    def release(self) -> None:
        """Leave the trial to others."""
        self._file.close()


def is_abandoned(path: Path) -> bool:
    """Whether nobody works on a trial any more."""
    try:
        file = path.open("a+")
    except FileNotFoundError:
        return True
    with file:
        file.seek(0)
        host = file.read()
        if _is_locked(file):
            return False
        if host in ("", platform.node()):
            return True
        # In the time of the file server, for the clocks of two machines differ.
        clock = path.with_name("clock")
        clock.touch()
        silence = clock.stat().st_mtime - os.fstat(file.fileno()).st_mtime
        return silence > PATIENCE


def _is_locked(file: IO[str]) -> bool:
    """Lock a file unless it is locked already."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return True
    return False
