"""Readers of the file formats in which people keep trajectories."""

from microevo.data.readers.formats import open_frames
from microevo.data.readers.source import FrameSource

__all__ = ["FrameSource", "open_frames"]
