"""Collecting the rows of a run's files from all processes."""

from typing import TypeVar

import torch.distributed as distributed

Row = TypeVar("Row")


def gather(rows: list[Row]) -> list[Row]:
    """Return the rows of all processes, in rank order, on every process."""
    if not distributed.is_initialized():
        return rows
    parts: list[list[Row]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(parts, rows)
    return [row for part in parts for row in part]
