import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from lightning import Callback
from lightning.pytorch.cli import LightningCLI

from microevo import benchmark, callbacks, likeness, models, processes
from microevo.cli import commands, main
from microevo.cli.overview import COMMANDS
from microevo.cli.parser import Parser
from microevo.cli.training import TrainingCLI
from microevo.data import Range, TrajectoryDataModule, TrajectoryStore, generate, import_frames

TINY = """
data:
  class_path: TrajectoryDataModule
  init_args: {store: STORE, fields: [c], n_past: 4, n_future: 3, horizon: 5, batch_size: 2}
model:
  class_path: FCN
  init_args: {hid_s: 2, hid_t: 4, n_s: 2, n_t: 2}
trainer:
  accelerator: cpu
  logger: false
  enable_progress_bar: false
  max_epochs: 2
  limit_train_batches: 1
  callbacks:
    - class_path: ModelCheckpoint
      init_args: {monitor: val/mse, mode: min, filename: best, auto_insert_metric_name: false}
"""
RECIPE = """
output: made.zarr
process:
  class_path: SpinodalDecomposition
  init_args: {grid: {shape: [8, 8]}, first_frame: 5.0}
splits: {train: 2, val: 1, test: 1}
frames: 3
"""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    def refusal(self, *words: str, code: int | None = None) -> str:
        """The one sentence of a command that failed, which names all `words`."""
        assert self.code == code if code else self.code != 0, self
        assert "Traceback" not in self.out + self.err
        lines = [line for line in re.split(r"[\r\n]+", self.err) if line.strip()]
        lines = [line for line in lines if "%|" not in line and not line.startswith("microevo: warning: ")]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("microevo: error: ")
        assert len(lines[0]) < 400
        for word in words:
            assert word in lines[0], (word, lines[0])
        return lines[0]


def call(capsys, *args) -> Outcome:
    capsys.readouterr()
    code = 0
    try:
        main([str(word) for word in args])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return Outcome(code, *capsys.readouterr())


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path, small_store):
    """Runs a command in this process, in a folder that holds tiny.yaml and recipe.yaml."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY.replace("STORE", str(small_store)))
    Path("recipe.yaml").write_text(RECIPE)
    return lambda *args: call(capsys, *args)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small_store):
    """The folder of a run of tiny.yaml."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY.replace("STORE", str(small_store)))
    main(["fit", "--config", str(folder / "tiny.yaml"), "--run_dir", str(folder / "run")])
    return folder / "run"


@pytest.fixture(autouse=True)
def _nothing_is_lost(tmp_path_factory, request, small_store):
    """Whatever a test does, the shared store and checkpoints stay as they were."""
    kept = [small_store] + ([request.getfixturevalue("trained")] if "trained" in request.fixturenames else [])
    before = [contents(folder) for folder in kept]
    yield
    assert [contents(folder) for folder in kept] == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


