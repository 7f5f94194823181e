"""The order of image files, from the frame numbers or times in their names."""

import re
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

# A minus is a sign only where it cannot be a separator, as in `c_-1`.
NUMBER = re.compile(r"(?:(?<=[_= ])-|^-)?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
REMEDY = r"say where the frame number is with frame_number, for example --frame_number 't(\d+)'"


def ordered_frames(paths: Sequence[Path], pattern: str | None) -> list[Path]:
    """The frames of one trajectory, in the order of their numbers or times.

    The frame number is the only number in the names that differs from file to file, or `pattern` says where it is.

    Args:
        paths: The image files.
        pattern: Regular expression with one group, which is the frame number. Files whose name does not match are
            left out.

    Raises:
        ValueError: The order is ambiguous, two frames have the same number, or a frame is missing.
    """
    if not paths:
        return []
    if pattern is not None:
        found = [(path, match) for path in paths if (match := _compiled(pattern).search(path.name))]
        texts = {path: match[1] for path, match in found}
        if not found:
            raise ValueError(f"no image in {paths[0].parent} matches frame_number {pattern}, such as {paths[0].name}")
    else:
        texts = _number_texts(paths)
    values = {path: Decimal(text) for path, text in texts.items()}
    frames: dict[Decimal, Path] = {}
    for path, value in values.items():
        if value in frames:
            raise ValueError(
                f"{path} and {frames[value].name} have the same number {texts[path]}; remove one of them, or {REMEDY}"
            )
        frames[value] = path
    _check_fractions(texts, frames)
    _check_spacing(paths, sorted(frames))
    return [frames[value] for value in sorted(frames)]


def natural_key(name: str) -> str:
    """A key that sorts names with numbers in them in the order of the numbers."""
    return re.sub("[0-9]+", lambda digits: digits[0].zfill(20), name)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"frame_number {pattern} is not a regular expression ({error})") from error
    if compiled.groups != 1:
        raise ValueError(rf"frame_number {pattern} needs one group around the number, as in t(\d+)")
    return compiled


def _number_texts(paths: Sequence[Path]) -> dict[Path, str]:
    """The frame number in each name, as it is written."""
    matches = {path: list(NUMBER.finditer(path.stem)) for path in paths}
    found = {path: [match[0] for match in numbers] for path, numbers in matches.items()}
    for path, numbers in found.items():
        if not numbers:
            raise ValueError(f"{path} has no number in its name; number the frames from first to last")
    if len({len(numbers) for numbers in found.values()}) > 1:
        raise _ambiguous(found, "names with different counts of numbers")
    columns = list(zip(*found.values(), strict=True))
    varying = [k for k, column in enumerate(columns) if len({Decimal(text) for text in column}) > 1] or [-1]
    orders = {tuple(sorted(range(len(paths)), key=lambda i, k=k: Decimal(columns[k][i]))) for k in varying}
    repeated = any(len({Decimal(text) for text in columns[k]}) < len(paths) for k in varying)
    if len(varying) > 1 and (len(orders) > 1 or repeated):
        raise _ambiguous(found, "several numbers that differ from file to file")
    chosen = {path: numbers[varying[-1]] for path, numbers in found.items()}
    if len(paths) > 1 and all(text.startswith("-") for text in chosen.values()):
        raise _ambiguous(found, "a - before each number, which is a sign or a separator")
    starts = {path: numbers[varying[-1]].start() for path, numbers in matches.items()}
    if len({path.stem[:start].endswith("-") for path, start in starts.items()}) > 1:  # as in `t-1`, `t0`
        raise _ambiguous(found, "a - before some of the numbers, which is a sign or a separator")
    return chosen


def _check_fractions(texts: dict[Path, str], frames: dict[Decimal, Path]) -> None:
    """Check that numbers with a point are decimals, and not counters behind a point as in `v2.9`, `v2.10`."""
    fractions = [text.partition(".")[2] for text in texts.values()]
    counters = all(fraction.isdigit() for fraction in fractions) and len({len(f) for f in fractions}) > 1
    if counters and any(len(fraction) > 1 and fraction.endswith("0") for fraction in fractions):
        found = {path: [texts[path]] for path in texts}
        raise _ambiguous(found, "numbers with a point that are decimals or counters")


def _check_spacing(paths: Sequence[Path], values: Sequence[Decimal]) -> None:
    """Check that no frame is missing."""
    steps = [after - before for before, after in pairwise(values)]
    if not steps:
        return
    smallest = min(steps)
    whole = all(value == value.to_integral_value() for value in values)
    # Times are rounded to the digits in the names. Whole numbers count frames or time steps, exactly.
    exponent = min(int(value.as_tuple().exponent) for value in values)
    tolerance = Decimal(0) if whole else Decimal(10) ** exponent
    counts = [round(step / smallest) for step in steps]
    even = all(abs(step - n * smallest) <= n * tolerance for step, n in zip(steps, counts, strict=True))
    folder = paths[0].parent
    if not even and not whole:
        few = ", ".join(str(value) for value in values[:4])
        raise ValueError(f"{folder} has frames at {few}, ..., which are not evenly spaced; leave some out, or {REMEDY}")
    # Solvers often number frames by time step. Equal steps are not gaps, if there are enough of them to tell.
    stride = smallest if even and (len(steps) > 1 or not whole) else Decimal(1)
    missing = []
    for before, step in zip(values, steps, strict=False):
        count = min(round(step / stride), 12)  # ten of the missing numbers are enough to name
        missing += [str(before + n * stride) for n in range(1, count)]
    if missing:
        raise ValueError(
            f"{folder} has frames from {values[0]} to {values[-1]} but misses {', '.join(missing[:10])}"
            f"{', ...' if len(missing) > 10 else ''}; complete or renumber the frames, or {REMEDY}"
        )


def _ambiguous(found: dict[Path, list[str]], reason: str) -> ValueError:
    shown = [f"{path.name} ({', '.join(numbers)})" for path, numbers in list(found.items())[:3]]
    folder = next(iter(found)).parent
    return ValueError(f"the order of the frames in {folder} is ambiguous: {reason}, as in {'; '.join(shown)}; {REMEDY}")
