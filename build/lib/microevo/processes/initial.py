"""Initial states, each trajectory drawn from a generator of its own."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def uniform_noise(
    shape: tuple[int, ...],
    generators: Sequence[torch.Generator],
    mean: float | Tensor,
    amplitude: float | Tensor,
) -> Float[Tensor, "n 1 *cells"]:
    """`mean` plus noise uniform in +-`amplitude` in each cell; the mean is then exactly `mean`, in float64."""
    noise = torch.stack([torch.rand((1, *shape), generator=generator, dtype=torch.float64) for generator in generators])
    noise = 2 * noise - 1
    noise = noise - noise.flatten(1).mean(1).reshape(-1, *(1,) * (1 + len(shape)))
    return mean + amplitude * noise
