"""The metrics of the drift service, in Prometheus' format."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from eurosat.monitoring.drift.watch import State


class DriftCollector(Collector):
    """Reads the metrics off the newest state; a metric whose value is unknown is absent."""

    def __init__(self, state: Callable[[], State]) -> None:
        """Store the function that gives the newest state."""
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Give the metrics."""
        state = self._state()
        windows = state.assessment.windows if state.assessment else ()
        alarm = bool(state.assessment and state.assessment.alarm)
        yield CounterMetricFamily(
            "eurosat_drift_windows",
            "Windows compared with the reference since the start.",
            value=state.windows,
        )
        yield GaugeMetricFamily(
            "eurosat_drift_alarm",
            "1 if the two newest windows drifted, 0 otherwise.",
            value=float(alarm),
        )
        yield GaugeMetricFamily(
            "eurosat_drift_too_few",
            "1 if there is no window yet, because there are too few images; 0 otherwise.",
            value=float(not windows),
        )
        p_values = GaugeMetricFamily(
            "eurosat_drift_p_value",
            "P-value of the newest window, corrected for the tests of the family.",
            labels=["family"],
        )
        for family in windows[-1].families if windows else ():
            if family.p_value is not None:
                p_values.add_metric([family.name], family.p_value)
        yield p_values
        known = {
            "eurosat_drift_last_run_timestamp_seconds": (
                "Time of the last successful reading of the log; before the first successful "
                "reading, the time of the start.",
                state.last_run or state.started,
            ),
            "eurosat_drift_last_window_timestamp_seconds": (
                "Time of the last image of the newest window.",
                windows[-1].end if windows else None,
            ),
            "eurosat_drift_estimated_accuracy": (
                "Accuracy of the newest window, estimated without labels; absent under drift.",
                windows[-1].accuracy.value if windows else None,
            ),
        }
        for name, (text, value) in known.items():
            if value is not None:
                yield GaugeMetricFamily(name, text, value=value)


def render(state: Callable[[], State]) -> bytes:
    """Render the metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(DriftCollector(state))
    return generate_latest(registry)
