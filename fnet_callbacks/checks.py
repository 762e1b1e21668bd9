"""What functions and constructors ask of their arguments: one check for each kind, with one form of message.

Each returns the value as plain Python or NumPy has it, so that scalars of NumPy and torch are taken wherever a number
is, and raises an ``FnetError`` that names the argument, what it got and what would be right.
"""

import operator
import reprlib
from collections.abc import Iterable
from numbers import Real
from typing import Any, Literal, TypeVar

import numpy as np

from fnet_callbacks.errors import FnetError

_T = TypeVar("_T")


def checked_integer(
    argument: str, value: Any, *, at_least: int | None = None, at_most: int | None = None
) -> int:
    """An integer within bounds; a boolean is none, and neither is 2.0.

    Raises:
        FnetError: Naming ``argument``.
    """
    try:
        found = operator.index(_scalar(value))
    except TypeError:
        found = None
    is_low = found is not None and at_least is not None and found < at_least
    is_high = found is not None and at_most is not None and found > at_most
    if found is None or is_low or is_high:
        raise FnetError(f"{argument} must be an integer{_range(at_least, at_most, 'of ')}, got {told(value)}")
    return found


def checked_number(
    argument: str,
    value: Any,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
) -> float:
    """A real number within bounds, infinite where they allow it; NaN and booleans are none.

    Raises:
        FnetError: Naming ``argument``.
    """
    found = _scalar(value)
    number = float(found) if isinstance(found, Real) else float("nan")
    low = -np.inf if at_least is None else at_least
    high = np.inf if at_most is None else at_most
    if not low <= number <= high or (above is not None and not number > above):
        span = _range(at_least, at_most, "") or ("" if above is None else f" above {above:g}")
        raise FnetError(f"{argument} must be a number{span}, got {told(value)}")
    return number


def checked_choice(argument: str, value: _T, choices: Iterable[_T]) -> _T:
    """One of a few values.

    Raises:
        FnetError: Naming ``argument``.
    """
    allowed = list(choices)
    if not any(isinstance(value, type(choice)) and value == choice for choice in allowed):
        listed = ", ".join(map(repr, allowed[:-1])) + f" or {allowed[-1]!r}"
        raise FnetError(f"{argument} must be {listed}, got {told(value)}")
    return value


def checked_array(
    argument: str, value: Any, shape: str, *, kind: Literal["real", "integer"] = "real"
) -> np.ndarray:
    """An array of numbers with so many axes.

    Args:
        argument: Its name.
        value: Whatever NumPy makes an array of; CPU tensors too.
        shape: The names of its axes, such as ``"[samples, units]"``; ``""`` where any number of axes will do.
        kind: ``"real"``: integers, booleans and floats, as they come. ``"integer"``: integers, or nothing at all.

    Raises:
        FnetError: Naming ``argument``.
    """
    try:
        found = np.asarray(value)
        if found.dtype.kind == "O":
            found = found.astype(np.float64)
    except Exception as error:  # whatever an object's conversion raises
        raise FnetError(
            f"{argument} must be an array of numbers{_of(shape)}, got {told(value)}: {error}"
        ) from error
    if kind == "integer" and (found.dtype.kind in "iu" or found.size == 0):
        pass
    elif kind == "integer" or found.dtype.kind not in "biuf":
        wanted = "integers" if kind == "integer" else "real numbers"
        raise FnetError(f"{argument} must be {wanted}{_of(shape)}, got {found.dtype} of shape {found.shape}")
    if shape and found.ndim != shape.count(",") + 1:
        raise FnetError(f"{argument} must be {shape}; got shape {found.shape}")
    return found


def told(value: Any) -> str:
    """A value in a message: short, an array by its type and shape."""
    if shape := tuple(getattr(value, "shape", ())):
        return f"{type(value).__name__} of shape {shape}"
    return reprlib.repr(value)


def _scalar(value: Any) -> Any:
    """Of NumPy's and torch's scalars the plain value; a boolean becomes None, which is no number."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, bool) else value


def _range(low: float | None, high: float | None, word: str) -> str:
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    if low is not None:
        return f" {word}at least {low:g}"
    return "" if high is None else f" {word}at most {high:g}"


def _of(shape: str) -> str:
    return f", {shape}" if shape else ""
