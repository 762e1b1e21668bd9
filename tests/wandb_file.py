"""Reads back what W&B wrote offline: LevelDB's log format behind a header of seven bytes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_HEADER, _BLOCK, _HEAD = 7, 32 * 1024, 7
_FULL, _LAST = 1, 4


def records(file: Path) -> Iterator[Record]:
    """The records of a ``run-<id>.wandb`` file, in the order in which they were written."""
    data = file.read_bytes()
    assert data[:4] == b":W&B"
    position, parts = _HEADER, b""
    while position + _HEAD <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEAD:  # too little room for a head: the rest of the block is padding
            position += left
            continue
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        kind = data[position + 6]
        parts += data[position + _HEAD : position + _HEAD + length]
        position += _HEAD + length
        if kind in (_FULL, _LAST):
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def run_file(folder: Path) -> Path:
    """The only run under a folder."""
    (file,) = folder.rglob("run-*.wandb")
    return file


def history(file: Path) -> list[dict[str, Any]]:
    """The rows that were logged."""
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records(file)
        if record.WhichOneof("record_type") == "history"
    ]


def step_metrics(file: Path) -> dict[str, str]:
    """Which axis each pattern of keys was given."""
    metrics = [r.metric for r in records(file) if r.WhichOneof("record_type") == "metric"]
    return {m.glob_name or m.name: m.step_metric for m in metrics}
