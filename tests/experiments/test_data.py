"""Experiment data: the file readers, what a batch looks like, and how the sets are split."""

from __future__ import annotations

import gzip
import lzma
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from experiments import data
from experiments.data import DataModule, read_cifar10, read_idx, stratified_order
from fnet_callbacks.errors import FnetError

PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
SUFFIXES = pytest.mark.parametrize("suffix", PACK)


@pytest.fixture(autouse=True)
def _no_data_dir_from_outside(monkeypatch):
    monkeypatch.delenv("FNET_DATA_DIR", raising=False)

    def refuse(*args, **kwargs):
        raise AssertionError("nothing may be fetched here")

    monkeypatch.setattr(data, "fetch_openml", refuse)


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def images(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def cifar_bytes(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    return np.concatenate(
        [labels[:, None].astype(np.uint8), pixels.reshape(len(pixels), -1)], axis=1
    ).tobytes()


def write_mnist(folder, *, suffix="", train=60, test=10):
    folder.mkdir()
    for name, count in (("train", train), ("t10k", test)):
        pixels, labels = images(count, 28, 28), np.arange(count) % 10
        (folder / f"{name}-images-idx3-ubyte{suffix}").write_bytes(PACK[suffix](idx_bytes(pixels)))
        (folder / f"{name}-labels-idx1-ubyte{suffix}").write_bytes(PACK[suffix](idx_bytes(labels)))


def write_cifar(folder, *, suffix="", batches=(1, 2), count=30):
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in batches), "test_batch"):
        content = cifar_bytes(images(count, 3, 32, 32), np.arange(count) % 10)
        (folder / f"{name}.bin{suffix}").write_bytes(PACK[suffix](content))


@SUFFIXES
@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4)])
def test_idx_reads_back_what_was_written(tmp_path, suffix, shape):
    array = images(*shape)
    path = tmp_path / f"some-idx{suffix}"
    path.write_bytes(PACK[suffix](idx_bytes(array)))
    np.testing.assert_array_equal(read_idx(path), array)


@SUFFIXES
def test_cifar10_reads_back_channels_in_planes(tmp_path, suffix):
    pixels, labels = images(4, 3, 32, 32), np.array([0, 9, 3, 3])
    path = tmp_path / f"batch.bin{suffix}"
    path.write_bytes(PACK[suffix](cifar_bytes(pixels, labels)))
    read_pixels, read_labels = read_cifar10(path)
    np.testing.assert_array_equal(read_pixels, pixels)
    np.testing.assert_array_equal(read_labels, labels)


GOOD_IDX = idx_bytes(np.arange(12).reshape(3, 4))
GOOD_CIFAR = cifar_bytes(images(2, 3, 32, 32), np.array([1, 2]))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not an IDX"),
        (b"\x00\x00\x08", "not an IDX"),
        (b"\x00\x01" + GOOD_IDX[2:], "not an IDX"),
        (b"\x00\x00\x0d" + GOOD_IDX[3:], "unsigned bytes"),
        (b"\x00\x00\x08\x00", "1 to 3 axes"),
        (GOOD_IDX[:9], "header ends early"),
        (GOOD_IDX[:-1], "the file holds 11"),
        (GOOD_IDX + b"\x00", "the file holds 13"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12, "the file holds 0"),
    ],
)
def test_malformed_idx_is_refused(tmp_path, content, message):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(FnetError, match=message):
        read_idx(path)


@pytest.mark.parametrize(
    "content, message",
    [(b"", "whole"), (GOOD_CIFAR[:-1], "whole"), (b"\x0a" + GOOD_CIFAR[1:], "0 to 9, got 10")],
)
def test_malformed_cifar10_is_refused(tmp_path, content, message):
    path = tmp_path / "file.bin"
    path.write_bytes(content)
    with pytest.raises(FnetError, match=message):
        read_cifar10(path)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:12] + b"??" + b[14:], lambda b: b"x" + b]
)
@pytest.mark.parametrize("reader", [read_idx, read_cifar10])
def test_damaged_archives_are_refused(tmp_path, suffix, damage, reader):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(damage(PACK[suffix](GOOD_CIFAR if reader is read_cifar10 else GOOD_IDX)))
    with pytest.raises(FnetError, match="file"):
        reader(path)


def test_a_missing_file_is_an_fnet_error(tmp_path):
    with pytest.raises(FnetError, match="cannot be read"):
        read_idx(tmp_path / "nothing")


def test_digits_are_float_images_in_the_unit_interval():
    module = DataModule()
    module.setup("fit")
    inputs, labels = next(iter(module.train_dataloader()))
    assert inputs.shape == (64, *module.input_shape)
    assert inputs.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert float(inputs.min()) == 0
    assert float(inputs.max()) == 1
    assert (module.input_shape, module.num_classes) == ((1, 8, 8), 10)


def test_digits_are_split_without_overlap_or_loss():
    module = DataModule()
    module.setup("fit")
    parts = [part.tensors[0].reshape(-1, 64) for part in (module.train, module.validation)]
    rows = sorted(map(tuple, (torch.cat(parts) * 16).int().tolist()))
    assert rows == sorted(map(tuple, load_digits().data.astype(int).tolist()))
    assert len(parts[1]) == 300


