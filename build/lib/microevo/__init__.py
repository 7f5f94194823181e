"""Simulate, learn and benchmark microstructure evolution."""

from importlib.metadata import version

__version__ = version("microevo")
