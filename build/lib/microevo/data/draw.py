"""Parameters of a process drawn for each trajectory of a store."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from microevo.processes import Process

REDRAWS = 1000  # sets of values per trajectory, all refused, until its ranges are called impossible
CHECKED_AT_ONCE = 256  # trajectories; bounds the memory of a process that tabulates something for each


@dataclass(frozen=True, kw_only=True)
class Range:
    """A parameter drawn for each trajectory.

    Args:
        low: Smallest value.
        high: Largest value.
        log: Draw the logarithm uniformly rather than the value itself.
        share: Share of the trajectories for which it is drawn; the others keep the value of the process.
    """

    low: float
    high: float
    log: bool = False
    share: float = 1.0

    def __post_init__(self) -> None:
        if not -math.inf < self.low <= self.high < math.inf or (self.log and self.low <= 0):
            raise ValueError(
                f"a parameter is drawn from low <= high (and 0 < low with log), but low is {self.low}, high {self.high}"
            )
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is a part of the trajectories, from 0 to 1, but it is {self.share}")

    def draw(self, generator: np.random.Generator) -> float:
        """One value."""
        if self.log:
            return float(np.exp(generator.uniform(np.log(self.low), np.log(self.high))))
        return float(generator.uniform(self.low, self.high))


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Which parameters differ between the trajectories of a store, and how.

    Whether trajectory `i` draws a parameter, and what, depends on the seed, `i` and the parameter's name alone, so that
    one more parameter, or more trajectories, leave all other values as they were. With `redraw`, which looks at all
    values of a trajectory together, that holds for the trajectories whose first values are not refused.

    Args:
        ranges: Range of each drawn parameter.
        share: Share of the trajectories that draw at all; the others keep every value of the process.
        redraw: Where the process refuses the values of a trajectory, draw all of them again, rather than stop. What
            is drawn then fills the part of the ranges that the process allows; who draws stays the same.
    """

    ranges: Mapping[str, Range]
    share: float = 1.0
    redraw: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"drawn_share is a part of the trajectories, from 0 to 1, but it is {self.share}")

    def described(self) -> dict[str, Any]:
        """As the recipe of a store has it.

        What is at its default is left out, other than in the first recipes: stores begun before it could be set are
        still recognised.
        """
        ranges = {name: asdict(limits) for name, limits in self.ranges.items()}
        for settings in ranges.values():
            if settings["share"] == 1:
                del settings["share"]
        shared = {"drawn_share": self.share} if self.share != 1 else {}
        return {"draw": ranges} | shared | ({"redraw": True} if self.redraw else {})

    def values(self, process: Process, seed: int, count: int) -> dict[str, np.ndarray]:
        """The value of each drawn parameter in each of `count` trajectories, all of them accepted by the process.

        Raises:
            ValueError: A name is no parameter of the process, or the process refuses the values of a trajectory.
        """
        # A stranger is refused here, by name, and nothing else can be: these are the process's own values.
        own = {name: [float(getattr(process, name, np.nan))] for name in self.ranges}
        process.with_parameters(own)
        values = {name: np.full(count, value[0]) for name, value in own.items()}
        for i in range(count):
            self._draw(values, seed, i)
        refused = _refused(process, values, range(count)) if self.ranges else []
        if refused and not self.redraw:
            raise self._complaint(process, values, refused)
        for i in refused:
            for attempt in range(1, REDRAWS):
                self._draw(values, seed, i, attempt)
                if not _refused(process, values, [i]):
                    break
            else:
                raise self._complaint(process, values, [i])
        return values

    def _draw(self, values: Mapping[str, np.ndarray], seed: int, trajectory: int, attempt: int = 0) -> None:
        for name, limits in self.ranges.items():
            if self._is_drawn(seed, trajectory, name):
                values[name][trajectory] = limits.draw(_generator(seed, trajectory, name, attempt))

    def _is_drawn(self, seed: int, trajectory: int, name: str) -> bool:
        # No parameter has a space in its name, so that these numbers are of nobody else.
        for key, share in (("drawn share", self.share), (f"{name} share", self.ranges[name].share)):
            if share < 1 and _generator(seed, trajectory, key).random() >= share:
                return False
        return True

    def _complaint(self, process: Process, values: Mapping[str, np.ndarray], trajectories: Sequence[int]) -> ValueError:
        """Why the process refuses the values of some trajectories: that of the first."""
        plain = [{name: float(column[i]) for name, column in values.items()} for i in trajectories]
        reason = _reason(process, plain[0])
        if not reason:
            # Accepted alone, they do not suit what all trajectories have in common, such as the time step: what would
            # suit this one and all others like it.
            alike = [one for one in plain if not _reason(process, one)]
            try:
                process.with_parameters({name: [one[name] for one in alike] for name in values})
            except ValueError as error:
                reason = str(error)
        described = ", ".join(f"{name} {value:.6g}" for name, value in plain[0].items())
        times = f"{REDRAWS} times in vain, at last" if self.redraw else "the values"
        remedy = "narrow the ranges of draw" + ("" if self.redraw else ", or set redraw to true")
        return ValueError(
            f"trajectory {trajectories[0]} draws {times} {described}, which {type(process).__name__} refuses: {reason}; "
            f"{remedy}"
        )


def _reason(process: Process, values: Mapping[str, Any]) -> str:
    """Why the process refuses the values of a trajectory alone, in its own words with plain numbers in them."""
    try:
        replace(process, **values)
    except ValueError as error:
        return str(error)
    return ""


def _refused(process: Process, values: Mapping[str, np.ndarray], trajectories: Sequence[int]) -> list[int]:
    """Those of `trajectories` whose values the process refuses, in order."""
    if len(trajectories) > CHECKED_AT_ONCE:
        parts = range(0, len(trajectories), CHECKED_AT_ONCE)
        return [i for k in parts for i in _refused(process, values, trajectories[k : k + CHECKED_AT_ONCE])]
    try:
        if trajectories:
            process.with_parameters({name: column[list(trajectories)] for name, column in values.items()})
    except ValueError:
        if len(trajectories) == 1:
            return list(trajectories)
        half = len(trajectories) // 2
        return _refused(process, values, trajectories[:half]) + _refused(process, values, trajectories[half:])
    return []


def _generator(seed: int, trajectory: int, name: str, attempt: int = 0) -> np.random.Generator:
    # The name is part of the key, so that drawing one more parameter leaves the others as they were. No byte of a name
    # is above 255, as the number of a further attempt is.
    return np.random.default_rng([seed, trajectory, *name.encode(), *([255 + attempt] if attempt else [])])
