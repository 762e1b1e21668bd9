"""Messages between processes: each is one segment of shared memory, of which only the file descriptor travels.

A segment has no name, so that nothing is left behind however a process ends: the kernel frees it when the last of
both has let go. It holds the arrays of a message and, behind them, its plain part as JSON; no pickle.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import tempfile
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from fnet_callbacks.imports import import_path, imported

_HEAD = struct.Struct("<qq")  # bytes of the segment, place of the JSON in it
_ALIGNMENT = 64
_ARRAY, _TYPE, _IMPORT = "\0array", "\0type", "\0import"


def pack(message: Any) -> Segment:
    """Copies a message into a segment.

    It may hold dictionaries, lists, text, numbers, None, NumPy arrays, dataclasses, and functions and classes of
    modules. A tuple arrives as a list, an array as one that shares the segment's memory.

    Raises:
        OSError: There is not that much shared memory.
        TypeError: There is something in the message that cannot travel.
    """
    arrays: list[np.ndarray] = []
    places: list[int] = []
    end = 0

    def plain(value: Any) -> Any:
        nonlocal end
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            arrays.append(value)
            places.append(end)
            end = _aligned(end + value.nbytes)
            return {_ARRAY: [places[-1], value.dtype.str, value.shape]}
        if is_dataclass(value) and not isinstance(value, type):
            kind = type(value)
            return {
                _TYPE: f"{kind.__module__}:{kind.__qualname__}",
                **{f.name: getattr(value, f.name) for f in fields(value)},
            }
        if callable(value) and (path := import_path(value)) is not None:
            return {_IMPORT: path}
        raise TypeError(f"{type(value).__name__} cannot travel between processes")

    text = json.dumps(message, default=plain).encode()
    segment = Segment(new_file(), end + len(text), end)
    try:
        for place, array in zip(places, arrays, strict=True):
            segment.write(place, np.ascontiguousarray(array).data.cast("B") if array.size else b"")
        segment.write(end, text)
    except OSError:
        segment.close()
        raise
    return segment


def unpack(segment: Segment) -> Any:
    """The message in a segment; its arrays live as long as they are held, also when the segment is closed."""
    memory = segment.mapped()

    def whole(found: dict[str, Any]) -> Any:
        if _ARRAY in found:
            place, dtype, shape = found[_ARRAY]
            return _view(memory, place, np.dtype(dtype), shape)
        if _TYPE in found:
            kind = _found(found.pop(_TYPE))
            if not (isinstance(kind, type) and is_dataclass(kind)):
                raise TypeError(f"{kind} is no dataclass")
            return kind(**found)
        return _found(found[_IMPORT]) if _IMPORT in found else found

    return json.loads(memory[segment.text_at : segment.size], object_hook=whole)


def _found(path: str) -> Any:
    """What was sent by its path.

    Raises:
        ImportError: It cannot be imported here.
    """
    try:
        return imported(path)
    except Exception as error:
        raise ImportError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error


class Segment:
    """A piece of shared memory without a name.

    Attributes:
        fd: Its file descriptor.
        size: In bytes.
        text_at: Where the JSON begins.
    """

    __slots__ = ("fd", "size", "text_at")

    def __init__(self, fd: int, size: int, text_at: int) -> None:
        self.fd, self.size, self.text_at = fd, size, text_at

    def write(self, place: int, content: bytes | memoryview) -> None:
        """Writes without mapping it: that faults on no page, and a lack of memory is an error, not a signal.

        Raises:
            OSError: There is not enough shared memory.
        """
        content = memoryview(content)
        while content:
            written = os.pwrite(self.fd, content, place)
            place, content = place + written, content[written:]

    def mapped(self) -> mmap.mmap:
        """The segment's memory."""
        return mmap.mmap(self.fd, self.size)

    def close(self) -> None:
        """Lets go of it."""
        os.close(self.fd)


def send(channel: socket.socket, segment: Segment) -> None:
    """Hands a segment to the process at the other end, which shares it from then on.

    Raises:
        OSError: The other end is gone.
    """
    socket.send_fds(channel, [_HEAD.pack(segment.size, segment.text_at)], [segment.fd])


def receive(channel: socket.socket) -> Segment | None:
    """Waits for the next segment; None where the other end is gone."""
    try:
        head, fds, _, _ = socket.recv_fds(channel, _HEAD.size, 1)
    except ConnectionError:
        return None
    if len(head) < _HEAD.size or not fds:
        return None
    return Segment(fds[0], *_HEAD.unpack(head))


def new_file() -> int:
    """The file descriptor of a file in memory that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fnet_callbacks", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _aligned(place: int) -> int:
    return -(-place // _ALIGNMENT) * _ALIGNMENT


def _view(memory: mmap.mmap, place: int, dtype: np.dtype, shape: Any) -> np.ndarray:
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(memory, dtype, count, place).reshape(shape)
