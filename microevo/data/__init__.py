"""Trajectory stores, the windows cut from them, and the module that feeds them to a model."""

from typing import TYPE_CHECKING, Any

from microevo.data.generate import generate
from microevo.data.imports import import_frames
from microevo.data.sampling import Range, sampled
from microevo.data.schema import StoreSchema
from microevo.data.store import TrajectoryStore
from microevo.data.windows import Window, WindowDataset

if TYPE_CHECKING:
    from microevo.data.datamodule import TrajectoryDataModule

__all__ = [
    "Range",
    "StoreSchema",
    "TrajectoryDataModule",
    "TrajectoryStore",
    "Window",
    "WindowDataset",
    "generate",
    "import_frames",
    "sampled",
]


def __getattr__(name: str) -> Any:
    if name == "TrajectoryDataModule":  # it imports Lightning, for seconds, which simulating does without
        from microevo.data.datamodule import TrajectoryDataModule

        return TrajectoryDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
