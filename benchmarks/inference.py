"""Every exported format against eager float32 PyTorch, in turns of one run.

Exports a checkpoint to every format, opens each file as the service does, with two threads, and
measures the latency of batches of 1 and 64 patches. Ratios are taken within a turn; figures are
medians over turns. Accuracies are those on the run's test part, which took no part in training,
calibration or the gate.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import parser, save
from eurosat.cli import main as eurosat
from eurosat.evaluation.run_images import open_images
from eurosat.inference import formats
from eurosat.inference.backend import Model, Patches
from eurosat.inference.card import ModelCard
from eurosat.inference.files import model_files
from eurosat.inference.runtime import open_model

EAGER = "checkpoint"
SIZES = (1, 64)
SECONDS = 0.5  # of calls in each turn


def latency(model: Model, patches: Patches, size: int) -> float:
    """Median milliseconds of a call."""
    batch = patches[:size]
    times: list[float] = []
    while sum(times) < SECONDS:
        start = time.perf_counter()
        model.predict(batch)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[len(times) // 5 :])  # the first calls warm up


def accuracy(model: Model, patches: Patches, labels: np.ndarray) -> float:
    """Percent of the patches."""
    starts = range(0, len(patches), 64)
    found = np.concatenate([model.predict(patches[i : i + 64]).argmax(1) for i in starts])
    return float(100 * np.mean(found == labels))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--checkpoint", type=Path, required=True, help="in its run folder")
    options.add_argument("--turns", type=int, default=9)
    options.add_argument("--threads", type=int, default=2)
    args = options.parse_args()
    data = [f"--source={args.source}", f"--root={args.root}"]
    with tempfile.TemporaryDirectory() as folder:
        models = {EAGER: open_model(args.checkpoint, threads=args.threads)}
        sizes = {EAGER: args.checkpoint.stat().st_size}
        for name, format in formats().items():
            path = Path(folder, f"{name}{format.backend.suffix}")
            target = [f"--format={name}", f"--output={path}"]
            if eurosat(["export", str(args.checkpoint), *target, *data]) != 0:
                raise SystemExit(f"{name} did not pass its gate")
            models[name] = open_model(path, threads=args.threads)
            sizes[name] = sum(file.stat().st_size for file in model_files(path))
        card: ModelCard = models[EAGER].card
        patches, labels = open_images(args.checkpoint, card, args.source, args.root).draw(
            "test", None
        )
        accuracies = {name: accuracy(model, patches, labels) for name, model in models.items()}
        measured: dict[str, dict[int, list[float]]] = {name: {1: [], 64: []} for name in models}
        for _ in range(args.turns):
            for size in SIZES:
                for name, model in models.items():
                    time.sleep(0.2)  # until the last backend's threads have gone to sleep
                    measured[name][size].append(latency(model, patches, size))
    figures = {}
    for name, turns in measured.items():
        figures[name] = {
            "test_accuracy": round(accuracies[name], 2),
            "lost_points": round(accuracies[EAGER] - accuracies[name], 2),
            "megabytes": round(sizes[name] / 1e6, 1),
        }
        for size, times in turns.items():
            pairs = zip(measured[EAGER][size], times, strict=True)
            figures[name][f"batch_{size}"] = {
                "milliseconds": round(statistics.median(times), 3),
                "images_per_second": round(1000 * size / statistics.median(times)),
                "times_eager": round(statistics.median(eager / own for eager, own in pairs), 2),
            }
    save(
        "inference",
        {"backbone": card.backbone, "threads": args.threads, "turns": args.turns} | figures,
    )


if __name__ == "__main__":
    main()
