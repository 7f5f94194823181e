"""Amounts that pixels hand to their neighbours."""

import itertools

import pytest
import torch
from torch import Tensor

from microevo.models import LocalNet
from microevo.models.transport import TransportHead

ZERO, ONE = torch.zeros(2), torch.ones(2)


def numbers(head: TransportHead, height: int = 6, width: int = 7) -> Tensor:
    torch.manual_seed(1)
    return 2 * torch.randn(3, head.outputs, 2, height, width)


@pytest.mark.parametrize("periodic", [True, False])
def test_agrees_with_moving_each_amount_by_itself(periodic: bool):
    head, fields = TransportHead(reach=2), torch.rand(3, 2, 6, 7)
    said = numbers(head)
    change = torch.zeros_like(fields)
    offsets = [(i, j) for i in range(-2, 3) for j in range(-2, 3) if (i, j) != (0, 0)]
    given, filled = said.transpose(1, 2).chunk(2, dim=2)
    for capacity, say, sign in ((fields, given, 1), (1 - fields, filled, -1)):
        for y, x in itertools.product(range(6), range(7)):
            targets = [(y + i, x + j) for i, j in offsets]
            there = torch.tensor([periodic or (0 <= i < 6 and 0 <= j < 7) for i, j in targets])
            shares = say[:, :, 1:, y, x].masked_fill(~there, -torch.inf).softmax(dim=2)
            amount = sign * capacity[:, :, y, x] * say[:, :, 0, y, x].sigmoid() / 2
            change[:, :, y, x] -= amount
            for share, (i, j) in zip(shares.unbind(2), targets, strict=True):
                change[:, :, i % 6, j % 7] += amount * share
    torch.testing.assert_close(head(fields, said, ZERO, ONE, periodic), change, atol=1e-5, rtol=0)


@pytest.mark.parametrize("periodic", [True, False])
def test_giving_alone_never_falls_below_the_lower_bound(periodic: bool):
    head, fields = TransportHead(reach=1), torch.rand(3, 2, 6, 7)
    said = numbers(head)
    said[:, head.side**2] = -torch.inf  # nothing is filled
    moved = fields + 2 * head(fields, said, ZERO, ONE, periodic)
    assert (moved >= -1e-6).all()
    assert (moved - fields).abs().max() > 0.1


def test_an_untrained_network_moves_about_as_much_as_changes_in_a_frame():
    torch.manual_seed(0)
    model = LocalNet(widths=[6], blocks=1, head="transport", n_past=1, horizon=1)
    model.take_statistics(torch.tensor([0.02]), torch.zeros(1), torch.ones(1))
    past = torch.rand(2, 1, 1, 16, 16)
    change = (model(past, 1) - past).square().mean().sqrt()
    assert 0.002 < change < 0.02


def test_amounts_move_from_frame_to_frame():
    with pytest.raises(ValueError, match="moves amounts from frame to frame, but frames_per_call is 2; set it to 1"):
        LocalNet(head="transport", frames_per_call=2)
