"""``eurosat gate``: may this model replace that one?"""

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
    """Compare a model with the one in use, on their test images, clean and corrupted.

    Both files are opened as they are served. The report says how accurate, calibrated, fast,
    large and robust they are: gate.html for people, gate.md for a pull request, gate.json for
    programs. The exit code is 0 if every check passes and 1 if one fails. A model against itself
    gives its figures alone.

    Args:
        candidate: The model that is to be used: a checkpoint (.ckpt) or a file made by
            'eurosat export', a bucket address (gs://...) of one, or a registered model such as
            registry:staging.
        against: The model that it is to replace, such as registry:production, trained on the same
            classes, data and split.
        output: Folder for the report; an older one there is replaced.
        source: Where the data of both models are; needed if neither file lies in its run folder.
        root: Folder for decoded data.
        split_files: Folder with train, val and test .txt lists, if such lists made the split.
        accuracy_margin: Percentage points of accuracy that the candidate may be worse, at the
            lower end of the 95 % interval of the difference.
        class_margin: Percentage points of recall that a class may lose; more fails if the loss is
            significant.
        calibration_margin: How much larger the expected calibration error may be; more fails if the
            rise is significant.
        max_latency_ratio: How many times as long the candidate may take, for one image and for 64.
        max_size_ratio: How many times as large its file may be.
        robustness_margin: Percentage points of mean accuracy on corrupted images that the candidate
            may be worse, at the lower end of the 95 % interval.
        corruption_margin: Percentage points of accuracy that may be lost under a corruption; more
            fails if the loss is significant.
        severities: Severities of each corruption, of 1 to 5; fewer are faster.
        device: Where both models run.
        threads: Threads that each model may use; as many as the machine has cores if not given.
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
