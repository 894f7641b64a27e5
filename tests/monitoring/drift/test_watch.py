"""The drift service: the growing log, HTTP routes, and metrics."""

import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import pytest

from eurosat.errors import DriftError
from eurosat.monitoring.drift.metrics import render
from eurosat.monitoring.drift.server import make_server
from eurosat.monitoring.drift.watch import Watch
from tests.monitoring.drift.samples import NAMES, KnownLog, joined, known_log, known_reference

pytestmark = pytest.mark.slow

REFERENCE = known_reference()


class Growing:
    """A log that grows; ``error`` is raised by the next readings if it is set."""

    def __init__(self) -> None:
        self.log = known_log(0, 0)
        self.error: Exception | None = None
        self.since: list[float] = []

    def add(self, more: KnownLog, start: float) -> None:
        more = replace(more, time=start + np.arange(len(more.id), dtype=np.float64))
        columns = {
            field.name: np.concatenate([getattr(self.log, field.name), getattr(more, field.name)])
            for field in fields(more)
            if isinstance(getattr(more, field.name), np.ndarray)
        }
        self.log = replace(self.log, **columns)

    def read(self, since: float) -> KnownLog:
        self.since.append(since)
        if self.error:
            raise self.error
        rows = self.log.time >= since
        return replace(
            self.log,
            **{
                field.name: getattr(self.log, field.name)[rows]
                for field in fields(self.log)
                if isinstance(getattr(self.log, field.name), np.ndarray)
            },
        )


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
