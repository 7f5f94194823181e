"""Who forecasts best, for how long it stays physical, and what it costs."""

from microevo.benchmark.competitors import Competitor, EnsembleForecasts, ExternalForecasts, Model, ReferenceSolver
from microevo.benchmark.evaluation import Evaluation, Scores
from microevo.benchmark.protocol import Protocol
from microevo.benchmark.run import run

__all__ = [
    "Competitor",
    "EnsembleForecasts",
    "Evaluation",
    "ExternalForecasts",
    "Model",
    "Protocol",
    "ReferenceSolver",
    "Scores",
    "run",
]
