import numpy as np
import pytest
from gudhi.sklearn.rips_persistence import RipsPersistence
from hypothesis import given, settings
from hypothesis import strategies as st

from fnet_callbacks.functional.rips import rips_diagrams


def by_gudhi(distance, threshold=np.inf):
    """gudhi over Z/2, without what has no length, sorted by birth, then death."""
    rips = RipsPersistence(
        homology_dimensions=[0, 1],
        threshold=threshold,
        input_type="full distance matrix",
        num_collapses=0,
        homology_coeff_field=2,
    )
    diagrams = [diagram[diagram[:, 1] > diagram[:, 0]] for diagram in rips.fit_transform([distance])[0]]
    return [diagram[np.lexsort((diagram[:, 1], diagram[:, 0]))] for diagram in diagrams]


def symmetric(values):
    upper = np.triu(values, 1)
    return upper + upper.T


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([np.inf, 0.9, 0.5, 0.2, 0.0]), st.booleans()
)
def test_equals_gudhi_to_the_bit_with_ties_and_thresholds(seed, n_nodes, threshold, ties):
    generator = np.random.default_rng(seed)
    values = (
        generator.integers(1, 6, (n_nodes, n_nodes)) / 5 if ties else generator.random((n_nodes, n_nodes))
    )
    distance = symmetric(values)
    for ours, theirs in zip(
        rips_diagrams(distance, threshold=threshold), by_gudhi(distance, threshold), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("samples, n_nodes", [(60, 150), (400, 250)])
def test_equals_gudhi_on_correlations(samples, n_nodes):
    generator = np.random.default_rng(0)
    hidden = generator.standard_normal((samples, 12)) @ generator.standard_normal((12, n_nodes))
    distance = 1 - np.abs(np.corrcoef(np.maximum(hidden, 0), rowvar=False))
    distance = symmetric(distance)
    for ours, theirs in zip(rips_diagrams(distance), by_gudhi(distance), strict=True):
        assert len(ours) > 50
        np.testing.assert_array_equal(ours, theirs)


def test_coefficients_are_in_z2():
    """The projective plane on six points has a loop over Z/2 that other fields do not see."""
    triangles = ["012", "023", "034", "045", "015", "124", "235", "134", "245", "135"]
    edges = {frozenset(pair) for t in triangles for pair in (t[:2], t[1:], t[0] + t[2])}
    assert len(edges) == 15  # every pair: so subdivide, a flag complex needs the barycentres
    cells = [frozenset(c) for c in "012345"] + sorted(edges, key=sorted) + [frozenset(t) for t in triangles]
    distance = np.array([[0.0 if a == b else 1.0 if a < b or b < a else 2.0 for b in cells] for a in cells])
    loops = rips_diagrams(distance)[1]
    assert loops.tolist() == [[1.0, 2.0]]


def test_circle_has_one_loop():
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    points = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    components, loops = rips_diagrams(distance)
    assert len(components) == 60
    assert np.isinf(components[:, 1]).sum() == 1
    assert loops == pytest.approx(np.array([[2 * np.sin(np.pi / 60), np.sqrt(3)]]))


@pytest.mark.parametrize(
    "n_nodes, components", [(0, []), (1, [[0.0, np.inf]]), (2, [[0.0, 1.0], [0.0, np.inf]])]
)
def test_few_points(n_nodes, components):
    distance = np.ones((n_nodes, n_nodes)) - np.eye(n_nodes)
    diagrams = rips_diagrams(distance)
    assert diagrams[0].tolist() == components
    assert diagrams[1].shape == (0, 2)


@pytest.mark.parametrize("n_nodes, samples", [(90, 60), (160, 1000)])
def test_equals_gudhi_where_many_loops_are_open_at_once(n_nodes, samples):
    """Of noise: more than fit into one word, and more edges in cocycles than there is room for at first."""
    values = np.random.default_rng(1).standard_normal((samples, n_nodes))
    distance = symmetric(1 - np.abs(np.corrcoef(values, rowvar=False)))
    for ours, theirs in zip(rips_diagrams(distance), by_gudhi(distance), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    births, deaths = rips_diagrams(distance)[1].T
    assert max(((births <= at) & (deaths > at)).sum() for at in births) > 64


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(4, 30), st.integers(2, 12))
def test_of_equal_lengths_any_order_gives_the_same(seed, n_nodes, steps):
    """Many loops open and close at one length, some of them with the same triangle's edge."""
    generator = np.random.default_rng(seed)
    distance = symmetric(generator.integers(1, steps + 1, (n_nodes, n_nodes)) / steps)
    order = generator.permutation(n_nodes)
    for ours, theirs in zip(
        rips_diagrams(distance), rips_diagrams(distance[np.ix_(order, order)]), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
