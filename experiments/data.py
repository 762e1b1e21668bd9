"""Image sets for the experiments: digits from scikit-learn, the others from local files or from OpenML."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning import LightningDataModule
from sklearn.datasets import fetch_openml, load_digits
from torch.utils.data import DataLoader, TensorDataset

from experiments.image_files import (
    Split,
    find,
    locate,
    read_cifar10,
    read_cifar10_pickle,
    read_idx,
    unpacked,
)
from fnet_callbacks.errors import FnetError

DatasetName = Literal["digits", "mnist", "fashion-mnist", "cifar10"]

VALIDATION_SHARE = 1 / 6  # 10,000 of MNIST's 60,000
SPLIT_SEED = 0  # not the user's seed: runs that are compared must be validated on the same images
IDX_FILES = [f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
TRAINING_BATCHES = [f"data_batch_{number}" for number in range(1, 6)]
CIFAR_FORMATS = {".bin": read_cifar10, "": read_cifar10_pickle}  # by the end of a file's name
CIFAR_FILES = [f"{name}{end}" for name in (*TRAINING_BATCHES, "test_batch") for end in CIFAR_FORMATS]


@dataclass(frozen=True, slots=True)
class Source:
    """What a set looks like and where it is to be found: in one of some places below the data folder, or at OpenML."""

    input_shape: tuple[int, int, int]
    places: tuple[str, ...] = ()
    openml: str = ""
    white: int = 255  # the value of a white pixel
    num_classes: int = 10


SOURCES = {
    "digits": Source((1, 8, 8), white=16),
    # Others than the first of each are torchvision's, and what its publisher's archives are called.
    "mnist": Source((1, 28, 28), ("mnist", "MNIST/raw", "MNIST"), "mnist_784"),
    "fashion-mnist": Source(
        (1, 28, 28), ("fashion-mnist", "FashionMNIST/raw", "FashionMNIST"), "Fashion-MNIST"
    ),
    "cifar10": Source(
        (3, 32, 32),
        ("cifar-10-batches-bin", "cifar-10-batches-py", "cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"),
        "CIFAR_10",
    ),
}


class DataModule(LightningDataModule):
    """Inputs float32 in [0, 1], ``[S, C, H, W]``; labels int64, ``[S]``.

    A sixth of the training images, stratified by class and always the same, is kept for validation. The test
    images are the set's own; digits has none.

    Args:
        dataset: ``digits``, ``mnist``, ``fashion-mnist`` or ``cifar10``.
        data_dir: Folder with ``mnist/``, ``fashion-mnist/`` (IDX files) or ``cifar-10-batches-bin/`` (binary
            files, as many training batches as there are), each file plain, ``.gz`` or ``.xz``; or with what
            torchvision puts there: ``MNIST/raw/``, ``FashionMNIST/raw/``, ``cifar-10-batches-py/`` or
            ``cifar-10-python.tar.gz``. Without it the environment variable ``FNET_DATA_DIR``. A set that is not there
            is fetched from OpenML.
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
    place = where(dataset, data_dir)
    if place is None:
        return _fetch(source)
    train, test = _cifar10(place) if dataset == "cifar10" else _idx(place)
    for images, labels in (train, test):
        if images.shape[1:] != source.input_shape or len(images) != len(labels):
            raise FnetError(
                f"{place}: {dataset} is images {source.input_shape} with a label each, "
                f"got {images.shape} and {labels.shape}"
            )
        if labels.size and labels.max() >= source.num_classes:
            raise FnetError(
                f"{place}: labels of {dataset} are below {source.num_classes}, got {labels.max()}"
            )
    return train, test


def where(dataset: str, data_dir: str | None) -> Path | None:
    """The folder or archive with the set's files; None where there is none.

    Of several the first that has any of the files, else the first that is there.
    """
    if data_dir is None:
        return None
    there = [path for path in (Path(data_dir) / place for place in SOURCES[dataset].places) if path.exists()]
    return next((path for path in there if _has_files(path)), there[0] if there else None)


def _has_files(place: Path) -> bool:
    return place.is_file() or any(locate(place, name) is not None for name in (*IDX_FILES, *CIFAR_FILES))


def _idx(folder: Path) -> tuple[Split, Split]:
    def split(name: str) -> Split:
        images = read_idx(find(folder, f"{name}-images-idx3-ubyte"))
        labels = read_idx(find(folder, f"{name}-labels-idx1-ubyte"))
        if images.ndim != 3 or labels.ndim != 1:
            raise FnetError(f"{folder}: {name} needs images of 3 axes and labels of 1")
        return images[:, None], labels.astype(np.int64)

    return split("train"), split("t10k")


def _cifar10(place: Path) -> tuple[Split, Split]:
    archive = unpacked(place, CIFAR_FILES) if place.is_file() else None

    def batch(name: str) -> Split | None:
        for end, parse in CIFAR_FORMATS.items():
            path = place / f"{name}{end}" if archive is not None else locate(place, f"{name}{end}")
            if path is not None and (archive is None or path.name in archive):
                return parse(path, None if archive is None else archive[path.name])
        return None

    training = [found for name in TRAINING_BATCHES if (found := batch(name)) is not None]
    if not training:
        raise FnetError(
            f"{place}: none of data_batch_1.bin to data_batch_5.bin is there (plain, .gz or .xz), nor of torchvision's "
            "data_batch_1 to data_batch_5"
        )
    test = batch("test_batch")
    if test is None:
        raise FnetError(
            f"{place}: test_batch.bin is missing (plain, .gz or .xz), and so is torchvision's test_batch"
        )
    images, labels = (np.concatenate(parts) for parts in zip(*training, strict=True))
    return (images, labels), test


def _fetch(source: Source) -> tuple[Split, Split]:
    """From OpenML, where the last 10,000 images are taken to be the set's own test images."""
    try:
        # This parser needs no pandas.
        pixels, labels = fetch_openml(
            source.openml, version=1, return_X_y=True, as_frame=False, parser="liac-arff"
        )
    except OSError as error:
        raise FnetError(
            f"{source.openml} could not be fetched from OpenML ({error}); put the files into {source.places[0]}/ (or "
            f"have {' or '.join(source.places[1:])}) and name the folder above it in data_dir or FNET_DATA_DIR"
        ) from error
    images = np.asarray(pixels).astype(np.uint8).reshape(-1, *source.input_shape)
    labels = np.asarray(labels).astype(np.int64)
    return (images[:-10_000], labels[:-10_000]), (images[-10_000:], labels[-10_000:])


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
