"""The service's metrics in Prometheus' format, summed over all its processes.

`PROMETHEUS_MULTIPROC_DIR` must be set before this module is imported; `eurosat serve` sets it.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

REQUESTS = Counter("eurosat_requests", "HTTP requests.", ["route", "status"])
LATENCY = Histogram(
    "eurosat_request_seconds",
    "Time from a request's first byte to its answer.",
    ["route"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
IN_FLIGHT = Gauge(
    "eurosat_requests_in_flight",
    "Requests to protected routes that are being answered.",
    multiprocess_mode="livesum",
)
PREDICTIONS = Counter("eurosat_predictions", "Images classified, by predicted class.", ["label"])
CONFIDENCE = Histogram(
    "eurosat_confidence",
    "Probability of the predicted class.",
    buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1),
)
REJECTED = Counter("eurosat_images_rejected", "Images that could not be read.")
BATCH_SIZE = Histogram(
    "eurosat_batch_size", "Images in one call of the model.", buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
WORKER_EXITS = Counter(
    "eurosat_worker_exits", "Worker processes that exited while the service ran."
)
MODEL = Gauge(
    "eurosat_model_info",
    "The model that answers.",
    ["version", "backbone", "format"],
    multiprocess_mode="mostrecent",
)


def render() -> bytes:
    """Render the metrics of all processes in Prometheus' text format."""
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
