"""Frames for the gallery of a page: sheets of grey PNG images, and the colours for them."""

import base64
import io
import math
from typing import Any

import imageio.v3 as imageio
import matplotlib
import numpy as np
from jaxtyping import Float

from microevo.benchmark.competitors import TRUTH
from microevo.benchmark.long_table import Key
from microevo.benchmark.report.build import ProtocolReport

BLANK = 255  # grey level of a pixel that is NaN
LARGEST = float(np.finfo(np.float16).max)


def gallery(protocol: ProtocolReport, size: int, windows: int) -> dict[str, Any] | None:
    """Frames to look at: a PNG for each competitor and field, with a row for each window and a column for each lead time.

    Args:
        protocol: The protocol.
        size: Largest side of a frame [px]; larger frames are averaged over blocks of pixels.
        windows: Most windows.

    Returns:
        The content of the gallery for the page; None if there are no frames to compare.
    """
    table, record = protocol.table, protocol.record
    # Of several seeds the first.
    first = {str(competitor["name"]): competitor for competitor in reversed(table.competitors)}
    frames = {}
    for name in table.names:
        try:
            frames[name] = _reduce(table.frames(first[name]["label"])[:windows], size)
        except FileNotFoundError:
            continue
    spreads = {
        name: _reduce(table.spread(first[name]["label"])[:windows], size) for name in table.members if name in frames
    }
    if TRUTH not in frames or len(frames) < 2:
        return None
    truth = frames[TRUTH]
    chosen = [tuple(window) for window in record["windows"][: len(truth)]]
    rmse = {}
    for name in frames:
        block = table.block(first[name]["label"], Key("metric", "mse"))
        if block is not None:
            places = [table.windows.index(window) for window in chosen]
            rmse[name] = block.values[places][:, np.asarray(record["gallery_leads"]) - 1] ** 0.5
    height, width = truth.shape[-2:]
    return {
        "leads": record["gallery_leads"],
        "windows": chosen,
        "size": [width, height],
        "reduced": -(-max(record["image_shape"]) // size),
        "seeds": {name: first[name]["seed"] for name in frames},
        "fields": [
            {"name": field}
            | _field(*({name: stack[:, :, number] for name, stack in kind.items()} for kind in (frames, spreads)))
            for number, field in enumerate(protocol.fields)
        ],
        "rmse": rmse,
    }


def _field(
    frames: dict[str, Float[np.ndarray, "n T h w"]], spreads: dict[str, Float[np.ndarray, "n T h w"]]
) -> dict[str, Any]:
    """Sheets of one field, and the values that their grey levels and colours stand for."""
    truth = frames[TRUTH]
    low, high = float(np.nanmin(truth)), float(np.nanmax(truth))
    span = (high - low) or 1.0
    known = np.concatenate([stack[~np.isnan(stack)] for stack in frames.values()])
    # A forecast further out than the truth's own span would only coarsen the grey levels of the others: the colours of
    # field and error end before that.
    limits = max(float(known.min()), low - span), min(float(known.max()), high + span)
    errors = np.concatenate([abs(stack - truth).ravel() for name, stack in frames.items() if name != TRUTH])
    errors = errors[~np.isnan(errors)]
    largest = float(np.quantile(errors, 0.999)) if errors.size else span
    return {
        "low": low,
        "high": low + span,
        "limits": limits,
        "error": _round_up(min(max(largest, 0.1 * span), span)),
        "sprites": {name: _sprite(stack, limits) for name, stack in frames.items()},
        "ensembles": {name: _ensemble(frames[name] - truth, spread, span) for name, spread in spreads.items()},
    }


def _ensemble(error: Float[np.ndarray, "n T h w"], spread: Float[np.ndarray, "n T h w"], span: float) -> dict[str, Any]:
    """Sheets of the error of an ensemble and of its spread, on one scale of their own, so that the two compare."""
    known = np.concatenate([abs(error), spread])
    known = known[~np.isnan(known)]
    most = _round_up(float(np.quantile(known, 0.999).clip(1e-6 * span, span)) if known.size else span)
    return {
        "error": most,
        "sprites": {"error": _sprite(error, (-most, most)), "spread": _sprite(spread, (-most, most))},
    }


def _reduce(frames: Float[np.ndarray, "n T C H W"], size: int) -> Float[np.ndarray, "n T C h w"]:
    """Means over blocks of pixels, so that no side is longer than `size`; finite, apart from NaN."""
    factor = -(-max(frames.shape[-2:]) // size)
    # Kept frames end where float16 does: what is infinite there may have been finite, and opposite infinities have no mean.
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
    table = matplotlib.colormaps[name](np.arange(256), bytes=True)
    return bytes(table[:, :3].ravel()).hex()


def _round_up(value: float) -> float:
    """Round up to the next number with one digit and a half: 1, 1.5, 2, 3, ... 9."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step for step in (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10) if step * power >= value * (1 - 1e-9)) * power
