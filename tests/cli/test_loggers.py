from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace

from microevo.cli import loggers
from microevo.cli.loggers import settle_loggers

WANDB = ["--trainer.logger=WandbLogger", "--trainer.logger.project=microevo", "--trainer.logger.name=null"]
KEY = 40 * "0"
CLOSED = "http://127.0.0.1:9"


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """wandb as on a new machine, where its settings and keys are read from `tmp_path`, with a server that is closed."""
    wandb = pytest.importorskip("wandb")
    wandb.teardown()  # it keeps the settings that it has read
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-settings"))
    monkeypatch.setenv("WANDB_BASE_URL", CLOSED)
    monkeypatch.chdir(tmp_path)
    yield wandb
    wandb.finish()
    wandb.teardown()


def settled(**settings):
    asked = Namespace(class_path="lightning.pytorch.loggers.WandbLogger", init_args=Namespace(save_dir=".", **settings))
    return settle_loggers(asked, Path("run"))


def no_question(url):
    pytest.fail("the server was asked")


def write_netrc(machine: str, key: str = KEY) -> None:
    Path("netrc").write_text(f"machine {machine}\n  login user\n  password {key}\n")
    Path("netrc").chmod(0o600)


@pytest.mark.slow
def test_wandb_offline_writes_into_the_run_and_never_asks(cli, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = cli("fit", "--config", "tiny.yaml", *WANDB)
    assert done.code == 0, done.err
    assert len(list(Path("runs/tiny/wandb").glob("offline-run-*"))) == 1
    assert Path("runs/tiny/config-fit.yaml").is_file()
    assert {"best.ckpt", "last.ckpt"} <= {path.name for path in Path("runs/tiny/checkpoints").iterdir()}


def test_without_a_login_the_run_logs_to_csv_and_says_so(cli, wandb):
    outcome = cli("fit", "--config", "tiny.yaml", *WANDB)
    assert outcome.code == 0
    assert outcome.out.count("no W&B login on this machine: logging to CSV files in runs/tiny/csv") == 1
    assert "val/mse" in Path("runs/tiny/csv/version_0/metrics.csv").read_text()
    saved = yaml.safe_load(Path("runs/tiny/config-fit.yaml").read_text())
    assert saved["trainer"]["logger"]["class_path"].endswith("WandbLogger")  # what was asked for


@pytest.mark.slow
def test_without_a_network_the_run_is_kept_offline(cli, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    done = cli("fit", "--config", "tiny.yaml", *WANDB, "--trainer.logger.log_model=all")
    assert done.code == 0, done.err
    assert done.out.count(f"{CLOSED} does not answer: W&B keeps the run in runs/tiny/wandb") == 1
    assert len(list(Path("runs/tiny/wandb").glob("offline-run-*"))) == 1


@pytest.mark.parametrize(
    ("server", "machine"),
    [
        (None, "api.wandb.ai"),  # of earlier versions
        (None, "api.forge.coreweave.com"),
        ("https://wandb.example.org:8443", "wandb.example.org:8443"),
    ],
)
def test_a_login_is_found_where_wandb_keeps_it(wandb, monkeypatch, server, machine):
    monkeypatch.delenv("WANDB_BASE_URL")
    asked = []
    monkeypatch.setattr(loggers, "_answers", lambda url: asked.append(url) or True)
    if server is not None:
        Path("wandb-settings").mkdir()
        Path("wandb-settings/settings").write_text(f"[default]\nbase_url = {server}\n")
    assert settled().class_path.endswith("CSVLogger")
    write_netrc(machine)
    logger = settled()
    assert logger.class_path.endswith("WandbLogger")
    assert logger.init_args.save_dir == "run"
    assert asked == [server or "https://api.forge.coreweave.com"]
    assert not logger.init_args.get("offline")


def test_the_key_of_another_server_is_not_a_login(wandb):
    write_netrc("api.wandb.ai")
    assert settled().class_path.endswith("CSVLogger")


def test_wandb_switched_off_in_its_settings_file_is_left_alone(wandb, monkeypatch):
    Path("wandb-settings").mkdir()
    Path("wandb-settings/settings").write_text("[default]\nmode = offline\n")
    monkeypatch.setattr(loggers, "_answers", no_question)
    assert settled().class_path.endswith("WandbLogger")


def test_a_key_that_cannot_be_one_is_refused(cli, wandb):
    write_netrc("127.0.0.1:9", key="short")
    refused = cli("fit", "--config", "tiny.yaml", *WANDB)
    refused.refusal("W&B login cannot be used", "40+ characters", "wandb login --relogin", code=1)
    assert not list(Path("runs").glob("*"))


def test_an_error_of_wandb_is_one_sentence(cli, wandb, monkeypatch):
    import wandb.errors

    def refuse(self, *_, **__):
        raise wandb.errors.CommError("Run initialization has timed out after 90.0 sec.")

    monkeypatch.setattr("lightning.pytorch.loggers.WandbLogger.experiment", property(refuse))
    monkeypatch.setenv("WANDB_MODE", "offline")
    cli("fit", "--config", "tiny.yaml", *WANDB).refusal("Run initialization has timed out", code=1)


@pytest.mark.slow
def test_a_benchmark_without_a_login_logs_to_csv(cli, wandb, small_store):
    protocols = f"--protocols={{p: {{store: {small_store}, n_past: 4, horizon: 5}}}}"
    args = [protocols, "--reference_solver=false", "--repeats=0", "--leads=[1]", "--output=results"]
    done = cli("benchmark", *args, "--logger=WandbLogger")
    assert done.code == 0, done.err
    assert done.out.count("no W&B login on this machine: logging to CSV files in results/csv") == 1
    assert "benchmark/p/Persistence/" in Path("results/csv/version_0/metrics.csv").read_text()
