"""What every benchmark shares: finding the real data, timing, and saving the figures."""

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


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
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
