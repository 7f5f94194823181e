from pathlib import Path

import pytest
import torch

CLASSES = (
    "choose ConvGRU, ConvLSTM, E3DLSTM, FCN, FNO, LocalNet, MinimalCNN, Persistence, PredRNN, PredRNNpp, SimVP, "
    "TAU, UNet or the path of a "
    "class of your own"
)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--trainer.max_epoch=3"], ["--trainer.max_epoch=3", "did you mean trainer.max_epochs?"]),
        (["--trainer.max_epoch", "3"], ["--trainer.max_epoch 3", "did you mean trainer.max_epochs?"]),
        (["--max_epochs=3"], ["--max_epochs=3", "did you mean trainer.max_epochs?"]),
        (["--rundir=x"], ["--rundir=x", "did you mean run_dir?"]),
        (["--frobnicate"], ["--frobnicate", "--help lists the options"]),
        (["extra"], ["extra", "--help lists the options"]),
        (["--model.init_args.hid_sx=3"], ["microevo.models.FCN", "'hid_sx' is not accepted", "did you mean hid_s?"]),
        (["--model.hid_sx=3"], ["microevo.models.FCN", "'hid_sx' is not accepted", "did you mean hid_s?"]),
        (["--model.init_args.schedul=constant"], ["microevo.models.FCN", "'schedul'", "did you mean schedule?"]),
        (["--data.init_args.batch_siz=3"], ["TrajectoryDataModule", "'batch_siz'", "did you mean batch_size?"]),
        (["--model", "microevo.models.FCNN"], ["microevo.models.FCNN", '"model"', "did you mean FCN?"]),
        (["--model", "Nope"], ['"model"', "Nope", CLASSES]),
        (["--model", "no.such.Thing"], ['"model"', "no.such.Thing", CLASSES]),
        (["--model", "torch.nn.Linear"], ['"model"', "torch.nn.Linear", "subclass of Forecaster", CLASSES]),
        (["--model", "Forecaster"], ['"model"', "Forecaster", "abstract", CLASSES]),
        (["--model", "models/nope.yaml"], ['"model"', "models/nope.yaml", CLASSES]),
        (["--model.help", "Nope"], ["--model.help", "Nope", CLASSES]),
        (["--data", "Trajectories"], ['"data"', "Trajectories", "choose TrajectoryDataModule"]),
        (["--trainer.logger=Wandb"], ['"trainer.logger"', "Wandb", "did you mean WandbLogger?"]),
        (["--trainer.callbacks+=LeadTabel"], ['"trainer.callbacks"', "LeadTabel", "did you mean LeadTable?"]),
        (
            ["--trainer.callbacks+=LeadTable", "--trainer.callbacks.init_args.writ=1"],
            ["microevo.callbacks.LeadTable", "'writ'", "did you mean write?"],
        ),
        (["--data.init_args.batch_size=abc"], ['"data"', '"batch_size": Expected a whole number', "abc"]),
        (["--data.init_args.eval_stride=abc"], ['"data"', '"eval_stride": Expected a whole number', "abc"]),
        (["--model.init_args.lr=fast"], ['"model"', '"lr": Expected a number', "fast"]),
        (["--model.init_args.schedule=cosine"], ['"schedule": Expected one of', "onecycle", "constant", "cosine"]),
        (["--data.init_args.symmetries=[turn]"], ['"symmetries": Expected one of', "shift", "flip", "rotate", "turn"]),
        (["--trainer.max_steps=abc"], ['"trainer.max_steps": Expected a whole number', "abc"]),
        (["--trainer.default_root_dir=x"], ["--trainer.default_root_dir is x", "--run_dir names the folder"]),
        (["--trainer.precision=12"], ['"trainer.precision": Expected one of', "bf16-mixed", "12"]),
        (["--seed_everything=a"], ['"seed_everything": Expected true or false', "a whole number", "Given value: a"]),
        (["--config"], ["--config", "expected one argument"]),
        (["--config", "tiny2.yaml"], ["--config", "no file tiny2.yaml; did you mean tiny.yaml?"]),
        (["--config", "elsewhere/x.yaml"], ["--config", "no file elsewhere/x.yaml"]),
        (["--model.init_args.n_past=3"], ["model.init_args.n_past is 3", "would be 4", "set data.init_args.n_past"]),
        (["--model.n_past", "3"], ["model.init_args.n_past is 3", "would be 4", "set data.init_args.n_past"]),
        (["--model.init_args.channels=2"], ["model.init_args.channels is 2", "set data.init_args.fields"]),
        (
            ["--model={class_path: FCN, init_args: {horizon: 7}}"],
            ["model.init_args.horizon is 7", "data.init_args.horizon"],
        ),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_sentence(cli, args, words):
    cli("fit", "--config", "tiny.yaml", *args).refusal(*words, code=2)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: {class_path: FCN, init_args: {hid_sx: 3}}", ["FCN", "'hid_sx'", "did you mean hid_s?"]),
        ("model: [", ["bad.yaml", "parsing", "line 2, column 1"]),
        ("a: b: c", ["bad.yaml", "parsing", "line 1, column 5"]),
        ("just words", ["bad.yaml", "just words"]),
        ("modle: FCN", ["'modle'", "did you mean model?"]),
        ("trainer: {max_epoch: 3}", ["'trainer.max_epoch'", "did you mean trainer.max_epochs?"]),
        ("trainer: {max_steps: many}", ["bad.yaml", '"trainer.max_steps": Expected a whole number', "many"]),
        ("model: models/nope.yaml", ["bad.yaml", '"model"', "models/nope.yaml"]),
        (
            "data: {class_path: TrajectoryDataModule, init_args: {horizn: 3}}",
            ["bad.yaml", "TrajectoryDataModule", "'horizn'", "did you mean horizon?"],
        ),
        (
            "trainer: {callbacks+: [{class_path: microevo.callbacks.LeadTabel}]}",
            ["bad.yaml", "LeadTabel", "did you mean LeadTable?"],
        ),
        (
            "model: {class_path: FCN, init_args: {n_past: 3}}",
            ["model.init_args.n_past is 3", "set data.init_args.n_past"],
        ),
        ("model: part.yaml", ["model.init_args.channels is 2", "set data.init_args.fields"]),
    ],
)
def test_a_wrong_config_file_is_refused_in_one_sentence(cli, text, words):
    Path("bad.yaml").write_text(text + "\n")
    Path("part.yaml").write_text("class_path: FCN\ninit_args: {channels: 2}\n")
    cli("fit", "--config", "tiny.yaml", "--config", "bad.yaml").refusal(*words, code=2)


