"""Frames of a benchmark for a page: sheets of grey PNG images, and the colours for them."""

import base64
import io
import math
from typing import Any

import imageio.v3 as imageio
import matplotlib
import numpy as np
from jaxtyping import Float

from microevo.benchmark.answers import Answers
from microevo.benchmark.entry import TRUTH
from microevo.benchmark.results import Results

BLANK = 255  # grey level of a pixel that is NaN
LARGEST = float(np.finfo(np.float16).max)


def film(results: Results, answers: Answers, name: str, size: int, windows: int) -> dict[str, Any] | None:
    """Frames to look at: a PNG for each model and field, a row for each window and a column for each lead."""
    about = results.about["protocols"][name]
    labels = {entry["model"]: entry for entry in reversed(answers.entries)}  # of several seeds the first
    frames = {}
    for model in dict.fromkeys(str(entry["model"]) for entry in answers.entries):
        try:
            frames[model] = _reduce(results.frames(name, labels[model]["label"])[:windows], size)
        except FileNotFoundError:
            continue
    if TRUTH not in frames or len(frames) < 2:
        return None
    truth = frames[TRUTH]
    chosen = [tuple(window) for window in about["windows"][: len(truth)]]
    fields = []
    for number, field in enumerate(results.about["fields"]):
        own = {model: stack[:, :, number] for model, stack in frames.items()}
        low, high = (float(limit) for limit in (np.nanmin(own[TRUTH]), np.nanmax(own[TRUTH])))
        span = (high - low) or 1.0
        known = np.concatenate([stack[~np.isnan(stack)] for stack in own.values()])
        # A forecast further out than the truth's own span would only coarsen the grey levels of the others: colours of
        # field and error have saturated before.
        limits = max(float(known.min()), low - span), min(float(known.max()), high + span)
        errors = np.concatenate([abs(stack - own[TRUTH]).ravel() for model, stack in own.items() if model != TRUTH])
        errors = errors[~np.isnan(errors)]
        largest = float(np.quantile(errors, 0.999)) if errors.size else span
        fields.append(
            {
                "name": field,
                "low": low,
                "high": low + span,
                "limits": limits,
                "error": _round_up(min(max(largest, 0.1 * span), span)),
                "sprites": {model: _sprite(stack, limits) for model, stack in own.items()},
            }
        )
    rmse = {}
    for model in frames:
        block = answers.block(labels[model]["label"], "mse")
        if block is not None:
            places = [answers.windows.index(window) for window in chosen]
            rmse[model] = block.values[places][:, np.asarray(about["shown_leads"]) - 1] ** 0.5
    height, width = truth.shape[-2:]
    return {
        "leads": about["shown_leads"],
        "windows": chosen,
        "size": [width, height],
        "reduced": -(-max(about["image_shape"]) // size),
        "seeds": {model: labels[model]["seed"] for model in frames},
        "fields": fields,
        "rmse": rmse,
    }


def _reduce(frames: Float[np.ndarray, "n T C H W"], size: int) -> Float[np.ndarray, "n T C h w"]:
    """Finite values, NaN aside: means over blocks of pixels, so that no side is longer than `size`."""
    factor = -(-max(frames.shape[-2:]) // size)
    # Kept frames end where float16 does: what is infinite there may have been finite, and of opposite infinities no mean is.
    frames = frames.clip(-LARGEST, LARGEST)
    if factor == 1:
        return frames
    more = [(0, 0)] * 3 + [(0, -side % factor) for side in frames.shape[-2:]]
    padded = np.pad(frames, more, mode="edge")
    *front, height, width = padded.shape
    return padded.reshape(*front, height // factor, factor, width // factor, factor).mean(axis=(-3, -1))


def _sprite(frames: Float[np.ndarray, "n T h w"], limits: tuple[float, float]) -> str:
    """All frames side by side in grey levels from 0 to 254, and `BLANK` where they are NaN; y points up."""
    low, high = limits
    levels = (frames.clip(low, high) - low) / max(high - low, 1e-30) * (BLANK - 1)
    grey = np.where(np.isnan(frames), BLANK, levels.round()).astype(np.uint8)[..., ::-1, :]
    n, leads, height, width = grey.shape
    sheet = grey.transpose(0, 2, 1, 3).reshape(n * height, leads * width)
    file = io.BytesIO()
    imageio.imwrite(file, sheet, extension=".png", compress_level=9)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def colours(name: str) -> str:
    """256 colours of a colour map, six hexadecimal digits each."""
    colours = matplotlib.colormaps[name](np.arange(256), bytes=True)
    return bytes(colours[:, :3].ravel()).hex()


def _round_up(value: float) -> float:
    """To the next number with one digit and a half: 1, 1.5, 2, 3, ... 9."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step for step in (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10) if step * power >= value * (1 - 1e-9)) * power
