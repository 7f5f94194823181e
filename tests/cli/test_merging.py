import shutil
from pathlib import Path

import pytest
import torch
from lightning.pytorch.cli import LightningCLI

from microevo.cli.training import TrainingCLI


def parsed(args) -> dict:
    class Parsed(TrainingCLI):
        def before_instantiate_classes(self):
            raise StopIteration(self.config[self.subcommand])

    with pytest.raises(StopIteration) as stop:
        Parsed([str(word) for word in args])
    return stop.value.value


@pytest.fixture
def tiny(cli):
    return ["fit", "--config", "tiny.yaml"]


def test_a_later_config_wins_and_the_command_line_over_both(tiny):
    Path("more.yaml").write_text("trainer: {max_epochs: 7}\nmodel: {class_path: FCN, init_args: {hid_t: 8}}\n")
    config = parsed([*tiny, "--config", "more.yaml"])
    assert (config.trainer.max_epochs, config.model.init_args.hid_t, config.model.init_args.hid_s) == (7, 8, 2)
    assert parsed([*tiny, "--config", "more.yaml", "--trainer.max_epochs=9"]).trainer.max_epochs == 9


def test_callbacks_are_replaced_unless_added_with_a_plus(tiny):
    def names(config):
        return [callback.class_path.rsplit(".", 1)[-1] for callback in config.trainer.callbacks]

    Path("replace.yaml").write_text(
        "trainer: {callbacks: [{class_path: EarlyStopping, init_args: {monitor: val/mse}}]}\n"
    )
    Path("add.yaml").write_text("trainer: {callbacks+: [{class_path: EarlyStopping, init_args: {monitor: val/mse}}]}\n")
    assert names(parsed([*tiny, "--config", "replace.yaml"])) == ["EarlyStopping"]
    assert names(parsed([*tiny, "--config", "add.yaml"])) == ["ModelCheckpoint", "EarlyStopping"]
    added = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/mse"]
    assert names(parsed([*tiny, *added])) == ["ModelCheckpoint", "EarlyStopping"]


@pytest.mark.slow
def test_defaults_beside_the_config_come_first(tiny, tmp_path):
    (tmp_path / "defaults.yaml").write_text("trainer: {max_epochs: 99, gradient_clip_val: 0.5}\n")
    (tmp_path / "demo").mkdir()
    shutil.copy("tiny.yaml", "demo/deeper.yaml")
    for config in ("tiny.yaml", "demo/deeper.yaml", tmp_path / "tiny.yaml"):
        trainer = parsed(["fit", "--config", config]).trainer
        assert (trainer.max_epochs, trainer.gradient_clip_val) == (2, 0.5)
    assert parsed(["fit", f"--config={tmp_path}/demo/deeper.yaml"]).trainer.gradient_clip_val == 0.5


def test_another_model_keeps_the_settings_that_both_have(tiny):
    settings = parsed([*tiny, "--model.init_args.lr=0.25", "--model=ConvLSTM"]).model.init_args
    assert settings.lr == 0.25
    assert "hid_s" not in settings


def test_model_and_data_agree_through_links(tiny):
    settings = parsed([*tiny, "--data.init_args.n_past=6", "--data.init_args.fields=[c,d]"]).model.init_args
    assert (settings.n_past, settings.channels, settings.horizon) == (6, 2, 5)


def test_null_and_booleans_arrive_as_such(tiny):
    assert parsed([*tiny, "--model.init_args.init_from=null"]).model.init_args.init_from is None
    assert parsed([*tiny, "--data.init_args.predict_count=null"]).data.init_args.predict_count is None
    assert parsed([*tiny, "--trainer.enable_progress_bar=False"]).trainer.enable_progress_bar is False


def test_a_checkpoint_does_not_override_the_config(tiny, trained):
    # Lightning merges a checkpoint's settings over the user's in a private method; ours replaces it.
    assert "_parse_ckpt_path" in vars(LightningCLI)
    best = trained / "checkpoints" / "best.ckpt"
    assert torch.load(best, weights_only=True)["hyper_parameters"]["hid_t"] == 4
    config = parsed([*tiny, "--ckpt_path", best, "--model.init_args.hid_t=12", "--model.init_args.lr=0.5"])
    assert (config.model.init_args.hid_t, config.model.init_args.lr) == (12, 0.5)
    assert parsed([*tiny, "--ckpt_path", best, "--model=ConvLSTM"]).model.class_path == "microevo.models.ConvLSTM"
