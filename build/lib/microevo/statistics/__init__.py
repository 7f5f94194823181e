"""What a materials scientist measures on a microstructure: one number, or one curve, per frame."""

from microevo.statistics.change import persistence_rmse, rms_change
from microevo.statistics.dendrite import mean_gradient_magnitude, solid_fraction, tip_radius
from microevo.statistics.grains import (
    adjacent_grains,
    grain_sides,
    junction_angles,
    relative_radii,
    segment_grains,
    triple_junctions,
)
from microevo.statistics.interface import (
    BoundaryProfile,
    contour_curvature,
    grain_boundary_profile,
    interface_length,
    interface_width,
    squared_gradient,
)
from microevo.statistics.objects import area_fraction, areas, count_objects, label, object_areas, threshold_mask
from microevo.statistics.particles import follow, followed_areas, growth_rates, link, merged_or_split, particles_lost
from microevo.statistics.structure import (
    characteristic_length,
    mean_wave_number,
    peak_wave_number,
    power_spectrum,
    structure_factor,
    wave_numbers,
)
from microevo.statistics.wave import DampedWave, FrameWaves, fit_damped_wave, fit_frames

__all__ = [
    "BoundaryProfile",
    "DampedWave",
    "FrameWaves",
    "adjacent_grains",
    "area_fraction",
    "areas",
    "characteristic_length",
    "contour_curvature",
    "count_objects",
    "fit_damped_wave",
    "fit_frames",
    "follow",
    "followed_areas",
    "grain_boundary_profile",
    "grain_sides",
    "growth_rates",
    "interface_length",
    "interface_width",
    "junction_angles",
    "label",
    "link",
    "mean_gradient_magnitude",
    "mean_wave_number",
    "merged_or_split",
    "object_areas",
    "particles_lost",
    "peak_wave_number",
    "persistence_rmse",
    "power_spectrum",
    "relative_radii",
    "rms_change",
    "segment_grains",
    "solid_fraction",
    "squared_gradient",
    "structure_factor",
    "threshold_mask",
    "tip_radius",
    "triple_junctions",
    "wave_numbers",
]
