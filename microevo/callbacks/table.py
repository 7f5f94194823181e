"""The long table of a test: one row per metric, trajectory and lead."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from microevo import plot
from microevo.callbacks.run import gathered, log_image, result_path
from microevo.models import Forecaster, Persistence
from microevo.provenance import write_file

if TYPE_CHECKING:  # it takes its time to import
    import pandas as pd

ORDER = ["model", "metric", "trajectory", "start", "lead"]


class LeadTable(Callback):
    """Collects what `Forecaster.test_step` returns and writes it as `test.csv` and `test.png`.

    The table has the columns `process`, `model`, `seed`, `metric`, `trajectory`, `start` (the window's first frame),
    `lead` and `value`. RMSE is not among the metrics: it is the root of an averaged `mse`, never an average of roots.
    A test that leaves out batches (`trainer.limit_test_batches`) writes `test-partial.csv`.

    Args:
        write: Write the files into the run's folder; otherwise only `table` is filled.
        persistence: Score the repetition of the last past frame too, on the same windows.
    """

    def __init__(self, write: bool = True, persistence: bool = True) -> None:
        self.write = write
        self.persistence = persistence
        self.table: pd.DataFrame
        self._parts: list[pd.DataFrame] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier test."""
        self._parts = []

    def on_test_batch_end(self, trainer: Trainer, pl_module: Forecaster, outputs, batch, *_) -> None:  # type: ignore[no-untyped-def, override]
        """Keep the values of each forecast of the batch, not the forecasts."""
        name, seed = type(pl_module).__name__, getattr(pl_module, "trained_seed", None)
        self._parts.append(_rows(outputs).assign(model=name, seed=seed))
        if self.persistence and not isinstance(pl_module, Persistence):
            repeated = batch.past[:, -1:].expand_as(batch.future)
            values = pl_module.score(repeated, batch.future)
            values |= {"trajectory": batch.trajectory, "start": batch.start}
            self._parts.append(_rows(values).assign(model="Persistence", seed=None))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join the tables of all processes; rank zero writes."""
        import pandas as pd

        table = pd.concat(gathered(trainer, self._parts)).sort_values(ORDER, ignore_index=True)
        table = table.assign(process=getattr(trainer.datamodule, "process", ""))  # type: ignore[attr-defined]
        self.table = table[["process", "model", "seed", "metric", "trajectory", "start", "lead", "value"]]
        self.table.attrs["field_spans"] = dict(getattr(pl_module, "spans", {}))
        if self.write and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            path = result_path(trainer, "test.csv")
            write_file(path, self.table.to_csv(index=False))
            picture = plot.save(plot.error_against_lead(self.table, "rmse"), path.with_suffix(".png"))
            log_image(trainer, "test/rmse against lead", [picture])
            print(f"wrote {path} and {picture}")
        for sentence in _infinite(self.table):
            rank_zero_info(sentence)


def _infinite(table: "pd.DataFrame") -> Iterator[str]:
    """What to say of values that are not finite, which no mean leaves out."""
    for model, rows in table.groupby("model"):
        frames = rows[rows["metric"] == "mse"]
        finite = np.isfinite(frames["value"].to_numpy())
        if not finite.all():
            forecasts, broken = (
                len(part[["trajectory", "start"]].drop_duplicates()) for part in (frames, frames[~finite])
            )
            yield (
                f"{model}: {broken} of {forecasts} forecasts are not finite (NaN, infinite, or too large to be squared), and so "
                "are the means that need them"
            )
        relative = rows.loc[rows["metric"] == "relative_l2", "value"].to_numpy()  # sorted as the others are
        if zero := int((finite & np.isinf(relative)).sum()):
            yield (
                f"{model}: the truth is zero everywhere in {zero} of {len(frames)} frames that are not forecast exactly, so that "
                "relative L2 and its mean are infinite; compare RMSE"
            )


def _rows(values: Mapping[str, Tensor]) -> "pd.DataFrame":
    """One row per metric, window and lead."""
    import pandas as pd

    trajectory, start = (values[name].cpu().numpy() for name in ("trajectory", "start"))
    parts = []
    for metric in values.keys() - {"trajectory", "start"}:
        value = values[metric].double().cpu().numpy()
        windows, leads = value.shape
        parts.append(
            pd.DataFrame(
                {
                    "metric": metric,
                    "trajectory": np.repeat(trajectory, leads),
                    "start": np.repeat(start, leads),
                    "lead": np.tile(np.arange(1, leads + 1), windows),
                    "value": value.ravel(),
                }
            )
        )
    return pd.concat(parts)
