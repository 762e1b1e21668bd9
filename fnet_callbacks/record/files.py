"""The files of a record: written whole or not at all, read up to a size, with arrays as small as their values allow."""

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fnet_callbacks.errors import RecordError

# What a reader accepts of one file: far above what a snapshot of 4,096 neurons needs, far below a bomb.
MAX_BYTES = 2**30


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an archive, compressed; integers in the smallest type that holds them.

    Pairs are laid out column by column: sorted, the first column is then next to nothing once it is compressed.
    """
    packed: dict[str, Any] = {name: _packed(np.asarray(array)) for name, array in arrays.items()}
    write_beside(path, lambda file: np.savez_compressed(file, **packed))


def _packed(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in "iu" and array.size:
        low, high = int(array.min()), int(array.max())
        array = array.astype(np.min_scalar_type(high if low >= 0 else min(low, -high - 1)))
    return np.asarray(array, order="F")


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an archive, or some of them; integers as int64, of which differences are what they seem.

    Raises:
        RecordError: It holds something that is no array, or is larger than ``MAX_BYTES`` when unpacked.
        Exception: It is damaged.
    """
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        size = sum(i.file_size for i in data.zip.infolist())
        if size > MAX_BYTES:
            raise RecordError(f"{path} unpacks to {size} bytes; the limit is {MAX_BYTES}")
        arrays = {name: data[name] for name in data.files if names is None or name in names}
    if strange := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise RecordError(f"{path} holds something that is no array: {', '.join(strange)}")
    return {name: _unpacked(array) for name, array in arrays.items()}


def _unpacked(array: np.ndarray) -> np.ndarray:
    is_integer = array.dtype.kind in "iu" and array.dtype != np.uint64
    return np.asarray(array, np.int64 if is_integer else None, order="C")


def read_bytes(path: Path) -> bytes:
    """All of a file.

    Raises:
        RecordError: It is larger than ``MAX_BYTES``.
        OSError: It cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise RecordError(f"{path} is larger than the limit of {MAX_BYTES} bytes")
    return path.read_bytes()


def append_line(path: Path, line: bytes) -> None:
    """Appends a whole line or nothing; a torn line that a killed run left is cut off first."""
    with open(path, "a+b", buffering=0) as file:
        end = _end_of_last_line(file)
        file.truncate(end)
        try:
            if file.write(line) != len(line):
                raise OSError(f"{path}: the disk is full")
        except OSError:
            file.truncate(end)
            raise


def _end_of_last_line(file: Any) -> int:
    size = file.seek(0, os.SEEK_END)
    block = 4096
    for start in range(size, 0, -block):
        begin = max(0, start - block)
        file.seek(begin)
        found = file.read(start - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
    return 0


def write_beside(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes a file under another name and renames it, so that a reader sees all of it or nothing."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            write(file)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
