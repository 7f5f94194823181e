"""The averaged scores of a protocol: means with their intervals, the ranking, and one table of all of it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from microevo.benchmark.bootstrap import Interval, Samples
from microevo.benchmark.competitors import BASELINE, TRUTH
from microevo.benchmark.long_table import FINITE, Key
from microevo.benchmark.results import ScoreTable
from microevo.metrics import Metric, find, registered, shown, spread_skill, unit_for

RMSE, MSE, MAE = Key("metric", "rmse"), Key("metric", "mse"), Key("metric", "mae")
CRPS, SQUARED_SPREAD = Key("metric", "crps"), Key("metric", "squared_spread")
SPREAD_SKILL = Key("metric", "spread_skill")
SUMMARY = (
    "protocol",
    "competitor",
    "kind",
    "name",
    "statistic",
    "lead",
    "mean",
    "low",
    "high",
    "seeds",
    "trajectories",
    "non_finite",
    "censored",
)


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric, or the value or the error of a physical quantity, with what a reader has to know of it.

    Attributes:
        key: Which number it is.
        title: What it is, in words.
        unit: Its unit, `1` if it has none.
        better: Whether a lower or a higher value is better; None for values that the truth has too.
        whole: Whether it is one number for a whole forecast, and not one for each lead time.
    """

    key: Key
    title: str
    unit: str = "1"
    better: Literal["lower", "higher"] | None = "lower"
    whole: bool = False

    @property
    def label(self) -> str:
        """The title with its unit, for a heading or an axis."""
        return self.title if self.unit == "1" else f"{self.title} [{self.unit}]"

    def best(self, means: Mapping[str, float]) -> float:
        """The best of some means, NaN if there is none."""
        known = [mean for mean in means.values() if not math.isnan(mean)]
        return (max if self.better == "higher" else min)(known, default=math.nan)


@dataclass(frozen=True)
class Curve:
    """One score of one competitor.

    Attributes:
        mean: Mean over all lead times, or of the whole forecast.
        at: Mean and ends of its interval at each lead time.
        at_leads: Mean with its interval at the lead times of the tables.
        seeds: Number of trainings.
        censored: Share of forecasts whose value is only a lower bound.
    """

    mean: Interval
    at: Float[np.ndarray, "3 T"]
    at_leads: dict[int, Interval]
    seeds: int
    censored: float = 0.0


@dataclass(frozen=True)
class ScoreCurves:
    """One score of all competitors that have it."""

    score: Score
    curves: dict[str, Curve]

    @classmethod
    def of(
        cls, score: Score, samples: Samples, leads: Sequence[int] = (), censored: Mapping[str, float] | None = None
    ) -> "ScoreCurves":
        """Average the samples of a score; the truth has values, but no errors."""
        names = list(samples.values) if score.better is None else samples.forecasters
        return cls(
            score,
            {
                name: Curve(
                    samples.interval(name),
                    np.stack([samples.mean(name), *samples.band(name)]),
                    {} if score.whole else {lead: samples.interval(name, [lead]) for lead in leads},
                    len(samples.values[name]),
                    (censored or {}).get(name, 0.0),
                )
                for name in names
            },
        )


@dataclass(frozen=True)
class Bins:
    """The axis of a distribution or a spectrum, and means with their intervals.

    Attributes:
        title: What runs along the axis.
        unit: Its unit, `1` if it has none.
        middles: Middle of each bin.
        leads: Lead times at which there are values.
        curves: Mean and ends of its interval of each competitor, for each bin and lead time.
    """

    title: str
    unit: str
    middles: list[float]
    leads: list[int]
    curves: dict[str, Float[np.ndarray, "3 K L"]]


@dataclass(frozen=True)
class QuantityScores:
    """A physical quantity of the truth and of the forecasts.

    Attributes:
        title: What it is, in words.
        unit: Its unit, `1` if it has none.
        values: Values against lead time; of a distribution, and of what compares two frames, there are none.
        errors: Distances from the truth's values.
        bins: Values of a distribution or a spectrum.
        fit: The number for the whole curve over time.
    """

    title: str
    unit: str
    values: ScoreCurves | None
    errors: ScoreCurves
    bins: Bins | None = None
    fit: ScoreCurves | None = None


@dataclass(frozen=True)
class Standing:
    """One row of a leaderboard.

    Attributes:
        name: The competitor.
        seeds: Number of trainings.
        forecasts: Number of its forecasts.
        non_finite: How many of them have a frame that is not finite.
        skill: Skill score, 1 - RMSE / RMSE of persistence; None where it is not known.
        members: Number of members of an ensemble; None for other competitors.
    """

    name: str
    seeds: int
    forecasts: int
    non_finite: int
    skill: float | None
    members: int | None = None


