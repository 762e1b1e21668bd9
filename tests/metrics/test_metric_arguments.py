"""Metrics take an odd argument or refuse it by name, and count nothing of what they refuse."""

import numpy as np
import pytest
import torch
from odd_arguments import raw_errors

from fnet_callbacks import functional as F
from fnet_callbacks.errors import FnetError
from fnet_callbacks.metrics import ActivationStatistics, RunningCorrelation, select_on_device

ROWS = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 4)))
CORRELATION = torch.from_numpy(F.correlation_matrix(ROWS.numpy()))


def correlation_of(activations):
    metric = RunningCorrelation(4)
    metric.update(activations)
    return metric.correlation()


def statistics_of(activations, labels):
    metric = ActivationStatistics(4, 3, keep=3)
    metric.update(activations, labels)
    return metric.compute()


@pytest.mark.parametrize(
    "function, arguments",
    [
        (RunningCorrelation, {"num_units": 3}),
        (correlation_of, {"activations": ROWS}),
        (ActivationStatistics, {"num_units": 3, "num_classes": 2, "keep": 2}),
        (statistics_of, {"activations": ROWS, "labels": torch.arange(20) % 3}),
        (select_on_device, {"correlation": CORRELATION, "rule": F.GraphRule(density=0.5, sign="positive")}),
        (F.GraphRule, {"method": "mst", "density": 0.5, "threshold": None, "sign": "positive"}),
    ],
)
def test_an_odd_argument_is_taken_or_refused_by_name(function, arguments):
    assert raw_errors(function, arguments) == []


def test_numpys_integers_are_counts_and_booleans_are_none():
    assert RunningCorrelation(np.int64(3)).num_units == 3
    with pytest.raises(FnetError, match="num_units must be an integer of 0 or more, got True"):
        RunningCorrelation(True)
    with pytest.raises(FnetError, match="activations must be a tensor, got ndarray of shape"):
        RunningCorrelation(4).update(ROWS.numpy())  # type: ignore[arg-type]


def test_numpys_scalars_are_densities():
    selection = select_on_device(CORRELATION, F.GraphRule(density=np.float32(0.5)))
    np.testing.assert_array_equal(
        selection.edges, select_on_device(CORRELATION, F.GraphRule(density=0.5)).edges
    )
