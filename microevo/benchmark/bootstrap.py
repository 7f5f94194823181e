"""Means with confidence intervals, and which models differ significantly.

Trajectories are the random sample, so the bootstrap resamples trajectories, the same ones for every model (Efron &
Tibshirani, An Introduction to the Bootstrap, 1993). Where a model was trained with several seeds, the seeds are resampled
too. Windows of one trajectory are averaged first, because they are not independent. Imported trajectories that were cut from
one simulation are resampled together, for the same reason. For small samples the bootstrap's intervals are too narrow, so
that wider quantiles of it are taken (Hesterberg, Am. Stat. 69 (2015) 371: the expanded percentile interval).
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from jaxtyping import Float
from scipy import stats

from microevo.benchmark.competitors import BASELINE, REFERENCE, TRUTH

RESAMPLES = 2000
LEVEL = 0.95
# Independent simulations below which no two models differ significantly: all differences then have one sign by chance in
# more than 1 - LEVEL of the cases.
FEWEST = 6


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; all NaN if a forecast that enters the mean is not finite."""

    mean: float
    low: float
    high: float


def identity(mean: np.ndarray) -> np.ndarray:
    """The mean itself."""
    return mean


@dataclass(frozen=True)
class Samples:
    """One score of all competitors on one protocol, for means and their intervals.

    Args:
        values: Values of each competitor, (seeds, trajectories, leads), the same trajectories for all.
        groups: The simulation that each trajectory was cut from; each from its own unless given.
        of_mean: What is shown of a mean of the values, for instance its root.
    """

    values: dict[str, Float[np.ndarray, "S N T"]]
    groups: tuple[int, ...] | None = None
    of_mean: Callable[[np.ndarray], np.ndarray] = identity
    _resampled: dict[str, Float[np.ndarray, "resamples T"]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def forecasters(self) -> list[str]:
        """The competitors, without the truth."""
        return [name for name in self.values if name != TRUTH]

    @property
    def independent(self) -> int:
        """Number of independent simulations that the trajectories come from."""
        if self.groups is not None:
            return len(set(self.groups))
        return next((values.shape[1] for values in self.values.values()), 0)

    def mean(self, name: str) -> Float[np.ndarray, " T"]:
        """The mean at each lead time, over seeds and trajectories."""
        return self.of_mean(self.values[name].mean(axis=(0, 1)))

    def band(self, name: str) -> Float[np.ndarray, "2 T"]:
        """Ends of the confidence interval of the mean at each lead time."""
        return self._ends(self._resample(name), name)

    def interval(self, name: str, leads: Sequence[int] | None = None) -> Interval:
        """The mean over some lead times (all unless given) with its confidence interval."""
        chosen = slice(None) if leads is None else np.asarray(leads) - 1
        mean = float(self.mean(name)[chosen].mean())
        if np.isinf(mean):  # the PSNR of an exact forecast
            return Interval(mean, mean, mean)
        low, high = self._ends(self._resample(name)[:, chosen].mean(axis=1), name)
        return Interval(mean, float(low), float(high))

    def difference(self, name: str, other: str) -> Interval:
        """Mean of one competitor minus that of another, over all lead times and on the same trajectories."""
        resampled = (self._resample(name) - self._resample(other)).mean(axis=1)
        low, high = self._ends(resampled, name, other)
        return Interval(float((self.mean(name) - self.mean(other)).mean()), float(low), float(high))

    def _ends(self, resampled: Float[np.ndarray, "resamples ..."], *names: str) -> Float[np.ndarray, "2 ..."]:
        """Ends of the interval of resampled means, for the smaller of the samples that they are means of."""
        freedom = [self.independent - 1]
        spare = [len(self.values[name]) - 1 for name in names]
        if any(spare):  # seeds were resampled
            freedom.append(sum(spare))
        # A mean that was found, not one in between, which for the PSNR of exact forecasts would be inf - inf.
        return np.quantile(resampled, expanded(min(freedom) + 1), axis=0, method="inverted_cdf")

    def _resample(self, name: str) -> Float[np.ndarray, "resamples T"]:
        """What is shown of resampled means: the same trajectories for every competitor, seeds of each on their own."""
        if name not in self._resampled:
            values = self.values[name]
            seeds, trajectories, _ = values.shape
            weights = _weights(RESAMPLES, self.groups or tuple(range(trajectories)), ())
            with np.errstate(invalid="ignore"):  # an infinite error with the weight 0 is 0 * inf
                if seeds == 1:
                    means = weights @ values[0]
                else:
                    by_seed = np.einsum("dn, snt -> dst", weights, values)
                    of_seeds = _weights(RESAMPLES, tuple(range(seeds)), tuple(name.encode()))
                    means = np.einsum("ds, dst -> dt", of_seeds, by_seed)
            self._resampled[name] = self.of_mean(means)
        return self._resampled[name]


@cache
def expanded(samples: int) -> tuple[float, float]:
    """Quantiles of bootstrap means that enclose the mean with the probability `LEVEL`, whatever the sample size."""
    if samples < 2:
        return 0.0, 1.0
    student = float(stats.t.ppf((1 + LEVEL) / 2, samples - 1))
    low = float(stats.norm.cdf(-math.sqrt(samples / (samples - 1)) * student))
    return low, 1 - low


@cache
def _weights(resamples: int, groups: tuple[int, ...], key: tuple[int, ...]) -> Float[np.ndarray, "resamples n"]:
    """The weight of each sample in each resampled mean; the samples of a group are resampled together."""
    _, member = np.unique(groups, return_inverse=True)
    count = int(member.max()) + 1
    counts = np.random.default_rng(key).multinomial(count, [1 / count] * count, size=resamples)[:, member]
    return counts / counts.sum(axis=1, keepdims=True)


def not_significant(samples: Samples) -> list[tuple[str, str]]:
    """Pairs whose difference is not significant: all of them if there are fewer simulations than `FEWEST`.

    Competitors without a mean, because a forecast is not finite, are not compared.
    """
    names = [name for name in samples.forecasters if not math.isnan(samples.interval(name).mean)]
    pairs = list(itertools.combinations(names, 2))
    if samples.independent < FEWEST:
        return pairs
    return [(a, b) for a, b in pairs if not _excludes_zero(samples.difference(a, b))]


def single_runs(samples: Samples) -> list[str]:
    """Models of which there is one training only, although another seed would have given another model."""
    return [
        name for name in samples.forecasters if name not in (BASELINE, REFERENCE) and len(samples.values[name]) == 1
    ]


def _excludes_zero(difference: Interval) -> bool:
    return difference.low > 0 or difference.high < 0  # with NaN neither holds: nothing is known
