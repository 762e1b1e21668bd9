"""How a snapshot grows with the number of neurons N: its time, its CPU time and its peak memory, part by part.

    python -m benchmarks.scale
    python -m benchmarks.scale --sizes 256 1024 --full 256 --json scale.json --picture scale.png

What is measured is a snapshot as the worker takes it, from activations [1024, N] to what the record keeps: the
correlation, then the standard tier with homology of all N nodes up to the graph's own radius, and beside it with the
full filtration. The activations are those of groups of ReLU units with noise; the snapshot before this one, with which
communities and edges are compared, has seen other noise.

Each row of figures comes from a process of its own, which first takes a snapshot of 64 neurons, so that imports and
kernels are loaded. Memory is the highest resident memory above what the process then has; activations, correlation
and all that is made of them are in it. Times are those of the fastest of three rounds; what takes over ten seconds
runs once. An exponent k says that a part grows as N^k, fitted by least squares to the logarithms.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.tables import SLOW_S, machine, markdown, number, tell, write_json
from fnet_callbacks import functional as F
from fnet_callbacks.network import Activity, GraphSettings, Network, Previous
from fnet_callbacks.palette import COLOURS
from fnet_callbacks.quantities.networks import measure, names_of
from fnet_callbacks.stopwatch import Stopwatch

SAMPLES, CLASSES, GROUPS = 1024, 10, 20
SIZES = (256, 512, 1024, 2048, 4096)
FULL_SIZES = (256, 512, 1024, 2048)
WARM_UP_NODES = 64
ROUNDS = 3
SHOWN = 8  # parts that are told apart, those with the largest share of a snapshot at some size
OTHERS = "all others"


@dataclass(frozen=True, slots=True)
class Taken:
    """One snapshot of N neurons: milliseconds of wall and CPU time, of each part, and bytes above the base."""

    n: int
    is_full: bool
    wall_ms: float
    cpu_ms: float
    parts_ms: Mapping[str, float]
    base_bytes: int
    peak_bytes: int


def activations(n_units: int, *, noise: int) -> np.ndarray:
    """Units of 20 overlapping groups, each with a factor in common, noise of their own and a ReLU, float32 [S, N].

    What ``noise`` draws differs; groups and factors do not, as in a network that has been trained a little further.
    """
    generator = np.random.default_rng(0)
    factors = generator.normal(size=(SAMPLES, GROUPS))
    loadings = generator.normal(size=(GROUPS, n_units)) * (generator.random((GROUPS, n_units)) < 4 / GROUPS)
    own = np.random.default_rng(noise).normal(size=(SAMPLES, n_units))
    return np.maximum(factors @ loadings + own, 0).astype(np.float32)


def scope(rows: np.ndarray, stopwatch: Stopwatch, **options) -> Network:
    """The network of those activations."""
    labels = np.arange(len(rows)) % CLASSES
    with stopwatch.part("correlation"):
        correlation = F.correlation_matrix(rows)
    with stopwatch.part("activity"):
        active = rows > 0
        activity = Activity(
            active.mean(axis=0), np.stack([active[labels == c].mean(axis=0) for c in range(CLASSES)]), rows
        )
    return Network(correlation, activity, stopwatch=stopwatch, **options)


def snapshot(rows: np.ndarray, previous: Previous, settings: GraphSettings) -> Stopwatch:
    """Takes a snapshot of the standard tier, to the arrays that the record keeps."""
    stopwatch = Stopwatch()
    network = scope(rows, stopwatch, previous=previous, settings=settings)
    measure(network, names_of("standard"), on_error="raise")
    with stopwatch.part("record"):
        network.arrays()
        network.to_previous()
    return stopwatch


def settings_of(n_units: int, *, is_full: bool) -> GraphSettings:
    radius = math.inf if is_full else "graph"
    return GraphSettings(homology_radius=radius, homology_max_nodes=n_units)


def take(n_units: int, is_full: bool) -> Taken:
    """Measures a snapshot in this process, which has done nothing before."""
    warm_up(is_full)
    base = _resident("VmRSS")
    settings = settings_of(n_units, is_full=is_full)
    previous = scope(activations(n_units, noise=1), Stopwatch(), settings=settings).to_previous()
    rows = activations(n_units, noise=2)
    _forget_peak()
    rounds: list[tuple[float, float, Stopwatch]] = []
    while len(rounds) < ROUNDS and sum(wall for wall, _, _ in rounds) < SLOW_S:
        wall, cpu = time.perf_counter(), time.process_time()
        stopwatch = snapshot(rows, previous, settings)
        rounds.append((time.perf_counter() - wall, time.process_time() - cpu, stopwatch))
    wall, cpu, stopwatch = min(rounds, key=lambda each: each[0])
    return Taken(n_units, is_full, 1e3 * wall, 1e3 * cpu, stopwatch.ms, base, _resident("VmHWM") - base)


def warm_up(is_full: bool) -> None:
    """Loads every kernel; compiles it where it is not on disk yet."""
    settings = settings_of(WARM_UP_NODES, is_full=is_full)
    before, rows = (activations(WARM_UP_NODES, noise=noise) for noise in (1, 2))
    snapshot(rows, scope(before, Stopwatch(), settings=settings).to_previous(), settings)


def exponent(sizes: ArrayLike, values: ArrayLike) -> float:
    """The slope of a straight line through the logarithms; NaN for less than two sizes, or where a value is 0."""
    if np.size(sizes) < 2 or np.min(values) <= 0:
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def series(taken: Sequence[Taken]) -> dict[str, list[float]]:
    """Milliseconds of each part at each size, the dearest at the largest size first, and what is left in one."""
    names = {name for each in taken for name in each.parts_ms}
    share = {name: max(t.parts_ms.get(name, 0.0) / t.wall_ms for t in taken) for name in names}
    shown = sorted(names, key=lambda name: -share[name])[:SHOWN]
    shown.sort(key=lambda name: -taken[-1].parts_ms.get(name, 0.0))
    found = {name: [t.parts_ms.get(name, 0.0) for t in taken] for name in shown}
    sums = [sum(parts) for parts in zip(*found.values(), strict=True)]
    return {**found, OTHERS: [t.wall_ms - total for t, total in zip(taken, sums, strict=True)]}


def table(capped: Sequence[Taken], full: Sequence[Taken]) -> str:
    """A column for each N, a row for each part; below, what is other with the full filtration."""
    sizes = [each.n for each in capped]
    rows = [_row(name, sizes, values) for name, values in series(capped).items()]
    rows += _totals("", sizes, capped)
    if full:
        by_size = {each.n: each for each in full}
        beside = [by_size.get(n) for n in sizes]
        homology = [None if each is None else each.parts_ms["homology"] for each in beside]
        rows.append(_row("full filtration: homology", sizes, homology))
        rows += _totals("full filtration: ", sizes, beside)
    return markdown(["milliseconds", *(f"N = {n}" for n in sizes), "grows as"], rows)


def draw(capped: Sequence[Taken], path: Path) -> None:
    """Left how each part grows, right what a snapshot is made of."""
    from matplotlib.figure import Figure

    sizes, parts = np.array([each.n for each in capped]), series(capped)
    colours = {**dict(zip(parts, COLOURS, strict=False)), OTHERS: "#B0B0B0"}
    total = np.array([each.wall_ms for each in capped])
    figure = Figure(figsize=(11.5, 4.6), dpi=120, layout="constrained")
    growth, shares = figure.subplots(1, 2, width_ratios=[1.2, 1])
    growth.plot(sizes, total, color="black", linewidth=2.2, label=_label("whole snapshot", sizes, total))
    for name, values in parts.items():
        growth.plot(
            sizes,
            values,
            color=colours[name],
            marker="o",
            markersize=3.5,
            linewidth=1.4,
            label=_label(name, sizes, values),
        )
    growth.plot(
        sizes,
        total[0] * (sizes / sizes[0]) ** 2.0,
        ":",
        color="gray",
        linewidth=1,
        label="N², for comparison",
    )
    growth.set(
        xscale="log", yscale="log", xlabel="neurons N", ylabel="milliseconds", title="How each part grows"
    )
    growth.set_xticks(sizes, map(str, sizes))
    growth.set_xticks([], minor=True)
    growth.grid(alpha=0.25, linewidth=0.6)
    growth.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    bottom = np.zeros(len(capped))
    for name, values in parts.items():
        share = 100 * np.array(values) / total
        shares.bar(range(len(capped)), share, 0.72, bottom, color=colours[name])
        bottom += share
    for place, ms in enumerate(total):
        told = f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1e3:.1f} s"
        shares.annotate(told, (place, 100), (0, 3), textcoords="offset points", ha="center", fontsize=8)
    shares.set(xlabel="neurons N", ylabel="% of the time", ylim=(0, 106), title="What a snapshot is made of")
    shares.set_xticks(range(len(capped)), map(str, sizes))
    for axes in (growth, shares):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _label(name: str, sizes: ArrayLike, values: ArrayLike) -> str:
    return f"{name}, $N^{{{exponent(sizes, values):.1f}}}$"


def _row(name: str, sizes: Sequence[int], values: Sequence[float | None]) -> list[str]:
    known = [(n, value) for n, value in zip(sizes, values, strict=True) if value is not None]
    power = exponent([n for n, _ in known], [value for _, value in known])
    return [name, *map(number, values), "" if math.isnan(power) else f"N^{power:.2f}"]


def _totals(prefix: str, sizes: Sequence[int], taken: Sequence[Taken | None]) -> list[list[str]]:
    def of(name: str, value: Callable[[Taken], float]) -> list[str]:
        return _row(prefix + name, sizes, [None if each is None else value(each) for each in taken])

    return [
        of("wall time", lambda each: each.wall_ms),
        of("CPU time", lambda each: each.cpu_ms),
        of("peak memory, MB", lambda each: each.peak_bytes / 1e6),
        [*of("peak memory, 8 N² bytes", lambda each: each.peak_bytes / (8 * each.n**2))[:-1], ""],
    ]


def _resident(field: str) -> int:
    """Bytes of ``VmRSS``, what is resident now, or ``VmHWM``, the most that was; Linux alone tells."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of neurons N")
    parser.add_argument(
        "--full", type=int, nargs="*", default=FULL_SIZES, help="those with the full filtration"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--picture", type=Path, help="draw the breakdown into this file")
    arguments = parser.parse_args()
    taken: dict[bool, list[Taken]] = {False: [], True: []}
    # A process for each task: nothing that one leaves behind is in the memory of the next.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        tell("compiling the kernels, where they are not on disk yet ...")
        pool.submit(warm_up, True).result()  # what compilation takes would be in the first base
        for is_full, sizes in ((False, arguments.sizes), (True, arguments.full)):
            for size in sorted(sizes):
                tell(f"measuring {size} neurons{', full filtration' if is_full else ''} ...")
                taken[is_full].append(pool.submit(take, size, is_full).result())
    print(machine("numpy", "scipy", "numba"))
    print(f"A snapshot of the standard tier from activations [{SAMPLES}, N]; above a base of", end=" ")
    print(
        f"{max(each.base_bytes for each in taken[False]) / 1e6:.0f} MB. Homology up to the graph's own radius.\n"
    )
    print(table(taken[False], taken[True]))
    rows = [asdict(each) for each in taken[False] + taken[True]]
    write_json(arguments.json, {"machine": machine("numpy", "scipy", "numba"), "snapshots": rows})
    if arguments.picture:
        draw(taken[False], arguments.picture)


if __name__ == "__main__":
    main()
