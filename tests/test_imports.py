"""What another process imports, and by which path."""

import sys
from typing import Any

import pytest
from own_measures import HUBS, hub_share

from fnet_callbacks.findings import travels
from fnet_callbacks.imports import import_path, imported
from fnet_callbacks.quantities.networks import needs_inline
from fnet_callbacks.quantities.quantity import Quantity


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


def test_functions_and_classes_of_a_module_have_the_path_by_which_they_are_imported() -> None:
    expected = {
        "own_measures:hub_share": hub_share,
        f"{__name__}:Holder": Holder,
        f"{__name__}:Holder.share": Holder.share,
    }
    for path, named in expected.items():
        assert import_path(named) == path
        assert imported(path) is named


def test_what_another_process_would_not_find_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [None, lambda network: 0.0, nested(), Holder(), Holder().__call__]
    assert [import_path(function) for function in others] == [None] * 5

    def replaced(network: Any) -> float:
        return 0.0

    replaced.__qualname__, replaced.__module__ = "hub_share", "own_measures"  # another function has that name
    assert import_path(replaced) is None
    replaced.__module__ = "__main__"
    assert import_path(replaced) is None
    replaced.__module__ = "nowhere.at_all"
    assert import_path(replaced) is None
    module = type(sys)("made_up")  # as a notebook makes them: no file, no spec
    vars(module)["hub_share"], replaced.__module__ = replaced, "made_up"
    monkeypatch.setitem(sys.modules, "made_up", module)
    assert import_path(replaced) is None


def test_a_module_that_fails_as_it_is_imported_has_none(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_display.py").write_text("raise RuntimeError('no display')\n")
    monkeypatch.syspath_prepend(tmp_path)
    nameless = nested()
    nameless.__qualname__, nameless.__module__ = "f", "no_display"
    assert import_path(nameless) is None
    with pytest.raises(RuntimeError, match="no display"):
        imported("no_display:f")


def test_a_quantity_travels_with_a_function_that_is_imported() -> None:
    own = Quantity("own", "own", "Own.", function=lambda network: 0.0)
    assert travels([HUBS])
    assert not travels([own])
    assert needs_inline([HUBS, own]) == ["own"]
