"""The service with and without the prediction log, at 16 connections, in alternating turns.

Two services of the same model run side by side. Each turn loads one of them with Locust while the
other is idle, and every second round changes the order. The processor time of a request varies less
than the throughput on a shared machine. The benchmark also times one record: from the arrays of a
request to the return of ``write(2)``.
"""

import re
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import requests

from benchmarks.common import parser, save
from benchmarks.serving import free_port, locust, running, summary, write_pictures
from eurosat.evaluation.intervals import student_interval
from eurosat.monitoring.log.reader import read_log
from eurosat.monitoring.log.recorder import Recorder
from eurosat.monitoring.log.records import Header
from eurosat.monitoring.log.settings import LogSettings
from eurosat.monitoring.log.spool import Spool
from eurosat.monitoring.observation import Observation


def microseconds_a_record(images: int, calls: int = 3000) -> float:
    """Median time of `Recorder.record` for a request of so many images."""
    with tempfile.TemporaryDirectory() as folder:
        settings = LogSettings(folder, Path(folder), 2**30, 30)
        names = tuple(map(str, range(10)))
        header = Header(model="m", classes=names, statistics=names[:8])
        recorder = Recorder(Spool(Path(folder), 2**30), header, settings, 1)
        one = Observation(
            np.full((1, 10), 0.1, np.float32),
            np.ones((1, 8), np.float32),
            ood=np.full(1, 0.5, np.float32),
        )
        times = []
        for _ in range(calls):
            start = time.perf_counter()
            recorder.record(
                id=uuid.uuid4().hex,
                route="/predict",
                started=start,
                observations=[one] * images,
            )
            times.append(time.perf_counter() - start)
        recorder.close()
    return statistics.median(times) * 1e6


def processor_seconds(port: int) -> float:
    """Processor time of all processes of a service since its start."""
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    (line,) = re.findall(r"^process_cpu_seconds_total (\S+)$", text, re.M)
    return float(line)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", required=True, help="an exported file, such as fast-int8.xml")
    options.add_argument("--seconds", type=int, default=2, help="length of each turn")
    options.add_argument("--turns", type=int, default=30, help="turns of each service")
    options.add_argument("--api_servers", type=int, default=1)
    args = options.parse_args()
    records = {str(images): microseconds_a_record(images) for images in (1, 64)}
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        write_pictures(Path(args.source), pictures)
        command = [sys.executable, "-m", "eurosat", "serve", args.model, "--host", "127.0.0.1"]
        command += ["--api_servers", str(args.api_servers), "--port"]
        log = ["--log_url", f"{folder}/log", "--log_spool", f"{folder}/spool"]
        ports = {"without": free_port(), "with": free_port()}
        turns: list[dict[str, Any]] = []
        with (
            running([*command, str(ports["without"])], ports["without"]) as _,
            running([*command, str(ports["with"]), *log], ports["with"]) as _,
        ):
            for number in range(args.turns):
                turn: dict[str, Any] = {}
                for name in ("without", "with") if number % 2 else ("with", "without"):
                    before = processor_seconds(ports[name])
                    stats = locust(ports[name], pictures, 16, args.seconds)["/predict"]
                    used = processor_seconds(ports[name]) - before
                    turn[name] = summary(stats, args.seconds)
                    turn[name]["processor_ms"] = 1000 * used / turn[name]["requests"]
                turns.append(turn)
                print(turn, flush=True)
        found = read_log(f"{folder}/log")
    ratios = {
        key: [turn["with"][key] / turn["without"][key] for turn in turns]
        for key in ("requests_per_second", "processor_ms")
    }
    save(
        "log_overhead",
        {
            "turns": turns,
            "ratios": {
                key: {
                    "mean": statistics.mean(values),
                    "interval": student_interval(values),
                    "median": statistics.median(values),
                }
                for key, values in ratios.items()
            },
            "records_in_the_log": found.records,
            "records_dropped": found.dropped,
            "microseconds_a_record_by_images": records,
        },
    )


if __name__ == "__main__":
    main()
