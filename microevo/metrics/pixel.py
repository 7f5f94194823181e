"""Pixel by pixel distances between forecast and truth, one value per frame.

Every function takes frames `B T C H W`, tensors or NumPy arrays, and returns a tensor `B T`. Averaging over samples is
somebody else's job (see `lead`), so that a number does not depend on the batch size. All arithmetic is float32 or wider,
also under autocast.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from microevo.metrics.registry import NotApplicableError, metric

Array = Tensor | np.ndarray  # what metrics take
PerField = float | Float[Tensor, "C 1 1"]  # one number for all fields, or one for each

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
CORRELATIONS = (0.8, 0.9)  # under which a forecast has lost the pattern


@metric(name="mse", title="MSE", unit="field^2", better="lower")
def squared_error(prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"]) -> Float[Tensor, "B T"]:
    """Squared error, mean over fields and pixels [field units squared]; lower is better.

    OpenSTL tables sum over fields and pixels instead: divide theirs by `C * H * W` to compare.
    """
    prediction, target = _float32(prediction, target)
    return (prediction - target).square().mean(dim=(2, 3, 4))


@metric(name="rmse", title="RMSE", unit="field", better="lower", of="mean", source="mse")
def root_mean_square(mse: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Root of a mean of `squared_error` [field units]; never a mean of roots."""
    return np.asarray(mse**0.5)


