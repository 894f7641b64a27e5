"""Training batches from the store against HF datasets item by item, one process, taken in turn.

Both give shuffled batches of 128 with random symmetries of the square (D4) by albumentations. The
usual way decodes every JPEG every time and normalises on the way; the store has decoded once, and
the model normalises.
"""

import statistics
import time

import albumentations
import datasets
import numpy as np
from albumentations.pytorch import ToTensorV2
from torch.utils.data import DataLoader

from benchmarks.common import parser, save
from eurosat.bands import RGB
from eurosat.data.datamodule import EuroSATDataModule
from eurosat.data.sources import find_source
from eurosat.labels import CLASSES


def item_by_item(source: str, batch_size: int) -> "DataLoader[object]":
    """The common way: an HF data set of encoded images, as the hub's are, with a transform."""
    listing = find_source(source, rgb=True).list()
    table = datasets.Dataset.from_dict(
        {
            "image": [
                {"bytes": listing.read(i)[1], "path": None} for i in range(len(listing.names))
            ],
            "label": listing.labels,
        },
        features=datasets.Features(
            image=datasets.Image(), label=datasets.ClassLabel(names=list(CLASSES))
        ),
    )
    augment = albumentations.Compose(
        [
            albumentations.D4(),
            albumentations.Normalize(
                mean=[channel.mean / 255 for channel in RGB],
                std=[channel.std / 255 for channel in RGB],
            ),
            ToTensorV2(),
        ]
    )

    def transform(rows: dict[str, list[object]]) -> dict[str, list[object]]:
        rows["image"] = [augment(image=np.asarray(image))["image"] for image in rows["image"]]
        return rows

    return DataLoader(table.with_transform(transform), batch_size=batch_size, shuffle=True)


def rate(loader: "DataLoader[object]", batches: int) -> float:
    """Images/s over some batches."""
    images = 0
    iterator = iter(loader)
    next(iterator)
    start = time.perf_counter()
    for _, batch in zip(range(batches), iterator, strict=False):
        images += len(batch["image"])
    return images / (time.perf_counter() - start)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--batch_size", type=int, default=128)
    options.add_argument("--batches", type=int, default=60, help="batches of each turn")
    options.add_argument("--turns", type=int, default=5)
    args = options.parse_args()
    data = EuroSATDataModule(
        source=args.source,
        root=args.root,
        batch_size=args.batch_size,
        augmentations=[albumentations.D4()],
    )
    data.setup("fit")
    store, items = data.train_dataloader(), item_by_item(args.source, args.batch_size)
    ours, theirs = [], []
    for _ in range(args.turns):
        theirs.append(rate(items, args.batches))
        ours.append(rate(store, args.batches))
    save(
        "loading",
        {
            "store_images_per_second": ours,
            "item_by_item_images_per_second": theirs,
            "ratio_of_medians": statistics.median(ours) / statistics.median(theirs),
        },
    )


if __name__ == "__main__":
    main()
