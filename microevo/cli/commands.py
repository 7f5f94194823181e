"""simulate, import, compare, benchmark, sweep, and predict for new frames: one function each."""

import argparse
import importlib
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import torch

from microevo.cli.loggers import settle_loggers
from microevo.cli.main import COMMANDS
from microevo.cli.parser import ConfigFile, Parser
from microevo.data import TrajectoryStore, generate, import_frames
from microevo.data.convert import convert as run_conversion
from microevo.data.generate import ALL
from microevo.data.sampling import RENAMED


def simulate(args: Sequence[str]) -> None:
    """Simulate trajectories and draw a preview beside the store."""
    settings = _parse("simulate", generate, args)
    for earlier, name in RENAMED.items():
        if (value := settings.pop(earlier)) is not None:
            settings[name] = value
    _check_device(settings["device"])
    # Whoever finishes the store simulates all of it, also where a config file selects trajectories.
    rest = _without("--trajectories", args)
    selected = settings["trajectories"] != ALL and _parse("simulate", generate, rest)["trajectories"] != ALL
    command = _command("simulate", [*rest, *(["--trajectories", ALL] if selected else [])])
    store = generate(**settings, command=command)
    if store.attributes["complete"]:
        _announce(store)
    else:
        _announce_part(store, settings["trajectories"], command)


def import_(args: Sequence[str]) -> None:
    """Import frames made by others and draw a preview beside the store."""
    settings = _parse("import", import_frames, args)
    store = import_frames(**settings, command=_command("import", args))
    _announce(store)


def benchmark(args: Sequence[str]) -> None:
    """Compare forecasts with each other, with persistence and with the reference solver."""
    from microevo.benchmark import run  # which imports Lightning; the other commands begin sooner without
    from microevo.models.checkpoint import read_checkpoint

    settings = _parse("benchmark", run, args)
    _import_modules(settings.pop("modules"))
    _check_device(settings["device"])
    for paths in {} if settings["render_only"] else settings["checkpoints"].values():
        for path in [paths] if isinstance(paths, str) else paths:
            read_checkpoint(path)
    run(**settings, command=_command("benchmark", args))


def sweep(args: Sequence[str]) -> None:
    """Search for good settings with trainings of their own."""
    try:
        from microevo.sweep import run
    except ModuleNotFoundError as missing:
        raise ValueError(
            f'sweep needs the package {missing.name}, which is not installed; pip install "microevo[sweep]"'
        ) from missing
    made = parser("sweep", run)
    settings = made.read(args)
    run(**settings.as_dict())


def predict(args: Sequence[str]) -> None:
    """Forecast new frames with a trained network, without a config."""
    from microevo.predict import predict as run

    settings = _parse("predict", run, args)
    _import_modules(settings.pop("modules"))
    _check_device(settings["device"])
    torch.set_flush_denormal(True)  # as in training: hidden states that decay would slow a CPU down
    run(**settings, command=_command("predict", args))


def convert(args: Sequence[str]) -> None:
    """Write a store for other tools."""
    run_conversion(**_parse("convert", run_conversion, args))


def import_checkpoint(args: Sequence[str]) -> None:
    """Turn weights of other code into a checkpoint; the settings that follow from their shapes need not be given."""
    from microevo.models.imports import check_importable, read_weights
    from microevo.models.imports import import_checkpoint as run
    from microevo.models.published import settings_of

    config = parser("import-checkpoint", run).read(args)
    module, _, name = config.model.class_path.rpartition(".")
    model = getattr(importlib.import_module(module), name)
    check_importable(model)
    found = settings_of(model, read_weights(config.checkpoint), config.model.init_args.channels)
    # Before those that are given, which thus win.
    inferred = ["--model", config.model.class_path, *(f"--model.{key}={value}" for key, value in found.items())]
    run(**_parse("import-checkpoint", run, [*inferred, *args]))


def export(args: Sequence[str]) -> None:
    """Write a trained network for other tools."""
    from microevo.export import export as run

    settings = _parse("export", run, args)
    _import_modules(settings.pop("modules"))
    print(run(**settings))


