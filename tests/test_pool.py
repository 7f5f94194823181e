import contextlib
import os
import signal
import time

import pytest

from microevo.pool import share


class Square:
    """Reports the square of a number, and what else it is told to do."""

    def __init__(self, factor: int = 1) -> None:
        self.factor = factor

    def __call__(self, job, report) -> None:
        if job == "raise":
            raise KeyError("no such job")
        if job == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if job == "leave":
            os._exit(3)
        if job == "sleep":
            report(os.getpid())
            time.sleep(100)
        report(self.factor * job**2)
        report("half")


def test_every_job_is_done_once_by_one_of_the_workers():
    news = list(share([Square(), Square(-1)], range(7)))
    assert news.count("half") == 7
    assert sorted(abs(one) for one in news if one != "half") == [n**2 for n in range(7)]


def test_there_are_no_more_processes_than_jobs_and_none_for_no_jobs():
    assert list(share([Square(), Square()], [])) == []
    assert list(share([Square(), Square(-1)], [3])) == [9, "half"]


@pytest.mark.parametrize(
    ("job", "error", "words"),
    [("raise", KeyError, "no such job"), ("die", RuntimeError, "SIGKILL"), ("leave", RuntimeError, "exit code 3")],
)
def test_what_goes_wrong_in_a_worker_is_raised_here(job, error, words):
    with pytest.raises(error, match=words):
        list(share([Square(), Square()], [1, job, 2]))


def test_no_process_outlives_the_iterator():
    with contextlib.closing(share([Square()], ["sleep"])) as news:
        worker = next(news)
        os.kill(worker, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
