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
from microevo.metrics.lead import MAE, MSE, RMSE, SSIM, LeadMetric, RelativeL2
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
from microevo.metrics.spinodal import image_free_energy, spinodal_quantities
from microevo.metrics.table import mean_at_leads
from microevo.metrics.tracking import tracking_metrics
from microevo.metrics.trend import growth_exponent, slope
from microevo.metrics.wave import wave_quantities

__all__ = [
    "MAE",
    "MSE",
    "RMSE",
    "SSIM",
    "Bins",
    "Comparison",
    "CorrelationTime",
    "Fit",
    "LeadMetric",
    "Quantity",
    "RelativeL2",
    "absolute_error",
    "compare",
    "correlation",
    "correlation_time",
    "dendrite_quantities",
    "grain_quantities",
    "growth_exponent",
    "histogram",
    "image_free_energy",
    "leapsr_microevoeval",
    "letap_microevoeval",
    "mae_openstl",
    "mean_at_leads",
    "measure",
    "microevoeval_total",
    "mse_openstl",
    "psnr",
    "psnr_openstl",
    "relative_l2",
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
