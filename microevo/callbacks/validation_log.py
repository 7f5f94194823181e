"""What each validation measured, as lines of JSON."""

import json
from pathlib import Path

from lightning import Callback, LightningModule, Trainer


class ValidationLog(Callback):
    """Appends a line to a file after each validation: the step, and all that was logged.

    Other programs can read it while the training runs, as `sweep` does. A resumed training continues the file; should it
    validate after the same step again, the later line holds.

    Args:
        file: Name of the file, in the run's folder.
    """

    def __init__(self, file: str) -> None:
        self.file = file

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Append the line."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return
        logged = {name: float(value) for name, value in trainer.callback_metrics.items() if value.numel() == 1}
        line = json.dumps({"step": trainer.global_step, **logged})
        with (Path(trainer.default_root_dir) / self.file).open("a") as file:
            file.write(line + "\n")
