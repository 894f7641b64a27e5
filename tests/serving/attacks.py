"""Requests that ask for far more work than they should, and what each does to a service."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests


@dataclass(frozen=True)
class Attack:
    """A request within the limits of size.

    Attributes:
        statuses: Statuses that the answer may have.
        files: The uploads.
        body: The body in JSON, if the request has no uploads.
        path: The route.
    """

    statuses: tuple[int, ...]
    files: list[bytes] = field(default_factory=list)
    body: bytes = b""
    path: str = "/predict"

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of ``requests.post``."""
        if self.files:
            return {"files": [("file", (f"{i}.tif", data)) for i, data in enumerate(self.files)]}
        return {"data": self.body, "headers": {"Content-Type": "application/json"}}


def processes(main: int) -> list[int]:
    """Numbers of all processes of a service, whose main process has the number ``main``."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # the process has just ended
        children.setdefault(parent, []).append(int(folder.name))
    found = [main]
    for process in found:
        found += children.get(process, [])
    return found


def memory_mib(main: int) -> float:
    """Memory of all processes, in which shared pages count once."""
    total = 0
    for process in processes(main):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text("utf-8").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


@contextmanager
def watched(url: str, main: int) -> Iterator[dict[str, float]]:
    """Measure the longest delay of /health in seconds, and the memory added in MiB."""
    found = {"delay": 0.0, "memory": 0.0}
    before = memory_mib(main)
    ended = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            session.get(f"{url}/health", timeout=60)
            while not ended.is_set():
                start = time.perf_counter()
                session.get(f"{url}/health", timeout=60)
                found["delay"] = max(found["delay"], time.perf_counter() - start)
                time.sleep(0.005)

    def weigh() -> None:
        while not ended.is_set():
            found["memory"] = max(found["memory"], memory_mib(main) - before)
            time.sleep(0.02)

    threads = [threading.Thread(target=ask), threading.Thread(target=weigh)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        ended.set()
        for thread in threads:
            thread.join()
