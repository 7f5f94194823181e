"""Competitors: the truth, trained models and ensembles of them, forecasts from files, and the solver that made the data."""

from microevo.benchmark.competitors.base import BASELINE, REFERENCE, TRUTH, Competitor, Forecast, Truth
from microevo.benchmark.competitors.ensemble import EnsembleForecasts
from microevo.benchmark.competitors.external import ExternalForecasts
from microevo.benchmark.competitors.model import Model, persistence
from microevo.benchmark.competitors.reference_solver import ReferenceSolver

__all__ = [
    "BASELINE",
    "REFERENCE",
    "TRUTH",
    "Competitor",
    "EnsembleForecasts",
    "ExternalForecasts",
    "Forecast",
    "Model",
    "ReferenceSolver",
    "Truth",
    "persistence",
]
