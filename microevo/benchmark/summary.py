"""Long table -> means with confidence intervals, and which models cannot be told apart.

Trajectories are what was drawn at random, so they are what the bootstrap draws again, the same ones for every model
(Efron & Tibshirani, An Introduction to the Bootstrap, 1993). Where a model was trained with several seeds, the seeds are
drawn again too. Windows of one trajectory are averaged first: they are not independent. Imported trajectories that were
cut from one simulation are drawn together, for the same reason. Of few samples the bootstrap's intervals are too narrow, so
that wider quantiles of it are taken (Hesterberg, Am. Stat. 69 (2015) 371: the expanded percentile interval).
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from microevo import plot
from microevo.benchmark.competitors import TRUTH
from microevo.benchmark.long_table import LongTable
from microevo.metrics import find, rows_of, shown

FLOOR, CEILING = plot.BASELINE, plot.REFERENCE
DRAWS = 2000
LEVEL = 0.95
# Simulations that can tell two models apart: of fewer, all differences have one sign by chance in more than 1 - LEVEL of cases.
FEWEST = 6
BOARD = (
    "protocol",
    "model",
    "metric",
    "lead",
    "mean",
    "low",
    "high",
    "seeds",
    "trajectories",
    "diverged",
    "censored",
)


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; all NaN if any forecast that it is a mean of is not finite."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Curves:
    """A metric of all models on one protocol: values by seed, trajectory and lead.

    Args:
        metric: Its name; of one that is a function of another's mean, as `rmse` is, the values of that one are read.
        models: Values of each model, (seeds, trajectories, leads), the same trajectories for all.
        groups: Which simulation each trajectory was cut from; all from their own unless given.
        windows: Forecasts of each trajectory, which its values are a mean of.
    """

    metric: str
    models: dict[str, Float[np.ndarray, "S N T"]]
    groups: tuple[int, ...] | None = None
    windows: int = 1

    @classmethod
    def read(cls, table: LongTable, protocol: str, metric: str, groups: Mapping[int, int] | None = None) -> "Curves":
        """The values of a metric.

        Args:
            table: The results.
            protocol: Which protocol.
            metric: Which metric.
            groups: Which simulation each trajectory was cut from, where that is known.

        Raises:
            ValueError: The models were not scored on the same trajectories and leads.
        """
        rows = table.read(protocol=protocol, metric=rows_of(metric))
        models: dict[str, np.ndarray] = {}
        index, count = None, 1
        for model, own in rows.groupby("model", observed=True, sort=False):
            seeds = []
            for _, one in own.groupby("seed", dropna=False, sort=True):
                windows = one.assign(value=one["value"].astype(np.float64)).groupby(["trajectory", "lead"])["value"]
                counted = windows.agg(["mean", "size", "count"])
                # pandas leaves NaN out of its mean; a forecast that is not finite must stay one
                grid = counted["mean"].where(counted["count"] == counted["size"]).unstack("lead")
                if index is None:
                    index = grid.index, grid.columns
                if not (grid.index.equals(index[0]) and grid.columns.equals(index[1])):
                    raise ValueError(
                        f"{model} was scored on other trajectories or leads of {protocol} than the rest; run the benchmark "
                        "again to complete it"
                    )
                seeds.append(grid.to_numpy(np.float64))
                count = int(counted["size"].max())
            models[str(model)] = np.stack(seeds)
        return cls(metric, models, tuple(groups[i] for i in index[0]) if groups and index else None, count)

    @property
    def forecasters(self) -> list[str]:
        """The models, without the truth."""
        return [name for name in self.models if name != TRUTH]

    @property
    def independent(self) -> int:
        """How many simulations the trajectories come from: as many as were drawn at random."""
        if self.groups is not None:
            return len(set(self.groups))
        return next((values.shape[1] for values in self.models.values()), 0)

    def mean(self, model: str) -> Float[np.ndarray, " T"]:
        """The mean at each lead, over seeds and trajectories."""
        return self._of_mean(self.models[model].mean(axis=(0, 1)))

    def band(self, model: str) -> Float[np.ndarray, "2 T"]:
        """Ends of the confidence interval of the mean at each lead."""
        return self._ends(self._of_mean(self._draws(model)), model)

    def interval(self, model: str, leads: Sequence[int] | None = None) -> Interval:
        """The mean over some leads (all unless given) with its confidence interval."""
        chosen = slice(None) if leads is None else np.asarray(leads) - 1
        mean = float(self.mean(model)[chosen].mean())
        if np.isinf(mean):  # the PSNR of an exact forecast
            return Interval(mean, mean, mean)
        low, high = self._ends(self._of_mean(self._draws(model))[:, chosen].mean(axis=1), model)
        return Interval(mean, float(low), float(high))

    def difference(self, one: str, other: str, leads: Sequence[int] | None = None) -> Interval:
        """Mean of one model minus that of another; an interval that holds 0 does not tell them apart."""
        chosen = slice(None) if leads is None else np.asarray(leads) - 1
        values = (self._of_mean(self._draws(one)) - self._of_mean(self._draws(other)))[:, chosen].mean(axis=1)
        mean = float((self.mean(one) - self.mean(other))[chosen].mean())
        low, high = self._ends(values, one, other)
        return Interval(mean, float(low), float(high))

    def _of_mean(self, values: np.ndarray) -> np.ndarray:
        known = find(self.metric)
        if known is None or known.of != "mean":
            return values
        trajectories = next(iter(self.models.values())).shape[1]
        return known.bound(forecasts=self.windows * trajectories).function(values)

    def _ends(self, draws: Float[np.ndarray, "draws ..."], *models: str) -> Float[np.ndarray, "2 ..."]:
        """Ends of the interval that the draws of some models give, for as many samples as these have at the least."""
        freedom = [self.independent - 1]
        spare = [len(self.models[model]) - 1 for model in models]
        if any(spare):  # seeds were drawn again
            freedom.append(sum(spare))
        # A value that was drawn, not one in between, which for the PSNR of exact forecasts would be inf - inf.
        return np.quantile(draws, expanded(min(freedom) + 1), axis=0, method="inverted_cdf")

    def _draws(self, model: str) -> Float[np.ndarray, "draws T"]:
        """Means of samples drawn again; the same trajectories for every model, seeds of each model on their own."""
        values = self.models[model]
        seeds, trajectories, _ = values.shape
        weights = _weights(DRAWS, self.groups or tuple(range(trajectories)), ())
        with np.errstate(invalid="ignore"):  # an infinite error that is not drawn is 0 * inf
            if seeds == 1:
                return weights @ values[0]
            by_seed = np.einsum("dn, snt -> dst", weights, values)
            return np.einsum("ds, dst -> dt", _weights(DRAWS, tuple(range(seeds)), tuple(model.encode())), by_seed)


@cache
def expanded(samples: int) -> tuple[float, float]:
    """Quantiles of bootstrap means between which the mean lies with the probability `LEVEL`, whatever the sample size."""
    if samples < 2:
        return 0.0, 1.0
    student = float(stats.t.ppf((1 + LEVEL) / 2, samples - 1))
    low = float(stats.norm.cdf(-math.sqrt(samples / (samples - 1)) * student))
    return low, 1 - low


@cache
def _weights(draws: int, groups: tuple[int, ...], key: tuple[int, ...]) -> Float[np.ndarray, "draws n"]:
    """How much each sample weighs in the mean of those drawn again; the samples of a group are drawn together."""
    _, member = np.unique(groups, return_inverse=True)
    count = int(member.max()) + 1
    drawn = np.random.default_rng(key).multinomial(count, [1 / count] * count, size=draws)[:, member]
    return drawn / drawn.sum(axis=1, keepdims=True)


def not_told_apart(curves: Curves, leads: Sequence[int] | None = None) -> list[tuple[str, str]]:
    """Pairs of models whose difference may be chance: all of them if there are fewer simulations than `FEWEST`.

    Models without a mean, since a forecast is not finite, are not compared.
    """
    names = [model for model in curves.forecasters if not math.isnan(curves.interval(model, leads).mean)]
    pairs = list(itertools.combinations(names, 2))
    if curves.independent < FEWEST:
        return pairs
    return [(a, b) for a, b in pairs if not _apart(curves.difference(a, b, leads))]


def single_runs(curves: Curves) -> list[str]:
    """Models that stand for one training only, though another seed would have made another one."""
    return [name for name in curves.forecasters if name not in (FLOOR, CEILING) and len(curves.models[name]) == 1]


@dataclass(frozen=True)
class Column:
    """What a report says of a metric, or of a physical quantity."""

    name: str
    title: str
    higher_is_better: bool = False
    whole: bool = False  # one number for a forecast, not one for each lead
    physical: bool = False
    value: bool = False  # of a physical quantity, which the truth has too; no error
    unit: str = "1"


def leaderboard(
    table: LongTable,
    protocol: str,
    horizon: int,
    leads: Sequence[int],
    metrics: Sequence[Column],
    groups: Mapping[int, int] | None = None,
) -> pd.DataFrame:
    """Means with their intervals, a row for each model, metric and lead.

    Args:
        table: The results.
        protocol: Which protocol.
        horizon: Its number of leads.
        leads: Leads to show; those beyond the horizon are left out. The mean over all leads has the lead 0.
        metrics: What to show, RMSE among it.
        groups: Which simulation each trajectory was cut from, where that is known.

    Returns:
        Columns `protocol`, `model`, `metric`, `lead`, `mean`, `low`, `high`, `seeds`, `trajectories` (those cut from one
        simulation count once), `diverged` (forecasts with a frame that is not finite), `censored` (share of forecasts whose
        correlation lasts beyond the last lead, so that the mean is larger), best mean RMSE first and the floor last.
        Physical quantities have rows for the truth too. No rows if no model has made all its forecasts.
    """
    if not Curves.read(table, protocol, "rmse").forecasters:
        return pd.DataFrame(columns=BOARD)
    lost = diverged(table, protocol)
    rows = []
    shown = [lead for lead in leads if lead <= horizon] or [horizon]
    for metric in metrics:
        curves = Curves.read(table, protocol, metric.name, groups)
        beyond = Curves.read(table, protocol, f"{metric.name}_censored", groups) if metric.whole else None
        censored = {model: float(beyond.mean(model)[0]) for model in beyond.models} if beyond else {}
        for model in curves.models if metric.value else curves.forecasters:
            seeds = len(curves.models[model])
            for lead in [0] if metric.whole else [0, *shown]:
                interval = curves.interval(model, [lead] if lead else None)
                same = {"protocol": protocol, "model": model, "metric": metric.name, "lead": lead}
                counts = {"seeds": seeds, "trajectories": curves.independent, "diverged": int(lost.get(model, 0))}
                share = {"censored": censored.get(model, 0.0)}
                rows.append(same | vars(interval) | counts | share)
    board = pd.DataFrame(rows, columns=BOARD)
    best = board[(board["metric"] == "rmse") & (board["lead"] == 0)].set_index("model")["mean"]
    place = best.rank(method="first", na_option="bottom") + (best.index == FLOOR) * 1e6
    return board.sort_values("model", key=lambda names: names.map(place), kind="stable", ignore_index=True)


def metrics_of(about: Mapping[str, Any]) -> list[Column]:
    """The metrics of a protocol, as `Results.about` describes it: pixels, correlation times, physical errors and values."""
    errors, values = [], []
    for quantity in about["quantities"]:
        title = quantity["long_name"]
        told = ", ".join(filter(None, (title, quantity.get("error_name"))))
        errors.append(Column(f"{quantity['name']} error", told, physical=True, unit=quantity["error_unit"]))
        if quantity.get("values", True) and "bins" not in quantity:
            values.append(Column(quantity["name"], title, value=True, unit=quantity["unit"]))
        if fit := quantity.get("fit"):
            values.append(Column(fit["name"], fit["name"].replace("_", " "), value=True, whole=True, unit=fit["unit"]))
    return pixel_columns(about) + errors + values


def pixel_columns(about: Mapping[str, Any]) -> list[Column]:
    """The pixel metrics of a protocol; those of modules that are not imported here come last."""
    columns = [Column(one.name, one.label, one.better == "higher", one.whole) for one in shown(about["pixel"])]
    described = {own["name"]: own for own in about.get("metrics", ())}
    for name in about["pixel"]:
        if find(name) is None:
            own = described.get(name, {"title": name, "better": "lower"})
            columns.append(Column(name, own["title"], own["better"] == "higher"))
    return columns


def title_of(metric: str) -> str:
    """Heading of a registered metric."""
    known = find(metric)
    return metric if known is None else known.label


def higher_is_better(metric: str) -> bool:
    """Whether that is so of a metric; not for names that are not registered."""
    known = find(metric)
    return known is not None and known.better == "higher"


def diverged(table: LongTable, protocol: str) -> pd.Series:
    """How many forecasts of each model hold a frame that is not finite."""
    rows = table.read(protocol=protocol, metric="finite")
    whole = rows.groupby(["model", "seed", "trajectory", "start"], observed=True, dropna=False)["value"].min()
    return (whole < 1).groupby(level="model", observed=True).sum()


def undefined(quantities: Sequence[Mapping[str, Any]], curves_of: Callable[[str], Curves]) -> dict[str, dict[str, int]]:
    """Trajectories whose forecasts are finite, but have no value of a quantity at some lead: no tip, no grain.

    Args:
        quantities: The physical quantities, as `Results.about` describes them.
        curves_of: The values of a metric.

    Returns:
        For each quantity, by title, how many trajectories of each model, over seeds, if there are any. Those that no model
        has a value for count for the truth alone, which then has none either.
    """
    finite = curves_of("finite").models
    metrics = {}
    for quantity in quantities:
        metrics[quantity["long_name"]] = f"{quantity['name']} error"
        if fit := quantity.get("fit"):
            metrics[fit["name"].replace("_", " ")] = fit["name"]
    told = {}
    for title, metric in metrics.items():
        missing = {model: np.isnan(values).any(axis=2) for model, values in curves_of(metric).models.items()}
        if missing:
            common = np.logical_and.reduce([gap.all(axis=0) for gap in missing.values()])
            counts = {TRUTH: int(missing[TRUTH].any(axis=0).sum() if TRUTH in missing else common.sum())}
            for model, gap in missing.items():
                if model != TRUTH:
                    counts[model] = int((gap & ~common & (finite[model] >= 1).all(axis=2)).sum())
            told[title] = {model: count for model, count in counts.items() if count}
    return {title: counts for title, counts in told.items() if counts}


def _apart(difference: Interval) -> bool:
    return difference.low > 0 or difference.high < 0  # with NaN neither holds: nothing is known
