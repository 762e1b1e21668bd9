"""Homology that is bounded: by a radius, by a number of nodes; the notes say so."""

import math

from planted_networks import activations, network_of

from fnet_callbacks import functional as F
from fnet_callbacks.network import GraphSettings
from fnet_callbacks.quantities.networks import measure

HOMOLOGY = ("betti_0", "betti_1", "loops", "functional_persistence", "persistent_entropy")


def test_a_radius_below_one_is_noted_at_every_measure_of_homology():
    scope = network_of(activations(), settings=GraphSettings(homology_radius=0.9))
    found = measure(scope, (*HOMOLOGY, "modularity"))
    assert scope.notes == dict.fromkeys(HOMOLOGY, "homology of distances up to 0.9")
    assert found["loops"] == len(F.persistence(F.correlation_distance(scope.correlation), threshold=0.9)[1])


def test_a_radius_short_of_the_graphs_scale_leaves_no_betti_numbers():
    scope = network_of(activations(), settings=GraphSettings(homology_radius=0.1))
    found = measure(scope, HOMOLOGY)
    assert math.isnan(found["betti_0"])
    assert "is beyond homology_radius" in scope.notes["betti_0"]
    assert not math.isnan(found["loops"])


def test_above_the_most_nodes_a_seeded_draw_is_taken_and_noted():
    def found(**options) -> tuple[dict[str, float], dict[str, str]]:
        scope = network_of(activations(), settings=GraphSettings(homology_max_nodes=50, **options))
        return measure(scope, HOMOLOGY), scope.notes

    values, notes = found()
    assert notes == dict.fromkeys(HOMOLOGY, "homology of 50 of 100 neurons")
    assert values == found()[0]
    assert values != found(seed=1)[0]
    assert set(found(homology_radius=0.9)[1].values()) == {
        "homology of 50 of 100 neurons, distances up to 0.9"
    }


def test_a_bound_that_bounds_nothing_is_not_noted():
    scope = network_of(activations(), settings=GraphSettings(homology_max_nodes=100, homology_radius=1.0))
    measure(scope, HOMOLOGY)
    assert scope.notes == {}
