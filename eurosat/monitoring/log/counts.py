"""The metrics of the prediction log, summed over the service's processes.

`PROMETHEUS_MULTIPROC_DIR` must be set before this module is imported; `eurosat serve` sets it.
"""

from prometheus_client import Counter, Gauge

RECORDS = Counter(
    "eurosat_log_records", "Records of the prediction log, one for each request.", ["outcome"]
)
"""``outcome`` is "written" or "dropped"."""

WAITING_BYTES = Gauge(
    "eurosat_log_waiting_bytes",
    "Size of the records that wait in the spool for their upload.",
    multiprocess_mode="mostrecent",
)
OLDEST_WAITING = Gauge(
    "eurosat_log_oldest_waiting_seconds",
    "Age of the oldest segment that waits in the spool; 0 if no segment waits.",
    multiprocess_mode="mostrecent",
)
UPLOADS = Counter("eurosat_log_uploads", "Uploads of segments.", ["outcome"])
"""``outcome`` is "done" or "failed"."""


def initialise() -> None:
    """Set every label value to 0, so that a rate over the first failure is known."""
    for outcome in ("written", "dropped"):
        RECORDS.labels(outcome)
    for outcome in ("done", "failed"):
        UPLOADS.labels(outcome)
