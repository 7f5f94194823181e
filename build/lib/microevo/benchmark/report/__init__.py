"""The report of a benchmark: built once from the results, then rendered as page, Markdown, figures and logs."""

from collections.abc import Sequence

from lightning.pytorch.loggers import Logger

from microevo import plot
from microevo.benchmark.report.build import Report, build
from microevo.benchmark.report.figures import figure, figure_name
from microevo.benchmark.report.html import page
from microevo.benchmark.report.loggers import log_report
from microevo.benchmark.report.markdown import markdown, text_table
from microevo.benchmark.results import Results
from microevo.provenance import write_file

__all__ = ["Report", "build", "write_report"]


def write_report(results: Results, leads: Sequence[int], logger: Logger | None = None) -> Report:
    """Write the report of a benchmark into the folder of its results; nothing is forecast again.

    It consists of `report.html`, `report.md`, `summary.csv` and a figure for each protocol. What an interrupted benchmark
    has not finished is left out, and the report says so.

    Args:
        results: The benchmark.
        leads: Lead times of the tables; those beyond a horizon are left out.
        logger: Where to send tables, curves, figures and animations too.
    """
    report = build(results, leads)
    for protocol in report.reported:
        plot.save(figure(protocol.board, report.seconds), results.folder / figure_name(protocol.name))
    write_file(results.folder / "summary.csv", report.summary.to_csv(index=False))
    write_file(results.folder / "report.md", markdown(report))
    write_file(results.folder / "report.html", page(report))
    for protocol in report.reported:
        print(f"\n{protocol.name}\n{text_table(protocol.board)}")
    print(f"\nreport: {results.folder / 'report.html'}, for papers: {results.folder / 'report.md'}")
    if logger is not None:
        log_report(report, logger)
    return report
