"""The communities of a run, as its record has them."""

from pathlib import Path

import numpy as np
import pytest
from small_runs import write_run

from fnet_callbacks import functional as F
from fnet_callbacks.compare.communities import story
from fnet_callbacks.compare.run import Run
from fnet_callbacks.compare.runs import read_runs


@pytest.fixture
def run(tmp_path: Path) -> Run:
    write_run(tmp_path / "run", strength=2.0, seed=0, steps=4)
    return read_runs([tmp_path]).runs[0]


def test_a_story_is_what_the_records_partitions_say(run: Run) -> None:
    found = story(run, "fnet")
    assert found.steps == [0, 10, 20, 30]
    for t, step in enumerate(found.steps):
        partition = run.record.arrays(step)["fnet.partition"]
        np.testing.assert_array_equal(
            partition[:, None] == partition, found.names[:, t, None] == found.names[:, t]
        )
    np.testing.assert_array_equal(found.names, F.trace(found.names))
    assert list(found.events) == [10, 20, 30]
    assert found.events[10] == F.events(found.names[:, 0], found.names[:, 1])


def test_the_communities_at_the_end_are_told(run: Run) -> None:
    found, arrays = story(run, "fnet"), run.record.arrays(30)
    assert [c.size for c in found.last] == sorted((c.size for c in found.last), reverse=True)
    for community in found.last:
        own = found.names[:, -1] == community.name
        assert community.size == own.sum() > 1
        assert community.since == found.steps[(found.names == community.name).any(0).argmax()]
        assert sum(community.layers.values()) == community.size
        assert community.layers["01 net.0"] == own[:15].sum()
        assert community.flexibility == pytest.approx(F.flexibility(found.names)[own].mean())
        assert community.promiscuity == pytest.approx(F.promiscuity(found.names)[own].mean())
        number = int(arrays["fnet.partition"][own][0])
        assert community.class_affinity == pytest.approx(arrays["fnet.class_affinity"][number])
        for name in ("activation_entropy", "selectivity_entropy"):
            assert community.entropies[name] == pytest.approx(arrays[f"fnet.{name}"][own].mean(), rel=1e-6)


def test_a_record_without_a_graph_has_no_story(run: Run) -> None:
    assert story(run, "other").steps == []
    assert story(run, "other").last == []
