"""jsonargparse's complaints, nested and pages long, as one sentence each."""

import difflib
import importlib
import inspect
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, get_args

from jsonargparse import ArgumentParser

KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "NoneType": "null"}


def explain(message: str, parser: ArgumentParser) -> str:
    """The cause that lies innermost in `message`, and what was probably meant."""
    text = " ".join(message.split())
    command = parser.prog.split()[-1]
    known = sorted({action.dest for action in parser._actions})
    if found := re.search(r"arguments are required: (.+)", text):
        names = [f"--{name.strip().removeprefix(f'{command}.')}" for name in found[1].split(",")]
        return f"{_list(names, 'and')} must be given, here or in a file for --config"
    if found := re.search(r"argument (?:-\w/)?(--[\w.]+): expected one argument", text):
        return f"{found[1]} must be followed by a value"
    if found := re.search(r"^[Uu]nrecognized arguments: (\S+)", text):
        if not found[1].startswith("-"):
            return f"{found[1]} stands where an option should; options begin with --"
        name = found[1].split("=")[0]
        return f"there is no option {name}{_meant(name.lstrip('-'), known, '--')}"
    if found := re.search(r"^(?:Subcommand '\w+' does not accept option|Option|Group .* option) '([^']+)'", text):
        return f"there is no option {found[1]}{_meant(found[1], known)}"
    if found := re.search(r"^--([\w.]+)\.help: ", text):
        return _wrong_class(found[1], found[1], text, parser)
    return _innermost(text, parser) or unwrap(text)


def unwrap(text: str) -> str:
    """The first cause in a list of why each type of a union was refused."""
    text = " ".join(text.split())
    while found := re.search(r"Does not validate against any of the Union subtypes Subtypes: .*? Errors: - (.*)", text):
        text = re.split(r" - Expected an? | Given value type: ", found[1])[0]
    return text if len(text) < 500 else f"{text[:497]}..."


def _innermost(text: str, parser: ArgumentParser) -> str | None:
    keys = list(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', text)))
    if not keys:
        return None
    key = keys[0] + "".join(f".init_args.{inner}" for inner in keys[1:])
    text = text[text.rindex(f'Parser key "{keys[-1]}"') :]
    # The list of a union's types names classes too, none of which is to blame.
    causes = re.sub(r"Subtypes: \[.*?\] Errors:", "", text)
    if found := re.search(r"class_path '([^']+)': (?:Option '|unrecognized arguments: -*)([\w.]+)", causes):
        return f"{_name(found[1])} has no option {found[2]}{_meant(found[2], _options_of(found[1]))}"
    if re.search(r"class_path|import path|[Ii]nstantiatable|instantiatable|subclass of", causes):
        return _wrong_class(key, keys[0], causes, parser)
    return _wrong_value(key, text)


def _wrong_class(key: str, option: str, text: str, parser: ArgumentParser) -> str:
    found = re.search(r"class_path '([^']+)'|Expected a path but (\S+) either|Given value: (.+)$|: (\S+)$", text)
    given = next(filter(None, found.groups()), "") if found else ""
    if given.endswith((".yaml", ".yml")):
        return f"there is no file {given}, given for {key}"
    choices = {cls.__name__: cls for cls in _concrete(_bases(option, parser))}
    if re.search(r"no attribute|No module|dot import path string|import path format", text):
        reason = f"there is no class {given}"
    elif "abstract" in text:
        reason = f"{given} is only what others build on"
    else:
        reason = f"{given} is no {_list(sorted({base.__name__ for base in _bases(option, parser)}), 'or')}"
    hint = _meant(_name(given), choices)
    if not hint and 0 < len(choices) < 9:
        hint = f"; choose {_list(sorted(choices), 'or')}, or give the path of a class of your own"
    return f"{reason}, given for {key}{hint}"


def _wrong_value(key: str, text: str) -> str | None:
    found = re.search(r"Expected an? (.+?)\. Got value: (.+?)(?= - Expected | Given value |$)", text)
    if not found:
        found = re.search(r"Subtypes: \[(.*?)\] Errors:.*?Given value: (.*?)(?= - Expected |$)", text)
    kinds = list(dict.fromkeys(_kinds(found[1]))) if found else []
    if not found or not kinds:
        return None
    return f"{key} must be {_list(kinds, 'or')}, but it is {found[2]}"


def _kinds(types: str) -> Iterator[str]:
    for name, literals, other in re.findall(
        r"<class '([\w.]+)'>|Literal\[(.*?)\]|\b(list|dict|tuple|Mapping)\b", types
    ):
        if literals:
            yield from (literal.strip(" '") for literal in literals.split(","))
        else:
            yield KINDS.get(name, f"a {(name or other).rsplit('.', 1)[-1].lower()}")


def _bases(option: str, parser: ArgumentParser) -> list[type]:
    """The classes whose subclasses an option takes."""
    action: Any = next((action for action in parser._actions if action.dest == option), None)
    waiting, bases = [getattr(action, "_typehint", None)], []
    while waiting:
        hint = waiting.pop()
        if inspect.isclass(hint) and not get_args(hint) and hint.__module__ != "builtins":
            bases.append(hint)
        waiting.extend(get_args(hint))
    return bases


def _concrete(bases: Iterable[type]) -> Iterator[type]:
    for base in bases:
        if not inspect.isabstract(base) and not base.__name__.startswith("_"):
            yield base
        yield from _concrete(base.__subclasses__())


def _options_of(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(getattr(importlib.import_module(module), name))
    return [action.dest for action in parser._actions]


def _list(words: Sequence[str], joint: str) -> str:
    return f"{', '.join(words[:-1])} {joint} {words[-1]}" if len(words) > 1 else words[0]


def _name(class_path: str) -> str:
    return class_path.rsplit(".", 1)[-1]


def _meant(word: str, known: Collection[str], dashes: str = "") -> str:
    """A suggestion, or nothing: a near name, one that contains the word, or one with the same last part."""
    last = {name.rsplit(".", 1)[-1]: name for name in known}
    near = difflib.get_close_matches(word, known, n=1) or [name for name in known if word.lower() in name.lower()]
    near = near or [last[name] for name in difflib.get_close_matches(word.rsplit(".", 1)[-1], last, n=1)]
    return f"; did you mean {dashes}{near[0]}?" if near else ""
