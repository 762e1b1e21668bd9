import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_networks import activations

from fnet_callbacks import functional as F
from fnet_callbacks.errors import FnetError
from fnet_callbacks.functional.correlation import live_block
from fnet_callbacks.metrics import RunningCorrelation, select_on_device

OPTIONS = [
    {"method": "mst"},
    {"method": "mst", "density": 0.0},
    {"method": "mst", "density": 0.3},
    {"method": "mst", "density": 1.0},
    {"method": "density", "density": 0.0},
    {"method": "density", "density": 0.05},
    {"method": "density", "density": 0.6},
    {"method": "density", "density": 1.0},
    {"method": "threshold", "threshold": 0.0},
    {"method": "threshold", "threshold": 0.4},
    {"method": "threshold", "threshold": 1.0},
]


def rounded(n_units):
    """Few different weights, both zeros among them: nearly all pairs are in a tie."""
    return np.round(F.correlation_matrix(activations(n_units)), 1)


def with_copies(n_units):
    """Every neuron three times, once upside down: |r| is 1, or next to it, in a third of the nodes' pairs."""
    values = activations(-(-n_units // 3))
    return F.correlation_matrix(np.concatenate((values, values, -values), axis=1)[:, :n_units])


def with_dead(n_units):
    correlation = rounded(n_units)
    dead = np.random.default_rng(n_units).random(n_units) < 0.3
    correlation[dead] = correlation[:, dead] = np.nan
    return correlation


MATRICES = {
    "distinct": lambda n: F.correlation_matrix(activations(n)),
    "rounded": rounded,
    "copies": with_copies,
    "dead": with_dead,
    "all equal": lambda n: np.full((n, n), 0.5) + 0.5 * np.eye(n),
    "all negative": lambda n: np.full((n, n), -0.25) + 1.25 * np.eye(n),
    "unrelated": np.eye,
    "all dead": lambda n: np.full((n, n), np.nan),
}


def expected_of(correlation, sign="absolute", **options):
    """What the functions of NumPy arrays say, one by one."""
    block = live_block(correlation)
    tree = F.spanning_tree(block, sign=sign)
    graph = F.graph_from_correlation(block, sign=sign, **options)
    return F.Selection(
        n_neurons=len(correlation),
        nodes=np.flatnonzero(F.live_units(correlation)),
        tree=tree,
        tree_weights=np.abs(block[tree[:, 0], tree[:, 1]]),
        edges=graph.edges,
        edge_weights=np.abs(block[graph.edges[:, 0], graph.edges[:, 1]]),
        scale=F.graph_scale(block, graph, tree if options.get("method", "mst") == "mst" else None),
        mean_abs_correlation=F.mean_abs_correlation(correlation),
        effective_rank=F.effective_rank(correlation),
        weight_counts=weight_counts(block, sign),
    )


def weight_counts(block, sign):
    weights = block[np.triu_indices(len(block), k=1)]
    weights = np.abs(weights) if sign == "absolute" else weights[weights > 0]
    return np.bincount((np.minimum(weights, 1.0) * 4095).astype(np.int64), minlength=4096)


def assert_same(selection, expected):
    for name in ("nodes", "tree", "tree_weights", "edges", "edge_weights", "weight_counts"):
        array, wanted = getattr(selection, name), getattr(expected, name)
        np.testing.assert_array_equal(array, wanted, err_msg=name, strict=True)
    assert (selection.n_neurons, selection.scale) == (expected.n_neurons, expected.scale)
    for name in ("mean_abs_correlation", "effective_rank"):
        np.testing.assert_allclose(
            getattr(selection, name), getattr(expected, name), rtol=1e-12, err_msg=name
        )


@pytest.mark.parametrize("sign", ["absolute", "positive"])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("n_units", [0, 1, 2, 3, 65, 200])
def test_is_what_the_functions_of_arrays_say(n_units, matrix, sign):
    correlation = MATRICES[matrix](n_units)
    for options in OPTIONS:
        selection = select_on_device(torch.from_numpy(correlation), F.GraphRule(sign=sign, **options))
        assert_same(selection, expected_of(correlation, sign, **options))


@st.composite
def tied_correlations(draw):
    """Symmetric matrices of a few values, some units dead."""
    n_units = draw(st.integers(0, 10))
    values = draw(st.lists(st.integers(-3, 3), min_size=n_units**2, max_size=n_units**2))
    upper = np.triu(np.reshape(values, (n_units, n_units)) / 4, 1)
    correlation = upper + upper.T + np.eye(n_units)
    dead = draw(st.lists(st.booleans(), min_size=n_units, max_size=n_units))
    correlation[dead] = correlation[:, dead] = np.nan
    return correlation


@settings(deadline=None, max_examples=150)
@given(
    tied_correlations(),
    st.sampled_from(["mst", "density", "threshold"]),
    st.sampled_from(["absolute", "positive"]),
    st.floats(0, 1),
)
def test_ties_go_to_the_same_edges(correlation, method, sign, share):
    options = {"method": method, "threshold" if method == "threshold" else "density": share}
    selection = select_on_device(torch.from_numpy(correlation), F.GraphRule(sign=sign, **options))
    assert_same(selection, expected_of(correlation, sign, **options))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 150), st.integers(1, 3))
