"""The metrics: names and units, processes, killed processes, callers that leave, a port apart."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from eurosat.serving import process_metrics
from eurosat.serving.process_metrics import ProcessCollector
from tests.serving.attacks import processes
from tests.serving.conftest import Service, StartService, free_port

PICTURE = "Forest.jpg"

NAMES = {
    "eurosat_requests_total",
    "eurosat_request_duration_seconds_bucket",
    "eurosat_stage_duration_seconds_bucket",
    "eurosat_predictions_total",
    "eurosat_confidence_bucket",
    "eurosat_entropy_nats_bucket",
    "eurosat_ood_score_bucket",
    "eurosat_ood_flags_total",
    "eurosat_batch_images_bucket",
    "eurosat_requests_in_flight",
    "eurosat_queue_depth",
    "eurosat_images_rejected_total",
    "eurosat_process_exits_total",
    "eurosat_model_info",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
}
"""Names on which rules, dashboards and users rely."""


def values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The values of a text in Prometheus' format, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def wait_until(check: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_promtool_accepts_the_names_and_units(service: Service, pictures: dict[str, bytes]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool, of Debian's package prometheus")
    service.predict(pictures[PICTURE])
    text = service.get("/metrics").text
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert {name for name, _ in values(text)} >= NAMES


def test_the_first_failure_of_a_route_has_a_value_before_it(service: Service) -> None:
    found = values(service.get("/metrics").text)
    for status in ("500", "503", "504"):
        labels = (("route", "/predict"), ("status", status))
        assert ("eurosat_requests_total", labels) in found
    assert ("eurosat_predictions_total", (("label", "Highway"),)) in found


def test_the_stages_of_a_request_fit_into_its_duration(
    service: Service, pictures: dict[str, bytes]
) -> None:
    def read() -> dict[str, float]:
        sums = {stage: 0.0 for stage in ("decode", "queue", "model", "count", "all")}
        for (name, labels), value in values(service.get("/metrics").text).items():
            if name == "eurosat_stage_duration_seconds_sum":
                sums[dict(labels)["stage"]] += value
            elif name == "eurosat_stage_duration_seconds_count":
                sums["count"] += value
            elif name == "eurosat_request_duration_seconds_sum" and labels == (
                ("route", "/predict"),
            ):
                sums["all"] += value
        return sums

    before = read()
    assert service.predict(pictures[PICTURE]).status_code == 200
    after = read()
    spent = {stage: after[stage] - before[stage] for stage in after}
    assert spent["count"] == 3
    assert min(spent["decode"], spent["queue"], spent["model"]) > 0
    assert spent["decode"] + spent["queue"] + spent["model"] <= spent["all"]


def test_the_entropy_is_that_of_the_probabilities(
    service: Service, pictures: dict[str, bytes]
) -> None:
    before = service.metric("eurosat_entropy_nats_sum")
    answer = service.predict(pictures[PICTURE]).json()
    found = np.array(list(answer["probabilities"].values()))
    found = found[found > 0]
    expected = float(-(found * np.log(found)).sum())
    assert service.metric("eurosat_entropy_nats_sum") - before == pytest.approx(expected, abs=1e-3)


def test_the_processes_are_the_main_process_and_its_children(service: Service) -> None:
    found = values(service.get("/metrics").text)
    resident = 0
    for process in processes(service.process.pid):
        with open(f"/proc/{process}/statm", encoding="ascii") as file:
            resident += int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    measured = found["process_resident_memory_bytes", ()]
    assert measured == pytest.approx(resident, rel=0.2)
    age = time.time() - found["process_start_time_seconds", ()]
    assert service.started_in - 2 < age < 3600
    assert found["process_cpu_seconds_total", ()] > 0.5


def test_the_cpu_time_of_a_child_that_ended_is_not_lost() -> None:
    def spent() -> float:
        (metric,) = (m for m in ProcessCollector().collect() if m.name == "process_cpu_seconds")
        return float(metric.samples[0].value)

    # The process that computes is the child of a child, as the decoders are.
    loop = "i=0; while :; do i=$((i+1)); done"
    child = subprocess.Popen(["sh", "-c", f"trap 'kill $!; wait; exit' TERM; ({loop}) & wait"])
    try:
        start = spent()
        wait_until(lambda: spent() > start + 0.5)
        running = spent()
    finally:
        child.terminate()
        child.wait()
    assert spent() >= running


def test_the_cpu_time_does_not_go_back_when_decoders_lose_their_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_metrics, "_HIGHEST", [0.0])
    (tmp_path / "stat").write_text("btime 1\n")

    def seconds(parents: dict[int, int], ticks: int) -> float:
        """The metric, while every process has a parent and has computed for so many ticks."""
        for pid, parent in parents.items():
            (tmp_path / str(pid)).mkdir(exist_ok=True)
            fields = [0] * 22
            fields[1], fields[11] = parent, ticks
            (tmp_path / str(pid) / "stat").write_text(
                f"{pid} (p) S {' '.join(map(str, fields[1:]))}"
            )
        (metric, *_) = ProcessCollector(10, tmp_path).collect()
        return float(metric.samples[0].value) * os.sysconf("SC_CLK_TCK")

    assert seconds({10: 1, 11: 10, 12: 11}, ticks=100) == 300
    assert seconds({10: 1, 11: 10, 12: 1}, ticks=110) == 300
    assert seconds({10: 1, 11: 10, 12: 1}, ticks=160) == 320


def test_without_the_kernels_numbers_there_are_no_metrics_of_processes() -> None:
    assert list(ProcessCollector(proc=Path("/nowhere")).collect()) == []


def test_counts_are_right_when_workers_are_killed_under_load(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service("--workers=2")
    stop = threading.Event()
    answered, scrapes = [0], [0]

    def load() -> None:
        with requests.Session() as session:
            while not stop.is_set():
                answer = session.post(
                    f"{service.url}/predict", files={"file": pictures[PICTURE]}, timeout=60
                )
                assert answer.status_code == 200
                answered[0] += 1  # one thread counts

    def scrape() -> None:
        before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        with requests.Session() as session:
            while not stop.is_set():
                answer = session.get(f"{service.url}/metrics", timeout=60)
                assert answer.status_code == 200, answer.text
                now = values(answer.text)
                for key, value in before.items():
                    if key[0].endswith(("_total", "_count", "_bucket", "_sum")):
                        assert now[key] >= value, key  # a counter never goes back
                before = now
                scrapes[0] += 1

    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(load), threads.submit(scrape)]
        try:
            for number in range(3):
                wait_until(lambda: len(service.workers()) == 2)
                os.kill(service.workers()[0], signal.SIGKILL)
                wait_until(
                    lambda wanted=number + 1: (  # type: ignore[misc]
                        service.metric('eurosat_process_exits_total{process="worker"}') == wanted
                    )
                )
            wait_until(lambda: scrapes[0] > 10)
        finally:
            stop.set()
        for future in running:
            future.result()
    found = values(service.get("/metrics").text)
    key = ("eurosat_requests_total", (("route", "/predict"), ("status", "200")))
    assert found[key] == answered[0]
    assert service.metric("eurosat_predictions_total") == answered[0]
    # A request of a killed worker is computed twice, and the images of the killed worker count.
    assert service.metric("eurosat_batch_images_sum") >= answered[0]
    assert found["eurosat_queue_depth", ()] == 0
    assert found["eurosat_requests_in_flight", ()] == 0


def test_requests_that_wait_for_a_worker_are_the_queue(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service("--timeout=60")
    with ThreadPoolExecutor(3) as threads:
        (worker,) = service.workers()
        os.kill(worker, signal.SIGSTOP)
        try:
            sent = [threads.submit(post, service, pictures[PICTURE]) for _ in range(3)]
            wait_until(lambda: service.metric("eurosat_queue_depth") == 3)
        finally:
            os.kill(worker, signal.SIGCONT)
        assert [future.result().status_code for future in sent] == [200] * 3
    wait_until(lambda: service.metric("eurosat_queue_depth") == 0)


def post(service: Service, data: bytes) -> requests.Response:
    return requests.post(f"{service.url}/predict", files={"file": data}, timeout=60)


def callers_gone(service: Service) -> float:
    return service.metric('eurosat_requests_total{route="/predict",status="499"}')


def test_a_caller_that_leaves_counts_as_499_and_not_as_a_failure(
    start_service: StartService, pictures: dict[str, bytes]
) -> None:
    service = start_service("--metrics_port", str(port := free_port()), "--timeout=60")
    public = service.url
    address = urlsplit(public)
    assert requests.get(f"{public}/metrics", timeout=30).status_code == 404
    service.url = f"http://127.0.0.1:{port}"  # where `metric` asks
    head = requests.head(f"{service.url}/metrics", timeout=30)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["Content-Length"]) > 1000
    headers = service.get("/metrics").headers
    assert headers["Content-Type"].startswith("text/plain")
    assert headers["X-Content-Type-Options"] == "nosniff"

    body = b"".join(
        [
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n',
            pictures[PICTURE],
            b"\r\n--x--\r\n",
        ]
    )
    head = (
        "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()

    def leave(data: bytes, in_flight: int) -> None:
        with socket.create_connection((str(address.hostname), int(address.port or 0))) as caller:
            caller.sendall(data)
            time.sleep(0.2)
            wait_until(lambda: service.metric("eurosat_requests_in_flight") == in_flight)

    leave(head + body[:100], 0)  # in the middle of the body, which is not yet load
    wait_until(lambda: callers_gone(service) == 1)
    leave(
        head.replace(b"/predict", b"/vertex/predict").replace(b"multipart/form-data", b"a") + b"{",
        0,
    )
    (worker,) = service.workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        leave(head + body, 1)  # before the answer
        time.sleep(0.3)
    finally:
        os.kill(worker, signal.SIGCONT)
    wait_until(lambda: callers_gone(service) == 2)
    for status in ("400", "500", "503", "504"):
        labels = f'{{route="/predict",status="{status}"}}'
        assert service.metric(f"eurosat_requests_total{labels}") == 0
    log = service.log.read_text()
    assert "Traceback" not in log
    assert log.count("the caller closed the connection before the answer") == 3


@pytest.mark.parametrize(
    ("metrics_port", "message"),
    [
        ("70000", "70000 is not a port: choose a --metrics_port from 1 to 65535"),
        ("8123", "--metrics_port is the service's own port 8123: choose another --metrics_port"),
    ],
)
def test_a_metrics_port_that_cannot_be_used_is_refused(
    metrics_port: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from eurosat.cli import main

    assert main(["serve", "x.onnx", "--port=8123", f"--metrics_port={metrics_port}"]) == 2
    assert message in capsys.readouterr().err
