"""The drift service: the growing log, HTTP routes, and metrics."""

import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from eurosat.errors import DriftError
from eurosat.monitoring.drift.metrics import render
from eurosat.monitoring.drift.server import make_server
from eurosat.monitoring.drift.watch import Watch
from eurosat.monitoring.log.reader import PredictionLog
from tests.monitoring.drift.samples import (
    NAMES,
    appended,
    chosen,
    joined,
    known_log,
    known_reference,
)

pytestmark = pytest.mark.slow

REFERENCE = known_reference()


class Growing:
    """A log that grows; a record is read once, and ``error`` is raised by the next readings."""

    def __init__(self) -> None:
        self.log = known_log(0, 0)
        self.error: Exception | None = None
        self.since: list[float] = []
        self._read: set[str] = set()

    def add(self, more: PredictionLog, start: float) -> None:
        more = replace(more, time=start + np.arange(len(more.id), dtype=np.float64))
        self.log = appended([self.log, more])

    def read(self, since: float) -> PredictionLog:
        self.since.append(since)
        if self.error:
            raise self.error
        new = np.array([name not in self._read for name in self.log.id.tolist()], bool)
        self._read |= set(self.log.id.tolist())
        outside = int((new & (self.log.time < since)).sum())
        return replace(chosen(self.log, new & (self.log.time >= since)), outside=outside)


@pytest.fixture
def growing() -> Growing:
    return Growing()


@pytest.fixture
def watch(growing: Growing) -> Watch:
    return Watch(REFERENCE, growing.read, NAMES, size=300, start=time.time() - 86_400)


def test_every_window_is_judged_once(growing: Growing, watch: Watch) -> None:
    now = time.time() - 7200
    watch.step()
    assert watch.state.assessment.verdict == "too few to say"
    growing.add(known_log(250, 5), now)
    watch.step()
    assert watch.state.assessment.sentence == (
        "Too few to say: there are 250 independent images, and at least 300 are needed."
    )
    growing.add(known_log(60, 1), now + 250)
    for _ in range(3):
        watch.step()
        assert (watch.state.windows, watch.state.waiting) == (1, 10)
    assert watch.state.assessment.verdict == "quiet"
    growing.add(known_log(300, 2, shift=1.0), now + 400)
    watch.step()
    assert watch.state.assessment.verdict == "drift"
    growing.add(known_log(300, 3, shift=1.0), now + 800)
    watch.step()
    assert watch.state.assessment.verdict == "alarm"
    assert (watch.state.windows, watch.state.waiting) == (3, 10)
    growing.add(known_log(300, 4), now + 1200)
    watch.step()
    assert not watch.state.assessment.alarm


def test_late_records_and_a_clock_that_is_set_back_are_not_lost(
    growing: Growing, watch: Watch
) -> None:
    now = time.time() - 7200
    growing.add(known_log(300, 1), now)
    watch.step()
    growing.add(known_log(300, 2), now - 1800)
    watch.step()
    assert (watch.state.windows, watch.state.waiting) == (2, 0)
    assert growing.since[-1] == pytest.approx(now + 299 - 3600)


def test_records_that_are_later_than_an_hour_are_left_out_and_said(
    growing: Growing, watch: Watch
) -> None:
    now = time.time() - 7200
    growing.add(known_log(300, 0), now - 200_000)  # older than the first period
    growing.add(known_log(300, 1), now)
    watch.step()
    assert watch.state.assessment.notes == ()
    growing.add(known_log(120, 2), now - 7200)
    watch.step()
    (note,) = watch.state.assessment.notes
    assert note.startswith("120 records that arrived since the start are more than an hour older")
    assert (watch.state.windows, watch.state.waiting) == (1, 0)


def test_an_error_keeps_the_last_result_and_is_said(growing: Growing, watch: Watch) -> None:
    growing.add(known_log(300, 1), time.time() - 3600)
    watch.step()
    done = watch.state
    for error in (DriftError("no right to read gs://b"), PermissionError("gs://b")):
        growing.error = error
        watch.step()
        assert watch.state.assessment is done.assessment
        assert watch.state.last_run == done.last_run
        assert "gs://b" in watch.state.error
        assert watch.state.to_json()["error"] == watch.state.error
    growing.error = None
    watch.step()
    assert watch.state.error == ""
    assert watch.state.last_run > done.last_run


def test_predictions_of_another_model_are_an_error_of_the_service(
    growing: Growing, watch: Watch
) -> None:
    growing.add(known_log(300, 1, model="new"), time.time() - 3600)
    watch.step()
    assert "predictions of new, and the reference belongs to model-1" in watch.state.error
    assert watch.state.to_json()["verdict"] == "too few to say"


def test_an_error_of_the_last_records_stays_until_better_records_come(
    growing: Growing, watch: Watch
) -> None:
    growing.add(known_log(300, 1, model="new"), time.time() - 3600)
    for _ in range(3):
        watch.step()
        assert "predictions of new, and the reference belongs to model-1" in watch.state.error
    growing.add(known_log(300, 2), time.time() - 1800)
    watch.step()
    assert (watch.state.error, watch.state.windows) == ("", 1)


