"""``eurosat classify``: ask a service for the classes of image files."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal, TextIO

from tqdm import tqdm

from eurosat.api_key import read_api_key
from eurosat.errors import EuroSATError
from eurosat.files import atomic_write, writing_to
from eurosat.pixels import find_images
from eurosat.plain_text import plain
from eurosat.serving.client import Client, Prediction


def classify(
    files: list[str],
    *,
    url: str = "http://127.0.0.1:8000",
    format: Literal["table", "json", "csv"] = "table",
    output: str | None = None,
    tiles: bool = False,
    api_key: str | None = None,
    timeout: float = 35.0,
    retries: int = 5,
    concurrency: int = 4,
    batch: int = 16,
) -> int:
    """Send image files to a service and print the predicted class of each image.

    If a file cannot be read or the service rejects an image, the command classifies all other
    images, and the exit code is 1. If a path does not exist, a folder holds no image, an option is
    wrong, or the service is unreachable, fails or refuses the key, the exit code is 2.

    Args:
        files: Image files, and folders that hold image files.
        url: Address of a service started with 'eurosat serve'.
        format: 'table' for people, 'json' with every field, 'csv' with the columns of
            'eurosat predict' and the column 'ood' (out-of-distribution score, 0 to 1).
        output: File for the results; if not given, the terminal.
        tiles: Cut an image that is larger than a patch into tiles instead of resizing it. The
            image's class is the class whose probability, averaged over all tiles, is the highest;
            JSON output lists every tile.
        api_key: The service's API key; if not given, the environment variable EUROSAT_API_KEY.
            Prefer the variable, because other users of this machine can read the command line.
        timeout: Seconds to wait for a response. The service answers a slow request with an error
            after --timeout of 'eurosat serve' (by default 30 seconds). With a smaller --timeout of
            'eurosat classify', the client stops before the service's error arrives.
        retries: Number of repetitions of a request if the service is busy or unreachable.
        concurrency: Number of simultaneous requests.
        batch: Largest number of images per request.
    """
    for name, value in {"timeout": timeout, "concurrency": concurrency, "batch": batch}.items():
        if value <= 0:
            raise EuroSATError(f"--{name} must be more than 0")
    if retries < 0:
        raise EuroSATError("--retries must be 0 or more")
    paths = find_images(files)
    client = Client(
        url,
        api_key=api_key or read_api_key(),
        timeout=timeout,
        retries=retries,
        concurrency=concurrency,
    )
    # The output is opened first, so that an unwritable output fails at once.
    with _opened(output) as stream, client:
        found = client.classify(paths, tiles=tiles, batch=batch)
        # disable=None hides the progress bar if standard error is not a terminal
        predictions = list(tqdm(found, total=len(paths), unit="image", leave=False, disable=None))
        match format:
            case "table":
                _write_table(predictions, stream)
            case "json":
                json.dump([asdict(prediction) for prediction in predictions], stream, indent=2)
                stream.write("\n")
            case "csv":
                _write_csv(predictions, stream)
    return int(any(prediction.error is not None for prediction in predictions))


@contextmanager
def _opened(output: str | None) -> Iterator[TextIO]:
    """Open the standard output, or a file that is written atomically."""
    if output is None:
        yield sys.stdout
        return
    with (
        writing_to(Path(output), EuroSATError),
        atomic_write(Path(output)) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        yield stream


def _write_table(predictions: Sequence[Prediction], stream: TextIO) -> None:
    file_width = max(len(plain(prediction.file)) for prediction in predictions)
    label_width = max(len(plain(prediction.label)) for prediction in predictions)
    for prediction in predictions:
        stream.write(f"{plain(prediction.file):<{file_width}}  ")
        if prediction.error is None:
            unlike = "  unlike a Sentinel-2 patch" if prediction.ood_flag else ""
            stream.write(
                f"{plain(prediction.label):<{label_width}}  {prediction.probability:6.1%}{unlike}\n"
            )
        else:
            stream.write(f"rejected: {plain(prediction.error)}\n")


def _write_csv(predictions: Sequence[Prediction], stream: TextIO) -> None:
    classes = next((list(p.probabilities) for p in predictions if p.probabilities), [])
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["file", "predicted", "confidence", *classes, "ood", "error"])
    for prediction in predictions:
        if prediction.error is None:
            values = [prediction.probabilities[name] for name in classes]
            known = [prediction.file, prediction.label, prediction.probability]
            writer.writerow([*known, *values, prediction.ood_score, ""])
        else:
            writer.writerow(
                [prediction.file, "", "", *([""] * (len(classes) + 1)), prediction.error]
            )
