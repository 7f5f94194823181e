"""The folder of a run: a new one, or that of the run that is resumed; one training at a time writes into it."""

import contextlib
import datetime
import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities import rank_zero_only

from microevo.callbacks.checkpoints import has_checkpoints, is_own
from microevo.callbacks.run import command_line, run_records, slurm_job

LOCK = "run.lock"


def home_of(config: Namespace) -> Path:
    """The folder of a config's first run; a config that a run has saved belongs to that run."""
    if not config.get("config"):
        return Path("runs") / config.model.class_path.rsplit(".", 1)[-1].lower()
    path = Path(str(config.config[-1]))
    if path.stem.startswith("config-") and any(path.parent.glob("run-*.json")):
        return path.parent
    return Path("runs") / path.stem


def check_not_mixed(run_dir: Path, ckpt_path: str | None) -> None:
    """Check that a training is not to write its checkpoints among those of another one.

    Args:
        run_dir: Folder of the run.
        ckpt_path: Checkpoint that the training is to resume from, `last`, `best` or none.

    Raises:
        FileExistsError: It is.
    """
    if ckpt_path in ("last", "best") or not has_checkpoints(run_dir):
        return
    if ckpt_path is None or not is_own(run_dir, Path(ckpt_path)):
        raise FileExistsError(
            f"{run_dir} holds the checkpoints of a run; resume it (--ckpt_path last) or choose another --run_dir"
        )


def claim(path: Path) -> Path:
    """Make a new folder, with a number if the name is taken; safe between sweep agents that start at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            candidate.mkdir()
        except FileExistsError:
            number += 1
        else:
            return candidate


def started_together() -> bool:
    """Whether torchrun or srun has started several processes for one command, each of which would claim a folder."""
    kinds = (TorchElasticEnvironment, "WORLD_SIZE"), (SLURMEnvironment, "SLURM_NTASKS")
    return any(kind.detect() and int(os.environ.get(number) or 1) > 1 for kind, number in kinds)


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Keep other trainings out of a run's folder, which is made if it is not there and removed if it stays empty.

    The operating system frees the lock when its process ends, however it ends. Of the processes that train together, the
    first one holds the lock for all.

    Raises:
        FileExistsError: Another training uses the folder.
    """
    if getattr(rank_zero_only, "rank", 0):
        yield
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / LOCK
    try:
        file = _lock(path)
        try:
            for part in run_dir.glob("checkpoints/.*.part"):  # of a training that was killed while it saved
                part.unlink(missing_ok=True)
            yield
        finally:
            path.unlink(missing_ok=True)
            file.close()
    finally:
        remove_if_empty(run_dir)


def remove_if_empty(run_dir: Path) -> None:
    """Give a name back that a run has taken which then failed before it wrote anything."""
    with contextlib.suppress(OSError):
        run_dir.rmdir()


def _lock(path: Path) -> Any:
    while True:
        file = path.open("a+")
        try:
            # A lock of the process, not of the open file, which the workers of a data loader would share and keep.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip()
            file.close()
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise FileExistsError(
                f"another training writes into {path.parent} ({owner or 'it has just begun'}); wait for it, end it, or choose "
                "another --run_dir"
            ) from None
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            break
        file.close()  # its last owner has just removed it
    file.truncate(0)
    now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    file.write(f"process {os.getpid()} on {platform.node()}, since {now}\n")
    file.flush()
    return file


def requeued_run(home: Path) -> Path | None:
    """The folder in which this SLURM job was training when it was requeued, None if it was not.

    Args:
        home: The folder that a first run of the same config gets; later ones have the same name and a number.
    """
    if not int(os.environ.get("SLURM_RESTART_COUNT") or 0):
        return None
    for record in run_records(home.parent.glob(f"{home.name}*")):
        if (record.get("slurm_job"), record.get("command")) == (slurm_job(), command_line()):
            return record["folder"]
    return None


def wandb_id(run_dir: Path) -> str | None:
    """The id under which W&B knows the run in this folder; None if it does not, or if a sweep gives the id."""
    if os.environ.get("WANDB_RUN_ID") or os.environ.get("WANDB_SWEEP_ID"):
        return None
    return next((record["wandb_id"] for record in run_records([run_dir]) if "wandb_id" in record), None)
