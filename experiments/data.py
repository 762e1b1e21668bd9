"""Image sets for the experiments: digits from scikit-learn, the others from local files or from OpenML."""

from __future__ import annotations

import gzip
import lzma
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning import LightningDataModule
from sklearn.datasets import fetch_openml, load_digits
from torch.utils.data import DataLoader, TensorDataset

from fnet_callbacks.errors import FnetError

DatasetName = Literal["digits", "mnist", "fashion-mnist", "cifar10"]
Split = tuple[np.ndarray, np.ndarray]  # images uint8 [S, C, H, W], labels int64 [S]

VALIDATION_SHARE = 1 / 6  # 10,000 of MNIST's 60,000
SPLIT_SEED = 0  # not the user's seed: runs that are compared must be validated on the same images
MAX_BYTES = 2**29  # of a file, unpacked: ten times the largest, the training images of MNIST
CIFAR_RECORD = 1 + 3 * 32 * 32


@dataclass(frozen=True, slots=True)
class Source:
    """What a set looks like and where it is to be found."""

    input_shape: tuple[int, int, int]
    folder: str = ""
    openml: str = ""
    white: int = 255  # the value of a white pixel
    num_classes: int = 10


SOURCES = {
    "digits": Source((1, 8, 8), white=16),
    "mnist": Source((1, 28, 28), "mnist", "mnist_784"),
    "fashion-mnist": Source((1, 28, 28), "fashion-mnist", "Fashion-MNIST"),
    "cifar10": Source((3, 32, 32), "cifar-10-batches-bin", "CIFAR_10"),
}


class DataModule(LightningDataModule):
    """Inputs float32 in [0, 1], ``[S, C, H, W]``; labels int64, ``[S]``.

    A sixth of the training images, stratified by class and always the same, is kept for validation. The test
    images are the set's own; digits has none.

    Args:
        dataset: ``digits``, ``mnist``, ``fashion-mnist`` or ``cifar10``.
        data_dir: Folder with ``mnist/``, ``fashion-mnist/`` (IDX files) or ``cifar-10-batches-bin/`` (binary
            files, as many training batches as there are), each file plain, ``.gz`` or ``.xz``. Without it the
            environment variable ``FNET_DATA_DIR``. A set that is not there is fetched from OpenML.
        batch_size: Samples of a training batch.
        train_size: Use that many training images, stratified; a smaller choice is part of a larger one.
        validate_on_test: The validation loaders are those of the validation images and of the test images, which are
            logged as ``test_...`` after each epoch; to look at, not to choose by.
        seed: Of the order in which training images come; None for that of the run (``seed_everything``, else 0).

    Raises:
        FnetError: An argument is out of range, or a file is missing or damaged.
    """

    def __init__(
        self,
        dataset: DatasetName = "digits",
        data_dir: str | None = None,
        batch_size: int = 64,
        train_size: int | None = None,
        seed: int | None = None,
        validate_on_test: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="data_dir")
        if dataset not in SOURCES:
            raise FnetError(f"dataset must be one of {', '.join(SOURCES)}, got {dataset!r}")
        if batch_size < 1:
            raise FnetError(f"batch_size must be at least 1, got {batch_size}")
        self.dataset = dataset
        self.data_dir = data_dir or os.environ.get("FNET_DATA_DIR")
        self.batch_size = batch_size
        self.train_size = train_size
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.validate_on_test = validate_on_test
        self.num_classes = SOURCES[dataset].num_classes
        self.input_shape = SOURCES[dataset].input_shape
        self.train: TensorDataset | None = None
        self.validation: TensorDataset | None = None
        self.test: TensorDataset | None = None

    def setup(self, stage: str) -> None:
        """Load and split, once."""
        if self.train is not None:
            return
        (images, labels), test = load(self.dataset, self.data_dir)
        order = stratified_order(labels)
        validation_rows, train_rows = np.split(order, [round(VALIDATION_SHARE * len(order))])
        if self.train_size is not None and not 1 <= self.train_size <= len(train_rows):
            raise FnetError(f"train_size must be between 1 and {len(train_rows)}, got {self.train_size}")
        rows = train_rows[: self.train_size]
        white = SOURCES[self.dataset].white
        self.train = _tensors(images[rows], labels[rows], white)
        self.validation = _tensors(images[validation_rows], labels[validation_rows], white)
        self.test = None if test is None else _tensors(*test, white)

    def train_dataloader(self) -> DataLoader:
        """Shuffled by a generator of its own, so that no global stream decides the order."""
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """In a fixed order."""
        loader = self._loader(self.validation)
        return [loader, self.test_dataloader()] if self.validate_on_test else loader

    def test_dataloader(self) -> DataLoader:
        """In a fixed order; only for sets with test images."""
        if self.train is not None and self.test is None:
            raise FnetError(f"dataset {self.dataset!r} has no test images; use its validation images")
        return self._loader(self.test)

    def _loader(self, dataset: TensorDataset | None, *, shuffle: bool = False) -> DataLoader:
        if dataset is None:
            raise FnetError("call setup() before asking for a loader")
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(dataset, batch_size=self.batch_size, shuffle=shuffle, generator=generator)


