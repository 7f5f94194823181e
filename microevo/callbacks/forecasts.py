"""Forecasts beside the truth: a store, a filmstrip and an animation."""

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from microevo import plot
from microevo.callbacks.run import gathered, log_animation, log_image, result_path
from microevo.data import StoreSchema, TrajectoryStore
from microevo.data.scratch import put_in_place, scratch_folder
from microevo.forecast_store import conditioned, draw_forecasts, forecast_schema


class ForecastWriter(Callback):
    """Writes what `predict` forecasts as a trajectory store.

    The store `forecasts.zarr` holds two fields for each field of the data, `<field>_forecast` and
    `<field>_truth`, one trajectory per window, with the number of the source trajectory and the window's
    first frame. The first forecasts are drawn as filmstrips (PNG) and animations (GIF).

    Windows whose forecast becomes NaN or Inf are left out, with a warning. A prediction that leaves out batches
    (`trainer.limit_predict_batches`) writes the forecasts that it made into `forecasts-partial.zarr`.

    Args:
        pictures: How many forecasts to draw.
    """

    def __init__(self, pictures: int = 2) -> None:
        self.pictures = pictures
        self._store: TrajectoryStore | None = None
        self._diverged: list[tuple[int, int, int]] = []  # trajectory, start and first lead that is not finite

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the store; all processes then fill it, a chunk per forecast."""
        self._store, self._diverged = None, []
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._windows = trainer.datamodule.predicted_windows  # type: ignore[attr-defined]
        path = None
        if trainer.is_global_zero:
            path = result_path(trainer, "forecasts.zarr")
            TrajectoryStore.create(path, _schema(trainer, pl_module, self._windows))
        path = trainer.strategy.broadcast(path)
        assert path is not None
        self._store = TrajectoryStore.open(path, unfinished=True)

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, *_) -> None:  # type: ignore[no-untyped-def]
        """Write the batch's forecasts beside the truth."""
        if self._store is None:
            return
        numbers = {window: number for number, window in enumerate(self._windows)}
        both = torch.cat([outputs.float(), batch.future.float()], dim=2).cpu().numpy()
        for frames, trajectory, start in zip(both, batch.trajectory.tolist(), batch.start.tolist(), strict=True):
            bad = np.flatnonzero(~np.isfinite(frames).reshape(len(frames), -1).all(axis=1))
            if bad.size:
                self._diverged.append((trajectory, start, int(bad[0]) + 1))
            else:
                self._store.write(numbers[trajectory, start], frames)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Complete the store and draw the first forecasts.

        Raises:
            ValueError: No forecast is finite.
        """
        diverged = gathered(trainer, self._diverged)
        if self._store is None or not trainer.is_global_zero:
            return
        store, model = self._store, type(pl_module).__name__
        if diverged:
            trajectory, start, lead = min(diverged)
            where = f"first in trajectory {trajectory} from frame {start}, at lead {lead}"
        left_out = set(store.missing())
        there = [number for number in range(len(store)) if number not in left_out]
        if not there:
            shutil.rmtree(store.folder)
            raise ValueError(
                f"no forecast of {model} was written: all hold values that are not finite ({where}); train it longer, with a "
                "lower lr, or choose an earlier checkpoint"
            )
        if diverged:
            warnings.warn(
                f"{len(diverged)} of {len(there) + len(diverged)} forecasts of {model} hold values that are not finite "
                f"({where}); {store.folder.name} holds the others",
                stacklevel=2,
            )
        if left_out:
            _select(store, there, _schema(trainer, pl_module, [self._windows[number] for number in there]))
            store = TrajectoryStore.open(store.path)
        else:
            store.finish()
        pictures = draw_forecasts(store, model, self.pictures)
        log_image(trainer, "predict/filmstrip", pictures)
        made = ", ".join(str(path) for path in [store.path, *pictures])
        print(f"wrote {made} and the animations (.gif) beside them{conditioned(store)}")


def _schema(trainer: Trainer, model: LightningModule, windows: Sequence[tuple[int, int]]) -> StoreSchema:
    """The store of the forecasts of these windows."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    source = data.datasets["predict"].store
    values = data.datasets["predict"].parameters[[trajectory for trajectory, _ in windows]].numpy()
    return forecast_schema(
        data.fields,
        windows,
        horizon=data.horizon,
        image_shape=source.image_shape,
        source=source.attributes,
        recipe={"model": type(model).__name__, "store": str(source.path), "source": source.fingerprint},
        split=data.predict_split,
        parameters=dict(zip(data.parameters, values.T, strict=True)),
    )


def _select(store: TrajectoryStore, numbers: Sequence[int], schema: StoreSchema) -> None:
    """Replace an unfinished store by a finished one of some of its trajectories."""
    with scratch_folder(store.folder) as scratch:
        smaller = TrajectoryStore.create(scratch / "selected", schema)
        for new, old in enumerate(numbers):
            smaller.write(new, store.read(old))
        smaller.finish()
        put_in_place(smaller.folder, store.folder, replace=True)


class ValidationFilmstrip(Callback):
    """Draws the first validation window after each validation, as `validation.png` and to W&B.

    Args:
        every_n_epochs: Epochs between two pictures.
        animate_every_n_epochs: Epochs between two animations, `validation.gif`; none unless given.
    """

    def __init__(self, every_n_epochs: int = 1, animate_every_n_epochs: int | None = None) -> None:
        for name, epochs in {
            "every_n_epochs": every_n_epochs,
            "animate_every_n_epochs": animate_every_n_epochs,
        }.items():
            if epochs is not None and epochs < 1:
                raise ValueError(f"{name} must be at least 1, but it is {epochs}")
        self.every_n_epochs, self.animate_every_n_epochs = every_n_epochs, animate_every_n_epochs

    def on_validation_batch_end(  # type: ignore[no-untyped-def]
        self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx, *_
    ) -> None:
        """Forecast one window once more rather than keep forecasts of all batches."""
        during_fit = trainer.state.fn == "fit" and not trainer.sanity_checking
        if batch_idx or not during_fit or not trainer.is_global_zero:
            return
        drawn, animated = (
            every is not None and trainer.current_epoch % every == 0
            for every in (self.every_n_epochs, self.animate_every_n_epochs)
        )
        if not drawn and not animated:
            return
        horizon = batch.future.shape[1]
        with torch.no_grad():
            forecast = pl_module.predict_step(type(batch)._make(part[:1] for part in batch), 0)
        truth, forecast = (frames[0, :, 0].float().cpu().numpy() for frames in (batch.future, forecast))
        title = f"{type(pl_module).__name__}, validation, step {trainer.global_step}"
        folder = Path(trainer.default_root_dir)
        if drawn:
            figure = plot.filmstrip(truth, forecast, plot.spread_leads(horizon), title)
            log_image(trainer, "val/filmstrip", [plot.save(figure, folder / "validation.png")])
        if animated:
            log_animation(trainer, "val/animation", plot.animation(truth, forecast, folder / "validation.gif"))
