"""Metrics: pixel-wise errors, physical quantities with the statistics behind them, and the definitions of published tables."""

from microevo.metrics.change import persistence_rmse, rms_change
from microevo.metrics.compat import letap_microevoeval, microevoeval_total, ssim_openstl
from microevo.metrics.dendrite import dendrite_quantities, mean_gradient_magnitude, solid_fraction, tip_radius
from microevo.metrics.distribution import histogram, total_variation, wasserstein
from microevo.metrics.ensemble import crps, spread, spread_skill, squared_spread
from microevo.metrics.grains import grain_quantities
from microevo.metrics.interface import (
    BoundaryProfile,
    contour_curvature,
    grain_boundary_profile,
    interface_length,
    interface_quantities,
    interface_width,
    squared_gradient,
)
from microevo.metrics.lead import LeadMetric
from microevo.metrics.objects import area_fraction, areas, count_objects, label, object_areas, threshold_mask
from microevo.metrics.particles import particle_quantities
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
from microevo.metrics.quantity import Bins, Fit, Quantity, measure, measure_errors
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
    unit_for,
)
from microevo.metrics.spinodal import energy_quantities, mixture_quantities, spinodal_quantities
from microevo.metrics.structure import (
    characteristic_length,
    mean_wave_number,
    peak_wave_number,
    power_spectrum,
    structure_factor,
    structure_quantities,
    wave_numbers,
)
from microevo.metrics.trend import growth_exponent, slope
from microevo.metrics.wave import DampedWave, fit_damped_wave, fit_frames, wave_quantities

__all__ = [
    "Bins",
    "BoundaryProfile",
    "CorrelationTime",
    "DampedWave",
    "Fit",
    "LeadMetric",
    "Metric",
    "NotApplicableError",
    "Quantity",
    "absolute_error",
    "applicable",
    "area_fraction",
    "areas",
    "characteristic_length",
    "contour_curvature",
    "correlation",
    "correlation_time",
    "count_objects",
    "crps",
    "dendrite_quantities",
    "energy_quantities",
    "find",
    "fit_damped_wave",
    "fit_frames",
    "grain_boundary_profile",
    "grain_quantities",
    "growth_exponent",
    "histogram",
    "import_metrics",
    "interface_length",
    "interface_quantities",
    "interface_width",
    "label",
    "letap_microevoeval",
    "mean_gradient_magnitude",
    "mean_wave_number",
    "measure",
    "measure_errors",
    "metric",
    "microevoeval_total",
    "mixture_quantities",
    "object_areas",
    "particle_quantities",
    "peak_wave_number",
    "persistence_rmse",
    "power_spectrum",
    "psnr",
    "registered",
    "relative_l2",
    "rms_change",
    "rows_of",
    "shown",
    "slope",
    "solid_fraction",
    "spinodal_quantities",
    "spread",
    "spread_skill",
    "squared_error",
    "squared_gradient",
    "squared_spread",
    "ssim",
    "ssim_openstl",
    "structure_factor",
    "structure_quantities",
    "threshold_mask",
    "tip_radius",
    "total_variation",
    "unit_for",
    "wasserstein",
    "wave_numbers",
    "wave_quantities",
]
