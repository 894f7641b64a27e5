"""Peak resident memory of `eurosat fit` with ResNet-18, batches of 128, on the whole data set."""

import sys
import tempfile

from benchmarks.common import measure, parser, save


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=100, help="training batches")
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "eurosat", "fit", f"--data.source={args.source}"]
        command += [f"--data.root={args.root}", "--data.batch_size=128"]
        command += ['--data.augmentations=[{"class_path": "albumentations.D4"}]']
        command += ["--trainer.max_epochs=1", f"--trainer.limit_train_batches={args.steps}"]
        command += [f"--output_root={folder}"]
        found = measure(command)
    save(
        "memory",
        {
            "peak_resident_gib": found.resident_gib,
            "peak_anonymous_gib": found.anonymous_gib,
        },
    )


if __name__ == "__main__":
    main()
