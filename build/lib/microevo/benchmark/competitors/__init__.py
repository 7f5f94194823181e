"""Competitors: the truth, trained models, forecasts from files, and the solver that made the data."""

from microevo.benchmark.competitors.base import BASELINE, REFERENCE, TRUTH, Competitor, Forecast, Truth
from microevo.benchmark.competitors.external import ExternalForecasts
from microevo.benchmark.competitors.model import Model, persistence
from microevo.benchmark.competitors.reference_solver import ReferenceSolver

__all__ = [
    "BASELINE",
    "REFERENCE",
    "TRUTH",
    "Competitor",
    "ExternalForecasts",
    "Forecast",
    "Model",
    "ReferenceSolver",
    "Truth",
    "persistence",
]
