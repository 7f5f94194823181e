"""What a checkpoint must hold to be loaded into a model, and what it may hold to be loaded safely."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule


def refuse_other_model(model: LightningModule, checkpoint: Mapping[str, Any]) -> None:
    """Check that the weights in `checkpoint` are those of a model like `model`.

    Raises:
        ValueError: If the classes differ, or a weight is missing, unknown or of another shape.
    """
    ours, theirs = type(model).__name__, checkpoint.get("microevo_model")
    if ours != theirs:
        raise ValueError(
            f"The checkpoint holds {theirs or 'no microevo model'}, but the model is {ours}; give a "
            f"checkpoint of {ours} or choose the other model."
        )
    stored = {name: tuple(weight.shape) for name, weight in checkpoint["state_dict"].items()}
    present = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    if stored == present:
        return
    name = next(n for n in [*present, *stored] if stored.get(n) != present.get(n))
    settings = checkpoint["hyper_parameters"]
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
    """A setting as built-in Python types, the only ones that `torch.load(weights_only=True)` accepts."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
