"""Results of a benchmark whose numbers are made up, without any forecast."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from microevo.benchmark.long_table import FINITE, Block, Key
from microevo.benchmark.results import VERSION, Results

Blocks = Mapping[Key, np.ndarray | Block]


def record(protocols: Mapping[str, Mapping[str, Any]], labels: Mapping[str, tuple[str, int | None]]) -> dict[str, Any]:
    """What `benchmark.json` holds.

    Args:
        protocols: What differs from the settings below, by name.
        labels: Name and seed of each competitor.
    """
    settings = {
        "store": "data/made.zarr",
        "n_past": 10,
        "horizon": 4,
        "starts": [0],
        "split": "test",
        "missing_past": "first",
        "note": "",
        "windows": [[0, 0]],
        "groups": None,
        "gallery_leads": [1],
        "digest": "12345678",
        "fingerprint": "f" * 64,
        "process": "SpinodalDecomposition",
        "boundary": "periodic",
        "frame_interval": 5.0,
        "time_unit": "t0",
        "spacing": 1.0,
        "length_unit": "l0",
        "image_shape": [8, 8],
        "recipe": {"seed": 0},
        "competitors": list(labels),
        "metrics": [{"name": name, "title": name, "unit": "1", "better": "lower"} for name in ("mse", "ssim")],
        "quantities": [],
    }
    return {
        "version": VERSION,
        "fields": ["c"],
        "protocols": {name: settings | dict(changed) for name, changed in protocols.items()},
        "competitors": [{"label": label, "name": name, "seed": seed} for label, (name, seed) in labels.items()],
        "settings": {"checkpoints": {"FCN": "runs/gone/checkpoints/best.ckpt"}},
        "git": "abcdef123456",
        "versions": {"python": "3.11"},
    }


def write(
    folder: Path,
    scores: Mapping[tuple[str, int | None], Blocks],
    protocol: str = "p",
    windows: list[tuple[int, int]] | None = None,
    **settings: Any,
) -> Results:
    """Results of one protocol.

    Args:
        folder: Where they go.
        scores: Values by window and lead time, of each name and seed; `finite` follows from the others.
        protocol: Name of the protocol.
        windows: Trajectory and start of each window; one of each trajectory unless given.
        settings: Of the protocol.
    """
    labels = {name if seed is None else f"{name}-seed{seed}": (name, seed) for name, seed in scores}
    first = next(iter(next(iter(scores.values())).values()))
    count = len(first.values if isinstance(first, Block) else first)
    windows = windows or [(i, 0) for i in range(count)]
    results = Results(folder)
    for label, (name, seed) in labels.items():
        blocks = {
            key: values if isinstance(values, Block) else Block(values, np.arange(1, values.shape[1] + 1))
            for key, values in scores[name, seed].items()
        }
        finite = np.isfinite(next(iter(blocks.values())).values).astype(float)
        add(
            results,
            protocol,
            label,
            name,
            seed,
            {FINITE: Block(finite, np.arange(1, finite.shape[1] + 1))} | blocks,
            windows,
        )
    folder.mkdir(parents=True, exist_ok=True)
    about = record({protocol: {"windows": windows} | settings}, labels)
    (folder / "benchmark.json").write_text(json.dumps(about))
    return results


def add(
    results: Results,
    protocol: str,
    label: str,
    name: str,
    seed: int | None,
    blocks: Mapping[Key, Block],
    windows: list[tuple[int, int]],
) -> None:
    """Write the part of a competitor."""
    results.table.write(
        results.table.part(protocol, label, 0),
        blocks,
        trajectories=[trajectory for trajectory, _ in windows],
        starts=[start for _, start in windows],
        process="noise",
        protocol=protocol,
        competitor=name,
        seed=seed,
        git="abc",
        data="0123",
    )
