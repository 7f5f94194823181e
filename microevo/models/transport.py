"""Amounts that pixels hand to each other: an increment that conserves every field exactly and respects its bounds."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from microevo.processes.grid import continued_places


class TransportHead(nn.Module):
    """Moves amounts between each pixel and its neighbours, as FluxNet does (arXiv 2602.01941, its head D).

    A network says for each pixel which share of what it holds above the lower bound it gives away, and to which of its
    neighbours; and likewise which share of its room below the upper bound it fills, and from which of them. The change is the
    mean of both. What leaves one pixel arrives at another, so that the sum of a field is conserved to rounding, however far the
    amounts move. Giving alone never falls below the lower bound, and filling alone never rises above the upper one; a network
    that learned to say the same in both ways thus keeps both.

    Args:
        reach: Distance of the farthest neighbour along an axis [px]; there are `(2 reach + 1)^2 - 1` neighbours.
    """

    def __init__(self, reach: int):
        super().__init__()
        self.reach, self.side = reach, 2 * reach + 1

    @property
    def outputs(self) -> int:
        """Numbers that it takes for each field and pixel: for giving and for filling a share and a weight per neighbour."""
        return 2 * self.side**2

    def forward(
        self,
        fields: Float[Tensor, "B C H W"],
        numbers: Float[Tensor, "B n C H W"],
        lowest: Float[Tensor, " C"],
        highest: Float[Tensor, " C"],
        periodic: bool,
    ) -> Float[Tensor, "B C H W"]:
        """The change of the fields.

        Args:
            fields: The fields before the step.
            numbers: What the network says, `n = outputs`.
            lowest: Lower bound of each field.
            highest: Upper bound of each field.
            periodic: Whether opposite borders are neighbours; otherwise nothing passes a border.
        """
        given, filled = numbers.transpose(1, 2).chunk(2, dim=2)
        out = self._moved((fields - lowest[:, None, None]).clamp(min=0), given, periodic)
        into = self._moved((highest[:, None, None] - fields).clamp(min=0), filled, periodic)
        return (out - into) / 2

    def _moved(
        self, capacity: Float[Tensor, "B C H W"], numbers: Float[Tensor, "B C k H W"], periodic: bool
    ) -> Float[Tensor, "B C H W"]:
        """What arrives at each pixel less what leaves it."""
        share, weights = numbers[:, :, :1], numbers[:, :, 1:]
        if not periodic:
            weights = weights.masked_fill(self._outside(capacity), -math.inf)
        amount = capacity[:, :, None] * share.sigmoid()
        parts = amount * weights.softmax(dim=2)
        center = self.side**2 // 2
        parts = torch.cat([parts[:, :, :center], -amount, parts[:, :, center:]], dim=2)
        height, width = capacity.shape[-2:]
        grown = F.fold(parts.flatten(0, 1).flatten(2), (height + 2 * self.reach, width + 2 * self.reach), self.side)
        return self._wrapped(grown, periodic).reshape(capacity.shape)

    def _outside(self, field: Float[Tensor, "B C H W"]) -> Tensor:
        """Which neighbours of which pixels lie beyond a wall, of the shape `k H W`."""
        inside = F.unfold(torch.ones_like(field[:1, :1]), self.side, padding=self.reach)
        inside = inside.unflatten(2, field.shape[-2:])[0]
        center = self.side**2 // 2
        return torch.cat([inside[:center], inside[center + 1 :]]) == 0

    def _wrapped(self, grown: Float[Tensor, "B 1 Hg Wg"], periodic: bool) -> Float[Tensor, "B 1 H W"]:
        """`grown` without its margins, whose amounts belong to the other side of a periodic frame."""
        for axis in (-2, -1):
            size = grown.shape[axis] - 2 * self.reach
            if periodic:
                places = continued_places(size, self.reach, self.reach, True, grown.device)
                shape = list(grown.shape)
                shape[axis] = size
                grown = grown.new_zeros(shape).index_add(grown.ndim + axis, places, grown)
            else:
                grown = grown.narrow(axis, self.reach, size)
        return grown
