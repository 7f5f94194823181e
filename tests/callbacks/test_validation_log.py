import json
from types import SimpleNamespace

import torch

from microevo.callbacks import ValidationLog


def test_each_validation_of_a_training_is_a_line(tmp_path):
    trainer = SimpleNamespace(
        state=SimpleNamespace(fn="fit"),
        sanity_checking=False,
        fast_dev_run=False,
        is_global_zero=True,
        global_step=4,
        default_root_dir=str(tmp_path),
        callback_metrics={"val/mse": torch.tensor(0.25), "several": torch.zeros(2)},
    )
    log = ValidationLog("log.jsonl")
    log.on_validation_end(trainer, None)
    trainer.global_step, trainer.callback_metrics = 8, {"val/mse": torch.tensor(torch.nan)}
    log.on_validation_end(trainer, None)
    for setting in ("sanity_checking", "fast_dev_run"):
        setattr(trainer, setting, True)
        log.on_validation_end(trainer, None)
        setattr(trainer, setting, False)
    trainer.state.fn = "validate"
    log.on_validation_end(trainer, None)
    first, second = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert first == {"step": 4, "val/mse": 0.25}
    assert second["val/mse"] != second["val/mse"]
