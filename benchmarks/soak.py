"""A long Locust run at 80 % of capacity, with a worker killed in the middle.

First the capacity is measured, then as many requests are sent as 30 minutes at 100 requests/s
have. Every answer is counted by status, and the memory of the service's processes is read every
second.
"""

import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.common import parser, save
from benchmarks.serving import free_port, locust, running, summary, write_pictures

USERS = 32


def family(pid: int) -> dict[int, str]:
    """A process and all its descendants, by process number: command lines."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text("utf-8").rpartition(")")[2].split()[1]
            )
            commands[int(folder.name)] = (folder / "cmdline").read_text("utf-8").replace("\0", " ")
        except OSError:
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return {one: commands[one] for one in found if one in commands}


def is_worker(command: str) -> bool:
    """Workers are the only processes that are started afresh, to load the model."""
    return "spawn_main" in command


def resident_mib(pid: int) -> float:
    """Resident memory of one process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", required=True, help="an exported file")
    options.add_argument("--requests", type=int, default=30 * 60 * 100)
    options.add_argument("--workers", type=int, default=1)
    args = options.parse_args()
    port = free_port()
    command = [sys.executable, "-m", "eurosat", "serve", args.model, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", str(args.workers)]
    memory: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder, running(command, port) as (pid, _):
        pictures = Path(folder)
        write_pictures(Path(args.source), pictures)
        capacity = summary(locust(port, pictures, USERS, 15)["/predict"], 15)["requests_per_second"]
        seconds = round(args.requests / (0.8 * capacity))
        print(f"capacity {capacity:.0f} requests/s; now {seconds} s at 80 % of it", flush=True)
        finished = threading.Event()
        started = time.monotonic()
        killed_at: list[float] = []

        def watch() -> None:
            while not finished.wait(1):
                processes = family(pid)
                sample = {"second": time.monotonic() - started, "server": 0.0, "workers": 0.0}
                for one, line in processes.items():
                    try:
                        sample["workers" if is_worker(line) else "server"] += resident_mib(one)
                    except OSError:
                        continue
                memory.append(sample)
                if not killed_at and sample["second"] > seconds / 2:
                    worker = next(one for one, line in processes.items() if is_worker(line))
                    os.kill(worker, signal.SIGKILL)
                    killed_at.append(sample["second"])

        watcher = threading.Thread(target=watch)
        watcher.start()
        rate = 0.8 * capacity / USERS
        stats = locust(port, pictures, USERS, seconds, LOCUST_RATE=f"{rate}")
        finished.set()
        watcher.join()
    quarter = len(memory) // 8

    def median_mib(part: list[dict[str, float]], key: str) -> float:
        return statistics.median(sample[key] for sample in part)

    result: dict[str, Any] = summary(stats["/predict"], seconds)
    result |= {
        "capacity_requests_per_second": capacity,
        "seconds": seconds,
        "refused": {
            name: entry["num_requests"] for name, entry in stats.items() if name in ("503", "504")
        },
        "slowest_ms": stats["/predict"]["max_response_time"],
        "worker_killed_at_second": killed_at[0],
        # The first eighth warms up; the server's processes live through all of it.
        "server_mib_second_eighth": median_mib(memory[quarter : 2 * quarter], "server"),
        "server_mib_last_eighth": median_mib(memory[-quarter:], "server"),
        "workers_mib_fourth_eighth": median_mib(memory[3 * quarter : 4 * quarter - 2], "workers"),
        "workers_mib_last_eighth": median_mib(memory[-quarter:], "workers"),
        "memory": memory[:: max(len(memory) // 60, 1)],
    }
    save("soak", result)


if __name__ == "__main__":
    main()
