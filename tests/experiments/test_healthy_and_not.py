"""The four networks of the documentation: what they are trained on, what is told and drawn of them."""

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from experiments.healthy_and_not import CASES, MEASURES, Case, Watched, draw, images_of, told, train
from fnet_callbacks import Record


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return train(tmp_path_factory.mktemp("run"), CASES["overfitted"], steps=4, seed=0)


def test_a_share_of_the_labels_is_drawn_and_the_data_are_left_as_they_are() -> None:
    data = TensorDataset(torch.arange(80.0)[:, None], torch.full((80,), -1))
    found = images_of(Case("", images=40, random_labels=0.5), data, seed=0)
    assert len(found) == 40
    assert torch.equal(found.tensors[0], data.tensors[0][:40])
    assert (found.tensors[1][:20] >= 0).all()
    assert (found.tensors[1][20:] == -1).all()
    assert (data.tensors[1] == -1).all()
    again = images_of(Case("", images=40, random_labels=0.5), data, seed=0)
    assert torch.equal(again.tensors[1], found.tensors[1])
    assert len(images_of(CASES["healthy"], data, seed=0)) == 80


def test_the_optimiser_is_that_of_the_case() -> None:
    own = (
        Watched(CASES["collapsed"].lr, CASES["collapsed"].weight_decay).configure_optimizers().param_groups[0]
    )
    assert own["weight_decay"] == 0.028
    assert own["lr"] == 1e-3


def test_what_is_told_is_what_was_measured(record: Record) -> None:
    assert record.steps == [0, 1, 2, 3, 4]
    rows = {line.split("|")[1].strip(): line for line in told({"healthy": [record, record]}).splitlines()}
    assert set(rows) >= {f"`{name}`" for name in (*MEASURES, "train_accuracy", "val_accuracy")}
    modularity = record.series("fnet/modularity")
    assert rows["`modularity`"] == f"| `modularity` | {modularity[0]:.3g} | {modularity[-1]:.3g} |"


def test_a_row_is_drawn_for_each_network_on_one_scale_a_column(record: Record) -> None:
    figure = draw({"healthy": record, "overfitted": record})
    panels = np.array(figure.axes).reshape(2, 5)
    assert [axes.get_ylabel().splitlines()[0] for axes in panels[:, 0]] == ["healthy", "overfitted"]
    for column in panels.T[1:]:
        assert column[0].get_ylim() == column[1].get_ylim()
    drawn = panels[0, 4].get_lines()[0].get_ydata()
    np.testing.assert_array_equal(drawn, record.series("fnet/effective_rank"))
