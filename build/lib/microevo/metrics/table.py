"""Averages of a long table of results, the same for every picture and report."""

import pandas as pd


def mean_at_leads(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Average a metric over trajectories, windows and seeds.

    RMSE is the root of the averaged MSE, as in `microevo.metrics.RMSE`, and never a mean of roots. A NaN is
    not skipped: a model that diverged once has no average.

    Args:
        table: Long table with the columns `model`, `metric`, `trajectory`, `lead` and `value`.
        metric: Name in the column `metric`, or `rmse`, for which rows of `mse` are read.

    Returns:
        One row per model, sorted by name, and one column per lead.

    Raises:
        ValueError: If the table has no such metric.
    """
    source = "mse" if metric == "rmse" else metric
    rows = table[table["metric"] == source]
    if rows.empty:
        known = ", ".join(sorted(table["metric"].unique()))
        raise ValueError(f"The table has no rows of the metric {source!r}, only of: {known}.")
    groups = rows.groupby(["model", "lead"])["value"]
    means = groups.agg(lambda values: values.to_numpy().mean()).unstack("lead")
    return means**0.5 if metric == "rmse" else means
