"""Small windows cut from drifting waves, and a trainer for the CPU, for the tests of models."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, StackDataset, TensorDataset


class ToyWindow(NamedTuple):
    past: Float[Tensor, "*B n_past C H W"]
    future: Float[Tensor, "*B n_future C H W"]
    trajectory: Int[Tensor, "*B"]
    start: Int[Tensor, "*B"]
    parameters: Float[Tensor, "*B P"]


def waves(samples: int = 4, frames: int = 8, channels: int = 1, size: int = 16) -> Tensor:
    """Plane waves in [0, 1], each with its own direction, drifting by a fixed step per frame: B T C H W."""
    generator = torch.Generator().manual_seed(1)
    phase = 2 * torch.pi * torch.rand(samples, 1, channels, 1, 1, generator=generator)
    waves_y, waves_x = torch.randint(0, 3, (2, samples, 1, 1, 1, 1), generator=generator)
    x = 2 * torch.pi * torch.arange(size) / size
    time = 0.4 * torch.arange(frames).reshape(-1, 1, 1, 1)
    return 0.5 + 0.5 * torch.sin(waves_y * x[:, None] + waves_x * x + phase - time)


def windows(n_past: int = 4, n_future: int = 4, samples: int = 4, **shape: int) -> ToyWindow:
    frames = waves(samples, n_past + n_future, **shape)
    indices = torch.arange(samples)
    return ToyWindow(frames[:, :n_past], frames[:, n_past:], 10 + indices, 2 * indices, torch.empty(samples, 0))


def loader(batch: ToyWindow, batch_size: int | None = None) -> DataLoader:
    dataset = StackDataset(*(TensorDataset(part) for part in batch))

    def collate(rows: list[tuple[tuple[Tensor], ...]]) -> ToyWindow:
        return ToyWindow(*(torch.stack([part for (part,) in column]) for column in zip(*rows, strict=True)))

    return DataLoader(dataset, batch_size or len(batch.past), collate_fn=collate)


def trainer(**settings: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return Trainer(**defaults | settings)
