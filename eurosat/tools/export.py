"""``eurosat export``: write a checkpoint as a file to serve, behind a parity gate."""

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
    """Write a checkpoint in another format, such as ONNX, behind a parity gate.

    The file takes raw pixel values and gives probabilities. Before the file is put in its place it
    is opened as it will be served and compared with the checkpoint on the run's validation images;
    if it does not pass, nothing is written and the exit code is 1.

    Args:
        checkpoint: The .ckpt file of a run.
        format: One of the formats that are listed below.
        output: The file; if not given, beside the checkpoint, named after it and the format.
        source: Another source of images than the run's; needed if the checkpoint has left its
            run folder.
        root: Folder for decoded data; the run's if not given.
        split_files: Folder with train, val and test .txt lists, if such lists made the split; the
            run's if not given.
        images: Validation images that a float32 file is compared on; an approximate file takes all.
        calibration_images: Training images that an approximate file is calibrated on.
        tolerance: Largest absolute difference of a probability that a float32 file may have.
        max_accuracy_loss: Percentage points of accuracy that an approximate file may lose; 0.3 if
            not given, 1 after training on synthetic data.
        metrics: The metrics.json of the checkpoint's test, for the file's card; that of the run
            folder if not given.
        version: Name of the model; the run's if not given. '-int8' is appended for int8 files.
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
    """The formats, a line each, for the end of the help text."""
    from eurosat.inference.backends import formats

    known = formats().values()
    width = max(len(format.name) for format in known)
    lines = [f"  {format.name:<{width}}  {format.summary}" for format in known]
    return "\n".join(["formats:", *lines])
