import json
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from command_line import contents
from lightning import Callback

from microevo.data import TrajectoryStore


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_next_command_can_be_pasted(cli):
    Path("my run.yaml").write_text(Path("tiny.yaml").read_text())
    outcome = cli("fit", "--config", "my run.yaml", "--trainer.max_epochs=1")
    command = re.search(r"^next: python -m microevo (.*)$", outcome.out, re.MULTILINE)
    assert cli(*shlex.split(command[1])).code == 0
    assert Path("runs/my run/test.csv").is_file()


class Spawned(Callback):
    """Leaves to the callbacks of this process what Lightning brings back from processes that it has spawned."""

    def teardown(self, trainer, pl_module, stage):
        trainer.checkpoint_callback.best_model_score = None


@pytest.mark.slow
def test_the_best_checkpoint_is_known_where_processes_were_spawned(cli):
    spawned = f"--trainer.callbacks+={__name__}.Spawned"
    outcome = cli("fit", "--config", "tiny.yaml", spawned)
    assert "best checkpoint: runs/tiny/checkpoints/best.ckpt" in outcome.out
    assert "--ckpt_path runs/tiny/checkpoints/best.ckpt" in outcome.out


@pytest.mark.slow
def test_every_command_of_a_training_writes_its_results(cli, trained):
    args = ["--config", "tiny.yaml", "--run_dir=out", "--ckpt_path", trained / "checkpoints" / "best.ckpt"]
    assert "val/mse" in cli("validate", *args).out
    assert "test/mse/1" in cli("test", *args).out
    assert cli("predict", *args, "--data.init_args.predict_count=1").code == 0
    assert {"test.csv", "test.png", "forecasts.zarr"} <= {path.name for path in Path("out").iterdir()}
