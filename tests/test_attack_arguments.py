"""Attacks refuse wrong options and wrong batches, and name what is wrong."""

import math

import numpy as np
import pytest
import torch
from odd_arguments import raw_errors
from torch import nn

from fnet_callbacks.attacks import (
    correct_predictions,
    cross_entropy,
    fgsm,
    pgd,
    predicted_classes,
    robust_accuracy,
)
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


LOGITS = torch.tensor([[0.1, 2.0], [3.0, 1.0], [0.0, 0.5]])
CLASSES = torch.tensor([1, 0, 1])
INPUTS = torch.tensor([[0.25, 0.5], [0.1, 0.9], [0.6, 0.3]])
REACH = {"epsilon": 0.1, "bounds": UNIT, "normalize": None, "norm": "linf"}
STEPS = {"steps": 2, "step_size": 0.05, "random_start": True, "restarts": 1, "seed": 0}


def flat(inputs):
    """A model that takes what it gets."""
    return torch.stack([inputs.flatten(1).sum(1), inputs.flatten(1).prod(1)], dim=1)


@pytest.mark.parametrize(
    "function, arguments",
    [
        (cross_entropy, {"logits": LOGITS, "labels": CLASSES}),
        (correct_predictions, {"logits": LOGITS, "labels": CLASSES}),
        (predicted_classes, {"logits": LOGITS}),
        (fgsm, {"model": flat, "inputs": INPUTS, "labels": CLASSES, **REACH}),
        (pgd, {"model": flat, "inputs": INPUTS, "labels": CLASSES, **REACH, **STEPS}),
        (
            robust_accuracy,
            {"model": flat, "batches": [(INPUTS, CLASSES)], "attack": "pgd", **REACH, **STEPS},
        ),
    ],
)
def test_an_odd_argument_is_taken_or_refused_by_name(function, arguments):
    assert raw_errors(function, arguments) == []


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.parametrize("missing", [-1, -100])
def test_a_label_below_zero_is_refused_and_not_counted_as_wrong(attack, missing):
    labels = torch.tensor([1, missing, 0])
    batches = [(INPUTS, CLASSES), (INPUTS, labels)]
    for loss in (cross_entropy, nn.CrossEntropyLoss(reduction="none")):
        with pytest.raises(
            FnetError, match=f"labels must be 0 or more, got {missing}: leave out the samples"
        ):
            robust_accuracy(flat, batches, attack=attack, epsilon=0.1, bounds=UNIT, loss=loss)
    with pytest.raises(FnetError, match="labels must be 0 or more"):
        correct_predictions(LOGITS, labels)
    kept = labels >= 0
    found = robust_accuracy(flat, [(INPUTS[kept], labels[kept])], attack=attack, epsilon=0.1, bounds=UNIT)
    assert found.total == 2


def test_labels_of_a_loss_of_ones_own_may_be_below_zero():
    def hinge(logits, labels):
        return torch.relu(1 - labels * logits[:, 0])

    found = fgsm(MODEL, INPUTS, torch.tensor([-1, 1, -1]), epsilon=0.1, bounds=UNIT, loss=hinge)
    assert (found - INPUTS).abs().amax() == pytest.approx(0.1)


def test_labels_are_whole_numbers_of_any_type():
    as_floats = correct_predictions(LOGITS, CLASSES.float())
    torch.testing.assert_close(as_floats, correct_predictions(LOGITS, CLASSES))
    with pytest.raises(FnetError, match="labels must be whole numbers"):
        correct_predictions(LOGITS, torch.tensor([0.2, 0.0, 1.0]))


def test_scalars_of_numpy_and_torch_are_taken():
    options = {"epsilon": 0.125, "bounds": UNIT, "steps": 3, "seed": 4, "step_size": 0.25}
    others = {
        "epsilon": np.float32(0.125), "bounds": np.array([0.0, 1.0]), "steps": np.int64(3), "seed": torch.tensor(4),
        "step_size": torch.tensor(0.25),
    }  # fmt: skip
    expected = pgd(MODEL, INPUTS, CLASSES, **options)
    torch.testing.assert_close(pgd(MODEL, INPUTS, CLASSES, **others), expected, rtol=0, atol=0)
    found = robust_accuracy(MODEL, [(INPUTS, CLASSES)], attack="pgd", **others)
    assert found == robust_accuracy(MODEL, [(INPUTS, CLASSES)], attack="pgd", **options)
