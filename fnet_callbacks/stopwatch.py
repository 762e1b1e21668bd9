"""What the parts of a snapshot cost."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Milliseconds of named parts; the time of a part inside another is not counted twice."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._inner: list[float] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time of a block, less that of the parts inside it, to ``name``."""
        start = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            elapsed = (time.perf_counter() - start) * 1e3
            own = elapsed - self._inner.pop()
            self.ms[name] = self.ms.get(name, 0.0) + own
            if self._inner:
                self._inner[-1] += elapsed
