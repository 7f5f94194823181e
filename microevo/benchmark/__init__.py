"""Who forecasts best, and what it costs."""

from microevo.benchmark.evaluate import evaluate, load
from microevo.benchmark.run import run

__all__ = ["evaluate", "load", "run"]
