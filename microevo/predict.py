"""A trained network on new frames, of which nothing needs to be known but the values."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from microevo.data import StoreSchema, TrajectoryStore
from microevo.data.location import may_be_store
from microevo.data.output import check_output, whole_output
from microevo.data.parameters import known_parameters, parameter_rows
from microevo.data.readers import as_float32, open_frames
from microevo.forecast_store import conditioned, draw_forecasts, forecast_schema
from microevo.metrics import spread
from microevo.models import Ensemble, Forecaster, load_model
from microevo.models.checkpoint import read_checkpoint
from microevo.models.conditioning import ParameterEncoder
from microevo.models.folder import model_fingerprint
from microevo.provenance import free_path


def predict(
    ckpt_path: str | list[str],
    input: str,
    output: str | None = None,
    *,
    horizon: int | None = None,
    fields: list[str] | None = None,
    dataset: str | None = None,
    axes: str | None = None,
    frame_number: str | None = None,
    value_range: tuple[float, float] | None = None,
    parameters: dict[str, float] | None = None,
    device: str = "auto",
    pictures: int = 2,
    overwrite: bool = False,
    command: str = "",
) -> TrajectoryStore:
    """Forecast the continuation of new frames with a trained network.

    The last frames of each trajectory are the input, as many as the network takes. The values have to mean what they
    meant in training: `value_range` is that of the import whose store the network was trained on.

    Args:
        ckpt_path: Checkpoint that `fit` wrote, or model folder that `export` wrote. It says which network it is, so that no
            config is needed. Several of one network are an ensemble: its forecast is the mean of theirs, and their spread, a
            field beside it, tells where not to trust it.
        input: Anything that `import` reads, or a store.
        output: Store of the forecasts, with pictures and animations beside it. Unless given, it is
            `<name of the input>-forecasts.zarr` in the present folder, with a number where that is taken.
        horizon: Number of frames forecast; that of the network unless given.
        fields: Names of the fields, in the order of the channels; those of the training unless given.
        dataset: Names of the arrays in a file of several; see `import`.
        axes: Order of the axes of an array, such as TNHW; see `import`.
        frame_number: Regular expression whose one group is the frame number in the names of images; see `import`.
        value_range: The two values that become 0 and 1 [units of the input]; see `import`.
        parameters: Values of the parameters that the network is conditioned on, by name, such as `--parameters.mobility 1.3`, for
            all trajectories. Those that are not given come from the input, if it is a store that has them.
        device: Where to compute, e.g. `cpu` or `cuda`; `auto` takes the GPU if there is one.
        pictures: How many forecasts to draw.
        overwrite: Whether to replace an existing store, once the new one is complete.
        command: The shell command of this call, kept in the store.

    Raises:
        FileNotFoundError: There is no such checkpoint or input.
        FileExistsError: `output` exists.
        ValueError: The input does not fit the network, a parameter is missing or unknown, the checkpoints are not an ensemble,
            or all forecasts became NaN or infinite.

    Warns:
        UserWarning: Forecasts that became NaN or infinite were left out, or a parameter has a value beyond those of the training.
    """
    if value_range is not None and not value_range[0] < value_range[1]:
        raise ValueError(f"value_range is two numbers, the lower one first, but {list(value_range)} was given")
    if pictures < 0:
        raise ValueError(f"pictures must not be negative, but it is {pictures}")
    paths = [ckpt_path] if isinstance(ckpt_path, str) else ckpt_path
    models = [load_model(path) for path in paths]
    ensemble = None if isinstance(ckpt_path, str) else Ensemble(models, paths)
    model = models[0]
    label = type(model).__name__ + " ensemble" * (ensemble is not None)
    checkpoints = [{"path": path, "fingerprint": model_fingerprint(path)} for path in paths]
    horizon = model.horizon if horizon is None else horizon
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1, but it is {horizon}")
    named_after = Path(input).name.partition(".")[0] or "frames"
    target = check_output(output or free_path(Path(f"{named_after}-forecasts.zarr")), overwrite)
    names = list(fields or _trained_fields(paths[0]) or [f"c{i}" if i else "c" for i in range(model.channels)])
    options = {"dataset": dataset, "axes": axes, "frame_number": frame_number, "value_range": value_range}
    with _open_input(input, names, options) as frames, whole_output(target, overwrite) as path:
        n_past = _check_fits(model, frames)
        conditions = _conditions(model, frames, parameters or {})
        start = frames.shape[1] - n_past

        def schema(trajectories: Sequence[int]) -> StoreSchema:
            return forecast_schema(
                names,
                [(i, start) for i in trajectories],
                horizon=horizon,
                image_shape=frames.shape[3:],
                source=frames.attributes,
                recipe={
                    "model": type(model).__name__,
                    **({"checkpoint": checkpoints[0]} if ensemble is None else {"checkpoints": checkpoints}),
                    "store": input,
                    "source": frames.attributes.get("fingerprint", ""),
                    **options,
                },
                command=command,
                truth=False,
                parameters=dict(zip(model.parameter_names, conditions[list(trajectories)].T, strict=True)),
                spread=ensemble is not None,
            )

        def forecast(i: int) -> np.ndarray:
            past = torch.from_numpy(_finite_past(frames, i, start))[None].to(place)
            values = torch.from_numpy(conditions[[i]]).to(place)
            with torch.inference_mode():
                found = network.forecast(past, horizon, boundary, values).float().cpu()
            if ensemble is not None:  # fields of the mean, and then of the spread
                found = torch.cat([found.mean(dim=0), spread(found)], dim=2)
            return found[0].numpy()

        place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        network, boundary = (ensemble or model).to(place), frames.attributes.get("boundary", "unknown")
        _write(path, range(frames.shape[0]), schema, forecast, label)
    for note in frames.notes:
        print(note, file=sys.stderr)
    store = TrajectoryStore.open(target)
    drawn = [str(picture) for picture in draw_forecasts(store, label, pictures)]
    many = "forecast" if len(store) == 1 else "forecasts"
    print(f"{target}: {len(store)} {many} of {horizon} frames, from the last {n_past} of {input}{conditioned(store)}")
    if drawn:
        print(f"pictures: {', '.join(drawn)} and the animations (.gif) beside them")
    return store


# ------------------------------------------------------------------ input


@dataclass(frozen=True)
class _NewFrames:
    """The input: N T C H W, its frames from one on, and what is known of them."""

    shape: tuple[int, ...]
    read: Callable[[int, int], np.ndarray]  # trajectory and first frame -> (T, C, H, W)
    attributes: Mapping[str, Any]
    label: str
    notes: tuple[str, ...] = ()
    store: TrajectoryStore | None = None


@contextlib.contextmanager
def _open_input(input: str, fields: list[str], options: Mapping[str, Any]) -> Iterator[_NewFrames]:
    if may_be_store(input):
        if explicit := [name for name, value in options.items() if value is not None]:
            raise ValueError(
                f"{', '.join(explicit)} is for files, but {input} is a store, which knows its frames; leave it out"
            )
        store = TrajectoryStore.open(input)
        if missing := [name for name in fields if name not in store.fields]:
            raise ValueError(
                f"{input} has the fields {', '.join(store.fields)}, not {', '.join(missing)}; say with --fields which of them "
                "the network is to forecast"
            )
        shape = (len(store), store.frames, len(fields), *store.image_shape)
        yield _NewFrames(
            shape, lambda i, start: store.read(i, start, fields=fields), store.attributes, input, store=store
        )
        return
    value_range = options["value_range"]
    with open_frames(
        input,
        fields=fields,
        dataset=options["dataset"],
        axes=options["axes"],
        scale_integers=value_range is None,
        frame_number=options["frame_number"],
    ) as source:
        yield _NewFrames(
            source.shape, lambda i, start: as_float32(source.read(i)[start:], value_range), {}, input, source.notes
        )


def _trained_fields(ckpt_path: str) -> list[str]:
    """The fields that a checkpoint's network was trained on, if it was trained on a store."""
    return read_checkpoint(ckpt_path).get("datamodule_hyper_parameters", {}).get("fields", [])


