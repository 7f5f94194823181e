from pathlib import Path

import pytest
import yaml

WANDB = ["--trainer.logger=WandbLogger", "--trainer.logger.project=microevo", "--trainer.logger.name=null"]


@pytest.mark.slow
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
