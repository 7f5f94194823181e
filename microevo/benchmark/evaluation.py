"""Competitors + protocols -> long table, part by part: resumable, in constant memory, on any number of devices."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

from microevo.benchmark.competitors import REFERENCE, Competitor, EnsembleForecasts, Forecast, ReferenceSolver, Truth
from microevo.benchmark.long_table import FINITE, Block, Key, LongTable
from microevo.benchmark.protocol import Protocol
from microevo.data import Window, WindowDataset
from microevo.metrics import (
    CorrelationTime,
    Metric,
    Quantity,
    measure,
    measure_errors,
    registered,
    spread,
    squared_error,
)
from microevo.plot import spread_leads
from microevo.pool import share
from microevo.provenance import atomic
from microevo.span import Span

PART = 16  # windows in one file of the long table, whatever the batch size: a benchmark may resume with another one
GALLERY = 3  # windows of each protocol whose frames are kept
GALLERY_LEADS = 24  # at most, evenly spread

PixelMetric = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What is measured on every forecast.

    Args:
        pixel: Functions `(prediction, target) -> (B, T)` of frames `B T C H W`, by the name they have in the table.
        physics: Physical quantities of the first field, for the trajectories of a batch: their values for the truth and for
            the forecasts, and the distances between these.
        curve_leads: Lead times at which distributions and spectra are kept.
        spans: The values between which each field lies, by which metrics of pixels are scaled.
    """

    pixel: Mapping[str, PixelMetric]
    physics: Callable[[Sequence[int]], Sequence[Quantity]] | None = None
    curve_leads: Sequence[int] = ()
    spans: Mapping[str, Span] = field(default_factory=dict)

    def quantities(self, trajectories: Sequence[int]) -> list[Quantity]:
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
    ) -> dict[Key, Block]:
        """Compute each score by window and lead time; a frame that is not finite scores NaN in all of them but `finite`.

        A frame so large that its squared error overflows counts as not finite.

        Args:
            prediction: Forecast.
            target: Truth.
            past: The input frames.
            times: Time of each frame since the process began [fr].
            trajectories: Which trajectories they are.
            truth: Whether the forecast is the truth, which has no errors.
        """
        finite = squared_error(prediction, target).isfinite()
        prediction = torch.where(finite[:, :, None, None, None], prediction, torch.nan)
        leads = np.arange(1, prediction.shape[1] + 1)
        blocks = {FINITE: Block(finite.numpy().astype(np.float32), leads)}
        physics = self.quantities(trajectories)
        statistics = [quantity for quantity in physics if quantity.statistic is not None]
        comparisons = [quantity for quantity in physics if quantity.statistic is None]
        measured = measure(statistics, prediction, past)
        for quantity in statistics:
            name, values = quantity.name, measured[quantity.name]
            if quantity.fit is not None and values.ndim == 2:
                fits = [float(quantity.fit.function(value[None], t)[0]) for value, t in zip(values, times, strict=True)]
                blocks[Key("fit", quantity.fit.name)] = Block(np.array(fits)[:, None])
            if values.ndim == 2:
                blocks[Key("quantity", name)] = Block(values, leads)
                continue
            kept = np.array([lead for lead in self.curve_leads if lead <= len(leads)], dtype=int)
            for k in range(values.shape[2]):
                blocks[Key("quantity", name, k)] = Block(values[:, kept - 1, k], kept)
        if truth:
            return blocks
        # Frames that are not finite are replaced: in batched transforms they would make the others NaN.
        safe = torch.where(finite[:, :, None, None, None], prediction, target)
        for name, metric in self.pixel.items():
            values = np.where(finite.numpy(), metric(safe, target).numpy(), np.nan)
            blocks[Key("metric", name)] = Block(values, leads)
        for derived in registered(conventions=True):
            if derived.of == "leads" and derived.source in self.pixel:
                found = derived.function(blocks[Key("metric", derived.source)].values)
                if isinstance(found, CorrelationTime):
                    block = Block(found.lead.numpy()[:, None], None, found.censored.numpy()[:, None])
                else:
                    block = Block(found[:, None])
                blocks[Key("metric", derived.name)] = block
        of_truth = measure(statistics, target, past)
        for quantity in statistics:
            error = quantity.distance(measured[quantity.name], of_truth[quantity.name])
            blocks[Key("quantity_error", quantity.name)] = Block(error, leads)
        for name, errors in measure_errors(comparisons, prediction, target, past).items():
            blocks[Key("quantity_error", name)] = Block(errors.numpy(), leads)
        return blocks

    @property
    def of_ensembles(self) -> list[Metric]:
        """What is measured on the members of an ensemble, beside what is measured on their mean."""
        return [metric for metric in registered() if metric.of == "ensemble"]

    def ensemble(self, members: Float[Tensor, "M B T C H W"], target: Float[Tensor, "B T C H W"]) -> dict[Key, Block]:
        """Compute each score of an ensemble by window and lead time; NaN where the mean of the members is not finite."""
        finite = squared_error(members.mean(dim=0), target).isfinite()
        leads = np.arange(1, target.shape[1] + 1)
        values = {score.name: torch.where(finite, score(members, target), torch.nan) for score in self.of_ensembles}
        return {Key("metric", name): Block(value.numpy(), leads) for name, value in values.items()}


