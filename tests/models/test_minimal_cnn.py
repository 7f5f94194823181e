"""The network of arXiv 2511.10171."""

from pathlib import Path

import pytest
import torch
from toy_windows import trainer

from microevo.data import TrajectoryDataModule
from microevo.models import MinimalCNN, MinimalCNNNet


def test_has_the_published_size():
    assert sum(weights.numel() for weights in MinimalCNNNet().parameters()) == 166_049


def test_forecasts_stay_near_the_range_of_the_training_data(small_store: Path):
    data = TrajectoryDataModule(str(small_store), ["c"], n_past=1, n_future=2, horizon=4, batch_size=2)
    model = MinimalCNN(width=4, blocks=1, n_past=1, horizon=4)
    trainer(max_steps=1).fit(model, data)

    changes = data.change_statistics()
    margin = 0.02 * (changes.highest - changes.lowest)
    assert model.lowest.numpy() == pytest.approx(changes.lowest - margin)
    assert model.highest.numpy() == pytest.approx(changes.highest + margin)
    with torch.no_grad():
        model.net.last.bias.fill_(50)
        assert model.eval()(torch.rand(1, 1, 1, 8, 8), 2).max() == model.highest


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"kernel": 4}, "kernel must be odd, so that images keep their size, got 4"),
        ({"blocks": 0}, "blocks must be at least 1, got 0"),
        (
            {"increments": True},
            "increments have no bounds, but bounded and increments are both true; set bounded to false",
        ),
    ],
)
def test_refuses(settings: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        MinimalCNN(**settings)
