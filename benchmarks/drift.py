"""False alarms and detection of drift on real images, with a model file.

The pool is the validation and the test images. In every repetition, the pool is split in halves: at
most 1,000 images of one half are the reference, and windows are drawn from the other half without
drift, or after a change. With --coordinates, western images are the reference and eastern images
the traffic.
"""

import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks.common import parser, save
from eurosat.bands import resolve_channels
from eurosat.evaluation.run_images import open_images
from eurosat.gate.corruptions import corruptions
from eurosat.inference.runtime import open_model
from eurosat.monitoring import reference, statistics
from eurosat.monitoring.drift.families import FAMILIES, run_families
from eurosat.monitoring.drift.traffic import Traffic

REFERENCE = 1000
SEVERITIES = (1, 2, 3)
Patches = npt.NDArray[Any]


@dataclass(frozen=True)
class Seen:
    """What a service logs of images, and their labels."""

    labels: npt.NDArray[np.int64]
    statistics: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]

    def rows(self, which: npt.NDArray[Any]) -> "Seen":
        return Seen(*(getattr(self, name)[which] for name in self.__dataclass_fields__))


def see(model: Any, patches: Patches, labels: npt.NDArray[np.int64]) -> Seen:
    """Run the model on images in batches."""
    outputs = [model.run(patches[start : start + 256]) for start in range(0, len(patches), 256)]
    return Seen(
        labels,
        statistics.input_statistics(patches, model.card.bands),
        np.concatenate([output.probabilities for output in outputs]),
        np.concatenate([output.features for output in outputs]),
    )


def reference_of(seen: Seen, card: Any) -> Any:
    """A reference of at most `REFERENCE` images, as a run makes it."""
    return reference.make_reference(
        card, seen.features, seen.probabilities, seen.statistics, seen.labels
    )


def families_of(known: Any, window: Seen, names: tuple[str, ...]) -> list[str]:
    """The families in which a window has drifted."""
    count = len(window.labels)
    traffic = Traffic(
        np.arange(count).astype(str),
        np.arange(count, dtype=np.float64),
        window.statistics,
        window.probabilities,
        known.embed(window.features),
        np.full(count, np.nan, np.float32),
    )
    return [
        family.name
        for family in run_families(known, traffic, traffic.embeddings, names)
        if family.drift
    ]


def changes(model: Any) -> Iterator[tuple[str, Callable[[Patches], Patches]]]:
    """Changes of patches, channels first, by name."""

    def scaled(factor: float) -> Callable[[Patches], Patches]:
        def change(patches: Patches) -> Patches:
            most = np.iinfo(patches.dtype).max
            return np.rint(patches * np.float32(factor)).clip(0, most).astype(patches.dtype)

        return change

    for percent in (-20, -10, 10, 20):
        yield f"brightness {percent:+d} %", scaled(1 + percent / 100)
    channels = resolve_channels(model.card.bands)
    for corruption in corruptions():
        for severity in SEVERITIES:

            def corrupt(
                patches: Patches, corruption: Any = corruption, severity: int = severity
            ) -> Patches:
                moved = np.ascontiguousarray(patches.transpose(0, 2, 3, 1))
                changed = corruption.apply(moved, severity, channels)
                return np.ascontiguousarray(changed.transpose(0, 3, 1, 2))

            yield f"{corruption.title} {severity}", corrupt
    yield "channels reversed", lambda patches: np.ascontiguousarray(patches[:, ::-1])


def windows_with_mix(
    seen: Seen, count: int, weights: npt.NDArray[np.float64], rng: np.random.Generator
) -> Seen:
    """Draw images without replacement, with a weight for each class."""
    each = weights[seen.labels]
    chosen = rng.choice(len(seen.labels), count, replace=False, p=each / each.sum())
    return seen.rows(chosen)


def fraction(found: list[list[str]]) -> dict[str, Any]:
    """The fraction of windows with drift, and by family."""
    return {
        "windows": len(found),
        "drifted": sum(bool(families) for families in found),
        "fraction": round(sum(bool(families) for families in found) / len(found), 3),
        "by_family": {
            name: round(sum(name in families for families in found) / len(found), 3)
            for name in FAMILIES
        },
    }