# Misspelt options, wrong classes, wrong values


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--trainer.max_epoch=3"], ["no option --trainer.max_epoch;", "--trainer.max_epochs?"]),
        (["--trainer.max_epoch", "3"], ["no option --trainer.max_epoch;", "--trainer.max_epochs?"]),
        (["--rundir=x"], ["no option --rundir;", "--run_dir?"]),
        (["--frobnicate"], ["no option --frobnicate"]),
        (["extra"], ["extra", "options begin with --"]),
        (["--model.init_args.hid_sx=3"], ["FCN has no option hid_sx; did you mean hid_s?"]),
        (["--model.hid_sx=3"], ["FCN has no option hid_sx; did you mean hid_s?"]),
        (["--model.init_args.schedul=constant"], ["FCN has no option schedul; did you mean schedule?"]),
        (["--data.init_args.batch_siz=3"], ["TrajectoryDataModule has no option batch_siz; did you mean batch_size?"]),
        (["--model", "microevo.models.FCNN"], ["no class microevo.models.FCNN", "model", "did you mean FCN?"]),
        (["--model", "Nope"], ["no class Nope", "ConvLSTM, FCN, Persistence or PredRNN"]),
        (["--model", "no.such.Thing"], ["no class no.such.Thing", "ConvLSTM, FCN, Persistence or PredRNN"]),
        (["--model", "torch.nn.Linear"], ["torch.nn.Linear is no Forecaster", "FCN"]),
        (["--model", "Forecaster"], ["Forecaster is only what others build on", "FCN"]),
        (["--model", "models/nope.yaml"], ["no config file models/nope.yaml", "model"]),
        (["--model.help", "Nope"], ["no class Nope", "FCN"]),
        (["--data", "Trajectories"], ["no class Trajectories", "TrajectoryDataModule"]),
        (["--trainer.logger=Wandb"], ["no class Wandb", "trainer.logger", "WandbLogger"]),
        (["--trainer.callbacks+=LeadTabel"], ["no class LeadTabel", "trainer.callbacks", "LeadTable"]),
        (["--trainer.callbacks+=LeadTable", "--trainer.callbacks.init_args.writ=1"], ["LeadTable has no option writ"]),
        (["--data.init_args.batch_size=abc"], ["data.init_args.batch_size must be a whole number, but it is abc"]),
        (["--data.init_args.eval_stride=abc"], ["data.init_args.eval_stride must be a whole number or null", "abc"]),
        (["--model.init_args.lr=fast"], ["model.init_args.lr must be a number, but it is fast"]),
        (["--model.init_args.schedule=cosine"], ["schedule must be onecycle or constant, but it is cosine"]),
        (["--data.init_args.symmetries=[turn]"], ["symmetries must be shift, flip or rotate, but it is turn"]),
        (["--trainer.max_steps=abc"], ["trainer.max_steps must be a whole number, but it is abc"]),
        (["--trainer.precision=12"], ["trainer.precision must be", "bf16-mixed", "but it is 12"]),
        (["--seed_everything=a"], ["seed_everything must be true or false or a whole number, but it is a"]),
        (["--config"], ["--config must be followed by a value"]),
        (["--config", "tiny2.yaml"], ["no config file tiny2.yaml; did you mean tiny.yaml?"]),
        (["--config", "elsewhere/x.yaml"], ["no config file elsewhere/x.yaml"]),
        (["--model.init_args.n_past=3"], ["model.init_args.n_past", "command line", "set data.init_args.n_past"]),
        (["--model.n_past", "3"], ["model.n_past", "command line", "set data.init_args.n_past"]),
        (["--model.init_args.channels=2"], ["model.init_args.channels", "set data.init_args.fields"]),
        (["--model={class_path: FCN, init_args: {horizon: 7}}"], ["model.init_args.horizon", "data.init_args.horizon"]),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_sentence(cli, args, words):
    cli("fit", "--config", "tiny.yaml", *args).refusal(*words, code=2)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: {class_path: FCN, init_args: {hid_sx: 3}}", ["FCN has no option hid_sx; did you mean hid_s?"]),
        ("model: [", ["bad.yaml is no valid YAML", "line 2, column 1"]),
        ("a: b: c", ["bad.yaml is no valid YAML", "line 1, column 5"]),
        ("just words", ["bad.yaml holds no settings"]),
        ("modle: FCN", ["no option modle; did you mean model?"]),
        ("trainer: {max_epoch: 3}", ["no option trainer.max_epoch; did you mean trainer.max_epochs?"]),
        ("trainer: {max_steps: many}", ["trainer.max_steps must be a whole number, but it is many"]),
        ("model: models/nope.yaml", ["no config file models/nope.yaml", "model", "bad.yaml"]),
        (
            "data: {class_path: TrajectoryDataModule, init_args: {horizn: 3}}",
            ["no option horizn; did you mean horizon?"],
        ),
        ("trainer: {callbacks+: [{class_path: microevo.callbacks.LeadTabel}]}", ["LeadTabel", "LeadTable?"]),
        (
            "model: {class_path: FCN, init_args: {n_past: 3}}",
            ["model.init_args.n_past", "bad.yaml", "data.init_args.n_past"],
        ),
        ("model: part.yaml", ["model.init_args.channels", "part.yaml", "data.init_args.fields"]),
    ],
)
def test_a_wrong_config_file_is_refused_in_one_sentence(cli, text, words):
    Path("bad.yaml").write_text(text + "\n")
    Path("part.yaml").write_text("class_path: FCN\ninit_args: {channels: 2}\n")
    cli("fit", "--config", "tiny.yaml", "--config", "bad.yaml").refusal(*words, code=2)


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_command_without_model_or_data_says_what_it_needs(cli, command):
    cli(command).refusal("--data and --model must be given", code=2)
    cli(command, "--model", "FCN").refusal("--data must be given", code=2)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--frame=3"], ["no option --frame; did you mean --frames?"]),  # no abbreviations
        (["--process", "Spinodal"], ["no class Spinodal", "SpinodalDecomposition?"]),
        (["--process.init_args.kapa=3"], ["SpinodalDecomposition has no option kapa; did you mean kappa?"]),
        (["--process.init_args.grid.shap=[3,3]"], ["no option grid.shap; did you mean grid.shape?"]),
        (["--process.init_args.kappa=-1"], ["kappa", "-1"]),
        (["--frames=x"], ["frames must be a whole number, but it is x"]),
        (["--frames=0"], ["frames is 0"]),
        (["--splits={trian: 3}"], ["train, val, test", "trian"]),
        (["--draw={composition: {low: 0, hihg: 1}}"], ["Range has no option hihg; did you mean high?"]),
        (["--draw={composition: {low: 1, high: 0}}"], ["low <= high", "low is 1.0"]),
        (["--draw={compsition: {low: 0, high: 1}}"], ["can draw composition", "not compsition"]),
        (["--device=gpuu"], ["gpuu is no device"]),
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
    cli("simulate").refusal("--process, --output and --splits must be given", code=2)
    cli("import").refusal("--input and --output must be given", code=2)
    cli("benchmark").refusal("a benchmark needs at least one protocol; give --config or --protocols", code=1)
    cli("import", "--input=nope.npy", "--output=x.zarr").refusal("nothing to import at nope.npy", code=1)
    cli("fti").refusal("no command fti; did you mean fit?", code=2)
    cli("frobnicate").refusal("no command frobnicate; the commands are simulate, import, compare, fit", code=2)


