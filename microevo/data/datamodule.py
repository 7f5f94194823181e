"""TrajectoryDataModule: the windows of a store in batches, for training, validation, test and prediction."""

import os
import signal
import warnings
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Subset

from microevo.data.parameters import process_of
from microevo.data.resident import ResidentLoader
from microevo.data.samplers import EvaluationSampler, ShuffledLoader, ShuffledSampler
from microevo.data.sampling import sampled
from microevo.data.store import TrajectoryStore
from microevo.data.windows import ChangeStatistics, Window, WindowDataset
from microevo.processes import Process
from microevo.span import Span


class TrajectoryDataModule(LightningDataModule):
    """Training windows and full-horizon evaluation windows of a trajectory store.

    Args:
        store: Folder of the trajectory store, a zip file of it, or a URL that fsspec reads, such as s3://bucket/store.zarr.
        fields: Fields that the model takes and forecasts, in the order of the axis C.
        n_past: Number of input frames.
        n_future: Number of target frames in a training window.
        horizon: Number of target frames in a validation, test or prediction window.
        stride: Frames between the starts of two successive training windows of one trajectory.
        eval_stride: The same for validation, test and prediction windows. With null, each trajectory gives one
            window, which starts at its first frame.
        batch_size: Windows in a training batch, per process.
        eval_batch_size: Windows in a validation, test or prediction batch, per process; null takes `batch_size`.
        symmetries: Random transformations of the training windows, any of shift, flip and rotate; [] for none.
            Only those that the store declares as symmetries of its physics are accepted.
        cache: Whether to hold the trajectories in memory; `auto` does so below `cache_limit`. With `device`, the
            training trajectories are held on the device that trains, where their windows are also cut and transformed.
        cache_limit: Size up to which `auto` reads the trajectories into memory [GB].
        num_workers: Number of loader processes. For data in memory or memory-mapped, 0 is fastest.
        train_count: Number of training trajectories, the first of the split; null for all of them.
        predict_split: The split that `predict` forecasts.
        predict_count: Number of windows that `predict` forecasts; null for all of them.
        parameters: Parameters of its trajectory that each window brings, and the model is conditioned on, such as a mobility that
            was sampled for each trajectory, or another number among the settings of the process.
    """

    def __init__(
        self,
        store: str = "data/spinodal.zarr",
        fields: list[str] = ["c"],  # noqa: B006  (never changed; jsonargparse shows it as the default)
        n_past: int = 10,
        n_future: int = 10,
        horizon: int = 90,
        stride: int = 1,
        eval_stride: int | None = None,
        batch_size: int = 16,
        eval_batch_size: int | None = None,
        symmetries: list[Literal["shift", "flip", "rotate"]] = [],  # noqa: B006
        cache: Literal["auto", "yes", "no", "device"] = "auto",
        cache_limit: float = 4.0,
        num_workers: int = 0,
        train_count: int | None = None,
        predict_split: Literal["train", "val", "test"] = "test",
        predict_count: int | None = None,
        parameters: list[str] = [],  # noqa: B006
    ) -> None:
        super().__init__()
        for name, value in {
            "n_past": n_past,
            "n_future": n_future,
            "horizon": horizon,
            "stride": stride,
            "eval_stride": eval_stride,
            "batch_size": batch_size,
            "eval_batch_size": eval_batch_size,
            "train_count": train_count,
            "predict_count": predict_count,
        }.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, but it is {value}")
        if num_workers < 0:
            raise ValueError(f"num_workers must not be negative, but it is {num_workers}")
        self.save_hyperparameters(logger=False)
        self.store_path = store
        self.fields = list(fields)
        self.n_past, self.n_future, self.horizon = n_past, n_future, horizon
        self.stride, self.eval_stride = stride, eval_stride
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.symmetries, self.parameters = list(symmetries), list(parameters)
        self.cache, self.cache_limit = cache, cache_limit
        self.num_workers = num_workers
        self.train_count = train_count
        self.predict_split, self.predict_count = predict_split, predict_count
        self.datasets: dict[str, WindowDataset] = {}
        self._changes: tuple[WindowDataset, ChangeStatistics] | None = None
        self._seen = (-1, 0)  # epoch of an interruption, and the number of its batches seen before

    def setup(self, stage: str) -> None:
        """Open the store, and cut the windows that the stage needs."""
        store = TrajectoryStore.open(self.store_path)
        # The training windows come first: they are shorter, so a failure names the first length that does not fit.
        if stage == "fit":
            self.datasets["train"] = self._windows(store, "train", self.n_future, self.stride, self.symmetries)
        if stage in ("fit", "validate"):
            self.datasets["val"] = self._windows(store, "val", self.horizon, self._eval_stride(store), [])
        if stage == "test":
            self.datasets["test"] = self._windows(store, "test", self.horizon, self._eval_stride(store), [])
        if stage == "predict":
            self.datasets["predict"] = self._windows(
                store, self.predict_split, self.horizon, self._eval_stride(store), []
            )

    def train_dataloader(self) -> DataLoader[Window] | ResidentLoader:
        """Training windows in random order. An incomplete last batch is left out if there are other batches.

        The batches of all processes together are the windows of a step. They are those that one process takes whose batch is
        as large as all of them.
        """
        processes, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))  # where Lightning's seed_everything leaves it
        windows = self.datasets["train"]
        several = len(windows) > processes * self.batch_size  # steps in an epoch
        sampler = ShuffledSampler(windows, processes=processes, rank=rank, seed=seed, drop_last=several)
        epoch, batches = self._seen
        sampler.skip(epoch, batches * self.batch_size)
        if self.cache == "device":
            device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
            return ResidentLoader(windows, sampler, self.batch_size, device)
        return ShuffledLoader(windows, self.batch_size, sampler=sampler, drop_last=several, **self._loading)

    def val_dataloader(self) -> DataLoader[Window]:
        """Full-horizon validation windows. Each occurs exactly once over all processes."""
        return self._evaluation_loader(self.datasets["val"])

    def test_dataloader(self) -> DataLoader[Window]:
        """Full-horizon test windows. Each occurs exactly once over all processes."""
        return self._evaluation_loader(self.datasets["test"])

    def predict_dataloader(self) -> DataLoader[Window]:
        """The first `predict_count` windows of `predict_split`."""
        return self._evaluation_loader(Subset(self.datasets["predict"], range(len(self.predicted_windows))))

    @property
    def predicted_windows(self) -> list[tuple[int, int]]:
        """The trajectory and the first frame of each window that `predict` forecasts, in order."""
        return self.datasets["predict"].windows[: self.predict_count]

    @property
    def process(self) -> str:
        """Name of the process in the store; empty until a stage is set up."""
        return next((dataset.store.attributes["process"] for dataset in self.datasets.values()), "")

    @property
    def boundary(self) -> str:
        """Boundary condition of the store: `periodic`, `no-flux` or `unknown`; empty until a stage is set up."""
        return next((dataset.store.attributes["boundary"] for dataset in self.datasets.values()), "")

    @property
    def pixels_per_frame(self) -> float | None:
        """How far the process reaches from one frame to the next, roughly [px]; None where it is not known."""
        for dataset in self.datasets.values():
            process = process_of(dataset.store)
            if process is not None and process.distance_per_frame is not None:
                return process.distance_per_frame / dataset.store.attributes["spacing"]
        return None

    @property
    def spans(self) -> dict[str, Span]:
        """The values between which each field lies, in the order of the axis C; empty until a stage is set up."""
        spans = next((dataset.store.spans for dataset in self.datasets.values()), {})
        return {name: spans[name] for name in self.fields if name in spans}

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Fields and pixels (C, H, W) of a frame; empty until a stage is set up."""
        return next(((len(self.fields), *dataset.store.image_shape) for dataset in self.datasets.values()), ())

    def change_statistics(self) -> ChangeStatistics:
        """How much the fields of the training trajectories change between frames."""
        windows = self.datasets["train"]
        if self._changes is None or self._changes[0] is not windows:  # all trajectories are read for them
            self._changes = windows, windows.change_statistics()
        return self._changes[1]

    def equation(self) -> tuple[Process, dict[str, np.ndarray]]:
        """The process that the store was simulated with, and the parameters that vary, one value for each trajectory.

        Raises:
            ValueError: The process is not known, or the model sees other fields than those of the equation.
        """
        store = next(iter(self.datasets.values())).store
        process = process_of(store)
        if process is None:
            raise ValueError(
                f"{store.path} was not simulated by microevo or an installed package, so that its process is not known"
            )
        if (needed := [field.name for field in process.fields]) != self.fields:
            raise ValueError(
                f"the equation of {type(process).__name__} has the fields {', '.join(needed)}, and the model sees "
                f"{', '.join(self.fields)}"
            )
        return process, {name: store.per_trajectory[name] for name in sampled(store.attributes["recipe"])}

    def training_parameters(self) -> Float[np.ndarray, "N P"]:
        """The parameters of the training trajectories."""
        windows = self.datasets["train"]
        return windows.parameters[windows.trajectories].numpy()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the values in the store; empty until a stage is set up."""
        return next((dataset.store.fingerprint for dataset in self.datasets.values()), "")

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: which data the model was trained on, and how many batches of the epoch it has seen."""
        data = {"store": self.store_path, "fingerprint": self.fingerprint}
        if self.trainer is None:
            return data
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]
        return data | {"epoch": self.trainer.current_epoch, "batches": batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume after the last batch that the checkpoint has seen, and warn if the data have changed."""
        self._seen = state_dict.get("epoch", -1), state_dict.get("batches", 0)
        # Lightning says so of every loader without a state of its own; our loader's state is kept here.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")
        if state_dict["fingerprint"] != self.fingerprint:
            warnings.warn(
                f"the checkpoint was trained on other data: {state_dict['store']} as it was then, not {self.store_path}; "
                "the run continues with the present data",
                stacklevel=2,
            )

    def _eval_stride(self, store: TrajectoryStore) -> int:
        return self.eval_stride or store.frames

    def _windows(
        self, store: TrajectoryStore, split: str, n_future: int, stride: int, symmetries: list
    ) -> WindowDataset:
        trajectories = store.split(split)
        if split == "train" and self.train_count is not None:
            if self.train_count > len(trajectories):
                raise ValueError(
                    f"train_count is {self.train_count}, but {store.path} has {len(trajectories)} training trajectories; lower "
                    "it, or simulate more"
                )
            trajectories = trajectories[: self.train_count]
        if not len(trajectories):
            counts = ", ".join(f"{len(store.split(name))} {name}" for name in ("train", "val", "test"))
            raise ValueError(
                f"{store.path} has no trajectory in the split {split} (it has {counts}); make the store with some, since "
                "choosing a model on test data is not a validation"
            )
        size = 4e-9 * len(trajectories) * len(self.fields) * store.frames * store.image_shape[0] * store.image_shape[1]
        preload = self.cache in ("yes", "device") or (self.cache == "auto" and size <= self.cache_limit)
        return WindowDataset(
            store,
            trajectories,
            fields=self.fields,
            n_past=self.n_past,
            n_future=n_future,
            stride=stride,
            symmetries=symmetries,
            parameters=self.parameters,
            preload=preload,
        )

    def _evaluation_loader(self, dataset: WindowDataset | Subset) -> DataLoader[Window]:
        sampler = None
        if self.trainer is not None and (world := self.trainer.world_size) > 1:
            if len(dataset) < world:
                raise ValueError(
                    f"{len(dataset)} windows cannot be shared by {world} processes; use fewer devices or more trajectories"
                )
            sampler = EvaluationSampler(dataset, num_replicas=world, rank=self.trainer.global_rank, shuffle=False)
        return DataLoader(dataset, batch_size=self.eval_batch_size, sampler=sampler, **self._loading)

    @property
    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
            "worker_init_fn": _leave_signals,
        }


def _leave_signals(worker: int) -> None:
    """Let a loader process ignore Ctrl-C and SIGUSR1, which reach all processes of a job and are answered by the training.

    It would die of them before the training comes to save, or save and requeue the job as well, with the handlers that it was
    forked with. SIGTERM it must obey: Python ends it so.
    """
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
