"""Quantities of the monitor itself: its schedule, and what it costs."""

from fnet_callbacks.quantities.quantity import Quantity

MONITOR = (
    Quantity("step", "step", "Number of batches that stepped an optimiser so far.", (0, None)),
    Quantity("interval", "interval", "Steps since the last snapshot.", (0, None)),
    Quantity(
        "overhead_share",
        "share of the wall time",
        "Share of the wall time that snapshots have cost so far.",
        (0, None),
    ),
    Quantity("skipped", "skipped snapshots", "Number of snapshots that were left out so far.", (0, None)),
    Quantity("cost_ms", "cost of a snapshot", "All that a snapshot cost, in milliseconds.", (0, None)),
)
