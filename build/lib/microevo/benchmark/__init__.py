"""Who forecasts best, for how long it stays physical, and what it costs."""

from microevo.benchmark.entry import Entry, Model, load
from microevo.benchmark.evaluate import Evaluation, Scores
from microevo.benchmark.known_physics import KnownPhysics
from microevo.benchmark.protocol import Protocol
from microevo.benchmark.run import run
from microevo.benchmark.submitted import Submitted

__all__ = ["Entry", "Evaluation", "KnownPhysics", "Model", "Protocol", "Scores", "Submitted", "load", "run"]
