"""What torchvision puts into a data folder is read where it is, and of a pickle nothing is run."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_data import cifar_bytes, images, write_cifar, write_mnist

from experiments import data, image_files
from experiments.data import DataModule, read_cifar10_pickle, where
from fnet_callbacks.errors import FnetError

FOLDERS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}


@pytest.fixture(autouse=True)
def _nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FNET_DATA_DIR", raising=False)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(data, "fetch_openml", refuse)


def as_python_2(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """As the set's publisher pickled it: protocol 2, with strings that are bytes."""

    def word(text: str) -> bytes:
        return b"U" + bytes([len(text)]) + text.encode()

    rows = pixels.reshape(len(pixels), -1)
    return b"".join(
        [
            b"\x80\x02}q\x01(",
            word("batch_label") + b"q\x02" + word("training batch 1 of 5") + b"q\x03",
            word("labels") + b"q\x04]q\x05(" + b"".join(b"K" + bytes([k]) for k in labels.tolist()) + b"e",
            word("data") + b"q\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08",
            b"K\x00\x85" + word("b") + b"\x87Rq\x09(K\x01",
            b"M" + struct.pack("<H", len(rows)) + b"M" + struct.pack("<H", rows.shape[1]) + b"\x86",
            b"cnumpy\ndtype\n" + word("u1") + b"K\x00K\x01\x87R(K\x03" + word("|") + b"NNN",
            b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + struct.pack("<i", rows.size) + rows.tobytes() + b"tb",
            word("filenames") + b"](" + word("a.png") * len(rows) + b"eu.",
        ]
    )


