"""The verdict on the traffic of a service: windows, the alarm, and what was left out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from tqdm import tqdm

from eurosat.errors import DriftError
from eurosat.monitoring.drift.detectable import POWER, Detectable, smallest_detectable
from eurosat.monitoring.drift.families import ALPHA, EFFECT_FLOOR, MIN_PICTURES
from eurosat.monitoring.drift.traffic import Traffic
from eurosat.monitoring.drift.windows import WINDOW, Sample, Window, cut, judge, thin

if TYPE_CHECKING:
    from eurosat.monitoring.reference import Reference

Verdict = Literal["too few to say", "quiet", "drift", "alarm"]


@dataclass(frozen=True)
class Assessment:
    """The comparison of traffic with a reference.

    Attributes:
        model_version: The model that classified the traffic.
        size: Images in a full window.
        needed: Smallest number of independent images that are a window.
        windows: The windows, oldest first.
        sample: Images of the newest window; without a window, all images, which are too few.
        detectable: The smallest change that the newest window can find; None without a window.
        notes: Sentences that say what was left out of the log, and why.
    """

    model_version: str
    size: int
    needed: int
    windows: tuple[Window, ...]
    sample: Sample
    detectable: Detectable | None
    notes: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict on the newest windows."""
        if not self.windows:
            return "too few to say"
        if self.alarm:
            return "alarm"
        return "drift" if self.windows[-1].drift else "quiet"

    @property
    def alarm(self) -> bool:
        """Whether the two newest windows have drifted."""
        return len(self.windows) > 1 and self.windows[-1].drift and self.windows[-2].drift

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        match self.verdict:
            case "too few to say":
                found, requests = len(self.sample.images), self.sample.requests
                counted = f"{found:,} independent images"
                if found < requests:
                    counted += f" in {requests:,} clustered requests"
                return (
                    f"Too few to say: there are {counted}, and at least {self.needed} are needed."
                )
            case "quiet":
                return "Quiet: the newest window looks like the model's validation images."
            case "drift":
                return "Drift in the newest window only: a second window in a row makes an alarm."
            case "alarm":
                return "Alarm: the two newest windows do not look like the validation images."

    def to_json(self) -> dict[str, Any]:
        """Give the content of ``drift.json``; times are in UTC, as in ISO 8601."""
        return {
            "layout": 1,
            "verdict": self.verdict,
            "alarm": self.alarm,
            "too_few": not self.windows,
            "sentence": self.sentence,
            "model_version": self.model_version,
            "window": self.size,
            "alpha": ALPHA,
            "effect_floor": EFFECT_FLOOR,
            "pictures": len(self.sample.images),
            "requests": self.sample.requests,
            "windows": [_window_to_json(window) for window in self.windows],
            "smallest_detectable_change": None
            if self.detectable is None
            else asdict(self.detectable) | {"power": POWER},
            "notes": list(self.notes),
        }


def assess(
    reference: "Reference",
    traffic: Traffic,
    statistic_names: Sequence[str],
    *,
    size: int = WINDOW,
) -> Assessment:
    """Compare the whole traffic of a log with a reference, window by window.

    The rest after the last full window is a window of its own if it has at least `MIN_PICTURES`
    independent images.

    Args:
        reference: The reference of the model that made the predictions.
        traffic: The traffic.
        statistic_names: Names of the S input statistics.
        size: Images in a full window.

    Raises:
        DriftError: The size is below `MIN_PICTURES`, or the traffic is empty.
    """
    samples, rest = cut(traffic, size)
    if not len(traffic):
        raise DriftError(
            f"the log holds no usable predictions of {reference.model_version}"
            f"{''.join(f'; {note}' for note in traffic.notes)}: check the address in --log, "
            "--since and --until, and whether the service ran with --log_url"
        )
    last = thin(rest, samples[-1] if samples else None)
    if len(last.images) >= MIN_PICTURES:
        samples.append(last)
    shown = tqdm(samples, desc="Comparing", unit="window", leave=False, disable=None)
    windows = tuple(judge(reference, sample, statistic_names) for sample in shown)
    newest = samples[-1] if samples else last
    return summarise(reference, windows, newest, size, traffic.notes, needed=MIN_PICTURES)


def summarise(
    reference: "Reference",
    windows: tuple[Window, ...],
    sample: Sample,
    size: int,
    notes: tuple[str, ...],
    *,
    needed: int,
) -> Assessment:
    """Build an assessment from judged windows and the images of the newest window.

    Args:
        reference: The reference of the model that made the predictions.
        windows: The windows, oldest first.
        sample: Images of the newest window; without a window, all images.
        size: Images in a full window.
        notes: Sentences that say what was left out of the log, and why.
        needed: Smallest number of independent images that are a window.
    """
    detectable = smallest_detectable(reference, windows[-1].pictures) if windows else None
    return Assessment(
        reference.model_version,
        size,
        needed,
        windows,
        sample,
        detectable,
        (*notes, *_clustered(sample)),
    )


def _clustered(sample: Sample) -> tuple[str, ...]:
    stride = sample.clusters.stride
    if stride == 1:
        return ()
    return (
        f"The traffic is clustered: requests resemble the {stride - 1} requests before them "
        f"(similarity of neighbours {sample.clusters.similarity:.2f}), as if they showed one "
        f"place. Only every {stride}th request is tested, so that the images are independent.",
    )


def utc(seconds: float) -> str:
    """Write a time as in ISO 8601, in UTC and without fractions of a second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _window_to_json(window: Window) -> dict[str, Any]:
    return {
        "start": utc(window.start),
        "end": utc(window.end),
        "pictures": window.pictures,
        "requests": window.requests,
        "drift": window.drift,
        "clusters": asdict(window.clusters),
        "families": {
            family.name: {
                "p_value": family.p_value,
                "drift": family.drift,
                "moved": [test.name for test in family.moved],
                "reason": family.reason,
                "tests": [asdict(test) for test in family.tests],
            }
            for family in window.families
        },
        "estimated_accuracy": asdict(window.accuracy),
        "class_fractions": [asdict(fraction) for fraction in window.fractions],
        "flagged": window.flagged,
    }
