"""How a model is called with a batch, and how many samples there are in it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from fnet_callbacks.capture.batches import call_model
from fnet_callbacks.capture.reader import BatchReader, first_samples
from fnet_callbacks.errors import CaptureError

N = 4
X, Y = torch.rand(N, 3), torch.tensor([0, 1, 2, 1])


def images(n: int = N, channels: int = 3) -> list[Tensor]:
    """Of unlike sizes."""
    return [torch.rand(channels, 4 + i, 5) for i in range(n)]


def one(x): ...
def one_batch(batch): ...
def one_and_more(x, mask=None): ...
def two(a, b): ...
def any_number(*inputs): ...
def anything(*inputs, **keywords): ...
def by_name(input_ids=None, attention_mask=None): ...
def detector(images, targets=None): ...


def ways(forward: Callable[..., Any], batch: Any, n_items: int | None = N, **functions: Any) -> list[Any]:
    """What the model is called with, the likeliest first."""
    readers = BatchReader(**functions).ways(inspect.signature(forward), batch, n_items)
    return [reader.inputs(batch) for reader in readers]


def first(forward: Callable[..., Any], batch: Any, n_items: int | None = N, **functions: Any) -> BatchReader:
    return BatchReader(**functions).ways(inspect.signature(forward), batch, n_items)[0]


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, (tuple, list)):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found is expected or found == expected


# What is found in the batch by itself.


@pytest.mark.parametrize("batch", [X, (X, Y), [X, Y]])
def test_a_tensor_is_the_input_whatever_forward_is_called(batch):
    for forward in (one, one_and_more, two, any_number, anything):
        assert ways(forward, batch)[0] is X


def test_a_forward_whose_one_parameter_is_the_batch_gets_a_tuple_as_it_is():
    batch = (X, Y)
    assert ways(one_batch, batch)[0] == (batch,)
    assert ways(one, batch)[1] == (batch,)  # where it fails on the first part


def test_a_forward_with_one_parameter_gets_a_mapping_as_it_is_before_an_entry_is_tried():
    batch = {"x": X, "y": Y}
    as_it_is, entry = ways(one, batch)
    assert as_it_is[0] is batch
    assert entry == {"x": X}
    assert ways(one_batch, batch)[0][0] is batch


@pytest.mark.parametrize("forward", [by_name, anything])
def test_a_forward_that_knows_its_keys_gets_a_mapping_by_name(forward):
    batch = {"input_ids": X, "attention_mask": Y, "labels": Y}
    assert set(ways(forward, batch)[0]) == {"input_ids", "attention_mask"}


def test_a_dataclass_is_the_batch_or_its_fields():
    @dataclass(frozen=True)
    class Batch:
        x: Tensor
        y: Tensor

    batch = Batch(X, Y)
    as_it_is, fields = ways(one, batch)
    assert as_it_is == (batch,)
    assert fields == {"x": X}
    assert torch.equal(BatchReader().read(batch)[1], Y)


# Lists.


@pytest.mark.parametrize("collect", [list, tuple])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("forward", [one, detector])
@pytest.mark.parametrize("targets", [lambda n: [{"boxes": torch.rand(2, 4)}] * n, torch.arange])
def test_a_list_of_images_is_one_argument_and_as_many_samples(collect, n, channels, forward, targets):
    batch = (collect(images(n, channels)), targets(n))
    reader = first(forward, batch, n)
    assert same(reader.inputs(batch), (batch[0],))
    assert reader.size(batch) == n
    rest = (collect(images(1, channels)), targets(1))
    assert reader.size(rest) == 1  # of the last batch, whatever the number of channels


def test_what_passes_is_counted_by_its_targets_where_nothing_else_is_known():
    batch = (images(), [{"boxes": torch.rand(2, 4)}] * N)
    assert first(one, batch, None).size(batch) == N


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_list_of_inputs_that_share_the_samples_are_several_arguments(n):
    batch = ([torch.rand(n, 3), torch.rand(n, 7)], torch.arange(n))
    reader = first(two, batch, n)
    assert same(reader.inputs(batch), batch[0])
    assert reader.size(batch) == n
    assert reader.count(reader.inputs(batch)) == n


def test_several_inputs_go_into_the_one_parameter_where_they_are_no_arguments():
    batch = ([torch.rand(5, 3), torch.rand(5, 7)], torch.arange(5))
    assert same(ways(one, batch, 5)[1], (batch[0],))


@pytest.mark.parametrize(
    "batch",
    [
        [(torch.rand(3, 5), 0), (torch.rand(3, 6), 1), (torch.rand(3, 7), 1), (torch.rand(3, 8), 2)],
        [{"image": image, "label": 0} for image in images()],
        images(),
    ],
    ids=["items", "mappings", "tensors"],
)
def test_a_batch_that_is_the_list_of_its_items_is_passed_as_it_is(batch):
    reader = first(one, batch)
    assert reader.inputs(batch)[0] is batch
    assert reader.size(batch) == N
    assert reader.size(batch[:3]) == 3


def test_lists_inside_a_mapping_are_counted():
    batch = {"images": images(), "boxes": [torch.rand(2, 4)] * N}
    assert first(one_batch, batch).size(batch) == N


def test_a_packed_sequence_is_one_argument_with_as_many_samples_as_sequences():
    packed = pack_sequence([torch.rand(2, 3), torch.rand(5, 3), torch.rand(1, 3)], enforce_sorted=False)
    for batch in (packed, (packed, torch.arange(3)), (packed, None)):
        reader = first(one, batch, None)
        assert reader.size(batch) == 3
        assert call_model(Recurrent(), reader.inputs(batch)).shape == (3, 5)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 5)

    def forward(self, x: Any) -> Tensor:
        return self.gru(x)[1][0]


def test_samples_on_the_second_axis_are_counted_there():
    batch = {"tokens": torch.zeros(7, N, dtype=torch.long)}
    assert first(one, batch).size(batch) == N
    assert first(one, torch.rand(7, N, 3)).size(torch.rand(7, 2, 3)) == 2


def test_views_of_each_item_are_samples_of_their_own():
    assert first(one, torch.rand(2 * N, 3)).size(torch.rand(2 * N, 3)) == 2 * N


# What the user's function gives.


@pytest.mark.parametrize(
    ("forward", "given", "expected"),
    [
        (one, {"x": X, "y": Y}, ({"x": X, "y": Y},)),
        (one_batch, {"x": X}, ({"x": X},)),
        (one_batch, {"image": X, "y": Y}, ({"image": X, "y": Y},)),
        (one, {"x": X}, {"x": X}),
        (by_name, {"input_ids": X}, {"input_ids": X}),
        (one_and_more, {"x": X, "mask": Y, "idx": Y}, {"x": X, "mask": Y, "idx": Y}),
        (one, [X, Y], ([X, Y],)),
        (detector, [X, Y], ([X, Y],)),
        (two, [X, Y], [X, Y]),
        (one, (X,), (X,)),
        (one, ([X, Y],), ([X, Y],)),
        (two, (X, Y), (X, Y)),
        (any_number, [X, Y], [X, Y]),
    ],
)
def test_what_the_users_function_gives_is_not_interpreted(forward, given, expected):
    found = ways(forward, "a batch", to_inputs=lambda batch: given)[0]
    assert type(found) is type(expected)
    assert same(found, expected) if not isinstance(expected, dict) else found.keys() == expected.keys()


def test_its_tuple_is_the_arguments_and_a_list_in_it_is_counted():
    for channels in (1, 3, N):
        reader = first(one, images(N, channels), to_inputs=lambda batch: (batch,))
        assert reader.size(images(N, channels)) == N
        assert reader.size(images(2, channels)) == 2


@pytest.mark.parametrize("labels", [[0, 1, 2, 1], torch.tensor([0, 1, 2, 1]).numpy()])
def test_its_labels_may_be_a_list_or_an_array(labels):
    assert BatchReader(to_labels=lambda batch: labels).read(X)[1].tolist() == [0, 1, 2, 1]


# A call.


class Sum(nn.Module):
    def forward(self, a, b):
        return a + b


@pytest.mark.parametrize(
    ("inputs", "shown"),
    [
        ((X,), r"\(Tensor\[4, 3\] of float32\)"),
        ({"a": X, "c": Y}, r"\(a=Tensor\[4, 3\] of float32\)"),
    ],
)
def test_the_error_shows_what_forward_would_be_called_with(inputs, shown):
    with pytest.raises(CaptureError, match=rf"Sum.forward\(a, b\) does not take .*called with {shown}; pass"):
        call_model(Sum(), inputs)


# The first samples of a loader.


class Clouds(nn.Module):
    def forward(self, clouds: list[Tensor]) -> Tensor:
        return nn.utils.rnn.pad_sequence(clouds, batch_first=True).mean(1)


def test_the_first_samples_of_a_list_are_cut_as_samples():
    batches = [([torch.rand(3 + i, 2) for i in range(N)], torch.arange(N)) for _ in range(3)]
    found = first_samples(batches, 6, model=Clouds(), device=torch.device("cpu"))
    assert [batch.n_samples for batch in found] == [4, 2]
    assert [len(batch.inputs[0]) for batch in found] == [4, 2]
    assert found[1].classes.tolist() == [0, 1]
    assert call_model(Clouds(), found[1].inputs).shape == (2, 2)
