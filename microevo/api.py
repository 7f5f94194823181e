"""The functions that cover most uses from Python; `import microevo` offers them under its own name."""

import os
from pathlib import Path
from typing import Literal

import pandas as pd
from lightning import Trainer

from microevo.callbacks import LeadTable
from microevo.data import TrajectoryDataModule, TrajectoryStore
from microevo.data import generate as simulate
from microevo.models import Forecaster, load_model

__all__ = ["evaluate", "load_model", "open_store", "simulate"]


def open_store(path: str | os.PathLike) -> TrajectoryStore:
    """Open a trajectory store for reading.

    Args:
        path: Folder that `simulate` or `python -m microevo import` wrote, a zip file of it, or a URL that fsspec reads.

    Raises:
        FileNotFoundError: There is nothing at `path`.
        ValueError: It is not a trajectory store, or an unfinished one.
    """
    return TrajectoryStore.open(path)


def evaluate(
    model: Forecaster | str | Path,
    store: TrajectoryStore | str | Path,
    *,
    fields: list[str] | None = None,
    batch_size: int = 8,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
) -> pd.DataFrame:
    """Score a model, and the repetition of the last input frame (Persistence), on the test split of a store.

    The store must have the parameters that the model is conditioned on.

    Args:
        model: A forecaster, or the checkpoint of one. It is scored over its own `horizon`.
        store: A trajectory store, or its folder.
        fields: Fields that the model forecasts, in the order of the axis C; all those of the store unless given.
        batch_size: Windows in a batch.
        accelerator: Where the forecasts are computed.

    Returns:
        The table that `python -m microevo test` writes: a row for each model, metric, trajectory, window and lead time, with the
        columns `process`, `model`, `seed`, `metric`, `trajectory`, `start`, `lead` and `value`.
        `microevo.metrics.table.mean_at_leads` averages it.

    Raises:
        FileNotFoundError: There is no such checkpoint or store.
        ValueError: The model does not fit the store.
    """
    forecaster = model if isinstance(model, Forecaster) else load_model(model)
    opened = store if isinstance(store, TrajectoryStore) else TrajectoryStore.open(store)
    data = TrajectoryDataModule(
        store=str(opened.path),
        fields=list(opened.fields) if fields is None else fields,
        n_past=forecaster.n_past,
        horizon=forecaster.horizon,
        batch_size=batch_size,
        parameters=forecaster.parameter_names,
    )
    table = LeadTable(write=False)
    trainer = Trainer(
        accelerator=accelerator,
        devices=1,
        logger=False,
        callbacks=[table],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.test(forecaster, data, verbose=False)
    return table.table
