"""A quantity checks itself and does not change."""

import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from own_measures import HUBS, hub_share

import fnet_callbacks
from fnet_callbacks.errors import FnetError
from fnet_callbacks.quantities.quantity import Quantity


def quantity(**options: Any) -> Quantity:
    return Quantity(**{"name": "mine", "label": "mine", "definition": "Mine."} | options)


def test_it_is_public() -> None:
    assert fnet_callbacks.Quantity is Quantity


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("name", ""),
        ("name", "a/b"),
        ("name", "a b"),
        ("name", "é"),
        ("name", 3),
        ("label", ""),
        ("label", " \n"),
        ("label", None),
        ("definition", ""),
        ("definition", b"text"),
        ("chart", ""),
        ("range", (1, 0)),
        ("range", (0,)),
        ("range", "01"),
        ("range", (0, math.nan)),
        ("range", (True, 2)),
        ("tier", "slow"),
        ("needs", "everything"),
        ("function", 3),
        ("compares", "no"),
        ("beyond_tree", None),
    ],
)
def test_what_it_cannot_be_is_refused_by_the_argument(argument: str, value: Any) -> None:
    with pytest.raises(FnetError, match=f"`{argument}="):
        quantity(**{argument: value})


def test_what_it_may_be_is_taken() -> None:
    found = quantity(name="A.b-c_1+2", range=[None, 1], tier="standard", compares=1)
    assert found.range == (None, 1)
    assert found.compares is True
    assert found.described() == {"label": "mine", "definition": "Mine.", "range": [None, 1]}
    assert quantity().described()["range"] is None


def test_it_is_pickled_with_its_function_where_that_is_of_a_module() -> None:
    assert pickle.loads(pickle.dumps(HUBS)) == HUBS


def test_it_does_not_change() -> None:
    with pytest.raises(AttributeError):
        HUBS.label = "other"  # type: ignore[misc]
    assert replace(HUBS, label="other").function is hub_share
    assert np.isfinite(hash(HUBS))
