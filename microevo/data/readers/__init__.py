"""Readers of the file formats in which people keep trajectories."""

from microevo.data.readers.formats import open_frames
from microevo.data.readers.source import FrameSource, Scale, as_float32

__all__ = ["FrameSource", "Scale", "as_float32", "open_frames"]
