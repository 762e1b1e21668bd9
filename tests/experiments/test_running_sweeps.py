"""A sweep at work: what it does when trials fail, when it is cut off, when another is at work, and the two engines."""

import json
import subprocess
import threading
import time

import pytest
from cells import EVERY_CELL
from small_sweeps import ROOT, command, file, states, sweep

from experiments import engines
from experiments.engines import Logging, await_set_up, run_ray
from experiments.trials import prepare, read_sweep, write_state
from fnet_callbacks import FnetError, read_record
from fnet_callbacks.compare.runs import read_runs

# jsonargparse, of Lightning's use of it.
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


@pytest.fixture(autouse=True)
def no_command_line(monkeypatch):
    """LightningCLI warns where it is given arguments beside those of the process."""
    monkeypatch.setattr("sys.argv", ["train"])


def test_a_ray_address_that_does_not_answer(tmp_path):
    pytest.importorskip("ray")
    folders = prepare(read_sweep(file(tmp_path)), tmp_path / "out")
    for address in ("127.0.0.1:1", "nonsense"):
        with pytest.raises(FnetError, match=f"`ray_address='{address}'` does not answer"):
            run_ray(folders, workers=1, logging=Logging(), address=address, stop_early=None, mode="max")


@pytest.mark.slow
def test_a_sweep_trains_its_trials_and_one_that_fails_leaves_the_others_alone(tmp_path):
    path = file(tmp_path, **{"model.regularizer": ["nonsense", "dropout"], "seed_everything": [3]})
    ended = sweep(path, tmp_path / "out", "--workers", "2")
    said = ended.stdout
    assert ended.returncode == 1, ended.stderr
    assert "1 finished, 1 failed" in said
    assert "regularizer must be one of" in said
    runs = read_runs([tmp_path / "out"])
    assert (runs.grouped_by, list(runs.groups)) == ("regularizer", ["dropout"])
    assert {run.seed for run in runs.runs} == {"3"}
    assert runs.runs[0].configuration["dataset"] == "digits"

    again = sweep(path, tmp_path / "out")
    assert "2 trials in" in (said := again.stdout)
    assert "1 of them to be run" in said
    assert len(read_runs([tmp_path / "out"]).runs) == 1  # what failed, twice by now, has no record
    assert "Fatal" not in "".join(f.read_text() for f in (tmp_path / "out").rglob("output.log"))


@pytest.mark.slow
def test_a_sweep_that_was_killed_runs_only_what_is_missing(tmp_path):
    path, out = file(tmp_path, seed_everything=[0, 1]), tmp_path / "out"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command(path, out, "--workers", "1"), cwd=ROOT, **quiet) as first:
        until = time.monotonic() + 120
        while time.monotonic() < until and not (out.exists() and "finished" in states(out).values()):
            time.sleep(0.05)
        first.kill()
    done = [name for name, state in states(out).items() if state == "finished"]
    assert len(done) == 1
    kept = {".json", ".jsonl", ".npz", ".yaml"}  # the log has the last words of a process that had finished
    written = {f: f.stat().st_mtime_ns for f in (out / done[0]).rglob("*") if f.suffix in kept}
    time.sleep(1.0)  # the trial that was under way ends with the sweep
    assert "finished" not in [s for name, s in states(out).items() if name not in done]

    ended = sweep(path, out, "--workers", "2")
    assert ended.returncode == 0, ended.stderr
    assert "2 trials" in (said := ended.stdout)
    assert "1 of them to be run" in said
    assert written == {f: f.stat().st_mtime_ns for f in (out / done[0]).rglob("*") if f.suffix in kept}
    assert list(states(out).values()) == ["finished"] * 2


@pytest.mark.slow
def test_a_mistake_that_fails_every_trial_is_found_by_the_first_and_the_last(tmp_path):
    path = file(tmp_path, **{"data.train_size": 99_999, "seed_everything": [0, 1, 2, 3, 4]})
    out = tmp_path / "out"
    ended = sweep(path, out, "--workers", "2")
    assert ended.returncode == 1
    told = "FnetError: train_size must be between 1 and 1497, got 99999"
    assert f"error: the set-up of {' and '.join(states(out))} fails: {told}" in ended.stderr
    assert "3 other trials were not started" in ended.stderr
    assert [name.rpartition("-")[0] for name in states(out)] == ["seed_everything=0", "seed_everything=4"]
    assert not list(out.glob(".*.lock"))


