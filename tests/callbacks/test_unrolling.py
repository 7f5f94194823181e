"""Training on longer and longer forecasts."""

import math
from typing import Any

import pytest
import torch
from lightning import Callback
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


def model(**settings: Any) -> Noting:
    torch.manual_seed(0)
    return Noting(widths=[4], blocks=1, n_past=4, horizon=4, **settings)


def test_stages_share_the_computing_time():
    noting = model()
    trainer(max_steps=14, callbacks=[Unrolling([1, 2, 4])]).fit(noting, loader(windows(), batch_size=1))
    assert noting.lengths == [1] * 8 + [2] * 4 + [4] * 2
    noting = model()
    trainer(max_steps=12, callbacks=[Unrolling([1, 4], [1.0, 2.0])]).fit(noting, loader(windows(), batch_size=1))
    assert noting.lengths == [1] * 8 + [4] * 4


@pytest.mark.parametrize(("warmup", "peak"), [(0.3, 48), (0.1, 16)])
def test_the_learning_rate_follows_the_computing_time(warmup: float, peak: int):
    noting, rates = model(warmup=warmup), []

    class Rates(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer(max_steps=100, callbacks=[Unrolling([1, 4]), Rates()]).fit(noting, loader(windows(), batch_size=1))
    # Four fifths of the steps are made in half of the time.
    assert noting.lengths == [1] * 80 + [4] * 20
    assert rates.index(max(rates)) == pytest.approx(peak, abs=1)
    falling = (0.5 - warmup) / (1 - warmup)
    assert rates[80] == pytest.approx((1 + math.cos(math.pi * falling)) / 2 * max(rates), rel=0.02)
    assert rates[-1] < 0.03 * max(rates)


def test_a_resumed_run_is_in_the_same_stage(tmp_path):
    batches, path = loader(windows(), batch_size=1), tmp_path / "half.ckpt"
    first = trainer(max_steps=9, callbacks=[Unrolling([1, 4])])
    first.fit(model(), batches)
    first.save_checkpoint(path)
    noting = model()
    trainer(max_steps=15, callbacks=[Unrolling([1, 4])]).fit(noting, batches, ckpt_path=path, weights_only=True)
    assert noting.lengths == [1] * 3 + [4] * 3


def test_without_it_all_frames_are_trained():
    noting = model()
    trainer(max_steps=2).fit(noting, loader(windows(n_future=3), batch_size=2))
    assert noting.lengths == [3, 3]


def test_windows_that_are_too_short_are_refused():
    with pytest.raises(ValueError, match="up to 8 frames, but training windows have 4 future frames; raise"):
        trainer(max_steps=2, callbacks=[Unrolling([8])]).fit(model(), loader(windows()))
    with pytest.raises(ValueError, match=r"numbers from 1 on, one for each stage, but they are \[\]"):
        Unrolling([])
    with pytest.raises(ValueError, match=r"2 positive numbers, one for each stage, but they are \[1\.0\]"):
        Unrolling([1, 2], [1.0])
