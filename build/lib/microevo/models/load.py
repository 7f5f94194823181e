"""A trained model, from its checkpoint."""

import sys
from pathlib import Path

from lightning.pytorch import LightningModule

from microevo.models.checkpoint import read_checkpoint
from microevo.models.forecaster import Forecaster


def load_model(path: str | Path) -> Forecaster:
    """Load the model of a checkpoint, on the CPU and ready to forecast.

    The module of a model of one's own must have been imported before: a checkpoint does not decide what is imported.

    Args:
        path: The checkpoint, a file that `fit` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a checkpoint, or the class of its model is not imported or not a forecaster.
    """
    class_path = read_checkpoint(path)["hyper_parameters"].get("_class_path", "")
    module, _, name = str(class_path).rpartition(".")
    cls = getattr(sys.modules.get(module), name, None)
    if cls is None:
        raise ValueError(
            f"{path} holds a {class_path or 'model without a name'}, which is not imported; import its module first (for the "
            f"command line give --modules=[{module or 'MODULE'}])"
        )
    if not (isinstance(cls, type) and issubclass(cls, Forecaster)):
        raise ValueError(f"{path} holds a {name}, which is not a microevo model")
    model = LightningModule.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
    assert isinstance(model, Forecaster)
    return model
