"""Convolutions that continue their input beyond its border as the physics has it, in place of zeros."""

from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from microevo.models.continuation import continued

Padding = Literal["zeros", "boundary"]


def continue_borders(net: nn.Module, periodic: bool) -> None:
    """Let all convolutions of a network that pad with zeros wrap around, or mirror their input, along height and width.

    The weights stay as they are. A network of shift-equivariant parts thus becomes equivariant under periodic shifts, by
    multiples of its strides. May be called again, with another boundary condition.

    Args:
        net: A network of `Conv2d` and `Conv3d`; the last two axes are height and width.
        periodic: Whether opposite borders are neighbours. Otherwise the input is mirrored.
    """
    for conv in net.modules():
        if not isinstance(conv, nn.Conv2d | nn.Conv3d) or conv.padding_mode != "zeros":
            continue
        if not hasattr(conv, "margins"):
            assert not isinstance(conv.padding, str)
            *others, rows, columns = conv.padding
            if not rows + columns:
                continue
            conv.margins, conv.padding = (rows, columns), (*others, 0, 0)  # type: ignore[assignment]
            conv.register_forward_pre_hook(_continue_input)
        conv.periodic = periodic  # type: ignore[assignment]


def _continue_input(conv: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
    rows, columns = conv.margins
    return (padded(inputs[0], rows, columns, bool(conv.periodic)),)


def padded(x: Float[Tensor, "*axes h w"], rows: int, columns: int, periodic: bool) -> Float[Tensor, "*axes hp wp"]:
    """`x` with rows above and below and columns on both sides, which wrap around or mirror it."""
    sizes = (columns, columns, rows, rows, *(0, 0) * (x.ndim - 4))
    # PyTorch's own padding is faster, but wraps around no more than once.
    if periodic and rows <= x.shape[-2] and columns <= x.shape[-1]:
        return F.pad(x, sizes, mode="circular")
    if not periodic and max(rows, columns) == 1:  # where to repeat the border is to mirror
        return F.pad(x, sizes, mode="replicate")
    return continued(x, (rows, rows), (columns, columns), periodic)
