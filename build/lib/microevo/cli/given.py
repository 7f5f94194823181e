"""What the user wrote, before anybody adds defaults to it."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

SUB_CONFIGS = ("model", "data", "process", "trainer")  # may be given as a file of their own


def settings(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Dotted name of each setting in `args` and in the config files that it names, and where it stands.

    Raises:
        FileNotFoundError: A config file is not there.
        ValueError: A config file is no YAML, or holds no settings.
    """
    for name, value in options(args):
        if name in ("config", "c") and value:
            if _is_inline(value):
                yield from _flatten("", _parse(value), "in --config", None)
            else:
                yield from _flatten("", read(Path(value)), f"in {value}", Path(value).parent)
        elif name and value:
            yield from _flatten(name, _parse(value), "on the command line", None)
        elif name:
            yield name, "on the command line"


def options(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name, without dashes, and value of each option; positional words have no name."""
    words = iter([*args, ""])
    word = next(words)
    for following in words:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            yield "", word
        elif equals or following.startswith("-") or not following:
            yield name.lstrip("-"), value
        else:
            yield name.lstrip("-"), following
            following = next(words, "")
        word = following


def defaults_beside(args: Sequence[str]) -> list[Any]:
    """The `defaults.yaml` of the first config file named in `args`: beside it or in a folder above it.

    Without one, that of `experiments/` under the folder one runs from.
    """
    for name, config in options(args):
        if name in ("config", "c") and config and not _is_inline(config):
            folder = Path(config).parent
            for candidate in (folder / "defaults.yaml", folder.parent / "defaults.yaml"):
                if candidate.is_file():
                    return [str(candidate)]
    return ["experiments/defaults.yaml"]


def read(path: Path, named_by: str = "") -> dict[str, Any]:
    """The settings in a config file.

    Args:
        path: The file.
        named_by: What refers to the file, for the messages.
    """
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob("*.y*ml")], n=1)
        hint = f"; did you mean {path.with_name(near[0])}?" if near else ""
        raise FileNotFoundError(f"there is no config file {path}{named_by}{hint}")
    try:
        tree = yaml.safe_load(path.read_text())
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no YAML but a binary file; give a config file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{path} is no valid YAML: {getattr(error, 'problem', None) or error}{where}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds no settings; write `name: value` lines, as in experiments/")
    return tree


def _flatten(prefix: str, tree: Any, where: str, folder: Path | None) -> Iterator[tuple[str, str]]:
    """Names of the leaves; a value that is itself a config file is followed, relative to the file it stands in."""
    if isinstance(tree, str) and prefix in SUB_CONFIGS and tree.endswith((".yaml", ".yml")):
        path = (folder or Path()) / tree
        tree = read(path, f", given as the {prefix} {where}")
        where, folder = f"in {path}", path.parent
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _flatten(f"{prefix}.{key}".lstrip("."), value, where, folder)
    else:
        yield prefix, where


def _parse(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _is_inline(config: str) -> bool:
    """Whether `--config` holds the settings themselves rather than a file's name."""
    return not Path(config).is_file() and isinstance(_parse(config), dict)
