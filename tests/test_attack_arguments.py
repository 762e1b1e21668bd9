"""Attacks refuse wrong options and wrong batches, and name what is wrong."""

import math

import pytest
import torch
from torch import nn

from fnet_callbacks.attacks import fgsm, pgd, robust_accuracy
from fnet_callbacks.errors import FnetError

UNIT = (0.0, 1.0)
MODEL = nn.Linear(2, 2, bias=False)
MODEL.weight.data = torch.tensor([[3.0, 0.0], [0.0, 4.0]])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": -0.1}, "epsilon"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"bounds": (1.0, 0.0)}, "bounds"),
        ({"bounds": (0.5, 0.5)}, "bounds"),
        ({"bounds": (0.3, 1.0)}, r"bounds .*\[0\.25, 0\.5\]"),
        ({"steps": 0}, "steps"),
        ({"restarts": 0}, "restarts"),
        ({"restarts": 2, "random_start": False}, "random_start"),
        ({"step_size": 0.0}, "step_size"),
        ({"norm": "l1"}, "norm"),
        ({"normalize": ([0.5] * 3, [0.5] * 3)}, "normalize"),
        ({"normalize": (0.5, 0.0)}, "normalize"),
    ],
)
def test_wrong_options_name_the_argument(options, message):
    inputs = torch.tensor([[0.25, 0.5]])
    with pytest.raises(FnetError, match=message):
        pgd(MODEL, inputs, torch.tensor([0]), **{"epsilon": 0.1, "bounds": UNIT, **options})


@pytest.mark.parametrize(
    "inputs, labels, message",
    [
        (torch.tensor([[1, 2]]), torch.tensor([0]), "inputs must be floating"),
        (torch.tensor([[0.1, math.nan]]), torch.tensor([0]), "bounds"),
        (torch.tensor([[0.1, math.inf]]), torch.tensor([0]), "bounds"),
        (torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), "inputs"),
        (torch.tensor([[0.1, 0.2]]), torch.tensor([0, 1]), "labels"),
        (torch.tensor([[0.1, 0.2]]), torch.tensor([[0, 1]]), "labels"),
    ],
)
def test_wrong_batches_are_refused(inputs, labels, message):
    with pytest.raises(FnetError, match=message):
        fgsm(MODEL, inputs, labels, epsilon=0.1, bounds=UNIT)


def test_normalised_inputs_without_normalize_are_told_so():
    inputs = torch.tensor([[-2.1, 0.4], [0.0, 2.6]])
    with pytest.raises(FnetError, match="pass normalize"):
        fgsm(MODEL, inputs, torch.zeros(2).long(), epsilon=0.1, bounds=UNIT)


def test_unknown_attack_and_unclassifiable_logits_are_refused():
    batch = (torch.full((2, 2), 0.5), torch.tensor([0, 1]))
    with pytest.raises(FnetError, match="attack must be"):
        robust_accuracy(MODEL, [batch], attack="cw", epsilon=0.1, bounds=UNIT)
    with pytest.raises(FnetError, match="logits must be"):
        robust_accuracy(lambda x: MODEL(x)[:, None], [batch], attack="fgsm", epsilon=0.1, bounds=UNIT)
