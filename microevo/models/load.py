"""A trained model, from its checkpoint or its model folder."""

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule

from microevo.models.checkpoint import read_checkpoint
from microevo.models.folder import located
from microevo.models.forecaster import Forecaster


def load_model(path: str | Path) -> Forecaster:
    """Load a trained model, on the CPU and ready to forecast.

    The module of a model of one's own must have been imported before: a file does not decide what is imported.

    Args:
        path: A checkpoint that `fit` wrote, a model folder that `export --format safetensors` wrote, or the name of a network
            that comes with microevo, such as `spinodal`.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: It is neither, the class of its model is not imported or not a forecaster, or its settings or weights do not
            fit that class.
    """
    checkpoint = read_checkpoint(path)
    cls = _class_of(checkpoint, path)
    if located(path).is_dir():
        return _from_folder(cls, checkpoint, path)
    model = LightningModule.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
    assert isinstance(model, Forecaster)
    return model


def _class_of(checkpoint: Mapping[str, Any], path: str | Path) -> type[Forecaster]:
    class_path = checkpoint["hyper_parameters"].get("_class_path", "")
    module, _, name = str(class_path).rpartition(".")
    cls = getattr(sys.modules.get(module), name, None)
    if cls is None:
        raise ValueError(
            f"{path} holds a {class_path or 'model without a name'}, which is not imported; import its module first (for the "
            f"command line give --modules=[{module or 'MODULE'}])"
        )
    if not (isinstance(cls, type) and issubclass(cls, Forecaster)) or inspect.isabstract(cls):
        raise ValueError(f"{path} holds a {name}, which is not a microevo model")
    return cls


def _from_folder(cls: type[Forecaster], checkpoint: dict[str, Any], path: str | Path) -> Forecaster:
    settings = {name: value for name, value in checkpoint["hyper_parameters"].items() if not name.startswith("_")}
    try:
        model = cls(**settings)
    except TypeError as error:
        raise ValueError(
            f"the settings in {path} do not fit {cls.__name__} ({error}); export the model again"
        ) from error
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval()