def read_longitudes(path: Path) -> dict[str, float]:
    """Longitudes in degrees by the images' names."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["name"]: float(row["longitude"]) for row in csv.DictReader(file)}


def by_longitude(
    known: dict[str, float], names: list[str], indices: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which images lie in the west and which in the east of the median longitude."""
    longitudes = np.array([known[Path(names[index]).stem] for index in indices])
    west = longitudes < np.median(longitudes)
    return np.flatnonzero(west), np.flatnonzero(~west)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="a model file with features")
    options.add_argument("--coordinates", type=Path, help="CSV file: name, class, longitude")
    options.add_argument("--size", type=int, default=300, help="images in a window")
    options.add_argument("--halves", type=int, default=20, help="random halves of the pool")
    options.add_argument("--windows", type=int, default=10, help="windows of a half")
    options.add_argument("--threads", type=int, default=2)
    args = options.parse_args()
    cv2.setNumThreads(1)
    longitudes = read_longitudes(args.coordinates) if args.coordinates else None
    model = open_model(args.model, threads=args.threads)
    classes, names = model.card.classes, statistics.statistic_names(model.card.bands)
    data = open_images(args.model, model.card, args.source, args.root)
    drawn = [data.draw(split, None) for split in ("val", "test")]
    patches = np.concatenate([part[0] for part in drawn])
    labels = np.concatenate([part[1] for part in drawn])
    pool = see(model, patches, labels)
    changed = {
        name: see(model, change(patches), labels)
        for name, change in tqdm(list(changes(model)), "changes")
    }
    quiet: list[list[str]] = []
    found: dict[str, list[list[str]]] = {}
    seconds = []
    for half in tqdm(range(args.halves), "halves"):
        rng = np.random.default_rng(half)
        order = rng.permutation(len(labels))
        middle = len(order) // 2
        known = reference_of(pool.rows(order[:middle][:REFERENCE]), model.card)
        rest = order[middle:]
        for number in range(args.windows):
            chosen = rng.choice(rest, args.size, replace=False)
            start = time.perf_counter()
            quiet.append(families_of(known, pool.rows(chosen), names))
            seconds.append(time.perf_counter() - start)
            if number:  # one window of a half for each change
                continue
            for name, seen in changed.items():
                found.setdefault(name, []).append(families_of(known, seen.rows(chosen), names))
            for index, label in enumerate(classes):
                for kind, weight in (("missing", 0.0), ("tripled", 3.0)):
                    weights = np.ones(len(classes))
                    weights[index] = weight
                    window = windows_with_mix(pool.rows(rest), args.size, weights, rng)
                    found.setdefault(f"{label} {kind}", []).append(
                        families_of(known, window, names)
                    )
    figures: dict[str, Any] = {
        "model": model.card.version,
        "images": len(labels),
        "size": args.size,
        "milliseconds": round(1000 * float(np.median(seconds)), 1),
        "quiet": fraction(quiet),
        "changes": {name: fraction(results) for name, results in found.items()},
    }
    if longitudes is not None:
        found_east = geography(args, longitudes, data, pool, model.card, names)
        figures["west_to_east"] = fraction(found_east)
    save("drift", figures)


def geography(
    args: Any,
    longitudes: dict[str, float],
    data: Any,
    pool: Seen,
    card: Any,
    names: tuple[str, ...],
) -> list[list[str]]:
    """Western images as the reference, eastern images with the same class fractions as traffic."""
    rng = np.random.default_rng(0)
    indices = np.concatenate(
        [np.random.default_rng(0).permutation(data.splits[split]) for split in ("val", "test")]
    )
    assert np.array_equal(data.store.labels[indices], pool.labels)  # the order of `draw`
    west, east = by_longitude(longitudes, data.store.names, indices)
    west_classes = np.bincount(pool.labels[west], minlength=len(card.classes))
    east_classes = np.bincount(pool.labels[east], minlength=len(card.classes))
    weights = west_classes / np.maximum(east_classes, 1)
    known = reference_of(pool.rows(rng.permutation(west)[:REFERENCE]), card)
    return [
        families_of(known, windows_with_mix(pool.rows(east), args.size, weights, rng), names)
        for _ in range(args.halves)
    ]


if __name__ == "__main__":
    main()
