"""Pixel by pixel distances between forecast and truth, one value per frame.

Every function takes frames `B T C H W` and returns `B T`. Averaging over samples is somebody else's job (see
`lead`), so that a number does not depend on the batch size. All arithmetic is float32 or wider, also under
autocast.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def squared_error(prediction: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T"]:
    """Squared error, mean over fields and pixels [field units squared]; lower is better.

    OpenSTL tables sum over fields and pixels instead: divide theirs by `C * H * W` to compare.
    """
    prediction, target = _float32(prediction, target)
    return (prediction - target).square().mean(dim=(2, 3, 4))


def absolute_error(prediction: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T"]:
    """Absolute error, mean over fields and pixels [field units]; lower is better."""
    prediction, target = _float32(prediction, target)
    return (prediction - target).abs().mean(dim=(2, 3, 4))


def relative_l2(prediction: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T"]:
    """`||prediction - target|| / ||target||`, norms over fields and pixels [1]; lower is better.

    A frame that is zero everywhere scores 0 when it is forecast exactly and infinity otherwise.
    """
    prediction, target = _float32(prediction, target)
    error = torch.linalg.vector_norm(prediction - target, dim=(2, 3, 4))
    ratio = error / torch.linalg.vector_norm(target, dim=(2, 3, 4))
    return torch.where(error == 0, error, ratio)


def ssim(
    prediction: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"], data_range: float = 1.0
) -> Float[Tensor, "B T"]:
    """Structural similarity, mean over fields and pixels [1]; higher is better, 1 for equal frames.

    Gaussian window of 11 x 11 pixels, standard deviation 1.5, K1 = 0.01, K2 = 0.03, population covariance:
    the definition of Wang et al., IEEE Trans. Image Process. 13, 600 (2004). Three numbers go by this name:

    - here: the mean over the whole frame, mirrored beyond its edges (torchmetrics);
    - scikit-image, `gaussian_weights=True, use_sample_covariance=False`: the same map, 5 pixels cropped;
    - OpenSTL and MicroEvoEval tables: a uniform 7 x 7 window and, for floats, a data range of 2 (kinder).

    Neither argument is clipped.

    Args:
        prediction: Forecast frames.
        target: True frames, at least 11 x 11 pixels.
        data_range: Largest minus smallest value a field can take [field units].

    Raises:
        ValueError: If the frames are smaller than the window or `data_range` is not positive.
    """
    prediction, target = _float32(prediction, target)
    height, width = target.shape[-2:]
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM needs frames of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, got {height} x {width}: "
            "use larger frames or leave SSIM out."
        )
    if not data_range > 0:
        raise ValueError(f"data_range must be positive, got {data_range}: give the span of the field's values.")
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
            data_range=float(data_range),
        )
    assert isinstance(value, Tensor)  # a tuple only if the full map is asked for
    return value.float().unflatten(0, target.shape[:2])


def _float32(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if prediction.shape != target.shape:
        raise ValueError(
            f"Forecast and truth must have the same shape (B, T, C, H, W), got {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}."
        )
    return prediction.float(), target.float()
