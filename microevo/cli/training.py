"""fit, validate, test and predict: Lightning's CLI with a folder for each run."""

import importlib.util
import netrc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from jsonargparse import Namespace
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from microevo.callbacks import ForecastWriter, LeadTable, SaveOnInterrupt, SaveRun, SeedEpochs
from microevo.cli.parser import Parser, defaults_beside
from microevo.data import TrajectoryDataModule
from microevo.models import Forecaster

WANDB = "lightning.pytorch.loggers.WandbLogger"
CSV = "lightning.pytorch.loggers.CSVLogger"
RUN_DIR = "MICROEVO_RUN_DIR"  # tells the processes that a run starts where the first one writes


class TrainingCLI(LightningCLI):
    """The four commands that need a model, data and a trainer.

    Args:
        args: The command line, without the program's name.
    """

    def __init__(self, args: Sequence[str]) -> None:
        self.arguments = list(args)
        # Hidden states that decay end in subnormal numbers, which slow a CPU down tenfold.
        torch.set_flush_denormal(True)
        torch.set_float32_matmul_precision("high")
        defaults = {"default_config_files": defaults_beside(args)}
        super().__init__(
            model_class=Forecaster,
            datamodule_class=TrajectoryDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveRun,
            trainer_defaults={"callbacks": [LeadTable(), ForecastWriter(), SaveOnInterrupt(), SeedEpochs()]},
            seed_everything_default=0,
            parser_class=Parser,
            parser_kwargs={name: dict(defaults) for name in self.subcommands()},
            auto_configure_optimizers=False,
            args=self.arguments,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run's folder, and say once what model and data must agree on."""
        parser.add_argument(
            "--run_dir",
            type=str | None,
            default=None,
            help="Folder of this run: checkpoints, config, tables and pictures. Default: that of the checkpoint, or "
            "runs/<name of the config file>, with a number where that is taken. `--ckpt_path last` and `best` mean "
            "the checkpoints in it.",
        )
        parser.link_arguments("data.init_args.n_past", "model.init_args.n_past")
        parser.link_arguments("data.init_args.horizon", "model.init_args.horizon")
        parser.link_arguments("data.init_args.fields", "model.init_args.channels", compute_fn=len)

    def _parse_ckpt_path(self) -> None:
        """The config decides what is built; a checkpoint brings weights and state only.

        Lightning would put the checkpoint's hyperparameters over what the user asked for, and import the class
        that the checkpoint names.
        """

    def before_instantiate_classes(self) -> None:
        """Find the run's folder and the checkpoint; refuse what would silently do something else."""
        config = self.config[self.subcommand]
        linked = {"n_past": "n_past", "horizon": "horizon", "channels": "fields"}
        for word in self.arguments:
            name = word.split("=")[0].lstrip("-")
            argument = name.rsplit(".", 1)[-1]
            if name.startswith("model.") and argument in linked:
                raise ValueError(
                    f"--{name} follows from the data; set --data.init_args.{linked[argument]} instead, which both use"
                )
        if config.get("weights_only") is False:
            raise ValueError("--weights_only false would let a checkpoint run code; leave it out")
        config.weights_only = True
        if self.subcommand == "predict":
            config.return_predictions = False  # they are on disk; in memory they would grow with the test set
        self.run_dir = self._find_run_dir(config)
        config.run_dir = str(self.run_dir)
        config.ckpt_path = self._find_checkpoint(config)

    def instantiate_classes(self) -> None:
        """Build everything with the run's folder in place, but keep in `config` what was asked for."""
        asked = self.config
        self.config = asked.clone()
        config = self.config[self.subcommand]
        self.save_config_kwargs = {"asked": asked[self.subcommand]}
        config.trainer.default_root_dir = str(self.run_dir)
        config.trainer.logger = _settle_loggers(config.trainer.logger, self.run_dir)
        for callback in config.trainer.callbacks or []:
            if "ModelCheckpoint" in callback.class_path and callback.init_args.get("dirpath") is None:
                callback.init_args.dirpath = str(self.run_dir / "checkpoints")
        super().instantiate_classes()
        # Kept by Lightning: the clone's linked model and data are those that were asked for.
        self.config = asked

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """As Lightning does, except that a learning-rate monitor is left out where nothing is logged."""
        config = self.config_init[self.subcommand].trainer
        if config.logger is False or config.fast_dev_run:
            config.callbacks = [
                callback for callback in config.callbacks or [] if type(callback).__name__ != "LearningRateMonitor"
            ]
        return super().instantiate_trainer(**kwargs)

    def before_test(self) -> None:
        """Refuse to evaluate weights that nobody trained."""
        self._require_weights()

    before_validate = before_predict = before_test

    def after_fit(self) -> None:
        """Say where the weights are and what to do with them."""
        saver = self.trainer.checkpoint_callback
        if self.trainer.is_global_zero and isinstance(saver, ModelCheckpoint) and saver.best_model_path:
            score = (
                f" ({saver.monitor} {float(saver.best_model_score):.3e})" if saver.best_model_score is not None else ""
            )
            best = os.path.relpath(saver.best_model_path)
            print(f"best checkpoint{score}: {best}")
            print(f"next: python -m microevo test --config {self.run_dir}/config-fit.yaml --ckpt_path {best}")

    def _require_weights(self) -> None:
        if self.config[self.subcommand].ckpt_path is None and any(True for _ in self.model.parameters()):
            raise ValueError(
                f"{self.subcommand} needs the weights of a trained {type(self.model).__name__}; give them with --ckpt_path"
            )

    def _find_run_dir(self, config: Namespace) -> Path:
        if os.environ.get(RUN_DIR):
            return Path(os.environ[RUN_DIR])
        checkpoint = config.get("ckpt_path")
        if config.run_dir is not None:
            run_dir = Path(config.run_dir)
            if self.subcommand == "fit" and checkpoint is None and (run_dir / "checkpoints").exists():
                raise FileExistsError(
                    f"{run_dir} holds the checkpoints of a run; go on with it (--ckpt_path last) or choose another --run_dir"
                )
        elif checkpoint in ("last", "best"):
            run_dir = Path("runs") / self._run_name()
        elif checkpoint and Path(checkpoint).parent.name == "checkpoints":
            run_dir = Path(checkpoint).parent.parent
        else:
            run_dir = _claim(Path("runs") / self._run_name())
        os.environ[RUN_DIR] = str(run_dir)
        return run_dir

    def _run_name(self) -> str:
        configs = self.config[self.subcommand].get("config")
        if configs:
            return Path(str(configs[-1])).stem
        return self.config[self.subcommand].model.class_path.rsplit(".", 1)[-1].lower()

    def _find_checkpoint(self, config: Namespace) -> str | None:
        asked = config.get("ckpt_path")
        if asked is None:
            return None
        if "://" in str(asked):
            raise ValueError(f"checkpoints are read from disk, but --ckpt_path is {asked}; download it first")
        path = Path(asked)
        if asked in ("last", "best"):
            path = self.run_dir / "checkpoints" / f"{asked}.ckpt"
            if not path.exists() and self.subcommand == "fit" and asked == "last":
                print(f"{path} is not there yet: the training starts from the beginning")
                return None
        if not path.is_file():
            raise FileNotFoundError(f"there is no checkpoint at {path}; --ckpt_path takes a file that `fit` wrote")
        return str(path)


def _claim(path: Path) -> Path:
    """Make a new folder, with a number if the name is taken; safe between sweep agents that start at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            candidate.mkdir()
        except FileExistsError:
            number += 1
        else:
            return candidate


def _settle_loggers(loggers: Any, run_dir: Path) -> Any:
    """Let loggers write into the run's folder, and replace W&B by CSV files where it would ask for a login."""
    if isinstance(loggers, list):
        return [_settle_loggers(logger, run_dir) for logger in loggers]
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
