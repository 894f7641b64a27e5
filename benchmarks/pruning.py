"""Does structured pruning earn a place beside int8? Accuracy against speed for PatchNet.

Of the first convolution of each residual body the filters with the smallest L1 norm (Li et al.,
2017, "Pruning filters for efficient ConvNets") are cut out, with the channels that they feed;
nothing else changes its shape. The rest is trained on for a few epochs. Speeds are those of
batches of 64 under OpenVINO with two threads, in turns with the whole network and its int8 form.
"""

import copy
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import albumentations
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.common import parser, save
from benchmarks.inference import accuracy, latency
from eurosat.data.loading import BatchSampler, PatchDataset
from eurosat.data.opened import OpenedData
from eurosat.data.transforms import Augmentation
from eurosat.evaluation.run_images import open_images
from eurosat.export.build import build
from eurosat.hardware import computes_bf16
from eurosat.inference.backends import find_format
from eurosat.inference.checkpoint import open_checkpoint
from eurosat.inference.runtime import open_model
from eurosat.models.predictor import Predictor


def prune(predictor: Predictor, ratio: float) -> Predictor:
    """A copy without the given fraction of the inner channels of each residual body."""
    pruned = copy.deepcopy(predictor)
    stages: Any = pruned.backbone.stages
    for stage in stages:
        (first, norm, _), (second, *_) = stage[2].body
        strength = first.weight.detach().abs().sum((1, 2, 3))
        kept = strength.argsort(descending=True)[: round(len(strength) * (1 - ratio))].sort().values
        first.weight = nn.Parameter(first.weight[kept].detach())
        second.weight = nn.Parameter(second.weight[:, kept].detach())
        for name in ("weight", "bias"):
            setattr(norm, name, nn.Parameter(getattr(norm, name)[kept].detach()))
        for name in ("running_mean", "running_var"):
            setattr(norm, name, getattr(norm, name)[kept])
        first.out_channels = second.in_channels = norm.num_features = len(kept)
    return pruned


def tune(predictor: Predictor, data: OpenedData, epochs: int) -> None:
    """Train on with AdamW, a falling learning rate and random symmetries."""
    sampler = BatchSampler(data.splits.train, 128, shuffle=True)
    augmentation = Augmentation([albumentations.D4()], seed=0)
    patches = PatchDataset(data.store.images, data.store.labels, augmentation=augmentation)
    loader = DataLoader(patches, sampler=sampler, batch_size=None)
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    predictor.train()
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for batch in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=computes_bf16("cpu")):
                logits = predictor.backbone(predictor.preprocess(batch["image"]))
            loss = functional.cross_entropy(logits.float(), batch["label"], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    predictor.eval()


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--checkpoint", type=Path, required=True, help="PatchNet, in its run")
    options.add_argument("--epochs", type=int, default=2, help="of fine-tuning")
    options.add_argument("--turns", type=int, default=9)
    args = options.parse_args()
    torch.manual_seed(0)
    predictor, card = open_checkpoint(args.checkpoint)
    data = open_images(args.checkpoint, card, args.source, args.root)
    test, labels = data.draw("test", None)
    calibration, _ = data.draw("train", 300)
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        models = {}
        for ratio in (0.0, 0.125, 0.25, 0.5):
            name = f"pruned {ratio:.1%}" if ratio else "whole"
            network = prune(predictor, ratio)
            with torch.inference_mode():
                parts = [network(torch.from_numpy(part)) for part in np.array_split(test, 40)]
            before = float(100 * np.mean(torch.cat(parts).argmax(1).numpy() == labels))
            if ratio:
                tune(network, data, args.epochs)
            path = Path(folder, f"{name}.xml")
            build(find_format("openvino"), network, card, None)(path, card)
            models[name] = open_model(path, threads=2)
            results[name] = {
                "parameters": sum(parameter.numel() for parameter in network.parameters()),
                "test_accuracy_before_tuning": round(before, 2),
            }
        path = Path(folder, "int8.xml")
        build(find_format("openvino-int8"), predictor, card, calibration)(path, card)
        models["whole, int8"] = open_model(path, threads=2)
        results["whole, int8"] = {}
        times: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(args.turns):
            for name, model in models.items():
                time.sleep(0.2)
                times[name].append(latency(model, test, 64))
        for name, model in models.items():
            pairs = zip(times["whole"], times[name], strict=True)
            results[name] |= {
                "test_accuracy": round(accuracy(model, test, labels), 2),
                "milliseconds": round(statistics.median(times[name]), 2),
                "times_whole": round(statistics.median(whole / own for whole, own in pairs), 2),
            }
    save("pruning", {"epochs": args.epochs} | results)


if __name__ == "__main__":
    main()
