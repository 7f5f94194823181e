"""Voronoi diagrams of random points: the grains that grain growth starts from."""

import numpy as np
import torch
from jaxtyping import Float, Int


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
