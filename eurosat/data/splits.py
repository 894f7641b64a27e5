"""Splits: the training, validation and test patches, and a fingerprint over the splits."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from eurosat.data.split_lists import read_lists
from eurosat.errors import SplitError

SplitKind = Literal["stratified", "source", "files", "longitude", "all"]
SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
Fractions = tuple[float, float, float]
Indices = npt.NDArray[np.int64]

_log = logging.getLogger(__name__)
_SHOWN = 10  # classes that a warning names
_REASONS = {
    "files": "no list of --data.split_files names them",
    "source": "they are in no folder or split of the source named train, val or test",
}


@dataclass(frozen=True)
class Splits:
    """Indices of the patches of each split, int64, sorted, without overlap.

    Attributes:
        kind: The method that made the splits.
        train: Patches that the model is trained on.
        val: Patches that choose the best checkpoint.
        test: Patches that the reported metrics are measured on.
        fingerprint: SHA-256 over the names in each split; equal splits have equal fingerprints.
    """

    kind: SplitKind
    train: Indices
    val: Indices
    test: Indices
    fingerprint: str

    def __getitem__(self, split: SplitName) -> Indices:
        """Indices of one split by its name."""
        indices: Indices = getattr(self, split)
        return indices


def make_splits(
    kind: SplitKind,
    names: Sequence[str],
    labels: npt.NDArray[np.int64],
    *,
    fractions: Fractions = (0.8, 0.1, 0.1),
    seed: int = 42,
    source_splits: Sequence[str | None] = (),
    longitudes: Sequence[float | None] = (),
    files: Path | None = None,
    copies: Mapping[str, str] | None = None,
) -> Splits:
    """Split a data set.

    Args:
        kind: ``stratified`` keeps the class proportions and draws by ``seed``; ``source`` takes
            the source's own splits; ``files`` reads lists of file names; ``longitude`` cuts from
            west to east, as torchgeo's EuroSAT-Spatial does, without a gap: a cut passes through
            scenes, whose patches are then in both splits; ``all`` tests all patches.
        names: ``Class/file`` of every patch.
        labels: int64, shape (N,).
        fractions: Train, validation and test fractions, for ``stratified`` and ``longitude``.
        seed: Seed of ``stratified``.
        source_splits: The source's own split of every patch, for ``source``.
        longitudes: Degrees east of every patch, for ``longitude``.
        files: Folder with one list per split (a ``.txt`` file whose name contains ``train``,
            ``val`` or ``test``) and one file name per line, for ``files``. The suffixes of images
            are ignored, so that lists of the GeoTIFFs also split the JPEGs, and folders are ignored
            unless they name another class.
        copies: The name of the patch that was kept, by the name of each copy that was left out.

    Returns:
        The splits.

    Raises:
        SplitError: The data cannot be split as requested, or a split would be empty.
    """
    if kind in ("stratified", "longitude") and (
        min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6
    ):
        raise SplitError(
            f"the split fractions {fractions} are not positive or do not sum to 1: pass fractions "
            "such as --data.split_fractions '[0.8, 0.1, 0.1]'"
        )
    match kind:
        case "stratified":
            chosen = _stratified(labels, fractions, seed)
        case "source":
            chosen = _from_source(source_splits)
        case "files":
            chosen = _from_files(names, files, copies or {})
        case "longitude":
            chosen = _by_longitude(longitudes, fractions)
        case "all":
            none, every = np.arange(0), np.arange(len(names))
            chosen = {"train": none, "val": none, "test": every}
    for split, indices in chosen.items():
        if len(indices) == 0 and kind != "all":
            raise SplitError(
                f"the {kind} split of {len(names)} patches leaves no patches for the {split} "
                f"split: {_more(kind, split)}, or choose another --data.split; to test all "
                "patches, pass --data.split all"
            )
    digest = hashlib.sha256()
    for split in SPLITS:
        lines = [split, *sorted(names[i] for i in chosen[split]), ""]
        # Names of files may hold bytes that are not UTF-8.
        digest.update("\n".join(lines).encode("utf-8", "surrogateescape"))
    return Splits(
        kind, **{split: np.sort(chosen[split]) for split in SPLITS}, fingerprint=digest.hexdigest()
    )


def _more(kind: SplitKind, split: SplitName) -> str:
    """What to do if a split has no patches."""
    match kind:
        case "files":
            return f"name images in the list for {split}"
        case "source":
            return f"put images into the folder {split} of the source"
        case _:
            return "use more data or other fractions"


def warn_of_losses(splits: Splits, labels: npt.NDArray[np.int64], classes: Sequence[str]) -> None:
    """Log a warning about patches in no split, and about classes with few patches in a split.

    A class with less than half of its share of the patches is hardly trained, or its accuracy is
    measured on few patches.

    Args:
        splits: The splits.
        labels: int64, shape (N,).
        classes: Class names in label order.
    """
    left_out = len(labels) - sum(len(splits[split]) for split in SPLITS)
    if left_out:
        _log.warning(
            "%d of %d images are in no split and are left out, because %s",
            *(left_out, len(labels), _REASONS.get(splits.kind, "no split takes them")),
        )
    present = [split for split in SPLITS if len(splits[split])]
    counts = np.stack(
        [np.bincount(labels[splits[name]], minlength=len(classes)) for name in present]
    )
    totals = counts.sum(axis=0)
    expected = totals * counts.sum(axis=1, keepdims=True) / max(counts.sum(), 1)
    lost = [f"{classes[label]} has no images" for label in np.flatnonzero(totals == 0).tolist()]
    for row, label in np.argwhere(counts < expected / 2).tolist():
        lost.append(
            f"{classes[label]} has {counts[row, label]:,} of its {totals[label]:,} images in "
            f"{present[row]}, where its share would be {expected[row, label]:,.1f}"
        )
    if lost:
        more = f"; and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
        _log.warning(
            "the %s split has too few images of some classes to train or measure them (%s%s): add "
            "images of these classes, or choose another --data.split",
            *(splits.kind, "; ".join(lost[:_SHOWN]), more),
        )


def check_trainable(
    training: Indices, labels: npt.NDArray[np.int64], classes: Sequence[str]
) -> None:
    """Refuse a training on one class, which would learn to name this class for every image.

    Args:
        training: Positions of the training patches, int64.
        labels: int64, shape (N,).
        classes: Class names in label order.

    Raises:
        SplitError: All training patches are of one class.
    """
    found = np.unique(labels[training]).tolist()
    if len(found) == 1:
        raise SplitError(
            f"all training images are of the class {classes[found[0]]}, and a classifier tells two "
            "classes or more apart: add images of another class"
        )


def _stratified(labels: Indices, fractions: Fractions, seed: int) -> dict[SplitName, Indices]:
    generator = np.random.default_rng(seed)
    pieces: dict[SplitName, list[Indices]] = {split: [] for split in SPLITS}
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        cuts = np.rint(np.cumsum(fractions)[:2] * len(members)).astype(int)
        for split, piece in zip(SPLITS, np.split(members, cuts), strict=True):
            pieces[split].append(piece)
    return {split: np.concatenate(piece) for split, piece in pieces.items()}


def _from_source(source_splits: Sequence[str | None]) -> dict[SplitName, Indices]:
    if not any(source_splits):
        raise SplitError(
            "the source has no splits of its own: put the images into train, val and test folders, "
            "or choose --data.split stratified"
        )
    return {
        split: np.array([i for i, own in enumerate(source_splits) if own == split], dtype=np.int64)
        for split in SPLITS
    }


def _from_files(
    names: Sequence[str], files: Path | None, copies: Mapping[str, str]
) -> dict[SplitName, Indices]:
    if files is None or not files.is_dir():
        raise SplitError(
            f"--data.split files needs a folder with train, val and test .txt lists, and got "
            f"{files}: pass --data.split_files <folder>"
        )
    found = read_lists(files, SPLITS, names, copies)
    return {split: np.array(found[split], dtype=np.int64) for split in SPLITS}


def _by_longitude(
    longitudes: Sequence[float | None], fractions: Fractions
) -> dict[SplitName, Indices]:
    if not longitudes or not all(known is not None and isfinite(known) for known in longitudes):
        raise SplitError(
            "a split by longitude needs coordinates, and only the GeoTIFFs have coordinates: use "
            "a 13-band source such as EuroSAT_MS.zip (--data.bands rgb renders its bands as RGB)"
        )
    order = np.argsort(np.array(longitudes, dtype=np.float64), kind="stable")
    cuts = np.rint(np.cumsum(fractions)[:2] * len(order)).astype(int)
    return dict(zip(SPLITS, np.split(order, cuts), strict=True))
