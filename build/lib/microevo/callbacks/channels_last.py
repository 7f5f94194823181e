"""The memory layout of a network's weights."""

import torch
from lightning import Callback, LightningModule, Trainer


class ChannelsLast(Callback):
    """Stores the weights of two-dimensional convolutions channels last, as the matrix units of GPUs want them.

    PyTorch then keeps the activations between them in that layout too. The numbers are the same but for rounding.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Change the layout before the weights of a checkpoint are copied in."""
        pl_module.to(memory_format=torch.channels_last)
