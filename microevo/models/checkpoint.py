"""Checkpoints: whether a file is a whole and safe one, whether its weights fit a model, and which types it may hold."""

import pickle
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule

from microevo.models.folder import is_model_folder, located, pretrained, read_folder


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint or a model folder without unpickling, so that none can run code.

    Args:
        path: Where it is, or the name of a network that comes with microevo.

    Raises:
        FileNotFoundError: There is no such file or model folder.
        ValueError: It is something else, or only a part, or holds objects that would have to be unpickled.
    """
    if "://" in str(path):
        raise ValueError(f"checkpoints are read from disk, but {path} is a URL; download it first")
    path = located(path)
    if is_model_folder(path):
        return read_folder(path)
    if not path.is_file():
        names = f", or the name of a pretrained network: {', '.join(pretrained())}" if path.parent == Path() else ""
        raise FileNotFoundError(f"there is no checkpoint at {path}; give a file that `fit` wrote{names}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a checkpoint, or only the first part of one; give a file that `fit` wrote")
    try:
        checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} holds Python objects that only unpickling could read, which can run code; give a file that `fit` wrote"
        ) from None
    except RuntimeError as error:
        raise ValueError(f"{path} is not a checkpoint, or a damaged one; give a file that `fit` wrote") from error
    if not isinstance(checkpoint, dict) or not {"state_dict", "hyper_parameters"} <= checkpoint.keys():
        raise ValueError(f"{path} holds no microevo model, at most the weights of one; give a file that `fit` wrote")
    return checkpoint


def checkpoint_of(model: LightningModule) -> dict[str, Any]:
    """The checkpoint of a model in memory, as Lightning would save it, without the state of a training."""
    checkpoint = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": version("lightning"),
        "state_dict": model.state_dict(),
        "hparams_name": "kwargs",
        "hyper_parameters": dict(model.hparams),
    }
    model.on_save_checkpoint(checkpoint)
    return checkpoint


def check_same_model(model: LightningModule, checkpoint: Mapping[str, Any]) -> None:
    """Check that the weights in `checkpoint` fit `model`.

    Raises:
        ValueError: The classes differ, a weight is missing, unknown or of another shape, or the weights are for other parameters
            of the trajectories.
    """
    ours, theirs = type(model).__name__, checkpoint.get("microevo_model")
    if ours != theirs:
        raise ValueError(
            f"The checkpoint holds {theirs or 'the model of another package'}, but the model is {ours}; give a "
            f"checkpoint of {ours} or choose the other model."
        )
    stored = {name: tuple(weight.shape) for name, weight in checkpoint["state_dict"].items()}
    present = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    settings = checkpoint["hyper_parameters"]
    if stored == present:
        trained, asked = list(settings.get("parameters", [])), list(getattr(model, "parameter_names", []))
        if trained != asked:
            raise ValueError(
                f"The checkpoint holds a {ours} that is conditioned on {', '.join(trained)}, but the parameters of the data are "
                f"{', '.join(asked)}; give the same ones in the same order"
            )
        return
    name = next(n for n in [*present, *stored] if stored.get(n) != present.get(n))
    changed = [
        f"{key} = {settings[key]} (now {plain(value)})"
        for key, value in model.hparams.items()
        if key in settings and not key.startswith("_") and plain(value) != plain(settings[key])
    ]
    raise ValueError(
        f"The checkpoint does not fit this {ours}: {name} is {stored.get(name, 'absent')} in the checkpoint "
        f"and {present.get(name, 'absent')} in the model; the checkpoint was made with "
        f"{', '.join(changed) or 'the same settings'}."
    )


def plain(value: Any) -> Any:
    """A setting in built-in Python types, which are all that `torch.load(weights_only=True)` accepts."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
