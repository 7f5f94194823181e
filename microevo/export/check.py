"""How far an exported network is from the original, on random frames."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from microevo.models import Forecaster


def example(
    model: Forecaster, image_size: tuple[int, int], samples: int
) -> tuple[Float[Tensor, "B n_past C H W"], Float[Tensor, "B P"] | None]:
    """Random input frames within the values that a network was trained on, and parameters if it takes any."""
    generator = torch.Generator().manual_seed(0)
    past = torch.rand(samples, model.n_past, model.channels, *image_size, generator=generator)
    for channel, span in enumerate(model.trained_spans.values() if model.channels == len(model.trained_spans) else ()):
        past[:, :, channel] = span.low + (span.high - span.low) * past[:, :, channel]
    if not model.parameter_names:
        return past, None
    return past, torch.rand(samples, len(model.parameter_names), generator=generator) + 0.5


def disagreement(
    model: Forecaster,
    other: Callable[..., Tensor],
    past: Float[Tensor, "B n_past C H W"],
    parameters: Float[Tensor, "B P"] | None,
    horizon: int,
) -> float:
    """Largest difference between two forecasts, in units of the largest value where that is above 1."""
    conditions = () if parameters is None else (parameters,)
    with torch.no_grad():
        ours, theirs = model(past, horizon, *conditions), other(past, horizon, *conditions)
    return float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1.0))
