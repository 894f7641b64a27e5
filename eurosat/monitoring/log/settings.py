"""Settings of the prediction log."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from eurosat.errors import PredictionLogError
from eurosat.monitoring.log.spool import ABANDONED_SECONDS, SEGMENT_BYTES


@dataclass(frozen=True)
class LogSettings:
    """Where the service logs its predictions.

    Attributes:
        url: Folder, or URL of a folder in a bucket, for the uploaded segments.
        spool: Local folder in which records wait for their upload.
        spool_bytes: Largest size of the spool; further records are dropped and counted.
        seconds: Age at which a segment is uploaded, unless it is full earlier.
    """

    url: str
    spool: Path
    spool_bytes: int
    seconds: float


def log_settings(
    url: str | None, spool: Path | None, spool_mib: float, seconds: float
) -> LogSettings | None:
    """Check the settings; None if predictions are not logged.

    Args:
        url: Folder or URL of the log; None if predictions are not logged.
        spool: Local folder; None for the default folder of the URL.
        spool_mib: Largest size of the spool in MiB.
        seconds: Age at which a segment is uploaded.

    Raises:
        PredictionLogError: A setting cannot be used.
    """
    if url is None:
        if spool is not None:
            raise PredictionLogError(
                "--log_spool has no effect without a log: give --log_url, or remove --log_spool"
            )
        return None
    if not 0 < seconds <= ABANDONED_SECONDS / 2:
        raise PredictionLogError(
            f"--log_seconds is {seconds:g}: choose a number of seconds up to "
            f"{ABANDONED_SECONDS / 2:g}"
        )
    if spool_mib * 2**20 < SEGMENT_BYTES:
        raise PredictionLogError(
            f"--log_spool_mib is {spool_mib:g}: choose at least {SEGMENT_BYTES / 2**20:g}, the "
            "size of a segment, for each API process"
        )
    return LogSettings(url, spool or _default_spool(url), int(spool_mib * 2**20), seconds)


def _default_spool(url: str) -> Path:
    """Folder for the spool of a URL, the same after a restart of the service."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    user = os.getuid() if hasattr(os, "getuid") else 0
    # One folder: whoever owns a folder above the spool could exchange the spool.
    return Path(tempfile.gettempdir()) / f"eurosat-log-{user}-{digest}"
