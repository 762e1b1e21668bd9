"""Files of image sets: IDX, CIFAR-10's binary and pickled batches, and archives of these."""

from __future__ import annotations

import gzip
import lzma
import math
import struct
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

from experiments.pickled import unpickled
from fnet_callbacks.errors import FnetError

Split = tuple[np.ndarray, np.ndarray]  # images uint8 [S, C, H, W], labels int64 [S]

MAX_BYTES = 2**29  # of a file, unpacked: ten times the largest, the training images of MNIST
CIFAR_SHAPE = (3, 32, 32)
CIFAR_RECORD = 1 + math.prod(CIFAR_SHAPE)
_SUFFIXES = ("", ".gz", ".xz")


def read_idx(path: str | Path) -> np.ndarray:
    """The array of an IDX file of unsigned bytes, plain, ``.gz`` or ``.xz``.

    Raises:
        FnetError: The file cannot be read, is not IDX, or is shorter or longer than its header says.
    """
    content = read(path)
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or not 1 <= content[3] <= 3:
        raise FnetError(f"{path}: not an IDX file of unsigned bytes with 1 to 3 axes")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise FnetError(f"{path}: the header ends early, after {len(content)} of {start} bytes")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise FnetError(
            f"{path}: {shape} are {math.prod(shape)} bytes, the file holds {len(content) - start}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_cifar10(path: str | Path, content: bytes | None = None) -> Split:
    """Images ``[S, 3, 32, 32]`` and labels of a CIFAR-10 binary file, plain, ``.gz`` or ``.xz``.

    Args:
        path: Of the file.
        content: Its content, where that has been read from an archive.

    Raises:
        FnetError: The file cannot be read, is not made of whole records, or has a label above 9.
    """
    content = read(path) if content is None else content
    if not content or len(content) % CIFAR_RECORD:
        raise FnetError(f"{path}: {len(content)} bytes are not whole CIFAR-10 records of {CIFAR_RECORD}")
    records = np.frombuffer(content, np.uint8).reshape(-1, CIFAR_RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        raise FnetError(f"{path}: CIFAR-10 labels are 0 to 9, got {labels.max()}")
    return records[:, 1:].reshape(-1, *CIFAR_SHAPE), labels


def read_cifar10_pickle(path: str | Path, content: bytes | None = None) -> Split:
    """The same of a file of ``cifar-10-batches-py``: a pickled dictionary of ``data`` and ``labels``.

    It is read without running anything that the file names.

    Raises:
        FnetError: The file cannot be read, is no such dictionary, or holds anything but plain values and arrays.
    """
    content = read(path) if content is None else content
    found = unpickled(content, path)
    missing = [key for key in ("data", "labels") if key not in found]
    if missing:
        raise FnetError(f"{path}: the batch has no {' and no '.join(missing)}")
    images, labels = (_integers(found[key]) for key in ("data", "labels"))
    if (
        images.dtype != np.uint8
        or labels.dtype.kind not in "iu"
        or labels.ndim != 1
        or not len(labels)
        or images.shape not in ((len(labels), math.prod(CIFAR_SHAPE)), (len(labels), *CIFAR_SHAPE))
    ):
        raise FnetError(
            f"{path}: data should be bytes [S, {math.prod(CIFAR_SHAPE)}] and labels integers [S], got {images.dtype} "
            f"{list(images.shape)} and {labels.dtype} {list(labels.shape)}"
        )
    if labels.min() < 0 or labels.max() > 9:
        raise FnetError(f"{path}: CIFAR-10 labels are 0 to 9, got {labels.min()} to {labels.max()}")
    return images.reshape(-1, *CIFAR_SHAPE), labels.astype(np.int64)


def _integers(value: object) -> np.ndarray:
    """The array, or the list of integers as one; an empty one of what is neither."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, list) and all(type(each) is int and abs(each) < 2**31 for each in value):
        return np.array(value, np.int64)
    return np.empty(0, np.int64)


def unpacked(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """Files of a tar archive, plain or compressed, by the last part of their names; nothing is extracted to disk.

    Raises:
        FnetError: It cannot be read, or is larger than any of these sets.
    """
    found = {}
    total = 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                total += member.size
                if total > MAX_BYTES:
                    raise FnetError(
                        f"{path}: more than {MAX_BYTES} bytes; no archive of these sets is as large"
                    )
                name = Path(member.name).name
                if member.isreg() and name in names:
                    found[name] = archive.extractfile(member).read()  # type: ignore[union-attr]
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise FnetError(f"{path}: cannot be read: {error}") from error
    return found


def locate(folder: Path, name: str) -> Path | None:
    """A file, plain, ``.gz`` or ``.xz``, also with ``.idx`` for ``-idx`` in its name; None where there is none."""
    candidates = (
        folder / f"{spelling}{suffix}"
        for spelling in (name, name.replace("-idx", ".idx"))
        for suffix in _SUFFIXES
    )
    return next((path for path in candidates if path.is_file()), None)


def find(folder: Path, name: str) -> Path:
    """The same.

    Raises:
        FnetError: There is none.
    """
    path = locate(folder, name)
    if path is None:
        raise FnetError(f"{folder}: {name} is missing (plain, .gz or .xz)")
    return path


def read(path: str | Path) -> bytes:
    """The content of a file, unpacked.

    Raises:
        FnetError: It cannot be read, or is larger than any of these sets.
    """
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(Path(path).suffix, open)
    try:
        with opener(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise FnetError(f"{path}: cannot be read: {error}") from error
    if len(content) > MAX_BYTES:
        raise FnetError(f"{path}: more than {MAX_BYTES} bytes; no file of these sets is as large")
    return content
