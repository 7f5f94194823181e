"""Initial states, each trajectory from a random number generator of its own."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
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


def random_voronoi(
    generator: torch.Generator, cells: int, shape: tuple[int, int], *, wrap: bool = True
) -> Int[np.ndarray, "H W"]:
    """Voronoi diagram of `cells` points uniform in the box: the number of the nearest point, 0 to `cells - 1`."""
    points = torch.rand((cells, 2), generator=generator, dtype=torch.float64) * torch.tensor(shape)
    return voronoi(points.numpy(), shape, wrap=wrap)


def voronoi(
    points: Float[np.ndarray, "cells 2"], shape: tuple[int, int], *, wrap: bool = True
) -> Int[np.ndarray, "H W"]:
    """Number of the point nearest to each grid cell's centre; the first of equals.

    Args:
        points: Positions (y, x) in the box [cells].
        shape: Grid cells along (y, x).
        wrap: Measure distances in the periodic box; otherwise the diagram is cut at the edges of the box.
    """
    axes = [np.arange(n) + 0.5 for n in shape]
    nearest = np.full(shape, np.inf)
    labels = np.zeros(shape, dtype=np.int64)
    for label, point in enumerate(points):
        along = [np.abs(axis - x) for axis, x in zip(axes, point, strict=True)]
        if wrap:
            along = [np.minimum(d, n - d) for d, n in zip(along, shape, strict=True)]
        distance = along[0][:, None] ** 2 + along[1] ** 2
        closer = distance < nearest
        labels[closer] = label
        nearest[closer] = distance[closer]
    return labels
