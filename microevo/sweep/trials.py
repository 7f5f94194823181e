"""The trials of a sweep, in a journal that many runners share."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from microevo.sweep.file import SweepFile
from microevo.sweep.lease import Lease, is_abandoned

JOURNAL = "journal.log"


@dataclass
class Claim:
    """A trial to work on.

    Args:
        trial: The trial.
        settings: Its settings, as W&B would send them.
        folder: Folder of its training.
        lease: The right to work on it.
    """

    trial: optuna.Trial
    settings: dict[str, Any]
    folder: Path
    lease: Lease


class Trials:
    """The trials of a sweep.

    What is suggested for a trial depends on the seed, on its number and on the trials that are there, not on who asks: a sweep
    that one job does after the other is the same whether or not it was interrupted.

    Args:
        sweep: The sweep.
        folder: Folder of the sweep, which all runners see.
        seed: Seed of the suggestions.
        most: Trials that all runners begin together.

    Raises:
        FileExistsError: The folder holds another sweep.
    """

    def __init__(self, sweep: SweepFile, folder: Path, seed: int, most: int | None) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.sweep, self.folder, self.seed = sweep, folder, seed
        self.grid = sweep.space.grid() if sweep.method == "grid" else None
        self.most = min(count for count in (most, len(self.grid or ()) or None) if count is not None)
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = JournalFileSymlinkLock(str(folder / "claim"))
        with self._alone():
            self.study = optuna.create_study(
                study_name="sweep",
                storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
                direction="maximize" if sweep.maximize else "minimize",
                pruner=_pruner(sweep),
                load_if_exists=True,
            )
            search = {"seed": seed, **sweep.search}
            known = self.study.user_attrs.get("search", search)
            if changed := [key for key in search if known.get(key) != search[key]]:
                raise FileExistsError(
                    f"{folder} holds a sweep with another {' and '.join(changed)}; choose another --output for this one"
                )
            if "search" not in self.study.user_attrs:
                self.study.set_user_attr("search", search)

    def all(self) -> Sequence[FrozenTrial]:
        """The trials that were begun, in their order."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]

    def claim(self) -> Claim | None:
        """The next trial: one whose runner was killed, or a new one; None if there is none at present."""
        with self._alone():
            trials = self.study.get_trials(deepcopy=False)
            for trial in trials:
                if trial.state == TrialState.RUNNING and is_abandoned(self._lease(trial.number)):
                    self.study.sampler = self._sampler(trial.number)
                    return self._take(optuna.Trial(self.study, trial._trial_id))
            waiting = any(trial.state == TrialState.WAITING for trial in trials)  # its runner was killed as it asked
            if not waiting and (len(trials) >= self.most or self._reached_target()):
                return None
            if self.grid is not None and not waiting:
                self.study.enqueue_trial(self.grid[len(trials)])
            number = next((trial.number for trial in trials if trial.state == TrialState.WAITING), len(trials))
            self.study.sampler = self._sampler(number)
            return self._take(self.study.ask())

    def unfinished(self) -> list[int]:
        """Numbers of the trials that somebody works on, or that were left."""
        return [trial.number for trial in self.all() if not trial.state.is_finished()]

    def report(self, claim: Claim, values: Sequence[float]) -> bool:
        """Note what the validations of a trial measured so far.

        Returns:
            Whether the trial is to be stopped, for others were better after as many validations.
        """
        if self.sweep.early_stop is None:
            return False
        known = len(self.study.get_trials(deepcopy=False)[claim.trial.number].intermediate_values)
        for step, value in enumerate(values[known:], start=known + 1):
            claim.trial.report(value, step)
            if claim.trial.should_prune():
                return True
        return False

    def finish(self, claim: Claim, state: TrialState, **notes: Any) -> None:
        """Note how a trial ended.

        Args:
            claim: The trial, which is released.
            state: How it ended.
            notes: What else is known of it: `best`, its best value, `validations`, `minutes` and, if it failed, the `reason`.
        """
        if claim.trial.number in self.unfinished():  # and was not taken over while this machine slept
            for key, note in notes.items():
                claim.trial.set_user_attr(key, note)
            self.study.tell(claim.trial, notes["best"] if state == TrialState.COMPLETE else None, state=state)
        claim.lease.release()

    def best(self) -> FrozenTrial | None:
        """The best trial that was trained to its end; None if there is none."""
        done = [trial for trial in self.all() if trial.state == TrialState.COMPLETE]
        sign = -1 if self.sweep.maximize else 1
        return min(done, key=lambda trial: sign * trial.values[0], default=None)

    def run_folder(self, number: int) -> Path:
        """Folder of the training of a trial."""
        return self.folder / "trials" / f"{number:04d}"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep the other runners, on this machine and on others, from looking for a trial at the same time."""
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def _lease(self, number: int) -> Path:
        return self.run_folder(number) / "lease"

    def _take(self, trial: optuna.Trial) -> Claim:
        folder = self.run_folder(trial.number)
        folder.mkdir(parents=True, exist_ok=True)
        lease = Lease(self._lease(trial.number))
        settings = self.sweep.space.settings(trial)
        trial.set_user_attr("settings", settings)
        return Claim(trial, settings, folder, lease)

    def _sampler(self, number: int) -> BaseSampler:
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return TPESampler(seed=seed) if self.sweep.method == "bayes" else RandomSampler(seed=seed)

    def _reached_target(self) -> bool:
        best, target = self.best(), self.sweep.target
        if best is None or target is None:
            return False
        return best.values[0] >= target if self.sweep.maximize else best.values[0] <= target


def best_of(values: Sequence[float], maximize: bool) -> float | None:
    """The best of the values that are finite, None if none is."""
    finite = [value for value in values if math.isfinite(value)]
    return (max if maximize else min)(finite) if finite else None


def _pruner(sweep: SweepFile) -> BasePruner:
    stop = sweep.early_stop
    return NopPruner() if stop is None else SuccessiveHalvingPruner(stop.first, stop.factor)