def test_tree_is_the_same_whatever_the_order_of_the_neurons(seed, n_units, digits):
    correlation = np.round(F.correlation_matrix(activations(n_units, seed=seed)), digits)
    order = np.random.default_rng(seed).permutation(n_units)
    correlation = correlation[np.ix_(order, order)]
    selection = select_on_device(torch.from_numpy(correlation))
    np.testing.assert_array_equal(selection.tree, F.spanning_tree(correlation))


def test_a_chain_whose_links_weaken_is_one_tree():
    # Each neuron would join the one before it: the longest way that names of components can be passed on.
    n_units = 130
    correlation = np.eye(n_units)
    links = np.arange(n_units - 1)
    correlation[links, links + 1] = correlation[links + 1, links] = np.linspace(0.9, 0.1, n_units - 1)
    tree = select_on_device(torch.from_numpy(correlation)).tree
    np.testing.assert_array_equal(tree, np.stack((links, links + 1), axis=1))


@pytest.mark.parametrize("sign", ["absolute", "positive"])
def test_equals_select_from_the_sums_of_a_metric_to_the_selection(sign):
    values = torch.from_numpy(activations(90, 80, n_dead=7))
    metric = RunningCorrelation(90)
    for batch in values.split(30):
        metric.update(batch)
    with torch.inference_mode():
        selection = select_on_device(metric.correlation(), F.GraphRule(sign=sign))
    assert len(selection.nodes) == 83
    assert_same(selection, F.select(metric.compute(), sign=sign))


def test_a_layers_block_is_a_network_of_its_own():
    correlation = with_dead(120)
    whole = torch.from_numpy(correlation)
    for own in (slice(0, 50), slice(50, 120)):
        for sign in ("absolute", "positive"):
            selection = select_on_device(whole[own, own], F.GraphRule(sign=sign))
            assert_same(selection, expected_of(correlation[own, own].copy(), sign))


def test_layout_does_not_matter_and_the_matrix_is_left_as_it_was():
    correlation = rounded(40)
    wide = torch.zeros(80, 80, dtype=torch.float64)
    wide[::2, ::2] = torch.from_numpy(correlation)
    for same in (wide[::2, ::2], torch.from_numpy(correlation).T):
        for sign in ("absolute", "positive"):
            assert_same(select_on_device(same, F.GraphRule(sign=sign)), expected_of(correlation, sign))
        np.testing.assert_array_equal(same.numpy(), correlation)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("sign", ["absolute", "positive"])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("n_units", [1, 65, 200])
def test_an_accelerator_selects_the_same(n_units, matrix, sign):
    correlation = MATRICES[matrix](n_units)
    on_device = torch.from_numpy(correlation).cuda()
    for options in OPTIONS:
        selection = select_on_device(on_device, F.GraphRule(sign=sign, **options))
        assert_same(selection, expected_of(correlation, sign, **options))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "knn"}, "method"),
        ({"sign": "negative"}, "sign"),
        ({"density": 1.5}, "density"),
        ({"method": "threshold"}, "threshold"),
        ({"threshold": 0.5}, "threshold"),
    ],
)
@pytest.mark.parametrize("n_units", [0, 5])
def test_wrong_options_are_refused(n_units, options, message):
    with pytest.raises(FnetError, match=message):
        select_on_device(torch.eye(n_units, dtype=torch.float64), F.GraphRule(**options))


def changed(row, column, value):
    correlation = torch.from_numpy(rounded(5))
    correlation[row, column] = value
    return correlation


@pytest.mark.parametrize(
    "correlation, message",
    [
        (torch.zeros(2, 3, dtype=torch.float64), r"square.*\(2, 3\)"),
        (torch.zeros(2, dtype=torch.float64), r"square.*\(2,\)"),
        (torch.eye(2), "float64; got torch.float32"),
        (changed(1, 3, 0.05), "symmetric"),
        (changed([1, 3], [3, 1], torch.nan), "finite"),
        (changed([1, 3], [3, 1], torch.inf), "finite"),
        (changed([1, 3], [3, 1], 1.5), r"in \[-1, 1\], got entries up to 1.5"),
        (4 * torch.from_numpy(rounded(5)), "diagonal of 1.*covariance"),
        (torch.from_numpy(rounded(5)) - torch.eye(5), "diagonal of 1.*got 0 at 0"),
    ],
)
def test_wrong_matrices_are_refused(correlation, message):
    with pytest.raises(FnetError, match=f"correlation (must|holds) .*{message}"):
        select_on_device(correlation)
