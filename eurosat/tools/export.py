"""``eurosat export``: convert a checkpoint to a file that can be served, behind a parity gate."""

from pathlib import Path


def export(
    checkpoint: Path,
    *,
    format: str = "onnx",
    output: Path | None = None,
    source: str | None = None,
    root: str | None = None,
    split_files: str | None = None,
    images: int = 1000,
    calibration_images: int = 300,
    tolerance: float = 1e-4,
    max_accuracy_loss: float | None = None,
    metrics: Path | None = None,
    version: str | None = None,
    overwrite: bool = False,
) -> None:
    """Convert a checkpoint to another format, such as ONNX, and compare both models' predictions.

    The new file takes raw pixel values and returns probabilities, and contains a model card: the
    classes, the bands, the data, the metrics and the version of the model. The command first writes
    a temporary file. A check, the parity gate, opens the temporary file as the service opens a
    model, and compares the file with the checkpoint on validation images of the run. The run folder
    of the checkpoint names the data and the split. The probabilities of an exact (float32) file may
    differ from the checkpoint's probabilities by --tolerance at most. The accuracy of an
    approximate (int8) file may be lower than the checkpoint's accuracy by --max_accuracy_loss at
    most. A file that passes the check is moved to --output. If the file fails the check, the
    command writes nothing to --output, and the exit code is 1.

    Args:
        checkpoint: The .ckpt file of a run.
        format: Format of the file; the formats are listed below.
        output: Path of the file. If not given, the file is written beside the checkpoint and named
            after the checkpoint and the format.
        source: Data source; if not given, the run's source. --source is required if the
            checkpoint is not in <run folder>/checkpoints. For such a checkpoint, the command
            cannot check that the images are the run's validation images, and warns.
        root: Folder for decoded data; if not given, the run's folder for decoded data.
        split_files: Folder with the train, val and test .txt lists, for a run with --data.split
            files; if not given, the folder that the run used.
        images: Number of validation images that an exact file is compared on; an approximate file
            is compared on all validation images.
        calibration_images: Number of training images that an approximate file is calibrated on.
        tolerance: Largest difference allowed between a probability of an exact file and the
            checkpoint's probability.
        max_accuracy_loss: Percentage points of accuracy that an approximate file may lose. Default:
            0.3; for a model that was trained on synthetic data, 1.
        metrics: The metrics.json of a test of the checkpoint, for the model card. If not given, the
            model card shows the metrics.json of the run folder if the checkpoint is the run's best,
            and no metrics otherwise.
        version: Version of the model, for the model card. Default: <experiment>-<start time of the
            run>-<first digits of the checkpoint's SHA-256>. For an int8 format, the command appends
            '-int8' to the version.
        overwrite: Replace an existing file.
    """
    settings = {name: value for name, value in locals().items() if name != "checkpoint"}
    from eurosat.export.exporter import ExportSettings, export_checkpoint

    exported = export_checkpoint(checkpoint, ExportSettings(**settings))
    found, limit = exported.found, exported.allowed_loss
    megabytes, original = exported.size / 1e6, checkpoint.stat().st_size / 1e6
    allowed = (
        f"probabilities differ by {found.max_difference:.1e} at most; {tolerance:g} is allowed"
        if exported.format.exact
        else f"{0.0 - found.lost_points:+.2f} points of accuracy; {-limit:+g} are allowed"
    )
    print(f"format        {format}, version {exported.card.version}")
    print(f"file          {exported.path}, {megabytes:.1f} MB (checkpoint {original:.1f} MB)")
    print(f"gate          passed on {found.images} validation images: {allowed}")
    print(f"accuracy      {found.accuracy:.2%} (checkpoint {found.checkpoint_accuracy:.2%})")
    print(f"predictions   {found.changed_predictions:.2%} changed")
    print(f"\nServe it with: eurosat serve {exported.path}")


def epilog() -> str:
    """Describe the formats, one line per format, for the end of the help text."""
    from eurosat.inference.backends import formats

    known = formats().values()
    width = max(len(format.name) for format in known)
    lines = [f"  {format.name:<{width}}  {format.summary}" for format in known]
    return "\n".join(["formats:", *lines])
