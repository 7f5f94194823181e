"""The linear recurrence in time that fits some frames best: how waves and decaying fields continue."""

import torch
from jaxtyping import Float
from torch import Tensor

RIDGE = 1e-12  # of the mean square of the frames; decides where the frames leave a coefficient open


def fit_recurrence(past: Float[Tensor, "B n_past C H W"], order: int) -> Float[Tensor, "B C k"]:
    """Coefficients a, b, ..., c of u(t+1) = a u(t) + b u(t-1) + ... + c, the same for all pixels of a field.

    They are fitted by least squares to all pixels of the past frames (Prony's method: a sum of decaying oscillations
    obeys such a recurrence whatever its shape in space). A plane wave of frequency omega and rate of decay alpha has
    a = 2 exp(-alpha) cos(omega) and b = -exp(-2 alpha).

    Args:
        past: At least `order` + 1 frames.
        order: Number of frames that the next one is made of.

    Returns:
        `order` coefficients, the latest frame's first, and the constant.
    """
    series = past.transpose(1, 2).flatten(3).double()  # B C T P
    count = series.shape[2] - order
    columns = [series[:, :, order - 1 - lag : order - 1 - lag + count] for lag in range(order)]
    design = torch.stack([*columns, torch.ones_like(columns[0])], dim=-1).flatten(2, 3)  # B C (T P) k
    target = series[:, :, order:].flatten(2)[..., None]
    normal = design.mT @ design
    # Where the frames leave it open, as frames at rest do, the next frame repeats the last.
    rest = torch.zeros(order + 1, 1, dtype=normal.dtype, device=normal.device)
    rest[0] = 1
    ridge = RIDGE * normal.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None].clamp(min=1e-30)
    identity = torch.eye(order + 1, dtype=normal.dtype, device=normal.device)
    solution = torch.linalg.solve(normal + ridge * identity, design.mT @ target + ridge * rest)
    return solution[..., 0].to(past.dtype)


def prolonged(
    recent: Float[Tensor, "B n C H W"], coefficients: Float[Tensor, "B C k"], count: int
) -> Float[Tensor, "B {count} C H W"]:
    """The frames that follow by the recurrence."""
    *weights, constant = coefficients[..., None, None].unbind(dim=2)
    frames = list(recent[:, -len(weights) :].unbind(dim=1))
    for _ in range(count):
        frames.append(constant + sum(weight * frames[-lag] for lag, weight in enumerate(weights, start=1)))
    return torch.stack(frames[-count:], dim=1)
