"""Draws figures in a process of its own: matplotlib in a thread would hold the interpreter's lock against training.

The child is plain ``python -m fnet_callbacks.artist``: it imports neither torch nor the user's script, takes
portraits on its standard input, gives images on its standard output, and ends when its input does, so that it never
outlives the run, even a killed one. Both ways go ``.npz`` archives behind their length in bytes; no pickle.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import struct
import subprocess
import sys
import threading
from collections import defaultdict
from concurrent.futures import Future
from dataclasses import fields
from queue import Empty, SimpleQueue
from typing import IO, Any

import numpy as np

from fnet_callbacks.errors import FnetError
from fnet_callbacks.figures import Painter, Portrait

Images = Future[dict[str, np.ndarray]]

_LENGTH = struct.Struct("<q")
_ARRAYS = tuple(f.name for f in fields(Portrait) if f.name not in ("title", "scale", "diagrams", "n_neurons"))


class Artist:
    """The parent's side: portraits in, futures of images out, in order.

    The child starts with the first portrait. Raises nothing: what goes wrong in the child is its future's exception.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._work: SimpleQueue[tuple[str, Portrait, Images] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def paint(self, sitter: str, portrait: Portrait) -> Images:
        """Asks for the images of a portrait; positions and colours carry over between those of one sitter."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="fnet-artist", daemon=True)
            self._thread.start()
        images: Images = Future()
        self._work.put((sitter, portrait, images))
        return images

    def close(self) -> None:
        """Ends the child; pictures that it had not finished are given up."""
        if self._thread is None:
            return
        with contextlib.suppress(Empty):
            while (asked := self._work.get_nowait()) is not None:
                asked[2].cancel()
        self._work.put(None)
        if self._child is not None:
            self._child.kill()
        self._thread.join()
        self._thread = None

    def _serve(self) -> None:
        """Waits on the child, which costs the training thread nothing."""
        while (asked := self._work.get()) is not None:
            sitter, portrait, images = asked
            try:
                images.set_result(self._painted(sitter, portrait))
            except Exception as error:
                images.set_exception(error)
        if self._child is not None:
            self._child.communicate()  # closes its input, at which it ends, and waits
            self._child = None

    def _painted(self, sitter: str, portrait: Portrait) -> dict[str, np.ndarray]:
        child = self._child = self._child or _start()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            _send(child.stdin, _packed(sitter, portrait))
            reply = _receive(child.stdout)
        except BrokenPipeError:
            reply = None
        if reply is None:
            raise FnetError(f"the process that draws has ended with {child.wait()}")
        if "error" in reply:
            raise FnetError(str(reply["error"]))
        return reply


def _start() -> subprocess.Popen[bytes]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-m", "fnet_callbacks.artist"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )


def _packed(sitter: str, portrait: Portrait) -> dict[str, Any]:
    arrays = {name: getattr(portrait, name) for name in _ARRAYS}
    diagrams = {f"diagram_{k}": d for k, d in enumerate(portrait.diagrams)}
    scale = np.nan if portrait.scale is None else portrait.scale
    numbers = {"n_neurons": portrait.n_neurons, "scale": scale}
    return {"sitter": sitter, "title": portrait.title, **numbers, **arrays, **diagrams}


def _unpacked(message: dict[str, np.ndarray]) -> Portrait:
    scale = float(message["scale"])
    return Portrait(
        title=str(message["title"]),
        n_neurons=int(message["n_neurons"]),
        diagrams=[message[k] for k in sorted(k for k in message if k.startswith("diagram_"))],
        scale=None if np.isnan(scale) else scale,
        **{name: message[name] for name in _ARRAYS},
    )


def _send(stream: IO[bytes], message: dict[str, Any]) -> None:
    packed = io.BytesIO()
    np.savez(packed, **message)
    stream.write(_LENGTH.pack(packed.getbuffer().nbytes))
    stream.write(packed.getbuffer())
    stream.flush()


def _receive(stream: IO[bytes]) -> dict[str, np.ndarray] | None:
    """The next message; None where the other side has gone."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    body = stream.read(_LENGTH.unpack(head)[0])
    if len(body) < _LENGTH.unpack(head)[0]:
        return None
    with np.load(io.BytesIO(body), allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


def main() -> None:
    """The child: paints until its input ends."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the run, which closes our input when it has ended
    if hasattr(os, "nice"):
        os.nice(5)  # pictures can wait, training cannot
    images, sys.stdout = sys.stdout.buffer, sys.stderr  # nothing that a library prints gets among the images
    painters: defaultdict[str, Painter] = defaultdict(Painter)
    with contextlib.suppress(BrokenPipeError):  # the run has ended before its picture was done
        while (message := _receive(sys.stdin.buffer)) is not None:
            try:
                reply: dict[str, Any] = dict(painters[str(message["sitter"])].paint(_unpacked(message)))
            except Exception as error:
                reply = {"error": f"{type(error).__name__}: {error}"}
            _send(images, reply)


if __name__ == "__main__":
    main()
