"""Inputs and labels in a batch, and how a model is called with them."""

import math
import pickle
from collections import OrderedDict
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import nn

from fnet_callbacks.capture.batches import (
    as_getter,
    as_labels,
    batch_inputs,
    batch_labels,
    batch_size,
    call_model,
    holds_tensor,
    path_of,
    resolve,
    submodule,
    token_mask,
)
from fnet_callbacks.capture.trees import detached_copy
from fnet_callbacks.errors import CaptureError, FnetError

X, Y = torch.rand(4, 3), torch.tensor([0, 1, 2, 1])


@pytest.mark.parametrize("batch", [X, (X, Y), [X, Y], (X,)])
def test_the_input_is_the_tensor_or_the_first_of_a_tuple(batch):
    assert batch_inputs(batch) is X


@pytest.mark.parametrize("key", ["labels", "label", "targets", "target", "y"])
def test_a_mapping_gives_its_labels_and_all_the_rest_as_inputs(key):
    batch = OrderedDict(x=X, mask=Y, **{key: Y})
    assert batch_inputs(batch) == {"x": X, "mask": Y}
    assert torch.equal(batch_labels(batch), Y)


def test_the_label_is_the_second_of_a_tuple():
    assert torch.equal(batch_labels((X, Y, X)), Y)
    assert batch_labels(X) is None
    assert batch_labels([X]) is None


def test_only_one_integer_a_sample_is_a_label():
    assert as_labels(Y[:, None]).tolist() == Y.tolist()
    assert as_labels(Y.to(torch.uint8)).dtype == torch.int64
    for other in (X[:, 0], X, torch.zeros(4, 5, dtype=torch.long), [0, 1], None):
        assert as_labels(other) is None


def test_the_number_of_samples_is_that_of_the_labels_or_of_the_first_tensor():
    assert batch_size((torch.rand(7, 2), X), Y) == 4
    assert batch_size({"scale": torch.tensor(2.0), "x": X}) == 4


@pytest.mark.parametrize("batch", [{}, [], "text", 3, {"y": Y}, torch.tensor(1.0)])
def test_a_batch_without_an_input_tensor_is_told_apart(batch):
    assert not holds_tensor(batch_inputs(batch))


def test_the_padding_mask_is_found_in_a_mapping_of_inputs():
    mask = torch.tensor([[1, 0], [1, 1]])
    assert token_mask({"input_ids": X, "attention_mask": mask}).tolist() == [[True, False], [True, True]]
    assert token_mask({"attention_mask": torch.ones(2, 1, 3, 3)}) is None
    assert token_mask(X) is None


def test_a_kept_batch_shares_no_memory():
    batch = {"x": X.clone(), "n": [3]}
    copy = detached_copy(batch)
    batch["x"].zero_()
    assert torch.equal(copy["x"], X)


class OneInput(nn.Module):
    def forward(self, x):
        return x


class TwoInputs(nn.Module):
    def forward(self, input_ids, attention_mask=None, *, scale=1):
        return input_ids, attention_mask, scale


class AnyKey(nn.Module):
    def forward(self, **inputs):
        return sorted(inputs)


class Fused(nn.Module):
    def forward(self, batch):
        return batch


def test_a_tensor_is_the_argument_and_a_tuple_are_the_arguments():
    assert call_model(OneInput(), X) is X
    assert call_model(TwoInputs(), (X, Y)) == (X, Y, 1)


def test_a_mapping_is_unpacked_where_forward_takes_its_keys_and_the_rest_is_left():
    assert call_model(TwoInputs(), {"attention_mask": Y, "input_ids": X, "idx": 3}) == (X, Y, 1)
    assert call_model(AnyKey(), {"a": X, "b": Y}) == ["a", "b"]


def test_of_a_mapping_the_entry_that_looks_like_the_input_is_passed():
    assert call_model(OneInput(), {"image": X, "path": Y}) is X


def test_a_mapping_is_passed_whole_where_nothing_looks_like_the_input():
    batch = {"left": X, "right": Y}
    assert call_model(Fused(), batch) is batch


