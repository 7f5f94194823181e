"""Entries + protocols -> long table, part by part: resumable, in constant memory, on any number of devices."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

from microevo.benchmark.entry import Answer, Entry, Truth
from microevo.benchmark.known_physics import KnownPhysics
from microevo.benchmark.long_table import Block, LongTable
from microevo.benchmark.protocol import Protocol
from microevo.data import Window, WindowDataset
from microevo.metrics import Comparison, Quantity, compare, correlation_time, measure
from microevo.plot import CEILING, spread_leads
from microevo.provenance import atomic

PART = 16  # windows in one file of the long table, whatever the batch size: a benchmark may go on with another one
WHOLE = 0  # the lead of a number that belongs to the whole forecast
CORRELATIONS = (0.8, 0.9)  # under which a forecast has lost the pattern
SUMMED = ("letap_microevoeval", "leapsr_microevoeval")  # published as the root of a sum over leads and forecasts
SHOWN = 3  # windows of each protocol whose frames are kept, to be looked at
SHOWN_LEADS = 24  # at most, evenly spread

PixelMetric = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What is measured on every forecast.

    Args:
        pixel: Functions `(prediction, target) -> (B, T)` of frames `B T C H W`, by the name they have in the table.
        physics: Physical quantities of the first field, for the trajectories of a batch. The table holds the values of a
            `Quantity` under its name, for the truth and for the forecasts, and the distances under `<name> error`.
        curve_leads: Leads at which curves are kept, under `<name>[bin]`.

    What belongs to a whole forecast, a growth exponent or the time for which the correlation lasts, has the lead 0.
    """

    pixel: Mapping[str, PixelMetric]
    physics: Callable[[Sequence[int]], Sequence[Quantity | Comparison]] | None = None
    curve_leads: Sequence[int] = ()

    def quantities(self, trajectories: Sequence[int]) -> list[Quantity | Comparison]:
        """The physical quantities of some trajectories."""
        return [] if self.physics is None else list(self.physics(trajectories))

    def __call__(
        self,
        prediction: Float[Tensor, "B T C H W"],
        target: Float[Tensor, "B T C H W"],
        past: Float[Tensor, "B n_past C H W"],
        times: Float[np.ndarray, "B T"],
        trajectories: Sequence[int],
        truth: bool = False,
    ) -> dict[str, Block]:
        """Each score by window and lead; a frame that is not finite scores NaN in all of them but `finite`.

        Args:
            prediction: Forecast.
            target: Truth.
            past: What was shown.
            times: Time of each frame since the process began [fr].
            trajectories: Which trajectories they are.
            truth: Whether the forecast is the truth, which has no errors.
        """
        finite = prediction.isfinite().flatten(2).all(2)
        leads = np.arange(1, prediction.shape[1] + 1)
        blocks = {"finite": Block(finite.numpy().astype(np.float32), leads)}
        physics = self.quantities(trajectories)
        statistics = [quantity for quantity in physics if isinstance(quantity, Quantity)]
        comparisons = [quantity for quantity in physics if isinstance(quantity, Comparison)]
        measured = measure(statistics, prediction, past)
        for quantity in statistics:
            name, values = quantity.name, measured[quantity.name]
            if quantity.fit is not None and values.ndim == 2:
                fits = [float(quantity.fit.function(value[None], t)[0]) for value, t in zip(values, times, strict=True)]
                blocks[quantity.fit.name] = Block(np.array(fits)[:, None], np.array([WHOLE]))
            if values.ndim == 2:
                blocks[name] = Block(values, leads)
                continue
            kept = np.array([lead for lead in self.curve_leads if lead <= len(leads)], dtype=int)
            for k in range(values.shape[2]):
                blocks[f"{name}[{k}]"] = Block(values[:, kept - 1, k], kept)
        if truth:
            return blocks
        # Frames that are not finite are put aside, for they would spoil batched transforms of the others.
        safe = torch.where(finite[:, :, None, None, None], prediction, target)
        for name, metric in self.pixel.items():
            blocks[name] = Block(np.where(finite.numpy(), metric(safe, target).numpy(), np.nan), leads)
        for name in (name for name in SUMMED if name in blocks):
            blocks[f"{name}_squares"] = Block((blocks[name].values ** 2).sum(axis=1, keepdims=True), np.array([WHOLE]))
        if "correlation" in blocks:
            for threshold in CORRELATIONS:
                time = correlation_time(torch.from_numpy(blocks["correlation"].values), threshold)
                blocks[f"correlation_time_{threshold}"] = Block(time.lead.numpy()[:, None], np.array([WHOLE]))
                share = time.censored.float().numpy()[:, None]
                blocks[f"correlation_time_{threshold}_censored"] = Block(share, np.array([WHOLE]))
        of_truth = measure(statistics, target, past)
        for quantity in statistics:
            error = quantity.distance(measured[quantity.name], of_truth[quantity.name])
            blocks[f"{quantity.name} error"] = Block(error, leads)
        for name, errors in compare(comparisons, prediction, target, past).items():
            blocks[f"{name} error"] = Block(errors.numpy(), leads)
        return blocks


