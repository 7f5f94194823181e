"""Frames continued beyond their borders as the physics has it, for networks that need a certain size."""

from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import continued_places


def continued(
    frames: Float[Tensor, "*axes H W"], rows: tuple[int, int], columns: tuple[int, int], periodic: bool
) -> Float[Tensor, "*axes Hc Wc"]:
    """Frames with more rows and columns on each side.

    Beyond the border of a periodic frame comes its other side; a wall mirrors, so that nothing flows through it.

    Args:
        frames: Frames of any number of axes.
        rows: Rows that are added above and below [px].
        columns: Columns that are added to the left and to the right [px].
        periodic: Whether opposite borders are neighbours.
    """
    for axis, (before, after) in ((-2, rows), (-1, columns)):
        if before or after:
            places = continued_places(frames.shape[axis], before, after, periodic, frames.device)
            frames = frames.index_select(axis, places)
    return frames


def cropped(
    frames: Float[Tensor, "*axes Hc Wc"], rows: tuple[int, int], columns: tuple[int, int]
) -> Float[Tensor, "*axes H W"]:
    """Frames without the rows and columns that `continued` added."""
    height, width = frames.shape[-2:]
    return frames[..., rows[0] : height - rows[1], columns[0] : width - columns[1]]


def halves(size: int, unit: int) -> tuple[int, int]:
    """How many pixels to add on either side, so that `unit` divides the size."""
    missing = -size % unit
    return missing // 2, missing - missing // 2