def _check_fits(model: Forecaster, frames: _NewFrames) -> int:
    """Check that a network can forecast from some frames, and return how many of them it takes.

    Raises:
        ValueError: It cannot.
    """
    _, length, channels, *_ = frames.shape
    name = type(model).__name__
    if channels != model.channels:
        raise ValueError(
            f"{frames.label} has {channels} field{'s' * (channels > 1)} (N, T, C, H, W = {frames.shape}), but this {name} "
            f"forecasts {model.channels}; give those, with --fields or --axes if they were misunderstood"
        )
    if length < model.n_past and not model.any_past:
        raise ValueError(
            f"{frames.label} has {length} frame{'s' * (length > 1)} in a trajectory (N, T, C, H, W = {frames.shape}), but this "
            f"{name} takes {model.n_past}; give longer trajectories, or --axes if the axes were misunderstood"
        )
    return min(length, model.n_past)


def _conditions(model: Forecaster, frames: _NewFrames, given: Mapping[str, float]) -> Float[np.ndarray, "N P"]:
    """The parameters that a network is conditioned on, for each trajectory: as given, else as the store has them.

    Raises:
        ValueError: A parameter is missing or unknown, or its value is not finite.
    """
    names, name = model.parameter_names, type(model).__name__
    if unknown := [parameter for parameter in given if parameter not in names]:
        what = f"conditioned on {', '.join(names)}, not on" if names else "not conditioned on"
        raise ValueError(f"this {name} is {what} {', '.join(unknown)}; leave out --parameters.{unknown[0]}")
    known = {} if frames.store is None or not names else known_parameters(frames.store)
    if missing := [parameter for parameter in names if parameter not in given and parameter not in known]:
        raise ValueError(
            f"this {name} is conditioned on {', '.join(names)}, but {frames.label} does not say {', '.join(missing)}; give "
            f"{' '.join(f'--parameters.{parameter} VALUE' for parameter in missing)}"
        )
    values = parameter_rows({**known, **given}, names, frames.shape[0], frames.label)
    for encoder in model.modules():
        if isinstance(encoder, ParameterEncoder) and (beyond := encoder.outside(torch.from_numpy(values))):
            warnings.warn(
                f"the forecasts are for values beyond those of the training: {', '.join(beyond)}", stacklevel=3
            )
    return values


