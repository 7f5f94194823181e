"""Forecaster + test trajectories -> long table."""

from pathlib import Path

import pandas as pd
from lightning import LightningModule, Trainer

from microevo.callbacks import LeadTable
from microevo.data import TrajectoryDataModule
from microevo.models import Forecaster


def evaluate(
    forecaster: Forecaster, data: TrajectoryDataModule, *, model: str, accelerator: str = "auto"
) -> pd.DataFrame:
    """Score a forecaster on the test windows, one row per metric, trajectory and lead.

    It is the same test that `python -m microevo test` runs.

    Args:
        forecaster: The model.
        data: The module whose test windows to use; its horizon must be the forecaster's.
        model: Name of the model in the table.
        accelerator: Where to run, as in Lightning's Trainer.

    Returns:
        A table with the columns `process`, `model`, `seed`, `metric`, `trajectory`, `start`, `lead`, `value`.
    """
    collector = LeadTable(write=False, persistence=False)
    trainer = Trainer(
        accelerator=accelerator,
        devices=1,
        callbacks=[collector],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.test(forecaster, datamodule=data, verbose=False)
    return collector.table.assign(model=model)


def load(checkpoint: str | Path, data: TrajectoryDataModule) -> Forecaster:
    """The model of a checkpoint, ready to forecast the horizon of `data`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The checkpoint is no model of ours, or one for other past frames or fields than those of `data`.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(
            f"there is no checkpoint at {checkpoint}; train the model first, or correct `checkpoints`"
        )
    forecaster = LightningModule.load_from_checkpoint(
        checkpoint, map_location="cpu", weights_only=True, horizon=data.horizon
    )
    if not isinstance(forecaster, Forecaster):
        raise ValueError(f"{checkpoint} holds a {type(forecaster).__name__}, which is no microevo model")
    if (forecaster.n_past, forecaster.channels) != (data.n_past, len(data.fields)):
        raise ValueError(
            f"{checkpoint} was trained on {forecaster.n_past} past frames of {forecaster.channels} fields, but the data give "
            f"{data.n_past} of {len(data.fields)}; change n_past and fields of the data, or leave it out"
        )
    return forecaster
