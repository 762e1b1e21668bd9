"""What a data set calls its classes."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from fnet_callbacks.capture.classes import class_names


class Named(Dataset):
    """Twelve items, and what else is given."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(2), index % 3


class Wrapped(Dataset):
    """Has its items from another."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset


class Failing(Named):
    @property
    def classes(self) -> list[str]:
        raise RuntimeError("not downloaded")


NAMES = ["cat", "dog", "3"]


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (Named(classes=["cat", "dog", 3]), NAMES),
        (Named(classes=("cat", "dog", "3")), NAMES),
        (Named(class_names=NAMES), NAMES),
        (Named(classes=np.array(NAMES)), NAMES),
        (Named(class_to_idx={"dog": 1, "3": 2, "cat": 0}), NAMES),
        (Subset(Named(classes=NAMES), [0, 1]), NAMES),
        (Subset(Subset(Named(classes=NAMES), [0, 1]), [0]), NAMES),
        (Wrapped(Named(classes=NAMES)), NAMES),
        (ConcatDataset([Named(classes=NAMES), Subset(Named(classes=NAMES), [0])]), NAMES),
        (ConcatDataset([Named(classes=NAMES), Named(classes=["a", "b"])]), None),
        (DataLoader(Named(classes=NAMES)), NAMES),
        (TensorDataset(torch.zeros(3)), None),
        (Named(classes=3), None),
        (Named(classes="cat"), None),
        (Named(classes=[]), None),
        (Named(classes=[0, 1, 2, 0, 1, 2]), None),  # of each item
        (Named(classes=[object()]), None),
        (Named(class_to_idx={"cat": 1, "dog": 7}), None),
        (Failing(class_names=NAMES), NAMES),
        (Failing(), None),
        ([1, 2], None),
        (None, None),
    ],
)
def test_names_are_found_where_data_sets_have_them(source: Any, names: list[str] | None) -> None:
    assert class_names(source) == names


def test_a_data_set_that_is_inside_itself_has_none() -> None:
    own = Named()
    vars(own)["dataset"] = own
    assert class_names(own) is None
