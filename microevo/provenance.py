"""Where a result comes from (versions, commit, fingerprints), and how a file is written: whole or not at all."""

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("microevo", "torch", "lightning", "torchmetrics", "numpy", "zarr")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers of a simulation or a training."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def git_commit() -> str | None:
    """Commit of the working directory, with `-changed` if files differ from it; None outside of a git repository."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-changed" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def fingerprint(content: str | bytes | Path) -> str:
    """SHA-256 of a text, of bytes or of a file, as 64 hexadecimal digits."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def check_replaceable(path: Path, overwrite: bool, kind: str, ours: Callable[[Path], bool]) -> None:
    """Check that nothing is at `path`, or something that may be replaced and is to be.

    Args:
        path: Where something will be written.
        overwrite: Whether the user asked to replace what is there.
        kind: What may be replaced, for the message.
        ours: Whether it is that.

    Raises:
        FileExistsError: Something is there.
    """
    if not path.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{path} exists already; use --overwrite to replace it or choose another path")
    if not ours(path):
        raise FileExistsError(f"{path} exists already and is not a {kind} that may be replaced; choose another path")


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file to write, which becomes `path` when the block ends and is deleted if the block fails.

    `path` is complete or absent at any moment, also after a crash of the machine, and may be written by several
    processes at once. Its folder is made. The temporary file has another suffix: writers that choose a format by the
    suffix need it explicitly.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # or the name could outlive a crash and the content not
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a text (as UTF-8) or bytes, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file; give one in UTF-8") from None


def read_record(path: Path) -> dict[str, Any]:
    """What `write_file` has written as JSON.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        record = json.loads(path.read_text())
    except ValueError as error:  # also of bytes that are not text
        raise ValueError(f"{path} is damaged ({error}); restore it from a copy, or remove it") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} is damaged (it should hold names and values); restore it from a copy, or remove it")
    return record


def free_path(path: Path) -> Path:
    """`path`, or `path` with the first number that is not taken, so that no result is overwritten."""
    number, candidate = 2, path
    while candidate.exists():
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return candidate
