"""The cost of growth: images/s with 1 and 2 processes; time and memory with more data.

The machine needs 2 cores. A process has one core, so that 2 processes have twice the hardware of 1.
More data are shifted copies of the images of --source, as JPEG files in one archive. --draw draws
the saved figures as docs/images/growth.png, and measures nothing.
"""

import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.common import RESULTS, measure, parser, save
from eurosat.data.datamodule import EuroSATDataModule
from eurosat.evaluation.figures import BLUE, GREY, ORANGE, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "growth.png"
SMALL_NETWORK = (
    "--model.backbone=patchnet",
    '--model.backbone_args={"stem_width": 8, "widths": [8, 16]}',
)
_OPEN = """
import sys, time
from eurosat.data.datamodule import EuroSATDataModule
data = EuroSATDataModule(source=sys.argv[1], root=sys.argv[2])
start = time.perf_counter()
data.prepare_data()
data.setup("fit")
print(time.perf_counter() - start)
"""


def fit(source: str, root: str, folder: str, *options: str) -> list[str]:
    """The command of a training of one epoch."""
    command = [sys.executable, "-m", "eurosat", "fit", f"--data.source={source}"]
    command += [f"--data.root={root}", f"--output_root={folder}", "--trainer.max_epochs=1"]
    command += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    command += ['--data.augmentations=[{"class_path": "albumentations.D4"}]', *options]
    return command


def speed(source: str, root: str, processes: int, steps: int) -> float:
    """Images/s of a training of ResNet-18, with one core for each process."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--model.backbone=resnet18", "--data.batch_size=64", "--test_after_fit=false"]
        options += [f"--trainer.limit_train_batches={steps}", "--trainer.limit_val_batches=1"]
        options += [f"--trainer.devices={processes}", "--report=false"]
        if processes > 1:
            options.append("--trainer.strategy=ddp")
        measure(fit(source, root, folder, *options), cores=range(processes))
        (card,) = Path(folder).glob("*/*/run.json")
        return float(json.loads(card.read_text())["images_per_second"])


def jpegs(store: Any, copies: int) -> Iterator[tuple[str, bytes]]:
    """The images of a store, and copies that are shifted cyclically, by name in the archive."""
    for index, (image, label) in enumerate(zip(store.images, store.labels, strict=True)):
        name = store.card.classes[label]
        for copy in range(copies):
            file = io.BytesIO()
            Image.fromarray(np.roll(image, copy, axis=1)).save(file, "jpeg", quality=95)
            yield f"2750/{name}/{name}_{index}_{copy}.jpg", file.getvalue()


def cost(store: Any, times: int, folder: Path) -> dict[str, Any]:
    """Time and memory of the steps from an archive to a tested model."""
    archive, root = folder / "images.zip", folder / "root"
    with zipfile.ZipFile(archive, "w") as file:
        images = len(store.images) * times
        for name, content in tqdm(jpegs(store, times), total=images, desc=f"{times} times"):
            file.writestr(name, content)
    eurosat = [sys.executable, "-m", "eurosat"]
    prepared = measure([*eurosat, "prepare", f"--source={archive}", f"--root={root}"])
    opened = subprocess.run(
        [sys.executable, "-c", _OPEN, archive, root], check=True, capture_output=True, text=True
    )
    options = [*SMALL_NETWORK, "--data.batch_size=256"]
    fitted = measure(fit(str(archive), str(root), str(folder / "runs"), *options))
    return {
        "times": times,
        "images": images,
        "archive_gib": archive.stat().st_size / 2**30,
        "prepare": asdict(prepared),
        "open_again_seconds": float(opened.stdout),
        "fit": asdict(fitted),
    }


def draw(figures: dict[str, Any]) -> None:
    """Draw the figures as a picture of three panels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 4.0), layout="constrained")
    processes, seconds, memory = figure.subplots(1, 3)
    speeds = figures["images_per_second"]
    medians = [statistics.median(speeds[count]) for count in ("1", "2")]
    processes.bar(["1", "2"], medians, color=BLUE, width=0.5)
    processes.axhline(2 * medians[0], color=GREY, linestyle=":", label="twice the speed of 1")
    processes.set(title="Training, ResNet-18", xlabel="processes with one core each")
    processes.set(ylabel="images/s", ylim=(0, 2.4 * medians[0]))
    processes.legend(loc="upper left")
    data = figures["data"]
    images = [point["images"] for point in data]
    curves(
        seconds,
        images,
        [
            ("fit, one epoch and the test", [point["fit"]["seconds"] for point in data], BLUE),
            ("prepare", [point["prepare"]["seconds"] for point in data], ORANGE),
            ("open the store again", [point["open_again_seconds"] for point in data], "#009E73"),
        ],
    )
    seconds.set(title="Time", ylabel="seconds")
    curves(
        memory,
        images,
        [
            ("fit, with the store's pages", [point["fit"]["resident_gib"] for point in data], BLUE),
            ("fit, without", [point["fit"]["anonymous_gib"] for point in data], "#56B4E9"),
            ("prepare, without", [point["prepare"]["anonymous_gib"] for point in data], ORANGE),
        ],
    )
    memory.set(title="Peak memory", ylabel="GiB")
    save_figure(figure, PICTURE)


def curves(
    axes: "Axes", images: Sequence[int], lines: Sequence[tuple[str, Sequence[float], str]]
) -> None:
    """Draw lines over the number of images, from 0, so that proportional growth is straight."""
    for label, values, colour in lines:
        axes.plot(images, values, marker="o", color=colour, label=label)
    axes.set(xlim=(0, None), ylim=(0, None), xlabel="images")
    axes.set_xticks(images, [f"{count:,}" for count in images])
    axes.legend()


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--turns", type=int, default=3, help="turns of 1 and 2 processes")
    options.add_argument("--steps", type=int, default=40, help="batches per process in each turn")
    options.add_argument("--times", type=int, nargs="+", default=[1, 4, 16])
    options.add_argument("--draw", action="store_true", help="only draw the saved figures")
    args = options.parse_args()
    if args.draw:
        draw(json.loads((RESULTS / "growth.json").read_text()))
        return
    data = EuroSATDataModule(source=args.source, root=args.root)
    data.prepare_data()
    data.setup("fit")
    speeds: dict[str, list[float]] = {"1": [], "2": []}
    for _ in range(args.turns):
        for count in (1, 2):
            speeds[str(count)].append(speed(args.source, args.root, count, args.steps))
            time.sleep(1)
    growth = []
    for times in args.times:
        with tempfile.TemporaryDirectory() as folder:
            growth.append(cost(data.opened.store, times, Path(folder)))
    first, last = growth[0], growth[-1]
    ratios = [two / one for one, two in zip(speeds["1"], speeds["2"], strict=True)]
    figures = {
        "images_per_second": speeds,
        "ratio_of_2_processes_to_1": statistics.median(ratios),
        "data": growth,
        "seconds_for_the_most_data_divided_by_proportional_growth": {
            name: last[name]["seconds"] / first[name]["seconds"] * first["images"] / last["images"]
            for name in ("prepare", "fit")
        },
    }
    save("growth", figures)
    draw(figures)


if __name__ == "__main__":
    main()
