"""Several checkpoints side by side: one table, one picture."""

from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from lightning.pytorch.loggers import Logger, WandbLogger
from tqdm import tqdm

from microevo.benchmark.cost import measure_cost
from microevo.benchmark.evaluate import evaluate, load
from microevo.benchmark.report import write_report
from microevo.data import TrajectoryDataModule
from microevo.models import Forecaster, Persistence


def run(
    data: TrajectoryDataModule,
    checkpoints: dict[str, str] = {},  # noqa: B006  (never changed; jsonargparse shows it as the default)
    output: str = "results/benchmark",
    leads: list[int] = [1, 10, 50, 90],  # noqa: B006
    repeats: int = 5,
    warmup: int = 1,
    batch_size: int = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    logger: Logger | None = None,
    overwrite: bool = False,
) -> pd.DataFrame:
    """Compare trained models, and persistence, on the same test windows and the same device.

    Args:
        data: Store, fields, past frames and horizon of the comparison.
        checkpoints: Name and checkpoint of each model.
        output: Folder of the results: `report.md`, `report.png`, `summary.csv` and the long `results.csv`.
        leads: Leads of the table; those beyond the horizon are left out.
        repeats: Timed forecasts per model, taken in turn.
        warmup: Forecasts per model before the timed ones.
        batch_size: Windows per timed forecast.
        device: Where to run; `auto` takes a GPU if there is one.
        logger: Where to send table and picture too, for instance a WandbLogger.
        overwrite: Replace the results that are in `output`.

    Returns:
        The summary table, one row per model.

    Raises:
        FileExistsError: `output` holds results already.
        ValueError: A checkpoint does not fit the data.
    """
    folder = Path(output)
    if (folder / "report.md").exists() and not overwrite:
        raise FileExistsError(f"{folder} holds a report already; use --overwrite or choose another --output")
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    forecasters: dict[str, Forecaster] = {name: load(path, data) for name, path in checkpoints.items()}
    floor = Persistence(n_past=data.n_past, channels=len(data.fields), horizon=data.horizon)
    forecasters.setdefault("Persistence", floor)

    tables = []
    for name, forecaster in (progress := tqdm(forecasters.items(), unit="model")):
        progress.set_description(f"testing {name}")
        tables.append(evaluate(forecaster, data, model=name, accelerator="gpu" if chosen == "cuda" else "cpu"))
    table = pd.concat(tables, ignore_index=True)

    past = _past(data, batch_size).to(chosen)
    for forecaster in forecasters.values():
        forecaster.to(chosen)
    cost = measure_cost(forecasters, past, data.horizon, repeats=repeats, warmup=warmup)

    summary = write_report(table, cost, leads, folder, title=_title(data), overwrite=overwrite)
    print((folder / "report.md").read_text())
    print(f"report: {folder / 'report.md'}, picture: {folder / 'report.png'}")
    if isinstance(logger, WandbLogger):
        logger.log_table("benchmark/summary", dataframe=summary.reset_index())
        logger.log_image("benchmark/report", [str(folder / "report.png")])
    elif logger is not None:
        for model, row in summary.iterrows():
            numbers = {f"benchmark/{model}/{key}": float(value) for key, value in row.items() if _is_number(value)}
            logger.log_metrics(numbers)
    if logger is not None:
        logger.save()
        logger.finalize("success")
    return summary


def _past(data: TrajectoryDataModule, batch_size: int) -> torch.Tensor:
    data.setup("test")
    windows = data.datasets["test"]
    return torch.stack([windows[i % len(windows)].past for i in range(batch_size)])


def _title(data: TrajectoryDataModule) -> str:
    windows = len(data.datasets["test"])
    return f"{data.process}: {data.n_past} -> {data.horizon} frames, {windows} test windows"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