@dataclass(frozen=True)
class Task:
    """One group of windows of one entry and protocol."""

    protocol: str
    entry: int
    part: int


class Evaluation:
    """Scores of all entries on all protocols.

    Args:
        protocols: The settings, by name.
        entries: Who forecasts.
        scores: What is measured, by protocol.
        fields: Fields that are forecast, in the order of the axis C.
        folder: Where the results go: `table` (see `LongTable`) and `frames`.
        batch_size: Windows forecast at once; no number depends on it.
        git: The commit to note in the table.
    """

    def __init__(
        self,
        protocols: Mapping[str, Protocol],
        entries: Sequence[Entry],
        scores: Mapping[str, Scores],
        fields: Sequence[str],
        folder: str | Path,
        *,
        batch_size: int = 8,
        git: str | None = None,
    ) -> None:
        self.protocols, self.scores = dict(protocols), dict(scores)
        self.entries = [Truth(), *entries]
        labels = [entry.label for entry in self.entries]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if not all(labels):
            raise ValueError("an entry has no name; give every model one")
        if twice:
            raise ValueError(
                f"several entries are called {twice[0]}; give different names, or checkpoints of different seeds"
            )
        _check_names(self.entries)
        self.fields, self.folder, self.batch_size, self.git = list(fields), Path(folder), batch_size, git
        self.table = LongTable(self.folder / "table")
        for name, protocol in self.protocols.items():
            protocol.check_name(name)
        self._windows: dict[str, WindowDataset] = {}
        self._prepared: tuple[tuple[str, int, torch.device], Answer] | None = None

    def windows(self, protocol: str) -> WindowDataset:
        """The windows of a protocol."""
        if protocol not in self._windows:
            self._windows[protocol] = self.protocols[protocol].windows(self.fields)
        return self._windows[protocol]

    def check(self) -> list[tuple[str, int]]:
        """Which entry answers which protocol; nothing is written.

        Raises:
            ValueError: An entry cannot answer a protocol, or a store lacks what a protocol asks for.
        """
        answering: list[tuple[str, int]] = []
        for name, protocol in self.protocols.items():
            windows = self.windows(name)
            for number, entry in enumerate(self.entries):
                if entry.takes_part(name, protocol, windows):
                    entry.prepare(name, protocol, windows, torch.device("cpu"))
                    answering.append((name, number))
        return answering

    def begin(self) -> list[Task]:
        """Check every setting, make the folders, and list what is left to do.

        Raises:
            ValueError: An entry cannot answer a protocol, or a store lacks what a protocol asks for.
            FileExistsError: The folder holds results of other settings.
        """
        tasks = []
        for name, number in self.check():
            windows, entry = self.windows(name), self.entries[number]
            about = {
                "protocol": {"name": name, "digest": self.protocols[name].digest(windows)},
                "model": entry.model,
                "seed": entry.seed,
                "identity": entry.identity(name),
                "scores": self._score_names(name),
                "git": self.git,
                "data": {"store": str(windows.store.path), "fingerprint": windows.store.fingerprint},
            }
            self.table.begin(name, entry.label, about)
            parts = range(-(-len(windows) // PART))
            tasks += [Task(name, number, i) for i in parts if not self.table.part(name, entry.label, i).exists()]
        return tasks

    def run(self, devices: Sequence[str] = ("cpu",), progress: bool = True) -> None:
        """Do what is left to do, spread over the devices; each one is served by a process of its own if there are several."""
        tasks = self.begin()
        total = sum(len(self._numbers(task)) for task in tasks)
        with tqdm(total=total, unit="forecast", desc="evaluating", disable=not progress) as bar:
            for task in self._done(tasks, devices):
                bar.set_postfix_str(f"{self.entries[task.entry].label}, {task.protocol}")
                bar.update(len(self._numbers(task)))

    def do(self, task: Task, device: torch.device) -> Task:
        """Forecast and score one group of windows, and write its part of the table."""
        protocol, entry, windows = self.protocols[task.protocol], self.entries[task.entry], self.windows(task.protocol)
        answer = self._answer(task, device)
        numbers, store = self._numbers(task), windows.store
        blocks: list[dict[str, Block]] = []
        shown: list[np.ndarray] = []
        for first in range(0, len(numbers), self.batch_size):
            batch = Window(*default_collate([windows[i] for i in numbers[first : first + self.batch_size]]))
            with torch.no_grad():
                forecast = answer(batch).float().cpu()
            if forecast.shape != batch.future.shape:
                raise ValueError(
                    f"{entry.label} answered {task.protocol} with frames of the shape {tuple(forecast.shape)}, but "
                    f"{tuple(batch.future.shape)} was asked for"
                )
            first_asked = batch.start[:, None] + protocol.n_past + torch.arange(protocol.horizon)
            times = store.attributes["first_frame"] / store.attributes["frame_interval"] + first_asked.double().numpy()
            score = self.scores[task.protocol]
            trajectories = batch.trajectory.tolist()
            blocks.append(score(forecast, batch.future, batch.past, times, trajectories, isinstance(entry, Truth)))
            shown.append(forecast[: max(0, SHOWN - sum(len(frames) for frames in shown))].numpy())
        if task.part == 0:
            self._keep(task, np.concatenate(shown))
        chosen = [windows.windows[i] for i in numbers]
        self.table.write(
            self.table.part(task.protocol, entry.label, task.part),
            {name: Block.join([block[name] for block in blocks]) for name in blocks[0]},
            trajectories=[trajectory for trajectory, _ in chosen],
            starts=[start for _, start in chosen],
            process=windows.store.attributes["process"],
            model=entry.model,
            seed=entry.seed,
            protocol=task.protocol,
            git=self.git,
            data=store.fingerprint,
        )
        return task

    def shown_leads(self, protocol: str) -> list[int]:
        """The leads whose frames are kept."""
        return spread_leads(self.protocols[protocol].horizon, SHOWN_LEADS - 1)

    # --------------------------------------------------------------- internals

    def _score_names(self, protocol: str) -> list[str]:
        score = self.scores[protocol]
        physics = score.quantities(self.windows(protocol).trajectories[:1])
        return [*score.pixel, *(quantity.name for quantity in physics), *map(str, score.curve_leads)]

    def _numbers(self, task: Task) -> range:
        return range(task.part * PART, min(len(self.windows(task.protocol)), (task.part + 1) * PART))

    def _answer(self, task: Task, device: torch.device) -> Answer:
        key = (task.protocol, task.entry, device)
        if self._prepared is None or self._prepared[0] != key:
            protocol, windows = self.protocols[task.protocol], self.windows(task.protocol)
            self._prepared = key, self.entries[task.entry].prepare(task.protocol, protocol, windows, device)
        return self._prepared[1]

    def _keep(self, task: Task, frames: Float[np.ndarray, "n T C H W"]) -> None:
        path = self.table.frames_path(task.protocol, self.entries[task.entry].label)
        with atomic(path) as temporary, temporary.open("wb") as file:
            kept = frames[:, np.asarray(self.shown_leads(task.protocol)) - 1]
            largest = np.finfo(np.float16).max  # a forecast may be finite and larger
            np.save(file, np.where(np.isfinite(kept), kept.clip(-largest, largest), kept).astype(np.float16))

    def _done(self, tasks: Sequence[Task], devices: Sequence[str]) -> Iterator[Task]:
        if len(devices) == 1:
            for task in tasks:
                yield self.do(task, torch.device(devices[0]))
            return
        context = get_context("spawn")  # a forked process cannot use CUDA
        free: Queue[str] = context.Queue()
        for device in devices:
            free.put(device)
        self._prepared = None
        threads = max(1, torch.get_num_threads() // len(devices))
        pool = ProcessPoolExecutor(len(devices), context, initializer=_take_device, initargs=(self, free, threads))
        try:
            futures: list[Future[Task]] = [pool.submit(_do, task) for task in tasks]
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        pool.shutdown()


def _check_names(entries: Sequence[Entry]) -> None:
    """Refuse entries that tables would take for seeds of one model, or for the truth."""
    for model, own in ((one.model, [entry for entry in entries if entry.model == one.model]) for one in entries):
        if len({type(entry) for entry in own}) > 1 or (len(own) > 1 and any(entry.seed is None for entry in own)):
            raise ValueError(f"several entries are called {model}, and not for its seeds; give them different names")
        if model == CEILING and not isinstance(own[0], KnownPhysics):
            raise ValueError(f"{model} is what the process's own solver is called in every table; choose another name")


_SERVED: tuple[Evaluation, torch.device] | None = None


def _take_device(evaluation: Evaluation, free: "Queue[str]", threads: int) -> None:
    """Make this process serve one device."""
    global _SERVED
    torch.set_num_threads(threads)
    _SERVED = evaluation, torch.device(free.get())


def _do(task: Task) -> Task:
    assert _SERVED is not None
    evaluation, device = _SERVED
    return evaluation.do(task, device)
