"""The findings of a benchmark in words: every sentence of a report that depends on the numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from microevo.benchmark.bootstrap import FEWEST, LEVEL, Interval, not_significant, single_runs
from microevo.benchmark.competitors import BASELINE, REFERENCE
from microevo.benchmark.leaderboard import SPREAD_SKILL, Leaderboard
from microevo.benchmark.results import ScoreTable

PERCENT = f"{100 * LEVEL:.0f} %"


@dataclass(frozen=True)
class Fact:
    """One finding in large print: a heading, the finding, and its details."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class Findings:
    """What the numbers of a protocol say, in words.

    Attributes:
        facts: The best model, its margin, its significance, its skill and its cost.
        notes: Sentences for below the leaderboard.
    """

    facts: list[Fact]
    notes: list[str]


def findings(board: Leaderboard, table: ScoreTable, cost: pd.DataFrame) -> Findings:
    """Put the findings of a protocol into words."""
    facts, notes = _comparison(board, table.record["horizon"], cost) if board.rmse.forecasters else ([], [])
    incomplete = [
        f"{label} is left out: {done} of its {len(table.windows)} forecasts are done; run the benchmark again to complete it."
        for label, done in table.incomplete.items()
    ]
    non_finite = [
        f"{row.name}: {row.non_finite} of {row.forecasts} forecasts are not finite (NaN, infinite, or too large to be squared). "
        "They are counted and not averaged away: a mean that would need them is NaN, and a model without a mean is not ranked."
        for row in board.standings
        if row.non_finite
    ]
    undefined = "; ".join(
        f"{title} ({', '.join(f'{name} {count}' for name, count in counts.items())})"
        for title, counts in board.undefined.items()
    )
    if undefined:
        undefined = (
            f"Not defined for some trajectories, so that there is no mean, although all frames are finite: {undefined}."
        )
    zero = ""
    if board.zero_frames:
        zero = (
            f"The truth is zero everywhere in {board.zero_frames} of {len(table.windows) * table.record['horizon']} target "
            "frames, for which a forecast that is not exact has an infinite relative L2, and so has its mean: compare RMSE."
        )
    return Findings(facts, [*incomplete, *notes, *_ensembles(board), *non_finite, *filter(None, [undefined, zero])])


def _comparison(board: Leaderboard, horizon: int, cost: pd.DataFrame) -> tuple[list[Fact], list[str]]:
    """The best model, its margin, whether that is significant, its skill and its cost; and what else there is to say."""
    samples = board.rmse
    means = {standing.name: samples.interval(standing.name) for standing in board.standings}
    ranked = [name for name in means if name != REFERENCE and math.isfinite(means[name].mean)]
    ranked.sort(key=lambda name: means[name].mean)
    if not ranked:
        return [], ["No model has forecasts that are finite throughout, so that there is no best one."]
    best, *others = ranked
    pairs = not_significant(samples)
    rivals = [name for name in others if (best, name) in pairs or (name, best) in pairs]
    known = samples.independent > 1
    over = f"over {horizon} lead times" if horizon > 1 else "at the only lead time"
    detail = f"mean RMSE {_interval(means[best], known)} {over}"
    if best == BASELINE:
        detail += "; no model is better than repeating the last frame"
    facts = [Fact("Best forecasts", best, detail)]
    if others:
        nearest = others[0]
        lower = {name: f"{100 * _reduction(means[best].mean, means[name].mean):.0f} %" for name in others}
        detail = f"in mean RMSE, which is {_number(means[nearest].mean)} for {nearest}"
        if BASELINE in others and nearest != BASELINE:
            detail += f"; {lower[BASELINE]} below {BASELINE}"
        facts.append(Fact("Margin", f"{lower[nearest]} below {nearest}", detail))
        difference = _interval(samples.difference(nearest, best), known)
        detail = f"RMSE of {nearest} minus that of {best}: {difference}, on the same trajectories"
        answer = "No" if rivals else "Yes"
        if not known:
            answer, detail = "Unknown", "a single trajectory is not a sample"
        elif samples.independent < FEWEST:
            answer, detail = "Unknown", f"{_too_few(samples.independent)}. {detail}"
        elif rivals:
            detail = f"no significant difference between {best} and {', '.join(rivals)}. {detail}"
        facts.append(Fact("Significant?", answer, detail))
    skill = next(standing.skill for standing in board.standings if standing.name == best)
    if skill is not None:
        facts.append(Fact("Skill score", _number(skill), f"1 − RMSE / RMSE of {BASELINE}, mean RMSE"))
    facts.append(_price(best, cost))
    all_known = all(math.isfinite(interval.mean) for interval in means.values())
    notes = [_significance(samples.independent, pairs, "" if all_known else " that have a mean")] if others else []
    ensembles = [standing.name for standing in board.standings if standing.members]
    if runs := [name for name in single_runs(samples) if name in ranked and name not in ensembles]:
        trained = "one training" if len(runs) == 1 else "one training each"
        notes.append(f"{', '.join(runs)}: {trained}. Intervals are over trajectories and say nothing of another seed.")
    return facts, notes


