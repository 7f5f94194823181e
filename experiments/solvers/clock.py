"""Timing on one core: tasks take turns, so that a machine's drift and its other users hit all of them alike."""

import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
from tqdm import tqdm


def take_turns(tasks: Mapping[str, Callable[[], object]], rounds: int, once: set[str]) -> pd.DataFrame:
    """Time each task in each round (A B C, A B C, ...).

    Args:
        tasks: What to time, warmed up already.
        rounds: How often.
        once: Names of the tasks that are too long for more than the first round.

    Returns:
        One row per call: `task`, `round`, `cpu` (of the process, all its threads) and `wall` [s].
    """
    rows = []
    turns = [(turn, name) for turn in range(rounds) for name in tasks if turn == 0 or name not in once]
    with tqdm(turns, unit="call") as bar:
        for turn, name in bar:
            bar.set_postfix_str(name)
            cpu, wall = time.process_time(), time.perf_counter()
            tasks[name]()
            rows.append(
                {
                    "task": name,
                    "round": turn,
                    "cpu": time.process_time() - cpu,
                    "wall": time.perf_counter() - wall,
                }
            )
    return pd.DataFrame(rows)


def keep_to_one_core() -> str:
    """Bind the process to one core, for libraries that start threads in spite of their settings; says what was done."""
    if not hasattr(os, "sched_setaffinity"):
        return "one thread asked of every library"
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return "process bound to one core"


def cpu_name() -> str:
    """The processor in words."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    model = fields.get("model name") or platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"