@dataclass(frozen=True)
class Leaderboard:
    """All averaged scores of a protocol.

    Attributes:
        protocol: Name of the protocol.
        leads: Lead times of the tables.
        standings: Rows, best mean RMSE first, those without a mean behind them, and the baseline last.
        metrics: Metrics of pixels, RMSE first.
        quantities: Physical quantities.
        rmse: Samples of the RMSE, for comparisons.
        ensembles: What is measured on the members of ensembles; nothing where there are none. CRPS is of all forecasts, since
            that of a single one is its mean absolute error.
        undefined: See `undefined`.
        zero_frames: See `zero_frames`.
    """

    protocol: str
    leads: list[int]
    standings: list[Standing]
    metrics: list[ScoreCurves]
    quantities: list[QuantityScores]
    rmse: Samples
    ensembles: list[ScoreCurves] = field(default_factory=list)
    undefined: dict[str, dict[str, int]] = field(default_factory=dict)
    zero_frames: int = 0

    @classmethod
    def of(cls, protocol: str, table: ScoreTable, leads: Sequence[int]) -> "Leaderboard":
        """Average the scores of a protocol."""
        horizon = table.record["horizon"]
        leads = [lead for lead in leads if lead <= horizon] or [horizon]
        rmse = table.samples(RMSE)
        metrics = [_curves(table, score, leads) for score in metric_scores(table.record) if table.has(score.key)]
        quantities = [_quantity(table, quantity, leads) for quantity in table.record["quantities"]]
        means = {name: rmse.interval(name).mean for name in rmse.forecasters}
        standings = []
        for name in table.names:
            seeds = sum(competitor["name"] == name for competitor in table.competitors)
            skill = _skill(name, means)
            members = table.members.get(name)
            standing = Standing(name, seeds, seeds * len(table.windows), table.non_finite(name), skill, members)
            standings += [standing] if name != TRUTH else []
        standings.sort(key=lambda standing: _place(standing.name, means.get(standing.name, math.nan)))
        known = [quantity for quantity in quantities if quantity is not None]
        ensembles = _ensembles(table, leads)
        return cls(protocol, leads, standings, metrics, known, rmse, ensembles, undefined(table), zero_frames(table))

    def metric(self, name: str) -> ScoreCurves | None:
        """The metric of a name, None if it was not computed."""
        return next((metric for metric in (*self.metrics, *self.ensembles) if metric.score.key.name == name), None)

    @property
    def scores(self) -> list[ScoreCurves]:
        """All scores: metrics, those of ensembles, errors of physical quantities, and values that the truth has too."""
        errors = [quantity.errors for quantity in self.quantities if quantity.errors.curves]
        values = [part for quantity in self.quantities for part in (quantity.values, quantity.fit) if part is not None]
        return [*self.metrics, *self.ensembles, *errors, *values]

    def summary(self) -> pd.DataFrame:
        """A row for each competitor, score and lead time; the columns are typed as those of the long table.

        Column `statistic` says what the mean is over: `mean over leads`, `at lead` (with the column `lead`) or `whole
        forecast`. `trajectories` counts those cut from one simulation once, `non_finite` the forecasts with a frame that is
        not finite, and `censored` is the share of forecasts whose value is only a lower bound. No rows if no model has made
        all its forecasts.
        """
        rows: list[dict[str, Any]] = []
        non_finite = {standing.name: standing.non_finite for standing in self.standings}
        order = [*non_finite, TRUTH]
        for curves in self.scores if self.rmse.forecasters else []:
            for name in sorted(curves.curves, key=order.index):
                curve = curves.curves[name]
                over = [("whole forecast" if curves.score.whole else "mean over leads", None, curve.mean)]
                over += [("at lead", lead, interval) for lead, interval in curve.at_leads.items()]
                for statistic, lead, interval in over:
                    rows.append(
                        {"protocol": self.protocol, "competitor": name, "statistic": statistic, "lead": lead}
                        | {"kind": curves.score.key.kind, "name": curves.score.key.name}
                        | {"mean": interval.mean, "low": interval.low, "high": interval.high}
                        | {"seeds": curve.seeds, "trajectories": self.rmse.independent, "censored": curve.censored}
                        | {"non_finite": non_finite.get(name, 0)}
                    )
        return pd.DataFrame(rows, columns=SUMMARY).astype({"lead": "Int64"})


def metric_scores(record: Mapping[str, Any]) -> list[Score]:
    """The metrics that follow from those of frames in the record of a protocol."""
    scores = [_score(metric) for metric in shown([metric["name"] for metric in record["metrics"]])]
    for metric in record["metrics"]:
        if find(metric["name"]) is None:  # its module is not imported here
            key = Key("metric", metric["name"])
            scores.append(Score(key=key, title=metric["title"], unit=metric["unit"], better=metric["better"]))
    return _in_units(scores, record)


