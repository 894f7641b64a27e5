"""The events of a run in its log: lines for people, and fields for programs."""

import logging
import math
from collections.abc import Sequence

from eurosat.data.opened import OpenedData
from eurosat.data.splits import SPLITS
from eurosat.run_card import RunPart

_log = logging.getLogger(__name__)


def log_metrics(event: str, metrics: dict[str, float], **fields: int) -> None:
    """Log the metrics of an epoch, a validation or a test."""
    # JSON cannot represent NaN or infinity.
    numbers = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    _log.info(
        "%s: %s",
        " ".join([event, *map(str, fields.values())]),
        ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()),
        extra={"event": event, **fields, "metrics": numbers},
    )


def log_resume(parts: Sequence[RunPart], checkpoint: str | None) -> None:
    """Log from where a run continues that was stopped."""
    _log.info(
        "part %d of the run, which was stopped (%s): %s",
        len(parts) + 1,
        ", ".join(part.status for part in parts),
        f"continues from {checkpoint}" if checkpoint else "begins again, before a first checkpoint",
        extra={"event": "resume", "part": len(parts) + 1, "checkpoint": checkpoint},
    )


def log_data(data: OpenedData) -> None:
    """Log the data and their split."""
    store = data.store.card
    counts: dict[str, int] = {split: len(data.splits[split]) for split in SPLITS}
    _log.info(
        "data: %d images of %s, %s",
        store.images,
        store.source,
        ", ".join(f"{count} {split}" for split, count in counts.items()),
        extra={
            "event": "data",
            "source": store.source,
            "images": store.images,
            "fingerprint": store.fingerprint,
            "split": {"fingerprint": data.splits.fingerprint, **counts},
        },
    )
