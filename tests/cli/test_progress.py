"""How long a training will take, said when it has begun."""

import re

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from toy_windows import loader, trainer, windows

from microevo.cli.progress import Progress
from microevo.models import LocalNet


@pytest.mark.parametrize(("steps", "said"), [(101, True), (20, False)])
def test_a_long_training_says_how_long_it_will_take(steps: int, said: bool, capsys: pytest.CaptureFixture):
    torch.manual_seed(0)
    model = LocalNet(widths=[2], blocks=1, n_past=4, horizon=4)
    trainer(max_steps=steps, callbacks=[Progress()]).fit(model, loader(windows(), batch_size=1))
    found = re.findall(r"^about (\d+ s|\d+ min) for (\d+) steps, and the validations$", capsys.readouterr().out, re.M)
    assert [count for _, count in found] == ["90"] * said


def test_a_training_that_ends_early_says_why(capsys: pytest.CaptureFixture):
    batches = loader(windows(), batch_size=4)
    early = EarlyStopping("val/mse", patience=1, stopping_threshold=1e9)
    model = LocalNet(widths=[2], blocks=1, n_past=4, horizon=4)
    trainer(max_epochs=9, callbacks=[Progress(), early]).fit(model, batches, batches)
    assert re.search(r"^stopped early after step 1: .*val/mse", capsys.readouterr().out, re.M)


def test_a_run_that_is_resumed_after_an_early_end_does_not_say_so_again(capsys: pytest.CaptureFixture):
    early = EarlyStopping("val/mse", patience=9)
    early.stopping_reason_message = "val/mse did not improve"  # as in the checkpoint of the earlier run
    batches = loader(windows(), batch_size=4)
    trainer(max_steps=1, callbacks=[Progress(), early]).fit(
        LocalNet(widths=[2], blocks=1, n_past=4, horizon=4), batches, batches
    )
    assert "stopped early" not in capsys.readouterr().out
