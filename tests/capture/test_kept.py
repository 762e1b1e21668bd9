"""Batches in a checkpoint: plain inside, and what they were when they come back."""

import io
from collections import UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from fnet_callbacks.capture.kept import as_batch, as_plain

Pair = namedtuple("Pair", ["x", "y"])


class Encoding(UserDict):
    """As a tokenizer returns."""


@dataclass
class Graphs:
    nodes: torch.Tensor
    sizes: list[int]


def saved(plain: Any) -> Any:
    file = io.BytesIO()
    torch.save(plain, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def inputs(n: int) -> torch.Tensor:
    return torch.arange(float(n))


@pytest.mark.parametrize(
    "make",
    [
        inputs,
        lambda n: [inputs(n), torch.ones(n, dtype=torch.int64)],
        lambda n: (inputs(n), None),
        lambda n: {"x": inputs(n), "names": ["a"] * n},
        lambda n: Encoding(input_ids=inputs(n), inner={"mask": torch.ones(n, dtype=torch.bool)}),
        lambda n: Pair(inputs(n), np.arange(n)),
        lambda n: Graphs(inputs(n), [n, 1]),
        lambda n: [Pair(inputs(n), 1.5)] * n,
    ],
    ids=["tensor", "list", "tuple", "dict", "mapping", "named tuple", "dataclass", "list of tuples"],
)
def test_a_batch_comes_back_as_it_was(make: Any) -> None:
    batch = make(3)
    found = as_batch(saved(as_plain(batch)), like=make(2))
    assert_same(found, batch)


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, (torch.Tensor, np.ndarray)):
        assert found.dtype == expected.dtype
        assert (found == expected).all()
    elif isinstance(expected, (dict, UserDict)):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, (list, tuple)):
        for a, b in zip(found, expected, strict=True):
            assert_same(a, b)
    elif isinstance(expected, Graphs):
        assert_same(vars(found), vars(expected))
    else:
        assert found == expected


def test_what_a_checkpoint_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="object is no container, tensor or plain value"):
        as_plain({"x": inputs(2), "meta": [object()]})