def test_a_config_file_that_is_not_text_is_refused_in_one_sentence(cli):
    Path("bad.yaml").write_bytes(bytes(range(256)))
    cli("fit", "--config", "tiny.yaml", "--config", "bad.yaml").refusal("bad.yaml", "utf-8", code=2)


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_command_without_model_or_data_says_what_it_needs(cli, command):
    cli(command).refusal("required", "data", "model", code=2)
    cli(command, "--model", "FCN").refusal("required", "data", code=2)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--frame=3"], ["--frame=3", "did you mean frames?"]),  # no abbreviations
        (["--process", "Spinodal"], ['"process"', "Spinodal", "did you mean SpinodalDecomposition?"]),
        (["--process.init_args.kapa=3"], ["SpinodalDecomposition", "'kapa'", "did you mean kappa?"]),
        (["--process.init_args.grid.shap=[3,3]"], ["SpinodalDecomposition", "--grid.shap", "did you mean grid.shape?"]),
        (["--process.init_args.kappa=-1"], ["kappa", "-1"]),
        (["--frames=x"], ['"frames": Expected a whole number', "x"]),
        (["--frames=0"], ["frames is 0"]),
        (["--splits={trian: 3}"], ["train, val, test", "trian"]),
        (["--sample={composition: {low: 0, hihg: 1}}"], ["Range", "'hihg'", "did you mean high?"]),
        (["--sample={composition: {low: 1, high: 0}}"], ["low <= high", "low is 1.0"]),
        (["--sample={compsition: {low: 0, high: 1}}"], ["can vary composition", "not compsition"]),
        (["--device=gpuu"], ["gpuu is not a device"]),
        pytest.param(
            ["--device=cuda"],
            ["no GPU for the device cuda; use cpu"],
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_sentence(cli, args, words):
    cli("simulate", "--config", "recipe.yaml", *args).refusal(*words)
    assert not Path("made.zarr").exists()


def test_commands_without_their_inputs_say_what_is_needed(cli):
    cli("simulate").refusal("required", "process", "output", "splits", code=2)
    cli("import").refusal("required", "input", "output", code=2)
    cli("benchmark").refusal("a benchmark needs at least one protocol; give --config or --protocols", code=1)
    cli("import", "--input=nope.npy", "--output=x.zarr").refusal("nothing to import at nope.npy", code=1)
    cli("fti").refusal("no command fti; did you mean fit?", code=2)
    cli("frobnicate").refusal("no command frobnicate; the commands are simulate, import, compare, fit", code=2)
