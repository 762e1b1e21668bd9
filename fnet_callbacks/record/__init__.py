"""The run's own files: one folder, readable with NumPy and json alone.

``manifest.json`` says what was measured on what, ``scalars.jsonl`` holds one line a snapshot,
``snapshot_<step>.npz`` the arrays of one snapshot. A snapshot counts from the moment its line is complete;
its arrays are written before that.
"""

from fnet_callbacks.record.reader import Record, read_record
from fnet_callbacks.record.snapshot import FORMAT, MANIFEST, SCALARS, VERSION, Snapshot
from fnet_callbacks.record.store import SnapshotStore
from fnet_callbacks.record.tables import Key

__all__ = [
    "FORMAT",
    "MANIFEST",
    "SCALARS",
    "VERSION",
    "Key",
    "Record",
    "Snapshot",
    "SnapshotStore",
    "read_record",
]