def undefined(table: ScoreTable) -> dict[str, dict[str, int]]:
    """Trajectories whose forecasts are finite, but for which a quantity is not defined at some lead: no tip, no grain.

    Returns:
        For each quantity, by title, the number of trajectories of each competitor, over seeds, if there are any. Those for
        which no competitor has a value count for the truth alone, which then has none either.
    """
    finite = table.samples(FINITE).values
    keys = {}
    for quantity in table.record["quantities"]:
        keys[quantity["title"]] = Key("quantity_error", quantity["name"])
        if fit := quantity.get("fit"):
            keys[_fit_title(fit)] = Key("fit", fit["name"])
    found = {}
    for title, key in keys.items():
        missing = {name: np.isnan(values).any(axis=2) for name, values in table.samples(key).values.items()}
        if missing:
            common = np.logical_and.reduce([gap.all(axis=0) for gap in missing.values()])
            counts = {TRUTH: int(missing[TRUTH].any(axis=0).sum() if TRUTH in missing else common.sum())}
            for name, gap in missing.items():
                if name != TRUTH:
                    counts[name] = int((gap & ~common & (finite[name] >= 1).all(axis=2)).sum())
            found[title] = {name: count for name, count in counts.items() if count}
    return {title: counts for title, counts in found.items() if counts}


def zero_frames(table: ScoreTable) -> int:
    """Number of target frames in which a forecast has an infinite relative L2, because the truth is zero everywhere."""
    key = Key("metric", "relative_l2")
    blocks = [block for competitor in table.competitors if (block := table.block(competitor["label"], key)) is not None]
    return int(np.logical_or.reduce([np.isinf(block.values) for block in blocks]).sum()) if blocks else 0


def _score(metric: Metric) -> Score:
    key = Key("metric", metric.name)
    return Score(key=key, title=metric.title, unit=metric.unit, better=metric.better, whole=metric.whole)


def _in_units(scores: Iterable[Score], record: Mapping[str, Any]) -> list[Score]:
    """Scores in the unit that the fields of a protocol have."""
    units = record.get("units", {}).values()
    return [replace(score, unit=unit_for(score.unit, units)) for score in scores]


def _ensembles(table: ScoreTable, leads: Sequence[int]) -> list[ScoreCurves]:
    """The scores of ensembles, and their spread-skill ratio, which follows from two means."""
    names = [
        metric.name for metric in registered() if metric.of == "ensemble" and table.has(Key("metric", metric.name))
    ]
    samples = {score: table.samples(score.key) for score in _in_units(map(_score, shown(names)), table.record)}
    for score, measured in samples.items():
        if score.key == CRPS:
            samples[score] = Samples(table.samples(MAE).values | measured.values, measured.groups)
    if table.has(SQUARED_SPREAD):
        both = table.samples(SQUARED_SPREAD, MSE)  # beside each other
        values = {name: both.values[name] for name in table.samples(SQUARED_SPREAD).values}
        score = Score(key=SPREAD_SKILL, title="spread-skill ratio", better=None)
        samples[score] = Samples(values, both.groups, lambda means: spread_skill(*np.split(means, 2, axis=-1)))
    return [ScoreCurves.of(score, measured, leads) for score, measured in samples.items()]


def _curves(table: ScoreTable, score: Score, leads: Sequence[int]) -> ScoreCurves:
    return ScoreCurves.of(score, table.samples(score.key), leads, table.censored(score.key))


def _quantity(table: ScoreTable, record: Mapping[str, Any], leads: Sequence[int]) -> QuantityScores | None:
    """The scores of a physical quantity, None if the results have none."""
    name, title = record["name"], record["title"]
    error = Score(key=Key("quantity_error", name), title=record["error_title"], unit=record["error_unit"])
    value = Score(key=Key("quantity", name), title=title, unit=record["unit"], better=None)
    if not table.has(error.key, value.key, Key("quantity", name, 0)):
        return None
    values = bins = fit = None
    if record["values"] and "bins" not in record and table.has(value.key):
        values = _curves(table, value, leads)
    if "bins" in record:
        keys = [Key("quantity", name, k) for k in range(len(record["bins"]["middles"]))]
        samples = table.samples(*keys)  # bins beside each other in place of lead times: one bootstrap for all of them
        curves = {
            label: np.stack([samples.mean(label), *samples.band(label)]).reshape(3, len(keys), -1)
            for label in samples.values
        }
        bins = Bins(**record["bins"], leads=table.leads(keys[0]), curves=curves)
    if "fit" in record and table.has(Key("fit", record["fit"]["name"])):
        key = Key("fit", record["fit"]["name"])
        score = Score(key=key, title=_fit_title(record["fit"]), unit=record["fit"]["unit"], better=None, whole=True)
        fit = _curves(table, score, leads)
    return QuantityScores(title, record["unit"], values, _curves(table, error, leads), bins, fit)


def _fit_title(fit: Mapping[str, str]) -> str:
    return fit["name"].replace("_", " ")


def _skill(name: str, rmse: Mapping[str, float]) -> float | None:
    """1 - RMSE / RMSE of persistence; None for persistence itself and where it is not defined."""
    baseline = rmse.get(BASELINE, math.nan)
    skill = 1 - rmse.get(name, math.nan) / baseline if baseline > 0 else math.nan
    return skill if name != BASELINE and math.isfinite(skill) else None


def _place(name: str, rmse: float) -> tuple[bool, bool, float]:
    return name == BASELINE, not math.isfinite(rmse), rmse
