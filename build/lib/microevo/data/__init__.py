"""Trajectory stores, the windows cut from them, and the module that feeds them to a model."""

from microevo.data.datamodule import TrajectoryDataModule
from microevo.data.generate import generate
from microevo.data.imports import import_frames
from microevo.data.sampling import Range, sampled
from microevo.data.schema import StoreSchema
from microevo.data.store import TrajectoryStore
from microevo.data.windows import Window, WindowDataset

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
