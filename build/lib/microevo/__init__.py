"""Simulate, learn and benchmark microstructure evolution.

Five names cover most uses from Python: `microevo.simulate`, `microevo.open_store`, `microevo.load_model`,
`microevo.evaluate`, and Lightning's `Trainer` for the training. They are imported when they are first used, so that
`import microevo` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microevo.api import evaluate, load_model, open_store, simulate

__version__ = version("microevo")
__all__ = ["__version__", "evaluate", "load_model", "open_store", "simulate"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("microevo.api"), name)
    raise AttributeError(f"module 'microevo' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
