"""What every benchmark shares: finding the real data, timing, and saving the figures."""

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eurosat.operating_system import available_cores

RESULTS = Path(__file__).parent / "results"

OPEN_STORE = """
import sys, time
from eurosat.data.datamodule import EuroSATDataModule
data = EuroSATDataModule(source=sys.argv[1], root=sys.argv[2])
start = time.perf_counter()
data.prepare_data()
data.setup("fit")
print(time.perf_counter() - start, len(data.opened.store))
"""
"""Script that opens or makes the store of a source, and shows the seconds and number of images."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    result.add_argument(
        "--source", required=True, help="EuroSAT_RGB.zip, or another source of `eurosat fit`"
    )
    result.add_argument("--root", default="data", help="folder for decoded data")
    return result


def save(name: str, figures: dict[str, Any]) -> None:
    """Print the figures and save them with the command and the machine that gave them."""
    import torch

    from eurosat.provenance import git_state

    content = figures | {
        # Where the data lay on this machine is nobody else's business.
        "command": " ".join(
            ["python -m", f"benchmarks.{name}", *(Path(word).name for word in sys.argv[1:])]
        ),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": asdict(git) if (git := git_state()) else None,
        "machine": {
            "cpu": torch.cpu.get_capabilities().get("cpu_name", platform.processor()),
            "cores": available_cores(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(content, indent=2) + "\n"
    (RESULTS / f"{name}.json").write_text(text, "utf-8", newline="\n")
    print(json.dumps(figures, indent=2))


@dataclass(frozen=True)
class Measured:
    """What a command took.

    Attributes:
        seconds: From the start of the process to its end.
        resident_gib: Peak resident memory of the process.
        anonymous_gib: Peak resident memory without the pages of files, which the system can drop
            at will, such as those of the memory-mapped store.
    """

    seconds: float
    resident_gib: float
    anonymous_gib: float


def measure(command: Sequence[str], cores: Sequence[int] | None = None) -> Measured:
    """Run a command, on the given cores only if there are any, and measure time and memory.

    Raises:
        SystemExit: The command failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        command, preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None
    )
    anonymous = 0

    def watch() -> None:
        nonlocal anonymous
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            try:
                lines = dict(line.split(":", 1) for line in status.read_text("utf-8").splitlines())
                anonymous = max(anonymous, int(lines["RssAnon"].split()[0]))
            except (OSError, KeyError):
                return
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, code, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(code)
    watcher.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    return Measured(seconds, usage.ru_maxrss / 2**20, anonymous / 2**20)