def as_python_3(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    return pickle.dumps({"data": pixels.reshape(len(pixels), -1), "labels": labels.tolist()})


def write_pickles(folder: Path, write: Callable[..., bytes] = as_python_2, count: int = 30) -> None:
    folder.mkdir(parents=True)
    (folder / "batches.meta").write_bytes(b"read by nothing")
    for name in ("data_batch_1", "data_batch_4", "test_batch"):
        (folder / name).write_bytes(write(images(count, 3, 32, 32), np.arange(count) % 10))


def check_cifar(data_dir: Path) -> None:
    module = DataModule("cifar10", data_dir=str(data_dir))
    module.setup("fit")
    assert module.train is not None
    assert module.test is not None
    assert [len(part) for part in (module.train, module.validation, module.test)] == [50, 10, 30]  # type: ignore[arg-type]
    inputs, labels = module.test.tensors
    np.testing.assert_array_equal((inputs * 255).round().byte().numpy(), images(30, 3, 32, 32))
    np.testing.assert_array_equal(labels, np.arange(30) % 10)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("below", ["raw", ""])
@pytest.mark.parametrize("dataset", FOLDERS)
def test_idx_files_are_found_where_torchvision_puts_them(
    tmp_path: Path, dataset: Any, below: str, suffix: str
) -> None:
    (tmp_path / FOLDERS[dataset]).mkdir()
    write_mnist(tmp_path / FOLDERS[dataset] / "new", suffix=suffix)
    for file in (tmp_path / FOLDERS[dataset] / "new").iterdir():
        place = tmp_path / FOLDERS[dataset] / below
        place.mkdir(exist_ok=True)
        file.rename(place / file.name)
    module = DataModule(dataset, data_dir=str(tmp_path))
    module.setup("fit")
    assert [len(part) for part in (module.train, module.validation, module.test)] == [50, 10, 10]  # type: ignore[arg-type]
    expected = torch.from_numpy(images(10, 28, 28)[:, None] / np.float32(255))
    torch.testing.assert_close(torch.cat([x for x, _ in module.test_dataloader()]), expected)


def test_a_file_beside_its_archive_and_a_dot_for_the_dash(tmp_path: Path) -> None:
    folder = tmp_path / "MNIST" / "raw"
    (tmp_path / "MNIST").mkdir()
    write_mnist(folder)
    for file in list(folder.iterdir()):
        (folder / f"{file.name}.gz").write_bytes(gzip.compress(b"not looked at"))
        file.rename(folder / file.name.replace("-idx", ".idx")) if "labels" in file.name else None
    for file in folder.glob("*labels*.gz"):
        file.unlink()
    DataModule("mnist", data_dir=str(tmp_path)).setup("fit")


def test_an_empty_folder_hides_no_files(tmp_path: Path) -> None:
    (tmp_path / "fashion-mnist").mkdir()
    (tmp_path / "FashionMNIST").mkdir()
    write_mnist(tmp_path / "FashionMNIST" / "raw")
    assert where("fashion-mnist", str(tmp_path)) == tmp_path / "FashionMNIST" / "raw"
    assert where("mnist", str(tmp_path)) is None
    with pytest.raises(FnetError, match=r"mnist/ \(or have MNIST/raw or MNIST\)"):
        DataModule("mnist", data_dir=str(tmp_path)).setup("fit")


@pytest.mark.parametrize("write", [as_python_2, as_python_3])
def test_pickled_batches_are_read(tmp_path: Path, write: Callable[..., bytes]) -> None:
    write_pickles(tmp_path / "cifar-10-batches-py", write)
    check_cifar(tmp_path)


@pytest.mark.parametrize("kind", ["python", "binary"])
def test_the_archive_alone_is_enough(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    if kind == "python":
        write_pickles(source)
    else:
        write_cifar(source, batches=(1, 4))
    with tarfile.open(tmp_path / f"cifar-10-{kind}.tar.gz", "w:gz") as archive:
        archive.add(source, f"cifar-10-batches-{kind[:3]}")
    check_cifar(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [f"cifar-10-{kind}.tar.gz", "source"]


def test_a_damaged_archive_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    write_pickles(tmp_path / "source")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tmp_path / "source", "x")
    whole = path.read_bytes()
    for content, message in ((b"nothing", "cannot be read"), (whole[: len(whole) // 2], "cannot be read")):
        path.write_bytes(content)
        with pytest.raises(FnetError, match=message):
            DataModule("cifar10", data_dir=str(tmp_path)).setup("fit")
    path.write_bytes(whole)
    monkeypatch.setattr(image_files, "MAX_BYTES", 1000)
    with pytest.raises(FnetError, match="more than 1000 bytes"):
        DataModule("cifar10", data_dir=str(tmp_path)).setup("fit")


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    write_pickles(tmp_path / "cifar-10-batches-py")
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(FnetError, match="torchvision's test_batch"):
        DataModule("cifar10", data_dir=str(tmp_path)).setup("fit")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ["list", "array", "NumPy's numbers", "in Fortran's order"])
def test_a_batch_that_numpy_pickled_is_read(tmp_path: Path, protocol: int, kind: str) -> None:
    pixels, labels = images(7, 3, 32, 32), np.array([0, 9, 3, 3, 1, 0, 2])
    rows = pixels.reshape(7, -1)
    batch = {
        b"data": np.asfortranarray(rows) if kind == "in Fortran's order" else rows,
        b"labels": {"array": labels, "NumPy's numbers": list(labels)}.get(kind, labels.tolist()),
    }
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(batch, protocol=protocol))
    found = read_cifar10_pickle(path)
    np.testing.assert_array_equal(found[0], pixels)
    np.testing.assert_array_equal(found[1], labels)


class Runs:
    """Writes a file as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


GOOD = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}


def test_nothing_that_a_pickle_names_is_run(tmp_path: Path) -> None:
    path = tmp_path / "data_batch_1"
    for content in (
        pickle.dumps({**GOOD, "more": Runs(tmp_path / "made")}),
        pickle.dumps({**GOOD, "more": np.array([Runs(tmp_path / "made")], object)}),
        b"\x80\x02cbuiltins\neval\nU\x03\x31+1\x85R.",
        b"\x80\x02cnumpy\nload\nU\x01x\x85R.",
    ):
        path.write_bytes(content)
        with pytest.raises(FnetError, match=r"data_batch_1: not a pickle of plain values and arrays: it "):
            read_cifar10_pickle(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"no pickle",
        pickle.dumps(GOOD)[:-30],
        as_python_2(images(2, 3, 32, 32), np.array([1, 2]))[:500],
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a place far beyond what there is
        b"\x80\x02cnumpy\nndarray\n}b.",
        b"\x80\x02cnumpy\ndtype\nK\x01\x85R(K\x03U\x01|tb.",
        pickle.dumps({**GOOD, "data": np.array([None, 1], object)}),
        pickle.dumps({**GOOD, "data": np.zeros((2, 3072), np.float32)}),
        pickle.dumps(memoryview) + b".",
        b"\x80\x02]q\x00(h\x00h\x00e.",
    ],
)
def test_a_damaged_pickle_is_an_fnet_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(FnetError, match="data_batch_1"):
        read_cifar10_pickle(path)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1, 2], "should be of a dictionary, got list"),
        ({"data": GOOD["data"]}, "no labels"),
        ({"data": GOOD["data"], "fine_labels": [1, 2]}, "no labels"),
        ({**GOOD, "labels": [0]}, r"uint8 \[2, 3072\] and labels|\[2, 3072\] and int64 \[1\]"),
        ({**GOOD, "labels": [0, "1"]}, r"int64 \[0\]"),
        ({**GOOD, "labels": [0, 10]}, "0 to 9, got 0 to 10"),
        ({**GOOD, "labels": [-1, 2]}, "0 to 9, got -1 to 2"),
        ({**GOOD, "labels": [2**80, 2]}, r"int64 \[0\]"),
        ({**GOOD, "data": np.zeros((2, 3071), np.uint8)}, r"\[2, 3071\]"),
        ({**GOOD, "data": np.zeros((2, 3072), np.int16)}, "int16"),
        ({**GOOD, "data": b"bytes"}, r"int64 \[0\]"),
        ({"data": np.zeros((0, 3072), np.uint8), "labels": []}, r"\[0, 3072\]"),
    ],
)
def test_a_batch_of_something_else_is_refused(tmp_path: Path, batch: Any, message: str) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(batch))
    with pytest.raises(FnetError, match=message):
        read_cifar10_pickle(path)


def test_what_a_pickle_and_a_binary_file_hold_is_the_same(tmp_path: Path) -> None:
    pixels, labels = images(5, 3, 32, 32), np.array([4, 0, 9, 1, 1])
    found = read_cifar10_pickle("", as_python_2(pixels, labels))
    for a, b in zip(found, data.read_cifar10("", cifar_bytes(pixels, labels)), strict=True):
        np.testing.assert_array_equal(a, b)
