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


def cost(part: str) -> Quantity:
    """The cost of a part of an instrument's snapshot."""
    words = part.replace("_", " ")
    definitions = {
        "training_thread": "What a snapshot cost the training thread, in milliseconds.",
        "worker": "CPU time of the worker for a snapshot, in milliseconds.",
        "total": "All that the instrument's part of a snapshot cost, in milliseconds.",
    }
    other = f"Time of the part `{part}` of a snapshot, in milliseconds."
    return Quantity(part, f"cost: {words}", definitions.get(part, other), (0, None))