def _ensembles(board: Leaderboard) -> list[str]:
    """Whether the spread of each ensemble says how large its error is."""
    ratios = board.metric(SPREAD_SKILL.name)
    notes = []
    for row in board.standings:
        if ratios is None or row.members is None or not math.isfinite(ratios.curves[row.name].mean.mean):
            continue
        curve = ratios.curves[row.name]
        first, last = curve.at[0][[0, -1]]
        at = (
            f", {_number(first)} at lead 1 and {_number(last)} at lead {len(curve.at[0])}"
            if len(curve.at[0]) > 1
            else ""
        )
        verdict = "the interval contains 1: the spread tells how large the error is"
        if board.rmse.independent == 1:
            verdict = "a single trajectory does not tell more"
        elif curve.mean.high < 1:
            verdict = "over-confident, as the error is larger than the members' disagreement says"
        elif curve.mean.low > 1:
            verdict = "under-confident, as the error is smaller than the members' disagreement says"
        ratio = _interval(curve.mean, board.rmse.independent > 1)
        notes.append(f"{row.name}, {row.members} members: its spread is {ratio} times its error{at}; {verdict}.")
    return notes


def _significance(independent: int, pairs: Sequence[tuple[str, str]], which: str) -> str:
    """Which differences are significant."""
    if independent == 1:
        return "Only 1 trajectory: no intervals, and no difference is significant."
    if independent < FEWEST:
        return f"Only {_too_few(independent)}."
    if not pairs:
        return f"All models{which} differ significantly in mean RMSE: no {PERCENT} interval of a difference contains 0."
    listed = "; ".join(f"{a} and {b}" for a, b in pairs)
    return (
        f"No significant difference in mean RMSE (the {PERCENT} interval of the difference contains 0): {listed}. All other "
        f"pairs{which} differ significantly."
    )


def _too_few(independent: int) -> str:
    return f"{independent} trajectories: too few for a significant difference, which needs at least {FEWEST}"


def _price(name: str, cost: pd.DataFrame) -> Fact:
    """The time of a forecast, against the reference solver: that with equal accuracy if it was timed."""
    if cost.empty or "seconds" not in cost or name not in set(cost["competitor"]):
        return Fact("Cost", "Not measured", "")
    rows = cost.drop_duplicates("competitor").set_index("competitor")
    seconds = float(rows["seconds"][name])
    timed = (
        sorted({str(protocol) for protocol in cost["protocol"]})
        if "protocol" in cost
        else ["the protocol that was timed"]
    )
    detail = f"in {', '.join(timed)}"
    matched = cost[cost["matched_to"] == name] if "matched_to" in cost else cost.iloc[:0]
    solvers = matched if len(matched) else cost[cost["competitor"] == REFERENCE]
    if "device" in cost:
        detail += f", on {rows['device'][name]}"
    if len(solvers) and name != REFERENCE and seconds > 0:
        solver = solvers.iloc[0]
        ratio = float(solver["seconds"]) / seconds
        than, factor = ("faster", ratio) if ratio >= 1 else ("slower", 1 / ratio)
        which = "the reference solver" + " with the coarsest steps of equal accuracy" * bool(len(matched))
        detail = f"{_number(factor)} times {than} than {which}, {detail}"
        if "device" in cost and solver["device"] != rows["device"][name]:
            detail += f" against {solver['device']}"
    return Fact("Cost", f"{_time(seconds)} per forecast", detail)


def _interval(interval: Interval, known: bool = True) -> str:
    if not known:
        return _number(interval.mean)
    return f"{_number(interval.mean)} ({_number(interval.low)} to {_number(interval.high)})"


def _reduction(value: float, other: float) -> float:
    """By what share a value is below another one that is not lower."""
    return 1 - value / other if other > 0 else 0.0


def _time(seconds: float) -> str:
    return f"{_number(seconds)} s" if seconds >= 0.1 else f"{_number(1e3 * seconds)} ms"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}".replace("-", "\u2212")
