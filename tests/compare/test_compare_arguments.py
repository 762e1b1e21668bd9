"""Distances and effects take an odd argument or refuse it by name."""

import numpy as np
import pytest
from odd_arguments import raw_errors

from fnet_callbacks import functional as F
from fnet_callbacks.compare import distances, effects
from fnet_callbacks.errors import FnetError

ROWS = np.random.default_rng(0).normal(size=(40, 12))
SELECTION = F.select(F.correlation_matrix(ROWS))
LOOPS = np.array([[0.1, 0.5], [0.3, 0.4]])
OURS, THEIRS = np.array([1.0, 2.0, 4.0]), np.array([2.0, 3.0, 5.0])


@pytest.mark.parametrize(
    "function, arguments",
    [
        (distances.wasserstein, {"a": LOOPS, "b": LOOPS, "order": 2.0}),
        (distances.bottleneck, {"a": LOOPS, "b": LOOPS}),
        (distances.betti_distance, {"a": LOOPS, "b": LOOPS}),
        (
            distances.graph_filtration_distance,
            {"a": (SELECTION.tree_weights, SELECTION.weight_counts)}
            | {"b": (SELECTION.tree_weights, SELECTION.weight_counts)},
        ),
        (distances.measure_distance, {"values": ROWS}),
        (effects.effect, {"treated": OURS, "baseline": THEIRS}),
        (effects.mean_interval, {"values": OURS, "seed": 0}),
        (effects.mean_band, {"values": ROWS}),
        (effects.hedges_g, {"treated": OURS, "baseline": THEIRS}),
        (effects.permutation_p, {"treated": OURS, "baseline": THEIRS, "seed": 0}),
        (effects.smallest_p, {"n_treated": 3, "n_baseline": 4}),
        (effects.signs_p, {"values": OURS}),
        (effects.false_discovery_rate, {"p": np.array([0.1, 0.9])}),
        (effects.rank_correlation, {"x": np.arange(5.0), "y": np.arange(5.0), "tested": False}),
        (effects.rank_correlation_interval, {"rho": 0.5, "n": 10}),
    ],
)
def test_an_odd_argument_is_taken_or_refused_by_name(function, arguments):
    assert raw_errors(function, arguments) == []


@pytest.mark.parametrize(
    "filtration",
    [
        (SELECTION.tree_weights,),
        (SELECTION.tree_weights + 1, SELECTION.weight_counts),
        (SELECTION.tree_weights * np.nan, SELECTION.weight_counts),
        (SELECTION.tree_weights, -SELECTION.weight_counts),
        (SELECTION.tree_weights, SELECTION.weight_counts + 1),
        (SELECTION.tree_weights, SELECTION.weight_counts + 0.5),
        (SELECTION.tree_weights, SELECTION.weight_counts[:0]),
        (SELECTION.tree_weights[None], SELECTION.weight_counts),
        (["a", "b"], SELECTION.weight_counts),
    ],
)
def test_what_is_no_filtration_is_refused(filtration):
    own = SELECTION.tree_weights, SELECTION.weight_counts
    for pair in ((filtration, own), (own, filtration)):
        with pytest.raises(FnetError, match=r"^(a|b)(\[[01]\])? must|bins; they should be the same"):
            distances.graph_filtration_distance(*pair)


def test_of_what_is_no_probability_no_rate_is_found():
    with pytest.raises(FnetError, match=r"p must be in \[0, 1\], got -0.1 to 0.5"):
        effects.false_discovery_rate([0.5, -0.1, np.nan])
