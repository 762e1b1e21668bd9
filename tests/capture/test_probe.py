"""The probe: which inputs, in which batches, on which rank."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from fnet_callbacks.capture import probe as probe_module
from fnet_callbacks.capture.indices import dataset_labels, draw_indices
from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.probe import Probe, draw, keep_batches
from fnet_callbacks.capture.reader import BatchReader
from fnet_callbacks.errors import CaptureError

READER = BatchReader()
LABELS = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
INPUTS = torch.arange(100.0)[:, None]


def draw_probe(
    source: Any, *, size: int, seed: int, reader: BatchReader, rank: int = 0, world_size: int = 1
) -> Probe:
    """What is drawn, as the probe of one of the ranks."""
    return draw(source, size=size, seed=seed, reader=reader).share(reader, rank=rank, world_size=world_size)


def labelled() -> TensorDataset:
    return TensorDataset(INPUTS, LABELS)


def inputs_of(probe) -> list[float]:
    return torch.cat([batch[0] for batch in probe.batches])[:, 0].tolist()


class Items(Dataset):
    """Labels only in its items, or in an attribute."""

    def __init__(self, items, **attributes):
        self.items = items
        vars(self).update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


@pytest.mark.parametrize("size", [10, 20, 50])
def test_each_class_has_its_share(size):
    drawn = LABELS[draw_indices(labelled(), size=size, seed=0)]
    assert torch.bincount(drawn).tolist() == [0.6 * size, 0.3 * size, 0.1 * size]


def test_the_draw_is_in_random_order_and_without_repeats():
    drawn = draw_indices(labelled(), size=50, seed=0)
    assert len(set(drawn)) == 50
    assert drawn != sorted(drawn)
    assert len(set(LABELS[drawn[:10]].tolist())) > 1


def test_the_draw_depends_on_the_seed_alone():
    torch.manual_seed(1), np.random.seed(1), random.seed(1)  # noqa: NPY002
    first = draw_indices(labelled(), size=20, seed=0)
    torch.manual_seed(2), np.random.seed(2), random.seed(2)  # noqa: NPY002
    assert draw_indices(labelled(), size=20, seed=0) == first
    assert draw_indices(labelled(), size=20, seed=1) != first


def test_a_small_data_set_is_taken_whole():
    assert sorted(draw_indices(labelled(), size=1024, seed=0)) == list(range(100))


@pytest.mark.parametrize(
    "dataset",
    [
        labelled(),
        Items(INPUTS, targets=LABELS.tolist()),
        Items(INPUTS, labels=LABELS.numpy()),
        Items(INPUTS, y=LABELS),
        ConcatDataset([Subset(labelled(), range(50)), Subset(labelled(), range(50, 100))]),
    ],
)
def test_labels_are_found_in_the_data_set(dataset):
    assert dataset_labels(dataset).tolist() == LABELS.tolist()


def test_the_labels_of_a_subset_are_those_of_its_items():
    assert dataset_labels(Subset(Subset(labelled(), [99, 70, 0]), [2, 0])).tolist() == [0, 2]


@pytest.mark.parametrize(
    "dataset",
    [
        TensorDataset(INPUTS),
        TensorDataset(INPUTS, INPUTS[:, 0]),
        Items([1, 2], targets=[[1], [1, 2]]),
        Items([1, 2], targets=["cat", "dog"]),
        Items([1, 2], labels=lambda: [0, 1]),
        ConcatDataset([labelled(), TensorDataset(INPUTS)]),
    ],
)
def test_what_is_no_integer_an_item_is_no_label(dataset):
    assert dataset_labels(dataset) is None
    assert sorted(draw_indices(dataset, size=len(dataset), seed=0)) == list(range(len(dataset)))


@pytest.mark.parametrize(
    "items",
    [
        list(zip(INPUTS, LABELS.tolist(), strict=True)),
        list(zip(INPUTS, LABELS, strict=True)),
        [{"x": x, "label": y} for x, y in zip(INPUTS, LABELS, strict=True)],
    ],
)
def test_a_small_data_set_is_read_for_its_labels(items):
    drawn = LABELS[draw_indices(Items(items), size=50, seed=0)]
    assert torch.bincount(drawn).tolist() == [30, 15, 5]


def test_a_large_data_set_is_not_read_for_its_labels():
    class Unread(Items):
        def __getitem__(self, index):
            raise AssertionError("read")

    assert len(draw_indices(Unread(INPUTS), size=10, seed=0)) == 10


def test_a_loader_gives_its_collation_and_batch_size_but_not_its_sampler():
    def collate(items):
        return {"x": torch.stack([x for x, _ in items]), "y": torch.stack([y for _, y in items])}

    loader = DataLoader(labelled(), batch_size=8, shuffle=True, collate_fn=collate)
    probe = draw_probe(loader, size=20, seed=0, reader=READER)
    assert [len(b["x"]) for b in probe.batches] == [8, 8, 4]
    assert (probe.n_samples, probe.num_classes) == (20, 3)
    assert list(probe.indices) == draw_indices(labelled(), size=20, seed=0)
    assert torch.cat([b["x"] for b in probe.batches])[:, 0].tolist() == list(probe.indices)


def test_a_bare_data_set_is_drawn_like_its_loader():
    bare = draw_probe(labelled(), size=20, seed=0, reader=READER)
    loaded = draw_probe(DataLoader(labelled(), batch_size=7), size=20, seed=0, reader=READER)
    assert inputs_of(bare) == inputs_of(loaded)


def test_the_shares_of_the_ranks_are_disjoint_and_complete(monkeypatch):
    """Whose batches are the same whatever the number of ranks."""
    monkeypatch.setattr(probe_module, "_LONGEST", 8)
    whole = draw_probe(DataLoader(labelled(), batch_size=8), size=50, seed=0, reader=READER)
    shares = [
        draw_probe(DataLoader(labelled(), batch_size=8), size=50, seed=0, reader=READER, rank=r, world_size=3)
        for r in range(3)
    ]
    assert sorted(p for share in shares for p in share.positions) == list(range(7))
    assert sorted(x for share in shares for x in inputs_of(share)) == sorted(inputs_of(whole))
    for share in shares:
        assert (share.n_samples, share.num_classes, share.indices) == (50, 3, whole.indices)
        assert torch.equal(share.first[0], whole.first[0])
        for batch, position in zip(share.batches, share.positions, strict=True):
            assert torch.equal(batch[0], whole.batches[position][0])


@pytest.mark.parametrize(
    ("batch_size", "item", "lengths"),
    [
        (8, torch.zeros(1), [32] * 15 + [20]),  # four times
        (100, torch.zeros(1), [256, 244]),  # the longest
        (20, torch.zeros(2**12), [64] * 7 + [52]),  # a megabyte
        (8, torch.zeros(2**18), [8] * 62 + [4]),  # the loader's own
        (100, torch.zeros(2**12), [64] * 7 + [52]),  # a megabyte, where the loader's take more
        (100, torch.zeros(2**18), [32] * 15 + [20]),  # the shortest
        (8, torch.zeros(1, dtype=torch.long), [8] * 62 + [4]),  # tokens, which a model makes large
    ],
)
def test_batches_take_some_megabyte(batch_size, item, lengths):
    source = DataLoader(TensorDataset(item[:1].expand(500, len(item))), batch_size=batch_size)
    probe = draw_probe(source, size=500, seed=0, reader=READER)
    assert [len(batch[0]) for batch in probe.batches] == lengths


class Passing(IterableDataset):
    def __iter__(self):
        raise AssertionError("iterated")


@pytest.mark.parametrize(
    "source", [Passing(), DataLoader(Passing()), TensorDataset(torch.empty(0, 1)), iter([1])]
)
def test_what_has_no_items_by_index_is_refused(source):
    with pytest.raises(
        CaptureError, match=r"`probe`: .* should be a data set with a length and samples by index"
    ):
        draw_probe(source, size=4, seed=0, reader=READER)


class Augmented(Items):
    def __getitem__(self, index):
        return self.items[index] + torch.rand(1) + random.random() + np.random.random()  # noqa: NPY002


def test_a_random_augmentation_leaves_the_global_streams_alone_in_isolation_and_repeats():
    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002

    before = states()
    drawn = []
    for _ in range(2):
        with isolated(torch.nn.Identity(), seed=0):
            drawn.append(draw_probe(Augmented(INPUTS), size=10, seed=0, reader=READER).batches[0])
    assert states() == before
    assert torch.equal(*drawn)


def test_batches_that_passed_are_kept_as_copies():
    x = torch.rand(4, 2)
    kept = x.clone()
    probe = keep_batches([(x, torch.tensor([0, 4, 1, 1])), (x, torch.tensor([1, 1, 0, 0]))], reader=READER)
    x.zero_()
    assert torch.equal(probe.batches[1][0], kept)
    assert (probe.n_samples, probe.num_classes, probe.positions, probe.indices) == (8, 5, (0, 1), None)


def test_the_places_of_passing_batches_differ_between_ranks():
    x = torch.rand(4, 2)
    places = [keep_batches([x, x], reader=READER, rank=r, world_size=2).positions for r in range(2)]
    assert places == [(0, 2), (1, 3)]


@pytest.mark.parametrize("labels", [[-1, 0], [0, 10_000], [0.5, 1.0]])
def test_numbers_that_are_no_classes_are_no_labels(labels):
    probe = keep_batches([(torch.rand(2, 1), torch.tensor(labels))], reader=READER)
    assert (probe.num_classes, probe.n_samples) == (None, 2)


def test_a_batch_without_labels_among_others_leaves_the_probe_without():
    x = torch.rand(2, 1)
    assert keep_batches([(x, torch.tensor([0, 1])), (x,)], reader=READER).num_classes is None


def test_the_users_functions_find_inputs_and_labels():
    reader = BatchReader(to_inputs=lambda b: (b["a"], b["b"]), to_labels=lambda b: b["c"])
    batch = {"a": torch.rand(2, 1), "b": torch.rand(2, 1), "c": torch.tensor([0, 1])}
    inputs, labels = reader.read(batch)
    assert inputs == (batch["a"], batch["b"])
    assert labels.tolist() == [0, 1]
    assert reader.size(batch) == 2


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (READER, "no input tensor found in a batch of type dict; pass `batch_to_inputs`"),
        (
            BatchReader(to_inputs=lambda batch: "text"),
            "`batch_to_inputs` gives str, in which there is no tensor",
        ),
    ],
)
def test_a_batch_without_inputs_leads_to_batch_to_inputs(reader, message):
    with pytest.raises(CaptureError, match=message):
        reader.inputs({"labels": torch.zeros(2)})


class OwnStreams(Dataset):
    """Adds noise from a generator of its own, as augmentations do."""

    def __init__(self):
        self.transforms = [torch.Generator().manual_seed(3)]
        self.rng = np.random.default_rng(3)

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.rand(2, generator=self.transforms[0]) + self.rng.random(), index % 2


def test_a_data_set_keeps_its_own_generators():
    dataset, untouched = OwnStreams(), OwnStreams()
    draw_probe(dataset, size=8, seed=0, reader=BatchReader())
    assert torch.equal(dataset[0][0], untouched[0][0])
