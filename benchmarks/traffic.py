"""Send a model's test images to a running service, one image a request, as seen or changed.

A change shows what the drift service, the dashboards and the alerts make of it. A model that was
trained on synthetic patches needs no --source.

    python -m benchmarks.traffic --model outputs/model.onnx
    python -m benchmarks.traffic --model outputs/model.onnx --change brightness --severity 3
"""

import argparse
import io
import time
from pathlib import Path

import numpy as np
import requests
from PIL import Image
from tqdm import tqdm

from eurosat.evaluation.run_images import open_images
from eurosat.gate.corruptions import corruptions
from eurosat.inference.runtime import open_model


def main() -> None:
    by_name = {corruption.name: corruption for corruption in corruptions()}
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--model", type=Path, required=True, help="the RGB model that is served")
    options.add_argument("--source", help="EuroSAT_RGB.zip, or another source of `eurosat fit`")
    options.add_argument("--root", default="data", help="folder for decoded data (data)")
    options.add_argument("--url", default="http://localhost:8000", help="the service's address")
    options.add_argument("--images", type=int, default=600, help="number of requests (600)")
    options.add_argument("--rate", type=float, default=50, help="most requests a second (50)")
    options.add_argument("--change", choices=sorted(by_name), help="a corruption of all images")
    options.add_argument("--severity", type=int, choices=range(1, 6), default=3, help="(3)")
    options.add_argument("--seed", type=int, default=0, help="seed of the order of the images (0)")
    args = options.parse_args()
    data = open_images(args.model, open_model(args.model, threads=1).card, args.source, args.root)
    rng = np.random.default_rng(args.seed)
    test = data.splits.test
    # Every image is sent once before an image is sent twice.
    order = np.concatenate([rng.permutation(test) for _ in range(-(-args.images // len(test)))])
    images = data.store.images[order[: args.images]]
    if args.change:
        images = by_name[args.change].apply(images, args.severity, data.channels)
    started = time.monotonic()
    with requests.Session() as session:
        for number, pixels in enumerate(tqdm(images, unit="request")):
            Image.fromarray(pixels).save(buffer := io.BytesIO(), "PNG")
            answer = session.post(
                f"{args.url}/predict", files={"file": buffer.getvalue()}, timeout=60
            )
            answer.raise_for_status()
            time.sleep(max(0.0, started + (number + 1) / args.rate - time.monotonic()))


if __name__ == "__main__":
    main()
