"""Arrays of a snapshot: small in the file, and as they were once they are read."""

from pathlib import Path

import numpy as np
import pytest
from planted_networks import activations

from fnet_callbacks import functional as F
from fnet_callbacks.compare.communities import story
from fnet_callbacks.compare.run import Run
from fnet_callbacks.compare.topology import attack_curves, run_distances
from fnet_callbacks.network import Activity, GraphSettings, Network
from fnet_callbacks.quantities.networks import measure, names_of
from fnet_callbacks.record import Snapshot, SnapshotStore, read_record

N_CLASSES = 10


def scope(n_neurons: int, n_samples: int = 200) -> Network:
    """A network of neurons that are active for some classes more than for others."""
    values = activations(n_neurons, n_samples, n_dead=n_neurons // 20)
    labels = np.arange(n_samples) % N_CLASSES
    shares = F.class_active_share(values, labels, N_CLASSES)
    activity = Activity(F.active_share(values), shares, values, labels)
    settings = GraphSettings(nulls=2)
    return Network(
        F.correlation_matrix(values), activity, layers=np.arange(n_neurons) // 64, settings=settings
    )


def written(folder: Path, arrays: dict[str, np.ndarray], step: int = 0) -> dict[str, np.ndarray]:
    store = SnapshotStore(folder)
    store.start({})
    store.append(Snapshot(step, {}, arrays=arrays))
    return read_record(folder).arrays(step)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([0, 255]), np.uint8),
        (np.array([0, 256]), np.uint16),
        (np.array([[0, 65536]]), np.uint32),
        (np.array([-1, 127]), np.int8),
        (np.array([-1, 128]), np.int16),
        (np.array([-1, 2**31 - 1]), np.int32),
        (np.array([-1, 2**31]), np.int64),
        (np.array([-1, 2**62]), np.int64),
        (np.array([-129]), np.int16),
        (np.zeros((0, 2), np.int32), np.int32),
        (np.array(7), np.uint8),
    ],
)
def test_integers_are_written_in_the_smallest_type_and_read_in_the_widest(tmp_path, array, dtype):
    found = written(tmp_path, {"x": array})["x"]
    np.testing.assert_array_equal(found, array.astype(np.int64), strict=True)
    with np.load(tmp_path / "snapshot_0.npz") as own:
        assert own["x"].dtype == dtype


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, bool])
def test_other_numbers_are_read_as_they_were(tmp_path, dtype):
    array = np.random.default_rng(0).normal(size=(5, 4)).astype(dtype)
    np.testing.assert_array_equal(written(tmp_path, {"x": array})["x"], array, strict=True)


def test_differences_of_what_was_read_are_what_they_seem(tmp_path):
    edges = written(tmp_path, {"fnet.edges": np.array([[0, 3], [1, 2]])})["fnet.edges"]
    np.testing.assert_array_equal(edges[:, 0] - edges[:, 1], [-3, -1])
    np.testing.assert_array_equal(-edges[0], [0, -3])


def test_a_network_is_read_as_it_was_measured(tmp_path):
    whole = scope(100)
    measure(whole, names_of("standard"))
    arrays = whole.arrays()
    found = written(tmp_path, {f"fnet.{name}": array for name, array in arrays.items()})
    assert found.keys() == {f"fnet.{name}" for name in arrays}
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[f"fnet.{name}"], array)
    weights = np.abs(whole.correlation[tuple(whole.graph.edges.T)])
    np.testing.assert_allclose(found["fnet.weights"] / 255, weights, atol=0.5 / 255 + 1e-12)
    shares = whole.activity.class_active_share
    assert shares is not None
    np.testing.assert_allclose(found["fnet.class_activity"], shares[:, whole.nodes], atol=2**-11)
    np.testing.assert_array_equal(found["fnet.preferred_class"], F.preferred_class(shares[:, whole.nodes]))
    assert found["fnet.class_activity"].dtype == np.float16


def test_a_neuron_that_no_class_activates_prefers_none(tmp_path):
    values = -np.abs(activations(20, 60))
    labels = np.arange(60) % 3
    activity = Activity(F.active_share(values), F.class_active_share(values, labels, 3), values, labels)
    arrays = Network(F.correlation_matrix(values), activity).arrays()
    assert set(written(tmp_path, arrays)["preferred_class"]) == {-1}


def test_without_labels_nothing_is_said_of_classes():
    values = activations(20, 60)
    arrays = Network(F.correlation_matrix(values), Activity(F.active_share(values))).arrays()
    assert not {"preferred_class", "class_activity", "selectivity_entropy"} & arrays.keys()


def test_a_snapshot_of_1024_neurons_is_smaller_than_290_kilobytes(tmp_path):
    whole = scope(1024, 1024)
    measure(whole, ["modularity", "class_affinity", "histogram_entropy", "loops"])
    arrays = {"layer": np.arange(1024)[whole.nodes] // 64, **whole.arrays()}
    written(tmp_path, {f"fnet.{name}": array for name, array in arrays.items()})
    assert len(arrays["edges"]) > 20_000
    assert len(arrays["diagram_1"]) > 1000
    assert (tmp_path / "snapshot_0.npz").stat().st_size < 290_000


def test_readers_of_a_record_compute_what_they_compute_of_the_network_itself(tmp_path):
    """What counts down from integers of the record would be wrong where they have no sign."""
    runs, scopes = [], []
    for seed in range(2):
        whole = scope(300 + 40 * seed)
        measure(whole, ["modularity", "loops"])
        arrays = {"layer": np.zeros(len(whole.nodes), np.int64), **whole.arrays()}
        written(tmp_path / str(seed), {f"fnet.{name}": array for name, array in arrays.items()})
        runs.append(Run(str(seed), str(seed), str(seed), {}, read_record(tmp_path / str(seed))))
        scopes.append(whole)
    curves = attack_curves(runs, "fnet")["degree", "giant_component"]
    for run, whole in zip(runs, scopes, strict=True):
        order = F.removal_order(whole.graph, "degree")
        expected = F.attack_curve(whole.graph, order=order, measure="giant_component")
        np.testing.assert_array_equal(curves[run.name].remaining, expected.remaining)
        own = story(run, "fnet")
        assert sum(community.size for community in own.last) <= len(whole.nodes)
        participation = F.participation_coefficient(whole.graph, whole.partition)
        for community in own.last:
            members = np.flatnonzero(own.names[whole.nodes, -1] == community.name)
            assert community.participation == pytest.approx(participation[members].mean())
    assert {name for each in run_distances(runs, "fnet", []) for name in each.distances}