# Stores and settings that do not fit


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--data.init_args.store=nope.zarr"], ["no trajectory store at nope.zarr", "microevo simulate"]),
        (["--data.init_args.store=."], [". is not a trajectory store"]),
        (["--data.init_args.store=tiny.yaml"], ["tiny.yaml is not a trajectory store"]),
        (["--data.init_args.horizon=50"], ["4 + 50 = 54 frames", "has 24", "lower n_future or horizon"]),
        (["--data.init_args.n_future=50"], ["4 + 50 = 54 frames", "has 24", "lower n_future or horizon"]),
        (["--data.init_args.fields=[d]"], ["has the fields c, not d"]),
        (["--data.init_args.batch_size=0"], ["batch_size must be at least 1"]),
        (["--model.init_args.n_s=12"], ["divisible by 64", "16 x 16", "lower n_s"]),
        (["--model.init_args.n_s=3"], ["n_s must be 2, 4, 6"]),
        (["--model=ConvLSTM", "--model.init_args.patch_size=5"], ["divisible by patch_size = 5", "16 x 16"]),
        (["--model.init_args.lr=-1"], ["lr must be positive"]),
        (["--weights_only=false"], ["--weights_only false", "run code"]),
        (["--trainer.accelerator=gpuu"], ["gpuu", "cuda"]),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(cli, args, words):
    cli("fit", "--config", "tiny.yaml", *args).refusal(*words, code=1)
    assert not list(Path("runs").glob("*"))


def test_persistence_is_not_trained(cli):
    cli("fit", "--config", "tiny.yaml", "--model=Persistence").refusal("nothing to train", "test in place of fit")


