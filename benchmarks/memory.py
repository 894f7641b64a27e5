"""Peak resident memory of `eurosat fit` with ResNet-18, batches of 128, on the whole data set."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.common import parser, save


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=100, help="training batches")
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "eurosat", "fit", f"--data.source={args.source}"]
        command += [f"--data.root={args.root}", "--data.batch_size=128"]
        command += ['--data.augmentations=[{"class_path": "albumentations.D4"}]']
        command += ["--trainer.max_epochs=1", f"--trainer.limit_train_batches={args.steps}"]
        command += [f"--output_root={folder}"]
        process = subprocess.Popen(command)
        anonymous = 0

        def watch() -> None:
            nonlocal anonymous
            status = Path(f"/proc/{process.pid}/status")
            while process.poll() is None:
                try:
                    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
                    anonymous = max(anonymous, int(lines["RssAnon"].split()[0]))
                except (OSError, KeyError):
                    return
                time.sleep(0.05)

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
        watcher.join()
        if process.returncode:
            raise SystemExit(process.returncode)
    save(
        "memory",
        {
            "peak_resident_gib": usage.ru_maxrss / 2**20,
            # Without the pages of the memory-mapped store, which the system can drop at will.
            "peak_anonymous_gib": anonymous / 2**20,
        },
    )


if __name__ == "__main__":
    main()
