import errno
import json
import os
import re
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import contents

from microevo.cli import commands, main
from microevo.data import TrajectoryStore
from microevo.models import FCN

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
        (["--data.init_args.num_workers=-1"], ["num_workers must not be negative"]),
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


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["sweep", "--config=binary"], ["binary is not a text file"]),
        (["sweep", "--config=recipe.yaml"], ["recipe.yaml is not a W&B sweep file", "`metric`"]),
        (["export", "--ckpt_path=spinodal", "--output=m", "--notes=binary"], ["binary is not a text file"]),
        (
            ["export", "--ckpt_path=spinodal", "--output=m.onnx"],
            ["the format safetensors writes a folder", "--format onnx"],
        ),
        (
            ["export", "--ckpt_path=spinodal", "--output=m.pt2", "--format=torch-export", "--notes=x"],
            ["leave them out"],
        ),
        (["fit", "--config=tiny.yaml", "--ckpt_path=spinodal"], ["spinodal is a model folder", "init_from"]),
        (["predict", "--ckpt_path=spinodal", "--input=x.npy", "--pictures=-1"], ["pictures must not be negative"]),
        (["convert", "--input=tiny.yaml", "--output=o.nc"], ["tiny.yaml is not a trajectory store"]),
        (
            ["import-checkpoint", "binary", "--model=FCN", "--output=c.ckpt"],
            ["binary holds Python objects", "or is not a checkpoint"],
        ),
    ],
)
def test_what_the_later_commands_refuse_leaves_nothing_behind(cli, args, words):
    Path("binary").write_bytes(b"\xff\xfe\x00")
    before = contents(Path())
    cli(*args).refusal(*words, code=1)
    assert contents(Path()) == before


def test_persistence_is_not_trained(cli):
    cli("fit", "--config", "tiny.yaml", "--model=Persistence").refusal("nothing to train", "run test instead of fit")


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_file_that_is_no_checkpoint_of_ours_is_refused(cli, trained):
    best = trained / "checkpoints" / "best.ckpt"
    Path("text.ckpt").write_text("not a checkpoint")
    Path("cut.ckpt").write_bytes(best.read_bytes()[:-2000])
    torch.save({"net.weight": torch.zeros(3)}, "weights.ckpt")
    torch.save(torch.load(best, weights_only=True) | {"hyper_parameters": {"path": Path("x")}}, "pickled.ckpt")
    for name, words in {
        "nope.ckpt": ["no checkpoint at nope.ckpt"],
        "text.ckpt": ["text.ckpt is not a checkpoint"],
        "cut.ckpt": ["cut.ckpt is not a checkpoint, or only the first part of one"],
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


@pytest.mark.slow
def test_the_checkpoint_of_another_model_is_refused(cli, trained):
    best = trained / "checkpoints" / "best.ckpt"
    args = ["--config", "tiny.yaml", "--run_dir=here", "--ckpt_path", best]
    cli("test", *args, "--model=ConvLSTM").refusal("holds FCN, but the model is ConvLSTM")
    cli("test", *args, "--model.init_args.hid_t=8").refusal("hid_t = 4 (now 8)")
    cli("fit", *args, "--model.init_args.lr=0.5").refusal("lr = 0.001", "0.5", "init_from")
    args = ["--config", "tiny.yaml", "--run_dir=here2", "--model.init_args.init_from", best]
    cli("fit", *args, "--model=ConvLSTM").refusal("holds FCN, but the model is ConvLSTM")


@pytest.mark.slow
def test_untrained_weights_are_not_evaluated(cli):
    for command in ("validate", "test", "predict"):
        cli(command, "--config", "tiny.yaml").refusal("needs the weights of a trained FCN", "--ckpt_path")
    cli("test", "--config", "tiny.yaml", "--ckpt_path=best").refusal("no checkpoint at runs/tiny/checkpoints/best.ckpt")


# Memory


def cuda_is_out_of_memory():
    page = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which ... "
    return torch.OutOfMemoryError(10 * page)


@pytest.mark.parametrize(
    ("error", "whose"),
    [
        (cuda_is_out_of_memory(), "the GPU has"),
        pytest.param(
            RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
            "the GPU has",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            "the computer has",
            marks=pytest.mark.slow,
        ),
        pytest.param(RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), "the GPU has", marks=pytest.mark.slow),
        (MemoryError(), "the computer has"),
    ],
)
def test_too_little_memory_is_one_sentence(cli, monkeypatch, error, whose):
    def step(*_):
        raise error

    monkeypatch.setattr(FCN, "training_step", step)
    refused = cli("fit", "--config", "tiny.yaml")
    refused.refusal(
        whose, "too little memory", "data.init_args.batch_size", "--trainer.precision", "checkpointing", code=1
    )


def test_too_little_memory_of_other_commands_names_their_options(cli, monkeypatch, trained):
    def forecast(*_, **__):
        raise cuda_is_out_of_memory()

    monkeypatch.setattr(FCN, "forward", forecast)
    checkpoint = ["--ckpt_path", trained / "checkpoints" / "best.ckpt", "--run_dir=out"]
    tested = cli("test", "--config", "tiny.yaml", *checkpoint)
    tested.refusal("too little memory", "lower data.init_args.eval_batch_size", code=1)


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_full_disk_stops_a_simulation_that_can_be_finished_later(cli, full_disk):
    args = ["--process.init_args.grid.shape=[16,16]"]  # a trajectory takes 3 kB
    cli("simulate", "--config", "recipe.yaml", *args).refusal("no room on the disk", code=1)
    full_disk()
    assert cli("simulate", "--config", "recipe.yaml", *args).code == 0
    cli("simulate", "--config", "recipe.yaml", *args, "--output=whole.zarr")
    assert TrajectoryStore.open("made.zarr").fingerprint == TrajectoryStore.open("whole.zarr").fingerprint


@pytest.mark.slow
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
