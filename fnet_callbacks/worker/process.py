"""A plain process that answers messages one after the other, and ends when the run that started it does.

It is started as ``python -m <module>``, so that it imports neither torch nor the user's script. It is in a session of
its own, where Ctrl-C does not reach it, takes no notice of the signals that a scheduler sends to all of a job, and
looks at every half second whether its parent is still there: the end of the channel alone does not tell, for a data
loader's forked workers hold it open too. What it was handed before that it may still bring to an end.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn

from fnet_callbacks.interrupts import handlers_held, signals_blocked
from fnet_callbacks.worker.board import Board
from fnet_callbacks.worker.wire import Segment, pack, receive, send, unpack

_SECONDS_TO_END = 2.0
_REFUSED = 69  # the exit status of a service that is not available, in sysexits.h
_SECONDS_BETWEEN_LOOKS = 0.002
_SECONDS_OF_A_WAIT = 0.05  # after which is asked whether there is still something to wait for
# Messages that wait to be answered: bursts even out, and the time in which the process starts; memory stays bounded.
_FEWEST, _MOST, _MOST_BYTES = 4, 32, 2**25


class Child:
    """The parent's side of a process.

    Args:
        module: What it runs; a module that calls `serve`.
        threads: How many threads its kernels use.
        niceness: How far it stands back, as ``os.nice`` has it, from its start on: training comes first.

    Attributes:
        unanswered: The messages that it still owes an answer to, in order; they outlive it.
        refusal: After its `end`, why it did nothing, where it ended by `refuse`; None where it ended otherwise.
        stuck_at: After its `end`, what took longer than its `board` allows; None where it ended otherwise.

    Raises:
        OSError: It cannot be started here.
    """

    def __init__(self, module: str, *, threads: int = 1, niceness: int = 0) -> None:
        if not hasattr(socket, "send_fds"):
            raise OSError("this platform does not hand file descriptors between processes")
        if not sys.executable or getattr(sys, "frozen", False):
            raise OSError("sys.executable is no Python interpreter")
        self.unanswered: deque[Segment] = deque()
        self.refusal: str | None = None
        self.stuck_at: str | None = None
        self._channel, theirs = socket.socketpair()
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        paths = os.pathsep.join(p or os.getcwd() for p in sys.path)
        try:
            self._board = Board()
        except OSError:
            self._channel.close()
            theirs.close()
            raise
        try:
            with signals_blocked():  # the child inherits that
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",
                        "-m",
                        module,
                        str(theirs.fileno()),
                        str(os.getpid()),
                        str(self._board.fd),
                    ],
                    pass_fds=[theirs.fileno(), self._board.fd],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **one_thread, "NUMBA_NUM_THREADS": str(threads), "PYTHONPATH": paths},
                    start_new_session=True,
                )
        except BaseException:
            self._channel.close()
            self._board.close()
            raise
        finally:
            theirs.close()
        with contextlib.suppress(OSError):
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, self._process.pid, own + niceness)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def has_begun(self) -> bool:
        """Whether it has come to what it was asked, and has said so by its `board`; before that it imports."""
        return self._board.is_written

    @property
    def is_full(self) -> bool:
        """Whether it owes so many answers that the next message should wait: 4, where they are small up to 32."""
        n = len(self.unanswered)
        return n >= _FEWEST and (n >= _MOST or sum(s.size for s in self.unanswered) >= _MOST_BYTES)

    def tell(self, message: Any) -> None:
        """Hands it a message that has no answer.

        Raises:
            OSError: There is not enough shared memory.
        """
        segment = pack(message)
        self._send(segment)
        segment.close()

    def ask(self, message: Any) -> None:
        """Hands it a message; returns at once.

        Raises:
            OSError: There is not enough shared memory.
        """
        self.ask_again(pack(message))

    def ask_again(self, segment: Segment) -> None:
        """Hands it a message that another process did not answer."""
        self._send(segment)  # first: an interrupt in between leaves nothing to wait for
        self.unanswered.append(segment)

    def answer(self, *, wait: bool) -> Any:
        """Its next answer; None where it owes none, or, without ``wait``, where there is none yet.

        Raises:
            EOFError: It has ended, and all its answers were taken.
        """
        if wait:
            self.wait()
        with handlers_held():
            if not self.unanswered:
                return None
            has_ended = self._status() is not None  # asked first: what it sent before is still there
            if self._has_sent(0):
                return self._received()
            if has_ended:
                raise EOFError
        return None

    def wait(self) -> None:
        """Returns when an answer is there, when none is owed, or when it has ended.

        Nothing is taken: a signal's handler may do that meanwhile, as where it saves a checkpoint.
        """
        while self.unanswered and self._status() is None and not self._has_sent(_SECONDS_OF_A_WAIT):
            pass

    def _has_sent(self, seconds: float) -> bool:
        poll = select.poll()  # where a file descriptor may be any number; one's own: a handler may ask too
        poll.register(self._channel, select.POLLIN)
        return bool(poll.poll(1000 * seconds))

    def give_up(self) -> None:
        """Ends it at once, and lets go of what it owes."""
        self._process.kill()  # to take its libraries down in order would take it half a second
        self.end()
        while self.unanswered:
            self.unanswered.popleft().close()

    def end(self) -> int:
        """Ends it and waits until it is gone; what it owes can be asked again of another.

        Returns:
            Its exit status, as ``subprocess`` has it.
        """
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)  # a data loader's fork may hold our end open
        self._channel.close()
        status = self._status(0.0 if self.unanswered else _SECONDS_TO_END)
        while status is None:
            self._process.kill()
            status = self._status(_SECONDS_TO_END)
        if status == -signal.SIGALRM and self.stuck_at is None:
            self.stuck_at = self._board.last or None  # an alarm that somebody else sent ends it too
        if status == _REFUSED and self.refusal is None:
            self.refusal = self._board.last or None
        self._board.close()
        return status

    def _status(self, seconds: float = 0.0) -> int | None:
        """Its exit status; None where it has not ended after so long.

        ``Popen`` asks under a lock, which an interrupt in the wrong moment leaves locked: to wait would be for ever.
        """
        until = time.monotonic() + seconds
        while self._process.returncode is None:
            try:
                pid, status = os.waitpid(self._process.pid, os.WNOHANG)
            except ChildProcessError:  # an interrupt has come between the answer and its being kept
                self._process.returncode = -signal.SIGKILL
                break
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= until:
                break
            else:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        return self._process.returncode

    def _received(self) -> Any:
        owed = self.unanswered.popleft()  # first: an interrupt from here on leaves nothing to wait for
        try:
            segment = receive(self._channel)
            if segment is None:
                raise EOFError
            answer = unpack(segment)
        except (EOFError, OSError) as error:
            self.unanswered.appendleft(owed)
            raise EOFError from error
        segment.close()
        owed.close()
        return answer

    def _send(self, segment: Segment) -> None:
        with contextlib.suppress(OSError):  # it has ended, which the next look for an answer finds out
            send(self._channel, segment)


def serve(answer: Callable[[Any], Any], *, seconds_left: float = 0.0) -> None:
    """The child's side: answers messages, those whose answer is not None, until there is nobody to answer.

    Args:
        answer: From a message to its answer.
        seconds_left: How long it may go on with what it was handed when the process that did so is gone.
    """
    channel, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    threading.Thread(target=_end_with, args=(parent, seconds_left), daemon=True).start()
    sys.stdout = sys.stderr  # what a library prints is no output of the run
    waiting = select.poll()
    waiting.register(channel, select.POLLIN)
    with channel:
        while (is_there := bool(waiting.poll(500))) or os.getppid() == parent:
            if not is_there:
                continue
            segment = receive(channel)
            if segment is None:
                break
            try:
                message = unpack(segment)
            except ImportError as error:
                refuse(f"in the worker {error}")
            found = answer(message)
            segment.close()
            if found is not None:
                segment = pack(found)
                with contextlib.suppress(OSError):  # nobody is there, but more may have been handed over
                    send(channel, segment)
                segment.close()


@cache
def board() -> Board:
    """The child's own, on which it says what it is at."""
    return Board(int(sys.argv[3]))


def refuse(reason: str) -> NoReturn:
    """Ends the child, which cannot do what it was handed; its parent finds the reason."""
    board().say(reason)
    os._exit(_REFUSED)  # at once: whoever sees the channel end takes it for stuck, and kills it


def _end_with(parent: int, seconds_left: float) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    time.sleep(seconds_left)
    os._exit(1)
