"""Averages of the weights (EMA) by Lightning's `WeightAveraging`: where it meets new, resumed and interrupted trainings.

During a validation the callback exchanges the weights of the model for their average, and every checkpoint holds the average
as the weights, beside the weights that a resumed training starts from.
"""

import warnings
from collections.abc import Mapping
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import FSDPStrategy


def averages(trainer: Trainer) -> list[WeightAveraging]:
    """The callbacks of a trainer that average weights."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, WeightAveraging)]


def start_averages(trainer: Trainer, pl_module: LightningModule) -> None:
    """Let the averages of a new training start from its weights, and lie on its device.

    Lightning copies the model before it has seen the data, loaded the weights of `init_from` and moved to its device.
    """
    for callback in averages(trainer):
        average = callback._average_model
        assert average is not None
        if trainer.ckpt_path is None:
            average.module.load_state_dict(pl_module.state_dict())
        if callback._device is None:
            average.to(pl_module.device)


def end_exchange(trainer: Trainer, pl_module: LightningModule) -> None:
    """Give the model of a validation that was interrupted its own weights back."""
    for callback in averages(trainer):
        callback.on_validation_epoch_end(trainer, pl_module)


def check_averaged(trainer: Trainer, checkpoint: Mapping[str, Any]) -> None:
    """Check that a training whose weights are averaged is resumed as one.

    Raises:
        ValueError: The checkpoint holds averaged weights, but the trainer does not average any.
    """
    if trainer.state.fn == "fit" and "averaging_state" in checkpoint and not averages(trainer):
        raise ValueError(
            "The checkpoint is of a training whose weights are averaged; resume it with the same callback "
            "(EMAWeightAveraging), or start a new run from the average with init_from."
        )


def check_whole_weights(trainer: Trainer) -> None:
    """Check that each process of a training whose weights are averaged has all of them.

    Raises:
        ValueError: The strategy gives each process a part of the weights.
    """
    if averages(trainer) and isinstance(trainer.strategy, FSDPStrategy):
        raise ValueError(
            "EMAWeightAveraging averages whole weights, but with trainer.strategy = fsdp each process holds a part of them; use "
            "ddp or leave the callback out"
        )


def expect_averaged_weights() -> None:
    """Do not warn where a checkpoint is evaluated: that its weights are the average is what is wanted."""
    warnings.filterwarnings("ignore", message=".*WeightAveraging callback, but loading a checkpoint outside")
