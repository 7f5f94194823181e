"""NetworkForecaster: what forecasters with a network have in common: their borders, and the memory of their gradient."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from microevo.models.forecaster import Forecaster

Boundary = Literal["store", "periodic", "no-flux"]


class NetworkForecaster(Forecaster):
    """A forecaster with a network that is called again and again.

    Args:
        boundary: Boundary condition of the frames; `store` takes that of the store when the training begins. It is kept in the
            checkpoint.
        checkpointing: Compute the activations of each call of the network again for the gradient, which saves memory.
        kwargs: Settings of every forecaster, see `Forecaster`.
    """

    def __init__(self, boundary: Boundary = "store", checkpointing: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.save_hyperparameters(logger=False)
        self.boundary, self.checkpointing = boundary, checkpointing

    @property
    def periodic(self) -> bool:
        """Whether opposite borders of a frame are neighbours, for the network."""
        return self.boundary != "no-flux"

    def setup(self, stage: str) -> None:
        """Take the boundary condition from the data when a training begins."""
        super().setup(stage)
        of_data = getattr(getattr(self.trainer, "datamodule", None), "boundary", "")
        if of_data and stage == "fit" and self.boundary == "store":
            self._set_boundary("periodic" if of_data == "periodic" else "no-flux")

    def is_new(self, stage: str) -> bool:
        """Whether a training begins whose weights come from nowhere, and so takes its statistics from the data."""
        return stage == "fit" and self.trainer.ckpt_path is None and self.init_from is None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the boundary condition that the network was trained with, unless another one is set."""
        if self.boundary == "store":
            self._set_boundary(checkpoint["hyper_parameters"].get("boundary", "store"))
        super().on_load_checkpoint(checkpoint)

    def _set_boundary(self, boundary: Boundary) -> None:
        self.boundary = self.hparams["boundary"] = boundary  # a checkpoint keeps the hyperparameters

    def call(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """`function(*inputs)`, whose activations are not kept for the gradient with `checkpointing`."""
        if not (self.checkpointing and torch.is_grad_enabled()):
            return function(*inputs)
        return checkpoint(
            function, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), frozen_statistics(self))
        )


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch normalisation alone: a call that is repeated for the gradient counts once."""
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
