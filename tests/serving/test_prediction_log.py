"""The prediction log of a real service: what it holds, and what survives."""

import base64
import gzip
import io
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from eurosat.cli import main
from eurosat.labels import CLASSES
from eurosat.monitoring.log.reader import PredictionLog, read_log
from eurosat.monitoring.log.spool import Spool
from eurosat.monitoring.log.uploader import Uploader
from tests.monitoring.log.forbidden import forbidden_bucket
from tests.monitoring.log.small_disk import leave_free, small_disk
from tests.serving.conftest import Service, StartService
from tests.serving.test_recovery import children, forked

PICTURE = "Forest.jpg"


def logging_to(folder: Path, *, seconds: float = 1) -> tuple[str, ...]:
    """Options of a service that logs into a folder, with its spool next to the log."""
    return (f"--log_url={folder}/log", f"--log_spool={folder}/spool", f"--log_seconds={seconds}")


def wait_for(folder: Path, records: int) -> PredictionLog:
    """The log, once it has so many records."""
    deadline = time.monotonic() + 30
    while True:
        with suppress(Exception):
            log = read_log(f"{folder}/log")
            if log.records >= records:
                return log
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_log_has_every_prediction_and_nothing_of_the_caller(
    start_service: StartService,
    pictures: dict[str, bytes],
    multispectral: bytes,
    tmp_path: Path,
) -> None:
    key = {"X-API-Key": "the-key", "User-Agent": "the-agent", "X-Request-ID": "the-callers-id"}
    service = start_service(*logging_to(tmp_path), env={"EUROSAT_API_KEY": "the-key"})
    one = service.predict(pictures[PICTURE], "the-name.jpg", headers=key).json()
    files = [("file", (f"{name}", data)) for name, data in pictures.items()]
    several = service.post("/predict", files=files, headers=key).json()
    explained = service.post("/explain", files={"file": pictures[PICTURE]}, headers=key).json()
    encoded = base64.b64encode(pictures[PICTURE]).decode()
    vertex = {"instances": [{"b64": encoded}]}
    assert service.post("/vertex/predict", json=vertex, headers=key).status_code == 200
    assert service.predict(b"no image", headers=key).status_code == 422
    assert service.predict(pictures[PICTURE]).status_code == 401
    assert service.stop() == 0

    assert list((tmp_path / "spool").iterdir()) == []
    log = read_log(f"{tmp_path}/log")
    assert log.records == 4
    assert len(log) == 3 + len(CLASSES)
    rows = {id: np.flatnonzero(log.id == id) for id in log.id.tolist()}
    assert len(rows[one["id"]]) == len(rows[explained["id"]]) == 1
    (row,) = rows[one["id"]]
    for name, probability in zip(
        log.classes[str(log.model[row])], log.probabilities[row], strict=True
    ):
        assert one["probabilities"][name] == pytest.approx(probability, abs=1e-6)
    assert log.model[row] == one["model_version"]
    assert log.route[row] == "/predict"
    assert 0 < log.latency[row] < 30
    assert abs(log.time[row] - time.time()) < 300
    assert log.statistic_names[str(log.model[row])][0] == "mean of R"
    assert log.statistics.shape == (len(log), 8)
    assert log.index[rows[several["id"]]].tolist() == list(range(len(CLASSES)))
    assert set(log.route) == {"/predict", "/explain", "/vertex/predict"}
    content = to_text(tmp_path / "log")
    for word in ("the-key", "the-agent", "the-callers-id", "the-name", "Forest.jpg", "127.0.0.1"):
        assert word not in content


def to_text(folder: Path) -> str:
    """All lines of a log."""
    return "".join(gzip.decompress(path.read_bytes()).decode() for path in folder.rglob("*.gz"))


def test_the_row_of_tiles_is_their_mean(
    start_service: StartService, tmp_path: Path, pictures: dict[str, bytes]
) -> None:
    picture = Image.effect_noise((128, 64), 60).convert("RGB")
    picture.save(buffer := io.BytesIO(), "PNG")
    service = start_service(*logging_to(tmp_path))
    answer = service.predict(buffer.getvalue(), params={"tiles": True}).json()
    assert len(answer["tiles"]) == 2
    log = wait_for(tmp_path, 1)  # a running service uploads as well
    assert len(log) == 1
    means = list(answer["probabilities"].values())
    np.testing.assert_allclose(log.probabilities[0], means, atol=1e-5)
    halves = np.asarray(picture).reshape(64, 2, 64, 3)[..., 0].mean(axis=(0, 2)) / 255
    assert log.statistics[0, 0] == pytest.approx(halves.mean(), abs=1e-4)


