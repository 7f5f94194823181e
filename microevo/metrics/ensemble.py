"""How good an ensemble is: its CRPS, its spread, and whether the spread is as large as the error.

Members are tensors `M B T C H W`: the forecasts of M networks for the same frames. The ordinary metrics are of their mean.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.regression import continuous_ranked_probability_score

from microevo.metrics.registry import metric


@metric(title="CRPS", unit="field", better="lower", of="ensemble")
def crps(members: Float[Tensor, "M B T C H W"], target: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T"]:
    """Continuous ranked probability score, mean over fields and pixels [field units]; lower is better.

    `mean_i |x_i - y| - mean_ij |x_i - x_j| / 2` of the members x and the truth y: the integral of the squared difference
    between the distribution function of the members and the step at the truth (Gneiting & Raftery, J. Am. Stat. Assoc. 102
    (2007) 359, eq. 21). It scores the members that there are. The "fair" estimate for infinitely many members would divide the
    second sum by M (M - 1) instead of M^2 and be lower. With a single member the score is the absolute error, so that an
    ensemble compares with a single forecast.
    """
    members, target = members.float(), target.float()
    scores = [
        # One frame at a time, because all pairs of members are compared.
        [continuous_ranked_probability_score(x.flatten(1).T, y.flatten()) for x, y in zip(frames, truth, strict=True)]
        for frames, truth in zip(members.movedim(0, 2), target, strict=True)
    ]
    return torch.stack([torch.stack(of_window) for of_window in scores])


def spread(members: Float[Tensor, "M *any H W"]) -> Float[Tensor, "*any H W"]:
    """Spread of the members at each pixel [field units]: the error of their mean, as far as they know.

    It is `sqrt((M + 1) / M)` times their standard deviation with the divisor M - 1. If the truth is one more sample of the
    distribution that the members come from, the mean of its square is the mean squared error of their mean, for any number of
    members (Fortin et al., J. Hydrometeorol. 15 (2014) 1708, doi 10.1175/JHM-D-14-0008.1).
    """
    return ((1 + 1 / len(members)) * members.float().var(dim=0)).sqrt()


@metric(title="squared spread", unit="field^2", better=None, of="ensemble")
def squared_spread(members: Float[Tensor, "M B T C H W"], target: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T"]:
    """Square of the spread, mean over fields and pixels [field units squared]."""
    return spread(members).square().mean(dim=(2, 3, 4))


@metric(name="spread", title="spread", unit="field", better=None, of="mean", source="squared_spread")
def mean_spread(squared: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Root of a mean of `squared_spread` [field units]; never a mean of roots."""
    return np.sqrt(squared)


def spread_skill(
    squared_spread: Float[np.ndarray, "*any"], squared_error: Float[np.ndarray, "*any"]
) -> Float[np.ndarray, "*any"]:
    """Spread-skill ratio of means over forecasts [1]: spread / RMSE of the ensemble's mean.

    1 if the spread says how large the error is. Below 1 the ensemble is over-confident: its members agree with each other more
    than with the truth. Above 1 it is under-confident.

    Args:
        squared_spread: Means of `squared_spread`.
        squared_error: Means of the squared error of the members' mean.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(squared_spread / squared_error)
