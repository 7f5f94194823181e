"""The terms of a report, and what they mean."""

from collections.abc import Collection

import pandas as pd

from microevo.benchmark.bootstrap import LEVEL
from microevo.benchmark.competitors import BASELINE, REFERENCE
from microevo.benchmark.leaderboard import Leaderboard

PERCENT = f"{100 * LEVEL:.0f} %"
GENERAL = {
    "Lead time": "How far ahead a frame is, in frames: lead 1 is the first frame after the input frames.",
    "Mean": (
        "Over all lead times, trajectories and seeds of the training. Windows of one trajectory are averaged first."
    ),
    f"{PERCENT} interval": (
        f"{PERCENT} confidence interval of the mean: trajectories are resampled with replacement (bootstrap), "
        "those cut from one simulation together, and seeds too where a model has several. It is widened where "
        "they are few."
    ),
    "No significant difference": (
        f"The {PERCENT} interval of the difference of two models, on the same trajectories, contains zero: "
        "with other trajectories the other one might have been better."
    ),
    "Skill score": (
        f"1 − RMSE of the model / RMSE of {BASELINE}, of means over all lead times: 1 for an exact forecast, 0 "
        f"for one no better than {BASELINE}, negative for a worse one."
    ),
    "Not finite": (
        "A forecast with a NaN, an infinity or values whose squares overflow in any frame. Such frames score NaN, and so "
        "does every mean that would need them."
    ),
}
ROWS = {
    BASELINE: "The baseline: repeats the last input frame. A model no better than that has learned nothing.",
    REFERENCE: (
        "The process's own solver. It starts from the last input frames where they determine the state, else "
        "from the true state on its finer grid, and continues with its fast scheme, which is nearly exact "
        "where the data were made with it. Grains restart from their numbers, with sharp boundaries. There is "
        "none for imported data."
    ),
}
METRICS = {
    "rmse": (
        "Root of the squared error, averaged over pixels, fields and forecasts before the root is taken "
        "[units of the field]. Lower is better."
    ),
    "mae": (
        "Absolute error, averaged over pixels and fields [units of the field]. Lower is better; a few large "
        "errors count less than in RMSE."
    ),
    "ssim": (
        "Structural similarity: whether means, contrast and pattern agree in a Gaussian 11 × 11 window, "
        "averaged over the whole frame, of fields that are scaled to lie between 0 and 1. 1 for equal frames, higher is "
        "better. Other definitions differ."
    ),
    "psnr": (
        "Peak signal-to-noise ratio, the squared error of fields that are scaled to lie between 0 and 1, on a logarithmic "
        "scale [dB]. Higher is better."
    ),
    "relative_l2": (
        "Norm of the error divided by the norm of the truth, over all pixels. 0 is exact, 1 is as good as a "
        "forecast of zeros; infinite where the truth is zero everywhere and the forecast is not. Lower is better."
    ),
    "correlation": (
        "Pearson correlation of forecast and truth over pixels. 1 for the same pattern, 0 for none in common; "
        "blind to a wrong mean or contrast. Higher is better."
    ),
    "mse_openstl": (
        "Convention of OpenSTL tables, as MAE in OpenSTL: summed over pixels and fields, so that it grows "
        "with the image. Lower is better."
    ),
    "ssim_openstl": (
        "Convention of OpenSTL and MicroEvoEval tables: a uniform 7 × 7 window and a wider data range, which "
        "gives higher values. Higher is better."
    ),
    "correlation_time_0.8": (
        "The first lead time at which the correlation with the truth is below the threshold, 0.8 or 0.9, or "
        "not finite; one beyond the last lead time (≥) where it never is. Higher is better."
    ),
    "letap_microevoeval": (
        "L-ETAP of MicroEvoEval: error of the share of dark pixels, below 128/255, after each frame of the "
        "forecast was stretched to [0, 1]. Its published number is the root of the sum of squares over all "
        "lead times and forecasts, so that it grows with their number: compare it for equal test sets only. "
        "Lower is better."
    ),
    "leapsr_microevoeval": (
        "L-EAPSR of MicroEvoEval, for grains: error of the mean share of a grain, 1 / (number of grains), "
        "counted on stretched frames that are enlarged to 256 × 256. Its published number is summed like that "
        "of L-ETAP. Lower is better."
    ),
}
ENSEMBLES = {
    "Ensemble": (
        "Several trainings of one network, which differ in their seed, forecast together. Their mean is scored as any other "
        "forecast; where they disagree it is not to be trusted."
    ),
    "CRPS": (
        "Continuous ranked probability score of the members of an ensemble, averaged over pixels and fields [units of the "
        "field]: their mean distance from the truth less half their mean distance from each other, each member with itself "
        "included. That of a single forecast is its mean absolute error, so that the two compare. Lower is better."
    ),
    "Spread": (
        "Standard deviation of the M members (divisor M − 1), times the root of (M + 1) / M [units of the field]: the RMSE of "
        "their mean, if the truth were one more member (Fortin et al. 2014). Averaged as RMSE is, before the root is taken."
    ),
    "Spread-skill ratio": (
        "Spread / RMSE of the ensemble's mean, at each lead time: 1 if the spread says how large the error is, below 1 for an "
        "over-confident ensemble, above 1 for an under-confident one. Its mean is that over lead times."
    ),
}
QUANTITY = (
    "Distance of the forecast's value from the truth's, for each trajectory and lead time by the distance that the title names, "
    "averaged. NaN where a quantity does not exist in some frame, for instance the tip of a crystal where nothing is solid. An "
    "exponent needs a last time of at least three times the first. Lower is better."
)
COST = (
    "Of convolutions, linear layers and attention: once for a whole forecast, once for a single block of as many frames as the "
    "input has."
)


def definitions(boards: Collection[Leaderboard], cost: pd.DataFrame) -> dict[str, str]:
    """The terms of a report, and what they mean."""
    names = {standing.name for board in boards for standing in board.standings}
    titles = {curves.score.key.name: curves.score.title for board in boards for curves in board.metrics}
    terms = GENERAL | {name: text for name, text in ROWS.items() if name in names}
    terms |= {titles[name].split(", 0.")[0]: text for name, text in METRICS.items() if name in titles}
    if any(board.ensembles for board in boards):
        terms |= ENSEMBLES
    if any(board.quantities for board in boards):
        terms["Error of a physical quantity"] = QUANTITY
    if not cost.empty:
        terms["Multiply-adds"] = COST
    return terms
