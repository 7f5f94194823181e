"""fit, validate, test and predict: Lightning's CLI with a folder for each run."""

import argparse
import contextlib
import copy
import inspect
import os
import pydoc
import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from jsonargparse import Namespace
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateFinder, LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger

from microevo.callbacks import ForecastWriter, LeadTable, Lineage, SaveLast, SaveRun, SeedSteps, Throughput
from microevo.callbacks.checkpoints import best_saver, find_checkpoint, recorded_best
from microevo.cli.errors import UsageError
from microevo.cli.loggers import settle_loggers
from microevo.cli.main import COMMANDS
from microevo.cli.parser import ConfigFile, Parser, expand
from microevo.cli.progress import Progress
from microevo.cli.run_folder import (
    check_not_mixed,
    claim,
    home_of,
    locked,
    remove_if_empty,
    requeued_run,
    started_together,
    wandb_id,
)
from microevo.data import TrajectoryDataModule
from microevo.data.location import writable
from microevo.metrics import import_metrics
from microevo.models import Forecaster
from microevo.models.checkpoint import read_checkpoint
from microevo.models.folder import located

RUN_DIR = "MICROEVO_RUN_DIR"  # tells the processes that a run starts where the first one writes
NEW_FRAMES = ", without a config, whatever split (`predict --input FILE --help` lists the options)"
# Settings of the model that follow from those of the data.
LINKED = {"n_past": "n_past", "horizon": "horizon", "channels": "fields", "parameters": "parameters"}


class TrainingParser(Parser, LightningArgumentParser):
    """The parser of a command that needs Lightning."""

    classes: ClassVar[dict[str, type]] = {
        "model": Forecaster,
        "data": TrajectoryDataModule,
        "trainer.logger": Logger,
        "trainer.callbacks": Callback,
    }