def load(dataset: str, data_dir: str | None = None) -> tuple[Split, Split | None]:
    """Training images and, where the set has its own, test images.

    Raises:
        FnetError: ``data_dir`` is no folder, a file is missing or damaged, or OpenML does not answer.
    """
    source = SOURCES[dataset]
    if dataset == "digits":
        pixels, labels = (np.asarray(each) for each in load_digits(return_X_y=True))
        return (pixels.astype(np.uint8).reshape(-1, *source.input_shape), labels.astype(np.int64)), None
    if data_dir is not None and not Path(data_dir).is_dir():
        raise FnetError(f"data_dir {data_dir!r} is not a folder")
    folder = Path(data_dir or "") / source.folder
    if data_dir is None or not folder.is_dir():
        return _fetch(source)
    read = _cifar10_folder if dataset == "cifar10" else _idx_folder
    train, test = read(folder)
    for images, labels in (train, test):
        if images.shape[1:] != source.input_shape or len(images) != len(labels):
            raise FnetError(
                f"{folder}: {dataset} is images {source.input_shape} with a label each, "
                f"got {images.shape} and {labels.shape}"
            )
        if labels.size and labels.max() >= source.num_classes:
            raise FnetError(
                f"{folder}: labels of {dataset} are below {source.num_classes}, got {labels.max()}"
            )
    return train, test


def read_idx(path: str | Path) -> np.ndarray:
    """The array of an IDX file of unsigned bytes, plain, ``.gz`` or ``.xz``.

    Raises:
        FnetError: The file cannot be read, is not IDX, or is shorter or longer than its header says.
    """
    content = _read(path)
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


def read_cifar10(path: str | Path) -> Split:
    """Images ``[S, 3, 32, 32]`` and labels of a CIFAR-10 binary file, plain, ``.gz`` or ``.xz``.

    Raises:
        FnetError: The file cannot be read, is not made of whole records, or has a label above 9.
    """
    content = _read(path)
    if not content or len(content) % CIFAR_RECORD:
        raise FnetError(f"{path}: {len(content)} bytes are not whole CIFAR-10 records of {CIFAR_RECORD}")
    records = np.frombuffer(content, np.uint8).reshape(-1, CIFAR_RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        raise FnetError(f"{path}: CIFAR-10 labels are 0 to 9, got {labels.max()}")
    return records[:, 1:].reshape(-1, 3, 32, 32), labels


def _idx_folder(folder: Path) -> tuple[Split, Split]:
    def split(name: str) -> Split:
        images = read_idx(_find(folder, f"{name}-images-idx3-ubyte"))
        labels = read_idx(_find(folder, f"{name}-labels-idx1-ubyte"))
        if images.ndim != 3 or labels.ndim != 1:
            raise FnetError(f"{folder}: {name} needs images of 3 axes and labels of 1")
        return images[:, None], labels.astype(np.int64)

    return split("train"), split("t10k")


def _cifar10_folder(folder: Path) -> tuple[Split, Split]:
    files = [_locate(folder, f"data_batch_{number}.bin") for number in range(1, 6)]
    batches = [read_cifar10(file) for file in files if file is not None]
    if not batches:
        raise FnetError(
            f"{folder}: none of data_batch_1.bin to data_batch_5.bin is there (plain, .gz or .xz)"
        )
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return (images, labels), read_cifar10(_find(folder, "test_batch.bin"))


def _fetch(source: Source) -> tuple[Split, Split]:
    """From OpenML, where the last 10,000 images are taken to be the set's own test images."""
    try:
        # This parser needs no pandas.
        pixels, labels = fetch_openml(
            source.openml, version=1, return_X_y=True, as_frame=False, parser="liac-arff"
        )
    except OSError as error:
        raise FnetError(
            f"{source.openml} could not be fetched from OpenML ({error}); put the files into "
            f"{source.folder}/ and name the folder above it in data_dir or FNET_DATA_DIR"
        ) from error
    images = np.asarray(pixels).astype(np.uint8).reshape(-1, *source.input_shape)
    labels = np.asarray(labels).astype(np.int64)
    return (images[:-10_000], labels[:-10_000]), (images[-10_000:], labels[-10_000:])


def _locate(folder: Path, name: str) -> Path | None:
    candidates = (folder / f"{name}{suffix}" for suffix in ("", ".gz", ".xz"))
    return next((path for path in candidates if path.is_file()), None)


def _find(folder: Path, name: str) -> Path:
    path = _locate(folder, name)
    if path is None:
        raise FnetError(f"{folder}: {name} is missing (plain, .gz or .xz)")
    return path


def _read(path: str | Path) -> bytes:
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(Path(path).suffix, open)
    try:
        with opener(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise FnetError(f"{path}: cannot be read: {error}") from error
    if len(content) > MAX_BYTES:
        raise FnetError(f"{path}: more than {MAX_BYTES} bytes; no file of these sets is as large")
    return content


def stratified_order(labels: np.ndarray) -> np.ndarray:
    """An order of the samples in which every stretch has the classes in their overall proportions."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels[order] == label)
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return order[np.argsort(position, kind="stable")]


def _tensors(images: np.ndarray, labels: np.ndarray, white: int) -> TensorDataset:
    return TensorDataset(torch.from_numpy(images.astype(np.float32) / white), torch.from_numpy(labels))
