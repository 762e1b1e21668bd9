"""Maps and measures of codes take an odd argument or refuse it by name."""

import numpy as np
import pytest
import torch
from odd_arguments import raw_errors

from fnet_callbacks.codes import measures
from fnet_callbacks.codes.layer import checked_grid, default_grid, layer_codes
from fnet_callbacks.codes.propagation import noise_like, shift
from fnet_callbacks.codes.som import default_radii, train_map
from fnet_callbacks.errors import FnetError

CODES = torch.from_numpy(np.random.default_rng(0).normal(size=(30, 4))).float()
MAP = train_map(CODES, (3, 2))
LAYER = layer_codes("relu", CODES, (3, 2))
UNITS = np.arange(30) % 6
PLACES = np.stack(np.divmod(UNITS, 2), axis=1)
INPUTS = torch.full((3, 2), 0.5)


@pytest.mark.parametrize(
    "function, arguments",
    [
        (train_map, {"codes": CODES, "grid": (3, 2), "radii": np.array([1.0, 0.5]), "initial": MAP}),
        (default_radii, {"grid": (3, 2), "passes": 4}),
        (MAP.nearest, {"codes": CODES, "k": 2}),
        (MAP.quantization_error, {"codes": CODES}),
        (MAP.topographic_error, {"codes": CODES}),
        (measures.code_entropy, {"units": UNITS, "n_units": 6}),
        (measures.normalized_mutual_information, {"units": UNITS, "classes": UNITS % 2}),
        (measures.compactness, {"places": PLACES, "classes": UNITS % 2, "seed": 0}),
        (measures.participation_ratio, {"codes": CODES}),
        (measures.map_distance, {"a": PLACES, "b": PLACES[::-1]}),
        (layer_codes, {"name": "relu", "values": CODES, "grid": (3, 2), "initial": MAP}),
        (LAYER.standardized, {"values": CODES}),
        (default_grid, {"n_samples": 30}),
        (checked_grid, {"grid": (3, 2), "n_samples": 30}),
        (shift, {"layers": [LAYER], "values": [CODES]}),
        (
            noise_like,
            {"inputs": INPUTS, "attacked": INPUTS + 0.1, "epsilon": 0.1, "bounds": (0.0, 1.0), "seed": 0}
            | {"normalize": None},
        ),
    ],
)
def test_an_odd_argument_is_taken_or_refused_by_name(function, arguments):
    assert raw_errors(function, arguments) == []


def test_numpys_integers_are_sides_of_a_grid():
    found = train_map(CODES, np.array([3, 2]))  # type: ignore[arg-type]
    assert found.grid == (3, 2)
    torch.testing.assert_close(found.weights, MAP.weights, rtol=0, atol=0)
    assert checked_grid((np.int64(3), np.int64(2)), np.int64(30)) == (3, 2)
    with pytest.raises(FnetError, match=r"`grid=\(True, 2\)` should be rows and columns"):
        train_map(CODES, (True, 2))


def test_radii_are_finite_and_above_zero():
    for wrong in ([np.nan], [np.inf], [1.0, -1.0], [], "ab"):
        with pytest.raises(FnetError, match="`radii"):
            train_map(CODES, (3, 2), radii=wrong)


def test_units_beyond_the_map_have_no_entropy():
    with pytest.raises(FnetError, match="`units` should be from 0 to 5, got 0 to 6"):
        measures.code_entropy(UNITS + (UNITS == 5), 6)
