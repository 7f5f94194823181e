"""The answer in words: who is best, by how much, whether that is certain, and what it costs."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from microevo.benchmark.known_physics import NO_WORSE
from microevo.benchmark.summary import CEILING, FEWEST, FLOOR, LEVEL, Curves, Interval, not_told_apart, single_runs


def verdict(
    curves: Curves, means: Mapping[str, Interval], order: Sequence[str], horizon: int, cost: pd.DataFrame
) -> tuple[list[dict[str, str]], list[str]]:
    """Who is best, by how much, whether that is certain and what it costs; and what else there is to say."""
    ranked = [model for model in order if model != CEILING and math.isfinite(means[model].mean)]
    ranked.sort(key=lambda model: means[model].mean)
    if not ranked:
        return [], ["No model has forecasts that are finite throughout, so that there is no best one."]
    best, *others = ranked
    trajectories = curves.independent
    certain = trajectories > 1
    enough = trajectories >= FEWEST
    unsure = not_told_apart(curves)
    rivals = [model for model in others if (best, model) in unsure or (model, best) in unsure]
    over = f"over {horizon} leads" if horizon > 1 else "at the only lead"
    facts = [
        {"label": "Best forecasts", "value": best, "detail": f"mean RMSE {_interval(means[best], certain)} {over}"}
    ]
    if best == FLOOR:
        facts[0]["detail"] += "; no model beats repeating the last frame"
    if others:
        nearest = others[0]
        lower = {model: f"{100 * _below(means[best].mean, means[model].mean):.0f} %" for model in others}
        detail = f"in mean RMSE, which is {_number(means[nearest].mean)} for {nearest}"
        if FLOOR in others and nearest != FLOOR:
            detail += f"; {lower[FLOOR]} below {FLOOR}"
        facts.append({"label": "By how much", "value": f"{lower[nearest]} below {nearest}", "detail": detail})
        gap = curves.difference(nearest, best)
        detail = f"RMSE of {nearest} minus that of {best}: {_interval(gap, certain)}, on the same trajectories"
        answer = "No" if rivals else "Yes"
        if not certain:
            answer, detail = "Unknown", "a single trajectory tells nothing about others"
        elif not enough:
            answer = "Unknown"
            detail = f"{trajectories} trajectories are too few to tell models apart, at least {FEWEST} could. {detail}"
        elif rivals:
            detail = f"{', '.join([best, *rivals])} are not told apart. {detail}"
        facts.append({"label": "Is it certain?", "value": answer, "detail": detail})
    share = reached(best, means)
    if share is not None:
        detail = f"of the way from {FLOOR} to {CEILING.lower()}, in mean RMSE"
        facts.append({"label": "Of what is possible", "value": f"{100 * share:.0f} %", "detail": detail})
    facts.append(_price(best, cost))
    some_lost = any(not math.isfinite(interval.mean) for interval in means.values())
    notes = []
    if not certain:
        notes.append("Only 1 trajectory: no intervals.")
    elif not enough:
        notes.append(f"Only {trajectories} trajectories: too few to tell models apart, at least {FEWEST} could.")
    elif unsure:
        pairs = "; ".join(f"{a} and {b}" for a, b in unsure)
        notes.append(
            f"Not told apart in mean RMSE (the {100 * LEVEL:.0f} % interval of their difference holds 0): {pairs}. All other "
            f"pairs {'that have a mean ' * some_lost}are."
        )
    elif others:
        notes.append(
            f"All models {'that have a mean ' * some_lost}are told apart in mean RMSE: no {100 * LEVEL:.0f} % interval of a "
            "difference holds 0."
        )
    if runs := [model for model in single_runs(curves) if model in ranked]:
        notes.append(of_single_runs(runs))
    return facts, notes


def of_single_runs(models: Sequence[str]) -> str:
    """What intervals do not say of models that were trained once."""
    runs = "one run" if len(models) == 1 else "one run each"
    return f"{', '.join(models)}: {runs}. Intervals are over trajectories and say nothing of another seed."


def of_undefined(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Which physical quantities some trajectories do not have, by title and model; their means are left out, too."""
    told = "; ".join(
        f"{title} ({', '.join(f'{model} {count}' for model, count in models.items())})"
        for title, models in counts.items()
    )
    return f"Not defined for some trajectories, so that there is no mean, although all frames are finite: {told}."


def _below(value: float, other: float) -> float:
    """By what share a value is below another one that is not lower."""
    return 1 - value / other if other > 0 else 0.0


def _price(model: str, cost: pd.DataFrame) -> dict[str, str]:
    if cost.empty or "seconds" not in cost or model not in set(cost["model"]):
        return {"label": "What it costs", "value": "Not measured", "detail": ""}
    rows = cost.drop_duplicates("model").set_index("model")
    seconds = rows["seconds"]
    detail = ""
    # The roughest solver that is no worse than this network, if there is one: that is what a network replaces.
    solver = NO_WORSE + model if NO_WORSE + model in seconds else CEILING
    if solver in seconds and model != solver and seconds[model] > 0:
        ratio = float(seconds[solver] / seconds[model])
        than, factor = ("faster", ratio) if ratio >= 1 else ("slower", 1 / ratio)
        told = CEILING.lower() if solver == CEILING else "the roughest solver that is no worse"
        detail = f"{_number(factor)} times {than} than {told}"
    timed = (
        sorted({str(protocol) for protocol in cost["protocol"]})
        if "protocol" in cost
        else ["the protocol that was timed"]
    )
    detail += f"{', ' if detail else ''}in {', '.join(timed)}"
    if "device" in cost:
        detail += f", on {rows['device'][model]}"
        if solver in seconds and rows["device"][solver] != rows["device"][model]:
            detail += f" against {rows['device'][solver]}"
    return {"label": "What it costs", "value": f"{_time(float(seconds[model]))} per forecast", "detail": detail}


def reached(model: str, means: Mapping[str, Interval]) -> float | None:
    """Share of the way from the floor to the ceiling, 0 for what is worse than the floor; None where it is unknown."""
    if model in (FLOOR, CEILING) or not {FLOOR, CEILING} <= means.keys():
        return None
    span = means[FLOOR].mean - means[CEILING].mean
    share = (means[FLOOR].mean - means[model].mean) / span if span > 0 else math.nan
    return max(share, 0.0) if math.isfinite(share) else None


def _interval(interval: Interval, known: bool = True) -> str:
    if not known:
        return _number(interval.mean)
    return f"{_number(interval.mean)} ({_number(interval.low)} to {_number(interval.high)})"


def _time(seconds: float) -> str:
    return f"{_number(seconds)} s" if seconds >= 0.1 else f"{_number(1e3 * seconds)} ms"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}".replace("-", "\u2212")
