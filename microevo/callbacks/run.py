"""What a run keeps of itself: its settings, its surroundings, and a checkpoint when it is interrupted."""

import json
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch.distributed as dist
import yaml
from jsonargparse import Namespace
from lightning import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger

from microevo.provenance import free_path, git_commit, read_record, versions, write_file


class SaveRun(SaveConfigCallback):
    """Writes `config-<stage>.yaml` and `run-<stage>.json` into the run's folder, and the config to W&B.

    The config is complete (every default is in it) and can be given to `--config` again. The JSON file holds
    the command, the versions, the seed, and of the data the fingerprint and the values between which each field lies.

    Lightning's own callback writes one file per logger, and a second one is an error.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, asked: Namespace) -> None:
        super().__init__(parser, asked, save_to_log_dir=False)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write both files; called on rank zero alone."""
        text = self.parser.dump(self.config, skip_none=False)
        name = getattr(stage, "value", stage)
        folder = Path(trainer.default_root_dir)
        write_file(free_path(folder / f"config-{name}.yaml"), text)
        about = {
            "command": command_line(),
            "seed": self.config.get("seed_everything"),
            "data_fingerprint": getattr(trainer.datamodule, "fingerprint", ""),  # type: ignore[attr-defined]
            "field_spans": getattr(trainer.datamodule, "spans", {}),  # type: ignore[attr-defined]
            "parameters": sum(weights.numel() for weights in pl_module.parameters()),
            "git_commit": git_commit(),
            "versions": versions(),
            "devices": f"{trainer.num_devices * trainer.num_nodes} x {trainer.strategy.root_device.type}",
        }
        if slurm_job() is not None:
            about["slurm_job"] = slurm_job()
        tree = yaml.safe_load(text)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                about["wandb_id"] = logger.experiment.id  # a resumed run continues it
        write_file(free_path(folder / f"run-{name}.json"), json.dumps(about, indent=2) + "\n")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                keep = {key: tree[key] for key in ("seed_everything", "model", "data", "trainer") if key in tree}
                logger.experiment.config.update(keep | about, allow_val_change=True)


def run_records(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """What the trainings in some folders have written about themselves, the newest first, each with its `folder`."""
    files = [path for folder in folders for path in folder.glob("run-fit*.json")]
    newest_first = sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)
    return [read_record(path) | {"folder": path.parent} for path in newest_first]


def batches_taken(trainer: Trainer) -> tuple[int, int]:
    """Batches that the present `validate`, `test` or `predict` takes, and those that there are, in this process."""
    assert trainer.state.fn is not None
    stage = {"validate": "val"}.get(trainer.state.fn.value, trainer.state.fn.value)
    loader = getattr(trainer, f"{stage}_dataloaders")
    return int(sum(getattr(trainer, f"num_{stage}_batches"))), len(loader)


def result_path(trainer: Trainer, name: str) -> Path:
    """A free path in the run's folder for a result, which is called `partial` where batches were left out."""
    taken, there = batches_taken(trainer)
    path = Path(trainer.default_root_dir) / name
    return free_path(path if taken >= there else path.with_stem(f"{path.stem}-partial"))


def command_line() -> str:
    """The command of this process."""
    return shlex.join(["python", "-m", "microevo", *sys.argv[1:]])


def slurm_job() -> str | None:
    """The SLURM job of this process, which keeps its id when it is requeued; None outside of SLURM."""
    return os.environ.get("SLURM_JOB_ID")


def gathered(trainer: Trainer, own: list[Any]) -> list[Any]:
    """The entries of all processes of a run, which wait for each other."""
    if trainer.world_size == 1:
        return own
    everyone: list = [None] * trainer.world_size
    dist.all_gather_object(everyone, own)
    return [entry for process in everyone for entry in process]


def log_image(trainer: Trainer, key: str, paths: Iterable[Path]) -> None:
    """Send pictures to the loggers that take any."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            images: list[Any] = [str(path) for path in paths]
            logger.log_image(key, images)


def log_animation(trainer: Trainer, key: str, path: Path) -> None:
    """Send an animation (GIF) to the loggers that take any."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            logger.experiment.log({key: wandb.Video(str(path), format="gif")})
