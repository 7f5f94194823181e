"""A report for W&B: tables, curves, figures and animations; means and curves for other loggers."""

from pathlib import Path

import pandas as pd
from lightning.pytorch.loggers import Logger, WandbLogger

from microevo import plot
from microevo.benchmark.competitors import BASELINE, TRUTH
from microevo.benchmark.leaderboard import ScoreCurves
from microevo.benchmark.report.build import ProtocolReport, Report
from microevo.benchmark.report.figures import figure_name
from microevo.callbacks.run import run_records


def log_report(report: Report, logger: Logger) -> None:
    """Send the summary, scores against lead time, figures, and one animation per model and protocol.

    Args:
        report: The report, of which the files are written.
        logger: A WandbLogger gets everything; any other one numbers: the means over all lead times at step 0, and scores
            against lead time with the lead time as the step.
    """
    if isinstance(logger, WandbLogger):
        _to_wandb(report, logger)
    else:
        _numbers(report, logger)
        print(f"{type(logger).__name__} takes no pictures: see the .png files and report.html in {report.folder}")
    logger.save()
    logger.finalize("success")


def _numbers(report: Report, logger: Logger) -> None:
    names = {protocol.name: _against_lead(protocol) for protocol in report.reported}
    means = {
        f"benchmark/{protocol.name}/{competitor}/{_name(curves)}": curve.mean.mean
        for protocol in report.reported
        for curves in protocol.board.scores
        for competitor, curve in curves.curves.items()
    }
    logger.log_metrics(means, step=0)
    by_lead = {
        f"benchmark/{protocol}/{competitor}/{_name(curves)}_by_lead": curve.at[0]
        for protocol, scores in names.items()
        for curves in scores
        for competitor, curve in curves.curves.items()
    }
    for lead in range(1, 1 + max(map(len, by_lead.values()), default=0)):  # protocols end at lead times of their own
        at = {key: float(mean[lead - 1]) for key, mean in by_lead.items() if lead <= len(mean)}
        logger.log_metrics(at, step=lead)


def _name(curves: ScoreCurves) -> str:
    """Name of a score in logs: an error of a quantity says that it is one."""
    return f"{curves.score.key.name}{'_error' * (curves.score.key.kind == 'quantity_error')}"


def _against_lead(protocol: ProtocolReport) -> list[ScoreCurves]:
    """The metrics of the figure, the scores of ensembles, and the values of each quantity, or its errors if it has none."""
    metrics = [protocol.board.metric(name) for name in ("rmse", "ssim")]
    quantities = [quantity.values or quantity.errors for quantity in protocol.board.quantities]
    return [
        curves for curves in (*metrics, *protocol.board.ensembles, *quantities) if curves is not None and curves.curves
    ]


def _to_wandb(report: Report, logger: WandbLogger) -> None:
    import wandb

    for name, table in (("summary", report.summary), ("cost", report.cost)):
        if not table.empty:  # W&B takes None for what is missing in a column of numbers or words
            logger.log_table(f"benchmark/{name}", dataframe=table.astype(object).where(table.notna(), None))
    run = logger.experiment
    runs = compared_runs(report, run.project_url if run.url else "")
    logger.log_table("benchmark/runs", dataframe=runs.astype(object).where(runs.notna(), None))
    logger.experiment.config.update({"runs": dict(zip(runs["model"], runs["run"], strict=True))}, allow_val_change=True)
    for protocol in report.reported:
        for curves in _against_lead(protocol):
            means = {name: curve.at[0] for name, curve in curves.curves.items()}
            lines = wandb.plot.line_series(
                xs=list(range(1, 1 + len(next(iter(means.values()))))),
                ys=[mean.tolist() for mean in means.values()],
                keys=list(means),
                title=f"{curves.score.label}, {protocol.name}",
                xname="lead",
            )
            logger.experiment.log({f"benchmark/{protocol.name}/{_name(curves)}": lines})
        logger.log_image(f"benchmark/{protocol.name}/figure", [str(report.folder / figure_name(protocol.name))])
        for path in animations(protocol):
            logger.experiment.log({f"benchmark/{protocol.name}/{path.stem}": wandb.Video(str(path), format="gif")})


def compared_runs(report: Report, project: str = "") -> pd.DataFrame:
    """The trainings whose weights are compared, as far as they wrote down where they come from.

    Args:
        report: The report.
        project: Address of the W&B project, for links to its runs.

    Returns:
        A row for each checkpoint: the `model` and its `checkpoint`, the `run` by its W&B id with a `link`, the `seed`, the
        fingerprint of the training `data` and the `commit`.
    """
    rows = []
    for model, paths in report.results.record["settings"].get("checkpoints", {}).items():
        several = [paths] if isinstance(paths, str) else paths
        for path in several:
            about = next(iter(run_records(Path(path).parents[:2])), {})  # of the folder above `checkpoints`
            run = about.get("wandb_id")
            rows.append(
                {
                    "model": model if len(several) == 1 else f"{model}, seed {about.get('seed')}",
                    "checkpoint": path,
                    "run": run,
                    "link": f"{project}/runs/{run}" if project and run else None,
                    "seed": about.get("seed"),
                    "data": about.get("data_fingerprint"),
                    "commit": about.get("git_commit"),
                }
            )
    return pd.DataFrame(rows, columns=["model", "checkpoint", "run", "link", "seed", "data", "commit"])


def animations(protocol: ProtocolReport) -> list[Path]:
    """Truth, forecast and error of the first window of each competitor, as GIF files beside the kept frames."""
    table, made = protocol.table, []
    if TRUTH not in table.names:
        return []
    truth = table.frames(TRUTH)[0, :, 0]
    for competitor in table.competitors:
        if competitor["name"] not in (TRUTH, BASELINE):
            path = table.frames_path(competitor["label"]).with_suffix(".gif")
            made.append(plot.animation(truth, table.frames(competitor["label"])[0, :, 0], path, frames_per_second=6.0))
    return made
