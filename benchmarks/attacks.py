"""Hostile requests against the service: time to the answer, delay of /health and added memory.

Each request is within the service's limits of size. The memory is that of all processes of the
service, where shared pages count once.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import requests

from benchmarks.common import save
from benchmarks.serving import free_port, running
from tests.serving.attack_files import FILES, pipe
from tests.serving.attack_json import BODIES
from tests.serving.attacks import Attack, watched


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
            with watched(url, process) as found:
                answer = requests.post(url + attack.path, timeout=60, **attack.arguments)
            assert answer.status_code in attack.statuses, (name, answer.text[:300])
            rows[name] = {
                "status": answer.status_code,
                "seconds": round(answer.elapsed.total_seconds(), 3),
                "health_delay_ms": round(found["delay"] * 1000, 1),
                "added_mib": round(found["memory"]),
            }
            print(name, rows[name], flush=True)
    save(
        "attacks",
        {
            "worst_health_delay_ms": max(row["health_delay_ms"] for row in rows.values()),
            "most_added_mib": max(row["added_mib"] for row in rows.values()),
            "requests": rows,
        },
    )


if __name__ == "__main__":
    main()
