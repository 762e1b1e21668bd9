"""What the benchmarks share: interleaved rounds, Markdown tables, JSON files, and what they were measured on."""

import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba

SLOW_S = 10.0


def fastest(contestants: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Seconds of each contestant's fastest round; the rounds of all are interleaved."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            if max(times[name], default=0.0) > SLOW_S:
                continue
            start = time.perf_counter()
            run()
            elapsed = time.perf_counter() - start
            if turn or elapsed > SLOW_S:  # turn 0 warms up: compilation, caches, worker processes
                times[name].append(elapsed)
    return {name: min(values) for name, values in times.items()}


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]], *, text: int = 1) -> str:
    """A table whose first ``text`` columns are words and the others numbers, aligned for the terminal too."""
    lines = [list(columns), *map(list, rows)]
    widths = [max(4, *(len(line[k]) for line in lines)) for k in range(len(columns))]
    marks = [f":{'-' * (w - 1)}" if k < text else f"{'-' * (w - 1)}:" for k, w in enumerate(widths)]
    lines.insert(1, marks)
    padded = [
        [
            cell.ljust(w) if k < text else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def number(value: float | None) -> str:
    """Two digits or three that count; empty for what was not measured."""
    if value is None or math.isnan(value):
        return ""
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def machine(*libraries: str) -> str:
    """The machine, the threads and the versions that a table was measured with."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = {"OMP": os.environ.get("OMP_NUM_THREADS", "default"), "Numba": numba.config.NUMBA_NUM_THREADS}  # type: ignore[attr-defined]
    versions = ", ".join(f"{library} {version(library)}" for library in libraries)
    return (
        f"{_processor()}, {cores} cores; threads: {', '.join(f'{k} {v}' for k, v in threads.items())}; "
        f"Python {platform.python_version()}, {versions}"
    )


def write_json(path: Path | None, content: Any) -> None:
    """Strict JSON, with null for what was not measured; nothing where no path is given."""
    if path is not None:
        strict = json.loads(json.dumps(content), parse_constant=lambda _: None)
        path.write_text(json.dumps(strict, indent=2, allow_nan=False) + "\n")


def tell(what: str) -> None:
    """Says on the error stream what is going on; the tables alone are on the output."""
    print(what, file=sys.stderr, flush=True)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
