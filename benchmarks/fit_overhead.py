"""Images/s of `eurosat fit` against a bare PyTorch loop on the same model, taken in turn.

Both train ResNet-18 from scratch with AdamW, bf16 where the hardware has it, batches of 128 and
random symmetries of the square (D4). The bare loop indexes tensors in memory and does nothing
else: no logging, no metrics, no checks.
"""

import statistics
import tempfile
import time
from pathlib import Path

import timm
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.common import parser, save
from eurosat.bands import RGB
from eurosat.cli import main as eurosat
from eurosat.data.datamodule import EuroSATDataModule
from eurosat.hardware import computes_bf16


def random_symmetries(images: Tensor) -> Tensor:
    """D4 on a batch (B, height, width, C): the eight symmetries, each on its share of the batch."""
    result = torch.empty_like(images)
    draws = torch.randint(8, (len(images),))
    for symmetry in range(8):
        chosen = draws == symmetry
        turned = torch.rot90(images[chosen], symmetry % 4, (1, 2))
        result[chosen] = turned.flip(2) if symmetry > 3 else turned
    return result


def bare_loop(images: Tensor, labels: Tensor, batch_size: int, steps: int) -> float:
    """Images/s of a plain training loop."""
    model = timm.create_model("resnet18", num_classes=10).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters())
    mean = torch.tensor([channel.mean for channel in RGB]).view(1, 3, 1, 1)
    std = torch.tensor([channel.std for channel in RGB]).view(1, 3, 1, 1)
    order = torch.randperm(len(images))
    model.train()
    start = time.perf_counter()
    for step in range(steps):
        chosen = order[step * batch_size : (step + 1) * batch_size]
        batch = random_symmetries(images[chosen]).permute(0, 3, 1, 2)
        with torch.autocast("cpu", torch.bfloat16, enabled=computes_bf16("cpu")):
            loss = functional.cross_entropy(model((batch - mean) / std), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return steps * batch_size / (time.perf_counter() - start)


def fit(source: str, root: str, batch_size: int, steps: int, folder: str) -> float:
    """Images/s of `eurosat fit`, as its run.json says."""
    import json

    before = set(Path(folder).glob("*/*/run.json"))
    eurosat(
        [
            "fit",
            f"--data.source={source}",
            f"--data.root={root}",
            f"--data.batch_size={batch_size}",
            '--data.augmentations=[{"class_path": "albumentations.D4"}]',
            "--model.backbone=resnet18",
            "--trainer.accelerator=cpu",
            "--trainer.max_epochs=1",
            f"--trainer.limit_train_batches={steps}",
            "--trainer.limit_val_batches=1",
            "--trainer.num_sanity_val_steps=0",
            "--test_after_fit=false",
            f"--output_root={folder}",
        ]
    )
    (card,) = set(Path(folder).glob("*/*/run.json")) - before
    return float(json.loads(card.read_text("utf-8"))["images_per_second"])


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--batch_size", type=int, default=128)
    options.add_argument("--steps", type=int, default=30, help="batches of each turn")
    options.add_argument("--turns", type=int, default=5)
    args = options.parse_args()
    data = EuroSATDataModule(source=args.source, root=args.root)
    data.setup("fit")
    store, train = data.opened.store, data.opened.splits.train
    images = torch.from_numpy(store.images[train])
    labels = torch.from_numpy(store.labels[train])
    bare, fitted = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.turns + 1):  # the first turn warms up
            bare.append(bare_loop(images, labels, args.batch_size, args.steps))
            fitted.append(fit(args.source, args.root, args.batch_size, args.steps, folder))
    ratios = [ours / theirs for ours, theirs in zip(fitted[1:], bare[1:], strict=True)]
    save(
        "fit_overhead",
        {
            "bare_images_per_second": bare[1:],
            "fit_images_per_second": fitted[1:],
            "ratios": ratios,
            "ratio_of_medians": statistics.median(fitted[1:]) / statistics.median(bare[1:]),
            "median_ratio": statistics.median(ratios),
        },
    )


if __name__ == "__main__":
    main()