@pytest.mark.parametrize(
    ("model", "inputs", "given"),
    [
        (OneInput(), (X, Y), "2 inputs"),
        (nn.Bilinear(2, 2, 2), {"input1": X, "z": Y}, r"keys \['input1', 'z'\]"),
    ],
)
def test_inputs_that_forward_does_not_take_lead_to_batch_to_inputs(model, inputs, given):
    with pytest.raises(CaptureError, match=rf"does not take the batch's {given}.*pass `batch_to_inputs`"):
        call_model(model, inputs)


@pytest.mark.parametrize("model", [pl.LightningModule(), nn.Module()])
@pytest.mark.parametrize("inputs", [X, {"x": X}])
def test_a_model_without_forward_leads_to_model(model, inputs):
    with pytest.raises(CaptureError, match=r"has no `forward`; pass .* such as `model='net'`; there are: "):
        call_model(model, inputs)


def test_an_operator_that_is_not_implemented_is_not_taken_for_a_missing_forward():
    class Missing(nn.Module):
        def forward(self, x):
            raise NotImplementedError("aten::new is not implemented for this device")

    with pytest.raises(NotImplementedError, match="aten::new"):
        call_model(Missing(), X)


def test_an_error_of_the_model_itself_is_not_hidden():
    with pytest.raises(RuntimeError, match="shapes"):
        call_model(nn.Linear(5, 2), X)


def test_model_names_a_submodule_and_a_wrong_one_leads_to_those_there_are():
    outer = nn.Sequential(nn.Sequential(nn.Linear(3, 2)))
    assert submodule(outer, "0.0") is outer[0][0]
    assert submodule(outer, None) is outer
    with pytest.raises(CaptureError, match="`model='net'` is no submodule; there are: 0"):
        submodule(outer, "net")


def test_a_dotted_path_stands_for_a_function():
    assert resolve("torch.nn.functional.relu", "batch_to_inputs") is nn.functional.relu
    assert resolve(len, "batch_to_inputs") is len
    assert resolve(None, "batch_to_inputs") is None


@pytest.mark.parametrize("path", ["relu", "no.such.module", "torch.nothing", ""])
def test_a_path_that_leads_nowhere_is_named(path):
    with pytest.raises(FnetError, match=f"`batch_to_inputs='{path}'` is no importable"):
        resolve(path, "batch_to_inputs")


@pytest.mark.parametrize(
    ("key", "batch"),
    [
        ("image", {"image": X, "class": 1}),
        (0, (X, 1)),
        (-1, [1, X]),
        ("image", SimpleNamespace(image=X)),
        (np.int64(1), [1, X]),
        (np.str_("image"), {"image": X}),
        ("0", {"0": X}),
        ("my image", {"my image": X}),
    ],
)
def test_a_key_or_a_place_stands_for_an_entry(key, batch):
    getter = as_getter(key, "batch_to_inputs")
    assert getter(batch) is X
    assert path_of(getter) == key
    assert pickle.loads(pickle.dumps(getter)) == getter
    assert type(getter.key) in (int, str)


@pytest.mark.parametrize(("key", "shown"), [("img", "'img'"), (3, "3")])
def test_an_entry_that_is_missing_is_named(key, shown):
    with pytest.raises(FnetError, match=rf"`batch_to_inputs={shown}` is no entry of a dict of 1 \('image': "):
        as_getter(key, "batch_to_inputs")({"image": X})


def test_what_is_no_getter_is_refused():
    for value in (True, 0.5, ["image"], ""):
        with pytest.raises(FnetError, match="`batch_to_inputs="):
            as_getter(value, "batch_to_inputs")
    assert as_getter(None, "batch_to_inputs") is None
    assert as_getter("math.sqrt", "batch_to_inputs") is math.sqrt


def test_a_path_to_something_else_is_named():
    with pytest.raises(
        FnetError, match=r"`batch_to_inputs='math\.pi'` names a float; it should be a function"
    ):
        resolve("math.pi", "batch_to_inputs")
