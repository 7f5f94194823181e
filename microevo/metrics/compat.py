"""The numbers of OpenSTL and MicroEvoEval tables, under names that say whose they are.

Beside the metrics of `pixel` and not instead of them: these differ by factors of the image size, clip the forecast, or
assume another range. Averages over frames are left to the caller, as everywhere; OpenSTL averages batches, so its own
numbers weight a short last batch like a full one.

OpenSTL: github.com/chengtan9907/OpenSTL, `openstl/core/metrics.py`. MicroEvoEval: arXiv 2511.08955, whose tables come
from the same file with the `spatial norm` switched on (so that its MSE is our `squared_error`), and whose physical metrics
come from `MicroEvoEvalCore/data_processing.py` of github.com/ArcueidCroft/MircoEvoEval (commit 7af5f93; `start_test`,
`count_bw_areas` and `count_areas`): L-ETAP for plane wave, spinodal decomposition and dendrite, L-EAPSR for grain growth.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import conv2d

from microevo.metrics.pixel import Array, absolute_error, as_tensor, squared_error
from microevo.metrics.registry import NotApplicableError, metric

OPENSTL_WINDOW = 7
GAUSSIAN_WINDOW, GAUSSIAN_SIGMA = 11, 1.5
HALF_GREY = 128 / 255  # of `count_bw_areas`
GRAIN_GREY = 205  # of `count_areas`
ENLARGED = 256  # side to which `count_areas` resizes every image
ENLARGED_GREY = 55


# ---------------------------------------------------------------- OpenSTL


@metric(title="MSE as in OpenSTL", better="lower", convention=True)
def mse_openstl(prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"]) -> Float[Tensor, "B T"]:
    """Squared error **summed** over fields and pixels; lower is better.

    `C * H * W` times `squared_error`. OpenSTL's MSE is its mean over samples and frames, and OpenSTL's RMSE the root of
    that one mean.
    """
    return squared_error(prediction, target) * math.prod(target.shape[2:])


@metric(title="MAE as in OpenSTL", better="lower", convention=True)
def mae_openstl(prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"]) -> Float[Tensor, "B T"]:
    """Absolute error **summed** over fields and pixels; lower is better."""
    return absolute_error(prediction, target) * math.prod(target.shape[2:])


@metric(title="PSNR as in OpenSTL", unit="dB", better="higher", convention=True)
def psnr_openstl(prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"]) -> Float[Tensor, "B T"]:
    """Peak signal-to-noise ratio for values in [0, 1], the forecast clipped to them and the truth not [dB]; higher is better."""
    return -10 * squared_error(_clipped(prediction), target).log10()


@metric(title="SNR as in OpenSTL", unit="dB", better="higher", convention=True)
def snr_openstl(prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"]) -> Float[Tensor, "B T"]:
    """`10 log10(sum target^2 / sum (target - prediction)^2)`, the forecast clipped to [0, 1] [dB]; higher is better."""
    signal = as_tensor(target).float().square().mean(dim=(2, 3, 4))
    return 10 * (signal / squared_error(_clipped(prediction), target)).log10()


@metric(title="SSIM as in OpenSTL", better="higher", convention=True)
def ssim_openstl(
    prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"], data_range: float = 2.0
) -> Float[Tensor, "B T"]:
    """Structural similarity as in published OpenSTL and MicroEvoEval tables [1]; higher is better.

    A uniform window of 7 x 7 pixels wholly inside the frame, sample covariance, K1 = 0.01, K2 = 0.03, forecast clipped to
    [0, 1]: the defaults of scikit-image. `data_range` 2 is what its versions up to 0.19 took for floating-point frames,
    which is kind to values in [0, 1]; 1 is right for them.

    Raises:
        NotApplicableError: If the frames are smaller than the window.
    """
    if min(target.shape[-2:]) < OPENSTL_WINDOW:
        raise NotApplicableError(
            f"ssim_openstl needs frames of at least {OPENSTL_WINDOW} x {OPENSTL_WINDOW} pixels, but they are "
            f"{target.shape[-2]} x {target.shape[-1]}; use larger frames or leave it out"
        )
    uniform = torch.full((OPENSTL_WINDOW,), 1 / OPENSTL_WINDOW)
    samples = OPENSTL_WINDOW**2
    return _ssim(
        _clipped(prediction),
        as_tensor(target),
        uniform,
        (0.01 * data_range, 0.03 * data_range),
        samples / (samples - 1),
    )


def ssim_gaussian_openstl(
    prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"]
) -> Float[Tensor, "B T"]:
    """The other SSIM of the same file, with constants for values in [0, 255] [1].

    Close to 1 for values in [0, 1] whatever the forecast. No table reports it; here to recognise it where one does.

    Raises:
        NotApplicableError: If the frames are smaller than the window of 11 x 11 pixels.
    """
    if min(target.shape[-2:]) < GAUSSIAN_WINDOW:
        raise NotApplicableError(
            f"ssim_gaussian_openstl needs frames of at least {GAUSSIAN_WINDOW} x {GAUSSIAN_WINDOW} pixels, but they are "
            f"{target.shape[-2]} x {target.shape[-1]}; use larger frames or leave it out"
        )
    places = torch.arange(GAUSSIAN_WINDOW) - GAUSSIAN_WINDOW // 2
    gaussian = torch.exp(-0.5 * (places / GAUSSIAN_SIGMA) ** 2)
    return _ssim(_clipped(prediction), as_tensor(target), gaussian / gaussian.sum(), (0.01 * 255, 0.03 * 255), 1.0)


def _clipped(prediction: Array) -> Tensor:
    return as_tensor(prediction).float().clamp(0, 1)


def _ssim(
    prediction: Tensor, target: Tensor, window: Tensor, constants: tuple[float, float], unbiased: float
) -> Float[Tensor, "B T"]:
    """SSIM with a separable window, wherever it lies inside the frame.

    Args:
        prediction: Forecast.
        target: Truth.
        window: Weights along one axis.
        constants: sqrt(C1) and sqrt(C2).
        unbiased: Factor of variances and covariance.
    """
    # Apple's MPS has no float64; autocast leaves it alone.
    dtype = torch.float32 if target.device.type == "mps" else torch.float64
    x, y = prediction.to(dtype), target.to(dtype)
    weights = window.to(x)

    def local_mean(u: Tensor) -> Tensor:
        frames = u.flatten(0, 2)[:, None]
        frames = conv2d(conv2d(frames, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
        return frames[:, 0].unflatten(0, u.shape[:3])

    mean_x, mean_y = local_mean(x), local_mean(y)
    variances = unbiased * (local_mean(x * x) - mean_x**2 + local_mean(y * y) - mean_y**2)
    covariance = unbiased * (local_mean(x * y) - mean_x * mean_y)
    c1, c2 = constants[0] ** 2, constants[1] ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).mean(dim=(2, 3, 4)).float()


# ----------------------------------------------------------- MicroEvoEval


@metric(title="share of dark pixels as in MicroEvoEval's L-ETAP, error", better="lower", convention=True)
def letap_microevoeval(
    prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"]
) -> Float[Tensor, "B T"]:
    """What MicroEvoEval's L-ETAP is made of: error of the share of dark pixels [1]; lower is better.

    A pixel of the truth is dark below 128/255; the forecast is stretched to [0, 1] frame by frame first, so that a
    forecast's lost contrast is not counted, and its outliers are. `microevoeval_total` turns the values of a whole test
    set into the published number. A forecast frame that is not finite, or without any contrast, scores NaN (the original
    counts no dark pixel in the latter).
    """
    frames, truth = _stretched(_one_field(prediction, "letap_microevoeval")), as_tensor(target)[:, :, 0]
    dark = [(x < HALF_GREY).float().mean(dim=(2, 3)) for x in (frames, truth)]
    # Comparisons with NaN are false, which would make a share of 0.
    known = frames.isfinite().all(dim=3).all(dim=2) & truth.isfinite().all(dim=3).all(dim=2)
    return torch.where(known, (dark[0] - dark[1]).abs(), torch.nan)


@metric(
    title="mean share of a grain as in MicroEvoEval's L-EAPSR, error",
    better="lower",
    convention=True,
    where="grain_count",
)
def leapsr_microevoeval(
    prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"]
) -> Float[Tensor, "B T"]:
    """What MicroEvoEval's L-EAPSR is made of, for grain growth: error of the mean share of a grain [1]; lower is better.

    The mean share of a grain is 1 / (number of grains). Grains are counted on the frame stretched to [0, 255]: bright
    regions (above 205), in a dark border of one pixel, after bilinear enlargement to 256 x 256 and a morphological
    closing of 3 x 3; not periodic, so a grain across the border counts more than once. `microevoeval_total` turns the
    values of a whole test set into the published number. A frame that is not finite, without contrast or without grains
    scores NaN.

    The original calls OpenCV. Enlargement and outlines are computed here in the same integer arithmetic; builds of
    OpenCV that round otherwise may differ by a grain in rare frames.
    """
    frames = _one_field(prediction, "leapsr_microevoeval")
    shares = []
    for x in (frames, as_tensor(target)[:, :, 0].float()):
        grey = _stretched(x).detach().cpu().numpy() * np.float32(255)
        counts = np.array([_count_bright(frame) for frame in grey.reshape(-1, *grey.shape[2:])], dtype=np.float32)
        shares.append(torch.from_numpy(1 / np.where(counts > 0, counts, np.nan)).view(x.shape[:2]).to(x))
    return (shares[0] - shares[1]).abs()


def microevoeval_total(values: Float[Array, "B T"]) -> Float[Tensor, ""]:
    """The published L-ETAP or L-EAPSR of a test set: root of the **sum** of squares over samples and leads [1].

    It grows with the root of the number of samples and leads, so two numbers compare for equal test sets only. NaN if any
    value is.
    """
    values = as_tensor(values)
    return values.double().square().sum().sqrt().to(values)


def sum_of_squares(values: Float[np.ndarray, "B T"]) -> Float[np.ndarray, " B"]:
    """What a forecast adds to the square of `microevoeval_total` [1]."""
    return (values**2).sum(axis=1)


def root_of_sum(squares: Float[np.ndarray, "*any"], forecasts: int = 1) -> Float[np.ndarray, "*any"]:
    """`microevoeval_total` from the mean of `sum_of_squares` over a number of forecasts [1]."""
    return np.asarray((squares * forecasts) ** 0.5)


for _name, _title in {"letap_microevoeval": "L-ETAP", "leapsr_microevoeval": "L-EAPSR"}.items():
    metric(
        name=f"{_name}_squares",
        title=f"{_title} as in MicroEvoEval, square of one forecast's part",
        better="lower",
        of="leads",
        source=_name,
        convention=True,
    )(sum_of_squares)
    metric(
        name=f"{_name}_total",
        title=f"{_title} as in MicroEvoEval, of all forecasts",
        better="lower",
        of="mean",
        source=f"{_name}_squares",
        convention=True,
    )(root_of_sum)


def _one_field(prediction: Array, name: str) -> Tensor:
    if prediction.shape[2] != 1:
        raise NotApplicableError(
            f"{name} is defined for one field, but there are {prediction.shape[2]}; pass one of them"
        )
    return as_tensor(prediction)[:, :, 0].float()


def _stretched(frames: Float[Tensor, "B T H W"]) -> Float[Tensor, "B T H W"]:
    lowest = frames.amin(dim=(2, 3), keepdim=True)
    raised = frames - lowest
    return raised / raised.amax(dim=(2, 3), keepdim=True)


def _count_bright(grey: Float[np.ndarray, "H W"]) -> int:
    """Number of bright regions of a frame in [0, 255], 0 if it is not finite."""
    if not np.isfinite(grey).all():
        return 0
    dark = np.pad(grey.astype(np.uint8) <= GRAIN_GREY, 1, constant_values=True)
    bright = _enlarged(dark.astype(np.uint8) * np.uint8(255)) <= ENLARGED_GREY
    closed = ndimage.binary_closing(np.pad(bright, 2), np.ones((3, 3)))[2:-2, 2:-2]
    # An outline is one 8-connected region; those in the holes of another one are not counted.
    return int(ndimage.label(ndimage.binary_fill_holes(closed), np.ones((3, 3)))[1])


def _enlarged(image: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "256 256"]:
    """Bilinear enlargement in OpenCV's fixed-point arithmetic: weights of 11 bits, half-pixel centres."""
    (top, left), (row, column) = zip(*(_taps(n) for n in image.shape), strict=True)
    source = image.astype(np.int64)
    below = np.minimum(top + 1, image.shape[0] - 1)
    right = np.minimum(left + 1, image.shape[1] - 1)
    across = source[:, left] * (2048 - column) + source[:, right] * column
    upper = ((2048 - row)[:, None] * (across[top] >> 4)) >> 16
    lower = (row[:, None] * (across[below] >> 4)) >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def _taps(pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """First of the two pixels that each enlarged one lies between, and the weight of the second, times 2048."""
    place = (np.arange(ENLARGED) + 0.5) * (pixels / ENLARGED) - 0.5
    first = np.floor(place).astype(np.int64)
    weight = place - first
    weight[first < 0] = 0
    return first.clip(0, pixels - 1), np.rint(weight * 2048).astype(np.int64)