def _finite_past(frames: _NewFrames, trajectory: int, start: int) -> np.ndarray:
    past = frames.read(trajectory, start)
    finite = np.isfinite(past).all(axis=(1, 2, 3))
    if not finite.all():
        raise ValueError(
            f"{frames.label}, trajectory {trajectory}, frame {start + int(np.argmin(finite))} holds a value that is not finite "
            "in float32; remove the trajectory or repair it"
        )
    return past


# ------------------------------------------------------------------ output


def _write(
    path: Path,
    trajectories: Sequence[int],
    schema: Callable[[Sequence[int]], StoreSchema],
    forecast: Callable[[int], np.ndarray],
    model: str,
) -> None:
    """Write a store of the forecasts that are finite.

    Raises:
        ValueError: There are none.
    """
    everything = TrajectoryStore.create(path.with_name("all"), schema(trajectories))
    diverged = {}
    for i in tqdm(trajectories, desc=f"forecasting with {model}", unit="trajectory", delay=1.0):
        frames = forecast(i)
        finite = np.isfinite(frames).all(axis=(1, 2, 3))
        if finite.all():
            everything.write(i, frames)
        else:
            diverged[i] = int(np.argmin(finite)) + 1
    if not diverged:
        everything.finish()
        everything.folder.rename(path)
        return
    first, lead = next(iter(diverged.items()))
    where = f"that of trajectory {first} from lead {lead} on"
    if len(diverged) == len(trajectories):
        raise ValueError(
            f"all forecasts of this {model} became NaN or infinite, {where}; check that the values are in the unit that it was "
            "trained with (--value_range), or lower --horizon"
        )
    warnings.warn(
        f"{len(diverged)} of {len(trajectories)} forecasts became NaN or infinite ({where}) and were left out",
        stacklevel=3,
    )
    kept = [i for i in trajectories if i not in diverged]
    store = TrajectoryStore.create(path, schema(kept))
    for number, i in enumerate(kept):
        store.write(number, everything.read(i))
    store.finish()
