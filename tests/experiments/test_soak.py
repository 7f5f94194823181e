"""`make soak`: real signals at random moments; what differs is seen, and an interrupted soak says what it did."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
SOAK = ROOT / "experiments" / "soak" / "soak.py"
sys.path.insert(0, str(SOAK.parent))
import soak  # noqa: E402


def test_a_single_bit_is_a_difference():
    def result(value: float) -> dict:
        return {"weights": [torch.tensor([1.0, value])], "frames": np.array([value], np.float32), "step": 3}

    assert soak._same(result(1.0), result(1.0))
    assert not soak._same(result(1.0), result(1.0000001))
    assert not soak._same(result(1.0), result(1.0) | {"more": 1})


def test_the_table_counts_rounds_and_signals():
    done = [
        ("simulate", ["SIGKILL", "SIGINT"], True),
        ("fit fcn", [], True),
        ("simulate", ["SIGKILL"], False),
        ("", [], False),
    ]
    assert soak.summary(done).splitlines()[2:] == [
        "| fit fcn | 1 | 0 | 0 | 0 | 0 | 1 | 0 |",
        "| simulate | 2 | 2 | 0 | 0 | 1 | 1 | 1 |",
        "| **all** | 3 | 2 | 0 | 0 | 1 | 2 | 1 |",
    ]


@pytest.mark.slow  # kills for real
def test_interrupted_work_ends_as_work_that_was_not(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Kept\n\n{soak.FIGURES}\nold\n")
    words = [sys.executable, SOAK, "--rounds", "4", "--seed", "3", "--readme", readme]
    run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    text = readme.read_text()
    assert text.startswith("# Kept\n\n## The last figures\n\n`soak.py --rounds 4 --seed 3`")
    assert "old" not in text
    assert text.splitlines()[-1].endswith("| 4 | 0 |")