class TrainingCLI(LightningCLI):
    """The four commands that need a model, data and a trainer.

    Args:
        args: The command line, without the program's name.
    """

    def __init__(self, args: Sequence[str]) -> None:
        # Hidden states that decay end in subnormal numbers, which slow a CPU down tenfold.
        torch.set_flush_denormal(True)
        torch.set_float32_matmul_precision("high")
        self.command = args[0]
        self.ckpt_path: str | None = None
        started_by_another = RUN_DIR in os.environ
        with contextlib.ExitStack() as self.locks:
            if not started_by_another:
                self.locks.callback(os.environ.pop, RUN_DIR, None)
            super().__init__(
                model_class=Forecaster,
                datamodule_class=TrajectoryDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=SaveRun,
                trainer_defaults={
                    "callbacks": [
                        *(LeadTable(), ForecastWriter(), SaveLast(), SeedSteps(), Throughput(), Lineage(), Progress())
                    ],
                    "enable_model_summary": False,
                },
                seed_everything_default=0,
                parser_class=TrainingParser,
                parser_kwargs={
                    self.command: {
                        "usage": f"python -m microevo {self.command} --config FILE [options]",
                        "description": COMMANDS[self.command] + NEW_FRAMES * (self.command == "predict"),
                        "default_config_files": [default_settings(args)],
                    }
                },
                auto_configure_optimizers=False,
                args=list(args),
            )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The command, and the arguments of the trainer's method that are not options or are options of ours."""
        loaders = {"train_dataloaders", "val_dataloaders", "dataloaders"}
        return {self.command: {"model", "datamodule", *loaders, "ckpt_path", "weights_only", "return_predictions"}}

    def init_parser(self, **kwargs: Any) -> "TrainingParser":
        """As Lightning does, with a `--config` whose errors name the file."""
        parser = TrainingParser(**kwargs)
        parser.add_argument("-c", "--config", action=ConfigFile, help="Path to a configuration file in YAML format.")
        if (main := getattr(self, "parser", None)) is not None:
            main.subparsers.append(parser)
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of a run, and say once what model and data must agree on."""
        parser.add_argument(
            "--run_dir",
            type=str | None,
            default=None,
            help="Folder of this run: checkpoints, config, tables and pictures. Default: that of the checkpoint, or "
            "runs/<name of the config file>, with a number where that is taken. `--ckpt_path last` and `best` mean "
            "the checkpoints in it.",
        )
        parser.add_argument(
            "--metrics",
            type=list[str],
            default=[],
            help="Python modules that register metrics of your own, on PYTHONPATH or installed.",
        )
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="Checkpoint that `fit` wrote, or `best` or `last` for that of the run's folder. `fit` resumes from it, "
            "and with `last` begins where there is none yet.",
        )
        parser.add_argument(
            "--weights_only",
            type=bool | None,
            default=True,
            help="Always true: a checkpoint is read without unpickling, which could run code.",
        )
        if self.command == "predict":
            parser.add_argument(
                "--return_predictions",
                type=bool | None,
                default=False,
                help="Without effect: the forecasts are on disk, in memory they would grow with the test set.",
            )
        for ours, theirs in LINKED.items():
            # With the model itself among the sources, a setting that the link would silently replace is noticed.
            sources = (f"data.init_args.{theirs}", "model")
            parser.link_arguments(sources, f"model.init_args.{ours}", compute_fn=_follow(ours, theirs))

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the options.

        The checkpoint is taken out of what Lightning sees: it would put the checkpoint's hyperparameters over what the
        user asked for, and import the class that the checkpoint names.
        """
        assert isinstance(parser, Parser)
        self.config = parser.read(args)
        self.ckpt_path = self.config[self.command].pop("ckpt_path")

    def before_instantiate_classes(self) -> None:
        """Find the run's folder and the checkpoint, and check what would otherwise silently do something else."""
        config = self.config[self.subcommand]
        if config.weights_only is False:
            raise ValueError("--weights_only false would let a checkpoint run code; leave it out")
        if config.trainer.default_root_dir is not None:
            raise UsageError(
                f"--trainer.default_root_dir is {config.trainer.default_root_dir}, but --run_dir names the folder that a run "
                "writes into; give that instead"
            )
        import_metrics(config.metrics)
        self.run_dir = self._find_run_dir(config)
        self.checkpoint = self._find_checkpoint()
        if config.trainer.fast_dev_run:  # whatever a callback writes is removed
            self.run_dir = Path(self.locks.enter_context(tempfile.TemporaryDirectory(prefix="microevo-")))
            config.trainer.logger = False
        init_from = config.model.init_args.get("init_from")
        if init_from and self.subcommand == "fit" and self.checkpoint is None:
            read_checkpoint(init_from)

    def instantiate_classes(self) -> None:
        """Build everything with the run's folder in place, but keep in `config` what was asked for."""
        asked = self.config
        self.config = asked.clone()
        config = self.config[self.subcommand]
        self.save_config_kwargs = {"asked": asked[self.subcommand]}
        config.trainer.default_root_dir = str(self.run_dir)
        resumed = self.command == "fit" and self.checkpoint is not None
        known_as = wandb_id(self.run_dir) if resumed else None
        config.trainer.logger = settle_loggers(config.trainer.logger, self.run_dir, known_as)
        for callback in config.trainer.callbacks or []:
            if "ModelCheckpoint" in callback.class_path and callback.init_args.get("dirpath") is None:
                callback.init_args.dirpath = str(self.run_dir / "checkpoints")
        super().instantiate_classes()
        # Kept by Lightning: the clone's linked model and data are those that were asked for.
        self.config = asked

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """As Lightning does, without a monitor of the learning rate where nothing is logged, or a search for it on resuming."""
        config = self.config_init[self.subcommand].trainer
        callbacks = config.callbacks or []
        if config.logger is False or config.fast_dev_run:
            callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
        if self.checkpoint is not None and any(isinstance(callback, LearningRateFinder) for callback in callbacks):
            callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateFinder)]
            if self.command == "fit":
                print("LearningRateFinder is left out: a resumed training keeps its learning rate")
        config.callbacks = callbacks
        # A callback that is asked for, with settings of its own, takes the place of the one that every run has.
        asked = {type(callback) for callback in callbacks}
        kept = [callback for callback in self.trainer_defaults["callbacks"] if type(callback) not in asked]
        self.trainer_defaults["callbacks"] = kept
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        """Check that the data are there and fit the model before a logger opens a run for them."""
        data = copy.copy(self.datamodule)
        data.cache, data.datasets = "no", {}
        data.setup(self.subcommand)
        window = next(iter(data.datasets.values()))[0]
        *frames, height, width = window.past.shape
        if self.command != "fit":  # frames of any size are continued to one that fits
            height, width = (size + -size % self.model.unit for size in (height, width))
        # On this device shapes are checked and nothing is computed.
        model = copy.deepcopy(self.model).to("meta")
        with contextlib.suppress(NotImplementedError), torch.no_grad():
            past, parameters = torch.empty(1, *frames, height, width, device="meta"), window.parameters[None].to("meta")
            model(past, 1, *model.conditions(parameters))

    def before_test(self) -> None:
        """Check that the weights were trained."""
        self.before_fit()
        if self.checkpoint is None and any(True for _ in self.model.parameters()):
            raise ValueError(
                f"{self.subcommand} needs the weights of a trained {type(self.model).__name__}; give them with --ckpt_path"
            )

    before_validate = before_predict = before_test

    def fit(self, **kwargs: Any) -> None:
        """Train."""
        self.trainer.fit(**kwargs, ckpt_path=self.checkpoint, weights_only=True)

    def validate(self, **kwargs: Any) -> None:
        """Evaluate on the validation split."""
        self.trainer.validate(**kwargs, ckpt_path=self.checkpoint, weights_only=True)

    def test(self, **kwargs: Any) -> None:
        """Evaluate on the test split."""
        self.trainer.test(**kwargs, ckpt_path=self.checkpoint, weights_only=True)

    def predict(self, **kwargs: Any) -> None:
        """Write forecasts."""
        self.trainer.predict(**kwargs, return_predictions=False, ckpt_path=self.checkpoint, weights_only=True)

    def after_test(self) -> None:
        """Say if nothing was evaluated; Lightning is silent then."""
        option = f"limit_{'val' if self.subcommand == 'validate' else self.subcommand}_batches"
        if getattr(self.trainer, option) == 0:
            print(
                f"{self.subcommand} took no batch, as --trainer.{option} = 0 has it: nothing was evaluated or written"
            )

    after_validate = after_predict = after_test

    def after_fit(self) -> None:
        """Say where the weights are and what to do with them."""
        if not self.trainer.is_global_zero or self.config[self.subcommand].trainer.fast_dev_run:
            return
        saver = best_saver(self.trainer)
        if best := recorded_best(self.run_dir):
            path = os.path.relpath(best)
            # Of processes that were spawned, the score does not come back.
            score = saver.best_model_score if saver is not None else None
            score_text = f" ({saver.monitor} {float(score):.3e})" if saver is not None and score is not None else ""
            print(f"best checkpoint{score_text}: {path}")
        elif last := find_checkpoint(self.run_dir, "last"):
            path = os.path.relpath(last)
            why = "the run ended before a validation could tell the best"
            if saver is None:
                why = "no ModelCheckpoint is configured that would keep the best one"
            print(f"last checkpoint: {path} ({why})")
        else:
            return
        config = os.path.relpath(self.run_dir / "config-fit.yaml")
        print(f"next: {shlex.join(['python', '-m', 'microevo', 'test', '--config', config, '--ckpt_path', path])}")

    def _find_run_dir(self, config: Namespace) -> Path:
        if os.environ.get(RUN_DIR):
            return Path(os.environ[RUN_DIR])
        asked = self.ckpt_path
        home = home_of(config) if config.run_dir is None else writable(config.run_dir)
        if config.trainer.fast_dev_run:  # which only looks for the checkpoints that are there
            return home
        requeued = requeued_run(home) if self.command == "fit" and asked is None else None
        if requeued is not None:
            print(f"SLURM requeued this job: the training in {requeued} is resumed")
            run_dir, self.ckpt_path = requeued, "last"
        elif config.run_dir is not None or asked in ("last", "best"):
            run_dir = home
        elif asked and Path(asked).parent.name == "checkpoints":
            run_dir = Path(asked).parent.parent
        elif started_together():
            raise UsageError(
                "processes that torchrun or srun started cannot agree on a new folder for their run; name it with --run_dir"
            )
        else:
            run_dir = claim(home)
            self.locks.callback(remove_if_empty, run_dir)
        if self.command == "fit":
            self.locks.enter_context(locked(run_dir))
            check_not_mixed(run_dir, self.ckpt_path)
        os.environ[RUN_DIR] = str(run_dir)
        return run_dir

    def _find_checkpoint(self) -> str | None:
        asked = self.ckpt_path
        if asked is None:
            return None
        path: str | Path = asked
        if asked in ("last", "best"):
            found = find_checkpoint(self.run_dir, "last" if asked == "last" else "best")
            if found is None and self.command == "fit" and asked == "last":
                print(f"{self.run_dir} holds no checkpoint yet: the training starts from the beginning")
                return None
            path = found or self.run_dir / "checkpoints" / f"{asked}.ckpt"
        read_checkpoint(path)
        if located(path).is_dir():
            raise ValueError(
                f"{path} is a model folder, which `predict --input`, `benchmark` and --model.init_args.init_from take; give "
                f"{self.subcommand} a checkpoint that `fit` or `import-checkpoint` wrote"
            )
        return str(path)


