"""Solvers of the case side by side: cost, error, and cost against the floor and the peers."""

import importlib.util
import time
from collections.abc import Sequence

import pandas as pd
from case import FORMED, Case, relative
from clock import take_turns
from peers import Exponax, FiPy, PyPDE, SemiImplicitEuler
from solver import Ours, Solver, Transforms

INSTALL = "not installed; pip install -e '.[benchmark]'"


def contenders(case: Case, large_batch: int | None) -> list[Solver]:
    """Every solver with its settings; slow ones stop early.

    Args:
        case: What is solved.
        large_batch: One more batch size for ours.
    """
    batches = [1, 8] + ([large_batch] if large_batch else [])
    solvers: list[Solver] = [Ours(case, "float32", batch, 1e-3) for batch in batches]
    solvers += [Ours(case, "float32", 8, tolerance) for tolerance in (3e-3, 3e-4)]
    solvers += [Ours(case, "float64", batch, 1e-3) for batch in batches]
    solvers += [Exponax(case, precision, batch, 0.2) for precision in ("float32", "float64") for batch in (1, 8)]
    solvers += [Exponax(case, "float32", 8, dt) for dt in (0.5, 0.1)]
    solvers += [SemiImplicitEuler(case, "float64", 1, dt) for dt in (0.1, 0.01)]
    solvers += [PyPDE(case, "float64", 1, 1e-4)]
    # A direct solution takes 0.08 s on 64 x 64 cells and 6 s on 256 x 256.
    solvers += [FiPy(case, "float64", 1, 0.2, until=FORMED if case.cells <= 64 else 0.2)]
    return solvers


def quick_contenders(case: Case) -> list[Solver]:
    """Few settings, and no peer that compiles for long."""
    return [
        Ours(case, "float32", 1, 1e-3),
        Ours(case, "float32", 2, 1e-3),
        Exponax(case, "float32", 1, 0.2),
        SemiImplicitEuler(case, "float64", 1, 0.1),
        FiPy(case, "float64", 1, 0.2, until=1.0),
    ]


def compare(case: Case, solvers: Sequence[Solver], rounds: int) -> tuple[pd.DataFrame, list[str]]:
    """Measure the cost and error of each solver.

    Args:
        case: What is solved.
        solvers: With what.
        rounds: Timed runs of each; those that stop early run once.

    Returns:
        One row per solver, see `_row`, and a sentence for each solver that was left out.
    """
    solvers, left_out = _installed(solvers)
    preparation = {}
    for solver in solvers:
        begin = time.perf_counter()
        solver.prepare()
        preparation[solver.label] = time.perf_counter() - begin
    ours = [solver for solver in solvers if isinstance(solver, Ours)]
    floors = [Transforms(case, *kind) for kind in dict.fromkeys((solver.precision, solver.batch) for solver in ours)]
    tasks = {task.label: task.run for task in (*solvers, *floors)}
    once = {solver.label for solver in solvers if solver.until < case.frames}
    calls = take_turns(tasks, rounds, once)

    # Seconds per trajectory of each round; per pair of transforms for the floors.
    share = {solver.label: case.frames / solver.until / solver.batch for solver in solvers}
    share |= {floor.label: 1 / floor.pairs / len(floor.field) for floor in floors}
    for clock in ("cpu", "wall"):
        calls[clock] *= calls["task"].map(share)
    cpu = calls.pivot(index="round", columns="task", values="cpu")
    wall = calls.pivot(index="round", columns="task", values="wall")
    rows = [_row(case, solver, solvers, cpu, wall) for solver in solvers]
    table = pd.DataFrame(rows)
    table["preparation"] = table["label"].map(preparation)
    return table, left_out


def _row(case: Case, solver: Solver, solvers: Sequence[Solver], cpu: pd.DataFrame, wall: pd.DataFrame) -> dict:
    """Costs are medians over the rounds, ratios medians of the ratios within each round."""
    own = cpu[solver.label].dropna()
    row = {
        "cells": case.cells,
        "solver": solver.name,
        "setting": f"{solver.set_by} {solver.setting:g}",
        "precision": solver.precision,
        "batch": solver.batch,
        "label": solver.label,
        "steps": solver.steps * case.frames / solver.until,
        "scaled_from": solver.until if solver.until < case.frames else None,
        "space": solver.space,
        "cpu": own.median(),
        "cpu_low": own.min(),
        "cpu_high": own.max(),
        "wall": wall[solver.label].median(),
        "rounds": len(own),
    }
    frames, truth = solver.frames(), case.truth[solver.space]
    for name, at in (("error_formed", FORMED), ("error_end", case.frames)):
        reached = at <= min(solver.until, case.frames)
        row[name] = relative(frames[at - 1], truth[at - 1]) if reached else None
        # What the space discretisation alone is off, by the end or where this solver stopped.
        if reached:
            row["grid_error"] = relative(truth[at - 1], case.truth["Fourier"][at - 1])
    against = {"py-pde": [peer for peer in solvers if isinstance(peer, PyPDE)]}
    against["exponax"] = [
        peer
        for peer in solvers
        if isinstance(peer, Exponax) and peer.setting == 0.2 and peer.precision == solver.precision
    ]
    for name, peers in against.items():
        if peers:
            best = cpu[[peer.label for peer in peers]].min(axis="columns")
            row |= _spread(f"{name}_ratio", best / own)
    if isinstance(solver, Ours):
        floor = cpu[Transforms.label_of(solver.precision, solver.batch)] * solver.steps
        row |= {"floor": floor.median()} | _spread("floor_ratio", own / floor)
    return row


def _spread(name: str, ratio: pd.Series) -> dict[str, float]:
    ratio = ratio.dropna()
    return {name: ratio.median(), f"{name}_low": ratio.min(), f"{name}_high": ratio.max()}


def _installed(solvers: Sequence[Solver]) -> tuple[list[Solver], list[str]]:
    modules = {"py-pde": "pde", "": "torch"}
    missing = {
        solver.needs: f"{solver.name}: {INSTALL}"
        for solver in solvers
        if importlib.util.find_spec(modules.get(solver.needs, solver.needs)) is None
    }
    return [solver for solver in solvers if solver.needs not in missing], list(missing.values())
