"""The analysis in another process: the same results, in order, whatever becomes of the process."""

import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from planted_networks import activations, labels_of
from processes import is_running

from fnet_callbacks import functional as F
from fnet_callbacks.errors import FnetWarning
from fnet_callbacks.findings import Findings, Recipe
from fnet_callbacks.instruments.network_analysis import NetworkAnalysis
from fnet_callbacks.instruments.network_plan import LayerPlan, NetworkPlan, Rows
from fnet_callbacks.network import GraphSettings
from fnet_callbacks.quantities.networks import names_of
from fnet_callbacks.record import SnapshotStore, read_record
from fnet_callbacks.worker.analyst import Analyst
from fnet_callbacks.worker.jobs import Job, Plan


def plan_of(folder: Path | None, *, on_error="warn", **options) -> Plan:
    defaults = {
        "measures": names_of("standard"),
        "save_correlation": False,
        "has_figures": True,
    }
    network = NetworkPlan(
        name="fnet",
        layer_measures=names_of("fast"),
        layers=[LayerPlan("first", "01", 60), LayerPlan("second", "02", 40)],
        graph=GraphSettings(F.GraphRule(density=0.1), nulls=2),
        **defaults | options,
    )
    if folder is not None:
        SnapshotStore(folder).start({})
    recipe = Recipe.of(NetworkAnalysis(network))
    return Plan(None if folder is None else str(folder), {"fnet": recipe}, on_error=on_error)


def job(step: int, **options) -> Job:
    values = activations(seed=step, n_dead=3).astype(np.float32)
    reading = Rows(values, labels_of(values), 3, has_histogram=True)
    return Job(step, arrays={"fnet": reading}, cost_ms={"fnet": {"probe": 1.0}}, **options)


def results(analyst: Analyst, *jobs: Job):
    for each in jobs:
        analyst.submit(each)
    found = analyst.results(wait=True)
    analyst.close()
    return found


def assert_same(ours, theirs):
    assert [r.step for r in ours] == [r.step for r in theirs]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_equal(dict(one.scalars), dict(other.scalars))
        assert one.notes == other.notes
        assert one.states.keys() == {"fnet"}
        assert one.states["fnet"].keys() == {"", "first", "second"}
        np.testing.assert_equal(one.states, other.states)


def test_the_child_finds_what_this_process_does_and_writes_the_same_record(tmp_path):
    jobs = [job(0, draw=["fnet"]), job(1), job(2, is_end=True)]
    here = results(Analyst(plan_of(tmp_path / "here"), threads=None), *jobs)
    there = results(Analyst(plan_of(tmp_path / "there"), threads=2), *jobs)
    assert_same(here, there)
    assert np.array_equal(here[0].portraits["fnet"].correlation, there[0].portraits["fnet"].correlation)
    assert not there[1].portraits
    assert here[0].worker_seconds == {"fnet": 0.0}
    assert there[0].worker_seconds["fnet"] > 0
    one, other = read_record(tmp_path / "here"), read_record(tmp_path / "there")
    assert one.steps == other.steps == [0, 1, 2]
    for step in one.steps:
        for name, array in one.arrays(step).items():
            np.testing.assert_array_equal(array, other.arrays(step)[name])


