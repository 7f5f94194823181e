"""What a W&B run came from and what came out of it: its data, and its best weights."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from microevo.callbacks.checkpoints import best_saver, recorded_best
from microevo.data import TrajectoryStore
from microevo.provenance import git_commit

NAME = 128  # longest name of an artifact


class Lineage(Callback):
    """Declares the data of a training as the input of its W&B run, and the best checkpoint at its end as the output.

    The data set is an artifact of the type `dataset` named after the store: its recipe and fingerprint, not its frames, so that
    all runs on the same data share it. The checkpoint is the artifact `model-<run id>` of the type `model` with the alias `best`,
    where `log_model` of the `WandbLogger`, if it is on, keeps its checkpoints too; then nothing is added to those.
    Both are kept in the run's folder while W&B is offline.

    Args:
        weights: Whether to keep the best checkpoint as an artifact; W&B takes a copy of it.
    """

    def __init__(self, weights: bool = True) -> None:
        self.weights = weights

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Declare the data."""
        store = getattr(getattr(trainer, "datamodule", None), "store_path", None)
        for logger in _wandb_loggers(trainer):
            if store is not None:
                _use(logger.experiment, data_artifact(TrajectoryStore.open(store)))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the best checkpoint."""
        loggers = _wandb_loggers(trainer)
        saver, folder = best_saver(trainer), Path(trainer.default_root_dir)
        best = recorded_best(folder)
        if best is None or not best.exists() or not self.weights or not loggers:
            return
        import wandb

        scores = {}
        if saver is not None and saver.monitor is not None and saver.best_model_score is not None:
            scores[saver.monitor] = float(saver.best_model_score)
        about = {
            "model": type(pl_module).__name__,
            "parameters": sum(weights.numel() for weights in pl_module.parameters()),
            "data_fingerprint": getattr(trainer.datamodule, "fingerprint", ""),  # type: ignore[attr-defined]
            "git_commit": git_commit(),
        }
        for logger in loggers:
            if logger._log_model:
                continue
            run = logger.experiment
            artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=about | scores)
            with _staged_in(folder):
                artifact.add_file(str(best), name="model.ckpt")  # as Lightning calls it
            run.log_artifact(artifact, aliases=["best"])


def data_artifact(store: TrajectoryStore) -> Any:
    """What says to W&B which data these are: the same for every copy of a store."""
    import wandb

    about = {"fingerprint": store.fingerprint, "process": store.attributes.get("process")}
    name = re.sub(r"[^\w.-]", "-", Path(str(store.path)).name.split(".zarr")[0])
    artifact = wandb.Artifact(f"data-{name}"[:NAME], type="dataset", metadata=about | {"path": str(store.path)})
    with artifact.new_file("recipe.json") as file:
        json.dump(about | {"recipe": store.attributes.get("recipe")}, file, indent=2, sort_keys=True)
    return artifact


def _use(run: Any, artifact: Any) -> None:
    """Declare an artifact as an input of a run, be it offline."""
    if run.settings._offline:  # `use_artifact` refuses; this is what it does, without waiting for the server's answer
        run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
    else:
        run.use_artifact(artifact)


def _wandb_loggers(trainer: Trainer) -> list[WandbLogger]:
    """The W&B loggers of the first process, unless W&B is switched off."""
    if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return []
    loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
    return [logger for logger in loggers if not logger.experiment.disabled]


@contextlib.contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Let W&B keep its copy of an artifact in the run's folder, and not in the home folder, which may be small."""
    before = os.environ.get("WANDB_DATA_DIR")
    os.environ["WANDB_DATA_DIR"] = before or str(folder / "wandb")
    try:
        yield
    finally:
        if before is None:
            del os.environ["WANDB_DATA_DIR"]
