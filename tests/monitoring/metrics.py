"""Metrics of a service, a prediction log and a drift service, whose values a test chooses."""

import threading
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from tests.serving.conftest import free_port

LOG_AND_DRIFT = {
    "eurosat_log_records_total",
    "eurosat_log_waiting_bytes",
    "eurosat_log_oldest_waiting_seconds",
    "eurosat_log_uploads_total",
    "eurosat_drift_windows_total",
    "eurosat_drift_alarm",
    "eurosat_drift_p_value",
    "eurosat_drift_last_window_timestamp_seconds",
    "eurosat_drift_too_few",
    "eurosat_drift_last_run_timestamp_seconds",
    "eurosat_drift_estimated_accuracy",
}
"""The metrics of the prediction log and of the drift service."""


class Exporter:
    """A server of metrics under the names of the service, which counts traffic five times a second.

    Attributes:
        failing: Fraction of the requests that fail.
        slow: Fraction of the requests that take two seconds.
        unusual: Fraction of the images that are flagged.
        dropping: Whether the prediction log drops records.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.failing = self.slow = self.unusual = 0.0
        self.dropping = False
        labels = ["version", "backbone", "format"]
        Gauge("eurosat_model_info", "a", labels, registry=registry).labels("1", "b", "onnx").set(1)
        requests = Counter("eurosat_requests", "a", ["route", "status"], registry=registry)
        self._ok = requests.labels("/predict", "200")
        self._failed = requests.labels("/predict", "500")
        self._duration = Histogram(
            "eurosat_request_duration_seconds", "a", ["route"], buckets=(1, 2.5), registry=registry
        ).labels("/predict")
        self._images = Counter("eurosat_predictions", "a", ["label"], registry=registry)
        self._flags = Counter("eurosat_ood_flags", "a", registry=registry)
        self.exits = Counter("eurosat_process_exits", "a", ["process"], registry=registry).labels(
            "worker"
        )
        records = Counter("eurosat_log_records", "a", ["outcome"], registry=registry)
        self._written, self._dropped = records.labels("written"), records.labels("dropped")
        uploads = Counter("eurosat_log_uploads", "a", ["outcome"], registry=registry)
        self._uploads = uploads.labels("done")
        Gauge("eurosat_log_waiting_bytes", "a", registry=registry).set(1000)
        self.oldest = Gauge("eurosat_log_oldest_waiting_seconds", "a", registry=registry)
        self.drift = Gauge("eurosat_drift_alarm", "a", registry=registry)
        self._windows = Counter("eurosat_drift_windows", "a", registry=registry)
        p_values = Gauge("eurosat_drift_p_value", "a", ["family"], registry=registry)
        for family in ("statistics", "probabilities", "classes", "embeddings"):
            p_values.labels(family).set(0.5)
        Gauge("eurosat_drift_too_few", "a", registry=registry)
        Gauge("eurosat_drift_estimated_accuracy", "a", registry=registry).set(0.97)
        name = "eurosat_drift_last_window_timestamp_seconds"
        Gauge(name, "a", registry=registry).set_to_current_time()
        self._run = Gauge("eurosat_drift_last_run_timestamp_seconds", "a", registry=registry)
        self.port = free_port()
        self.open()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def open(self) -> None:
        """Answer scrapes."""
        self._server, _ = start_http_server(self.port, "127.0.0.1", self.registry)

    def close(self) -> None:
        """Refuse scrapes."""
        self._server.shutdown()
        self._server.server_close()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self.close()

    def _count(self) -> None:
        while not self._ended.wait(0.2):
            self._ok.inc(10 * (1 - self.failing))
            self._failed.inc(10 * self.failing)
            for number in range(10):
                self._duration.observe(2 if number < 10 * self.slow else 0.01)
            self._images.labels("Forest").inc(10)
            self._flags.inc(10 * self.unusual)
            self._written.inc(10)
            self._dropped.inc(int(self.dropping))
            self._uploads.inc()
            self._windows.inc()
            self._run.set(time.time())
