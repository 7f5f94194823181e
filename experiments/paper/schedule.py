"""Parts of a job in two lanes, each in its share of the minutes; what is done is kept, what no longer fits is skipped."""

import json
import multiprocessing as mp
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from launcher import start

from microevo.provenance import write_file

Lane = Literal["device", "cores"]
GRACE = 5.0  # seconds that a command gets to end after it was asked to


def stays(record: Mapping[str, Any]) -> bool:
    """That what was done once need not be done again."""
    return True


class PartError(Exception):
    """A part could not be done; the message says why, in a sentence."""


@dataclass(frozen=True)
class Part:
    """One thing to do.

    Attributes:
        name: Its name in the record.
        lane: `device`: it may use the GPU, one part at a time. `cores`: it uses all other cores meanwhile.
        share: Its share of the lane's minutes. What a part leaves over is shared by those after it.
        least: Seconds without which it is not begun.
        work: What it does in so many seconds, and what of it is to be recorded.
        needs: Parts that must be done before.
        current: Whether the record of an earlier call still says how it is.
    """

    name: str
    lane: Lane
    share: float
    least: float
    work: Callable[[float], Mapping[str, Any]]
    needs: tuple[str, ...] = ()
    current: Callable[[Mapping[str, Any]], bool] = stays


@dataclass
class Schedule:
    """Works through parts until they are done or the time is up.

    Args:
        parts: What to do, the most telling first in each lane.
        seconds: Time for all of it, counted from now.
        state: File that says what is done; a later call resumes from there.
        log: File that the output of all commands is appended to.
        after: Called after each part, with the records of all parts so far.
        context: How processes are started.
    """

    parts: Sequence[Part]
    seconds: float
    state: Path
    log: Path
    after: Callable[[Mapping[str, Any]], None] = lambda records: None
    context: BaseContext = field(default_factory=lambda: mp.get_context("spawn"))
    records: dict[str, dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.records = json.loads(self.state.read_text()) if self.state.exists() else {}
        self.begin = time.monotonic()
        self._change = threading.Condition()
        self._running: set[BaseProcess] = set()
        self._stopped = False

    @property
    def remaining(self) -> float:
        """Seconds that are left."""
        return self.begin + self.seconds - time.monotonic()

    def run(self) -> None:
        """Go through both lanes at once."""
        lanes = [threading.Thread(target=self._go_through, args=(lane,), daemon=True) for lane in ("device", "cores")]
        for lane in lanes:
            lane.start()
        try:
            for lane in lanes:
                while lane.is_alive():
                    lane.join(0.2)
        finally:
            self.stop()
            for lane in lanes:
                lane.join(2 * GRACE)

    def stop(self) -> None:
        """End what is running; nothing new begins."""
        with self._change:
            self._stopped = True
            running = list(self._running)
            self._change.notify_all()
        for process in running:
            _end(process)

    def command(self, words: Sequence[str], seconds: float) -> None:
        """Run Python with these words, such as `-m microevo fit`, its output into the log.

        Raises:
            PartError: It failed, or took longer than `seconds`.
        """
        if self._stopped:
            raise PartError("not begun: the job was stopped")
        with self.log.open("ab") as log:
            log.write(f"\n$ python {' '.join(words)}\n".encode())
        process = start(self.context, words, self.log)
        self._running.add(process)
        try:
            process.join(seconds)
            if process.exitcode is None:
                raise PartError(f"stopped: it was not done after {seconds:.0f} s")
        finally:
            _end(process)
            self._running.discard(process)
        if process.exitcode:
            raise PartError(f"failed with exit code {process.exitcode}; the log says why")

    def _go_through(self, lane: Lane) -> None:
        waiting = [part for part in self.parts if part.lane == lane]
        while waiting and not self._stopped:
            part = waiting.pop(0)
            if self._is_done(part.name) and part.current(self.records[part.name]):
                continue
            missing = self._wait_for(part)
            # What may have to be done again, such as a benchmark of one more network, keeps its share.
            later = sum(other.share for other in waiting if not self._is_done(other.name) or other.current is not stays)
            budget = self.remaining * part.share / (part.share + later)
            if missing:
                self._note(part, "skipped", f"{missing} is not done")
            elif budget < part.least:
                self._note(
                    part, "skipped", f"it needs {part.least:.0f} s and {max(0.0, budget):.0f} s were left for it"
                )
            else:
                self._do(part, budget)

    def _do(self, part: Part, budget: float) -> None:
        begin = time.monotonic()
        print(f"[{begin - self.begin:5.0f} s] {part.name}: {budget:.0f} s", flush=True)
        self._note(part, "running")
        try:
            result = part.work(budget)
        except PartError as error:
            self._note(part, "failed", str(error), seconds=time.monotonic() - begin)
        except Exception as error:
            self._note(part, "failed", f"{type(error).__name__}: {error}", seconds=time.monotonic() - begin)
        else:
            self._note(part, "done", **{"seconds": time.monotonic() - begin} | result)

    def _wait_for(self, part: Part) -> str:
        """Wait for what a part needs; the name of what it will not get."""
        known = {other.name for other in self.parts}
        for name in part.needs:
            with self._change:
                while name in known and not self._is_settled(name) and not self._stopped:
                    if self.remaining < part.least:
                        return name
                    self._change.wait(timeout=0.5)
            if not self._is_done(name):
                return name
        return ""

    def _is_done(self, name: str) -> bool:
        return self.records.get(name, {}).get("status") == "done"

    def _is_settled(self, name: str) -> bool:
        status = self.records.get(name, {}).get("status")
        # What an earlier call left undone is settled only when this call has come to it.
        return status == "done" or (status in ("failed", "skipped") and self.records[name]["call"] == self.begin)

    def _note(self, part: Part, status: str, why: str = "", **details: Any) -> None:
        with self._change:
            record = {"status": status, "lane": part.lane, "call": self.begin}
            self.records[part.name] = record | ({"why": why} if why else {}) | details
            # What a stop cut short is not a failure: the next call does it again.
            if status == "done" or (status != "running" and not self._stopped):
                write_file(self.state, json.dumps(self.records, indent=2))
                now = time.monotonic() - self.begin
                print(f"[{now:5.0f} s] {part.name} {status}{f': {why}' if why else ''}", flush=True)
                try:
                    self.after(self.records)
                except Exception as error:  # a table that cannot be made must not end the trainings
                    print(f"what is done could not be collected: {type(error).__name__}: {error}", flush=True)
            self._change.notify_all()


def _end(process: BaseProcess) -> None:
    """Ask a command to end, then make it."""
    if process.is_alive():
        process.terminate()
        process.join(GRACE)
        if process.is_alive():
            process.kill()
            process.join()
