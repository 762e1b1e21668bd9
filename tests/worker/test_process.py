"""A child answers in order, says when it has ended, and never outlives its parent."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from processes import children_of, eventually, is_running, open_descriptors

from fnet_callbacks.worker import process
from fnet_callbacks.worker.process import Child


@pytest.fixture
def child():
    child = Child("echo_child", threads=3)
    yield child
    child.end()


def test_answers_come_in_the_order_of_the_questions(child):
    for i in range(5):
        child.ask({"i": i, "array": np.full(1000, i)})
    found = [child.answer(wait=True) for _ in range(5)]
    assert [f["i"] for f in found] == list(range(5))
    assert all((f["array"] == f["i"]).all() for f in found)
    assert child.answer(wait=True) is None
    assert not child.unanswered


def test_a_message_without_an_answer_leaves_none_to_wait_for(child):
    child.tell("quiet")
    child.ask("threads")
    assert child.answer(wait=True) == "3"


def test_without_waiting_there_is_none_yet(child):
    child.ask("sleep")
    assert child.answer(wait=False) is None
    assert len(child.unanswered) == 1


def test_it_is_full_by_number_or_by_bytes(child, monkeypatch):
    monkeypatch.setattr(process, "_MOST_BYTES", 20_000)
    monkeypatch.setattr(process, "_MOST", 6)
    found = []
    for sent in (bytes(1), bytes(6000)):
        array = np.frombuffer(sent, np.uint8)
        while not child.is_full:
            child.ask({"array": array})
        found.append(len(child.unanswered))
        while child.unanswered:
            child.answer(wait=True)
        assert not child.is_full
    assert found == [6, 4]


def test_it_stands_back_from_its_start_on():
    child = Child("echo_child", niceness=3)
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == min(19, here + 3)
    child.give_up()


def test_a_child_that_ends_says_so_behind_its_answers_and_what_it_owes_can_be_asked_again(child):
    child.ask("first")
    child.ask("die")
    child.ask("second")
    assert child.answer(wait=True) == "first"
    with pytest.raises(EOFError):
        child.answer(wait=True)
    assert child.end() == -signal.SIGKILL
    other = Child("echo_child")
    other.ask_again(child.unanswered[1])
    assert other.answer(wait=True) == "second"
    assert other.end() == 0
    child.ask("late")  # no error: the next look for an answer tells


def test_a_child_that_was_killed_while_it_had_nothing_to_do_is_found_out(child):
    os.kill(child.pid, signal.SIGKILL)
    child.ask("anybody?")
    with pytest.raises(EOFError):
        child.answer(wait=True)


def test_waiting_ends_where_another_process_holds_the_childs_end_of_the_channel(child, monkeypatch):
    """A process that another thread forks while the child is started inherits its end: no end of file comes."""
    kept = []
    pair = process.socket.socketpair

    def leaking():
        ours, theirs = pair()
        kept.append(theirs.dup())
        return ours, theirs

    monkeypatch.setattr(process.socket, "socketpair", leaking)
    other = Child("echo_child")
    other.ask("die")
    with pytest.raises(EOFError):
        other.answer(wait=True)
    other.end()
    kept[0].close()


def test_ending_is_at_once_where_something_is_owed(child):
    child.ask("sleep")
    start = time.monotonic()
    assert child.end() == -signal.SIGKILL
    assert time.monotonic() - start < process._SECONDS_TO_END
    assert not is_running(child.pid)


def test_an_interrupt_that_left_popens_lock_behind_keeps_nobody_waiting():
    child = Child("echo_child")
    child.ask("sleep")
    child._process._waitpid_lock.acquire()  # as an interrupt between taking it and what gives it back
    child.give_up()
    assert not is_running(child.pid)
    other = Child("echo_child")
    os.kill(other.pid, signal.SIGKILL)
    assert eventually(lambda: not is_running(other.pid))
    os.waitpid(other.pid, 0)  # as one that came after the answer and before it was kept
    assert other.end() == -signal.SIGKILL


def test_a_child_does_not_hear_ctrl_c(child):
    child.ask("ready?")
    assert child.answer(wait=True) == "ready?"
    assert os.getpgid(child.pid) != os.getpgid(0)


def test_a_child_that_has_ended_leaves_no_descriptor_and_no_thread():
    before = open_descriptors(), threading.active_count()
    for _ in range(2):
        child = Child("echo_child")
        child.ask({"array": np.zeros(10)})
        child.answer(wait=True)
        child.end()
    assert (open_descriptors(), threading.active_count()) == before


KILLED = """
import os, signal, sys, time
from fnet_callbacks.worker.process import Child
child = Child("echo_child")
child.ask("ready")
child.answer(wait=True)
if sys.argv[1] == "busy":
    child.ask("sleep")
if os.fork() == 0:  # as a data loader's worker: it holds our end of the channel
    time.sleep(8)
    os._exit(0)
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_the_child_of_a_killed_parent_ends_though_a_fork_holds_the_channel(state):
    run = subprocess.Popen(
        [sys.executable, "-c", KILLED, state],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert run.stdout is not None
    child = int(run.stdout.readline())
    assert run.wait() == -signal.SIGKILL
    assert eventually(lambda: not is_running(child), seconds=5)
    run.stdout.close()


@pytest.mark.parametrize(
    "missing", [("socket", "send_fds"), ("sys", "executable")], ids=["no descriptors", "no interpreter"]
)
def test_a_platform_where_no_child_can_start_is_an_os_error_that_says_why(missing, monkeypatch):
    module, name = missing
    if name == "executable":
        monkeypatch.setattr(sys, name, "")
    else:
        monkeypatch.delattr(getattr(process, module), name)
    with pytest.raises(OSError, match=r"platform|interpreter"):
        Child("echo_child")


def test_an_interpreter_that_is_not_there_is_an_os_error_and_leaves_nothing(monkeypatch):
    before, family = open_descriptors(), children_of(os.getpid())
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OSError, match="nowhere"):
        Child("echo_child")
    assert open_descriptors() == before
    assert children_of(os.getpid()) == family