def test_an_unfinished_store_is_refused_with_the_command_that_finishes_it(cli, make_store, tmp_path):
    cli("simulate", "--config", "recipe.yaml")
    shutil.rmtree("made.zarr/c/c/3")
    attributes = json.loads(Path("made.zarr/zarr.json").read_text())
    attributes["attributes"]["complete"] = False
    Path("made.zarr/zarr.json").write_text(json.dumps(attributes))
    refused = cli("fit", "--config", "tiny.yaml", "--data.init_args.store=made.zarr").refusal(
        "made.zarr is unfinished (3 of 4 trajectories)", code=1
    )
    command = refused.split("running again: python -m microevo ")[1].split()
    assert cli(*command).code == 0
    assert len(TrajectoryStore.open("made.zarr")) == 4


def test_a_store_with_an_empty_split_is_refused(cli, make_store):
    store = make_store(splits=("train", "train", "test"), frames=12, shape=(8, 8))
    cli("fit", "--config", "tiny.yaml", f"--data.init_args.store={store.path}").refusal(
        "no trajectory in the split val"
    )


def test_existing_results_are_not_replaced_without_being_asked(cli, trained, small_store):
    assert cli("simulate", "--config", "recipe.yaml").code == 0
    before = contents(Path("made.zarr"))
    cli("simulate", "--config", "recipe.yaml", "--seed=5").refusal(
        "made.zarr", "seed is 0 there and 5 here", "--overwrite"
    )
    cli("fit", "--config", "tiny.yaml", "--run_dir", trained).refusal("holds the checkpoints of a run", "--run_dir")
    np.save("frames.npy", np.random.default_rng(0).random((4, 3, 8, 8)))
    cli("import", "--input=frames.npy", "--output=made.zarr").refusal("made.zarr exists already", "--overwrite")
    assert contents(Path("made.zarr")) == before
    assert cli("simulate", "--config", "recipe.yaml", "--seed=5", "--overwrite").code == 0
    assert contents(Path("made.zarr")) != before


# Checkpoints


def test_a_file_that_is_no_checkpoint_of_ours_is_refused(cli, trained):
    best = trained / "checkpoints" / "best.ckpt"
    Path("text.ckpt").write_text("not a checkpoint")
    Path("cut.ckpt").write_bytes(best.read_bytes()[:-2000])
    torch.save({"net.weight": torch.zeros(3)}, "weights.ckpt")
    torch.save(torch.load(best, weights_only=True) | {"hyper_parameters": {"path": Path("x")}}, "pickled.ckpt")
    for name, words in {
        "nope.ckpt": ["no checkpoint at nope.ckpt"],
        "text.ckpt": ["text.ckpt is no checkpoint"],
        "cut.ckpt": ["cut.ckpt is no checkpoint, or only the first part of one"],
        "weights.ckpt": ["weights.ckpt holds no microevo model"],
        "pickled.ckpt": ["pickled.ckpt holds Python objects", "run code"],
        "https://example.org/a.ckpt": ["read from disk", "https://example.org/a.ckpt"],
    }.items():
        cli("test", "--config", "tiny.yaml", "--ckpt_path", name).refusal(*words, code=1)
        if name in ("nope.ckpt", "pickled.ckpt"):
            cli("fit", "--config", "tiny.yaml", "--model.init_args.init_from", name).refusal(*words, code=1)
            args = ["--protocols={p: {store: x.zarr}}", f"--checkpoints={{A: {name}}}", "--output=results"]
            cli("benchmark", *args).refusal(*words, code=1)
    assert not Path("results").exists()


def test_a_checkpoint_that_would_run_code_runs_none(cli):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, ("ran",)

    torch.save({"state_dict": {}, "hyper_parameters": {}, "bomb": Bomb()}, "bomb.ckpt")
    cli("test", "--config", "tiny.yaml", "--ckpt_path=bomb.ckpt").refusal("bomb.ckpt holds Python objects")
    assert not Path("ran").exists()


