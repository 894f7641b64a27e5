"""Reader of the ``.wandb`` file in which W&B records a run."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_BLOCK = 32768
_HEADER = struct.Struct("<IHB")  # checksum, length, kind of fragment
_WHOLE, _LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """Read the records of a ``.wandb`` file: a header of 7 bytes, and then a LevelDB log.

    Format: https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    protocol = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    content, position, fragments = path.read_bytes(), 7, b""
    assert content.startswith(b":W&B")
    while position + _HEADER.size <= len(content):
        if _BLOCK - position % _BLOCK < _HEADER.size:
            position += _BLOCK - position % _BLOCK
            continue
        _, length, kind = _HEADER.unpack_from(content, position)
        position += _HEADER.size
        if position + length > len(content):
            return  # the rest is not written yet
        fragments += content[position : position + length]
        position += length
        if kind in (_WHOLE, _LAST):
            record = protocol.Record()
            record.ParseFromString(fragments)
            fragments = b""
            yield record


@dataclass
class TrackedRun:
    """The contents of a run that ``wandb sync`` would upload."""

    folder: Path
    project: str = ""
    tags: set[str] = field(default_factory=set)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    system_metrics: set[str] = field(default_factory=set)
    artifacts: list[Any] = field(default_factory=list)
    exit_code: int | None = None

    @classmethod
    def read(cls, log: Path) -> "TrackedRun":
        run = cls(log.parent)
        for record in records(log):
            match record.WhichOneof("record_type"):
                case "run":
                    run.project = record.run.project
                    run.tags |= set(record.run.tags)
                    run.config |= _values(record.run.config.update)
                case "config":
                    run.config |= _values(record.config.update)
                case "summary":
                    run.summary |= _values(record.summary.update)
                case "history":
                    run.history.append(_values(record.history.item))
                case "stats":
                    run.system_metrics |= {item.key for item in record.stats.item}
                case "artifact":
                    run.artifacts.append(record.artifact)
                case "exit":
                    run.exit_code = record.exit.exit_code
        return run

    def files_of(self, name: str) -> dict[str, Path]:
        """Files of the only artifact whose name contains ``name``, by path within the artifact."""
        (artifact,) = (each for each in self.artifacts if name in each.name)
        return {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}

    def series(self, name: str) -> list[Any]:
        return [row[name] for row in self.history if name in row]


def _values(items: Any) -> dict[str, Any]:
    return {
        ".".join(item.nested_key) or item.key: json.loads(item.value_json)
        for item in items
        if item.value_json
    }


def tracked_runs(folder: Path) -> list[TrackedRun]:
    """Read every run that W&B has stored below a folder.

    W&B completes the files only when its service ends: the service of this process is ended here,
    and the service of another process outlives the process for a moment.
    """
    pytest.importorskip("wandb").teardown()
    deadline = time.monotonic() + 30
    while True:
        runs = [TrackedRun.read(log) for log in sorted(folder.rglob("run-*.wandb"))]
        if all(run.exit_code is not None for run in runs) or time.monotonic() > deadline:
            return runs
        time.sleep(0.1)
