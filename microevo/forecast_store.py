"""Forecasts on disk: the layout of their store, and the pictures drawn of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from microevo import plot
from microevo.data import StoreSchema, TrajectoryStore
from microevo.processes import Field

MEANING = ("frame_interval", "spacing", "boundary", "time_unit", "length_unit")  # what a forecast takes from its input


def forecast_schema(
    fields: Sequence[str],
    windows: Sequence[tuple[int, int]],
    *,
    horizon: int,
    image_shape: tuple[int, ...],
    source: Mapping[str, Any],
    recipe: Mapping[str, Any],
    command: str = "python -m microevo predict",
    split: str = "test",
    truth: bool = True,
    parameters: Mapping[str, np.ndarray] | None = None,
    spread: bool = False,
) -> StoreSchema:
    """The metadata of a store with the fields `<field>_forecast`, `<field>_truth` if it is known, `<field>_spread` if any.

    Args:
        fields: Fields that are forecast.
        windows: Trajectory and first input frame of each forecast.
        horizon: Number of frames forecast.
        image_shape: Number of pixels along (y, x).
        source: Attributes of the store that the input frames are from; those that it lacks take their defaults.
        recipe: The model, and where its input is from.
        command: The shell command.
        split: Split of the forecasts.
        truth: Whether the frames that followed are known.
        parameters: Parameters that the forecasts are conditioned on, with the value of each forecast.
        spread: Whether the forecasts are means of an ensemble, whose spread is known.
    """
    conditions = dict(parameters or {})
    kinds = ("forecast", *(("truth",) if truth else ()), *(("spread",) if spread else ()))
    interval = source.get("frame_interval", 1.0)
    return StoreSchema(
        fields=tuple(Field(f"{name}_{kind}", f"{kind} of {name}", "1") for kind in kinds for name in fields),
        frames=horizon,
        image_shape=image_shape,
        splits=(split,) * len(windows),
        process=source.get("process", "imported"),
        recipe={**recipe, **({"conditioned_on": list(conditions)} if conditions else {})},
        command=command,
        first_frame=interval,  # time is counted from the last past frame
        per_trajectory={
            "source_trajectory": np.array([trajectory for trajectory, _ in windows]),
            "source_start": np.array([start for _, start in windows]),
            **conditions,
        },
        **{name: source[name] for name in MEANING if name in source},
    )


def conditioned(store: TrajectoryStore) -> str:
    """The end of a sentence about a store of forecasts: which parameters they are conditioned on, and their values."""
    ranges = []
    for name in store.attributes["recipe"].get("conditioned_on", ()):
        low, high = (extreme(store.per_trajectory[name]) for extreme in (np.min, np.max))
        ranges.append(f"{name} = {low:.6g}" if low == high else f"{name} = {low:.6g} to {high:.6g}")
    return f", conditioned on {', '.join(ranges)}" if ranges else ""


def draw_forecasts(store: TrajectoryStore, model: str, count: int) -> list[Path]:
    """Draw the first forecasts of a store beside it, as filmstrips (PNG) and animations (GIF).

    Returns:
        The filmstrips.
    """
    fields = [name.removesuffix("_forecast") for name in store.fields if name.endswith("_forecast")]
    known = store.per_trajectory
    pictures = []
    for number in range(min(count, len(store))):
        trajectory, start = known["source_trajectory"][number], known["source_start"][number]
        for name in fields:
            forecast = store.read(number, fields=[f"{name}_forecast"])[:, 0]
            truth = f"{name}_truth" in store.fields
            true = store.read(number, fields=[f"{name}_truth"])[:, 0] if truth else None
            known_spread = f"{name}_spread" in store.fields
            spread = store.read(number, fields=[f"{name}_spread"])[:, 0] if known_spread else None
            stem = store.folder.with_name(f"{store.folder.stem}-{trajectory}-{start}-{name}")
            title = f"{model}, trajectory {trajectory}, {name}"
            figure = plot.filmstrip(true, forecast, plot.spread_leads(store.frames), title, spread)
            pictures.append(plot.save(figure, stem.with_suffix(".png")))
            plot.animation(true, forecast, stem.with_suffix(".gif"))
    return pictures
