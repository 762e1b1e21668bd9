"""A quantity checks itself, says how it is imported, and travels as plain values."""

import importlib
import math
import pickle
import sys
from dataclasses import replace
from pathlib import Path
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


def test_a_function_of_a_module_has_the_path_by_which_it_is_imported() -> None:
    assert HUBS.import_path == "own_measures:hub_share"
    assert quantity().import_path is None


def nested() -> Any:
    def inner(network: Any) -> float:
        return 0.0

    return inner


class Holder:
    @staticmethod
    def share(network: Any) -> float:
        return 0.0

    def __call__(self, network: Any) -> float:
        return 0.0


def test_a_static_method_of_a_module_has_one_too() -> None:
    assert quantity(function=Holder.share).import_path == f"{__name__}:Holder.share"


def test_what_another_process_would_not_find_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [lambda network: 0.0, nested(), Holder(), Holder().__call__]
    assert [quantity(function=function).import_path for function in others] == [None] * 4

    def replaced(network: Any) -> float:
        return 0.0

    replaced.__qualname__, replaced.__module__ = "hub_share", "own_measures"  # another function has that name
    assert quantity(function=replaced).import_path is None
    replaced.__module__ = "__main__"
    assert quantity(function=replaced).import_path is None
    replaced.__module__ = "nowhere.at_all"
    assert quantity(function=replaced).import_path is None
    module = type(sys)("made_up")  # as a notebook makes them: no file, no spec
    vars(module)["hub_share"], replaced.__module__ = replaced, "made_up"
    monkeypatch.setitem(sys.modules, "made_up", module)
    assert quantity(function=replaced).import_path is None


def test_it_comes_back_from_plain_values_with_its_function() -> None:
    plain = HUBS.to_plain()
    assert all(isinstance(value, str | bool | list | None) for value in plain.values())
    assert Quantity.from_plain(plain) == HUBS
    assert pickle.loads(pickle.dumps(HUBS)) == HUBS


def test_a_function_that_cannot_be_imported_does_not_travel() -> None:
    with pytest.raises(FnetError, match="function of 'mine' cannot be imported"):
        quantity(function=lambda network: 0.0).to_plain()
    gone = HUBS.to_plain() | {"path": "own_measures:gone"}
    with pytest.raises(FnetError, match="own_measures:gone cannot be imported: AttributeError"):
        Quantity.from_plain(gone)
    with pytest.raises(FnetError, match="no_such_module:f cannot be imported: ModuleNotFoundError"):
        Quantity.from_plain(gone | {"path": "no_such_module:f"})


def test_a_module_that_fails_as_it_is_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_measures.py").write_text("raise RuntimeError('no display')\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(FnetError, match="RuntimeError: no display"):
        Quantity.from_plain(HUBS.to_plain() | {"path": "broken_measures:f"})


def test_it_does_not_change() -> None:
    with pytest.raises(AttributeError):
        HUBS.label = "other"  # type: ignore[misc]
    assert replace(HUBS, label="other").function is hub_share
    assert np.isfinite(hash(HUBS))
