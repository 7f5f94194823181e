"""The solvers against the cost of their transforms and against other packages, and the cost of the data sets.

    pip install -e ".[benchmark]"                    # the peers: py-pde, exponax, FiPy; those missing are left out
    python experiments/solvers/benchmark.py          # about seven minutes on an idle machine
    python experiments/solvers/benchmark.py --quick  # seconds, on few cells: shows that it runs, not what anything costs

All solvers get the same initial field, the same equation and the same 100 times at which a frame is wanted, and run on one
core. They take turns (A B C, A B C, ...), so that ratios hold on a busy machine too; costs are medians of process CPU time.
Imports, compilation and the first steps are timed apart ("prepared in"). Each solver is measured at the error that it
makes, the relative L2 difference from a solution converged in time on its own space discretisation: Fourier modes, or
second-order differences for py-pde and FiPy. What those differences are off from the Fourier solution is the "grid error".

Written: results/solvers.md, .csv and .png, and results/processes.md and .csv.
"""

import os

# Before anything that starts threads is imported.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["NUMBA_NUM_THREADS"] = os.environ["VECLIB_MAXIMUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["FIPY_SOLVERS"] = "scipy"

import argparse
import platform
import shlex
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
import processes
import report
import torch
from case import FORMED, Case
from clock import cpu_name, keep_to_one_core
from compare import compare, contenders, quick_contenders

PACKAGES = ("microevo", "torch", "numpy", "scipy", "numba", "py-pde", "exponax", "jax", "fipy")


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    options = _options(arguments)
    begin = time.perf_counter()
    binding = keep_to_one_core()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as `simulate` does
    options.output.mkdir(parents=True, exist_ok=True)
    header = _header(options, binding)
    if options.only != "processes":
        _solvers(options, header)
    if options.only != "solvers":
        cases = processes.quick_runs() if options.quick else processes.runs()
        table = processes.measure(cases, 2 if options.quick else 5)
        text = f"# Cost of the data sets\n\n{header}\n{PROCESS_NOTES}\n{report.process_markdown(table)}\n"
        _write(options.output / "processes", table, text)
    print(f"{time.perf_counter() - begin:.0f} s in all; written to {options.output}/")


def _solvers(options: argparse.Namespace, header: str) -> None:
    tables, notes = [], []
    grids = ((32, 2),) if options.quick else ((64, options.rounds), (256, max(1, options.rounds // 2)))
    for cells, rounds in grids:
        case = Case(cells, seed=options.seed, frames=FORMED if options.quick else 100)
        solvers = quick_contenders(case) if options.quick else contenders(case, 32 if cells == 64 else None)
        table, left_out = compare(case, solvers, rounds)
        tables.append(table)
        notes.append(
            f"- {cells} x {cells}: {rounds} rounds; the converged solution is so to {case.doubt:.0e}, and its domains merge or "
            f"split at {len(case.events)} of the frames after t = {FORMED}"
        )
        notes += [f"- {sentence}" for sentence in left_out if f"- {sentence}" not in notes]
    table = pd.concat(tables)
    text = "\n".join(
        [
            "# Solvers side by side",
            "",
            header,
            SOLVER_NOTES,
            *notes,
            "",
            report.solver_markdown(table),
            "",
            "### Goals",
            "",
            report.goals_markdown(table),
            "",
        ]
    )
    _write(options.output / "solvers", table, text)
    report.draw(table, options.output / "solvers.png")


def _write(stem: Path, table: pd.DataFrame, text: str) -> None:
    print(f"\n{text}")
    stem.with_suffix(".md").write_text(text)
    table.to_csv(stem.with_suffix(".csv"), index=False)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="seconds, on few cells")
    parser.add_argument("--only", choices=("solvers", "processes"), help="one of the two parts")
    parser.add_argument(
        "--rounds", type=int, default=7, help="timed runs of each solver at 64 x 64; half as many at 256 x 256"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the initial fields")
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder of the results")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, but it is {options.rounds}")
    return options


def _header(options: argparse.Namespace, binding: str) -> str:
    command = shlex.join(["python", "experiments/solvers/benchmark.py", *sys.argv[1:]])
    lines = [
        f"- command: `{command}`" + (" (quick: the figures mean nothing)" if options.quick else ""),
        f"- hardware: {cpu_name()}; {binding}",
        f"- versions: Python {platform.python_version()}, {', '.join(f'{name} {_version(name)}' for name in PACKAGES)}",
        f"- seed {options.seed}",
    ]
    return "\n".join(lines)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


SOLVER_NOTES = f"""\
- case: dc/dt = M lap(f'(c) - kappa lap c), f = rho (c - 0.3)^2 (0.7 - c)^2, M 5, kappa 2, rho 5, cells of size 1, periodic,
  from 0.5 +- 0.02 of white noise to t = 100, frames at t = 1, 2, ... 100
- costs: CPU seconds per trajectory, median (range) over the rounds; ratios are taken within each round
- "/ FFT floor": cost against an `rfft2` and an `irfft2` for each step, same precision and batch, and nothing else
- "py-pde / it": how many times as long py-pde takes; "exponax / it" likewise for exponax with dt 0.2 and the same precision, in
  whichever batch it is faster
- errors: of trajectory 0, relative L2 against its own space discretisation converged in time; at t = {FORMED} the phases have
  just formed, later the merging of domains amplifies errors"""

PROCESS_NOTES = """\
- CPU seconds per trajectory on one core, float32, no parameters sampled
- "per 100 frames": mean over the frames timed after the first saved one, with the range over rounds in brackets
- "scaled": a few steps were timed right after the start, and multiplied by the steps of the recipe's late frames
"""

if __name__ == "__main__":
    main()
