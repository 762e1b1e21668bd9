"""Draws figures in a process of its own: matplotlib in a thread would hold the interpreter's lock against training.

The child is ``python -m fnet_callbacks.worker.artist``: portraits in, pictures out, in order.
"""

from __future__ import annotations

import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Collection
from dataclasses import replace

from fnet_callbacks.errors import FnetWarning
from fnet_callbacks.interrupts import handlers_held
from fnet_callbacks.portrait import Portrait
from fnet_callbacks.worker.jobs import Pictures, Request
from fnet_callbacks.worker.process import Child, board, serve
from fnet_callbacks.worker.wire import unpack

_MAX_SECONDS = 600.0  # for the figures of a portrait
_NICENESS = 10  # behind the analysis, for which training may be waiting


class Artist:
    """The parent's side.

    The child starts with the first request. Where none can start, the caller's thread draws.

    Attributes:
        seconds_here: What the caller's thread has spent on drawing.
        last_here: Of that, on the last portrait.
    """

    def __init__(self) -> None:
        self.seconds_here = self.last_here = 0.0
        self._is_here = False
        self._child: Child | None = None
        self._draw_here: Callable[[Request], Pictures] | None = None
        self._done: deque[Pictures] = deque()

    def stay_here(self) -> None:
        """Has the caller's thread draw, the graphs of networks alone: without matplotlib, in a tenth of a second."""
        self._is_here = True

    @property
    def is_owed(self) -> bool:
        """Whether pictures are there or on their way."""
        return bool(self._done) or (self._child is not None and bool(self._child.unanswered))

    def paint(self, request: Request) -> None:
        """Asks for pictures; positions and colours carry over between those of one instrument.

        Waits while too many are on the way.
        """
        if self._is_here and not isinstance(request.portrait, Portrait):
            return
        while self._child is not None and self._child.is_full:
            self._receive(wait=True)
        if self._is_here and self._draw_here is None:
            self._draw_here = _painter(("graph",))
        if self._draw_here is None:
            try:
                self._child = self._child or Child(__name__, niceness=_NICENESS)
                self._child.ask(request)
                return
            except OSError as error:
                warnings.warn(f"figures are drawn on the training thread: {error}", FnetWarning, stacklevel=2)
                while self._receive(wait=True):  # in order: what is on the way comes first
                    pass
                self.close()
                self._draw_here = _painter()
        start = time.perf_counter()
        self._done.append(replace(self._draw_here(request), seconds=0.0))
        self.last_here = time.perf_counter() - start
        self.seconds_here += self.last_here

    def pictures(self, *, wait: bool) -> list[Pictures]:
        """The pictures that came since the last call, in order; with ``wait`` all there will be."""
        while self._receive(wait=wait):
            pass
        with handlers_held():
            found = list(self._done)
            self._done.clear()
        return found

    def close(self) -> None:
        """Ends the child; what is on the way is given up. Safe to call twice."""
        if self._child is not None:
            self._child.give_up()
            self._child = None

    def _receive(self, *, wait: bool) -> bool:
        if wait and self._child is not None:
            self._child.wait()
        with handlers_held():
            if self._child is None:
                return False
            try:
                pictures: Pictures | None = self._child.answer(wait=False)
            except EOFError:
                self._give_up(self._child)
                return True
            if pictures is not None:
                self._done.append(pictures)
            # Nothing was there where a handler took it while this one waited.
            return pictures is not None or (wait and bool(self._child.unanswered))

    def _give_up(self, child: Child) -> None:
        """Says of what a child owes that there are no pictures."""
        self._child = None
        status = child.end()
        failure = f"the process that draws has ended (exit status {status})"
        if child.stuck_at is not None:
            failure = f"they were not done after {_MAX_SECONDS:g} s"
        lost: list[Request] = [unpack(segment) for segment in child.unanswered]
        child.give_up()
        self._done.extend(Pictures(request.step, request.instrument, failure=failure) for request in lost)


def _painter(names: Collection[str] | None = None) -> Callable[[Request], Pictures]:
    from fnet_callbacks.figures import Painter, png

    painters: defaultdict[str, Painter] = defaultdict(Painter)

    def draw(request: Request) -> Pictures:
        start = time.process_time()
        try:
            images = painters[request.instrument].paint(request.portrait, names)
            encoded = {name: png(image) for name, image in images.items()}
        except Exception as error:
            return Pictures(request.step, request.instrument, failure=f"{type(error).__name__}: {error}")
        return Pictures(request.step, request.instrument, encoded, time.process_time() - start)

    return draw


def main() -> None:
    """The child."""
    draw = _painter()

    def answer(request: Request) -> Pictures:
        with board().at("figures", seconds=_MAX_SECONDS):
            return draw(request)

    serve(answer)


if __name__ == "__main__":
    main()
