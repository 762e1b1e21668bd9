"""The experiment on grokking: its pairs, its model, and what it tells of a run."""

from pathlib import Path

import pytest
import torch

from experiments import grokking
from experiments.grokking import Adder, draw, known_from, logged, pairs_of, told, train
from fnet_callbacks import FnetError, read_record

SMALL = {"prime": 7, "steps": 6, "every": 2, "share": 0.5, "weight_decay": 1.0, "seed": 0}


def test_pairs_are_all_there_once_with_their_sums() -> None:
    (known, sums), (unknown, other_sums) = pairs_of(7, 0.5, seed=1)
    pairs = torch.cat([known, unknown])
    assert len(torch.unique(pairs, dim=0)) == len(pairs) == 49
    assert torch.equal(torch.cat([sums, other_sums]), pairs.sum(1) % 7)
    assert len(known) == 24
    assert torch.equal(pairs_of(7, 0.5, seed=1)[0][0], known)


@pytest.mark.parametrize("share", [0.0, 1.0, 0.001])
def test_a_share_that_leaves_nothing_is_named(share: float) -> None:
    with pytest.raises(FnetError, match="`share="):
        pairs_of(7, share, seed=0)


def test_the_answer_depends_on_both_tokens_and_on_their_order() -> None:
    torch.manual_seed(0)
    logits = Adder(7)(torch.tensor([[1, 2], [2, 1], [1, 3]]))
    assert logits.shape == (3, 7)
    assert not torch.allclose(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2])


def test_a_run_is_recorded_told_and_drawn(tmp_path: Path) -> None:
    record = read_record(train(tmp_path, **SMALL))
    assert record.steps == [0, 2, 4, 6]
    text = told(record)
    assert "| step | 0 | 6 |" in text
    assert "Never: training known." in text
    assert "| modularity |" in text
    assert draw(record).axes[0].get_title() == "accuracy"


def test_a_set_is_known_from_where_it_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = read_record(train(tmp_path, **SMALL))
    for snapshot, value in zip(record.snapshots, (0.1, 0.99, 0.5, 0.97), strict=True):
        snapshot.logged["test_accuracy"] = value
    record.snapshots[-1].logged_at_end["test_accuracy"] = 0.98
    assert logged(record, "test_accuracy").tolist() == [0.1, 0.99, 0.5, 0.98]
    assert known_from(record, "test_accuracy") == 6
    monkeypatch.setattr(
        grokking, "_STEPS_AN_EPOCH", 2
    )  # each after the first is taken before its own validation
    assert logged(record, "test_accuracy").tolist() == [0.1, 0.5, 0.97, 0.98]
    assert known_from(record, "other") is None
