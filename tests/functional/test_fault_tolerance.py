import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.fault_tolerance import attack_curve, fault_tolerance
from fnet_callbacks.functional.graph import Graph


def from_networkx(graph):
    return Graph.from_edges(len(graph), np.array(graph.edges, int).reshape(-1, 2))


def removals(graph, order, seed):
    """The nodes in the order they go, step by step on a NetworkX graph."""
    if order == "random":
        return np.random.default_rng(seed).permutation(len(graph)).tolist()
    left, gone = graph.copy(), []
    while left and order == "betweenness":
        central = nx.betweenness_centrality(left, normalized=False)
        gone.append(max(left, key=lambda node: (round(central[node], 8), -node)))
        left.remove_node(gone[-1])
    while left:
        gone.append(max(left, key=lambda node: (left.degree(node), -node)))
        left.remove_node(gone[-1])
    return gone


def remaining(graph, measure):
    if measure == "giant_component":
        return max((len(part) for part in nx.connected_components(graph)), default=0)
    return nx.global_efficiency(graph) * len(graph) * (len(graph) - 1)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10_000),
    st.integers(2, 25),
    st.floats(0.1, 1),
    st.sampled_from(["random", "degree", "betweenness"]),
    st.sampled_from(["giant_component", "efficiency"]),
)
def test_curve_equals_removal_one_by_one(seed, n_nodes, density, order, measure):
    graph = nx.gnp_random_graph(n_nodes, density, seed=seed)
    graph.add_edge(0, 1)
    gone = removals(graph, order, seed)
    curve = attack_curve(from_networkx(graph), order=order, measure=measure, points=n_nodes, seed=seed)
    left = [graph.subgraph(set(graph) - set(gone[:count])) for count in range(n_nodes + 1)]
    expected = [remaining(part, measure) for part in left]
    np.testing.assert_allclose(curve.removed, np.arange(n_nodes + 1) / n_nodes)
    np.testing.assert_allclose(curve.remaining, np.array(expected) / expected[0], atol=1e-12)


def test_star_falls_with_its_hub():
    star = from_networkx(nx.star_graph(9))
    curve = attack_curve(star, order="degree", points=10)
    assert curve.remaining.tolist() == [1.0] + [0.1] * 9 + [0.0]
    assert fault_tolerance(star, order="degree", points=10) == pytest.approx((0.5 + 9 * 0.1) / 10)
    assert fault_tolerance(star, order="random", points=10) > fault_tolerance(star, order="degree", points=10)


@pytest.mark.parametrize("order", ["random", "degree"])
def test_complete_graph_loses_only_what_is_removed(order):
    complete = from_networkx(nx.complete_graph(40))
    curve = attack_curve(complete, order=order)
    assert len(curve.removed) == 21
    np.testing.assert_allclose(curve.remaining, 1 - curve.removed)
    assert fault_tolerance(complete, order=order) == pytest.approx(0.5)
    efficiency = attack_curve(complete, order=order, measure="efficiency").remaining
    left = 40 * (1 - curve.removed)
    np.testing.assert_allclose(efficiency, np.maximum(left * (left - 1), 0) / (40 * 39))


def test_random_order_is_that_of_the_seed():
    graph = from_networkx(nx.barabasi_albert_graph(50, 2, seed=0))
    assert fault_tolerance(graph, seed=1) == fault_tolerance(graph, seed=1)
    assert fault_tolerance(graph, seed=1) != fault_tolerance(graph, seed=2)


def test_degenerate_graphs():
    assert np.isnan(fault_tolerance(from_networkx(nx.empty_graph(0))))
    assert fault_tolerance(from_networkx(nx.empty_graph(1))) == 0.5
    edgeless = from_networkx(nx.empty_graph(4))
    assert attack_curve(edgeless).remaining.tolist() == [1, 1, 1, 1, 0]
    assert np.isnan(fault_tolerance(edgeless, measure="efficiency"))


@pytest.mark.parametrize(
    "options", [{"order": "closeness"}, {"measure": "diameter"}, {"points": 0}, {"seed": -1}]
)
def test_wrong_options_are_refused(options):
    with pytest.raises(FnetError, match=next(iter(options))):
        attack_curve(from_networkx(nx.cycle_graph(5)), **options)
