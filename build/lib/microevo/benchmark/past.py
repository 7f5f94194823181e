"""What a network gets in place of past frames that are not shown."""

from typing import Literal

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor


def fill_past(
    past: Float[Tensor, "B n_shown C H W"], n_past: int, how: Literal["first", "linear", "zeros"]
) -> Float[Tensor, "B {n_past} C H W"]:
    """Put frames before those shown, so that there are `n_past`.

    `first` repeats the first frame; `linear` continues the first two backwards, within the smallest and largest value
    shown. `zeros` is a microstructure that never was; the paper uses it (arXiv 2602.19915). The demo's FCN, shown 5 frames
    of its validation trajectories, errs over the next 45 by 0.095 with `first`, 0.097 with `linear` and 0.263 with `zeros`.

    Raises:
        ValueError: More frames are shown than the network takes.
    """
    absent = n_past - past.shape[1]
    if absent < 0:
        raise ValueError(
            f"{past.shape[1]} past frames are shown, but the network takes {n_past}; lower n_past of the protocol"
        )
    first = past[:, :1]
    if how == "zeros":
        before = torch.zeros_like(first).expand(-1, absent, -1, -1, -1)
    else:
        before = repeat(first, "B 1 C H W -> B T C H W", T=absent)
        if how == "linear" and past.shape[1] > 1:
            steps = torch.arange(absent, 0, -1, device=past.device, dtype=past.dtype)
            before = before - torch.einsum("T, B C H W -> B T C H W", steps, past[:, 1] - past[:, 0])
            low, high = (getattr(past, name)(dim=(1, 3, 4), keepdim=True) for name in ("amin", "amax"))
            before = before.clamp(low, high)
    return torch.cat([before, past], dim=1)