def test_the_metrics_tell_what_is_written_and_uploaded(
    start_service: StartService, tmp_path: Path, pictures: dict[str, bytes]
) -> None:
    service = start_service(*logging_to(tmp_path), "--api_servers=2")
    for name in ("written", "dropped"):
        assert f'eurosat_log_records_total{{outcome="{name}"}} 0.0' in service.get("/metrics").text
    for _ in range(5):
        with requests.Session() as fresh:  # a connection each, for both API processes
            fresh.post(f"{service.url}/predict", files={"file": pictures[PICTURE]}, timeout=30)
    assert service.metric('eurosat_log_records_total{outcome="written"}') == 5
    wait_for(tmp_path, 5)
    assert service.metric('eurosat_log_uploads_total{outcome="done"}') >= 1
    assert service.metric('eurosat_log_uploads_total{outcome="failed"}') == 0
    deadline = time.monotonic() + 10
    while service.metric("eurosat_log_waiting_bytes"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_dead_store_delays_no_prediction_and_shows(
    start_service: StartService, tmp_path: Path, pictures: dict[str, bytes]
) -> None:
    (tmp_path / "log").write_text("a file where the folder should be")
    service = start_service(*logging_to(tmp_path))
    ids = []
    for _ in range(5):
        start = time.perf_counter()
        ids.append(service.predict(pictures[PICTURE]).json()["id"])
        assert time.perf_counter() - start < 5
    deadline = time.monotonic() + 20
    while not service.metric('eurosat_log_uploads_total{outcome="failed"}'):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert service.metric("eurosat_log_waiting_bytes") > 0
    assert service.metric("eurosat_log_oldest_waiting_seconds") > 0
    assert "the prediction log cannot be uploaded" in service.log.read_text()
    (tmp_path / "log").unlink()
    assert service.stop() == 0  # the last attempt succeeds
    assert sorted(read_log(f"{tmp_path}/log").id) == sorted(ids)


def test_a_bucket_without_rights_delays_no_prediction_and_names_the_right(
    start_service: StartService, tmp_path: Path, pictures: dict[str, bytes]
) -> None:
    with forbidden_bucket() as emulator:
        options = ("--log_url=gs://bucket/log", f"--log_spool={tmp_path}/spool", "--log_seconds=1")
        service = start_service(*options, env={"STORAGE_EMULATOR_HOST": emulator})
        deadline = time.monotonic() + 20
        times = []
        while service.metric('eurosat_log_uploads_total{outcome="failed"}') < 2:
            assert time.monotonic() < deadline
            start = time.perf_counter()
            assert service.predict(pictures[PICTURE]).status_code == 200
            times.append(time.perf_counter() - start)
        assert max(times) < 5
        assert service.metric('eurosat_log_uploads_total{outcome="done"}') == 0
        assert service.metric('eurosat_log_records_total{outcome="dropped"}') == 0
        assert service.metric("eurosat_log_waiting_bytes") > 0
        assert service.stop() == 0
    messages = service.log.read_text()
    assert messages.count("the prediction log cannot be uploaded to gs://bucket/log") == 1
    assert "does not have storage.objects.create access" in messages
    assert f"wait in {tmp_path}/spool: the next service with this spool uploads them" in messages
    assert "Traceback" not in messages
    spool = Spool(tmp_path / "spool", 2**26)
    assert Uploader(spool, f"{tmp_path}/log").upload()
    assert read_log(f"{tmp_path}/log").records == len(times)


def test_a_disk_without_space_delays_no_prediction_and_the_gap_is_counted(
    start_service: StartService, tmp_path: Path, pictures: dict[str, bytes]
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        url, spool = f"--log_url={tmp_path}/log", f"--log_spool={disk}/spool"
        service = start_service(url, spool, "--log_seconds=0.5")
        assert service.predict(pictures[PICTURE]).status_code == 200
        wait_for(tmp_path, 1)
        filler = leave_free(disk, 10 * 2**20)
        for _ in range(5):
            start = time.perf_counter()
            assert service.predict(pictures[PICTURE]).status_code == 200
            assert time.perf_counter() - start < 5
        assert service.metric('eurosat_log_records_total{outcome="dropped"}') == 5
        filler.unlink()
        time.sleep(1.05)  # the service looks again after a second
        assert service.predict(pictures[PICTURE]).status_code == 200
        assert service.stop() == 0
    assert f"the disk of {disk}/spool has 10 MiB left" in service.log.read_text()
    log = read_log(f"{tmp_path}/log")
    assert (log.records, log.dropped, log.torn) == (2, 5, 0)


def test_a_spool_that_cannot_be_made_is_refused_at_the_start(
    tmp_path: Path, onnx_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["serve", str(onnx_model), f"--log_url={tmp_path}/log", "--log_seconds=0"]) == 2
    assert "--log_seconds is 0: choose" in capsys.readouterr().err
    assert main(["serve", str(onnx_model), f"--log_spool={tmp_path}"]) == 2
    assert "--log_spool has no effect without a log" in capsys.readouterr().err
    spool = f"--log_spool={tmp_path}/file/spool"
    assert main(["serve", str(onnx_model), f"--log_url={tmp_path}/log", spool]) == 2
    assert "cannot be written" in capsys.readouterr().err


class Load:
    """Callers that send pictures to whichever service runs, and remember what was answered."""

    def __init__(self, picture: bytes) -> None:
        self.url = ""
        self.answered: list[str] = []
        self._picture = picture
        self._ended = threading.Event()

    @contextmanager
    def running(self, callers: int = 4) -> Iterator[None]:
        threads = [threading.Thread(target=self._call) for _ in range(callers)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def _call(self) -> None:
        session = requests.Session()
        while not self._ended.is_set():
            try:
                answer = session.post(
                    f"{self.url}/predict", files={"file": self._picture}, timeout=20
                )
                if answer.status_code == 200:
                    self.answered.append(answer.json()["id"])
            except (requests.RequestException, ValueError):
                time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["hang", "are killed"])
def test_no_prediction_is_lost_where_processes_end_with_the_service(
    start_service: StartService, pictures: dict[str, bytes], tmp_path: Path, number: int
) -> None:
    service = start_service(*logging_to(tmp_path, seconds=60))
    for _ in range(3):
        assert service.predict(pictures[PICTURE]).status_code == 200
    for process in forked(service):  # the API process and the background process
        os.kill(process, number)
    start = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - start < 6  # 8 s are allowed
    assert list((tmp_path / "spool").iterdir()) == []
    assert read_log(f"{tmp_path}/log").records == 3


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.long)])
def test_no_answered_prediction_is_lost_to_sigkill(
    start_service: StartService, tmp_path: Path, pictures: dict[str, bytes], kills: int
) -> None:
    """Kill any process of the service at a random moment under load, and start it again."""
    seed = int(os.environ.get("EUROSAT_CHAOS_SEED", random.SystemRandom().randrange(10**6)))
    print(f"EUROSAT_CHAOS_SEED={seed}")
    chance = random.Random(seed)
    options = (*logging_to(tmp_path, seconds=0.5), "--api_servers=2", "--workers=2")
    load = Load(pictures[PICTURE])

    def start() -> Service:
        service = start_service(*options)
        load.url = service.url
        return service

    service = start()
    with load.running():
        for _ in range(kills):
            time.sleep(chance.uniform(0.05, 1.5))
            victims = [service.process.pid, *children(service.process.pid)]
            with suppress(ProcessLookupError):
                os.kill(chance.choice(victims), signal.SIGKILL)
            time.sleep(0.3)
            if not all_alive(service):
                service.process.wait(30)
                service = start()
        time.sleep(1)
    assert service.stop() == 0
    assert list((tmp_path / "spool").iterdir()) == []
    log = read_log(f"{tmp_path}/log")
    print(f"{len(load.answered)} answers, {log.records} records, {log.torn} torn lines")
    assert len(load.answered) > 10 * kills
    assert len(load.answered) == len(set(load.answered))
    assert set(load.answered) - set(log.id.tolist()) == set()
    assert len(log) == len(set(log.id.tolist()))
    assert (log.duplicates, log.dropped, log.foreign) == (0, 0, 0)


def all_alive(service: Service) -> bool:
    """Whether the service goes on: its main process runs, and a request is answered."""
    if service.process.poll() is not None:
        return False
    try:
        return requests.get(f"{service.url}/health", timeout=5).status_code in (200, 503)
    except requests.RequestException:
        return False
