"""Distances between forecast and truth: per frame (`pixel`), averaged at each lead time (`lead`, `table`)."""

from microevo.metrics.lead import MAE, MSE, RMSE, SSIM, LeadMetric, RelativeL2
from microevo.metrics.pixel import absolute_error, relative_l2, squared_error, ssim
from microevo.metrics.table import mean_at_leads

__all__ = [
    "MAE",
    "MSE",
    "RMSE",
    "SSIM",
    "LeadMetric",
    "RelativeL2",
    "absolute_error",
    "mean_at_leads",
    "relative_l2",
    "squared_error",
    "ssim",
]
