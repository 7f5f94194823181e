"""Averages of a long table of results, the same for every picture and report."""

import pandas as pd

from microevo.metrics.registry import find, rows_of


def mean_at_leads(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Average a metric over trajectories, windows and seeds.

    RMSE is the root of the averaged MSE, and never a mean of roots. A NaN is
    not skipped: a model that diverged once has no average.

    Args:
        table: Long table with the columns `model`, `metric`, `trajectory`, `lead` and `value`.
        metric: Name in the column `metric`, or of a metric that is a function of another's mean, such as `rmse`.

    Returns:
        One row per model, sorted by name, and one column per lead.

    Raises:
        ValueError: If the table has no such metric.
    """
    source = rows_of(metric)
    rows = table[table["metric"] == source]
    if rows.empty:
        there = ", ".join(sorted(table["metric"].unique()))
        raise ValueError(f"The table has no rows of the metric {source!r}, only of: {there}.")
    groups = rows.groupby(["model", "lead"])["value"]
    means = groups.agg(lambda values: values.to_numpy().mean()).unstack("lead")
    known = find(metric)
    if known is None or known.of != "mean":
        return means
    return pd.DataFrame(known.function(means.to_numpy()), means.index, means.columns)
