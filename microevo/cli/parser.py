"""jsonargparse's parser, with errors that fit on one line and say what was probably meant."""

import argparse
import difflib
import inspect
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace

from microevo.cli.errors import UsageError, causes, one_line, shorten
from microevo.processes import Process

UNSET = re.compile(r"(^|/)\$\{?(?P<name>[A-Za-z_]\w*)\}?(/|$)")  # a variable that is a part of a path
ROOM = 240  # letters for what is wrong, if a suggestion follows
NEAR = 0.75  # similarity of two spellings from which one is suggested for the other


class ConfigFile(ActionConfigFile):
    """`--config`, with errors that name the file."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Read the file into the settings that were made before.

        Raises:
            ArgumentError: It cannot be read.
        """
        values = expand(values)
        path = Path(values)
        if path.suffix in (".yaml", ".yml") and not path.is_file():
            near = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob("*.y*ml")], n=1)
            hint = f"; did you mean {path.with_name(near[0])}?" if near else ""
            raise ArgumentError(self, f"there is no file {values}{hint}")
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ArgumentError, TypeError, ValueError) as error:
            raise ArgumentError(self, f"{values}: {error}") from error


class Parser(ArgumentParser):
    """The parser of a command.

    An option must be written in full: a misspelt one is an error, never taken for another that begins alike.
    """

    classes: ClassVar[dict[str, type]] = {"process": Process}  # the options that take a class

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The usage that is made of all options fills a page, and of the program's name it knows `__main__.py`.
        ours: dict[str, Any] = {"prog": "python -m microevo", "usage": "%(prog)s [options]"}
        super().__init__(*args, **(ours | {"allow_abbrev": False, "exit_on_error": False} | kwargs))
        self.subparsers: list[Parser] = []

    def options(self) -> set[str]:
        """Names of the options, those of subcommands too."""
        own = set(self.get_defaults(skip_validation=True).keys())
        return own.union(*(parser.options() for parser in self.subparsers))

    def read(self, args: Sequence[str]) -> Namespace:
        """The settings on the command line and in the config files that it names.

        Raises:
            UsageError: They cannot be understood.
        """
        try:
            settings = self.parse_args(list(args))
            for name, value in settings.items():
                settings[name] = _expanded(value, name)
            return settings
        except (ArgumentError, ValueError) as error:
            for cause in causes(error):
                if isinstance(cause, UsageError):
                    raise cause from None
            raise UsageError(one_line(str(error))) from error

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise `ArgumentError`, with a suggestion for a misspelt option or class."""
        message, remedy = one_line(message), ""
        if ex is None or isinstance(ex, KeyError):  # an option that does not exist
            near = nearest([word for word in message.split() if word[0] in "'-"], self.options())
            remedy = f"; did you mean {near}?" if near else "; --help lists the options"
        elif not any(isinstance(cause, ArgumentError) for cause in causes(ex)):  # which has its suggestion already
            remedy = self._suggest_class(message)
        super().error(shorten(message, ROOM) + remedy if remedy else message, ex)

    def _suggest_class(self, message: str) -> str:
        subject = message.split(": ")[0]
        base = next(
            (base for key, base in self.classes.items() if f'"{key}"' in subject or f"--{key}." in subject), None
        )
        if base is None:
            return ""
        classes = {cls.__name__: cls.__module__ for cls in _concrete(base)}
        names = sorted(classes)
        words = [word.strip("'\":,;").rsplit(".", 1)[-1] for word in message.split()]
        near = nearest(words, names) or next(
            (name for word in words for name in names if len(word) > 3 and word in name), ""
        )
        if near:
            return f"; did you mean {near}?"
        names = [name for name in names if classes[name].startswith("microevo.")]
        return f"; choose {', '.join(names)} or the path of a class of your own" if names else ""


def expand(text: str) -> str:
    """A setting with `~` at its beginning and `$NAME` replaced, as a shell does for words that are not quoted or in a file."""
    return os.path.expandvars(os.path.expanduser(text))  # noqa: PTH111  (a setting, perhaps not a path)


def _expanded(value: Any, name: str) -> Any:
    """The same for all texts in a setting.

    Raises:
        UsageError: A path begins with a variable, or has one for a folder, that is not set.
    """
    if isinstance(value, dict):
        return {key: _expanded(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, name) for item in value]
    if isinstance(value, Namespace):
        for key, item in value.items():
            value[key] = _expanded(item, f"{name}.{key}")
    if not isinstance(value, str):
        return value
    text = expand(value)
    if unset := UNSET.search(text):
        raise UsageError(
            f"{name} is {value}, but the environment variable {unset['name']} is not set; set it or write the path"
        )
    return text


def nearest(words: Collection[str], known: Collection[str]) -> str | None:
    """The known name most similar to one of the words, as a whole or in its last part."""
    best, found = NEAR, None
    for word in words:
        word = word.strip("'-").partition("=")[0].rstrip("'")
        for name in known if word not in known else ():
            for part in {name, name.rsplit(".", 1)[-1]}:
                ratio = difflib.SequenceMatcher(None, word, part).ratio()
                if ratio >= best:
                    best, found = ratio, name
    return found


def _concrete(base: type) -> Iterator[type]:
    if not inspect.isabstract(base) and not base.__name__.startswith("_"):
        yield base
    cls: type
    for cls in base.__subclasses__():
        yield from _concrete(cls)
