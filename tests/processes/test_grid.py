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


def test_a_list_is_no_shape() -> None:  # grids are keys of what is computed once
    with pytest.raises(TypeError, match=r"must be a tuple, such as \(64, 64\), but it is \[8, 8\]"):
        Grid(shape=[8, 8])  # type: ignore[arg-type]


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