def test_the_checkpoint_of_another_model_is_refused(cli, trained):
    best = trained / "checkpoints" / "best.ckpt"
    args = ["--config", "tiny.yaml", "--run_dir=here", "--ckpt_path", best]
    cli("test", *args, "--model=ConvLSTM").refusal("holds FCN, but the model is ConvLSTM")
    cli("test", *args, "--model.init_args.hid_t=8").refusal("hid_t = 4 (now 8)")
    cli("fit", *args, "--model.init_args.lr=0.5").refusal("lr = 0.001", "0.5", "init_from")
    args = ["--config", "tiny.yaml", "--run_dir=here2", "--model.init_args.init_from", best]
    cli("fit", *args, "--model=ConvLSTM").refusal("holds FCN, but the model is ConvLSTM")


def test_untrained_weights_are_not_evaluated(cli):
    for command in ("validate", "test", "predict"):
        cli(command, "--config", "tiny.yaml").refusal("needs the weights of a trained FCN", "--ckpt_path")
    cli("test", "--config", "tiny.yaml", "--ckpt_path=best").refusal("no checkpoint at runs/tiny/checkpoints/best.ckpt")


# Numbers that are not finite


def test_nan_in_the_data_stops_the_training_with_step_and_trajectory(cli, small_store):
    shutil.copytree(small_store, "nan.zarr")
    chunk = Path("nan.zarr/c/c/1/0/0/0")
    frames = np.fromfile(chunk, "<f4")
    frames[5 * 256] = np.nan
    frames.tofile(chunk)
    args = ["--data.init_args.store=nan.zarr", "--data.init_args.batch_size=1", "--trainer.limit_train_batches=null"]
    refused = cli("fit", "--config", "tiny.yaml", *args).refusal(
        "not finite", "trajectories [1]", "NaN in the data", code=1
    )
    assert re.search(r"step \d+", refused)
    assert not list(Path("runs/tiny").rglob("*.ckpt"))  # nothing was trained on NaN and then saved


def test_a_loss_that_explodes_stops_the_training_and_keeps_the_best_checkpoint(cli):
    assert cli("fit", "--config", "tiny.yaml", "--run_dir=run").code == 0
    before = contents(Path("run/checkpoints"))
    args = ["--run_dir=run2", "--model.init_args.init_from=run/checkpoints/last.ckpt"]
    args += ["--model.init_args.lr=1e12", "--model.init_args.schedule=constant", "--trainer.limit_train_batches=null"]
    refused = cli("fit", "--config", "tiny.yaml", *args).refusal("not finite", "lower lr", code=1)
    assert re.search(r"step \d+, in the batch of trajectories \[", refused)
    assert contents(Path("run/checkpoints")) == before


def test_nan_in_imported_frames_is_refused(cli):
    frames = np.random.default_rng(0).random((4, 3, 8, 8))
    frames[2, 1, 0, 0] = np.nan
    np.save("frames.npy", frames)
    cli("import", "--input=frames.npy", "--output=made.zarr").refusal("trajectory 2", "not finite")
    assert not Path("made.zarr").exists()


# Disks


