"""The service against a plain FastAPI endpoint running eager PyTorch, under Locust, in turns.

Throughput at 16 connections, median latency at one, and the time from start to ready. The load
comes from the same machine, so that both sides of every ratio share its cores with Locust.
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from benchmarks.common import parser, save

HERE = Path(__file__).parent


@contextmanager
def running(command: list[str], port: int, **environment: str) -> Iterator[tuple[int, float]]:
    """A server; gives its process number and the seconds it took to be ready."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                if requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok:
                    break
            except requests.ConnectionError:
                if process.poll() is not None:
                    raise SystemExit(f"{' '.join(command)} ended") from None
            time.sleep(0.01)
        yield process.pid, time.perf_counter() - start
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def locust(port: int, pictures: Path, users: int, seconds: int, **environment: str) -> Any:
    """Run Locust and give its statistics of /predict."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *(sys.executable, "-m", "locust", "-f", str(HERE / "locustfile.py"), "--headless"),
                *("--host", f"http://127.0.0.1:{port}", "--users", str(users)),
                *("--spawn-rate", str(users), "--run-time", f"{seconds}s", "--only-summary"),
                *("--json-file", f"{folder}/stats", "--exit-code-on-error", "0"),
                *("--reset-stats",),
            ],
            env=os.environ | {"LOCUST_PICTURES": str(pictures)} | environment,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stats = json.loads(Path(f"{folder}/stats.json").read_text("utf-8"))
    return {entry["name"]: entry for entry in stats}


def summary(entry: Any, seconds: float) -> dict[str, float]:
    """Requests/s and percentiles in milliseconds of Locust's histogram."""
    times = sorted((float(time), count) for time, count in entry["response_times"].items())
    total = sum(count for _, count in times)

    def percentile(share: float) -> float:
        seen = 0
        for value, count in times:
            seen += count
            if seen >= share * total:
                return value
        return float("nan")

    return {
        "requests": entry["num_requests"],
        "failures": entry["num_failures"],
        "requests_per_second": entry["num_requests"] / seconds,
        "p50_ms": percentile(0.5),
        "p99_ms": percentile(0.99),
    }


def latency(port: int, pictures: Path, requests_sent: int) -> float:
    """Median milliseconds of one request after the other on one connection."""
    bodies = [file.read_bytes() for file in sorted(pictures.iterdir())]
    times = []
    with requests.Session() as session:
        for number in range(requests_sent + 50):
            prepared = session.prepare_request(
                requests.Request(
                    "POST",
                    f"http://127.0.0.1:{port}/predict",
                    files={"file": ("a.jpg", bodies[number % len(bodies)], "image/jpeg")},
                )
            )
            start = time.perf_counter()
            answer = session.send(prepared)
            times.append(time.perf_counter() - start)
            answer.raise_for_status()
    return statistics.median(times[50:]) * 1000


def write_pictures(source: Path, folder: Path, count: int = 50) -> None:
    """Some of the archive's images, evenly spread."""
    with zipfile.ZipFile(source) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        for number in range(count):
            name = names[number * len(names) // count]
            (folder / Path(name).name).write_bytes(archive.read(name))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--checkpoint", required=True, help="the fast recipe's checkpoint")
    options.add_argument(
        "--models", nargs="+", required=True, help="its exported files, such as fast-int8.xml"
    )
    options.add_argument("--seconds", type=int, default=15, help="length of each turn")
    options.add_argument("--turns", type=int, default=3)
    args = options.parse_args()
    plain_port = free_port()
    plain = [sys.executable, "-m", "uvicorn", "benchmarks.plain_endpoint:app", "--no-access-log"]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder)
        write_pictures(Path(args.source), pictures)
        with running(
            [*plain, "--port", str(plain_port)], plain_port, CHECKPOINT=args.checkpoint
        ) as _:
            for model in args.models:
                port = free_port()
                command = [sys.executable, "-m", "eurosat", "serve", model, "--port", str(port)]
                turns: list[dict[str, Any]] = []
                ready = []
                with running([*command, "--host", "127.0.0.1"], port) as (_, seconds):
                    ready.append(seconds)
                    for _ in range(args.turns):
                        turn: dict[str, Any] = {}
                        for name, target in (("plain", plain_port), ("service", port)):
                            stats = locust(target, pictures, 16, args.seconds)["/predict"]
                            turn[name] = summary(stats, args.seconds) | {
                                "lone_p50_ms": latency(target, pictures, 400)
                            }
                        turns.append(turn)
                for _ in range(2):
                    with running([*command, "--host", "127.0.0.1"], port) as (_, seconds):
                        ready.append(seconds)
                results[Path(model).name] = {
                    "turns": turns,
                    "seconds_to_ready": ready,
                    "throughput_ratio": statistics.median(
                        turn["service"]["requests_per_second"]
                        / turn["plain"]["requests_per_second"]
                        for turn in turns
                    ),
                    "lone_latency_ratio": statistics.median(
                        turn["service"]["lone_p50_ms"] / turn["plain"]["lone_p50_ms"]
                        for turn in turns
                    ),
                }
                print(model, results[Path(model).name], flush=True)
    save("serving", results)


if __name__ == "__main__":
    main()
