"""The results of a benchmark for W&B: tables, curves, pictures and animations; means and curves for other loggers."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from lightning.pytorch.loggers import Logger, WandbLogger

from microevo import plot
from microevo.benchmark.competitors import TRUTH
from microevo.benchmark.page import PAGE
from microevo.benchmark.picture import picture_name
from microevo.benchmark.report import unit_of
from microevo.benchmark.results import Results
from microevo.benchmark.summary import FLOOR, Column, Curves, metrics_of


def log_results(results: Results, summary: pd.DataFrame, logger: Logger) -> None:
    """Send the summary, scores against lead, pictures and one animation per model and protocol.

    Args:
        results: The benchmark.
        summary: What `write_report` returned.
        logger: A WandbLogger gets everything; any other one numbers: the means over all leads at step 0, and scores
            against lead with the lead as the step.
    """
    if isinstance(logger, WandbLogger):
        _to_wandb(results, summary, logger)
    else:
        _numbers(results, summary, logger)
        print(f"{type(logger).__name__} takes no pictures: see the .png files and {PAGE} in {results.folder}")
    logger.save()
    logger.finalize("success")


def _numbers(results: Results, summary: pd.DataFrame, logger: Logger) -> None:
    means = summary[summary["lead"] == 0].set_index(["protocol", "model", "metric"])["mean"]
    logger.log_metrics({f"benchmark/{'/'.join(key)}": float(value) for key, value in means.items()}, step=0)  # type: ignore[arg-type]
    curves = {
        f"benchmark/{name}/{model}/{metric.name}_by_lead": mean
        for name in _reported(summary)
        for metric, means in _against_lead(results, name).items()
        for model, mean in means.items()
    }
    for lead in range(1, 1 + max(map(len, curves.values()), default=0)):  # protocols end at leads of their own
        at = {key: float(mean[lead - 1]) for key, mean in curves.items() if lead <= len(mean)}
        logger.log_metrics(at, step=lead)


def _against_lead(results: Results, protocol: str) -> dict[Column, dict[str, Float[np.ndarray, " T"]]]:
    """Mean of each metric of the pictures and of each physical quantity, for each model, at each lead.

    Quantities that the truth has too stand beside it; of the others there are errors.
    """
    metrics = [metric for metric in metrics_of(results.about["protocols"][protocol]) if not metric.whole]
    values = {f"{metric.name} error" for metric in metrics if metric.value}
    chosen = [
        metric
        for metric in metrics
        if metric.name in ("rmse", "ssim") or metric.value or (metric.physical and metric.name not in values)
    ]
    curves = {metric: Curves.read(results.table, protocol, metric.name) for metric in chosen}
    return {
        metric: {model: own.mean(model) for model in (own.models if metric.value else own.forecasters)}
        for metric, own in curves.items()
    }


def _reported(summary: pd.DataFrame) -> list[str]:
    """The protocols that any model has answered completely."""
    return [str(name) for name in summary["protocol"].unique()]


def _to_wandb(results: Results, summary: pd.DataFrame, logger: WandbLogger) -> None:
    import wandb

    logger.log_table("benchmark/summary", dataframe=summary)
    if not results.cost.empty:
        logger.log_table("benchmark/cost", dataframe=results.cost)
    for name in _reported(summary):
        for metric, means in _against_lead(results, name).items():
            lines = wandb.plot.line_series(
                xs=list(range(1, 1 + len(next(iter(means.values()))))),
                ys=[mean.tolist() for mean in means.values()],
                keys=list(means),
                title=f"{metric.title}{unit_of(metric)}, {name}",
                xname="lead",
            )
            logger.experiment.log({f"benchmark/{name}/{metric.name}": lines})
        logger.log_image(f"benchmark/{name}/picture", [str(results.folder / picture_name(name))])
        for path in animations(results, name):
            logger.experiment.log({f"benchmark/{name}/{path.stem}": wandb.Video(str(path), format="gif")})


def animations(results: Results, protocol: str) -> list[Path]:
    """Truth, forecast and error of the first window of each entry, as GIF files beside the frames that are kept."""
    answered, made = results.complete(protocol), []
    if TRUTH not in answered:
        return []
    truth = results.frames(protocol, TRUTH)[0, :, 0]
    for label in answered:
        if label in (TRUTH, FLOOR):
            continue
        path = results.table.frames_path(protocol, label).with_suffix(".gif")
        made.append(plot.animation(truth, results.frames(protocol, label)[0, :, 0], path, frames_per_second=6.0))
    return made