@pytest.fixture
def full_disk():
    """Files may not grow beyond 2 kB; a full disk fails in the same way, with another number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))

    def make_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    yield make_room
    make_room()


def test_a_full_disk_stops_a_simulation_that_can_be_finished_later(cli, full_disk):
    args = ["--process.init_args.grid.shape=[16,16]"]  # a trajectory takes 3 kB
    cli("simulate", "--config", "recipe.yaml", *args).refusal("no room on the disk", code=1)
    full_disk()
    assert cli("simulate", "--config", "recipe.yaml", *args).code == 0
    cli("simulate", "--config", "recipe.yaml", *args, "--output=whole.zarr")
    assert TrajectoryStore.open("made.zarr").fingerprint == TrajectoryStore.open("whole.zarr").fingerprint


def test_a_full_disk_stops_a_training_and_leaves_its_checkpoints(cli, monkeypatch):
    assert cli("fit", "--config", "tiny.yaml", "--run_dir=run").code == 0
    before = contents(Path("run/checkpoints"))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))
    try:
        refused = cli("fit", "--config", "tiny.yaml", "--run_dir=run", "--ckpt_path=last", "--trainer.max_epochs=4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    refused.refusal("no room on the disk", code=1)
    after = contents(Path("run/checkpoints"))
    assert before.items() <= after.items()
    args = ["--run_dir=run", "--ckpt_path=last", "--trainer.max_epochs=4"]
    assert cli("fit", "--config", "tiny.yaml", *args).code == 0


def test_a_disk_with_too_little_room_is_noticed_at_once(cli):
    cli("simulate", "--config", "recipe.yaml", "--frames=1000000000000").refusal(
        "GB left", "fewer trajectories", code=1
    )
    assert not Path("made.zarr").exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_missing_permission_is_one_sentence(cli, monkeypatch, number):
    def mkdir(path, *_, **__):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    cli("fit", "--config", "tiny.yaml").refusal("no permission", "runs", code=1)
    cli("simulate", "--config", "recipe.yaml", "--output=there/made.zarr").refusal("no permission", "there", code=1)


def test_a_path_below_a_file_is_one_sentence(cli):
    Path("file").write_text("keep me")
    below = "a part of that path is a file"
    cli("simulate", "--config", "recipe.yaml", "--output=file/made.zarr").refusal("file", below, code=1)
    cli("fit", "--config", "tiny.yaml", "--run_dir=file/run").refusal("file/run", below, code=1)
    cli("fit", "--config", "tiny.yaml", "--run_dir=/proc/run").refusal("/proc/run", code=1)
    assert Path("file").read_text() == "keep me"


# Tracebacks are for those who ask


@pytest.mark.parametrize("how", ["--debug", "MICROEVO_DEBUG"])
def test_a_traceback_on_request(cli, monkeypatch, how):
    if how != "--debug":
        monkeypatch.setenv(how, "1")
    for args in (["--data.init_args.store=nope.zarr"], ["--model.init_args.hid_sx=3"]):
        outcome = cli("fit", "--config", "tiny.yaml", *args, *(["--debug"] if how == "--debug" else []))
        assert outcome.code
        assert "Traceback" in outcome.err
        assert outcome.err.splitlines()[-1].startswith("microevo: error: ")


def test_a_mistake_of_ours_keeps_its_traceback(cli, monkeypatch):
    monkeypatch.setattr(commands, "_announce", lambda store: {}["surprise"])
    with pytest.raises(KeyError, match="surprise"):
        main(["simulate", "--config", "recipe.yaml"])


# Help


def test_the_overview_lists_every_command_at_once():
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        words = [sys.executable, "-X", "importtime", "-m", "microevo", "--help"]
        shown = subprocess.run(words, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
    imported = {line.rsplit("|", 1)[-1].strip() for line in shown.stderr.splitlines()}
    assert not imported & {"torch", "lightning", "numpy", "jsonargparse", "zarr", "wandb"}
    assert min(seconds) < 1
    for name, line in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", shown.stdout, re.MULTILINE)


def training_parser(name: str) -> Parser:
    class Captured(TrainingCLI):
        def parse_arguments(self, parser, args):
            raise StopIteration(self._subcommand_parsers[name])

    with pytest.raises(StopIteration) as stop:
        Captured([name])
    return stop.value.value


SETTABLE = (models.Forecaster, processes.Process, processes.Grid, Range, TrajectoryDataModule, Callback)
CLASSES = [
    cls
    for module in (models, processes, callbacks)
    for cls in (getattr(module, name) for name in module.__all__)
    if isinstance(cls, type) and issubclass(cls, SETTABLE) and cls is not callbacks.SaveRun
]


@pytest.mark.parametrize("cls", [*CLASSES, Range, TrajectoryDataModule], ids=lambda cls: cls.__name__)
def test_every_setting_of_our_classes_is_explained(cls):
    parser = Parser()
    parser.add_class_arguments(cls)
    assert_explained(parser)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_our_commands_is_explained(name):
    functions = {
        "simulate": generate,
        "import": import_frames,
        "compare": likeness.compare,
        "benchmark": benchmark.run,
    }
    parser = commands.parser(name, functions[name]) if name in functions else training_parser(name)
    assert_explained(parser, ours=lambda option: not option.startswith("trainer"))


def assert_explained(parser, ours=lambda option: True):
    options = [action for action in parser._actions if action.option_strings and ours(action.dest)]
    for action in options:
        assert action.help, f"{action.dest} has no help"
        assert len(action.help) > 8
    text = " ".join(parser.format_help().split())
    for action in options:
        option = action.option_strings[-1]
        if option.endswith(("help", "config")) or "-->" in option or "configuration file" in action.help:
            continue
        shown = text.split(f" {option} ", 1)[1].split(" --", 1)[0]
        assert "default: " in shown.lower() or "required" in shown, f"{action.dest} does not show its default"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_short_to_begin_with(cli, name):
    outcome = cli(name, "--help")
    assert outcome.code == 0
    first = outcome.out.splitlines()[0]
    assert first.startswith(f"usage: python -m microevo {name} ")
    assert COMMANDS[name].split()[0] in outcome.out


def test_the_help_of_a_model_lists_its_own_settings_and_those_of_all_forecasters(cli):
    outcome = cli("fit", "--model.help", "PredRNN")
    assert outcome.code == 0
    for option in ("hidden", "layers", "patch_size", "sampling_until", "lr", "ssim_weight", "init_from"):
        assert f"--model.{option} " in outcome.out


def test_overwrite_is_a_flag(cli):
    assert cli("simulate", "--config", "recipe.yaml").code == 0
    assert cli("simulate", "--config", "recipe.yaml", "--overwrite", "--seed=3").code == 0
    assert TrajectoryStore.open("made.zarr").attributes["recipe"]["seed"] == 3
    assert "--overwrite" not in TrajectoryStore.open("made.zarr").attributes["command"]


# What a run leaves behind


def test_runs_are_numbered_and_none_is_overwritten(cli):
    for _ in range(2):
        assert cli("fit", "--config", "tiny.yaml").code == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["tiny", "tiny-2"]
    first = contents(Path("runs/tiny"))
    assert cli("test", "--config", "tiny.yaml", "--ckpt_path=best").code == 0
    assert cli("test", "--config", "tiny.yaml", "--ckpt_path=runs/tiny/checkpoints/best.ckpt").code == 0
    assert cli("validate", "--config", "tiny.yaml", "--ckpt_path=runs/tiny-2/checkpoints/last.ckpt").code == 0
    after = contents(Path("runs/tiny"))
    assert first.items() <= after.items()
    assert {"test.csv", "test-2.csv"} <= {path.name for path in Path("runs/tiny").iterdir()}
    assert Path("runs/tiny-2/config-validate.yaml").is_file()


def test_a_run_that_failed_early_takes_no_name(cli):
    cli("fit", "--config", "tiny.yaml", "--data.init_args.horizon=50").refusal("horizon")
    assert cli("fit", "--config", "tiny.yaml").code == 0
    assert [path.name for path in Path("runs").iterdir()] == ["tiny"]


def test_a_run_says_how_it_was_made(trained, small_store):
    about = json.loads((trained / "run-fit.json").read_text())
    assert about["command"].startswith("python -m microevo")
    assert about["seed"] == 0
    assert about["data_fingerprint"] == TrajectoryStore.open(small_store).fingerprint
    assert {"microevo", "torch", "lightning", "python"} <= about["versions"].keys()
    config = yaml.safe_load((trained / "config-fit.yaml").read_text())
    assert config["model"]["init_args"]["lr"] == 0.001  # a default, written out
    assert config["data"]["init_args"]["horizon"] == 5


def test_a_saved_config_can_be_given_again(cli):
    assert cli("fit", "--config", "tiny.yaml", "--model.init_args.hid_t=6").code == 0
    saved = "runs/tiny/config-fit.yaml"
    assert cli("test", "--config", saved, "--ckpt_path=best").code == 0
    assert Path("runs/tiny/test.csv").is_file()
    assert cli("fit", "--config", saved).code == 0
    assert Path("runs/tiny-2/checkpoints/best.ckpt").is_file()
    ours, theirs = (yaml.safe_load(Path(run, "config-fit.yaml").read_text()) for run in ("runs/tiny", "runs/tiny-2"))
    assert ours == theirs
    one, two = (torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True) for run in ("runs/tiny", "runs/tiny-2"))
    assert all(torch.equal(one["state_dict"][name], two["state_dict"][name]) for name in one["state_dict"])


def test_last_goes_on_or_begins(cli):
    args = ["fit", "--config", "tiny.yaml", "--ckpt_path=last"]
    first = cli(*args)
    assert first.code == 0
    assert "starts from the beginning" in first.out
    assert cli(*args, "--trainer.max_epochs=5").code == 0
    checkpoint = torch.load("runs/tiny/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 5
    assert [path.name for path in Path("runs").iterdir()] == ["tiny"]


def test_a_training_says_what_it_does_and_how_it_goes(cli):
    outcome = cli("fit", "--config", "tiny.yaml")
    assert re.search(r"^FCN, [\d,]+ parameters; writing to runs/tiny$", outcome.out, re.MULTILINE)
    assert re.search(r"^epoch +1 +step +2 +train/loss \S+ +val/mse \S+", outcome.out, re.MULTILINE)
    assert "best checkpoint (val/mse " in outcome.out
    assert "next: python -m microevo test --config runs/tiny/config-fit.yaml" in outcome.out
    assert not outcome.err


def test_every_command_of_a_training_writes_its_results(cli, trained):
    args = ["--config", "tiny.yaml", "--run_dir=out", "--ckpt_path", trained / "checkpoints" / "best.ckpt"]
    assert "val/mse" in cli("validate", *args).out
    assert "test/mse/1" in cli("test", *args).out
    assert cli("predict", *args, "--data.init_args.predict_count=1").code == 0
    assert {"test.csv", "test.png", "forecasts.zarr"} <= {path.name for path in Path("out").iterdir()}


# Merging rules of Lightning's CLI and jsonargparse that we rely on


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


# Weights & Biases


WANDB = ["--trainer.logger=WandbLogger", "--trainer.logger.project=microevo", "--trainer.logger.name=null"]


def test_wandb_offline_writes_into_the_run_and_never_asks(cli, microevo, tmp_path):
    done = microevo("fit", "--config", "tiny.yaml", *WANDB, WANDB_MODE="offline", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(list(Path("runs/tiny/wandb").glob("offline-run-*"))) == 1
    assert Path("runs/tiny/config-fit.yaml").is_file()
    assert {"best.ckpt", "last.ckpt"} <= {path.name for path in Path("runs/tiny/checkpoints").iterdir()}
    assert "Traceback" not in done.stderr


def test_without_a_login_the_run_logs_to_csv_and_says_so(cli, monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("NETRC", str(tmp_path / "empty" / "netrc"))
    outcome = cli("fit", "--config", "tiny.yaml", *WANDB)
    assert outcome.code == 0
    assert outcome.out.count("no W&B login on this machine: logging to CSV files in runs/tiny/csv") == 1
    assert "val/mse" in Path("runs/tiny/csv/version_0/metrics.csv").read_text()
    saved = yaml.safe_load(Path("runs/tiny/config-fit.yaml").read_text())
    assert saved["trainer"]["logger"]["class_path"].endswith("WandbLogger")  # what was asked for


def test_a_login_is_found_where_wandb_keeps_it(monkeypatch, tmp_path):
    from jsonargparse import Namespace

    from microevo.cli.loggers import settle_loggers

    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine api.wandb.ai\n  login user\n  password " + 40 * "0" + "\n")
    (tmp_path / "netrc").chmod(0o600)
    asked = Namespace(class_path="lightning.pytorch.loggers.WandbLogger", init_args=Namespace(save_dir="."))
    settled = settle_loggers(asked, tmp_path / "run")
    assert settled.class_path.endswith("WandbLogger")
    assert settled.init_args.save_dir == str(tmp_path / "run")
