"""Trajectory stores, the windows cut from them, and the module that feeds them to a model."""

from microevo.data.datamodule import TrajectoryDataModule
from microevo.data.draw import Range
from microevo.data.generate import generate
from microevo.data.imports import import_frames
from microevo.data.layout import Layout
from microevo.data.store import TrajectoryStore
from microevo.data.windows import Window, WindowDataset

__all__ = [
    "Layout",
    "Range",
    "TrajectoryDataModule",
    "TrajectoryStore",
    "Window",
    "WindowDataset",
    "generate",
    "import_frames",
]
