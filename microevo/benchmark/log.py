"""The results of a benchmark for W&B: tables, curves and animations; plain numbers for other loggers."""

from pathlib import Path

import pandas as pd
from lightning.pytorch.loggers import Logger, WandbLogger

from microevo import plot
from microevo.benchmark.entry import TRUTH
from microevo.benchmark.results import Results
from microevo.benchmark.summary import FLOOR, Curves


def log_results(results: Results, summary: pd.DataFrame, logger: Logger) -> None:
    """Send the summary, error against lead, pictures and one animation per model and protocol.

    Args:
        results: The benchmark.
        summary: What `write_report` returned.
        logger: A WandbLogger gets everything; any other one the means over all leads.
    """
    if isinstance(logger, WandbLogger):
        _to_wandb(results, summary, logger)
    else:
        means = summary[summary["lead"] == 0].set_index(["protocol", "model", "metric"])["mean"]
        logger.log_metrics({f"benchmark/{'/'.join(key)}": float(value) for key, value in means.items()})  # type: ignore[arg-type]
    logger.save()
    logger.finalize("success")


def _to_wandb(results: Results, summary: pd.DataFrame, logger: WandbLogger) -> None:
    import wandb

    logger.log_table("benchmark/summary", dataframe=summary)
    if not results.cost.empty:
        logger.log_table("benchmark/cost", dataframe=results.cost)
    for name in results.about["protocols"]:
        curves = Curves.read(results.table, name, "rmse", results.groups(name))
        means = {model: curves.mean(model) for model in curves.forecasters}
        leads = list(range(1, 1 + len(next(iter(means.values())))))
        lines = wandb.plot.line_series(
            xs=leads,
            ys=[mean.tolist() for mean in means.values()],
            keys=list(means),
            title=f"RMSE, {name}",
            xname="lead",
        )
        logger.experiment.log({f"benchmark/{name}/rmse": lines})
        logger.log_image(f"benchmark/{name}/picture", [str(path) for path in sorted(results.folder.glob("*.png"))])
        for path in animations(results, name):
            logger.experiment.log({f"benchmark/{name}/{path.stem}": wandb.Video(str(path), format="gif")})


def animations(results: Results, protocol: str) -> list[Path]:
    """Truth, forecast and error of the first window of each entry, as GIF files beside the frames that are kept."""
    truth = results.frames(protocol, TRUTH)[0, :, 0]
    made = []
    for label in results.about["protocols"][protocol]["entries"]:
        if label in (TRUTH, FLOOR):
            continue
        path = results.table.frames_path(protocol, label).with_suffix(".gif")
        made.append(plot.animation(truth, results.frames(protocol, label)[0, :, 0], path, frames_per_second=6.0))
    return made
