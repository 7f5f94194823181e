"""How a run trains, and what it writes: checkpoints to resume from, forecasts, tables, and a record of itself."""

from microevo.callbacks.channels_last import ChannelsLast
from microevo.callbacks.checkpoints import SaveLast, SeedSteps, find_checkpoint, has_checkpoints
from microevo.callbacks.curves import LeadCurves
from microevo.callbacks.forecasts import ForecastWriter, ValidationFilmstrip
from microevo.callbacks.input_noise import InputNoise
from microevo.callbacks.lineage import Lineage
from microevo.callbacks.run import SaveRun
from microevo.callbacks.table import LeadTable
from microevo.callbacks.throughput import Throughput
from microevo.callbacks.unrolling import Unrolling
from microevo.callbacks.validation_log import ValidationLog

__all__ = [
    "ChannelsLast",
    "ForecastWriter",
    "InputNoise",
    "LeadCurves",
    "LeadTable",
    "Lineage",
    "SaveLast",
    "SaveRun",
    "SeedSteps",
    "Throughput",
    "Unrolling",
    "ValidationFilmstrip",
    "ValidationLog",
    "find_checkpoint",
    "has_checkpoints",
]
