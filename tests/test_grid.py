import math

import pytest
import torch

from microevo.processes import Grid


@pytest.mark.parametrize("shape", [(8,), (6, 9), (4, 6, 8)])
def test_image_is_the_mean_over_blocks(shape: tuple[int, ...]) -> None:
    fine = Grid(shape=tuple(2 * cells for cells in shape), spacing=0.5, coarsen=2)
    u = torch.randn(2, 3, *fine.shape, dtype=torch.float64)
    image = fine.block_mean(u)
    assert fine.image_shape == shape
    assert fine.image_spacing == 1.0
    assert image.shape == (2, 3, *shape)
    corner = u[(slice(None), slice(None), *(slice(0, 2) for _ in shape))]
    torch.testing.assert_close(image[(..., *(0 for _ in shape))], corner.flatten(2).mean(2))


@pytest.mark.parametrize("shape", [(8,), (6, 9), (4, 6, 8), (5, 4, 7)])
def test_wavenumbers_are_those_of_the_laplacian(shape: tuple[int, ...]) -> None:
    grid = Grid(shape=shape, spacing=0.7)
    k_squared = grid.wavenumbers_squared()
    assert k_squared.dtype == torch.float64
    assert k_squared.shape == (*shape[:-1], shape[-1] // 2 + 1)
    # One wave along each axis: its transform sits where k^2 is the sum of (2 pi / length)^2.
    wave = torch.ones((), dtype=torch.float64)
    for cells in shape:
        wave = wave[..., None] * torch.cos(2 * math.pi * torch.arange(cells) / cells)
    power = torch.fft.rfftn(wave).abs() ** 2
    expected = sum((2 * math.pi / (cells * 0.7)) ** 2 for cells in shape)
    assert float((power * k_squared).sum() / power.sum()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", [(8,), (6, 9), (5, 8), (4, 6, 7)])
def test_mode_weights_satisfy_parseval_up_to_a_constant(shape: tuple[int, ...]) -> None:
    weights = Grid(shape=shape).mode_weights()

    def ratio() -> float:
        u = torch.randn(shape, dtype=torch.float64)
        return float((torch.fft.rfftn(u).abs() ** 2 * weights).sum() / u.square().sum())

    assert ratio() == pytest.approx(ratio(), rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shape": ()}, "shape"),
        ({"shape": (64, 1)}, r"\(64, 1\)"),
        ({"spacing": 0.0}, "spacing"),
        ({"spacing": -1.0}, "-1.0"),
        ({"coarsen": 0}, "coarsen"),
        ({"shape": (64, 65), "coarsen": 2}, "coarsen must divide"),
    ],
)
def test_impossible_grids_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Grid(**settings)
