"""Distances between forecast and truth: pixel by pixel, by published conventions, and of physical statistics."""

from microevo.metrics.conventions import (
    leapsr_microevoeval,
    letap_microevoeval,
    mae_openstl,
    microevoeval_total,
    mse_openstl,
    psnr_openstl,
    snr_openstl,
    ssim_gaussian_openstl,
    ssim_openstl,
)
from microevo.metrics.dendrite import dendrite_quantities
from microevo.metrics.distribution import histogram, total_variation, wasserstein
from microevo.metrics.grains import grain_quantities
from microevo.metrics.lead import LeadMetric
from microevo.metrics.pixel import (
    CorrelationTime,
    absolute_error,
    correlation,
    correlation_time,
    psnr,
    relative_l2,
    squared_error,
    ssim,
)
from microevo.metrics.quantity import Bins, Comparison, Fit, Quantity, compare, measure
from microevo.metrics.registry import (
    Metric,
    NotApplicableError,
    applicable,
    find,
    import_metrics,
    metric,
    registered,
    rows_of,
    shown,
)
from microevo.metrics.spinodal import image_free_energy, spinodal_quantities
from microevo.metrics.table import mean_at_leads
from microevo.metrics.tracking import tracking_metrics
from microevo.metrics.trend import growth_exponent, slope
from microevo.metrics.wave import wave_quantities

__all__ = [
    "Bins",
    "Comparison",
    "CorrelationTime",
    "Fit",
    "LeadMetric",
    "Metric",
    "NotApplicableError",
    "Quantity",
    "absolute_error",
    "applicable",
    "compare",
    "correlation",
    "correlation_time",
    "dendrite_quantities",
    "find",
    "grain_quantities",
    "growth_exponent",
    "histogram",
    "image_free_energy",
    "import_metrics",
    "leapsr_microevoeval",
    "letap_microevoeval",
    "mae_openstl",
    "mean_at_leads",
    "measure",
    "metric",
    "microevoeval_total",
    "mse_openstl",
    "psnr",
    "psnr_openstl",
    "registered",
    "relative_l2",
    "rows_of",
    "shown",
    "slope",
    "snr_openstl",
    "spinodal_quantities",
    "squared_error",
    "ssim",
    "ssim_gaussian_openstl",
    "ssim_openstl",
    "total_variation",
    "tracking_metrics",
    "wasserstein",
    "wave_quantities",
]
