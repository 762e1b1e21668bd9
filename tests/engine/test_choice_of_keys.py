"""Which keys are chosen for the loggers, and which choices are refused."""

import pytest

from fnet_callbacks import FnetError
from fnet_callbacks.engine.log_filter import LogFilter
from fnet_callbacks.keys import layer_keys, whole_keys
from fnet_callbacks.quantities.codes import OF_MAP
from fnet_callbacks.quantities.monitor import MONITOR
from fnet_callbacks.quantities.networks import BY_NAME

MEASURES = [BY_NAME[name] for name in ("modularity", "loops")]
WHOLE = [*whole_keys("fnet", MEASURES), *whole_keys("monitor", MONITOR)]
OF_LAYERS = layer_keys("fnet", MEASURES, ["relu1", "relu2"])
CODES = layer_keys("codes", OF_MAP, ["relu1"], folder="codes")
KEYS = [*WHOLE, *OF_LAYERS, *CODES]
ALL = {key.key for key in KEYS}
COSTS = {"monitor_cost/fnet/total", "monitor_cost/fnet/homology", "monitor_cost/codes/total"}


def chosen(log: str | list[str]) -> set[str]:
    """Of all keys and costs those that the loggers get."""
    logged = LogFilter(log, KEYS, ["fnet", "codes"])
    found = logged.of(dict.fromkeys(ALL | COSTS, 0.5)).keys()
    assert {key.key for key in logged.keys} == found & ALL
    return {*found}


def test_by_itself_it_is_the_whole_network_and_instruments_that_have_layers_alone() -> None:
    assert chosen("auto") == {key.key for key in [*WHOLE, *CODES]}


def test_all_is_everything() -> None:
    assert chosen("all") == ALL | COSTS


def test_a_layer_of_an_instrument_whose_name_begins_like_anothers_is_one_of_its_own() -> None:
    keys = [*whole_keys("fnet_2", MEASURES), *layer_keys("fnet_2", MEASURES, ["relu1"])]
    assert [key.key for key in LogFilter("auto", keys, ["fnet_2"]).keys] == [
        "fnet_2/modularity",
        "fnet_2/loops",
    ]


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("fnet/*", {"fnet/modularity", "fnet/loops"}),
        ("fnet/loops", {"fnet/loops"}),
        ("fnet_layers/01/*", {"fnet_layers/01/modularity", "fnet_layers/01/loops"}),
        ("*modularity", {"fnet/modularity", "fnet_layers/01/modularity", "fnet_layers/02/modularity"}),
        (["fnet/l*", "fnet_layers/0[2-9]/loops"], {"fnet/loops", "fnet_layers/02/loops"}),
        ("*", ALL | COSTS),
        ("monitor_cost/*", COSTS),
        ("monitor_cost/fnet/homology", {"monitor_cost/fnet/homology"}),
        ("monitor_cost/*/total", {"monitor_cost/fnet/total", "monitor_cost/codes/total"}),
        ([], set()),
    ],
)
def test_globs_are_what_is_logged(log: str | list[str], expected: set[str]) -> None:
    assert chosen(log) == expected


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("fnet/modularty", "'fnet/modularty' matches no key of this run; there are: fnet/modularity, "),
        (["fnet/*", "fnet_layer/01/*"], "'fnet_layer/01/.' matches no key of this run; there are: fnet_layers/01/"),
        ("FNET/*", "'FNET/.' matches no key"),
        ("", "'' matches no key"),
        (["auto", "fnet_layers/*"], "'auto' matches no key"),
        ("monitor_cost/fnt/*", "'monitor_cost/fnt/.' matches no key of this run; there are: .*monitor_cost/fnet/to"),
        ("monitor_costs/*", "'monitor_costs/.' matches no key"),
    ],
    ids=str,
)  # fmt: skip
def test_a_glob_that_matches_nothing_is_refused_with_the_nearest_keys(
    log: str | list[str], message: str
) -> None:
    with pytest.raises(FnetError, match=f"`log`: {message}"):
        LogFilter(log, KEYS, ["fnet", "codes"])