def compare(args: Sequence[str]) -> None:
    """Compare simulated trajectories with a published sample."""
    from microevo.validation import compare as run

    run(**_parse("compare", run, args))


def _import_modules(modules: Sequence[str]) -> None:
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ValueError(f"there is no module {error.name}, given in --modules; is it on PYTHONPATH?") from None


def _check_device(device: str) -> None:
    try:
        kind = "cpu" if device == "auto" else torch.device(device).type
    except RuntimeError:
        raise ValueError(f"{device} is not a device; use cpu or cuda") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"PyTorch finds no GPU for the device {device}; use cpu")


def parser(name: str, function: Callable[..., Any]) -> Parser:
    """The parser of a command whose options are the arguments of a function."""
    made = Parser(prog=f"python -m microevo {name}", description=COMMANDS[name])
    if name == "sweep":  # whose --config is W&B's file
        made.add_function_arguments(function)
        return made
    made.add_argument("-c", "--config", action=ConfigFile, help="YAML file with any of the options below.")
    if name == "import-checkpoint":
        made.add_argument(
            "checkpoint", type=str, help="File of the other code: a state dict, or a dictionary that holds one."
        )
        made.classes = {"model": function.__annotations__["model"]}
    made.add_function_arguments(function, skip={"checkpoint", "overwrite", "command"}, sub_configs=True)
    for earlier, option in RENAMED.items() if function is generate else ():  # recipes of earlier versions have them
        hint = get_type_hints(generate)[option]
        made.add_argument(f"--{earlier}", type=hint | None, default=None, help=argparse.SUPPRESS)
    if name in ("benchmark", "predict", "export"):
        made.add_argument(
            "--modules",
            type=list[str],
            default=[],
            help="Modules with models of your own, imported before a checkpoint is read: a checkpoint never decides what is "
            "imported.",
        )
    made.add_argument(
        "--overwrite",
        action="store_true",
        help="Replace an existing output; without it nothing is overwritten.",
    )
    return made


def _parse(name: str, function: Callable[..., Any], args: Sequence[str]) -> dict[str, Any]:
    made = parser(name, function)
    config = made.read(args)
    if config.get("logger") is not None:
        config.logger = settle_loggers(config.logger, Path(config.output))
    settings = made.instantiate_classes(config).as_dict()
    settings.pop("config", None)
    return settings


def _command(name: str, args: Sequence[str]) -> str:
    # Finishing a store must not start it anew.
    return shlex.join(["python", "-m", "microevo", name, *(word for word in args if word != "--overwrite")])


def _without(option: str, args: Sequence[str]) -> list[str]:
    """The arguments without an option and its value."""
    words, kept = iter(args), []
    for word in words:
        if word == option:
            next(words, None)
        elif not word.startswith(f"{option}="):
            kept.append(word)
    return kept


def _announce_part(store: TrajectoryStore, trajectories: str, command: str) -> None:
    """Say what is still missing, and who finishes the store."""
    missing = len(store.missing())
    print(f"{store.path}: trajectories {trajectories} are there, {missing} of {len(store)} are still missing")
    print(f"the job that writes the last of them finishes the store, as does: {command}")


def _announce(store: TrajectoryStore) -> None:
    """Say what the store holds, and show it."""
    counts = ", ".join(f"{len(store.split(name))} {name}" for name in ("train", "val", "test"))
    shape = " x ".join(str(pixels) for pixels in store.image_shape)
    many = "trajectory" if len(store) == 1 else "trajectories"
    print(f"{store.path}: {len(store)} {many} ({counts}) of {store.frames} frames, {shape} pixels")
    for name, numbers in store.attributes["statistics"].items():
        print(
            f"  {name}: mean {numbers['mean']:.4g}, std {numbers['std']:.4g}, range {numbers['min']:.4g} to {numbers['max']:.4g}"
        )
    if len(store.image_shape) != 2:
        return
    from microevo import plot

    picture = store.folder.with_suffix(".png")
    rows = [store.read(i, fields=store.fields[:1])[:, 0] for i in range(min(3, len(store)))]
    title = f"{store.attributes['process']}, {store.fields[0]}"
    plot.save(plot.preview(rows, store.times, title), picture)
    print(f"preview: {Path(picture)}")
