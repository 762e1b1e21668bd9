"""What a process is at, and an alarm that ends it where that takes too long.

The alarm is the system's: it ends a process that is stuck in compiled code too, or whose parent is gone. What the
process was at then stands in a file in memory, where its parent finds it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from fnet_callbacks.worker.wire import new_file

_BYTES = 4096


class Board:
    """One line of text in a file that both sides hold.

    Args:
        fd: That of the file; None makes one.

    Attributes:
        fd: Its file descriptor.

    Raises:
        OSError: There is not enough shared memory.
    """

    def __init__(self, fd: int | None = None) -> None:
        self.fd = new_file() if fd is None else fd

    @contextmanager
    def at(self, what: str, *, seconds: float | None) -> Iterator[None]:
        """Says what a block is about, and ends this process by SIGALRM if it takes more than so many seconds."""
        # A parent that ignores or blocks the alarm hands that down.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        self._write(what)
        signal.setitimer(signal.ITIMER_REAL, seconds or 0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._write("")

    def say(self, what: str) -> None:
        """Leaves a text behind."""
        self._write(what)

    def _write(self, text: str) -> None:
        os.pwrite(self.fd, text.encode(errors="replace")[:_BYTES].ljust(_BYTES, b"\0"), 0)

    @property
    def last(self) -> str:
        """What the block is about that was not left; empty where none was."""
        return os.pread(self.fd, _BYTES, 0).rstrip(b"\0").decode(errors="replace")

    @property
    def is_written(self) -> bool:
        """Whether anything was ever said."""
        return os.fstat(self.fd).st_size > 0

    def close(self) -> None:
        """Lets go of it; safe to call twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
