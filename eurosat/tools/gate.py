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
    """Compare a candidate with the model in use, on clean and on corrupted test images.

    Corrupted images are the test images with noise, blur, haze, another brightness, bands that are
    shifted against each other, or compression by JPEG.

    The gate opens both files as the service opens them. The report compares accuracy, calibration,
    speed, size and robustness: gate.html for people, gate.md for a pull request, gate.json for
    programs. The exit code is 0 if every check passes, 1 if a check fails, and 2 if the models
    cannot be compared.

    The checks of accuracy and of robustness pass only if the whole confidence interval of the drop
    in accuracy is at or below the margin. The checks of single classes, of single corruptions and
    of calibration fail if the change is worse than the margin and the confidence interval of the
    change excludes 0. The intervals have a confidence of 95 %; for single classes and corruptions,
    Bonferroni's correction makes the intervals wider. The checks of speed and of size are plain
    ratios. To measure one model, pass the same model as candidate and as --against: the same file
    on both sides always passes the checks of accuracy and of robustness.

    Args:
        candidate: Model URI of the candidate: the path or the bucket address (gs://...) of a file
            written by 'eurosat export', or of a folder with exactly one such file; the path of a
            checkpoint (.ckpt) in <run folder>/checkpoints; or a registered model, such as
            registry:staging (git registry) or wandb:staging (W&B Registry).
        against: Model URI of the model in use, such as registry:production. Both models must have
            the same classes, and must have been trained on the same data and split.
        output: Folder for the report; an older report in the folder is replaced.
        source: Data source of both models; if not given, the source in the configuration of a
            model's run, or 'synthetic' for exported models of synthetic data. Exported models of
            other data need --source if neither model is in <run folder>/checkpoints.
        root: Folder for decoded data; if not given, the folder that the models' runs used.
        split_files: Folder with the train, val and test .txt lists, for runs with --data.split
            files; if not given, the folder that the models' runs used.
        accuracy_margin: Largest accepted loss of accuracy, in percentage points. The check passes
            if no value of the confidence interval of the loss is above this value.
        class_margin: Largest accepted loss of recall of each class, in percentage points. The check
            fails if a class loses more than this value and the confidence interval of the loss
            excludes 0.
        calibration_margin: Largest accepted rise of the expected calibration error, which lies
            between 0 and 1. The check fails if the error rises more than this value and the
            confidence interval of the rise excludes 0.
        max_latency_ratio: Largest accepted ratio of the candidate's inference time to the inference
            time of the model in use, in calls with 1 image and in calls with 64 images.
        max_size_ratio: Largest accepted ratio of the candidate's file size to the file size of the
            model in use.
        robustness_margin: Largest accepted loss of mean accuracy on corrupted images, in percentage
            points. The check passes if no value of the confidence interval of the loss is above
            this value.
        corruption_margin: Largest accepted loss of accuracy under each corruption, in percentage
            points. The check fails if a loss is larger than this value and the confidence interval
            of the loss excludes 0.
        severities: Severities of each corruption, from 1 to 5; fewer severities take less time.
        device: Device that runs both models.
        threads: Number of threads of each model; if not given, the number of cores that
            the process may use.
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
