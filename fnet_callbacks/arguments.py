"""The door that arguments come in by: what Hydra, NumPy and torch hand over becomes plain Python, or is refused.

What is kept of an argument goes to checkpoints, manifests and other processes, which take plain values alone.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import numbers
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ParamSpec, cast

from fnet_callbacks.errors import FnetError

Names = str | Sequence[str]
Numbers = float | Sequence[float]
P = ParamSpec("P")

_LARGEST = 2**63 - 1
_MAX_NAMES = 12  # in a message


def plain(argument: str, value: Any) -> Any:
    """A value as Python's own: None, a truth value, a number, a text, or a list of such.

    An array or tensor without axes is a number, one with axes a list; so is every other sequence, as OmegaConf's. A
    set, which has no order, is sorted. What is none of these, such as a mapping or a function, stays what it is.

    Raises:
        FnetError: The value cannot be read, as one that a configuration leaves to be filled in.

    Example:
        >>> import numpy as np
        >>> plain("layers", np.array(["net.1"])), plain("seed", np.int64(3)), plain("epsilons", {0.2, 0.1})
        (['net.1'], 3, [0.1, 0.2])
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # of a class of its own: NumPy's, an enumeration's
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real | Decimal):
        return float(value)
    if isinstance(value, bytes | bytearray | Mapping | type):
        return value
    try:
        if hasattr(value, "tolist"):  # of NumPy, torch, pandas
            inner = value.tolist()
            return value if type(inner) is type(value) else plain(argument, inner)
        listed = [plain(argument, one) for one in value] if isinstance(value, Iterable) else None
    except FnetError:
        raise
    except Exception as error:
        raise FnetError(f"`{argument}` cannot be read: {error!r}") from error
    if listed is None:
        return value
    return _sorted(listed) if isinstance(value, set | frozenset) else listed


def as_integer(argument: str, value: Any, *, at_least: int) -> int:
    """An integer that NumPy and torch can hold.

    Raises:
        FnetError: It is none, too small or beyond 64 bits; the message names ``argument``.
    """
    value = plain(argument, value)
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise refused(argument, value, f"an integer of at least {at_least}")
    if value > _LARGEST:
        raise refused(argument, value, f"an integer from {at_least} to {_LARGEST}")
    return value


def as_number(argument: str, value: Any, *, above: float) -> float:
    """A number.

    Raises:
        FnetError: It is none, or too small; the message names ``argument``.
    """
    value = plain(argument, value)
    if not is_number(value) or not value > above:
        raise refused(argument, value, f"a number above {above:g}")
    return value


def as_flag(argument: str, value: Any) -> bool:
    """True or False, which 1 and 0 are too.

    Raises:
        FnetError: It is neither, such as the text ``"false"``, which counts as true; the message names ``argument``.
    """
    value = plain(argument, value)
    if not isinstance(value, int) or value not in (0, 1):
        raise refused(argument, value, "True or False")
    return bool(value)


def as_choice(argument: str, value: Any, allowed: Sequence[Any]) -> Any:
    """One of a few values.

    Raises:
        FnetError: It is another; the message names ``argument``.
    """
    value = plain(argument, value)
    if not any(type(value) is type(one) and value == one for one in allowed):
        raise refused(argument, value, " or ".join(map(repr, allowed)))
    return value


def as_text(argument: str, value: Any) -> str | None:
    """A text, or None for none.

    Raises:
        FnetError: It is something else; the message names ``argument``.
    """
    value = plain(argument, value)
    if not (value is None or isinstance(value, str)):
        raise refused(argument, value, "a text, or None")
    return value


def as_patterns(argument: str, value: Any) -> str | list[str]:
    """Glob patterns over names of modules, or one, or ``"auto"``.

    Raises:
        FnetError: It is something else; the message names ``argument``.
    """
    value = plain(argument, value)
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise refused(argument, value, "'auto' or glob patterns over module names")
    return value


def as_list(argument: str, value: Any, what: str) -> list[Any]:
    """Several values; one by itself is a list of one.

    Raises:
        FnetError: There is none, or it is nothing of which there may be several; the message names ``argument`` and
            says ``what`` they should be.
    """
    value = plain(argument, value)
    listed = [value] if isinstance(value, str) or is_number(value) else value
    if not isinstance(listed, list) or not listed:
        raise refused(argument, value, f"a list of {what}")
    return listed


def some_names(names: Iterable[str], *, like: str = "") -> str:
    """Names for a message: all of a few; of many the nearest to ``like``, else the first, and how many more."""
    known = list(dict.fromkeys(names))
    if len(known) <= _MAX_NAMES:
        return ", ".join(known) or "none"
    near = difflib.get_close_matches(like, known, n=_MAX_NAMES // 2, cutoff=0.4) if like else []
    shown = near or known[: _MAX_NAMES // 2]
    return f"{', '.join(shown)} and {len(known) - len(shown)} more"


def is_number(value: Any) -> bool:
    """Whether a plain value is a number; True and False are none, nor is an integer beyond the largest float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) <= sys.float_info.max


def refused(argument: str, value: Any, right: str) -> FnetError:
    """The error of an argument that is not ``right``; what is not Python's own is shown with its class."""
    kind = type(value)
    of = "" if kind.__module__ == "builtins" else f" of the class {kind.__qualname__}"
    return FnetError(f"`{argument}={value!r}`{of} should be {right}")


def _sorted(values: list[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:  # of several kinds, which whoever asked for them will refuse
        return sorted(values, key=repr)


def naming_unknown(init: Callable[P, None], elsewhere: Callable[[str], str]) -> Callable[P, None]:
    """A constructor that says of an option that it does not have which one is meant, or where it belongs.

    Args:
        init: The constructor.
        elsewhere: Says where an option of this name belongs; an empty text where it belongs nowhere.
    """
    parameters = list(inspect.signature(init).parameters.values())[1:]  # without ``self``
    takes_any = any(own.kind == own.VAR_KEYWORD for own in parameters)
    known = [own.name for own in parameters if own.kind in (own.POSITIONAL_OR_KEYWORD, own.KEYWORD_ONLY)]

    @functools.wraps(init)
    def checking(*arguments: P.args, **options: P.kwargs) -> None:
        unknown = () if takes_any else [name for name in options if name not in known]
        for name in unknown:
            near = difflib.get_close_matches(name, known, n=1)
            hint = elsewhere(name) or (f"did you mean `{near[0]}`?" if near else f"it has {', '.join(known)}")
            raise TypeError(f"{type(arguments[0]).__name__} has no option `{name}`; {hint}")
        init(*arguments, **options)

    cast(Any, checking).__kwdefaults__ = cast(Any, init).__kwdefaults__  # for who looks there
    return checking
