"""What a finished store says of its values: statistics of the training split, and a fingerprint of all of them."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from microevo.data.store import TrajectoryStore


def summarised(store: "TrajectoryStore") -> tuple[dict[str, dict[str, float]], str]:
    """Read a store once, from its first trajectory to its last.

    Returns:
        Mean, standard deviation, smallest and largest value of each field in the training split [field units], of which there
        are none without training trajectories; and the SHA-256 of all values.
    """
    # Of the training split alone: other statistics would leak into everything that is scaled by them.
    train = set(store.split("train").tolist())
    digest = hashlib.sha256()
    moments = {name: np.zeros(2) for name in store.fields}
    extremes = {name: np.array([np.inf, -np.inf]) for name in store.fields}
    for i in range(len(store)):
        frames = store.read(i)
        digest.update(np.ascontiguousarray(frames, dtype="<f4").tobytes())
        if i not in train:
            continue
        for c, name in enumerate(store.fields):
            values = frames[:, c].astype(np.float64)
            moments[name] += values.mean(), (values**2).mean()
            extremes[name] = np.array([min(extremes[name][0], values.min()), max(extremes[name][1], values.max())])
    statistics = {}
    for name in store.fields if train else ():
        mean, square = moments[name] / len(train)
        low, high = extremes[name]
        statistics[name] = {
            "mean": float(mean),
            "std": float(np.sqrt(max(square - mean**2, 0.0))),
            "min": float(low),
            "max": float(high),
        }
    return statistics, digest.hexdigest()
