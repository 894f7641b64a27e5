"""Test accuracy and seconds of `configs/fast.yaml` from scratch, over several seeds."""

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.common import parser, save


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--outputs", default="outputs", help="folder of the runs")
    args = options.parse_args()
    runs = []
    for seed in args.seeds:
        folder = Path(args.outputs) / f"fast-seed{seed}"
        before = set(folder.glob("*"))
        command = [sys.executable, "-m", "eurosat", "fit", "--config=configs/fast.yaml"]
        command += [f"--data.source={args.source}", f"--data.root={args.root}"]
        command += [f"--seed_everything={seed}", f"--experiment=fast-seed{seed}"]
        command += [f"--output_root={args.outputs}"]
        subprocess.run(command, check=True)
        (run,) = set(folder.glob("*")) - before
        card = json.loads((run / "run.json").read_text("utf-8"))
        metrics = json.loads((run / "metrics.json").read_text("utf-8"))
        runs.append(
            {
                "seed": seed,
                "accuracy": metrics["accuracy"],
                "accuracy_macro": metrics["accuracy_macro"],
                "f1_macro": metrics["f1_macro"],
                "ece": metrics["ece"],
                "wall_seconds": card["wall_seconds"],
                "images_per_second": card["images_per_second"],
                "split": card["split"],
                "data": card["data"]["fingerprint"],
            }
        )
    accuracies = [run["accuracy"] for run in runs]
    spread = statistics.stdev(accuracies) if len(runs) > 1 else math.nan
    save(
        "fast",
        {
            "mean_accuracy": statistics.mean(accuracies),
            "standard_deviation": spread,
            "longest_wall_seconds": max(run["wall_seconds"] for run in runs),
            "runs": runs,
        },
    )


if __name__ == "__main__":
    main()
