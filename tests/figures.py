"""How accurate the processes are: tests state what they measured, and the session makes a table of it.

A test asks for the fixture `figure`, which checks one number against its tolerance and keeps it. After the session, all of
them stand in `results/accuracy.csv` and `results/accuracy.md`, in the order of the tests whatever the number of workers, in
one section per test file, titled by the first line of its docstring. A session without such tests writes nothing.
"""

import csv
import math
from collections.abc import Iterable
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Protocol

import pytest

PROPERTY = "figure"
COLUMNS = ("section", "figure", "measured", "expected", "tolerance", "within", "source")


class Figure(Protocol):
    def __call__(
        self, name: str, *, measured: float, expected: float, tolerance: float, source: str, relative: bool = False
    ) -> None:
        """Keep a number, then assert that it is right.

        Args:
            name: What was measured, with its unit if it has one.
            measured: What came out.
            expected: What should have.
            tolerance: Largest distance between the two.
            source: Where the expected value is from: a closed form, a law, a paper, a benchmark or another solver.
            relative: The tolerance is a part of the expected value.
        """


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    place = request.session.items.index(request.node)
    section = (request.module.__doc__ or request.module.__name__).strip().splitlines()[0].rstrip(".")

    def keep(
        name: str, *, measured: float, expected: float, tolerance: float, source: str, relative: bool = False
    ) -> None:
        measured, expected, tolerance = float(measured), float(expected), float(tolerance)
        allowed = tolerance * abs(expected) if relative else tolerance
        within = abs(measured - expected) <= allowed  # false for a NaN
        row = {
            "section": section,
            "figure": name,
            "measured": shown(measured, expected, allowed),
            "expected": shown(expected, expected, allowed),
            "tolerance": f"{100 * tolerance:.2g} %" if relative else f"{tolerance:.2g}",
            "within": "yes" if within else "no",
            "source": source,
        }
        # A property of the report, because that is what workers send to the process that writes the table.
        request.node.user_properties.append((PROPERTY, [place, row]))
        assert within, f"{name}: measured {measured:.6g}, expected {expected:.6g} +- {allowed:.2g} ({source})"

    return keep


def shown(value: float, expected: float, allowed: float) -> str:
    """With the digits that the tolerance leaves a meaning."""
    if not expected or not allowed:
        return f"{value:.2g}"
    return f"{value:.{max(0, 1 - math.floor(math.log10(allowed)))}f}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    placed = [
        value
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if placed:
        rows = [row for _, row in sorted(placed, key=lambda value: value[0])]  # stable: of one test, in their order
        folder = config.rootpath / "results"
        write(folder, rows)
        terminalreporter.write_line(f"{len(rows)} figures of accuracy: {folder / 'accuracy.md'}")


def write(folder: Path, rows: Iterable[dict[str, str]]) -> None:
    """The rows as `accuracy.csv`, and as the tables of `accuracy.md`."""
    rows = list(rows)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "accuracy.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    lines = []
    for section, group in groupby(rows, key=lambda row: row["section"]):
        lines += [
            f"### {section}",
            "",
            "| figure | measured | expected | tolerance | source |",
            "|---|---:|---:|---:|---|",
        ]
        for row in group:
            measured = row["measured"] if row["within"] == "yes" else f"**{row['measured']}**"
            line = f"| {row['figure']} | {measured} | {row['expected']} | {row['tolerance']} | {row['source']} |"
            lines.append(escape(line, quote=False))  # <R> is a mean, not a tag
        lines.append("")
    (folder / "accuracy.md").write_text("\n".join(lines), encoding="utf-8")
