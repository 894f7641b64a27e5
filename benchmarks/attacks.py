"""Hostile requests against the service: time to the answer, delay of /health and added memory.

Each request is within the service's limits of size, and is sent five times. The figures are the
medians of the time and the delay, and the most memory; the longest single delay stands beside that
of a service without any request, which shows the noise of the machine. The memory is that of all
processes of the service, where shared pages count once.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import requests

from benchmarks.common import save
from benchmarks.serving import free_port, running
from tests.serving.attack_files import FILES, pipe
from tests.serving.attack_json import BODIES
from tests.serving.attacks import Attack, watched

REPEATS = 5


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("model", help="an exported model")
    model = options.parse_args().model
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "eurosat", "serve", model, f"--port={port}"]
    rows = {}
    with running(command, port) as (process, _), tempfile.TemporaryDirectory() as folder:
        hostile = Attack((200,), [pipe(Path(folder))])
        attacks = FILES | BODIES | {"coordinate system of a pipe": lambda: hostile}
        for name, make in attacks.items():
            attack = make()
            found = [measure(url, process, attack, name) for _ in range(REPEATS)]
            status, seconds, delays, added = zip(*found, strict=True)
            rows[name] = {
                "status": status[0],
                "seconds": round(median(seconds), 3),
                "health_delay_ms": round(median(delays) * 1000, 1),
                "longest_delay_ms": round(max(delays) * 1000, 1),
                "added_mib": round(max(added)),
            }
            print(name, rows[name], flush=True)
        quiet = [idle(url, process) for _ in rows for _ in range(REPEATS)]
    save(
        "attacks",
        {
            "worst_health_delay_ms": max(row["health_delay_ms"] for row in rows.values()),
            "longest_delay_ms": max(row["longest_delay_ms"] for row in rows.values()),
            "longest_delay_without_requests_ms": round(max(quiet) * 1000, 1),
            "most_added_mib": max(row["added_mib"] for row in rows.values()),
            "requests": rows,
        },
    )


def measure(url: str, process: int, attack: Attack, name: str) -> tuple[int, float, float, float]:
    """Send a request; return its status, its seconds, the seconds of the delay, and the MiB."""
    with watched(url, process) as found:
        answer = requests.post(url + attack.path, timeout=60, **attack.arguments)
    assert answer.status_code in attack.statuses, (name, answer.text[:300])
    seconds = answer.elapsed.total_seconds()
    return answer.status_code, seconds, found["delay"], found["memory"]


def idle(url: str, process: int) -> float:
    """Return the longest delay of /health in seconds, while nothing else is asked."""
    with watched(url, process) as found:
        time.sleep(0.4)
    return found["delay"]


if __name__ == "__main__":
    main()
