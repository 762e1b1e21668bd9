"""A run that is killed at any moment, ten of them, and resumed from its last checkpoint."""

import random
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from cells import EVERY_CELL
from interrupted_run import EPOCHS, STEPS_PER_EPOCH, run
from test_resume import SCHEDULED, TOTAL, content, killed, records

from fnet_callbacks import Record

pytestmark = [
    pytest.mark.slow,
    # Lightning, on a checkpoint of the middle of an epoch and on a folder that has checkpoints already.
    pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch.*"),
    pytest.mark.filterwarnings("ignore:.*The dirpath has changed.*"),
]


class Kill(NamedTuple):
    """After which step and how much later, who measures, and how often there is a checkpoint."""

    step: int
    seconds_later: float
    worker: str
    checkpoint_every: int


def ten(seed: int = 0) -> list[Kill]:
    draw = random.Random(seed)
    ways = [("process", STEPS_PER_EPOCH), ("inline", 5), ("process", 5), ("inline", STEPS_PER_EPOCH)]
    steps = draw.sample(range(STEPS_PER_EPOCH + 1, EPOCHS * STEPS_PER_EPOCH), 10)
    return [Kill(step, round(draw.uniform(0, 0.05), 4), *ways[i % 4]) for i, step in enumerate(steps)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The record of a run that nothing befell."""
    folder = tmp_path_factory.mktemp("whole")
    run(str(folder), worker="inline")
    return records(folder)[-1]


@pytest.mark.parametrize("number", range(10), ids=[f"{kill}" for kill in ten()])
def test_whenever_it_is_killed_it_goes_on(tmp_path: Path, number: int, whole: Record) -> None:
    if number >= 2 and not EVERY_CELL:
        pytest.skip("FNET_ALL=1 runs all ten")
    kill = ten()[number]
    options: dict[str, Any] = {"worker": kill.worker, "checkpoint_every": kill.checkpoint_every}
    checkpoint = killed(tmp_path, kill_at=kill.step, seconds_later=kill.seconds_later, **options)
    held = torch.load(checkpoint, weights_only=True)
    restored = held["callbacks"]["fnet_callbacks"]["step"]
    # The checkpoint that was being written at the kill is there whole, or not at all.
    assert restored == held["global_step"] > 0
    assert restored % kill.checkpoint_every == 0
    (cut,) = records(tmp_path)
    assert cut.steps == SCHEDULED[: len(cut.steps)]
    before = [content(snapshot, cut) for snapshot in cut.snapshots]

    run(str(tmp_path), resume=checkpoint, **options)
    cut, found = records(tmp_path)
    assert [content(snapshot, cut) for snapshot in cut.snapshots] == before  # as it was left
    assert found.steps == [*SCHEDULED, TOTAL]
    assert found.manifest["probe"] == cut.manifest["probe"] == whole.manifest["probe"]
    for snapshot in found.snapshots:
        # Lightning does not bring a loader back to the middle of an epoch: what comes after it differs.
        if snapshot.step <= restored or kill.checkpoint_every == STEPS_PER_EPOCH:
            same = whole.snapshots[whole.steps.index(snapshot.step)]
            assert content(snapshot, found) == content(same, whole), snapshot.step
