"""The script that compares solvers runs, and what it writes is consistent."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

SCRIPT = ROOT / "experiments" / "solvers" / "benchmark.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_solvers_are_compared(tmp_path: Path) -> None:
    done = run("--quick", "--only", "solvers", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "processes.csv").exists()
    assert (tmp_path / "solvers.png").stat().st_size > 10_000

    table = pd.read_csv(tmp_path / "solvers.csv")
    # The truth is found by another integrator: that ours comes near to it says that both are right.
    ours = table[table["solver"] == "microevo"]
    assert set(ours["batch"]) == {1, 2}
    assert ours["error_formed"].between(1e-7, 1e-3).all()
    euler = table[table["solver"] == "semi-implicit Euler"]
    assert euler["error_formed"].between(3e-3, 1e-1).all()
    assert (table["cpu_low"] <= table["cpu"]).all()
    assert (table["cpu"] <= table["cpu_high"]).all()
    assert (ours["floor_ratio"] > 1).all()  # nothing is faster than a part of it

    page = (tmp_path / "solvers.md").read_text()
    for said in ("benchmark.py --quick", "torch ", "seed 0"):
        assert said in page
    for peer in ("exponax", "FiPy"):  # measured, or the reason why not
        assert peer in set(table["solver"]) or f"{peer}: not installed" in page


@pytest.mark.slow
def test_data_sets_are_timed(tmp_path: Path) -> None:
    done = run("--quick", "--only", "processes", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "solvers.csv").exists()
    table = pd.read_csv(tmp_path / "processes.csv").set_index("process")
    assert {"Grain growth", "Dendrite", "Plane wave", "Spinodal, quartic"} < set(table.index)
    assert (table["per_100"] > 0).all()
    whole = table["start"] + table["per_100"] / 100 * (table["recipe_frames"] - 1)
    assert whole.to_numpy() == pytest.approx(table["trajectory"].to_numpy())
    targets = {"Grain growth": 60, "Dendrite": 7, "Spinodal, regular solution, fast": 6}
    assert table["target"].dropna().to_dict() == targets | {"Spinodal, regular solution, accurate": 7}


@pytest.mark.slow
def test_no_rounds_are_refused() -> None:
    done = run("--rounds", 0)
    assert done.returncode == 2
    assert "--rounds must be at least 1" in done.stderr
