"""Seconds to decode a data set into the store, and to open it again, each in a new process."""

import subprocess
import sys
import tempfile
import time

from benchmarks.common import OPEN_STORE, parser, save


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--turns", type=int, default=3)
    args = options.parse_args()
    prepared: list[dict[str, float]] = []
    opened: list[dict[str, float]] = []
    images = 0
    for _ in range(args.turns):
        with tempfile.TemporaryDirectory() as root:
            for seconds in (prepared, opened):
                command = [sys.executable, "-c", OPEN_STORE, args.source, root]
                start = time.perf_counter()
                shown = subprocess.run(
                    command, check=True, capture_output=True, encoding="utf-8"
                ).stdout
                whole = time.perf_counter() - start
                images = int(shown.split()[1])
                seconds.append({"seconds": float(shown.split()[0]), "with_imports": whole})
    save("prepare", {"images": images, "prepare": prepared, "open_again": opened})


if __name__ == "__main__":
    main()
