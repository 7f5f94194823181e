"""The span of each field of a store: declared by its process, or else the range of its values."""

from typing import TYPE_CHECKING

import numpy as np

from microevo.processes import find_process
from microevo.span import Span

if TYPE_CHECKING:
    from microevo.data.store import TrajectoryStore

DECLARED, TRAINING, ALL = "declared by the process", "range of the training split", "range of all trajectories"


def spans_of(store: "TrajectoryStore") -> dict[str, Span]:
    """The span of each field of a store, by name.

    What the process declares is written into a store, and looked up for stores that were written before it was. A store
    without a training split, of which there are no statistics, is read as a whole. A constant field spans 1.
    """
    declared = _declared(store)
    statistics, found = store.attributes.get("statistics") or {}, {}
    for name in store.fields:
        if name in declared:
            found[name] = Span(*declared[name], DECLARED)
            continue
        if name in statistics:
            low, high, source = statistics[name]["min"], statistics[name]["max"], TRAINING
        else:
            low, high, source = *_extremes(store, name), ALL
        found[name] = Span(low, high, source) if high > low else Span(low, low + 1.0, f"constant, {source}")
    return found


def _declared(store: "TrajectoryStore") -> dict[str, tuple[float, float]]:
    process = store.attributes["recipe"].get("process")
    known = find_process(process["class_path"]) if isinstance(process, dict) and "class_path" in process else None
    spans = {field.name: field.span for field in known.fields} if known is not None else {}
    spans |= {name: tuple(span) for name, span in store.attributes.get("spans", {}).items()}
    return {name: span for name, span in spans.items() if span is not None}


def _extremes(store: "TrajectoryStore", name: str) -> tuple[float, float]:
    found = [(frames.min(), frames.max()) for i in range(len(store)) for frames in [store.read(i, fields=[name])]]
    lows, highs = np.array(found, dtype=np.float64).T
    return float(lows.min()), float(highs.max())
