"""``eurosat gate``: decide whether a candidate may replace the model in use."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from eurosat.gate.thresholds import Thresholds


def gate(
    candidate: str,
    *,
    against: str,
    output: Path = Path("outputs/gate"),
    source: str | None = None,
    root: str | None = None,
    split_files: str | None = None,
    accuracy_margin: float = Thresholds.accuracy_margin,
    class_margin: float = Thresholds.class_margin,
    calibration_margin: float = Thresholds.calibration_margin,
    max_latency_ratio: float = Thresholds.max_latency_ratio,
    max_size_ratio: float = Thresholds.max_size_ratio,
    robustness_margin: float = Thresholds.robustness_margin,
    corruption_margin: float = Thresholds.corruption_margin,
    severities: tuple[int, ...] = (1, 2, 3, 4, 5),
    device: Literal["cpu", "cuda"] = "cpu",
    threads: int | None = None,
) -> int:
    """Compare a candidate with the model in use on the run's test images, clean and corrupted.

    The gate opens both model files as the service opens them. The report compares accuracy,
    calibration, speed, size and robustness: gate.html for people, gate.md for a pull request,
    gate.json for programs. The exit code is 0 if every check passes and 1 if a check fails. If both
    models are the same, the report shows the figures of the model.

    Args:
        candidate: Model URI of the candidate: a checkpoint (.ckpt), a file that 'eurosat export'
            wrote, a bucket address (gs://...) of such a file, or a registered model such as
            registry:staging.
        against: Model URI of the model in use, such as registry:production. Both models must be
            trained on the same classes, data and split.
        output: Folder for the report; an older report in the folder is replaced.
        source: Source of the data of both models; needed if neither file is in its run folder.
        root: Folder for decoded data.
        split_files: Folder with train, val and test .txt lists, if such lists made the split.
        accuracy_margin: Percentage points of accuracy that the candidate may lose, at the lower
            end of the 95 % interval of the difference.
        class_margin: Percentage points of recall that a class may lose; a larger loss fails if the
            loss is significant.
        calibration_margin: Increase of the expected calibration error that is allowed; a larger
            increase fails if the increase is significant.
        max_latency_ratio: Largest ratio of the candidate's latency to the latency of the model in
            use, for one image and for 64 images.
        max_size_ratio: Largest ratio of the candidate's file size to the file size of the model in
            use.
        robustness_margin: Percentage points of mean accuracy on corrupted images that the candidate
            may lose, at the lower end of the 95 % interval.
        corruption_margin: Percentage points of accuracy that the candidate may lose under a
            corruption; a larger loss fails if the loss is significant.
        severities: Severities of each corruption, from 1 to 5; fewer severities take less time.
        device: Device on which both models run.
        threads: Number of threads that each model may use; if not given, the number of cores.
    """
    from eurosat.gate.compare import Settings, compare_models
    from eurosat.gate.report import summary
    from eurosat.registry.find import find_model

    thresholds = Thresholds(
        accuracy_margin=accuracy_margin,
        class_margin=class_margin,
        calibration_margin=calibration_margin,
        max_latency_ratio=max_latency_ratio,
        max_size_ratio=max_size_ratio,
        robustness_margin=robustness_margin,
        corruption_margin=corruption_margin,
    )
    settings = Settings(
        thresholds,
        severities=severities,
        source=source,
        root=root,
        split_files=split_files,
        device=device,
        threads=threads,
    )
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        files = find_model(candidate, Path(first)), find_model(against, Path(second))
        verdict = compare_models((candidate, against), files, output, settings)
    print(summary(verdict))
    print(f"\nReport: {output / 'gate.html'}, gate.md, gate.json")
    return 0 if verdict.passed else 1
