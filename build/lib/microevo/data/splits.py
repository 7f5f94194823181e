"""Splits that keep windows of one trajectory together, so that no model is tested on its training frames."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int

from microevo.data.schema import SPLITS


def frame_hashes(trajectory: np.ndarray) -> list[bytes | None]:
    """A hash of each frame of a trajectory (T, C, H, W); None for a uniform frame, which occurs in any trajectory."""
    return [
        hashlib.blake2b(frame, digest_size=16).digest() if (frame != frame[:, :1, :1]).any() else None
        for frame in trajectory
    ]


def connected_groups(hashes: Sequence[Sequence[bytes | None]]) -> Int[np.ndarray, " N"]:
    """Number the groups of windows that were cut from the same trajectory, from the hashes of their frames.

    Windows of one trajectory share successive frames, or the last frame of one is the first frame of another. One
    frame that is the first of both, or the last, is not enough: the trajectories of a parameter sweep begin alike.
    """
    parent = list(range(len(hashes)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def connect(i: int, j: int) -> None:
        low, high = sorted((root(i), root(j)))
        parent[high] = low

    owner_of_pair: dict[tuple[bytes | None, bytes | None], int] = {}
    owner_of_last = {frames[-1]: i for i, frames in enumerate(hashes) if frames[-1] is not None}
    for i, frames in enumerate(hashes):
        for pair in pairwise(frames):
            if pair != (None, None):
                connect(owner_of_pair.setdefault(pair, i), i)
        if frames[0] in owner_of_last:
            connect(owner_of_last[frames[0]], i)
    return np.unique([root(i) for i in range(len(parent))], return_inverse=True)[1].astype(np.int64)


def assign_splits(groups: Int[np.ndarray, " N"], fractions: Mapping[str, float], seed: int) -> tuple[str, ...]:
    """A split for each trajectory. Groups stay together, and large groups are placed before small ones."""
    sizes = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    wanted = {name: fractions[name] * len(groups) for name in SPLITS if fractions.get(name, 0) > 0}
    empty = set(wanted)
    split_of: dict[int, str] = {}
    for left, group in zip(range(len(order), 0, -1), order, strict=True):
        # Once there are no more groups than empty splits, each of these gets one.
        among = [name for name in wanted if name in empty or left > len(empty)]
        split_of[group] = max(among, key=wanted.__getitem__)
        wanted[split_of[group]] -= sizes[group]
        empty.discard(split_of[group])
    return tuple(split_of[group] for group in groups)


def check_named_splits(groups: Int[np.ndarray, " N"], names: Sequence[str], label: str) -> None:
    """Check that splits given by file names keep the windows of each trajectory together.

    Raises:
        ValueError: Windows of one trajectory are in different splits.
    """
    found: dict[int, set[str]] = {}
    for group, name in zip(groups.tolist(), names, strict=True):
        found.setdefault(group, set()).add(name)
    for group, together in found.items():
        if len(together) > 1:
            raise ValueError(
                f"{label} has {int((groups == group).sum())} windows that share frames and were cut from 1 "
                f"trajectory, but its files put them in {' and '.join(sorted(together))}, where a score "
                "would be too good; import each pair into a store of its own, or, if they are separate trajectories, "
                "say so with --independent true"
            )
