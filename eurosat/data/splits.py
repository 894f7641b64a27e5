"""Splits: the training, validation and test patches, and a fingerprint over the splits."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from eurosat.errors import SplitError

SplitKind = Literal["stratified", "source", "files", "longitude"]
SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
Fractions = tuple[float, float, float]
Indices = npt.NDArray[np.int64]


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
) -> Splits:
    """Split a data set.

    Args:
        kind: ``stratified`` keeps the class proportions and draws by ``seed``; ``source`` takes
            the source's own splits; ``files`` reads lists of file names; ``longitude`` cuts from
            west to east, as torchgeo's EuroSAT-Spatial does; a cut may pass through a scene.
        names: ``Class/file`` of every patch.
        labels: int64, shape (N,).
        fractions: Train, validation and test fractions, for ``stratified`` and ``longitude``.
        seed: Seed of ``stratified``.
        source_splits: The source's own split of every patch, for ``source``.
        longitudes: Degrees east of every patch, for ``longitude``.
        files: Folder with one list per split (a ``.txt`` file whose name contains ``train``,
            ``val`` or ``test``) and one file name per line, for ``files``. Folders and suffixes
            of the file names are ignored, so that lists of the GeoTIFFs also split the JPEGs.

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
            chosen = _from_files(names, files)
        case "longitude":
            chosen = _by_longitude(longitudes, fractions)
    for split, indices in chosen.items():
        if len(indices) == 0:
            raise SplitError(
                f"the {kind} split of {len(names)} patches leaves no patches for the {split} "
                "split: use more data, other fractions or another --data.split"
            )
    digest = hashlib.sha256()
    for split in SPLITS:
        digest.update("\n".join([split, *sorted(names[i] for i in chosen[split]), ""]).encode())
    return Splits(
        kind, **{split: np.sort(chosen[split]) for split in SPLITS}, fingerprint=digest.hexdigest()
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


def _from_files(names: Sequence[str], files: Path | None) -> dict[SplitName, Indices]:
    if files is None or not files.is_dir():
        raise SplitError(
            f"--data.split files needs a folder with train, val and test .txt lists, and got "
            f"{files}: pass --data.split_files <folder>"
        )
    index = {PurePosixPath(name).stem: i for i, name in enumerate(names)}
    if len(index) < len(names):
        raise SplitError(
            "two classes have files of the same name, which a list of file names cannot tell "
            "apart: rename the files, or choose another --data.split"
        )
    chosen: dict[SplitName, Indices] = {}
    owner: dict[str, SplitName] = {}
    for split in SPLITS:
        lists = sorted(path for path in files.glob("*.txt") if split in path.stem.lower())
        if len(lists) != 1:
            raise SplitError(
                f"{files} holds {len(lists)} lists for {split}: keep exactly one *{split}*.txt"
            )
        stems = [PurePosixPath(line.strip()).stem for line in lists[0].read_text("utf-8").split()]
        for stem in stems:
            if stem not in index:
                raise SplitError(
                    f"{lists[0]} names {stem}, which the data set does not have: correct the list, "
                    "or give the data set of the list"
                )
            if stem in owner:
                raise SplitError(
                    f"{stem} is listed for {owner[stem]} and for {split}: list {stem} once"
                )
            owner[stem] = split
        chosen[split] = np.array([index[stem] for stem in stems], dtype=np.int64)
    return chosen


def _by_longitude(
    longitudes: Sequence[float | None], fractions: Fractions
) -> dict[SplitName, Indices]:
    if not longitudes or any(longitude is None for longitude in longitudes):
        raise SplitError(
            "a split by longitude needs coordinates, and only the GeoTIFFs have coordinates: use "
            "a 13-band source such as EuroSAT_MS.zip (--data.bands rgb renders its bands as RGB)"
        )
    order = np.argsort(np.array(longitudes, dtype=np.float64), kind="stable")
    cuts = np.rint(np.cumsum(fractions)[:2] * len(order)).astype(int)
    return dict(zip(SPLITS, np.split(order, cuts), strict=True))
