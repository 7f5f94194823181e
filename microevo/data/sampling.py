"""Parameters of a process that are sampled for each trajectory of a store."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from microevo.processes import Process, present_settings

ATTEMPTS = 1000  # sets of values per trajectory, none accepted, until its ranges are called impossible
# Keys of a recipe in earlier stores, and what they are called now.
RENAMED = {"draw": "sample", "drawn_share": "fraction_sampled", "redraw": "resample"}


@dataclass(frozen=True, kw_only=True)
class Range:
    """A parameter that is sampled for each trajectory.

    Args:
        low: Smallest value.
        high: Largest value.
        log: Sample the logarithm uniformly rather than the value itself.
        share: Share of the trajectories for which it is sampled; the others keep the value of the process.
    """

    low: float
    high: float
    log: bool = False
    share: float = 1.0

    def __post_init__(self) -> None:
        if not -math.inf < self.low <= self.high < math.inf or (self.log and self.low <= 0):
            raise ValueError(
                f"a parameter is sampled from low <= high (and 0 < low with log), but low is {self.low}, high {self.high}"
            )
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is a part of the trajectories, from 0 to 1, but it is {self.share}")

    def sample(self, generator: np.random.Generator) -> float:
        """One value."""
        if self.log:
            return float(np.exp(generator.uniform(np.log(self.low), np.log(self.high))))
        return float(generator.uniform(self.low, self.high))


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which parameters differ between the trajectories of a store, and how.

    Whether a parameter of trajectory `i` is sampled, and its value, depends on the seed, `i` and the parameter's name alone,
    so that one more parameter, or more trajectories, leave all other values as they were. With `resample`, which looks at
    all values of a trajectory together, that holds for the trajectories whose first values are accepted.

    Args:
        ranges: Range of each sampled parameter.
        fraction: Fraction of the trajectories that are sampled at all; the others keep every value of the process.
        resample: Where the process does not accept the values of a trajectory, sample all of them again, rather than stop. The
            values then fill the part of the ranges that the process allows; which trajectories are sampled stays the same.
    """

    ranges: Mapping[str, Range]
    fraction: float = 1.0
    resample: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"fraction_sampled is a part of the trajectories, from 0 to 1, but it is {self.fraction}")

    def described(self) -> dict[str, Any]:
        """As the recipe of a store has it.

        What is at its default is left out, as in the first recipes: stores that were begun before a setting existed are
        still recognised.
        """
        ranges = {name: asdict(limits) for name, limits in self.ranges.items()}
        for settings in ranges.values():
            if settings["share"] == 1:
                del settings["share"]
        fraction = {"fraction_sampled": self.fraction} if self.fraction != 1 else {}
        return {"sample": ranges} | fraction | ({"resample": True} if self.resample else {})

    def values(self, process: Process, seed: int, count: int) -> dict[str, np.ndarray]:
        """The value of each sampled parameter in each of `count` trajectories, all of them accepted by the process.

        Raises:
            ValueError: A name is not a parameter of the process, or the process does not accept the values of a trajectory.
        """
        # An unknown name is an error here, and nothing else can be: these are the process's own values.
        own = {name: [float(getattr(process, name, np.nan))] for name in self.ranges}
        process.vary(own)
        values = {name: np.full(count, value[0]) for name, value in own.items()}
        for i in range(count):
            self._sample(values, seed, i)
        rejected = [i for i in range(count) if not _accepts(process, values, [i])] if self.ranges else []
        if rejected and not self.resample:
            raise self._error(process, values, rejected)
        for i in rejected:
            for attempt in range(1, ATTEMPTS):
                self._sample(values, seed, i, attempt)
                if _accepts(process, values, [i]):
                    break
            else:
                raise self._error(process, values, [i])
        return values

    def _sample(self, values: Mapping[str, np.ndarray], seed: int, trajectory: int, attempt: int = 0) -> None:
        for name, limits in self.ranges.items():
            if self._is_sampled(seed, trajectory, name):
                values[name][trajectory] = limits.sample(_generator(seed, trajectory, name, attempt))

    def _is_sampled(self, seed: int, trajectory: int, name: str) -> bool:
        # No parameter has a space in its name, so that these random numbers are used for nothing else.
        for key, share in (("drawn share", self.fraction), (f"{name} share", self.ranges[name].share)):
            if share < 1 and _generator(seed, trajectory, key).random() >= share:
                return False
        return True

    def _error(self, process: Process, values: Mapping[str, np.ndarray], trajectories: Sequence[int]) -> ValueError:
        """Why the process does not accept the values of some trajectories: the reason for the first."""
        rows = [{name: float(column[i]) for name, column in values.items()} for i in trajectories]
        reason = _reason(process, rows[0])
        if not reason:
            # Accepted alone, they do not suit what all trajectories have in common, such as the time step: what would
            # suit this one and all others like it.
            alike = [row for row in rows if not _reason(process, row)]
            try:
                process.vary({name: [row[name] for row in alike] for name in values})
            except ValueError as error:
                reason = str(error)
        described = ", ".join(f"{name} {value:.6g}" for name, value in rows[0].items())
        times = f"{ATTEMPTS} times in vain, at last" if self.resample else "the values"
        remedy = "narrow the ranges of sample" + ("" if self.resample else ", or set resample to true")
        return ValueError(
            f"trajectory {trajectories[0]} samples {times} {described}, which {type(process).__name__} does not accept: "
            f"{reason}; {remedy}"
        )


def sampled(recipe: Mapping[str, Any]) -> list[str]:
    """Names of the parameters that were sampled for each trajectory of a store, from its recipe."""
    return list(in_present_words(recipe)["sample"])


def in_present_words(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a store with the names that this version writes."""
    renamed = {RENAMED.get(key, key): value for key, value in recipe.items()}
    process = renamed.get("process", {})
    if "init_args" in process:
        renamed["process"] = process | {"init_args": present_settings(**process)}
    return renamed


def _reason(process: Process, values: Mapping[str, Any]) -> str:
    """Why the process does not accept the values of a trajectory alone, in its own words."""
    try:
        replace(process, **values)
    except ValueError as error:
        return str(error)
    return ""


def _accepts(process: Process, values: Mapping[str, np.ndarray], trajectories: list[int]) -> bool:
    try:
        process.vary({name: column[trajectories] for name, column in values.items()})
    except ValueError:
        return False
    return True


def _generator(seed: int, trajectory: int, name: str, attempt: int = 0) -> np.random.Generator:
    # The name is part of the key, so that sampling one more parameter leaves the others as they were. No byte of a name
    # is above 255, as the number of a further attempt is.
    return np.random.default_rng([seed, trajectory, *name.encode(), *([255 + attempt] if attempt else [])])
