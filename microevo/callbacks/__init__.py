"""What a run writes besides its weights."""

from microevo.callbacks.forecasts import ForecastWriter, ValidationFilmstrip
from microevo.callbacks.run import SaveOnInterrupt, SaveRun, SeedEpochs, free_path
from microevo.callbacks.table import LeadTable

__all__ = [
    "ForecastWriter",
    "LeadTable",
    "SaveOnInterrupt",
    "SaveRun",
    "SeedEpochs",
    "ValidationFilmstrip",
    "free_path",
]
