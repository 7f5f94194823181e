"""LocalNet: a small network that advances the fields from frame to frame, as the physics does."""

import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from microevo.models.batch import ParameterValues
from microevo.models.conditioning import ParameterEncoder
from microevo.models.continuation import continued, cropped
from microevo.models.network import Boundary, NetworkForecaster
from microevo.models.recurrence import fit_recurrence, prolonged
from microevo.models.step_net import ContextEncoder, LocalConv, StepNet
from microevo.models.transport import TransportHead

WALL = 8  # pixels of the mirror image beyond a wall that the network sees
PARAMETER_FEATURES = 32  # size of the vector that the parameters of a trajectory are embedded in
Head = Literal["free", "mean-free", "conserving", "bounded", "transport"]


class LocalNet(NetworkForecaster):
    """A network that steps from frame to frame: each step adds the change that `StepNet` sees in the last frames.

    Evolution is local and the same everywhere, so that a small network which predicts the increment, continues the
    frames at their borders as the physics does and is trained through its own forecast learns the law from little data
    (arXiv 2511.10171; arXiv 2602.01941 for exact conservation; arXiv 2402.12971 for training through the forecast).
    Changes are measured in units of the root mean square change between frames of the training split, which is
    kept in the checkpoint together with the boundary condition and the range of the values.

    A forecast may be conditioned on parameters of the trajectory, such as its mobility (`parameters`), and on a vector that
    describes its past frames (`context`): both scale and shift the features of every block.

    Args:
        widths: Features at each scale, the finest first; each further scale is half as fine.
        blocks: Residual 3x3 convolutions at each scale.
        dilations: Dilation of the convolutions at the finest scale, repeated as often as needed.
        patch: Side of the patches that are folded into features before the first convolution [px].
        frames_in: Last frames that the network sees.
        frames_per_call: Frames that it advances in one call.
        context: Size of a vector that describes all past frames; 0 for none.
        recurrence: Number of frames of a linear recurrence in time, fitted to the past frames, that each step starts from, so
            that the network learns what is left of the change. 2 suits waves; with 0 a step starts from the last frame.
        head: How a change is applied. `free`: as it is. `mean-free`: less its mean. `conserving`: as the divergence of
            fluxes, so that the mean of every field is conserved to rounding. `bounded`: as it is, but the fields stay
            within the range of the training split. `transport`: as amounts that pixels hand to their neighbours, which conserves
            every mean and respects that range, see `TransportHead`.
        reach: Distance that amounts move in a step with the head `transport`, along an axis [px].
        kwargs: Settings of every network, see `NetworkForecaster`.

    Raises:
        ValueError: A setting is out of its range.
    """

    takes_parameters = True

    change_rms: Tensor
    lowest: Tensor
    highest: Tensor
    center: Tensor
    spread: Tensor

    def __init__(
        self,
        widths: list[int] = [64],  # noqa: B006  (never changed; jsonargparse shows it as the default)
        blocks: int = 5,
        dilations: list[int] = [1],  # noqa: B006
        patch: int = 2,
        frames_in: int = 1,
        frames_per_call: int = 1,
        context: int = 0,
        recurrence: int = 0,
        head: Head = "free",
        reach: int = 2,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        counts = {
            "blocks": blocks,
            "patch": patch,
            "frames_in": frames_in,
            "frames_per_call": frames_per_call,
            "reach": reach,
        }
        for name, value in (
            counts | {"widths": min(widths, default=0), "dilations": min(dilations, default=0)}
        ).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, but it is {value}")
        if frames_in > self.n_past:
            raise ValueError(f"frames_in must be at most n_past = {self.n_past}, but it is {frames_in}")
        if recurrence and not 0 < recurrence < self.n_past:
            raise ValueError(
                f"recurrence must be below n_past = {self.n_past}, and not negative, but it is {recurrence}"
            )
        if recurrence and head in ("mean-free", "conserving", "transport"):
            raise ValueError(f"a recurrence does not conserve the mean, but head is {head}; set it to free or bounded")
        if head == "transport" and frames_per_call > 1:
            raise ValueError(
                f"the head transport moves amounts from frame to frame, but frames_per_call is {frames_per_call}; set it to 1"
            )
        if context and self.n_past < 2:
            raise ValueError(f"a context needs changes between past frames, but n_past is {self.n_past}")
        self.save_hyperparameters(logger=False)
        self.frames_in, self.frames_per_call = frames_in, frames_per_call
        self.recurrence = recurrence
        self.any_past = frames_in == 1 and not context and not recurrence  # then it looks at the last frame alone
        self.head = head
        self.transport = TransportHead(reach) if head == "transport" else None
        outputs = self.transport.outputs if self.transport else 2 if head == "conserving" else 1
        names = self.parameter_names
        described = context + (PARAMETER_FEATURES if names else 0)
        self.net = StepNet(
            self.channels,
            frames_in,
            frames_per_call,
            widths,
            blocks,
            dilations,
            patch,
            context=described,
            outputs=outputs,
        )
        self.encoder = ContextEncoder(self.channels, context) if context else None
        self.parameter_encoder = ParameterEncoder(names, PARAMETER_FEATURES) if names else None
        self.register_buffer("change_rms", torch.ones(self.channels))
        self.register_buffer("center", torch.zeros(self.channels))
        self.register_buffer("spread", torch.ones(self.channels))
        low, high = (0.0, 1.0) if head == "transport" else (-math.inf, math.inf)
        self.register_buffer("lowest", torch.full((self.channels,), low))
        self.register_buffer("highest", torch.full((self.channels,), high))
        self._apply_boundary()

    def setup(self, stage: str) -> None:
        """Take the boundary condition and, for a new training, the statistics of the changes from the data."""
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if data is None or stage != "fit":
            return
        self._compare_distances(getattr(data, "pixels_per_frame", None))
        if self.is_new(stage):
            self.take_statistics(*map(torch.from_numpy, data.change_statistics()))
            if self.parameter_encoder is not None:
                for name in self.parameter_encoder.take_statistics(torch.from_numpy(data.training_parameters())):
                    rank_zero_info(
                        f"{name} is the same in all training trajectories, so that its influence cannot be learned"
                    )

    def _compare_distances(self, travelled: float | None) -> None:
        """Say how far the network sees, beside how far the process reaches from one frame to the next."""
        sees = self.net.receptive_field
        sentence = f"LocalNet sees {sees} pixels to each side"
        if travelled is not None:
            distance = travelled * self.frames_per_call**0.5  # most processes diffuse
            sentence += f"; in its step the process reaches about {distance:.2g}"
            if sees < 2 * distance:
                sentence += (
                    ", of which it should see at least twice as much: add a scale to widths, or raise patch or blocks"
                )
        rank_zero_info(sentence)

    def take_statistics(
        self, change_rms: Float[Tensor, " C"], lowest: Float[Tensor, " C"], highest: Float[Tensor, " C"]
    ) -> None:
        """Scale fields and changes as the training data ask for."""
        self.change_rms.copy_(change_rms)
        self.lowest.copy_(lowest)
        self.highest.copy_(highest)
        self.center.copy_((lowest + highest) / 2)
        self.spread.copy_((highest - lowest).clamp(min=1e-6) / 2)
        if self.transport is not None:  # an untrained network moves about as much as changes in a frame
            typical = (change_rms / (2 * self.spread)).clamp(1e-4, 0.5)
            bias = self.net.head.conv.bias
            assert bias is not None
            bias.data.view(2, -1, self.channels, self.net.patch**2)[:, 0] = typical.logit()[:, None]

    @property
    def error_scale(self) -> Float[Tensor, "C 1 1"]:
        """The root mean square change between frames, so that training does not depend on how fast the process is."""
        return self.change_rms[:, None, None]

    @property
    def block_length(self) -> int | None:
        """Number of frames in a step; None with a context or a recurrence, which come from the frames before the forecast."""
        return None if self.encoder is not None or self.recurrence else self.frames_per_call

    def forward(
        self, past: Float[Tensor, "B n_past C H W"], horizon: int, parameters: ParameterValues = None
    ) -> Float[Tensor, "B {horizon} C H W"]:
        """Forecast the `horizon` frames that follow `past`, step by step.

        Args:
            past: Input frames.
            horizon: Number of frames to forecast.
            parameters: The parameters of each sample that the network is conditioned on, or those of all samples by name.

        Raises:
            ValueError: A parameter is missing or unknown.
        """
        context = self._context(past, parameters)
        coefficients = fit_recurrence(past, self.recurrence) if self.recurrence else None
        memory = max(self.frames_in, self.recurrence)
        recent, frames = past[:, -memory:], []
        for _ in range(math.ceil(horizon / self.frames_per_call)):
            following = self.call(self.step, recent, context, coefficients)
            frames.append(following)
            recent = torch.cat([recent, following], dim=1)[:, -memory:]
        return torch.cat(frames, dim=1)[:, :horizon]

    def _context(
        self, past: Float[Tensor, "B n_past C H W"], parameters: ParameterValues
    ) -> Float[Tensor, "B k"] | None:
        """What modulates the blocks: the vector that describes the past frames, and that of the parameters."""
        described = [] if self.encoder is None else [self.encoder(past, self.change_rms)]
        conditions = self.conditions(parameters)
        if self.parameter_encoder is not None:
            described.append(self.parameter_encoder(*conditions, past))
        return torch.cat(described, dim=1) if described else None

    def step(
        self,
        recent: Float[Tensor, "B n C H W"],
        context: Float[Tensor, "B k"] | None = None,
        coefficients: Float[Tensor, "B C j"] | None = None,
    ) -> Float[Tensor, "B m C H W"]:
        """The `frames_per_call` frames that follow `recent`."""
        rows, columns = (self._margins(size) for size in recent.shape[-2:])
        shown = continued(recent[:, -self.frames_in :], rows, columns, self.net.periodic)
        outputs = self.net((shown - self.center[:, None, None]) / self.spread[:, None, None], context)
        outputs = cropped(outputs, rows, columns).unflatten(1, (self.frames_per_call, -1, self.channels))
        if self.transport is not None:
            moved = self.transport(recent[:, -1], outputs[:, 0], self.lowest, self.highest, self.net.periodic)
            return recent[:, -1:] + moved[:, None]
        changes = self._divergence(outputs) if self.head == "conserving" else outputs[:, :, 0]
        if self.head == "mean-free":
            changes = changes - changes.mean(dim=(-2, -1), keepdim=True)
        scale = self.change_rms[:, None, None]
        start = recent[:, -1:] if coefficients is None else prolonged(recent, coefficients, self.frames_per_call)
        following = start + (scale * changes).cumsum(dim=1)
        if self.head == "bounded":
            following = following.clamp(self.lowest[:, None, None], self.highest[:, None, None])
        return following

    def _margins(self, size: int) -> tuple[int, int]:
        """Pixels that frames are continued by on both sides of an axis, so that the network's unit divides their number.

        At walls there are always some, whose mirror images the network sees. Periodic frames that fit wrap around within
        the network; others are continued as far as it sees.
        """
        unit = self.net.unit
        if self.net.periodic:
            margin = unit * math.ceil(self.net.receptive_field / unit) if size % unit else 0
        else:
            margin = WALL
        return margin, margin + -(size + 2 * margin) % unit

    def _divergence(self, fluxes: Float[Tensor, "B m 2 C H W"]) -> Float[Tensor, "B m C H W"]:
        """What flows into each pixel through its four sides; nothing passes a wall."""
        down, right = fluxes.unbind(2)  # through the lower and the right side
        if not self.net.periodic:
            down, right = F.pad(down[..., :-1, :], (0, 0, 0, 1)), F.pad(right[..., :-1], (0, 1))
        return down.roll(1, -2) - down + right.roll(1, -1) - right

    def _set_boundary(self, boundary: Boundary) -> None:
        super()._set_boundary(boundary)
        self._apply_boundary()

    def _apply_boundary(self) -> None:
        self.net.periodic = self.periodic
        for module in self.net.modules():
            if isinstance(module, LocalConv):
                module.mode = "circular" if self.net.periodic else "replicate"