def test_the_split_is_stratified_and_the_same_for_every_seed_and_size():
    modules = [DataModule(seed=0), DataModule(seed=1), DataModule(seed=1, train_size=200)]
    for module in modules:
        module.setup("fit")
    validation = [module.validation.tensors[0] for module in modules]
    assert torch.equal(validation[0], validation[1])
    assert torch.equal(validation[0], validation[2])
    counts = modules[0].validation.tensors[1].bincount()
    assert 28 <= int(counts.min()) <= int(counts.max()) <= 32
    small, whole = modules[2].train.tensors, modules[1].train.tensors
    assert torch.equal(small[0], whole[0][:200])
    assert 18 <= int(small[1].bincount().min()) <= int(small[1].bincount().max()) <= 22


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.data())
def test_every_stretch_of_the_stratified_order_is_in_proportion(labels, draw):
    labels = np.array(labels)
    order = stratified_order(labels)
    assert sorted(order) == list(range(len(labels)))
    start = draw.draw(st.integers(0, len(labels)))
    stop = draw.draw(st.integers(start, len(labels)))
    classes = len(np.unique(labels))
    for label in np.unique(labels):
        share = (labels == label).mean()
        assert abs((labels[order[start:stop]] == label).sum() - share * (stop - start)) <= classes


def test_the_seed_decides_the_order_and_no_global_stream_is_read():
    def order(seed):
        module = DataModule(seed=seed)
        module.setup("fit")
        return torch.cat([labels for _, labels in module.train_dataloader()])

    state = torch.get_rng_state()
    first = order(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert torch.equal(order(0), first)
    assert not torch.equal(order(1), first)


def test_validation_comes_in_a_fixed_order():
    module = DataModule(seed=3)
    module.setup("validate")
    seen = torch.cat([labels for _, labels in module.val_dataloader()])
    assert torch.equal(seen, module.validation.tensors[1])


@SUFFIXES
@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist"])
def test_idx_sets_are_read_from_their_folder(tmp_path, suffix, dataset):
    write_mnist(tmp_path / dataset, suffix=suffix)
    module = DataModule(dataset, data_dir=str(tmp_path))
    module.setup("fit")
    assert [len(part) for part in (module.train, module.validation, module.test)] == [50, 10, 10]
    expected = torch.from_numpy(images(10, 28, 28)[:, None] / np.float32(255))
    torch.testing.assert_close(torch.cat([x for x, _ in module.test_dataloader()]), expected)


@SUFFIXES
def test_cifar10_uses_the_training_batches_that_are_there(tmp_path, suffix):
    write_cifar(tmp_path / "cifar-10-batches-bin", suffix=suffix, batches=(2, 5))
    module = DataModule("cifar10", data_dir=str(tmp_path))
    module.setup("fit")
    assert [len(part) for part in (module.train, module.validation, module.test)] == [50, 10, 30]
    assert module.train.tensors[0].shape[1:] == (3, 32, 32)


def test_the_folder_can_come_from_the_environment(tmp_path, monkeypatch):
    write_mnist(tmp_path / "mnist")
    monkeypatch.setenv("FNET_DATA_DIR", str(tmp_path))
    module = DataModule("mnist")
    module.setup("fit")
    assert len(module.train) == 50


@pytest.mark.parametrize("missing", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_a_missing_idx_file_is_named(tmp_path, missing):
    write_mnist(tmp_path / "mnist")
    (tmp_path / "mnist" / missing).unlink()
    with pytest.raises(FnetError, match=missing):
        DataModule("mnist", data_dir=str(tmp_path)).setup("fit")


def test_cifar10_without_any_training_batch_is_refused(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-bin", batches=())
    with pytest.raises(FnetError, match="none of data_batch_1"):
        DataModule("cifar10", data_dir=str(tmp_path)).setup("fit")


@pytest.mark.parametrize(
    "name, array, message",
    [
        ("train-images-idx3-ubyte", np.zeros((60, 20, 20)), "images"),
        ("train-labels-idx1-ubyte", np.zeros(59), "a label each"),
        ("t10k-labels-idx1-ubyte", np.full(10, 10), "below 10, got 10"),
        ("train-images-idx3-ubyte", np.zeros(60), "3 axes"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path, name, array, message):
    write_mnist(tmp_path / "mnist")
    (tmp_path / "mnist" / name).write_bytes(idx_bytes(array))
    with pytest.raises(FnetError, match=message):
        DataModule("mnist", data_dir=str(tmp_path)).setup("fit")


def test_a_set_without_files_is_fetched_by_name(tmp_path, monkeypatch):
    pixels, labels = images(10_060, 28 * 28), np.arange(10_060) % 10
    asked = []

    def fetch(name, **options):
        asked.append(name)
        return pixels.astype(float), labels.astype(str).astype(object)

    monkeypatch.setattr(data, "fetch_openml", fetch)
    module = DataModule("fashion-mnist", data_dir=str(tmp_path))
    module.setup("fit")
    assert asked == ["Fashion-MNIST"]
    assert [len(part) for part in (module.train, module.validation, module.test)] == [50, 10, 10_000]
    inputs, targets = module.test.tensors
    np.testing.assert_array_equal((inputs * 255).round().numpy().reshape(-1, 784), pixels[60:])
    np.testing.assert_array_equal(targets, labels[60:])


def test_a_failed_fetch_says_where_the_files_could_be_put(monkeypatch):
    def fetch(name, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(data, "fetch_openml", fetch)
    with pytest.raises(FnetError, match=r"cifar-10-batches-bin/ .*FNET_DATA_DIR"):
        DataModule("cifar10").setup("fit")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"dataset": "svhn"}, "digits, mnist"),
        ({"batch_size": 0}, "batch_size"),
        ({"train_size": 0}, "train_size .* 1497"),
        ({"train_size": 1498}, "train_size"),
        ({"dataset": "mnist", "data_dir": "/no/such/folder"}, "data_dir"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(FnetError, match=message):
        DataModule(**arguments).setup("fit")


def test_loaders_say_what_is_missing():
    module = DataModule()
    with pytest.raises(FnetError, match="setup"):
        module.train_dataloader()
    module.setup("fit")
    with pytest.raises(FnetError, match="no test images"):
        module.test_dataloader()
