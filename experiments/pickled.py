"""A pickle as plain values and arrays: nothing that it names is imported, and nothing is called but what is here."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fnet_callbacks.errors import FnetError


class _Plain:
    """Stands in for what a pickle names; a pickle may not change it."""

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("the file changes what it should not")


class _Kind(_Plain):
    """In place of ``numpy.dtype``."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = name.decode("latin1") if isinstance(name, bytes) else name
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        self.order = order.decode("latin1") if isinstance(order, bytes) else order

    def of(self, content: Any, shape: Sequence[int], order: Any) -> np.ndarray:
        """The array of numbers that bytes are."""
        if self.name not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8") or self.order not in tuple(
            "|<>="
        ):
            raise pickle.UnpicklingError(f"it has an array of {self.name!r}, not of integers")
        if not isinstance(content, (bytes, bytearray)):
            raise pickle.UnpicklingError("it has an array without bytes")
        kind = np.dtype(f"{self.order}{self.name}")
        return np.frombuffer(bytes(content), kind).reshape(shape, order="F" if order else "C")


class _Array(_Plain):
    """In place of ``numpy.ndarray`` and what makes one."""

    def __init__(self, *_: Any) -> None:
        self.values = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, is_fortran, content = state
        self.values = _kind(kind).of(content, shape, is_fortran)


class _Buffered(_Plain):
    """In place of ``numpy._core.numeric._frombuffer``."""

    def __new__(cls, content: Any, kind: Any, shape: Any, order: Any) -> Any:
        return _kind(kind).of(content, shape, order == "F")


class _Scalar(_Plain):
    """In place of ``numpy._core.multiarray.scalar``."""

    def __new__(cls, kind: Any, content: Any) -> Any:
        return int(_kind(kind).of(content, (), False))


class _Encoded(_Plain):
    """In place of ``_codecs.encode``, which is how old protocols write bytes."""

    def __new__(cls, text: Any, encoding: Any) -> Any:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"it has bytes in {encoding!r}")
        return text.encode("latin1")


def _kind(value: Any) -> _Kind:
    if not isinstance(value, _Kind):
        raise pickle.UnpicklingError("it has an array of no known kind")
    return value


_STAND_INS: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _Encoded,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _Scalar),
            ("numeric", "_frombuffer", _Buffered),
        )
    },
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        """See ``pickle.Unpickler``."""
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not run") from None


def unpickled(content: bytes, path: str | Path) -> dict[str, Any]:
    """The dictionary that a pickle holds, of Python 2 or 3: by name numbers, strings, lists, and arrays of integers.

    Strings of Python 2 are bytes, but for the names.

    Args:
        content: Of the file.
        path: Of the file, for messages.

    Raises:
        FnetError: It is damaged, is no dictionary, or holds anything else.
    """
    try:
        _check_places(content)
        found = _Reader(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise FnetError(f"{path}: not a pickle of plain values and arrays: {error}") from error
    if type(found) is not dict:
        raise FnetError(f"{path}: the pickle should be of a dictionary, got {type(found).__name__}")
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): _value(own)
        for key, own in found.items()
    }


def _check_places(content: bytes) -> None:
    """Refuses a pickle that asks for more room to remember things in than it has things."""
    for place, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if operation.name.endswith("PUT") and not (isinstance(argument, int) and 0 <= argument <= place):
            raise pickle.UnpicklingError("it is damaged")


def _value(value: Any) -> Any:
    return value.values if isinstance(value, _Array) else value
