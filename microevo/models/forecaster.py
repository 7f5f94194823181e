"""Forecaster: the training, validation, test and checkpoints that all models have in common."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from microevo.models.batch import ParameterValues, WindowBatch, WindowTransform
from microevo.models.checkpoint import check_same_model, plain, read_checkpoint
from microevo.models.continuation import continued, cropped, halves
from microevo.models.finite import FiniteGuard
from microevo.models.objective import Objective
from microevo.models.optimisation import OptimisedModule
from microevo.models.scores import ForecastMetrics
from microevo.processes.residual import EquationResidual
from microevo.span import Span, described

TEST_LEADS = (1, 10, 50, 90, 190)


class Forecaster(OptimisedModule, ABC):
    """A model with a method `forward(past, horizon)`, and its training, validation and test.

    A new model implements `forward`, and `loss` if it is not trained on its own forecasts. Its constructor calls
    `self.save_hyperparameters(logger=False)`, as here, so that it can be rebuilt from a checkpoint. It sets
    `any_past` if `forward` takes any number of past frames, and `takes_parameters` if its third argument may be the values of
    the parameters that it is conditioned on.

    Args:
        n_past: Number of past frames in a window. On the command line it is taken from the data.
        channels: Number of fields in a frame. On the command line it is taken from the data.
        horizon: Number of frames forecast in validation and test. On the command line it is taken from the data.
        lr: Learning rate; with `onecycle`, its maximum.
        weight_decay: Weight decay of AdamW.
        schedule: With `onecycle` the learning rate rises and falls once over the whole run, whose length is given by
            `trainer.max_epochs` or `trainer.max_steps`, or by `trainer.max_time` alone. With `constant` it stays at `lr`.
        warmup: Share of the run in which the learning rate rises, with `onecycle`.
        ssim_weight: Weight of `1 - SSIM` in the loss, beside the mean squared error.
        physics_weight: Weight of the squared residual of the process's equation in the loss, see `Objective`. The data must be
            simulated, and saved on the solver's grid.
        data_range: Largest value of every field, if the smallest is 0, for SSIM and PSNR [field units]. With null the values
            between which each field lies are taken from the data: what the process declares, else the range of the training
            split. Without a datamodule they are those that the model was trained with, else 0 and 1.
        init_from: Checkpoint whose weights a new run starts from. The optimiser and the schedule start anew.
        parameters: Parameters of the trajectories, such as a mobility, that the forecast is conditioned on. On the command line
            they are taken from the data.

    Raises:
        ValueError: A setting is out of its range, or the model cannot be conditioned on parameters.
    """

    any_past: bool = False
    takes_parameters: bool = False

    def __init__(
        self,
        n_past: int = 10,
        channels: int = 1,
        horizon: int = 90,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Literal["onecycle", "constant"] = "onecycle",
        warmup: float = 0.3,
        ssim_weight: float = 0.0,
        physics_weight: float = 0.0,
        data_range: float | None = None,
        init_from: str | None = None,
        parameters: list[str] = [],  # noqa: B006  (never changed; jsonargparse shows it as the default)
    ):
        super().__init__(lr, weight_decay, schedule, warmup)
        for name, value in {"n_past": n_past, "channels": channels, "horizon": horizon}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if parameters and not self.takes_parameters:
            raise ValueError(
                f"{type(self).__name__} cannot be conditioned on parameters ({', '.join(parameters)}); choose LocalNet, or leave "
                "`parameters` of the data out"
            )
        self.save_hyperparameters(logger=False)
        self.n_past, self.channels, self.horizon = n_past, channels, horizon
        self.parameter_names = list(parameters)
        self.data_range, self.init_from = data_range, init_from
        self._objective = Objective(ssim_weight, physics_weight)
        self.spans: dict[str, Span] = {}  # of the fields of the data that are scored
        self.trained_spans: dict[str, Span] = {}  # of those that the weights were trained on
        self.metrics = ForecastMetrics(
            horizon, {"all": Span(0.0, 1.0 if data_range is None else data_range, "setting")}
        )
        self.trained_seed: int | None = None  # seed of the run in which the weights were trained
        self._continued: set[tuple[torch.Size, torch.Size]] = set()  # sizes of frames of which it was said

    @abstractmethod
    def forward(self, past: Float[Tensor, "B n_past C H W"], horizon: int) -> Float[Tensor, "B {horizon} C H W"]:
        """Forecast the `horizon` frames that follow `past`."""

    def loss(
        self,
        past: Float[Tensor, "B n_past C H W"],
        future: Float[Tensor, "B n_future C H W"],
        parameters: ParameterValues = None,
    ) -> Float[Tensor, ""]:
        """The training loss: by default `objective` and `physics` of the forecast, with the gradient through all frames."""
        forecast = self(past, future.shape[1], *self.conditions(parameters))
        return self.objective(forecast, future) + self.physics(past[:, -1:], forecast)

    def objective(
        self, prediction: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"]
    ) -> Float[Tensor, ""]:
        """`Objective.error` of predicted frames, with the squared error in units of `error_scale`, if the model has one."""
        return self._objective.error(prediction, target, self.metrics.ssim, self.error_scale)

    def physics(
        self, before: Float[Tensor, "B 1 C H W"], prediction: Float[Tensor, "B T C H W"]
    ) -> Float[Tensor, ""] | float:
        """`Objective.physics` of predicted frames and the frame before them."""
        return self._objective.physics(before, prediction)

    @property
    def error_scale(self) -> Float[Tensor, "C 1 1"] | None:
        """What a training measures the error of each field in; none for the unit of the field."""
        return None

    @property
    def block_length(self) -> int | None:
        """Number of frames that are predicted at once and, with the `n_past` last frames, are all that the next ones depend on.

        None for a model that carries more along, such as the hidden state of a recurrent network.
        """
        return None

    @property
    def unit(self) -> int:
        """Number of pixels that must divide height and width of the frames."""
        return 1

    def forecast(
        self,
        past: Float[Tensor, "B n_past C H W"],
        horizon: int,
        boundary: str,
        parameters: ParameterValues = None,
    ) -> Float[Tensor, "B {horizon} C H W"]:
        """`forward` for frames of any size: those that `unit` does not divide are continued, and the forecast is cropped.

        Args:
            past: Input frames.
            horizon: Number of frames to forecast.
            boundary: Boundary condition of the data; `periodic` frames are wrapped around, others mirrored.
            parameters: Values of the parameters that the model is conditioned on.
        """
        rows, columns = (halves(size, self.unit) for size in past.shape[-2:])
        if not any(rows + columns):
            return self(past, horizon, *self.conditions(parameters))
        larger = continued(past, rows, columns, boundary == "periodic")
        if (sizes := (past.shape[-2:], larger.shape[-2:])) not in self._continued:
            self._continued.add(sizes)
            (height, width), (to_height, to_width) = sizes
            how = "wrapped around" if boundary == "periodic" else "mirrored"
            rank_zero_info(
                f"{type(self).__name__} takes heights and widths divisible by {self.unit}: frames of {height} x {width} pixels "
                f"are {how} to {to_height} x {to_width}, and forecasts cropped"
            )
        return cropped(self(larger, horizon, *self.conditions(parameters)), rows, columns)

    def conditions(self, parameters: ParameterValues) -> tuple[ParameterValues, ...]:
        """The third argument of `forward`, of a model that is conditioned on parameters.

        Raises:
            ValueError: There are parameters, but the model is not conditioned on any.
        """
        if self.parameter_names:
            return (parameters,)
        if parameters.numel() if isinstance(parameters, Tensor) else parameters:
            raise ValueError(f"this {type(self).__name__} is not conditioned on parameters; leave them out")
        return ()

    def parameters_of(self, batch: WindowBatch) -> Float[Tensor, "B P"] | None:
        """The parameters of a batch, if the model is conditioned on any."""
        return batch.parameters if self.parameter_names else None

    # What the scores are made of

    def setup(self, stage: str) -> None:
        """Scale the scores by the spans of the data's fields, and say which metrics are not defined for their frames.

        Raises:
            ValueError: The loss, or what a callback monitors, is one of those metrics, or the data bring other parameters.
        """
        data = getattr(self.trainer, "datamodule", None)
        if (brought := getattr(data, "parameters", self.parameter_names)) != self.parameter_names:
            raise ValueError(
                f"{type(self).__name__} has the parameters {self.parameter_names}, but the windows of the data bring {brought}; "
                "give data and model the same ones"
            )
        if stage == "fit" and self._objective.physics_weight:
            self._take_equation(data)
        spans, shape = getattr(data, "spans", {}), getattr(data, "frame_shape", ())
        if stage == "predict" or not spans or not shape:
            return
        if self.data_range is not None:
            fixed = Span(0.0, self.data_range, "data_range of the model")
            if not all(span.same(fixed) for span in spans.values()):
                rank_zero_info(
                    f"data_range = {self.data_range:g} is set for the model, although the data have {described(spans)}; with "
                    "null these would be taken"
                )
            spans = dict.fromkeys(spans, fixed)
        self.spans = dict(spans)
        self._scale(self.spans)
        rank_zero_info(f"SSIM and PSNR are for {described(self.spans)}")
        self._compare_spans()
        self.metrics.choose(shape)
        if stage == "fit":
            self._check_defined()

    def _take_equation(self, data: Any) -> None:
        """Take the equation that forecasts are to solve from the data."""
        try:
            if data is None:
                raise ValueError("without a datamodule the process is not known")
            self._objective.set_equation(
                EquationResidual(*data.equation()), torch.from_numpy(data.change_statistics().change_rms)
            )
        except ValueError as error:
            raise ValueError(
                f"physics_weight is {self._objective.physics_weight:g}, but {error}; set it to 0"
            ) from error

    def _scale(self, spans: Mapping[str, Span]) -> None:
        self.metrics = ForecastMetrics(self.horizon, spans).to(self.device)

    def _compare_spans(self) -> None:
        """Say if the scores are scaled otherwise than those of the training."""
        old, new = list(self.trained_spans.values()), list(self.spans.values())
        if old and new and not (len(old) == len(new) and all(map(Span.same, old, new))):
            rank_zero_info(
                f"the model was trained and validated with {described(self.trained_spans)}: its SSIM and PSNR there do not "
                "compare with those here"
            )

    def _check_defined(self) -> None:
        """Check that a training does not depend on metrics that are not defined for its frames."""
        weight = self._objective.ssim_weight
        if weight and self.metrics.needs("ssim"):
            raise ValueError(
                f"ssim_weight is {weight:g}, but SSIM is not defined for these frames; set it to 0 or use larger frames"
            )
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            monitored = str(getattr(callback, "monitor", None))
            if monitored.startswith("val/") and self.metrics.needs(monitored.removeprefix("val/")):
                raise ValueError(
                    f"{type(callback).__name__} monitors {monitored}, which is not defined for these frames; set monitor to "
                    "val/mse"
                )

    # Training

    def configure_callbacks(self) -> list[Callback]:
        """The guard against numbers that are not finite, for every training."""
        return [FiniteGuard()]

    def on_fit_start(self) -> None:
        """Load the weights of `init_from`, unless a run is resumed, which has weights of its own."""
        super().on_fit_start()
        if self.init_from is None or self.trainer.ckpt_path is not None:
            return
        checkpoint = read_checkpoint(self.init_from)
        check_same_model(self, checkpoint)
        self.load_state_dict(checkpoint["state_dict"])

    def training_step(self, batch: WindowBatch, batch_idx: int) -> Float[Tensor, ""]:
        """The loss of one batch of windows."""
        self._check_windows(batch)
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WindowTransform):
                batch = callback.transform(self, batch)
        self._objective.begin(batch.trajectory)
        loss = self.loss(batch.past, batch.future, *self.conditions(self.parameters_of(batch)))
        self.log("train/loss", loss, batch_size=len(batch.past))
        for name, value in self._objective.terms.items():
            self.log(f"train/{name}", value, batch_size=len(batch.past))
        return loss

    # Validation, test, prediction

    def on_validation_epoch_start(self) -> None:
        """Start counting anew."""
        self.metrics.reset()

    def validation_step(self, batch: WindowBatch, batch_idx: int) -> None:
        """Score the forecasts of one batch."""
        forecast = self._forecast(batch)
        self.metrics.update(forecast, batch.future)

    def on_validation_epoch_end(self) -> None:
        """Log `val/<metric>`, averaged over lead times, and the squared error at the first, tenth and last one."""
        curves = self.metrics.curves()
        means = {name: curve.mean() for name, curve in curves.items()}
        means = {f"val/{name}": mean for name, mean in (means | self.metrics.derived(means)).items()}
        leads = {
            f"val/mse_lead{lead:03d}": curves["mse"][lead - 1]
            for lead in sorted({1, 10, self.horizon})
            if lead <= self.horizon
        }
        # `compute` has already combined the processes; `sync_dist` only tells Lightning so.
        # The training loss is left off the progress bar, since the host would have to wait for the device.
        self.log("val/mse", means.pop("val/mse"), sync_dist=True, prog_bar=True)
        self.log_dict(means | leads, sync_dist=True)

    def on_test_epoch_start(self) -> None:
        """Reset the metrics."""
        self.metrics.reset()

    def test_step(self, batch: WindowBatch, batch_idx: int) -> dict[str, Tensor]:
        """Score the forecasts of one batch.

        Returns:
            Each metric per window and lead time (B T), and the `trajectory` and `start` of each window.
        """
        forecast = self._forecast(batch)
        self.metrics.update(forecast, batch.future)
        return self.score(forecast, batch.future) | {"trajectory": batch.trajectory, "start": batch.start}

    def score(
        self, forecast: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"]
    ) -> dict[str, Float[Tensor, "B T"]]:
        """Every metric that is defined for frames of this size, per window and lead, by name."""
        return self.metrics.score(forecast, target)

    def on_test_epoch_end(self) -> None:
        """Log `test/<metric>/<lead>` and `test/<metric>/mean`."""
        curves = self.metrics.curves()
        values: dict[str, Tensor] = {}
        chosen = {str(lead): lead - 1 for lead in TEST_LEADS if lead <= self.horizon}
        for name, lead in {"mean": None, **chosen}.items():
            means = {metric: curve.mean() if lead is None else curve[lead] for metric, curve in curves.items()}
            values |= {f"test/{metric}/{name}": mean for metric, mean in (means | self.metrics.derived(means)).items()}
        self.log_dict(values, sync_dist=True)

    def predict_step(self, batch: WindowBatch, batch_idx: int) -> Float[Tensor, "B {self.horizon} C H W"]:
        """The forecast of one batch."""
        self._check_windows(batch)
        return self.forecast(batch.past, self.horizon, self._boundary, self.parameters_of(batch))

    def _forecast(self, batch: WindowBatch) -> Float[Tensor, "B {self.horizon} C H W"]:
        self._check_windows(batch)
        if batch.future.shape[1] != self.horizon:
            raise ValueError(
                f"{type(self).__name__} is scored over horizon = {self.horizon} frames, but the batch "
                f"holds {batch.future.shape[1]} future frames; give data and model the same horizon."
            )
        return self.forecast(batch.past, self.horizon, self._boundary, self.parameters_of(batch))

    @property
    def _boundary(self) -> str:
        """Boundary condition of the data that the trainer has."""
        data = getattr(self.trainer, "datamodule", None) if self.attached else None
        return getattr(data, "boundary", "unknown")

    def _check_windows(self, batch: WindowBatch) -> None:
        n_past, channels = batch.past.shape[1:3]
        if (n_past, channels) != (self.n_past, self.channels):
            raise ValueError(
                f"{type(self).__name__} was built for n_past = {self.n_past} frames and channels = "
                f"{self.channels}, but the batch holds {n_past} past frames of {channels} field(s); give "
                "data and model the same numbers."
            )

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what it takes to rebuild the model."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["microevo_model"] = type(self).__name__
        seed = os.environ.get("PL_GLOBAL_SEED")  # where Lightning's seed_everything leaves it
        checkpoint["microevo_seed"] = int(seed) if seed else None
        checkpoint["microevo_spans"] = {name: list(span) for name, span in (self.spans or self.trained_spans).items()}
        # Lightning's CLI stores these two, from which `LightningModule.load_from_checkpoint` rebuilds the model;
        # here they are added for a model that was made in another way.
        settings = {name: plain(value) for name, value in checkpoint["hyper_parameters"].items()}
        settings.setdefault("_class_path", f"{type(self).__module__}.{type(self).__qualname__}")
        settings.setdefault("_instantiator", "lightning.pytorch.cli.instantiate_module")
        checkpoint["hyper_parameters"] = settings

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is of this model, and let the schedule take the length of the present run."""
        check_same_model(self, checkpoint)
        self.trained_seed = checkpoint.get("microevo_seed")
        self.trained_spans = {name: Span(*span) for name, span in checkpoint.get("microevo_spans", {}).items()}
        if self.spans:
            self._compare_spans()
        elif self.trained_spans and self.data_range is None:
            self._scale(self.trained_spans)
        super().on_load_checkpoint(checkpoint)
