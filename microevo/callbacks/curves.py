"""How the error at each lead time falls during a training."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from matplotlib import colormaps
from matplotlib.figure import Figure

from microevo import plot
from microevo.models import Forecaster
from microevo.provenance import write_file

DRAWN = 8  # validations in a picture, the first and the last among them


class LeadCurves(Callback):
    """Writes the RMSE against lead time of every validation: `validation-leads.csv` and `.png`, and a chart for W&B.

    A mean over lead times hides whether a training still improves single steps or already what becomes of their errors.

    Args:
        every_n_epochs: Epochs between two pictures; the table has all validations.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, but it is {every_n_epochs}")
        self.every_n_epochs = every_n_epochs
        self.steps: list[int] = []
        self.curves: list[list[float]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the curve, and draw those so far."""
        assert isinstance(pl_module, Forecaster)
        if trainer.state.fn != "fit" or trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        curve = pl_module.metrics.curves()["mse"].sqrt()
        if trainer.global_step in self.steps:  # a resumed training validates once more
            self.steps.pop(), self.curves.pop()
        self.steps.append(trainer.global_step)
        self.curves.append(curve.tolist())
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        write_file(folder / "validation-leads.csv", self._table())
        if trainer.current_epoch % self.every_n_epochs == 0:
            plot.save(self._picture(type(pl_module).__name__), folder / "validation-leads.png")
            self._to_wandb(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The curves so far, for a training that is resumed."""
        return {"steps": self.steps, "curves": self.curves}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them up again."""
        self.steps, self.curves = list(state_dict["steps"]), list(state_dict["curves"])

    def _table(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["step", "lead", "rmse"])
        for step, curve in zip(self.steps, self.curves, strict=True):
            writer.writerows([step, lead, f"{value:.6g}"] for lead, value in enumerate(curve, start=1))
        return text.getvalue()

    def _drawn(self) -> list[int]:
        """Which validations are drawn."""
        last = len(self.steps) - 1
        return sorted({round(last * place / (DRAWN - 1)) for place in range(DRAWN)})

    def _picture(self, title: str) -> Figure:
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes, drawn = figure.add_subplot(), self._drawn()
        for place, number in enumerate(drawn):
            colour = colormaps["viridis"](1 - (place + 1) / (len(drawn) + 1))  # the latest is the darkest
            curve = self.curves[number]
            axes.plot(
                range(1, len(curve) + 1), curve, "." * (len(curve) < 3) + "-", color=colour, label=self.steps[number]
            )
        axes.set_yscale("log")
        axes.set_title(f"{title}, validation", fontsize=10)
        plot.frame_axes(axes, "lead time [frames]", "RMSE")
        axes.legend(title="step", frameon=False, fontsize=8, title_fontsize=8)
        return figure

    def _to_wandb(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                import wandb

                drawn = self._drawn()
                lines = wandb.plot.line_series(
                    xs=list(range(1, len(self.curves[-1]) + 1)),
                    ys=[self.curves[number] for number in drawn],
                    keys=[f"step {self.steps[number]}" for number in drawn],
                    title="validation RMSE",
                    xname="lead",
                )
                logger.experiment.log({"val/rmse by lead": lines})