def default_settings(args: Sequence[str]) -> str:
    """The `defaults.yaml` beside the first config file in `args`, or in the folder above it; else that of `experiments/`.

    They are settings of the parser, so the first config file has to be known before there is one.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("-c", "--config", action="append", default=[])
    with contextlib.suppress(argparse.ArgumentError):  # which the parser will report
        for config in finder.parse_known_args(args)[0].config[:1]:
            folder = Path(expand(config)).parent
            for candidate in (folder / "defaults.yaml", folder.parent / "defaults.yaml"):
                if candidate.is_file():
                    return str(candidate)
    return "experiments/defaults.yaml"


def _follow(ours: str, theirs: str) -> Callable[[Any, Any], Any]:
    """The model's setting `ours`, which follows from the data's setting `theirs`.

    Raises:
        UsageError: The model was given another one.
    """

    def follow(setting: Any, model: Any) -> Any:
        value = len(setting) if theirs == "fields" else setting
        explicit = model.init_args.get(ours, value)
        if explicit not in (value, _default(model.class_path, ours)):
            raise UsageError(
                f"model.init_args.{ours} is {explicit}, but it follows from data.init_args.{theirs} and would be {value}; "
                f"leave it out and set data.init_args.{theirs}, which both use"
            )
        return value

    return follow


def _default(class_path: str, name: str) -> Any:
    """The default of an argument of a class, which may have it from a class that it is made from."""
    for base in getattr(pydoc.locate(class_path), "__mro__", ()):
        parameter = inspect.signature(base.__init__).parameters.get(name)
        if parameter is not None:
            return parameter.default
    return None
