"""Forecasts beside the truth: a store, a filmstrip and an animation."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from microevo import plot
from microevo.callbacks.run import log_image
from microevo.data import Layout, TrajectoryStore
from microevo.processes import Field
from microevo.provenance import free_path


class ForecastWriter(Callback):
    """Writes what `predict` forecasts as a trajectory store.

    The store `forecasts.zarr` holds two fields for each field of the data, `<field>_forecast` and
    `<field>_truth`, one trajectory per window, with the number of the source trajectory and the window's
    first frame. The first forecasts are drawn as filmstrips (PNG) and animations (GIF).

    Args:
        pictures: How many forecasts to draw.
    """

    def __init__(self, pictures: int = 2) -> None:
        self.pictures = pictures
        self._store: TrajectoryStore | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the store; all processes then fill it, a chunk per forecast."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._windows = data.predicted_windows
        source = data.datasets["predict"].store
        path = None
        if trainer.is_global_zero:
            path = free_path(Path(trainer.default_root_dir) / "forecasts.zarr")
            starts = np.array([start for _, start in self._windows])
            TrajectoryStore.create(
                path,
                Layout(
                    fields=tuple(
                        Field(f"{name}_{kind}", f"{kind} of {name}", "1")
                        for kind in ("forecast", "truth")
                        for name in data.fields
                    ),
                    frames=data.horizon,
                    image_shape=source.image_shape,
                    splits=(data.predict_split,) * len(self._windows),
                    process=source.attributes["process"],
                    recipe={
                        "model": type(pl_module).__name__,
                        "store": str(source.path),
                        "source": source.fingerprint,
                    },
                    command="python -m microevo predict",
                    frame_interval=source.attributes["frame_interval"],
                    first_frame=source.attributes["frame_interval"],  # time is counted from the last past frame
                    spacing=source.attributes["spacing"],
                    boundary=source.attributes["boundary"],
                    per_trajectory={
                        "source_trajectory": np.array([trajectory for trajectory, _ in self._windows]),
                        "source_start": starts,
                    },
                    time_unit=source.attributes["time_unit"],
                    length_unit=source.attributes["length_unit"],
                ),
            )
        path = trainer.strategy.broadcast(path)
        assert path is not None
        self._store = TrajectoryStore.open(path, unfinished=True)

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, *_) -> None:  # type: ignore[no-untyped-def]
        """Write the batch's forecasts beside the truth."""
        assert self._store is not None
        numbers = {window: number for number, window in enumerate(self._windows)}
        both = torch.cat([outputs.float(), batch.future.float()], dim=2).cpu().numpy()
        for frames, trajectory, start in zip(both, batch.trajectory.tolist(), batch.start.tolist(), strict=True):
            self._store.write(numbers[trajectory, start], frames)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Complete the store and draw the first forecasts."""
        trainer.strategy.barrier()
        if not trainer.is_global_zero:
            return
        assert self._store is not None
        store = self._store
        store.finish()
        fields = len(store.fields) // 2
        leads = plot.spread_leads(store.frames)
        pictures = []
        for number in range(min(self.pictures, len(store))):
            frames = store.read(number)
            trajectory, start = self._windows[number]
            for field in range(fields):
                name = store.fields[field].removesuffix("_forecast")
                forecast, truth = frames[:, field], frames[:, fields + field]
                stem = store.path.with_name(f"{store.path.stem}-{trajectory}-{start}-{name}")
                title = f"{type(pl_module).__name__}, trajectory {trajectory}, {name}"
                pictures.append(plot.save(plot.filmstrip(truth, forecast, leads, title), stem.with_suffix(".png")))
                plot.animation(truth, forecast, stem.with_suffix(".gif"))
        log_image(trainer, "predict/filmstrip", pictures)
        print(f"wrote {store.path}, {', '.join(str(path) for path in pictures)} and the animations (.gif) beside them")


class ValidationFilmstrip(Callback):
    """Draws the first validation window after each validation, as `validation.png` and to W&B.

    Args:
        every_n_epochs: Epochs between two pictures.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, but it is {every_n_epochs}")
        self.every_n_epochs = every_n_epochs

    def on_validation_batch_end(  # type: ignore[no-untyped-def]
        self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx, *_
    ) -> None:
        """Forecast one window once more rather than keep forecasts of all batches."""
        due = trainer.state.fn == "fit" and not trainer.sanity_checking
        if batch_idx or not due or not trainer.is_global_zero or trainer.current_epoch % self.every_n_epochs:
            return
        horizon = batch.future.shape[1]
        with torch.no_grad():
            forecast = pl_module(batch.past[:1], horizon)
        truth, forecast = (frames[0, :, 0].float().cpu().numpy() for frames in (batch.future, forecast))
        title = f"{type(pl_module).__name__}, validation, step {trainer.global_step}"
        folder = Path(trainer.default_root_dir)
        figure = plot.filmstrip(truth, forecast, plot.spread_leads(horizon), title)
        log_image(trainer, "val/filmstrip", [plot.save(figure, folder / "validation.png")])
