"""How well the out-of-distribution score tells images that are no Sentinel-2 land patches.

The model's reference scores the test images of the model's run, which took no part in the
reference, and images of other kinds. The AUROC is the probability that an image of another kind has
a higher score than a test image; the detection is the fraction that is flagged. Photographs are
crops of random size and place, resized to the patch size.

    python -m benchmarks.ood --model model.onnx --source EuroSAT_RGB.zip \
        --photographs FOLDER FOLDER --textures FOLDER
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.common import parser, save
from benchmarks.serving import free_port, latency, running, write_pictures
from eurosat.evaluation.run_images import open_images
from eurosat.gate.corruptions import corruptions
from eurosat.inference.backend import Output, join_outputs
from eurosat.inference.runtime import open_model
from eurosat.monitoring.reference_files import read_reference
from eurosat.monitoring.statistics import input_statistics

Pixels = npt.NDArray[np.uint8]

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".tif")
ORDERS = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
BATCH = 64


def crops(folder: Path, count: int, size: int, rng: np.random.Generator) -> Pixels:
    """Cut squares of random size and place out of the images of a folder."""
    images = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
            image.thumbnail((1600, 1600))
            if min(image.size) >= size:
                images.append(image)
    found = []
    for number in range(count):
        image = images[number % len(images)]
        longest = min(image.size)
        side = int(np.exp(rng.uniform(np.log(max(size, longest / 10)), np.log(longest))))
        x, y = (int(rng.integers(0, extent - side + 1)) for extent in image.size)
        square = image.crop((x, y, x + side, y + side))
        found.append(np.asarray(square.resize((size, size), Image.Resampling.BILINEAR)))
    return np.stack(found)


def clouds(patches: Pixels, rng: np.random.Generator) -> Pixels:
    """Cover patches with bright noise of several scales, from half to whole."""
    size, covered = patches.shape[1], []
    for patch in patches:
        density = np.zeros((size, size))
        for octave in range(1, 6):
            noise = rng.normal(size=(2**octave + 1,) * 2).astype(np.float32)
            scaled = Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)
            density += np.asarray(scaled) * 2.0**-octave
        density = (density - density.min()) / np.ptp(density)
        opacity = np.clip(1.6 * density + rng.uniform(-0.1, 0.6), 0, 1)[..., np.newaxis]
        covered.append(patch * (1 - opacity) + 245 * opacity)
    return np.asarray(np.clip(covered, 0, 255), np.uint8)


def lone_request(model: Path, archive: Path) -> float:
    """Median microseconds of a request to the service without other requests."""
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(archive, Path(folder))
        port = free_port()
        command = [sys.executable, "-m", "eurosat", "serve", str(model), "--host", "127.0.0.1"]
        with running([*command, "--port", str(port)], port):
            return 1000 * latency(port, Path(folder), 1000)


def main() -> None:
    """Score all kinds, and save the figures."""
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="an exported RGB model")
    options.add_argument("--photographs", type=Path, nargs="+", required=True, help="folders")
    options.add_argument("--textures", type=Path, required=True, help="folder of close-ups")
    options.add_argument("--count", type=int, default=200, help="images of each kind")
    arguments = options.parse_args()
    model, reference = open_model(arguments.model), read_reference(arguments.model)
    data = open_images(arguments.model, model.card, arguments.source, arguments.root)
    test, size, rng = data.store.images[data.splits.test], data.patch_size, np.random.default_rng(0)
    count = arguments.count
    some = test[rng.permutation(len(test))[:count]]

    def output(pixels: Pixels) -> tuple[Output, npt.NDArray[np.float32]]:
        patches = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        starts = range(0, len(patches), BATCH)
        outputs = [model.run(patches[start : start + BATCH]) for start in starts]
        return join_outputs(outputs), input_statistics(patches, model.card.bands)

    def scores(pixels: Pixels) -> npt.NDArray[np.float32]:
        found, numbers = output(pixels)
        assert found.features is not None
        return reference.ood_scores(found.features, numbers)

    deviations = rng.uniform(10, 60, (count, 1, 1, 1))
    noise = np.where(
        rng.random((count, 1, 1, 1)) < 0.5,
        rng.integers(0, 256, (count, size, size, 3)),
        np.clip(rng.normal(110, deviations, (count, size, size, 3)), 0, 255),
    )
    kinds: dict[str, Pixels] = {
        **{f"photographs {f.name}": crops(f, count, size, rng) for f in arguments.photographs},
        "noise": noise.astype(np.uint8),
        "constant": np.broadcast_to(
            rng.integers(0, 256, (count, 1, 1, 3)).astype(np.uint8), (count, size, size, 3)
        ),
        "clouds": clouds(some, rng),
        "close-up textures": crops(arguments.textures, count, size, rng),
        "other band orders": np.concatenate([some[..., list(order)] for order in ORDERS]),
        **{
            f"{corruption.name}, severity {severity}": corruption.apply(
                some, severity, data.channels
            )
            for corruption in corruptions()
            for severity in (3, 5)
        },
    }
    usual = np.sort(scores(test))

    def auroc(found: npt.NDArray[np.float32]) -> float:
        below = np.searchsorted(usual, found, "left") + np.searchsorted(usual, found, "right")
        return float(below.mean() / 2 / len(usual))

    figures = {}
    for kind, pixels in kinds.items():
        found = scores(pixels)
        detected = float(reference.flags(found).mean())
        figures[kind] = {"auroc": round(auroc(found), 4), "detected": round(detected, 4)}
    other = [row["auroc"] for kind, row in figures.items() if "severity" not in kind]
    one = output(test[:1])[0]
    assert one.features is not None
    patch = np.ascontiguousarray(test[:1].transpose(0, 3, 1, 2))
    times: dict[str, list[float]] = {"model": [], "score": []}
    for _ in range(1000):
        start = time.perf_counter()
        model.run(patch)
        middle = time.perf_counter()
        reference.ood_scores(one.features, input_statistics(patch, model.card.bands))
        times["model"].append(middle - start)
        times["score"].append(time.perf_counter() - middle)
    score = 1e6 * statistics.median(times["score"])
    request = lone_request(arguments.model, Path(arguments.source))
    save(
        "ood",
        {
            "model": model.card.version,
            "test_images": len(test),
            "false_flags": round(float(reference.flags(usual).mean()), 4),
            "mean_auroc": round(statistics.mean(other), 4),
            "microseconds": {
                "model": round(1e6 * statistics.median(times["model"]), 1),
                "score": round(score, 1),
                "lone_request": round(request, 1),
            },
            "score_of_a_lone_request": round(score / request, 4),
            "reference_bytes": len(reference.to_bytes()),
            "kinds": figures,
        },
    )


if __name__ == "__main__":
    main()