@pytest.mark.parametrize("times", [1, 2])
def test_jobs_that_a_killed_child_had_not_done_are_done_with_what_went_before(times):
    jobs = [job(step) for step in range(5)]
    expected = results(Analyst(plan_of(None), threads=None), *jobs)
    analyst = Analyst(plan_of(None), threads=1)
    analyst.submit(jobs[0])
    found = analyst.results(wait=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for each in jobs[1:3]:
            analyst.submit(each)
        for _ in range(times):
            pid = analyst.pid
            os.kill(pid, signal.SIGKILL)
            analyst._receive(wait=True)
            assert not is_running(pid)
        for each in jobs[3:]:
            analyst.submit(each)
        found += analyst.results(wait=True)
    assert issubclass(caught[0].category, FnetWarning)
    assert "has ended (exit status -9); it is started once more" in str(caught[0].message)
    assert len(caught) == 1
    assert (analyst.pid is None) == (times == 2)
    analyst.close()
    assert_same(expected, found)


def test_nobody_waits_for_a_child_that_is_still_starting_when_the_run_is_over(tmp_path):
    jobs = [job(0), job(1), job(2, is_end=True)]
    expected = results(Analyst(plan_of(tmp_path / "here"), threads=None), *jobs)
    analyst = Analyst(plan_of(tmp_path / "there"), threads=1)
    pid = analyst.pid
    os.kill(pid, signal.SIGSTOP)  # a start that takes for ever
    for each in jobs[:2]:
        analyst.submit(each)
    analyst.stop_waiting()
    assert analyst.pid is None
    assert not is_running(pid)
    assert_same(expected, results(analyst, jobs[2]))
    assert read_record(tmp_path / "there").steps == [0, 1, 2]


def test_a_child_that_has_begun_is_waited_for():
    analyst = Analyst(plan_of(None), threads=1)
    analyst.submit(job(0))
    assert len(analyst.results(wait=True)) == 1
    pid = analyst.pid
    analyst.submit(job(1))
    analyst.stop_waiting()
    assert analyst.pid == pid
    assert [r.step for r in results(analyst)] == [1]


def test_a_child_that_cannot_start_leaves_the_work_to_this_process(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.warns(FnetWarning, match=r"on the training thread: the worker cannot start .*nowhere"):
        analyst = Analyst(plan_of(None), threads=1)
    assert analyst.pid is None
    assert [r.step for r in results(analyst, job(0))] == [0]


def test_a_job_without_arrays_gives_the_last_portrait_and_no_snapshot(tmp_path):
    found = results(Analyst(plan_of(tmp_path / "r"), threads=None), job(3), Job(3, draw=["fnet"]))
    assert found[1].scalars == {}
    assert found[1].portraits["fnet"].title == "step 3"
    assert len((tmp_path / "r" / "scalars.jsonl").read_text().splitlines()) == 1


def test_what_was_found_on_the_training_thread_is_in_the_same_snapshot_and_later_parts_of_a_step_join_it(
    tmp_path,
):
    robust = Findings(scalars={"robust/clean_accuracy": 0.5})
    first = Job(
        4, findings={"robust": robust}, scalars={"monitor/interval": 4.0}, cost_ms={"robust": {"pgd": 2.0}}
    )
    found = results(Analyst(plan_of(tmp_path / "r"), threads=None), first, job(4, is_end=True))
    assert found[0].scalars == {"monitor/step": 4.0, "robust/clean_accuracy": 0.5, "monitor/interval": 4.0}
    assert found[0].cost_ms["monitor_cost/robust/training_thread"] == 2.0
    (snapshot,) = read_record(tmp_path / "r").snapshots
    assert {"robust/clean_accuracy", "fnet/modularity"} <= snapshot.scalars.keys()
    assert not snapshot.is_end


def test_a_part_of_the_last_step_that_a_killed_child_wrote_stays_in_the_record(tmp_path):
    robust = Findings(scalars={"robust/clean_accuracy": 0.5}, arrays={"by_class": np.arange(3.0)})
    analyst = Analyst(plan_of(tmp_path / "r"), threads=1)
    analyst.submit(Job(4, findings={"robust": robust}, cost_ms={"robust": {}}))
    found = analyst.results(wait=True)
    os.kill(analyst.pid, signal.SIGKILL)
    with pytest.warns(FnetWarning, match="started once more"):
        found += results(analyst, job(4, is_end=True))
    assert [r.step for r in found] == [4, 4]
    record = read_record(tmp_path / "r")
    (snapshot,) = record.snapshots
    assert {"robust/clean_accuracy", "fnet/modularity"} <= snapshot.scalars.keys()
    assert {"robust.by_class", "fnet.edges"} <= record.arrays(4).keys()


@pytest.mark.filterwarnings("ignore::fnet_callbacks.errors.FnetWarning")
@pytest.mark.parametrize("kills", [0, 2])
def test_a_failure_comes_as_a_result_also_where_the_work_of_a_killed_child_is_done_here(kills):
    """Other ranks wait for the results."""
    analyst = Analyst(plan_of(None, on_error="raise"), threads=1)
    flat = Rows(np.zeros(100, np.float32), None, 0, has_histogram=True)
    analyst.submit(Job(1, arrays={"fnet": flat}, cost_ms={"fnet": {}}))
    for _ in range(kills):
        os.kill(analyst.pid, signal.SIGKILL)
        analyst._receive(wait=True)
    (found,) = results(analyst, job(2))[:1]
    assert found.step == 1
    assert found.error


def test_a_jobs_own_time_and_the_workers_make_the_total():
    (found,) = results(Analyst(plan_of(None), threads=1), job(0))
    cost = {k.removeprefix("monitor_cost/fnet/"): v for k, v in found.cost_ms.items()}
    assert cost.pop("monitor/cost_ms") == cost["total"]
    whole = [cost.pop(k) for k in ("total", "training_thread", "worker")]
    assert whole[0] == pytest.approx(sum(cost.values()))
    assert whole[1] == cost["probe"] == 1.0
    assert whole[2] == pytest.approx(1e3 * found.worker_seconds["fnet"])
