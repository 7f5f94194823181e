"""Protocols: the windows that they name, and what they refuse."""

import numpy as np
import pytest
import torch

from microevo.benchmark import Protocol
from microevo.benchmark.competitors.model import pad_input


def test_windows_are_those_of_the_first_trajectories(make_store):
    store = make_store(splits=("test", "train", "test", "test"), frames=9)
    protocol = Protocol(store=str(store.path), n_past=2, horizon=3, trajectories=2, starts=[0, 4])
    windows = protocol.windows(["c"])
    assert windows.windows == [(0, 0), (0, 4), (2, 0), (2, 4)]
    assert torch.equal(windows[3].future, torch.from_numpy(store.read(2, 6, 9)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"horizon": 0}, "horizon of a protocol must be at least 1"),
        ({"starts": []}, "starts of a protocol"),
        ({"starts": [0, 0]}, "starts of a protocol"),
        ({"starts": [-1]}, "starts of a protocol"),
        ({"trajectories": 3}, "asks for 3 trajectories of the split test, but .* has 1"),
        ({"horizon": 5}, "needs past \\+ future = 2 \\+ 5"),
        ({"starts": [2]}, "the last possible start in .* is 1"),
        ({"store": "nothing.zarr"}, "no trajectory store at nothing.zarr"),
    ],
)
def test_impossible_protocols_are_refused(make_store, settings, said):
    path = str(make_store().path)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        Protocol(**({"store": path, "n_past": 2, "horizon": 3} | settings)).windows(["c"])


def test_a_name_keeps_its_promise():
    protocol = Protocol(store="x", n_past=10, horizon=50)
    protocol.check_name("10->50")
    protocol.check_name("10->50 at 256x256")
    protocol.check_name("shifted composition")
    with pytest.raises(
        ValueError, match="the protocol 10->90 has 10 input frames and 50 target frames; name it 10->50"
    ):
        protocol.check_name("10->90")


def test_the_digest_changes_with_all_that_matters_and_nothing_else(make_store):
    fields, splits = ("phi", "T"), ("test",) * 2
    store = make_store(fields=fields, splits=splits, frames=9)
    values = np.stack([store.read(i) for i in range(2)])
    alike = make_store("elsewhere.zarr", fields=fields, splits=splits, values=values)
    others = [
        make_store(f"{i}.zarr", fields=fields, splits=splits, **({"values": values} | settings))
        for i, settings in enumerate(
            [
                {"values": values + 1},
                {"boundary": "no-flux"},
                {"first_frame": 7.0},
                {"frame_interval": 2.0},
                {"spacing": 0.5},
            ]
        )
    ]

    def digest(store, fields=("phi",), **settings):
        protocol = Protocol(**({"store": str(store.path), "n_past": 2, "horizon": 3} | settings))
        return protocol.digest(protocol.windows(list(fields)))

    assert digest(store) == digest(alike, note="fitted")
    different = [{"horizon": 4}, {"starts": [1]}, {"n_past": 1}, {"fields": ("T",)}, {"fields": fields}]
    digests = {digest(store), *(digest(store, **other) for other in different), *map(digest, others)}
    assert len(digests) == 1 + len(different) + len(others)


def test_missing_past_frames():
    past = torch.tensor([[[1.0], [2.0]], [[5.0], [5.0]]])[..., None, None]  # two windows of two frames of one pixel

    def filled(how):
        return pad_input(past, 4, how).flatten(1).tolist()

    assert filled("first") == [[1, 1, 1, 2], [5, 5, 5, 5]]
    assert filled("linear") == [[1, 1, 1, 2], [5, 5, 5, 5]]  # not below what was seen
    assert filled("zeros") == [[0, 0, 1, 2], [0, 0, 5, 5]]
    wide = torch.tensor([0.0, 4.0])
    steps = torch.stack([wide + 1, wide.flip(0) / 8 + wide])[None, :, None, None]
    assert pad_input(steps, 3, "linear")[0, 0].flatten().tolist() == pytest.approx([1.5, 5.0])
    assert torch.equal(pad_input(past, 2, "zeros"), past)
    with pytest.raises(ValueError, match="there are 2 input frames, but the network takes 1"):
        pad_input(past, 1, "first")
