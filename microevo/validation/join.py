"""Overlapping windows -> the trajectories that they were cut from."""

import hashlib

import numpy as np
from jaxtyping import Shaped


def join_windows(windows: Shaped[np.ndarray, "N T H W"]) -> list[Shaped[np.ndarray, "joined H W"]]:
    """Put windows that were cut from one trajectory at equal intervals together again.

    A window follows another one if it begins with its last frames, all of them the same to the bit. Windows that no other
    one overlaps stay as they are.

    Args:
        windows: In any order; copies are left out.

    Returns:
        Trajectories, in the order of their first windows.
    """
    digests = [tuple(hashlib.blake2b(frame.tobytes()).digest() for frame in window) for window in windows]
    places = {digest: i for i, digest in reversed(list(enumerate(digests)))}  # the first one of copies
    beginning: dict[bytes, list[int]] = {}
    for digest, i in places.items():
        beginning.setdefault(digest[0], []).append(i)
    following: dict[int, tuple[int, int]] = {}
    for digest, i in places.items():
        for shift in range(1, len(digest)):
            followers = [
                j for j in beginning.get(digest[shift], []) if digests[j][:-shift] == digest[shift:] and j != i
            ]
            if followers:
                following[i] = followers[0], shift
                break
    first = sorted(set(places.values()) - {j for j, _ in following.values()})
    joined = []
    for i in first:
        parts = []
        while i in following:
            after, shift = following[i]
            parts.append(windows[i][:shift])
            i = after
        joined.append(np.concatenate([*parts, windows[i]]))
    return joined
