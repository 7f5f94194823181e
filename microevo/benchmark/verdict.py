"""The answer in words: who is best, by how much, whether that is certain, and what it costs."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from microevo.benchmark.summary import CEILING, FLOOR, LEVEL, Curves, Interval, not_told_apart

FEW = 10  # trajectories; intervals from fewer are known to be too narrow


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
    unsure = [pair for pair in not_told_apart(curves) if all(math.isfinite(means[model].mean) for model in pair)]
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
        if rivals:
            detail = f"{', '.join([best, *rivals])} are not told apart. {detail}"
        if not certain:
            answer, detail = "Unknown", "a single trajectory tells nothing about others"
        facts.append({"label": "Is it certain?", "value": answer, "detail": detail})
    share = reached(best, means)
    if share is not None:
        detail = f"of the way from {FLOOR} to {CEILING.lower()}, in mean RMSE"
        facts.append({"label": "Of what is possible", "value": f"{100 * share:.0f} %", "detail": detail})
    facts.append(_price(best, cost))
    notes = []
    if unsure and certain:
        pairs = "; ".join(f"{a} and {b}" for a, b in unsure)
        notes.append(
            f"Not told apart in mean RMSE (the {100 * LEVEL:.0f} % interval of their difference holds 0): {pairs}. All other "
            "pairs are."
        )
    elif others and certain:
        notes.append(
            f"All models are told apart in mean RMSE: no {100 * LEVEL:.0f} % interval of a difference holds 0."
        )
    if trajectories < FEW:
        plural = "trajectories" if certain else "trajectory"
        notes.append(
            f"Only {trajectories} {plural}: {'intervals are narrower than they should be' if certain else 'no intervals'}."
        )
    return facts, notes


def _below(value: float, other: float) -> float:
    """By what share a value is below another one that is not lower."""
    return 1 - value / other if other > 0 else 0.0


def _price(model: str, cost: pd.DataFrame) -> dict[str, str]:
    if cost.empty or "seconds" not in cost or model not in set(cost["model"]):
        return {"label": "What it costs", "value": "Not measured", "detail": ""}
    seconds = cost.drop_duplicates("model").set_index("model")["seconds"]
    detail = ""
    if CEILING in seconds and model != CEILING and seconds[model] > 0:
        ratio = float(seconds[CEILING] / seconds[model])
        than, factor = ("faster", ratio) if ratio >= 1 else ("slower", 1 / ratio)
        detail = f"{_number(factor)} times {than} than {CEILING.lower()}"
    timed = (
        sorted({str(protocol) for protocol in cost["protocol"]})
        if "protocol" in cost
        else ["the protocol that was timed"]
    )
    detail += f"{', ' if detail else ''}in {', '.join(timed)}"
    if "device" in cost:
        detail += f", on {', '.join(sorted({str(device) for device in cost['device']}))}"
    return {"label": "What it costs", "value": f"{_time(float(seconds[model]))} per forecast", "detail": detail}


def reached(model: str, means: Mapping[str, Interval]) -> float | None:
    """Share of the way from the floor to the ceiling."""
    if model in (FLOOR, CEILING) or not {FLOOR, CEILING} <= means.keys():
        return None
    span = means[FLOOR].mean - means[CEILING].mean
    share = (means[FLOOR].mean - means[model].mean) / span if span > 0 else math.nan
    return share if math.isfinite(share) else None


def _interval(interval: Interval, known: bool = True) -> str:
    if not known:
        return _number(interval.mean)
    return f"{_number(interval.mean)} ({_number(interval.low)} to {_number(interval.high)})"


def _time(seconds: float) -> str:
    return f"{_number(seconds)} s" if seconds >= 0.1 else f"{_number(1e3 * seconds)} ms"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}".replace("-", "\u2212")
