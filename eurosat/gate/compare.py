"""Compare a candidate with a baseline on the same test images, from model files to verdict."""

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from eurosat.errors import GateError
from eurosat.files import atomic_write_folder, writing_to
from eurosat.gate.checks import check, class_changes, corruption_changes
from eurosat.gate.corruption import SEVERITIES
from eurosat.gate.corruptions import corruptions
from eurosat.gate.evaluate import (
    HeldOut,
    Pair,
    answer,
    are_identical,
    open_held_out,
    open_pair,
    time_in_turns,
)
from eurosat.gate.measurement import measure
from eurosat.gate.report import write_report
from eurosat.gate.thresholds import Thresholds
from eurosat.gate.verdict import Verdict


@dataclass(frozen=True)
class Settings:
    """Settings of a comparison; `eurosat.tools.gate.gate` explains each setting."""

    thresholds: Thresholds = field(default_factory=Thresholds)
    severities: tuple[int, ...] = SEVERITIES
    source: str | None = None
    root: str | None = None
    split_files: str | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            GateError: A number is out of its range.
        """
        chosen = self.severities
        if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(SEVERITIES):
            raise GateError(
                f"--severities must be some of {list(SEVERITIES)}, each once, got {list(chosen)}"
            )
        if self.threads is not None and self.threads < 1:
            raise GateError(f"--threads must be 1 or more, got {self.threads}")


def compare_models(
    model_uris: tuple[str, str], files: tuple[Path, Path], output: Path, settings: Settings
) -> Verdict:
    """Compare two models and write ``gate.json``, ``gate.md`` and ``gate.html``.

    Args:
        model_uris: Model URIs of candidate and baseline, as the user gave them.
        files: The model files that the URIs resolve to.
        output: Folder for the report, written by `atomic_write_folder`.
        settings: The settings.

    Returns:
        The verdict.

    Raises:
        ModelFileError: A model file is missing, damaged, not of this project or cannot run here.
        ImagesError: The test images cannot be found, or differ from the models' test images.
        GateError: The models cannot be compared, or the report cannot be written.
    """
    pair = open_pair(model_uris, files, device=settings.device, threads=settings.threads)
    held_out = open_held_out(
        pair, source=settings.source, root=settings.root, split_files=settings.split_files
    )
    with ExitStack() as stack:
        # The output folder is opened before the long comparison, so that an unwritable folder is an
        # error at the start.
        with writing_to(output, GateError):
            draft = stack.enter_context(atomic_write_folder(output))
        verdict = _compare(pair, held_out, settings)
        with writing_to(output, GateError):
            write_report(verdict, draft)
            stack.close()
    return verdict


def _compare(pair: Pair, held_out: HeldOut, settings: Settings) -> Verdict:
    applied = corruptions()
    versions = len(applied) * len(settings.severities)
    print(
        f"Comparing on {len(held_out.labels):,} test images, clean and corrupted {versions} times",
        file=sys.stderr,
    )
    labels, classes = held_out.labels, pair[0].card.classes
    latencies = time_in_turns(pair, held_out)
    answers = answer(pair, held_out, applied, settings.severities)
    ours, theirs = (
        measure(answers[which], latencies[which], pair[which].size, labels, classes)
        for which in (0, 1)
    )
    allowed = settings.thresholds
    by_class = class_changes(*answers, labels, classes, allowed.class_margin)
    by_corruption = corruption_changes(*answers, applied, allowed.corruption_margin)
    return Verdict(
        *pair,
        figures=(ours, theirs),
        checks=check(
            answers,
            (ours, theirs),
            by_class,
            by_corruption,
            labels,
            allowed,
            identical=are_identical(pair),
        ),
        classes=by_class,
        corruptions=by_corruption,
        applied=applied,
        only=(
            int((answers[0].correct & ~answers[1].correct).sum()),
            int((answers[1].correct & ~answers[0].correct).sum()),
        ),
        severities=settings.severities,
        images=len(labels),
        example=held_out.example(),
        synthetic=held_out.data.store.card.synthetic,
    )
