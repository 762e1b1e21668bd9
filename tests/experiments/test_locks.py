"""Who is at work: a lock is its process's as long as that lives, and nobody else's."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from experiments.locks import Holder, claim, holder, release

ROOT = Path(__file__).parents[2]
CLAIMS = """
import sys, time
from pathlib import Path
from experiments.locks import claim
Path(sys.argv[2]).touch()
while len(list(Path(sys.argv[2]).parent.glob("ready*"))) < int(sys.argv[3]):
    time.sleep(0.001)
found = claim(Path(sys.argv[1]))
print("mine" if found is None else found.pid, flush=True)
sys.stdin.read()
"""


def claiming(lock: Path, number: int = 0, of: int = 1) -> subprocess.Popen[str]:
    """A process that claims a lock when all are ready, says what came of it, and lives until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", CLAIMS, str(lock), str(lock.parent / f"ready{number}"), str(of)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def written(lock: Path, **changes: object) -> Holder:
    """A lock of this process but for what is changed."""
    found = replace(Holder.here(), **changes)  # type: ignore[arg-type]
    lock.write_text(json.dumps(asdict(found)))
    return found


def test_a_lock_is_one_process_s_until_it_is_released(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    assert claim(lock) is None
    assert claim(lock) is None  # and stays it
    assert holder(lock) == Holder.here()
    with claiming(lock) as other:
        assert said(other) == str(os.getpid())
        other.communicate()
    release(lock)
    assert holder(lock) is None
    assert not lock.exists()
    release(lock)


def test_a_lock_is_taken_over_when_its_process_was_killed(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with claiming(lock) as other:
        assert said(other) == "mine"
        assert (found := claim(lock)) is not None
        assert (found.pid, found.is_gone) == (other.pid, False)
        assert str(found).startswith(f"process {other.pid} on ")
        release(lock)  # another's, which stays
        assert holder(lock) == found
        other.send_signal(signal.SIGKILL)
        os.waitid(
            os.P_PID, other.pid, os.WEXITED | os.WNOWAIT
        )  # it has ended, and nobody has asked for its status
        assert claim(lock) is None


def test_of_many_that_find_the_lock_of_a_process_that_is_gone_one_takes_it_over(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    written(lock, started="0")
    others = [claiming(lock, number, of=5) for number in range(5)]
    found = [said(other) for other in others]
    (winner,) = (other for other, text in zip(others, found, strict=True) if text == "mine")
    assert set(found) == {"mine", str(winner.pid)}
    for other in others:
        other.communicate()


@pytest.mark.parametrize(
    ("changes", "is_taken"),
    [
        ({"started": "0"}, True),  # the number is another process's by now
        ({"pid": 2**22 + 1}, True),  # there is no such process
        ({"boot": "another"}, True),  # the machine was started anew
        ({"boot": "another", "numbering": "pid:[1]"}, True),
        ({"host": "elsewhere"}, False),
        ({"host": "elsewhere", "boot": "another", "pid": 2**22 + 1}, False),
        ({"numbering": "pid:[1]", "started": "0"}, False),  # another container of this machine
    ],
    ids=str,
)
def test_what_is_known_to_be_gone_is_taken_over_and_what_is_not_is_left(
    tmp_path: Path, changes: dict[str, object], is_taken: bool
) -> None:
    lock = tmp_path / ".lock"
    other = written(lock, **changes)
    assert other.is_gone is is_taken
    assert claim(lock) == (None if is_taken else other)
    assert holder(lock) == (Holder.here() if is_taken else other)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "null"])
def test_what_is_no_lock_is_taken_over_once_it_is_old(tmp_path: Path, text: str) -> None:
    lock = tmp_path / ".lock"
    lock.write_text(text)
    os.utime(lock, (0, 0))
    assert claim(lock) is None


def test_a_lock_may_be_made_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", none)
    assert claim(tmp_path / ".lock") is None
    other = written(tmp_path / ".other", host="elsewhere")
    assert claim(tmp_path / ".other") == other
