"""What functions and constructors ask of their arguments: one check for each kind, with one form of message.

Each returns the value as plain Python or NumPy has it, so that scalars of NumPy and torch are taken wherever a number
is, and raises an ``FnetError`` that names the argument, what it got and what would be right.
"""

import operator
import reprlib
from collections.abc import Iterable
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from fnet_callbacks.errors import FnetError

if TYPE_CHECKING:
    from torch import Tensor

_T = TypeVar("_T")


_LARGEST = 2**63 - 1  # what NumPy and torch count to


def checked_integer(
    argument: str, value: Any, *, at_least: int | None = None, at_most: float | None = None
) -> int:
    """An integer within bounds; a boolean is none, and neither is 2.0.

    Raises:
        FnetError: Naming ``argument``.
    """
    try:
        found = operator.index(_scalar(value))
    except TypeError:
        found = None
    limit = _LARGEST if at_most is None else at_most
    if found is None or (at_least is not None and found < at_least) or found > limit:
        high = limit if at_most is not None or (found is not None and found > limit) else None
        raise FnetError(
            f"{argument} must be an integer{_range(at_least, high, 'of ')}, got {short_repr(value)}"
        )
    return found


def checked_seed(value: Any, argument: str = "seed") -> int:
    """The seed of a random stream of NumPy: an integer of 0 or more, however large.

    Raises:
        FnetError: Naming ``argument``.
    """
    return checked_integer(argument, value, at_least=0, at_most=np.inf)


def checked_number(
    argument: str,
    value: Any,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    allows_nan: bool = False,
) -> float:
    """A real number within bounds, infinite where they allow it; a boolean is none, and NaN where it may not be.

    Raises:
        FnetError: Naming ``argument``.
    """
    found = _scalar(value)
    try:
        number = float(found) if isinstance(found, Real) else float("nan")
    except OverflowError:  # an integer beyond the largest float
        number = float("nan")
    if allows_nan and isinstance(found, Real) and np.isnan(number):
        return number
    low = -np.inf if at_least is None else at_least
    high = np.inf if at_most is None else at_most
    if not low <= number <= high or (above is not None and not number > above):
        span = _range(at_least, at_most, "") or ("" if above is None else f" above {above}")
        raise FnetError(f"{argument} must be a number{span}, got {short_repr(value)}")
    return number


def checked_choice(argument: str, value: _T, choices: Iterable[_T]) -> _T:
    """One of a few values.

    Raises:
        FnetError: Naming ``argument``.
    """
    allowed = list(choices)
    if not any(isinstance(value, type(choice)) and value == choice for choice in allowed):
        listed = ", ".join(map(repr, allowed[:-1])) + f" or {allowed[-1]!r}"
        raise FnetError(f"{argument} must be {listed}, got {short_repr(value)}")
    return value


def checked_array(
    argument: str, value: Any, shape: str, *, kind: Literal["real", "integer"] = "real"
) -> np.ndarray:
    """An array of numbers with so many axes.

    Dates, text and complex numbers are none; objects are where each is a number or None, which becomes NaN.

    Args:
        argument: Its name.
        value: Whatever NumPy makes an array of; CPU tensors too.
        shape: The names of its axes, such as ``"[samples, units]"``; ``""`` where any number of axes will do.
        kind: ``"real"``: integers, booleans and floats, as they come. ``"integer"``: integers, or nothing at all.

    Raises:
        FnetError: Naming ``argument``.
    """
    try:
        if value is None:
            raise TypeError("None is no array")
        found = np.asarray(value)
        if found.dtype.kind == "O":
            found = found.astype(np.float64)
    except Exception as error:  # whatever an object's conversion raises
        raise FnetError(
            f"{argument} must be {_array_of(shape, kind)}; got {short_repr(value)}: {error}"
        ) from error
    is_of_kind = found.dtype.kind in ("iu" if kind == "integer" else "biuf") or found.size == 0
    n_axes = shape.count(",") + 1 if shape else found.ndim
    if not is_of_kind or found.ndim != n_axes:
        raise FnetError(
            f"{argument} must be {_array_of(shape, kind, is_of_kind)}; got {found.dtype} of shape {found.shape}"
        )
    return found


def checked_tensor(argument: str, value: Any, *, floating: bool = False) -> "Tensor":
    """A dense tensor of real numbers, or of floating-point ones.

    Unsigned integers of more than 8 bits are refused, for torch does not compare them.

    Raises:
        FnetError: Naming ``argument``.
    """
    import torch  # here, for what works on arrays does without

    if not isinstance(value, torch.Tensor):
        raise FnetError(
            f"{argument} must be a tensor, got {short_repr(value)}; torch.as_tensor makes one of an array"
        )
    if floating and not value.is_floating_point():
        raise FnetError(f"{argument} must be floating point, got {value.dtype}")
    wide = (torch.uint16, torch.uint32, torch.uint64)
    if value.is_complex() or value.dtype in wide or value.layout != torch.strided:
        raise FnetError(
            f"{argument} must be a dense tensor of real numbers, got {value.dtype}, {value.layout}"
        )
    return value


def checked_flag(argument: str, value: Any) -> bool:
    """A boolean, NumPy's too.

    Raises:
        FnetError: Naming ``argument``.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise FnetError(f"{argument} must be True or False, got {short_repr(value)}")
    return bool(value)


def short_repr(value: Any) -> str:
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
    if high is None or high == np.inf:
        return "" if low is None else f" {word}0 or more" if low == 0 else f" {word}at least {low}"
    return f" {word}at most {high}" if low is None else f" from {low} to {high}"


def _array_of(shape: str, kind: str, is_of_kind: bool = False) -> str:
    if kind == "integer":
        return "a vector of integers" if shape and "," not in shape else f"integers {shape}".rstrip()
    return shape if shape and is_of_kind else f"real numbers {shape}".rstrip()
