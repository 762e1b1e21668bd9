"""Options of a command from the signature of the function that it calls, so that they are written down once."""

from __future__ import annotations

import argparse
import inspect
import re
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_ENTRY = re.compile(r"(\w+): (.*)")


class Command(argparse.ArgumentParser):
    """A command that adds its options when it is called: to read a signature, its function has to be imported."""

    def __init__(self, *args: Any, fill: Callable[[Command], None] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._fill = fill

    def parse_known_args(self, args: Any = None, namespace: Any = None, **options: Any) -> Any:
        """See ``argparse.ArgumentParser``."""
        fill, self._fill = self._fill, None
        if fill is not None:
            fill(self)
        return super().parse_known_args(args, namespace, **options)


def add_options(parser: argparse.ArgumentParser, function: Callable[..., Any]) -> None:
    """Adds an option for each keyword-only parameter of a function: its type, its default, and its line of help."""
    helps = argument_helps(function)
    for parameter, kinds in _parameters(function):
        add = {"default": parameter.default, "help": _help(helps.get(parameter.name, ""), parameter.default)}
        choices = [c for kind in kinds if get_origin(kind) is Literal for c in get_args(kind)]
        flag = "--" + parameter.name.replace("_", "-")
        if bool in kinds:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **add)
        elif choices:
            parser.add_argument(flag, choices=choices, **add)
        else:
            several = {"nargs": "+"} if _is_several(kinds) else {}
            name = "VALUE" if int in kinds or float in kinds else "NAME"
            parser.add_argument(flag, type=_from_text(kinds), metavar=name, **several, **add)


def options_of(namespace: argparse.Namespace, function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword arguments of a function, from what was parsed; one of several that may be is that one itself."""
    found = {}
    for parameter, kinds in _parameters(function):
        value = getattr(namespace, parameter.name)
        is_one = _is_several(kinds) and isinstance(value, list) and len(value) == 1
        found[parameter.name] = value[0] if is_one else value
    return found


def argument_helps(function: Callable[..., Any]) -> dict[str, str]:
    """What the section ``Args:`` of a docstring says of each parameter.

    Example:
        >>> def area(*, width, height):
        ...     '''Area.
        ...
        ...     Args:
        ...         width: In metres,
        ...             as a ``float``.
        ...         height: Likewise.
        ...     '''
        >>> argument_helps(area)
        {'width': 'In metres, as a float.', 'height': 'Likewise.'}
    """
    found: dict[str, str] = {}
    name = None
    _, _, section = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break
        entry = _ENTRY.fullmatch(line.removeprefix("    "))
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif name is not None:
            found[name] = f"{found[name]} {line.strip()}".rstrip()
    return {name: text.replace("``", "") for name, text in found.items()}


def _parameters(function: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, list[Any]]]:
    """The keyword-only parameters, each with the types that it may have."""
    hints = get_type_hints(function)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            hint = hints[parameter.name]
            yield parameter, list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else [hint]


def _is_several(kinds: Sequence[Any]) -> bool:
    return any(get_origin(kind) is Sequence for kind in kinds)


def _from_text(kinds: Sequence[Any]) -> Callable[[str], Any]:
    """Reads a value of the first of the types that takes it: none, an integer, a number, a text."""
    numbers = [kind for kind in (int, float) if kind in kinds]
    is_text = str in kinds
    may_be_none = types.NoneType in kinds

    def read(text: str) -> Any:
        if may_be_none and not is_text and text.lower() == "none":
            return None
        for kind in numbers:
            try:
                return kind(text)
            except ValueError:
                continue
        if is_text:
            return text
        right = " or ".join(
            [
                *("an integer" if kind is int else "a number" for kind in numbers),
                *(["none"] if may_be_none else []),
            ]
        )
        raise argparse.ArgumentTypeError(f"{text!r} should be {right}")

    return read


def _help(text: str, default: Any) -> str:
    shown = "" if default is None else f" (default: {default})"
    return (text.removesuffix(".") + shown).replace("%", "%%")
