"""The cost of growth: images/s with 1 and 2 processes; time and memory with more data.

The machine needs 2 cores, and a process has one core. Two cores may share hardware, so 2 separate
trainings at the same time show what the hardware gives without any exchange of gradients. More data
are shifted copies of the images of --source, as JPEG files in one archive. The figures are drawn as
docs/images/growth.png.
"""

import io
import json
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.common import OPEN_STORE, RESULTS, measure, parser, save
from eurosat.data.datamodule import EuroSATDataModule
from eurosat.evaluation.figures import BLUE, GREY, ORANGE, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "growth.png"
SMALL_NETWORK = (
    "--model.backbone=patchnet",
    '--model.backbone_args={"stem_width": 8, "widths": [8, 16]}',
)


def fit(source: str, root: str, folder: str, *options: str) -> list[str]:
    """The command of a training of one epoch."""
    command = [sys.executable, "-m", "eurosat", "fit", f"--data.source={source}"]
    command += [f"--data.root={root}", f"--output_root={folder}", "--trainer.max_epochs=1"]
    command += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    command += ['--data.augmentations=[{"class_path": "albumentations.D4"}]', *options]
    return command


def speed(source: str, root: str, cores: Sequence[int], steps: int) -> float:
    """Images/s of a training of ResNet-18, with one process for each core."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--model.backbone=resnet18", "--data.batch_size=64", "--test_after_fit=false"]
        options += [f"--trainer.limit_train_batches={steps}", "--trainer.limit_val_batches=1"]
        options += [f"--trainer.devices={len(cores)}", "--report=false"]
        if len(cores) > 1:
            options.append("--trainer.strategy=ddp")
        measure(fit(source, root, folder, *options), cores)
        (card,) = Path(folder).glob("*/*/run.json")
        return float(json.loads(card.read_text("utf-8"))["images_per_second"])


def processes(source: str, root: str, turns: int, steps: int) -> dict[str, Any]:
    """Images/s of one process, of two separate processes, and of two processes of one training."""
    alone, separate, together = [], [], []
    for _ in range(turns):
        alone.append(speed(source, root, [0], steps))
        with ThreadPoolExecutor(2) as pool:
            both = pool.map(lambda core: speed(source, root, [core], steps), (0, 1))
            separate.append(sum(both))
        together.append(speed(source, root, [0, 1], steps))
    return {
        "images_per_second_of_1_process": alone,
        "images_per_second_of_2_separate_trainings": separate,
        "images_per_second_of_2_processes": together,
        "ratio_of_2_processes_to_1": _median_ratio(together, alone),
        "ratio_of_2_processes_to_2_separate_trainings": _median_ratio(together, separate),
    }


def _median_ratio(first: Sequence[float], second: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(first, second, strict=True))


def data(source: str, root: str, all_times: Sequence[int]) -> dict[str, Any]:
    """Time and memory of every multiple of the source."""
    module = EuroSATDataModule(source=source, root=root)
    module.prepare_data()
    module.setup("fit")
    points = []
    for times in all_times:
        with tempfile.TemporaryDirectory() as folder:
            points.append(cost(module.opened.store, times, Path(folder)))
    first, last = points[0], points[-1]
    growth = last["images"] / first["images"]
    return {
        "points": points,
        "seconds_divided_by_proportional_growth": {
            name: last[name]["seconds"] / first[name]["seconds"] / growth
            for name in ("prepare", "fit")
        },
    }


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
        [sys.executable, "-c", OPEN_STORE, archive, root],
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    options = [*SMALL_NETWORK, "--data.batch_size=256"]
    fitted = measure(fit(str(archive), str(root), str(folder / "runs"), *options))
    return {
        "times": times,
        "images": images,
        "archive_gib": archive.stat().st_size / 2**30,
        "prepare": asdict(prepared),
        "open_again_seconds": float(opened.stdout.split()[0]),
        "fit": asdict(fitted),
    }


def draw(figures: dict[str, Any]) -> None:
    """Draw the figures as a picture of three panels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 4.0), layout="constrained")
    speeds, seconds, memory = figure.subplots(1, 3)
    found = figures["processes"]
    bars = {
        "1 process": found["images_per_second_of_1_process"],
        "2 separate\ntrainings": found["images_per_second_of_2_separate_trainings"],
        "2 processes of\none training": found["images_per_second_of_2_processes"],
    }
    heights = [statistics.median(values) for values in bars.values()]
    speeds.bar(list(bars), heights, color=[BLUE, GREY, BLUE], width=0.6)
    speeds.set(title="Training ResNet-18, one core per process", ylabel="images/s")
    points = figures["data"]["points"]
    images = [point["images"] for point in points]
    curves(
        seconds,
        images,
        [
            ("fit, one epoch and the test", [point["fit"]["seconds"] for point in points], BLUE),
            ("prepare", [point["prepare"]["seconds"] for point in points], ORANGE),
            ("open the store again", [point["open_again_seconds"] for point in points], "#009E73"),
        ],
    )
    seconds.set(title="Time", ylabel="seconds")
    curves(
        memory,
        images,
        [
            (
                "fit, with the store's pages",
                [point["fit"]["resident_gib"] for point in points],
                BLUE,
            ),
            ("fit, without", [point["fit"]["anonymous_gib"] for point in points], "#56B4E9"),
            ("prepare, without", [point["prepare"]["anonymous_gib"] for point in points], ORANGE),
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
    options.add_argument("--steps", type=int, default=50, help="batches per process in each turn")
    options.add_argument("--times", type=int, nargs="+", default=[1, 4, 16], help="sizes of data")
    options.add_argument(
        "--only",
        choices=["processes", "data"],
        help="measure this part, and keep the other part of the saved figures",
    )
    args = options.parse_args()
    figures = {}
    if args.only:
        saved = json.loads((RESULTS / "growth.json").read_text("utf-8"))
        figures = {part: saved[part] for part in ("processes", "data") if part in saved}
    if args.only != "data":
        figures["processes"] = processes(args.source, args.root, args.turns, args.steps)
    if args.only != "processes":
        figures["data"] = data(args.source, args.root, args.times)
    save("growth", figures)
    draw(figures)


if __name__ == "__main__":
    main()
