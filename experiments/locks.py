"""Who is at work on what: a file that names the process, and is worth nothing once that process is gone."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

try:
    import fcntl
except ImportError:  # no Unix
    fcntl = None

_MUTEX = ".locks"  # beside the files; kept while one of them is made or taken over
_SECONDS_TO_APPEAR = 10.0  # of what is written into a file that was just made


@dataclass(frozen=True, slots=True)
class Holder:
    """A process of one machine.

    Attributes:
        host: The machine's name, and its own id where it has one.
        boot: Of the machine; another one after each start.
        numbering: That its number is of: a container has one of its own.
        pid: Its number.
        started: When it started, as the system says it: a number is used again.
    """

    host: str
    boot: str
    numbering: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> Self:
        """This process."""
        return cls(*_machine(), os.getpid(), _started(os.getpid()) or "")

    @property
    def is_gone(self) -> bool:
        """Whether it has ended for certain: of another machine or container nothing is known."""
        host, boot, numbering = _machine()
        if self.host != host:
            return False
        if self.boot != boot:
            return True
        return self.numbering == numbering and _started(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition(' ')[0]}"


def claim(file: Path) -> Holder | None:
    """Makes a lock this process's, or says whose it is.

    One whose process is gone is taken over: it ended, the machine was started anew, or its number is another's by now.
    One of another machine is left alone, alive or not: that cannot be known from here, and the file may be removed by
    hand.

    Args:
        file: Of the lock; its folder is there.

    Returns:
        None where it is this process's now, also where it was before.

    Raises:
        OSError: The file cannot be written.
    """
    own = Holder.here()
    with _alone(file.parent):
        while not _made(file, own):
            found = holder(file)
            if found == own:
                return None
            if found is not None and not found.is_gone:
                return found
            file.unlink(missing_ok=True)
    return None


def release(file: Path) -> None:
    """Gives a lock up, where it is this process's."""
    with contextlib.suppress(OSError):
        if holder(file) == Holder.here():
            file.unlink()


def _made(file: Path, own: Holder) -> bool:
    """Whether the file could be made; it is there as a whole or not at all, where the file system knows links."""
    beside = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
    beside.write_text(json.dumps(asdict(own)))
    try:
        os.link(beside, file)
    except FileExistsError:
        return False
    except OSError:  # no links
        try:
            with file.open("x") as made:
                made.write(json.dumps(asdict(own)))
        except FileExistsError:
            return False
    finally:
        beside.unlink(missing_ok=True)
    return True


def holder(file: Path) -> Holder | None:
    """Who holds a lock; None where nobody does, or where what is in it stays no holder."""
    until = time.monotonic() + _SECONDS_TO_APPEAR
    while True:
        try:
            return Holder(**json.loads(file.read_text()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError):
            if time.monotonic() > until or time.time() - _written(file) > _SECONDS_TO_APPEAR:
                return None
            time.sleep(0.05)


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lets one process at a time in, where the system and the file system know how."""
    if fcntl is None:
        yield
        return
    with (folder / _MUTEX).open("w") as mutex:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(mutex, fcntl.LOCK_EX)
        yield


def _started(pid: int) -> str | None:
    """When a process started; None where there is none, or one that has ended and was not waited for."""
    try:
        state, *_ = fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else fields[19]
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    try:
        asked = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""  # all count as alive
    return asked.stdout.strip() or None


def _machine() -> tuple[str, str, str]:
    """Name, boot and numbering of processes, as far as the system has them."""
    numbering = ""
    with contextlib.suppress(OSError):
        numbering = os.readlink("/proc/self/ns/pid")
    host = f"{socket.gethostname()} {_text('/etc/machine-id')}".strip()
    return host, _text("/proc/sys/kernel/random/boot_id"), numbering


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
