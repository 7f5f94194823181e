"""Persistence: the baseline forecast, in which nothing changes any more."""

from einops import repeat
from jaxtyping import Float
from torch import Tensor

from microevo.models.forecaster import Forecaster


class Persistence(Forecaster):
    """Repeats the last past frame. It takes frames of any size, has no parameters and cannot be trained."""

    any_past = True

    def forward(self, past: Float[Tensor, "B n_past C H W"], horizon: int) -> Float[Tensor, "B {horizon} C H W"]:
        """The last frame of `past`, `horizon` times."""
        return repeat(past[:, -1], "B C H W -> B T C H W", T=horizon)

    def setup(self, stage: str) -> None:
        """Check that the model is not to be trained."""
        if stage == "fit":
            raise ValueError("Persistence has no parameters, so there is nothing to train; run test instead of fit.")
        super().setup(stage)
