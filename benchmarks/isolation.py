"""What an isolated block costs, around nothing: state is looked at, kept and compared, no pass is made.

    OMP_NUM_THREADS=1 python -m benchmarks.isolation

Each model is measured with what passes change known, as from the second snapshot on, and looked at closely, as in the
first. In the last rows something large hangs on the model that passes leave alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.tables import machine, markdown
from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.writes import Writes

ROUNDS = 200
COLUMNS = ("model", "each pass, µs", "first pass, µs")


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    rows = [
        (name, *(f"{_cost(make(), is_settled):.0f}" for is_settled in (True, False)))
        for name, make in MODELS.items()
    ]
    print(markdown(COLUMNS, rows))
    print(f"\nCPU time, medians of {ROUNDS} blocks around nothing. {machine('torch')}")


def _cost(model: nn.Module, is_settled: bool) -> float:
    writes = Writes()
    with isolated(model, seed=0, writes=writes):
        pass
    if is_settled:
        writes.settle()
    seconds = []
    for _ in range(ROUNDS if is_settled else ROUNDS // 10):
        start = time.process_time()
        with isolated(model, seed=0, writes=writes):
            pass
        seconds.append(time.process_time() - start)
    return 1e6 * statistics.median(seconds)


def _mlp(depth: int = 4, width: int = 128) -> nn.Sequential:
    hidden = [part for _ in range(depth) for part in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(width, 10))


def _norms() -> nn.Sequential:
    return nn.Sequential(
        *(part for _ in range(50) for part in (nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU()))
    )


def _with(value: Callable[[], object]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = _mlp()
        vars(model)["attribute"] = value()
        return model

    return make


def _nested(depth: int) -> list[object]:
    found: list[object] = []
    for _ in range(depth):
        found = [found]
    return found


MODELS: dict[str, Callable[[], nn.Module]] = {
    "MLP, 4 x 128": _mlp,
    "MLP, 4 x 2048": lambda: _mlp(width=2048),
    "50 layers with batch norm": _norms,
    "MLP, vocabulary of 500,000 words": _with(lambda: {f"word {i}": i for i in range(500_000)}),
    "MLP, buffer of 20,000 tensors": _with(lambda: [torch.zeros(8) for _ in range(20_000)]),
    "MLP, lists nested 2,000 deep": _with(lambda: _nested(2_000)),
}


if __name__ == "__main__":
    main()
