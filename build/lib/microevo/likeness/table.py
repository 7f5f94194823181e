"""The statistics of simulated runs beside published values and bands."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
from jaxtyping import Float

from microevo.likeness.bands import Bands, Case
from microevo.likeness.characteristics import Characteristics


@dataclass(frozen=True, eq=False)
class Run:
    """One simulated trajectory.

    Attributes:
        name: Store and number.
        frames: Those that are compared.
        parameters: Parameters of the process.
        early: Numbers of the time before.
    """

    name: str
    frames: Float[np.ndarray, "T H W"]
    parameters: dict[str, float]
    early: dict[str, float]


@dataclass(frozen=True)
class Line:
    """One statistic of one case.

    Attributes:
        case: Name of the case.
        statistic: Name of the statistic.
        published: Value of the published sample as the bands have it.
        sample: Value measured on the published frames that were given; NaN where they are too few.
        simulated: Mean over the runs; NaN if a run lacks the frames for it.
        lowest: Smallest value of a run.
        highest: Largest value of a run.
        low: Lower end of the band for the mean; None if it is not tested.
        high: Upper end.
        runs: Number of runs.
    """

    case: str
    statistic: str
    published: float | None
    sample: float
    simulated: float
    lowest: float
    highest: float
    low: float | None
    high: float | None
    runs: int

    @property
    def verdict(self) -> Literal["in", "out", ""]:
        """Whether the mean lies in the band; empty without a band or a mean."""
        if self.low is None or self.high is None or np.isnan(self.simulated):
            return ""
        return "in" if self.low <= self.simulated <= self.high else "out"


def tabulate(
    case: Case, runs: Sequence[Run], sample: Float[np.ndarray, "T H W"] | None, measured: Characteristics
) -> list[Line]:
    """Every statistic of the runs of a case.

    Args:
        case: Published values and bands.
        runs: Simulated trajectories, one at least.
        sample: The published trajectory, if there is one.
        measured: What is measured.

    Raises:
        ValueError: There is a band for a statistic that is not measured.
    """
    of_sample = {} if sample is None else measured.numbers(sample)
    of_runs = []
    for run in runs:
        own = measured.numbers(run.frames) | run.early
        of_runs.append(own if sample is None else own | measured.against(run.frames, sample))
    strangers = sorted(case.rows.keys() - of_runs[0].keys())
    if strangers:
        raise ValueError(f"there is no statistic {strangers[0]}; the bands may name {', '.join(of_runs[0])}")
    lines = []
    for name in of_runs[0]:
        values = np.array([numbers[name] for numbers in of_runs])
        row = case.rows.get(name)
        lines.append(
            Line(
                case=case.name,
                statistic=name,
                published=row.published if row else None,
                sample=of_sample.get(name, float("nan")),
                simulated=float(values.mean()),
                lowest=float(values.min()),
                highest=float(values.max()),
                low=row.low if row else None,
                high=row.high if row else None,
                runs=len(runs),
            )
        )
    return lines


def render(lines: Sequence[Line], bands: Bands) -> str:
    """The table as Markdown, with what lies outside of its band said first."""
    text = [f"# {bands.process}: simulated against published", ""]
    fewest = min(line.runs for line in lines)
    if fewest < bands.runs:
        text += [f"The bands hold for the mean over {bands.runs} runs or more, but there are {fewest}.", ""]
    inside, outside = (sum(line.verdict == verdict for line in lines) for verdict in ("in", "out"))
    text += [f"{inside} of {inside + outside} tested statistics lie in their bands.", ""]
    for name, part in groupby(lines, key=lambda line: line.case):
        members = list(part)
        simulated = f"simulated, mean of {members[0].runs} [range]" if members[0].runs > 1 else "simulated"
        text += [f"## {name}", ""] if name else []
        text += [
            f"| statistic | published | measured on the sample | {simulated} | band | |",
            "|---|---:|---:|---:|---:|---|",
            *(_cells(line) for line in members),
            "",
        ]
    text += ["Measured on the published frames that were given, to which the simulator's parameters were fitted.", ""]
    return "\n".join(text)


def _cells(line: Line) -> str:
    spread = f" [{_number(line.lowest)}, {_number(line.highest)}]" if line.runs > 1 and _number(line.lowest) else ""
    band = "" if line.low is None else f"{_number(line.low)} to {_number(line.high)}"
    verdict = "**out**" if line.verdict == "out" else line.verdict
    published, sample, simulated = (_number(value) for value in (line.published, line.sample, line.simulated))
    return f"| {line.statistic} | {published} | {sample} | {simulated}{spread} | {band} | {verdict} |"


def _number(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.4g}"
