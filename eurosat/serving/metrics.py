"""The service's metrics in Prometheus' format, summed over all its processes.

`PROMETHEUS_MULTIPROC_DIR` must be set before this module is imported; `eurosat serve` sets it.
Every process writes its values into files of its own in that folder, and the values of a process
that was killed stay there. The sums therefore never lose what a killed process had counted.

The labels have few values: routes are the application's own routes or "other", statuses are those
of HTTP or 499, classes are the model's.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
    multiprocess,
    start_http_server,
)
from prometheus_client.registry import Collector

from eurosat.serving import metric_files  # noqa: F401  # before the first metric
from eurosat.serving.problems import SAFE_HEADERS
from eurosat.serving.process_metrics import ProcessCollector

CALLER_HAS_GONE = 499
"""Status of a request whose caller closed the connection before the answer, as nginx has it."""

FAILURES = (500, 503, 504)
"""Statuses by which the service says that it failed, which the objective of availability counts."""


class ProcessKind(StrEnum):
    """What a process of the service does; see ``docs/explanation/architecture.md``."""

    WORKER = "worker"
    API = "api"
    BACKGROUND = "background"


REQUESTS = Counter(
    "eurosat_requests",
    "HTTP requests by route and by status; requests that are refused or fail included.",
    ["route", "status"],
)
DURATION = Histogram(
    "eurosat_request_duration_seconds",
    "Time from a request's first byte to its answer.",
    ["route"],
    # 0.1, 0.25, 0.5, 1 and 2.5 s are the bounds that an objective of latency may have.
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
STAGE_DURATION = Histogram(
    "eurosat_stage_duration_seconds",
    "Time that a request spends in a stage: decode (reading the images), queue (waiting for a "
    "worker) and model (the computation of the request's batch).",
    ["stage"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
IN_FLIGHT = Gauge(
    "eurosat_requests_in_flight",
    "Requests to protected routes whose body has arrived and that are being answered.",
    multiprocess_mode="livesum",
)
QUEUE_DEPTH = Gauge(
    "eurosat_queue_depth",
    "Requests that wait for a worker.",
    multiprocess_mode="livesum",
)
"""An API process sets its number of unanswered requests, and a worker minus those it computes."""

PREDICTIONS = Counter("eurosat_predictions", "Images classified, by predicted class.", ["label"])
CONFIDENCE = Histogram(
    "eurosat_confidence",
    "Probability of the predicted class.",
    buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1),
)
ENTROPY = Histogram(
    "eurosat_entropy_nats",
    "Entropy of an image's probabilities; ln 10 = 2.303 if all of ten classes are equally likely.",
    buckets=(0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1, 1.4, 1.8, 2.1, 2.3026),
)
OOD_SCORE = Histogram(
    "eurosat_ood_score",
    "Rank of an image among validation images, from 0 to 1; 1 is the most unusual.",
    buckets=(0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1),
)
OOD_FLAGS = Counter(
    "eurosat_ood_flags", "Images that do not look like the images which the model knows."
)
REJECTED = Counter("eurosat_images_rejected", "Images that could not be read.")
BATCH_IMAGES = Histogram(
    "eurosat_batch_images",
    "Images in one call of the model.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)
PROCESS_EXITS = Counter(
    "eurosat_process_exits",
    "Processes that exited while the service ran, and were started again.",
    ["process"],
)
"""``process`` is a `ProcessKind`."""
MODEL = Gauge(
    "eurosat_model_info",
    "The model that answers.",
    ["version", "backbone", "format"],
    multiprocess_mode="mostrecent",
)


def prepare(routes: Iterable[str], classes: Iterable[str]) -> None:
    """Start the counters of requests, failures, predictions and exits at zero.

    Prometheus sees an increase only between two values of a series. A series that began with the
    first failure would hide the first failure.

    Args:
        routes: Paths of the protected routes.
        classes: The model's classes.
    """
    for route in routes:
        DURATION.labels(route)
        for status in FAILURES:
            REQUESTS.labels(route, status)
    for label in classes:
        PREDICTIONS.labels(label)
    for kind in ProcessKind:
        PROCESS_EXITS.labels(kind)


def observe_image(
    classes: Sequence[str],
    probabilities: npt.NDArray[np.float32],
    ood: tuple[float, bool] | None = None,
) -> None:
    """Count the prediction of one image.

    Args:
        classes: The K classes of the model.
        probabilities: The image's probabilities, float32, shape (K,).
        ood: The image's out-of-distribution score from 0 to 1, and its flag; None if the model
            file has no reference.
    """
    PREDICTIONS.labels(classes[int(probabilities.argmax())]).inc()
    CONFIDENCE.observe(float(probabilities.max()))
    possible = probabilities[probabilities > 0].astype(np.float64)
    ENTROPY.observe(max(0.0, float(-(possible * np.log(possible)).sum())))
    if ood is not None:
        score, flag = ood
        OOD_SCORE.observe(score)
        OOD_FLAGS.inc(int(flag))


def process_ended(process: int) -> None:
    """Forget the gauges of a process that exited; its counters and histograms stay.

    Args:
        process: The number (PID) of the process.
    """
    multiprocess.mark_process_dead(process)  # type: ignore[no-untyped-call]


class _ServiceCollector(Collector):
    """The values of all processes of the service."""

    def collect(self) -> Iterator[Metric]:
        # A process that was killed at its very start leaves an empty file, which nobody can read.
        folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        files = [str(file) for file in folder.glob("*.db") if _size(file)]
        merged = multiprocess.MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        for metric in merged:
            if metric.name == "eurosat_queue_depth":
                # A worker may still compute a request that the API process has given up.
                metric.samples = [
                    sample._replace(value=max(0.0, sample.value)) for sample in metric.samples
                ]
            yield metric


def _size(file: Path) -> int:
    """Return the size of a file in bytes; 0 if the file was removed."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_ServiceCollector())
    registry.register(ProcessCollector())
    return registry


def render() -> bytes:
    """Render the metrics of all processes in Prometheus' text format."""
    return generate_latest(_registry())


def serve_metrics(host: str, port: int) -> None:
    """Serve the metrics on a port of their own, in a thread that ends with the process.

    Args:
        host: Address to listen on.
        port: Port to listen on.
    """
    server, _ = start_http_server(port, host, _registry())
    app: Any = server.get_app()

    def answer(environ: Any, start_response: Any) -> list[bytes]:
        """Answer HEAD as GET, and add the headers."""
        is_head = environ["REQUEST_METHOD"] == "HEAD"
        begun: list[Any] = []
        content = b"".join(
            app(
                environ | {"REQUEST_METHOD": "GET"} if is_head else environ,
                lambda status, headers: begun.extend([status, headers]),
            )
        )
        status, headers = begun
        length = ("Content-Length", str(len(content)))
        start_response(status, [*headers, *SAFE_HEADERS.items(), length])
        return [] if is_head else [content]

    server.set_app(answer)
