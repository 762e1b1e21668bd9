"""Attacks and accuracy where numbers run out."""

import math

import torch
from torch import nn

from fnet_callbacks.attacks import correct_predictions, fgsm


def test_a_sample_without_a_number_is_not_classified():
    logits = torch.tensor([[math.nan, 1.0], [2.0, 1.0], [math.nan, math.nan]])
    assert correct_predictions(logits, torch.tensor([0, 0, 0])).tolist() == [False, True, False]
    assert correct_predictions(torch.tensor([math.nan]), torch.tensor([1])).tolist() == [False]


def test_a_model_in_half_precision_that_is_sure_is_attacked():
    torch.manual_seed(0)
    weight = torch.randn(2, 6)
    inputs = torch.rand(8, 6)
    labels = (inputs @ weight.T).argmax(1)
    offset = nn.functional.one_hot(labels, 2) * 20.0  # a margin at which half precision has no gradient
    found = []
    for dtype in (torch.float64, torch.float16):

        def model(x: torch.Tensor, dtype: torch.dtype = dtype) -> torch.Tensor:
            return (x.to(dtype) @ weight.T.to(dtype)).float() + offset.float()

        found.append(fgsm(model, inputs, labels, epsilon=0.1, bounds=(0.0, 1.0)))
    assert torch.equal(*found)
    assert (found[0] != inputs).all()