def test_trials_of_ray_wait_for_the_first_and_where_that_fails_for_the_second(tmp_path):
    folders = prepare(read_sweep(file(tmp_path, seed_everything=[0, 1, 2, 3])), tmp_path / "out")
    first, second, *others = folders

    def waited(own):
        waiting = threading.Thread(target=lambda: came.append(await_set_up(folders[:2], own)), daemon=True)
        came: list[None] = []
        waiting.start()
        waiting.join(0.3)
        return waiting, came

    assert await_set_up(folders[:2], first) is None
    for own in (second, *others):
        waiting, came = waited(own)
        assert waiting.is_alive()
        if own == others[-1]:
            (first / "set_up").touch()
        else:
            write_state(first, "failed", reason="it cannot be")
            if own in others:
                waiting.join(0.3)
                assert waiting.is_alive()  # for the second
                (second / "set_up").touch()
        waiting.join(10)
        assert came == [None]
        for state in (first / "state.json", second / "set_up"):
            state.unlink(missing_ok=True)
    (first / "set_up").unlink()
    for folder in (first, second):
        write_state(folder, "failed", reason="it cannot be")
    assert await_set_up(folders[:2], second) is None
    with pytest.raises(
        FnetError, match=rf"not started: the set-up of {first.name} and {second.name} fails: it cannot"
    ):
        await_set_up(folders[:2], others[0])


@pytest.mark.slow
def test_two_sweeps_at_work_in_one_folder_leave_each_other_their_trials(tmp_path):
    out, said = tmp_path / "out", {}
    paths = [tmp_path / name for name in ("one", "two")]
    for path in paths:
        path.mkdir()
    one, two = (file(path, seed_everything=seeds) for path, seeds in zip(paths, ([0], [0, 1]), strict=True))
    with subprocess.Popen(
        command(one, out, "--workers", "1"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as first:
        until = time.monotonic() + 120
        while time.monotonic() < until and len(states(out) if out.exists() else ()) < 1:
            time.sleep(0.05)
        second = sweep(two, out)
        said["one"] = first.communicate(timeout=200)[0]
    said["two"] = second.stdout
    assert (first.returncode, second.returncode) == (0, 0), said
    assert "1 finished, 0 failed" in said["one"]
    assert "2 trials in" in said["two"]
    assert "1 of them to be run, 1 at work in another sweep" in said["two"]
    assert list(states(out).values()) == ["finished"] * 2
    assert not (out / "superseded").exists()
    assert not list(out.glob(".*.lock"))


@pytest.mark.slow
def test_ray_gives_the_same_numbers_bit_for_bit(tmp_path):
    pytest.importorskip("ray")
    path = file(tmp_path, **{"model.regularizer": ["dropout"]})
    for engine in ("local", "ray"):
        ended = sweep(path, tmp_path / engine, "--engine", engine, "--workers", "1")
        assert ended.returncode == 0, ended.stderr
    assert list(states(tmp_path / "local").values()) == ["finished"]
    for name in states(tmp_path / "local"):
        ours, theirs = (read_record(tmp_path / engine / name / "fnet") for engine in ("local", "ray"))
        # As text, in which a value that is not there is equal to itself, and a number has all its bits.
        assert [f"{s.step} {s.scalars}" for s in ours.snapshots] == [
            f"{s.step} {s.scalars}" for s in theirs.snapshots
        ]


@pytest.mark.slow
@pytest.mark.skipif(not EVERY_CELL, reason="FNET_ALL=1 runs it")
def test_ray_stops_trials_that_are_behind(tmp_path):
    pytest.importorskip("ray")
    path = file(tmp_path, **{"model.lr": [0.01, 1e-9], "trainer.max_epochs": 8})
    key = "robust/clean_accuracy"  # a value of ours, which is waited for
    ended = sweep(path, tmp_path / "out", "--engine", "ray", "--workers", "1", "--stop-early", key)
    assert ended.returncode == 0, ended.stderr
    assert "1 finished, 1 stopped early, 0 failed" in ended.stdout
    assert "what did not finish counts in a report as far as it came" in ended.stdout
    (stopped,) = (f for f, state in states(tmp_path / "out").items() if state == "stopped")
    assert (
        json.loads((tmp_path / "out" / stopped / "trial.json").read_text())["settings"]["model"]["lr"] == 1e-9
    )


def test_on_a_full_disk_the_reason_is_told_at_least(tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engines, "write_state", full)
    engines.note(tmp_path / "trial", "its process ended with status 1")
    assert "trial failed: its process ended with status 1" in (told := capsys.readouterr().err)
    assert "No space left" in told
