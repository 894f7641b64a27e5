"""Run two models on the same test images, clean and corrupted, and measure their latency."""

import filecmp
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from eurosat.bands import BANDS, Channel, is_rgb, resolve_channels, select_bands
from eurosat.data.opened import OpenedData
from eurosat.errors import GateError
from eurosat.evaluation.run_images import open_images, run_config
from eurosat.gate.corruption import Corruption, Pixels
from eurosat.inference.backend import Model, Patches, Probabilities
from eurosat.inference.card import ModelCard
from eurosat.inference.files import model_files
from eurosat.inference.runtime import open_model

BATCH = 64
"""Images per call where many images are classified; the service sends at most as many."""

_TURNS = 7
_CALLS = {1: 30, BATCH: 5}  # calls per turn, by images per call
_PAUSE = 0.05  # seconds; afterwards, the threads of the other model's backend are idle


@dataclass(frozen=True)
class Contender:
    """A model file, opened as the service opens model files.

    Attributes:
        model_uri: Model URI as the user gave it, such as ``registry:production``.
        path: The model file, or a temporary copy of a downloaded model file.
        model: The opened model.
    """

    model_uri: str
    path: Path
    model: Model

    @property
    def card(self) -> ModelCard:
        """Model card of the file."""
        return self.model.card

    @property
    def files(self) -> list[Path]:
        """The file and its companion files."""
        return model_files(self.path)

    @cached_property
    def size(self) -> int:
        """Total size of the files, in bytes."""
        return sum(path.stat().st_size for path in self.files)


Pair = tuple[Contender, Contender]
"""The candidate and the baseline."""


