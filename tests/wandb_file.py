"""Reads back what W&B wrote offline: LevelDB's log format behind a header of seven bytes."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_HEADER, _BLOCK, _HEAD = 7, 32 * 1024, 7
_FULL, _LAST = 1, 4
_END = "exit"


def records(file: Path) -> list[Record]:
    """The records of a finished run's ``run-<id>.wandb`` file, in the order in which they were written."""
    for _ in range(100):  # another process writes it; `wandb.finish` may return before the end is on disk
        found = list(_parsed(file.read_bytes()))
        if found and found[-1].WhichOneof("record_type") == _END:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{file} has no end")


def _parsed(data: bytes) -> Iterator[Record]:
    assert data[:4] == b":W&B"
    position, parts = _HEADER, b""
    while position + _HEAD <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEAD:  # too little room for a head: the rest of the block is padding
            position += left
            continue
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        kind = data[position + 6]
        if position + _HEAD + length > len(data):
            return
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
