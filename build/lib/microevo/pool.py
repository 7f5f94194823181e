"""Jobs shared among processes, none of which outlives the one that shares them, however that ends."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

Worker = Callable[[Any, Callable[[Any], object]], object]


def share(workers: Sequence[Worker], jobs: Sequence[Any]) -> Generator[Any, None, None]:
    """Do jobs in several processes, and yield what is reported, in the order in which it comes.

    A worker that is killed leaves what it has written whole, as does one whose parent is killed. Close the iterator
    (`contextlib.closing`) to end the processes early.

    Args:
        workers: One for each process, to which it is sent once. It is called with a job and with a function that reports.
            Processes import the main script: in a script of one's own the call belongs below
            `if __name__ == "__main__":`.
        jobs: What is to be done; each is sent to the first worker that is free.

    Raises:
        RuntimeError: A process was killed.
        Exception: What a worker raised, with its traceback as a note.
    """
    crew: dict[Connection, BaseProcess] = {}
    todo = iter(jobs)
    try:
        with _ignoring_interrupts():
            for worker in workers[: len(jobs)]:
                pipe, process = _start(worker)
                crew[pipe] = process
        for pipe, process in crew.items():
            _hand_over(pipe, process, next(todo))
        busy = set(crew)
        while busy:
            ready = wait(list(busy))
            for pipe in [pipe for pipe in busy if pipe in ready]:
                done, news = _receive(pipe, crew[pipe])
                if isinstance(news, Exception):
                    raise news
                if not done:
                    yield news
                    continue
                try:
                    _hand_over(pipe, crew[pipe], next(todo))
                except StopIteration:
                    busy.remove(pipe)
    finally:
        for process in crew.values():
            process.kill()
        for pipe, process in crew.items():
            process.join()
            pipe.close()


# ------------------------------------------------------------- in the parent


def _start(worker: Worker) -> tuple[Connection, BaseProcess]:
    # Spawned: a forked process cannot use CUDA, and may hang where torch runs threads. A pipe for each: a worker that is
    # killed while it holds the lock of a common queue would block the others.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(worker, theirs), daemon=True)
    process.start()
    theirs.close()  # or the end of the worker would not end the pipe
    return ours, process


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Processes started herein never see the Ctrl-C that a terminal sends to all; their parent does, and ends them."""
    resource_tracker.ensure_running()  # starts with the first process, and would lift the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _hand_over(pipe: Connection, process: BaseProcess, job: Any) -> None:
    try:
        pipe.send(job)
    except OSError:
        raise _lost(process) from None


def _receive(pipe: Connection, process: BaseProcess) -> tuple[bool, Any]:
    """Whether a job is done, and what is reported or went wrong."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        raise _lost(process) from None


def _lost(process: BaseProcess) -> RuntimeError:
    process.join()
    code = process.exitcode or 0
    if code >= 0:
        return RuntimeError(
            f"a worker process ended by itself with exit code {code}, for the reason that it printed above; with one process "
            "there is no worker"
        )
    cause = ", as happens when memory runs out" if -code == signal.SIGKILL else ""
    return RuntimeError(
        f"a worker process was ended by {signal.Signals(-code).name}{cause}; what is complete is kept: give the command "
        "again, with fewer workers or a smaller batch_size"
    )


# ------------------------------------------------------------- in the worker


def _work(worker: Worker, pipe: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            job = pipe.recv()
            try:
                worker(job, lambda news: pipe.send((False, news)))
            except ConnectionError:  # the parent is gone
                return
            except Exception as error:
                pipe.send((True, _portable(error)))
                return
            pipe.send((True, None))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """The same error if it can travel, else its text; either way with the traceback as a note."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note("".join(traceback.format_exception(error)))
    return copy