@metric(name="mae", title="MAE", unit="field", better="lower")
def absolute_error(prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"]) -> Float[Tensor, "B T"]:
    """Absolute error, mean over fields and pixels [field units]; lower is better."""
    prediction, target = _float32(prediction, target)
    return (prediction - target).abs().mean(dim=(2, 3, 4))


@metric(title="SSIM", better="higher")
def ssim(
    prediction: Float[Array, "B T C H W"],
    target: Float[Array, "B T C H W"],
    data_range: PerField = 1.0,
    lowest: PerField = 0.0,
) -> Float[Tensor, "B T"]:
    """Structural similarity, mean over fields and pixels [1]; higher is better, 1 for equal frames.

    Gaussian window of 11 x 11 pixels, standard deviation 1.5, K1 = 0.01, K2 = 0.03, population covariance:
    the definition of Wang et al., IEEE Trans. Image Process. 13, 600 (2004). Three numbers go by this name:

    - here: the mean over the whole frame, mirrored beyond its edges (torchmetrics);
    - scikit-image, `gaussian_weights=True, use_sample_covariance=False`: the same map, 5 pixels cropped;
    - OpenSTL and MicroEvoEval tables: a uniform 7 x 7 window and, for floats, a data range of 2 (kinder).

    Fields are scaled to lie between 0 and 1, so that the value does not depend on their unit: means enter SSIM, and only
    with `lowest` is it the same for c and 2c - 1. Neither argument is clipped.

    Args:
        prediction: Forecast frames.
        target: True frames, at least 11 x 11 pixels.
        data_range: Largest minus smallest value of a field [field units].
        lowest: Smallest value of a field [field units].

    Raises:
        NotApplicableError: If the frames are smaller than the window.
        ValueError: If `data_range` is not positive.
    """
    prediction, target = _float32(prediction, target)
    height, width = target.shape[-2:]
    if min(height, width) < SSIM_WINDOW:
        raise NotApplicableError(
            f"SSIM needs frames of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, got {height} x {width}: "
            "use larger frames or leave SSIM out."
        )
    prediction, target = (_scaled(frames, data_range, lowest) for frames in (prediction, target))
    # Variances are small differences of large window means. Rounding those to TF32 (the default of float32
    # convolutions on CUDA) or to autocast's half precision would swamp them.
    device = target.device.type
    dtype = torch.float64 if device == "cuda" else torch.float32
    with torch.autocast(device, enabled=False):
        value = structural_similarity_index_measure(
            prediction.flatten(0, 1).to(dtype),
            target.flatten(0, 1).to(dtype),
            gaussian_kernel=True,
            sigma=SSIM_SIGMA,
            kernel_size=SSIM_WINDOW,
            reduction="none",
            data_range=1.0,
        )
    assert isinstance(value, Tensor)  # a tuple only if the full map is asked for
    return value.float().unflatten(0, target.shape[:2])


@metric(name="mse_scaled", title="MSE of scaled fields", better="lower")
def scaled_squared_error(
    prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"], data_range: PerField = 1.0
) -> Float[Tensor, "B T"]:
    """Squared error in units of a field's range, mean over fields and pixels [1]; lower is better.

    Raises:
        ValueError: If `data_range` is not positive.
    """
    prediction, target = _float32(prediction, target)
    return _scaled(prediction - target, data_range).square().mean(dim=(2, 3, 4))


def psnr(
    prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"], data_range: PerField = 1.0
) -> Float[Tensor, "B T"]:
    """Peak signal-to-noise ratio, `-10 log10` of the mean of `(error / data_range)^2` [dB]; higher is better.

    An exact frame scores infinity, and so does a mean over frames that has one: average `squared_error` and convert
    the mean if forecasts may be exact. Neither argument is clipped.

    Raises:
        ValueError: If `data_range` is not positive.
    """
    return -10 * scaled_squared_error(prediction, target, data_range).log10()


@metric(name="psnr", title="PSNR", unit="dB", better="higher", of="mean", source="mse_scaled")
def psnr_of_mean(mse: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Peak signal-to-noise ratio of a mean of `scaled_squared_error` [dB]; infinite for exact forecasts."""
    with np.errstate(divide="ignore"):
        return np.asarray(-10 * np.log10(mse))


@metric(title="relative L2", better="lower")
def relative_l2(prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"]) -> Float[Tensor, "B T"]:
    """`||prediction - target|| / ||target||`, norms over fields and pixels [1]; lower is better.

    A frame that is zero everywhere scores 0 when it is forecast exactly and infinity otherwise.
    """
    prediction, target = _float32(prediction, target)
    error = torch.linalg.vector_norm(prediction - target, dim=(2, 3, 4))
    ratio = error / torch.linalg.vector_norm(target, dim=(2, 3, 4))
    return torch.where(error == 0, error, ratio)


@metric(title="correlation", better="higher")
def correlation(prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"]) -> Float[Tensor, "B T"]:
    """Pearson correlation of forecast and truth over pixels, mean over fields [1]; higher is better, 1 at most.

    Blind to a wrong mean or contrast. Where a frame does not vary the coefficient is undefined: 1 is given if the two
    frames are equal, and 0 if they are not (a blank forecast says nothing about the pattern). A frame that is not
    finite scores NaN.
    """
    prediction, target = _float32(prediction, target)
    p = prediction - prediction.mean(dim=(3, 4), keepdim=True)
    t = target - target.mean(dim=(3, 4), keepdim=True)
    norms = [torch.linalg.vector_norm(x, dim=(3, 4)) for x in (p, t)]
    # Rounding of the mean leaves this much of a frame that does not vary.
    pixels = target.shape[-1] * target.shape[-2]
    floors = [1e-6 * pixels**0.5 * x.abs().amax(dim=(3, 4)) for x in (prediction, target)]
    blank = (norms[0] <= floors[0]) | (norms[1] <= floors[1])
    value = ((p * t).sum(dim=(3, 4)) / (norms[0] * norms[1])).clamp(-1, 1)
    equal = (prediction == target).all(dim=4).all(dim=3)
    value = torch.where(blank, equal.to(value), value)
    finite = (prediction.isfinite() & target.isfinite()).all(dim=4).all(dim=3)
    return torch.where(finite, value, torch.nan).mean(dim=2)


class CorrelationTime(NamedTuple):
    """When forecasts lose the pattern.

    Attributes:
        lead: First lead whose correlation is under the threshold [frames]; one beyond the horizon where it never is.
        censored: Where it never is: the true value is at least `lead`.
    """

    lead: Float[Tensor, " B"]
    censored: Bool[Tensor, " B"]


def correlation_time(values: Float[Array, "B T"], threshold: float = 0.8) -> CorrelationTime:
    """First lead at which the correlation is under a threshold [frames]; higher is better.

    A forecast that keeps its pattern over the whole horizon T counts as T + 1 and is marked as censored. A mean of these
    numbers is the mean of the smaller of correlation time and T + 1: exact without censored forecasts, a lower bound of
    the mean correlation time with them (leaving them out, or putting NaN, would favour models that fail early).
    Compare such means at one horizon only, and give the share of censored forecasts beside them.

    A correlation of NaN counts as under the threshold: a forecast that is not finite has lost the pattern.

    Args:
        values: `correlation` of each forecast at each lead, lead 1 first.
        threshold: Correlation that must be kept; 0.8 and 0.9 are usual.
    """
    values = as_tensor(values)
    kept = values >= threshold
    leads_kept = kept.cumprod(dim=1).sum(dim=1)
    return CorrelationTime(lead=(leads_kept + 1).to(values), censored=leads_kept == values.shape[1])


for _threshold in CORRELATIONS:
    metric(
        name=f"correlation_time_{_threshold}",
        title=f"correlation time, {_threshold}",
        unit="frames",
        better="higher",
        of="leads",
        source="correlation",
    )(partial(correlation_time, threshold=_threshold))


def as_tensor(array: Array) -> Tensor:
    """A tensor as it is, and a copy of a NumPy array: torch knows neither read-only nor reversed ones."""
    return array if isinstance(array, Tensor) else torch.from_numpy(np.array(array, order="C"))


def _scaled(
    frames: Float[Tensor, "B T C H W"], data_range: PerField, lowest: PerField = 0.0
) -> Float[Tensor, "B T C H W"]:
    """Frames in which the lowest value of each field is 0 and the highest 1."""
    if not bool((torch.as_tensor(data_range) > 0).all()):
        raise ValueError(f"data_range must be positive, but it is {data_range}; give the span of the field's values")
    span, low = (bound.to(frames) if isinstance(bound, Tensor) else bound for bound in (data_range, lowest))
    return (frames - low) / span


def _float32(prediction: Array, target: Array) -> tuple[Tensor, Tensor]:
    if prediction.shape != target.shape:
        raise ValueError(
            f"Forecast and truth must have the same shape (B, T, C, H, W), got {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}."
        )
    return as_tensor(prediction).float(), as_tensor(target).float()
