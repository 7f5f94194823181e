"""Experiments made so small that a test can train them."""

from pathlib import Path

import yaml

SMALL_MODEL = {
    "FCN": ["--model.init_args.hid_s=2", "--model.init_args.hid_t=4", "--model.init_args.n_t=2"],
    "SimVP": ["--model.init_args.hid_s=4", "--model.init_args.hid_t=8", "--model.init_args.n_t=2"],
    "TAU": ["--model.init_args.hid_s=4", "--model.init_args.hid_t=8", "--model.init_args.n_t=2"],
    "ConvLSTM": ["--model.init_args.hidden=[4,4]", "--model.init_args.filter_size=3"],
    "ConvGRU": ["--model.init_args.hidden=[4,4]", "--model.init_args.filter_size=3"],
    "E3DLSTM": ["--model.init_args.hidden=4", "--model.init_args.layers=1", "--model.init_args.filter_size=3"],
    "UNet": ["--model.init_args.widths=[8,8]"],
    "FNO": ["--model.init_args.n_modes=4", "--model.init_args.width=4", "--model.init_args.layers=1"],
    "LocalNet": ["--model.init_args.widths=[4,4]", "--model.init_args.blocks=1"],
    "MinimalCNN": ["--model.init_args.width=4", "--model.init_args.blocks=1"],
    "PredRNN": ["--model.init_args.hidden=4", "--model.init_args.filter_size=3"],
    "PredRNNpp": ["--model.init_args.hidden=4", "--model.init_args.filter_size=3"],
}
SHORT_RUN = [
    "--data.init_args.horizon=6",
    "--data.init_args.batch_size=2",
    "--trainer.max_steps=2",
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=1",
    "--trainer.val_check_interval=1",
    "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=1",
]


def part(experiment: Path, name: str) -> dict:
    """The `data` or `model` of an experiment, which may be a file beside it."""
    value = yaml.safe_load(experiment.read_text())[name]
    return yaml.safe_load((experiment.parent / value).read_text()) if isinstance(value, str) else value


def model_of(experiment: Path) -> str:
    return part(experiment, "model")["class_path"].rsplit(".", 1)[-1]


def shrink(experiment: Path, store: Path) -> list[str]:
    """Options that make an experiment's `fit` and `test` a matter of seconds, on a small store."""
    return [f"--data.init_args.store={store}", *SMALL_MODEL[model_of(experiment)], *SHORT_RUN]
