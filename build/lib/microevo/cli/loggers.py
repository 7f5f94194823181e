"""Loggers that write into the run's folder and never ask anybody anything."""

import importlib.util
import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from jsonargparse import Namespace

WANDB = "lightning.pytorch.loggers.WandbLogger"
CSV = "lightning.pytorch.loggers.CSVLogger"


def settle_loggers(loggers: Any, run_dir: Path, wandb_id: str | None = None) -> Any:
    """Let loggers write into the run's folder, and replace W&B by CSV files where it would ask for a login.

    Args:
        loggers: What the config says.
        run_dir: The run's folder.
        wandb_id: The W&B run that is resumed.
    """
    if isinstance(loggers, list):
        return [settle_loggers(logger, run_dir, wandb_id) for logger in loggers]
    if loggers is True or loggers is None:
        loggers = Namespace(class_path=CSV, init_args=Namespace(name="csv"))
    if not isinstance(loggers, Namespace):
        return loggers
    if loggers.class_path == WANDB:
        reason = _no_wandb(loggers.init_args)
        if reason:
            if os.environ.get("LOCAL_RANK", "0") == "0":
                print(
                    f"{reason}: logging to CSV files in {run_dir}/csv (for W&B run `wandb login`, or set WANDB_MODE=offline)"
                )
            loggers = Namespace(class_path=CSV, init_args=Namespace(name="csv"))
        elif wandb_id and not (loggers.init_args.get("id") or loggers.init_args.get("version")):
            loggers.init_args.id = wandb_id
    if loggers.init_args.get("save_dir") in (None, "."):
        loggers.init_args.save_dir = str(run_dir)
    return loggers


def _no_wandb(settings: Namespace) -> str | None:
    """Why W&B cannot be used without asking anybody anything; None if it can."""
    if importlib.util.find_spec("wandb") is None:
        return "wandb is not installed"
    if os.environ.get("WANDB_MODE", "") in ("offline", "disabled", "dryrun") or settings.get("offline"):
        return None
    if os.environ.get("WANDB_API_KEY"):
        return None
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        if netrc.netrc(os.environ.get("NETRC")).authenticators(host or ""):  # where `wandb login` keeps the key
            return None
    except (OSError, netrc.NetrcParseError):
        pass
    return "there is no W&B login on this machine"
