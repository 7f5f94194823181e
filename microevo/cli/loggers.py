"""Loggers that write into the run's folder and never ask anybody anything."""

import importlib.util
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

WANDB = "lightning.pytorch.loggers.WandbLogger"
CSV = "lightning.pytorch.loggers.CSVLogger"
OFFLINE = ("offline", "disabled", "dryrun")
PATIENCE = 10.0  # seconds that W&B's server has to answer; wandb itself waits for 90 and then gives up


def settle_loggers(loggers: Any, run_dir: Path, wandb_id: str | None = None) -> Any:
    """Let loggers write into the run's folder, and replace W&B by CSV files where it would ask for a login.

    A run of W&B whose server does not answer is kept offline.

    Raises:
        ValueError: There is a W&B login that cannot be used.
    """
    if isinstance(loggers, list):
        return [settle_loggers(logger, run_dir, wandb_id) for logger in loggers]
    if loggers is True or loggers is None:
        loggers = Namespace(class_path=CSV, init_args=Namespace(name="csv"))
    if not isinstance(loggers, Namespace):
        return loggers
    if loggers.class_path == WANDB:
        loggers = _settle_wandb(loggers, run_dir)
    if loggers.class_path == WANDB and wandb_id and not any(loggers.init_args.get(key) for key in ("id", "version")):
        loggers.init_args.id = wandb_id
    if loggers.init_args.get("save_dir") in (None, "."):
        loggers.init_args.save_dir = str(run_dir)
    return loggers


def _settle_wandb(logger: Namespace, run_dir: Path) -> Namespace:
    if importlib.util.find_spec("wandb") is None:
        return _csv("wandb is not installed", run_dir)
    if os.environ.get("WANDB_MODE", "") in OFFLINE or logger.init_args.get("offline"):
        return logger

    import wandb
    from wandb.sdk import wandb_setup

    if wandb.run is not None:
        return logger
    settings = wandb_setup.singleton().settings  # of its files too; `wandb.setup` would start a process
    if settings.mode in OFFLINE:
        return logger
    silent, settings.silent = settings.silent, True  # or it would ask the server who that is, to say so
    try:
        logged_in = wandb.login(prompt=False, verify=False)
    except wandb.errors.Error as error:
        raise ValueError(
            f"the W&B login cannot be used: {error} Correct it with `wandb login --relogin`, or set WANDB_MODE=offline"
        ) from error
    finally:
        settings.silent = silent
    if not logged_in:
        return _csv("there is no W&B login on this machine", run_dir)
    if not _answers(settings.base_url):
        _say(
            f"{settings.base_url} does not answer: W&B keeps the run in {run_dir}/wandb, and `wandb sync` sends it later"
        )
        os.environ["WANDB_MODE"] = "offline"  # for the processes that a run starts too
        wandb.teardown()  # or it would keep the settings that it has read
        logger.init_args.offline, logger.init_args.log_model = True, False  # Lightning refuses to log models then
    return logger


def _csv(reason: str, run_dir: Path) -> Namespace:
    _say(f"{reason}: logging to CSV files in {run_dir}/csv (for W&B run `wandb login`, or set WANDB_MODE=offline)")
    return Namespace(class_path=CSV, init_args=Namespace(name="csv"))


def _answers(url: str) -> bool:
    """Whether a server can be reached, be it through a proxy; what it answers does not matter."""
    try:
        urllib.request.urlopen(url, timeout=PATIENCE).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # wandb may know its certificate
    except OSError:
        return False
    return True


def _say(sentence: str) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(sentence)
