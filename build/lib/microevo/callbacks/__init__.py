"""What a run writes besides its weights, and how it goes on when it is interrupted."""

from microevo.callbacks.channels_last import ChannelsLast
from microevo.callbacks.checkpoints import SaveLast, SeedSteps, find_checkpoint, has_checkpoints
from microevo.callbacks.forecasts import ForecastWriter, ValidationFilmstrip
from microevo.callbacks.run import SaveRun
from microevo.callbacks.table import LeadTable
from microevo.callbacks.unrolling import Unrolling

__all__ = [
    "ChannelsLast",
    "ForecastWriter",
    "LeadTable",
    "SaveLast",
    "SaveRun",
    "SeedSteps",
    "Unrolling",
    "ValidationFilmstrip",
    "find_checkpoint",
    "has_checkpoints",
]
