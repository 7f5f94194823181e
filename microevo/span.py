"""The span of a field's values, by which SSIM and PSNR do not depend on the field's unit."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch


class Span(NamedTuple):
    """The values between which a field lies.

    Attributes:
        low: Smallest value [field units].
        high: Largest value [field units].
        source: Where the two come from, in words.
    """

    low: float
    high: float
    source: str

    def same(self, other: Sequence[Any]) -> bool:
        """Whether the other span is between the same values, wherever they come from."""
        return (self.low, self.high) == tuple(other[:2])


def options_of(spans: Sequence[Span]) -> dict[str, Any]:
    """What metrics of frames with these fields take as `data_range` and `lowest`.

    They are numbers where all fields have one span, and tensors (C, 1, 1), which broadcast over frames, where they differ.
    """
    if len({(span.low, span.high) for span in spans}) == 1:
        return {"data_range": spans[0].high - spans[0].low, "lowest": spans[0].low}
    columns = torch.tensor([(span.low, span.high - span.low) for span in spans], dtype=torch.float32)[..., None, None]
    return {"data_range": columns[:, 1], "lowest": columns[:, 0]}


def described(spans: Mapping[str, Sequence[Any]]) -> str:
    """The spans of some fields in words, such as `c from 0 to 1 (declared by the process)`."""
    return ", ".join(f"{name} from {low:g} to {high:g} ({source})" for name, (low, high, source) in spans.items())