@dataclass(frozen=True)
class Task:
    """One part of the windows of one competitor and protocol."""

    protocol: str
    competitor: int
    part: int


class Evaluation:
    """Scores of all competitors on all protocols.

    Args:
        protocols: The settings, by name.
        competitors: What is compared.
        scores: What is measured, by protocol.
        fields: Fields that are forecast, in the order of the axis C.
        folder: Where the results go: `table` (see `LongTable`) and `frames`.
        batch_size: Windows forecast at once; no number depends on it.
        git: The commit to note in the table.
    """

    def __init__(
        self,
        protocols: Mapping[str, Protocol],
        competitors: Sequence[Competitor],
        scores: Mapping[str, Scores],
        fields: Sequence[str],
        folder: str | Path,
        *,
        batch_size: int = 8,
        git: str | None = None,
    ) -> None:
        self.protocols, self.scores = dict(protocols), dict(scores)
        self.competitors = [Truth(), *competitors]
        labels = [competitor.label for competitor in self.competitors]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if not all(labels):
            raise ValueError("a competitor has no name; give every model one")
        if twice:
            raise ValueError(
                f"several competitors are called {twice[0]}; give different names, or checkpoints of different seeds"
            )
        _check_names(self.competitors)
        self.fields, self.folder, self.batch_size, self.git = list(fields), Path(folder), batch_size, git
        self.table = LongTable(self.folder / "table")
        for name, protocol in self.protocols.items():
            protocol.check_name(name)
        self._windows: dict[str, WindowDataset] = {}
        self._prepared: tuple[tuple[str, int, torch.device], Forecast] | None = None

    def windows(self, protocol: str) -> WindowDataset:
        """The windows of a protocol."""
        if protocol not in self._windows:
            self._windows[protocol] = self.protocols[protocol].windows(self.fields)
        return self._windows[protocol]

    def check(self) -> list[tuple[str, int]]:
        """Check every setting and list which competitor forecasts which protocol; nothing is written.

        Raises:
            ValueError: A competitor cannot forecast a protocol, or a store lacks what a protocol asks for.
        """
        pairs: list[tuple[str, int]] = []
        for name, protocol in self.protocols.items():
            windows = self.windows(name)
            for number, competitor in enumerate(self.competitors):
                if competitor.supports(name, protocol, windows):
                    competitor.prepare(name, protocol, windows, torch.device("cpu"))
                    pairs.append((name, number))
        return pairs

    def begin(self) -> list[Task]:
        """Check every setting, make the folders, and list what is left to do.

        Raises:
            ValueError: A competitor cannot forecast a protocol, or a store lacks what a protocol asks for.
            FileExistsError: The folder holds results of other settings.
        """
        tasks = []
        for name, number in self.check():
            windows, competitor = self.windows(name), self.competitors[number]
            settings = {
                "protocol": {"name": name, "digest": self.protocols[name].digest(windows)},
                "competitor": competitor.name,
                "seed": competitor.seed,
                "fingerprint": competitor.fingerprint(name),
                "scores": self._score_names(name, competitor),
                "spans": self.scores[name].spans,
                "git": self.git,
                "data": {"store": str(windows.store.path), "fingerprint": windows.store.fingerprint},
            }
            self.table.begin(name, competitor.label, settings)
            parts = range(-(-len(windows) // PART))
            tasks += [Task(name, number, i) for i in parts if not self.table.part(name, competitor.label, i).exists()]
        return tasks

    def run(self, devices: Sequence[str] = ("cpu",), progress: bool = True) -> None:
        """Do what is left to do, spread over the devices; each one is served by a process of its own if there are several."""
        tasks = self.begin()
        total = sum(len(self._numbers(task)) for task in tasks)
        with tqdm(total=total, unit="forecast", desc="evaluating", disable=not progress) as bar:
            for task in self._done(tasks, devices):
                bar.set_postfix_str(f"{self.competitors[task.competitor].label}, {task.protocol}")
                bar.update(len(self._numbers(task)))

    def do(self, task: Task, device: torch.device) -> Task:
        """Forecast and score one group of windows, and write its part of the table."""
        protocol, windows = self.protocols[task.protocol], self.windows(task.protocol)
        competitor, forecast_of = self.competitors[task.competitor], self._forecast(task, device)
        numbers, store = self._numbers(task), windows.store
        blocks: list[dict[Key, Block]] = []
        kept: list[Tensor] = []
        spreads: list[Tensor] = []
        for first in range(0, len(numbers), self.batch_size):
            batch = Window(*default_collate([windows[i] for i in numbers[first : first + self.batch_size]]))
            with torch.no_grad():
                members = forecast_of(batch).float().cpu()
            forecast = members.mean(dim=0) if isinstance(competitor, EnsembleForecasts) else members
            if forecast.shape != batch.future.shape:
                raise ValueError(
                    f"the forecast of {competitor.label} for {task.protocol} has the shape {tuple(forecast.shape)}, but the "
                    f"target frames have {tuple(batch.future.shape)}"
                )
            first_target = batch.start[:, None] + protocol.n_past + torch.arange(protocol.horizon)
            times = store.attributes["first_frame"] / store.attributes["frame_interval"] + first_target.double().numpy()
            score = self.scores[task.protocol]
            trajectories = batch.trajectory.tolist()
            blocks.append(score(forecast, batch.future, batch.past, times, trajectories, isinstance(competitor, Truth)))
            room = max(0, GALLERY - sum(map(len, kept)))
            kept.append(forecast[:room])
            if isinstance(competitor, EnsembleForecasts):
                blocks[-1] |= score.ensemble(members, batch.future)
                spreads += [spread(members[:, :room])] if room else []
        if task.part == 0:
            self._keep(task, kept, self.table.frames_path)
            if spreads:
                self._keep(task, spreads, self.table.spread_path)
        chosen = [windows.windows[i] for i in numbers]
        self.table.write(
            self.table.part(task.protocol, competitor.label, task.part),
            {key: Block.join([batch[key] for batch in blocks]) for key in blocks[0]},
            trajectories=[trajectory for trajectory, _ in chosen],
            starts=[start for _, start in chosen],
            process=windows.store.attributes["process"],
            competitor=competitor.name,
            seed=competitor.seed,
            protocol=task.protocol,
            git=self.git,
            data=store.fingerprint,
        )
        return task

    def gallery_leads(self, protocol: str) -> list[int]:
        """The lead times whose frames are kept."""
        return spread_leads(self.protocols[protocol].horizon, GALLERY_LEADS - 1)

    # --------------------------------------------------------------- internals

    def _score_names(self, protocol: str, competitor: Competitor) -> list[str]:
        score = self.scores[protocol]
        physics = score.quantities(self.windows(protocol).trajectories[:1])
        names = [quantity.name for quantity in physics]
        if isinstance(competitor, EnsembleForecasts):
            names += [metric.name for metric in score.of_ensembles]
        return [*score.pixel, *names, *map(str, score.curve_leads)]

    def _numbers(self, task: Task) -> range:
        return range(task.part * PART, min(len(self.windows(task.protocol)), (task.part + 1) * PART))

    def _forecast(self, task: Task, device: torch.device) -> Forecast:
        key = (task.protocol, task.competitor, device)
        if self._prepared is None or self._prepared[0] != key:
            protocol, windows = self.protocols[task.protocol], self.windows(task.protocol)
            self._prepared = key, self.competitors[task.competitor].prepare(task.protocol, protocol, windows, device)
        return self._prepared[1]

    def _keep(
        self, task: Task, frames: Sequence[Float[Tensor, "_ T C H W"]], place: Callable[[str, str], Path]
    ) -> None:
        path = place(task.protocol, self.competitors[task.competitor].label)
        with atomic(path) as temporary, temporary.open("wb") as file:
            kept = torch.cat([*frames]).numpy()[:, np.asarray(self.gallery_leads(task.protocol)) - 1]
            largest = np.finfo(np.float16).max  # a forecast may be finite and larger
            np.save(file, np.where(np.isfinite(kept), kept.clip(-largest, largest), kept).astype(np.float16))

    def _done(self, tasks: Sequence[Task], devices: Sequence[str]) -> Iterator[Task]:
        if len(devices) == 1:
            for task in tasks:
                yield self.do(task, torch.device(devices[0]))
            return
        self._prepared = None
        threads = max(1, torch.get_num_threads() // len(devices))
        with contextlib.closing(share([_Device(self, device, threads) for device in devices], tasks)) as done:
            yield from done


@dataclass(frozen=True)
class _Device:
    """A process that serves one device."""

    evaluation: Evaluation
    device: str
    threads: int

    def __call__(self, task: Task, report: Callable[[Task], object]) -> None:
        torch.set_num_threads(self.threads)
        report(self.evaluation.do(task, torch.device(self.device)))


def _check_names(competitors: Sequence[Competitor]) -> None:
    """Check that competitors of one name are training seeds of one model."""
    for name in dict.fromkeys(competitor.name for competitor in competitors):
        seeds = [competitor for competitor in competitors if competitor.name == name]
        if len({type(competitor) for competitor in seeds}) > 1 or (
            len(seeds) > 1 and any(competitor.seed is None for competitor in seeds)
        ):
            raise ValueError(
                f"several competitors are called {name}, but they are not seeds of one model; give them different names"
            )
        if name == REFERENCE and not isinstance(seeds[0], ReferenceSolver):
            raise ValueError(f"{name} is the name of the process's own solver in every table; choose another name")
