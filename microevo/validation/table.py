"""The descriptors of simulated runs beside published values and acceptance intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
from jaxtyping import Float

from microevo.validation.descriptors import Descriptors
from microevo.validation.published import Case, Expected, PublishedSample


@dataclass(frozen=True, eq=False)
class Run:
    """One simulated trajectory.

    Attributes:
        name: Store and number.
        frames: Those that are compared.
        parameters: Parameters of the process.
        early: Descriptors of the time before.
    """

    name: str
    frames: Float[np.ndarray, "T H W"]
    parameters: dict[str, float]
    early: dict[str, float]


@dataclass(frozen=True)
class Line:
    """One descriptor of one case.

    Attributes:
        case: Name of the case.
        descriptor: Name of the descriptor.
        published: Value of the published sample as its file has it.
        sample: Value measured on the published frames that were given; NaN where they are too few.
        simulated: Mean over the runs; NaN if a run lacks the frames for it.
        lowest: Smallest value of a run.
        highest: Largest value of a run.
        low: Lower end of the acceptance interval of the mean; None if it is not tested.
        high: Upper end.
        runs: Number of runs.
    """

    case: str
    descriptor: str
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
        """Whether the mean lies in the acceptance interval; empty without an interval or a mean."""
        if self.low is None or self.high is None or np.isnan(self.simulated):
            return ""
        return "in" if self.low <= self.simulated <= self.high else "out"


def tabulate(
    case: Case, runs: Sequence[Run], sample: Float[np.ndarray, "T H W"] | None, measured: Descriptors
) -> list[Line]:
    """Every descriptor of the runs of a case; those without a value of anything are left out.

    Raises:
        ValueError: The case names a descriptor that there is not.
    """
    names = list(case.expected)
    of_sample = {} if sample is None else measured.numbers(names, sample)
    of_runs = []
    for run in runs:
        own = measured.numbers(names, run.frames) | run.early
        of_runs.append(own if sample is None else own | measured.against(names, run.frames, sample))
    lines = []
    for name, expected in case.expected.items():
        values = np.array([numbers[name] for numbers in of_runs])
        if expected == Expected() and np.isnan(values).all():
            continue
        lines.append(
            Line(
                case=case.name,
                descriptor=name,
                published=expected.published,
                sample=of_sample.get(name, float("nan")),
                simulated=float(values.mean()),
                lowest=float(values.min()),
                highest=float(values.max()),
                low=expected.low,
                high=expected.high,
                runs=len(runs),
            )
        )
    return lines


def render(lines: Sequence[Line], published: PublishedSample) -> str:
    """The table as Markdown, with how many descriptors lie in their intervals said first."""
    text = [f"# {published.process}: simulated against published", ""]
    fewest = min(line.runs for line in lines)
    if fewest < published.runs:
        text += [
            f"The acceptance intervals hold for the mean over {published.runs} runs or more, but there are {fewest}.",
            "",
        ]
    inside, outside = (sum(line.verdict == verdict for line in lines) for verdict in ("in", "out"))
    text += [f"{inside} of {inside + outside} tested descriptors lie in their acceptance intervals.", ""]
    for name, part in groupby(lines, key=lambda line: line.case):
        members = list(part)
        simulated = f"simulated, mean of {members[0].runs} [range]" if members[0].runs > 1 else "simulated"
        text += [f"## {name}", ""] if name else []
        text += [
            f"| descriptor | published | measured on the sample | {simulated} | acceptance interval | |",
            "|---|---:|---:|---:|---:|---|",
            *(_cells(line) for line in members),
            "",
        ]
    text += ["Measured on the published frames that were given, to which the simulator's parameters were fitted.", ""]
    return "\n".join(text)


def _cells(line: Line) -> str:
    spread = f" [{_number(line.lowest)}, {_number(line.highest)}]" if line.runs > 1 and _number(line.lowest) else ""
    interval = "" if line.low is None else f"{_number(line.low)} to {_number(line.high)}"
    verdict = "**out**" if line.verdict == "out" else line.verdict
    published, sample, simulated = (_number(value) for value in (line.published, line.sample, line.simulated))
    return f"| {line.descriptor} | {published} | {sample} | {simulated}{spread} | {interval} | {verdict} |"


def _number(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.4g}"
