"""The verdict of a comparison, from which the report is made."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import eurosat
from eurosat.files import md5_of
from eurosat.gate.checks import Check, GroupChange
from eurosat.gate.corruption import Corruption, Pixels
from eurosat.gate.evaluate import Contender
from eurosat.gate.measurement import Measurement, relative_corruption_error
from eurosat.provenance import git_state


@dataclass(frozen=True)
class Verdict:
    """Verdict of a comparison.

    Attributes:
        candidate: The candidate.
        baseline: The model that the candidate is meant to replace.
        figures: Figures of candidate and baseline.
        checks: The checks, in the order of the report.
        classes: Change of each class's recall.
        corruptions: Change of the accuracy under each corruption, over all severities.
        applied: The corruptions.
        only: Number of images that only the candidate recognised, and number of images that only
            the baseline recognised.
        severities: Severities of each corruption.
        images: Number of test images.
        example: A raw test patch with all channels of the data, shape (1, height, width, 3 or 13).
        synthetic: Whether the images are generated.
    """

    candidate: Contender
    baseline: Contender
    figures: tuple[Measurement, Measurement]
    checks: list[Check]
    classes: list[GroupChange]
    corruptions: list[GroupChange]
    applied: tuple[Corruption, ...]
    only: tuple[int, int]
    severities: tuple[int, ...]
    images: int
    example: Pixels
    synthetic: bool

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Give the content of ``gate.json``."""
        card = self.candidate.card
        return {
            "passed": self.passed,
            "synthetic": self.synthetic,
            "checks": [asdict(check) for check in self.checks],
            "candidate": _described(self.candidate) | _measured(self.figures[0]),
            "baseline": _described(self.baseline) | _measured(self.figures[1]),
            "classes": _groups(self.classes),
            "corruptions": _groups(self.corruptions),
            "only_candidate_correct": self.only[0],
            "only_baseline_correct": self.only[1],
            "relative_corruption_error": relative_corruption_error(*self.figures),
            "severities": list(self.severities),
            "amounts": {
                corruption.name: [corruption.amount(severity) for severity in self.severities]
                for corruption in self.applied
            },
            "images": self.images,
            "data": card.data,
            "split": card.split,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "eurosat": eurosat.__version__,
            "git": asdict(git) if (git := git_state()) else None,
        }


def _groups(changes: list[GroupChange]) -> list[dict[str, Any]]:
    return [asdict(change) | {"change": change.change} for change in changes]


def _measured(found: Measurement) -> dict[str, Any]:
    """Give the figures of one model under their names in ``gate.json``, which must not change."""
    figures = asdict(found)
    scores = figures.pop("scores")
    return {
        "accuracy": scores["accuracy"],
        "recall": figures.pop("recall"),
        "calibration_error": scores["ece"],
        "brier_score": scores["brier"],
        "log_loss": scores["loss"],
        "metrics": scores,
        **figures,
    }


def _described(contender: Contender) -> dict[str, Any]:
    card = contender.card
    return {
        "place": contender.model_uri,
        "md5": {path.name: md5_of(path) for path in contender.files},  # the same as in dvc.lock
        "version": card.version,
        "format": card.format,
        "backbone": card.backbone,
        "bands": list(card.bands),
        "checkpoint": card.checkpoint,
    }