def test_a_model_that_shares_the_traffic_is_no_error_and_a_model_that_replaces_it_is_one(
    growing: Growing, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    growing.add(appended([known_log(300, 1), known_log(5, 2, model="new")]), now - 600)
    watch.step()
    notes = ("5 images were classified by other models (new) and are left out.",)
    assert watch.state.assessment.notes == notes
    growing.add(known_log(5, 3, model="new"), now - 200)
    watch.step()
    assert watch.state.error == ""
    assert watch.state.assessment.notes == notes
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    growing.add(known_log(5, 4, model="new"), now + 7000)
    watch.step()
    assert "predictions of new, and the reference belongs to model-1" in watch.state.error


def test_images_are_not_lost_to_an_error_of_a_window(
    growing: Growing, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing.add(known_log(310, 1), time.time() - 3600)
    with monkeypatch.context() as patch:
        patch.setattr("eurosat.monitoring.drift.watch.judge", lambda *_: 1 / 0)
        watch.step()
        assert "ZeroDivisionError" in watch.state.error
    watch.step()
    assert (watch.state.error, watch.state.windows, watch.state.waiting) == ("", 1, 10)


def test_the_first_reading_judges_the_newest_windows_only(
    growing: Growing, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eurosat.monitoring.drift.watch._KEPT", 2)
    now = time.time() - 3600
    growing.add(known_log(910, 1), now)
    watch.step()
    assert (watch.state.windows, watch.state.waiting) == (2, 10)
    assert watch.state.assessment.windows[0].start == pytest.approx(now + 300)


def test_missing_requests_are_counted_since_the_start(growing: Growing, watch: Watch) -> None:
    for seed in (1, 2):
        growing.add(known_log(10, seed), time.time() - 3600 + seed)
        growing.log = replace(growing.log, dropped=3)
        watch.step()
    assert watch.state.assessment.notes == (
        "6 requests are missing, because the service could not log them.",
    )


@pytest.fixture
def address(watch: Watch) -> Iterator[str]:
    server = make_server(watch, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def get(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_routes_answer(growing: Growing, watch: Watch, address: str) -> None:
    assert get(f"{address}/health") == (200, "ok\n")
    status, text = get(f"{address}/drift/report")
    assert status == 503
    assert "not been read yet" in text
    assert json.loads(get(f"{address}/drift")[1])["verdict"] == "too few to say"
    now = time.time() - 7200
    growing.add(joined(known_log(300, 1, shift=1.0), known_log(310, 2, shift=1.0)), now)
    watch.step()
    found = json.loads(get(f"{address}/drift")[1])
    assert (found["verdict"], found["windows_judged"], found["waiting"]) == ("alarm", 2, 10)
    assert found["error"] is None
    status, page = get(f"{address}/drift/report")
    assert status == 200
    assert "Alarm: the two newest windows" in page
    assert get(f"{address}/nothing")[0] == 404


def test_the_report_needs_the_key_if_there_is_one(watch: Watch) -> None:
    server = make_server(watch, "127.0.0.1", 0, api_key="secret")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    for path in ("/drift", "/drift/report", "/nothing"):
        assert get(f"{address}{path}")[0] == 401
        assert get(f"{address}{path}", **{"X-API-Key": "wrong"})[0] == 401
    assert get(f"{address}/drift", **{"X-API-Key": "secret"})[0] == 200
    assert get(f"{address}/drift", Authorization="Bearer secret")[0] == 200
    assert get(f"{address}/metrics")[0] == get(f"{address}/health")[0] == 200
    server.shutdown()
    server.server_close()


def test_a_port_in_use_is_an_error(watch: Watch, address: str) -> None:
    port = int(address.rpartition(":")[2])
    with pytest.raises(DriftError, match=f"cannot bind 127.0.0.1:{port}.*--port"):
        make_server(watch, "127.0.0.1", port)


def samples(text: str) -> dict[str, float]:
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def test_metrics_follow_the_state(growing: Growing, watch: Watch) -> None:
    before = samples(render(lambda: watch.state).decode())
    started = before.pop("eurosat_drift_last_run_timestamp_seconds")
    assert started == pytest.approx(time.time(), abs=60)  # so that a log that is never read alarms
    assert before == {
        "eurosat_drift_windows_total": 0,
        "eurosat_drift_alarm": 0,
        "eurosat_drift_too_few": 1,
    }
    now = time.time() - 7200
    growing.add(known_log(300, 1), now)
    watch.step()
    quiet = samples(render(lambda: watch.state).decode())
    assert quiet["eurosat_drift_too_few"] == 0
    assert quiet["eurosat_drift_windows_total"] == 1
    assert 0.8 < quiet["eurosat_drift_estimated_accuracy"] < 1
    assert quiet["eurosat_drift_last_window_timestamp_seconds"] == pytest.approx(now + 299)
    assert quiet["eurosat_drift_last_run_timestamp_seconds"] == pytest.approx(time.time(), abs=60)
    growing.add(joined(known_log(300, 2, shift=1.0), known_log(300, 3, shift=1.0)), now + 400)
    watch.step()
    drifted = samples(render(lambda: watch.state).decode())
    assert drifted["eurosat_drift_alarm"] == 1
    assert drifted["eurosat_drift_windows_total"] == 3
    assert drifted['eurosat_drift_p_value{family="statistics"}'] < 0.0025
    assert 'eurosat_drift_p_value{family="embeddings"}' in drifted
    assert "eurosat_drift_estimated_accuracy" not in drifted


def test_promtool_accepts_the_metrics(growing: Growing, watch: Watch) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    growing.add(known_log(300, 1), time.time() - 7200)
    watch.step()
    text = render(lambda: watch.state)
    ended = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (ended.returncode, ended.stdout + ended.stderr) == (0, b"")
