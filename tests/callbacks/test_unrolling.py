"""Training on longer and longer forecasts."""

from typing import Any

import pytest
import torch
from toy_windows import loader, trainer, windows

from microevo.callbacks import Unrolling
from microevo.models import LocalNet


class Noting(LocalNet):
    """Notes how many frames each loss is made of."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.lengths: list[int] = []

    def loss(self, past, future):
        self.lengths.append(future.shape[1])
        return super().loss(past, future)


def model() -> Noting:
    torch.manual_seed(0)
    return Noting(widths=[4], blocks=1, n_past=4, horizon=4)


def test_stages_share_the_run_equally():
    noting = model()
    trainer(max_steps=12, callbacks=[Unrolling([1, 2, 4])]).fit(noting, loader(windows(), batch_size=1))
    assert noting.lengths == [1] * 4 + [2] * 4 + [4] * 4


def test_a_resumed_run_is_in_the_same_stage(tmp_path):
    batches, path = loader(windows(), batch_size=1), tmp_path / "half.ckpt"
    first = trainer(max_steps=6, callbacks=[Unrolling([1, 4])])
    first.fit(model(), batches)
    first.save_checkpoint(path)
    noting = model()
    trainer(max_steps=12, callbacks=[Unrolling([1, 4])]).fit(noting, batches, ckpt_path=path, weights_only=True)
    assert noting.lengths == [4] * 6


def test_without_it_all_frames_are_trained():
    noting = model()
    trainer(max_steps=2).fit(noting, loader(windows(n_future=3), batch_size=2))
    assert noting.lengths == [3, 3]


def test_windows_that_are_too_short_are_refused():
    with pytest.raises(ValueError, match="up to 8 frames, but training windows have 4 future frames; raise"):
        trainer(max_steps=2, callbacks=[Unrolling([8])]).fit(model(), loader(windows()))
    with pytest.raises(ValueError, match=r"numbers from 1 on, one for each stage, but they are \[\]"):
        Unrolling([])