@dataclass(frozen=True)
class HeldOut:
    """The test split of the data that both models were trained on.

    Attributes:
        data: The data.
        pixels: Raw patches, uint8 or uint16, shape (N, height, width, C).
        channels: The C channels: R, G, B, or every band that at least one of the models takes.
        labels: True classes, int64, shape (N,).
    """

    data: OpenedData
    pixels: Pixels
    channels: tuple[Channel, ...]
    labels: npt.NDArray[np.int64]

    def patches(self, pixels: Pixels, card: ModelCard) -> Patches:
        """Arrange pixels as a model takes them.

        Args:
            pixels: Raw patches with the C channels of this split, shape (N, height, width, C).
            card: The card of the model.

        Returns:
            Patches of the same dtype, shape (N, channels of the model, size, size).
        """
        own = select_bands(pixels, resolve_channels(card.bands), self.channels)
        patches: Patches = np.ascontiguousarray(own.transpose(0, 3, 1, 2))
        return patches

    def example(self) -> Pixels:
        """Choose a patch of medium contrast.

        Returns:
            The raw patch with all channels of the data, shape (1, height, width, 3 or 13).
        """
        sample = np.arange(0, len(self.pixels), max(1, len(self.pixels) // 500))
        contrasts = self.pixels[sample].std(axis=(1, 2)).mean(axis=1)  # in float64
        medium = sample[np.argsort(contrasts, kind="stable")[len(sample) // 2]]
        example: Pixels = self.data.store.images[self.data.splits.test[[medium]]]
        return example


@dataclass(frozen=True)
class Answers:
    """Answers of one model.

    Attributes:
        probabilities: Probabilities for the clean images, float32, shape (N, classes).
        correct: Whether the predictions for the clean images are correct, bool, shape (N,).
        correct_corrupted: Whether the predictions for the corrupted images are correct, by name of
            the corruption, bool, shape (severities, N).
    """

    probabilities: Probabilities
    correct: npt.NDArray[np.bool_]
    correct_corrupted: dict[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Latency:
    """Latency of a model, as medians over turns.

    Attributes:
        one: Milliseconds of a call with one image.
        batch: Milliseconds of a call with `BATCH` images.
    """

    one: float
    batch: float

    @property
    def images_per_second(self) -> float:
        """Images per second in batches of `BATCH` images."""
        return 1000 * BATCH / self.batch


def open_pair(
    model_uris: tuple[str, str], files: tuple[Path, Path], *, device: str, threads: int | None
) -> Pair:
    """Open two models that can be compared.

    Args:
        model_uris: Model URIs of candidate and baseline, as the user gave them.
        files: The model files that the URIs resolve to.
        device: Device on which both models run.
        threads: Number of threads that each model may use.

    Raises:
        ModelFileError: A file is missing, damaged, not of this project or cannot run here.
        GateError: The models differ in classes, data or split, or a model card records no data or
            no split.
    """
    candidate, baseline = (
        Contender(model_uri, file, open_model(file, device=device, threads=threads))
        for model_uri, file in zip(model_uris, files, strict=True)
    )
    pair = (candidate, baseline)
    for contender in pair:
        if contender.card.data is None or contender.card.split is None:
            raise GateError(
                f"{contender.model_uri} does not say which images it was trained and tested on: "
                "give a checkpoint in its run folder, beside its run.json, or a file exported from "
                "there"
            )
    for what, found in (
        ("classes", _classes),
        ("data", lambda card: _recorded(card.data)),
        ("splits", lambda card: _recorded(card.split)),
    ):
        _check_equal(pair, what, found)
    return pair


def are_identical(pair: Pair) -> bool:
    """Check whether the files of both models have the same bytes; names and folders may differ."""
    ours, theirs = (contender.files for contender in pair)
    return len(ours) == len(theirs) and all(
        filecmp.cmp(*files, shallow=False) for files in zip(ours, theirs, strict=True)
    )


def _classes(card: ModelCard) -> tuple[str, str]:
    return "/".join(card.classes), ", ".join(card.classes)


def _recorded(record: dict[str, Any] | None) -> tuple[str, str]:
    """Give the fingerprint of data or a split, and a description for people."""
    assert record is not None
    kind, fingerprint = record.get("source", record.get("kind")), str(record["fingerprint"])
    return fingerprint, f"{kind} with fingerprint {fingerprint[:12]}"


def _check_equal(pair: Pair, what: str, found: Callable[[ModelCard], tuple[str, str]]) -> None:
    (ours, our_name), (theirs, their_name) = (found(contender.card) for contender in pair)
    if ours != theirs:
        raise GateError(
            f"the two models cannot be compared, their {what} differ: {pair[0].model_uri} has "
            f"{our_name}; {pair[1].model_uri} has {their_name}. Train both on the same classes, "
            "data and split"
        )


def open_held_out(
    pair: Pair, *, source: str | None, root: str | None, split_files: str | None
) -> HeldOut:
    """Open the test images of two models.

    Args:
        pair: The models. The configuration in the run folder of a model describes the data.
        source: Another source than the run's source; needed if no model is in its run folder.
        root: Another folder for decoded data than the run's folder.
        split_files: Another folder of lists than the run's folder, if lists made the split.

    Raises:
        ImagesError: The images cannot be found, or differ from the models' test images.
    """
    in_run_folder = (contender for contender in pair if run_config(contender.path).is_file())
    guide = next(in_run_folder, pair[0])
    data = open_images(guide.path, guide.card, source, root, split_files=split_files, exact=True)
    pixels, channels = data.store.images[data.splits.test], data.channels
    if not is_rgb(channels):
        taken = {name for contender in pair for name in contender.card.bands}
        channels = tuple(band for band in BANDS if band.name in taken)
        pixels = select_bands(pixels, channels)
    return HeldOut(data, pixels, channels, data.store.labels[data.splits.test])


def answer(
    pair: Pair, held_out: HeldOut, corruptions: Sequence[Corruption], severities: Sequence[int]
) -> tuple[Answers, Answers]:
    """Classify all test images, clean and corrupted, with both models.

    Both models get the same pixels.

    Args:
        pair: The models.
        held_out: The images.
        corruptions: The corruptions.
        severities: Severities of each corruption.

    Raises:
        GateError: A model does not give finite probabilities of every class for every image.
    """
    versions = len(corruptions) * len(severities)
    total = (1 + versions) * len(pair) * len(held_out.labels)
    correct_corrupted: list[dict[str, list[npt.NDArray[np.bool_]]]]
    correct_corrupted = [{corruption.name: [] for corruption in corruptions} for _ in pair]
    # With disable=None, tqdm draws no bar where stderr is not a terminal, such as a log file.
    with tqdm(total=total, desc="Classifying", unit="image", leave=False, disable=None) as bar:
        clean = [_predict(contender, held_out, held_out.pixels, bar) for contender in pair]
        for corruption in corruptions:
            for severity in severities:
                corrupted = corruption.apply(held_out.pixels, severity, held_out.channels)
                for contender, correct in zip(pair, correct_corrupted, strict=True):
                    predicted = _predict(contender, held_out, corrupted, bar).argmax(axis=1)
                    correct[corruption.name].append(predicted == held_out.labels)
    candidate, baseline = (
        Answers(
            probabilities,
            probabilities.argmax(axis=1) == held_out.labels,
            {name: np.stack(rows) for name, rows in correct.items()},
        )
        for probabilities, correct in zip(clean, correct_corrupted, strict=True)
    )
    return candidate, baseline


def _predict(contender: Contender, held_out: HeldOut, pixels: Pixels, bar: tqdm) -> Probabilities:
    found = []
    for start in range(0, len(pixels), BATCH):
        patches = held_out.patches(pixels[start : start + BATCH], contender.card)
        found.append(contender.model.predict(patches))
        bar.update(len(patches))
    probabilities = np.concatenate(found)
    expected = (len(pixels), len(contender.card.classes))
    if probabilities.shape != expected or not np.isfinite(probabilities).all():
        raise GateError(
            f"{contender.model_uri} does not give {expected[1]} probabilities for each image: "
            "export it again, or train it anew if its checkpoint does the same"
        )
    return probabilities


def time_in_turns(pair: Pair, held_out: HeldOut) -> tuple[Latency, Latency]:
    """Measure the latency of both models, which run in turns.

    Because the models run in turns, other load on the machine slows both models equally. The first
    call of each turn starts the model's idle threads and is not counted.
    """
    images = {}
    for size in _CALLS:
        pixels = held_out.pixels[np.arange(size) % len(held_out.pixels)]
        images[size] = [held_out.patches(pixels, contender.card) for contender in pair]
    times: dict[int, tuple[list[float], list[float]]] = {size: ([], []) for size in _CALLS}
    for turn in range(_TURNS):
        for size, calls in _CALLS.items():
            for which in (0, 1) if turn % 2 else (1, 0):
                time.sleep(_PAUSE)
                taken = _time(pair[which].model, images[size][which], calls)
                times[size][which].append(taken)
    candidate, baseline = (
        Latency(*(statistics.median(times[size][which]) for size in _CALLS)) for which in (0, 1)
    )
    return candidate, baseline


def _time(model: Model, patches: Patches, calls: int) -> float:
    """Measure the median latency of a call, in milliseconds."""
    times = []
    for _ in range(1 + calls):
        start = time.perf_counter()
        model.predict(patches)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])
