"""Keys are made once, of an instrument, a quantity and a place."""

from own_measures import HUBS

from fnet_callbacks.keys import (
    layer_keys,
    manifest_keys,
    manifest_quantities,
    places,
    whole_keys,
)
from fnet_callbacks.quantities.networks import BY_NAME
from fnet_callbacks.quantities.regions import DEAD_SHARE

MODULARITY = BY_NAME["modularity"]


def test_places_have_two_digits_and_three_from_a_hundred_layers_on() -> None:
    assert places(0) == []
    assert places(3) == ["01", "02", "03"]
    assert places(99)[-1] == "99"
    assert (places(100)[0], places(100)[-1]) == ("001", "100")
    assert places(1000)[0] == "0001"
    assert places(250) == sorted(places(250))


def test_a_key_says_what_it_is_of() -> None:
    keys = [
        *whole_keys("fnet", [MODULARITY, HUBS]),
        *layer_keys("fnet", [MODULARITY], ["net.0", "net.2/x"]),
        *layer_keys("codes", [DEAD_SHARE], ["net.0"], folder="codes"),
    ]
    assert manifest_keys(keys) == {
        "fnet/modularity": ["fnet", "modularity", None],
        "fnet/hub_share": ["fnet", "hub_share", None],
        "fnet_layers/01/modularity": ["fnet", "modularity", "01"],
        "fnet_layers/02/modularity": ["fnet", "modularity", "02"],
        "codes/01/dead_share": ["codes", "dead_share", "01"],
    }
    assert [key.layer for key in keys] == [None, None, "net.0", "net.2/x", "net.0"]
    assert keys[1].description == HUBS.definition
    assert keys[3].description == f"Layer `net.2/x`. {MODULARITY.definition}"
    assert manifest_quantities(keys) == {
        "fnet": {"modularity": MODULARITY.described(), "hub_share": HUBS.described()},
        "codes": {"dead_share": DEAD_SHARE.described()},
    }
