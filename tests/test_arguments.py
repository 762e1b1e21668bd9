"""What comes in at the door of arguments: one value for each way of saying it, or an error that says what was got."""

import enum
import math
from collections import UserList, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from fnet_callbacks import FnetError
from fnet_callbacks.arguments import as_choice, as_flag, as_integer, as_list, as_number, as_patterns, plain


class Step(enum.IntEnum):
    FOUR = 4


class Word(enum.StrEnum):
    LOG = "log"


class Number(int):
    pass


SCALARS: list[tuple[Any, Any]] = [
    (np.int64(4), 4),
    (np.uint8(4), 4),
    (np.float64(0.5), 0.5),
    (np.float32(0.1), float(np.float32(0.1))),
    (np.float16(0.5), 0.5),
    (np.longdouble(0.5), 0.5),
    (np.bool_(True), True),
    (np.str_("fnet"), "fnet"),
    (np.array(4), 4),
    (np.array("auto"), "auto"),
    (torch.tensor(4), 4),
    (torch.tensor(0.5, requires_grad=True), 0.5),
    (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
    (torch.tensor(True), True),
    (Step.FOUR, 4),
    (Word.LOG, "log"),
    (Number(4), 4),
    (Fraction(1, 2), 0.5),
    (Decimal("0.5"), 0.5),
    (None, None),
]


@pytest.mark.parametrize(("given", "expected"), SCALARS, ids=repr)
def test_a_scalar_of_any_library_is_pythons_own(given: Any, expected: Any) -> None:
    found = plain("argument", given)
    assert found == expected
    assert type(found) is type(expected)


SEQUENCES: list[Callable[[list[Any]], Any]] = [
    list,
    tuple,
    set,
    frozenset,
    deque,
    UserList,
    iter,
    dict.fromkeys,
    np.array,
    OmegaConf.create,
]


@pytest.mark.parametrize("made", SEQUENCES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("values", [["a", "b"], [0.1, 0.2], [1, 2]], ids=repr)
def test_a_sequence_of_any_kind_is_a_list(made: Callable[[list[Any]], Any], values: list[Any]) -> None:
    given = made(values)
    found = plain("argument", given.keys() if isinstance(given, dict) else given)
    assert found == values
    assert {type(found), *map(type, found)} == {list, type(values[0])}


def test_tensors_ranges_and_what_is_inside_of_others_are_lists_too() -> None:
    assert plain("a", torch.tensor([[1, 2], [3, 4]])) == [[1, 2], [3, 4]]
    assert plain("a", range(2, 5)) == [2, 3, 4]
    nested = plain("a", (np.array([0.5]), [torch.tensor(1), np.str_("x")], OmegaConf.create([[1]])))
    assert nested == [[0.5], [1, "x"], [[1]]]
    assert type(nested[1][1]) is str


def test_a_set_is_sorted_whatever_it_holds() -> None:
    assert plain("a", {torch.tensor(0.3), np.float64(0.1), 0.2}) == [
        pytest.approx(x) for x in (0.1, 0.2, 0.3)
    ]
    assert plain("a", {1, 0.5}) == [0.5, 1]
    assert plain("a", {"b", 1, "a"}) == plain("a", {"a", "b", 1})


def test_what_cannot_be_read_is_refused_by_the_arguments_name() -> None:
    with pytest.raises(FnetError, match=r"`layers` cannot be read: .*MissingMandatoryValue"):
        plain("layers", OmegaConf.create(["net.1", "???"]))
    with pytest.raises(FnetError, match=r"`layers` cannot be read: .*Interpolation"):
        plain("layers", OmegaConf.create(["${nothing}"]))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(FnetError, match=r"`layers` cannot be read"):
        plain("layers", endless)


def test_what_is_neither_number_text_nor_sequence_stays_what_it_is() -> None:
    for given in (len, MappingProxyType({"a": 1}), b"net", 1j, np.clongdouble(1), object):
        assert plain("argument", given) is given


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: as_integer("n", np.int64(0), at_least=1), "`n=0` should be an integer of at least 1"),
        (lambda: as_integer("n", np.float64(2.5), at_least=1), "`n=2.5` should be an integer"),
        (lambda: as_integer("n", np.True_, at_least=1), "`n=True` should be an integer"),
        (lambda: as_integer("n", np.array([3]), at_least=1), r"`n=\[3\]` should be an integer"),
        (lambda: as_integer("n", "3", at_least=1), "`n='3'` should be an integer"),
        (lambda: as_number("x", torch.tensor(-1.0), above=0), "`x=-1.0` should be a number above 0"),
        (lambda: as_number("x", np.float32(math.nan), above=0), "`x=nan` should be a number above 0"),
        (lambda: as_flag("f", "false"), "`f='false'` should be True or False"),
        (lambda: as_flag("f", 2), "`f=2` should be True or False"),
        (lambda: as_choice("c", np.str_("b"), ("a",)), "`c='b'` should be 'a'"),
        (lambda: as_choice("c", ["a"], ("a",)), r"`c=\['a'\]` should be 'a'"),
        (lambda: as_choice("c", True, (1, 2)), "`c=True` should be 1 or 2"),
        (lambda: as_patterns("layers", OmegaConf.create([3])), r"`layers=\[3\]` should be 'auto' or glob"),
        (
            lambda: as_patterns("layers", OmegaConf.create({"net": 1})),
            r"`layers=\{'net': 1\}` of the class DictConfig should be",
        ),
        (lambda: as_list("e", np.array([]), "numbers"), r"`e=\[\]` should be a list of numbers"),
        (lambda: as_list("e", None, "numbers"), "`e=None` should be a list of numbers"),
    ],
)
def test_what_is_refused_is_shown_as_it_was_read(read: Callable[[], Any], message: str) -> None:
    with pytest.raises(FnetError, match=message):
        read()


def test_one_by_itself_is_a_list_of_one() -> None:
    assert as_list("e", np.float64(0.5), "numbers") == [0.5]
    assert as_list("e", np.array("fgsm"), "attacks") == ["fgsm"]
    assert as_patterns("layers", np.str_("net.*")) == "net.*"


def test_one_and_zero_are_true_and_false() -> None:
    assert [as_flag("f", value) for value in (1, np.int8(0), np.True_, torch.tensor(False))] == [
        True, False, True, False
    ]  # fmt: skip
