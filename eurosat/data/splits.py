"""Splits: which patches train, validate and test, and a fingerprint that says so."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt

from eurosat.errors import SplitError

SplitKind = Literal["stratified", "source", "files", "longitude"]
PARTS = ("train", "val", "test")
Fractions = tuple[float, float, float]


@dataclass(frozen=True)
class Split:
    """Indices of the patches of each part, int64, sorted, without overlap.

    Attributes:
        kind: How it was made.
        train: Patches to train on.
        val: Patches to choose by.
        test: Patches to report on.
        fingerprint: SHA-256 over the names in each part: equal exactly if the split is.
    """

    kind: SplitKind
    train: npt.NDArray[np.int64]
    val: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    fingerprint: str


def make_split(
    kind: SplitKind,
    names: Sequence[str],
    labels: npt.NDArray[np.int64],
    *,
    fractions: Fractions = (0.8, 0.1, 0.1),
    seed: int = 42,
    source_splits: Sequence[str | None] = (),
    longitudes: Sequence[float | None] = (),
    files: Path | None = None,
) -> Split:
    """Split a data set.

    Args:
        kind: ``stratified`` keeps the class proportions and draws by ``seed``; ``source`` takes
            the source's own splits; ``files`` reads lists of file names; ``longitude`` cuts from
            west to east, so that no scene is in two parts (as EuroSAT-Spatial of torchgeo).
        names: ``Class/file`` of every patch.
        labels: int64, shape (N,).
        fractions: Train, validation and test fractions, for ``stratified`` and ``longitude``.
        seed: Seed of ``stratified``.
        source_splits: The source's own split of every patch, for ``source``.
        longitudes: Degrees east of every patch, for ``longitude``.
        files: Folder with one list a part (a ``.txt`` file whose name holds ``train``, ``val``
            or ``test``), a file name a line, for ``files``. Folders and endings are ignored, so
            that lists made for the GeoTIFFs serve the JPEGs.

    Returns:
        The split.

    Raises:
        SplitError: The split cannot be made as asked, or a part would be empty.
    """
    if kind in ("stratified", "longitude") and (
        min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6
    ):
        raise SplitError(
            f"split fractions {fractions} must be positive and sum to 1, such as [0.8, 0.1, 0.1]"
        )
    match kind:
        case "stratified":
            parts = _stratified(labels, fractions, seed)
        case "source":
            parts = _from_source(source_splits)
        case "files":
            parts = _from_files(names, files)
        case "longitude":
            parts = _by_longitude(longitudes, fractions)
    for part, indices in parts.items():
        if len(indices) == 0:
            raise SplitError(
                f"the {kind} split leaves no patches to {part}: there are {len(names)} patches; "
                "use more data, other fractions or another --data.split"
            )
    digest = hashlib.sha256()
    for part in PARTS:
        digest.update("\n".join([part, *sorted(names[i] for i in parts[part]), ""]).encode())
    return Split(
        kind, **{part: np.sort(parts[part]) for part in PARTS}, fingerprint=digest.hexdigest()
    )


def _stratified(
    labels: npt.NDArray[np.int64], fractions: Fractions, seed: int
) -> dict[str, npt.NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    pieces: dict[str, list[npt.NDArray[np.int64]]] = {part: [] for part in PARTS}
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        cuts = np.rint(np.cumsum(fractions)[:2] * len(members)).astype(int)
        for part, piece in zip(PARTS, np.split(members, cuts), strict=True):
            pieces[part].append(piece)
    return {part: np.concatenate(piece) for part, piece in pieces.items()}


def _from_source(source_splits: Sequence[str | None]) -> dict[str, npt.NDArray[np.int64]]:
    if not any(source_splits):
        raise SplitError(
            "the source has no splits of its own: it needs train, val and test folders, or "
            "choose --data.split stratified"
        )
    return {
        part: np.array(
            [i for i, split in enumerate(source_splits) if split == part], dtype=np.int64
        )
        for part in PARTS
    }


def _from_files(names: Sequence[str], files: Path | None) -> dict[str, npt.NDArray[np.int64]]:
    if files is None or not files.is_dir():
        raise SplitError(
            f"--data.split files needs --data.split_files <folder of train, val and test .txt "
            f"lists>, got {files}"
        )
    index = {PurePosixPath(name).stem: i for i, name in enumerate(names)}
    if len(index) < len(names):
        raise SplitError("file lists need file names that differ between classes")
    parts: dict[str, npt.NDArray[np.int64]] = {}
    owner: dict[str, str] = {}
    for part in PARTS:
        lists = sorted(path for path in files.glob("*.txt") if part in path.stem.lower())
        if len(lists) != 1:
            raise SplitError(
                f"{files} holds {len(lists)} lists for {part}: expected one *{part}*.txt"
            )
        stems = [PurePosixPath(line.strip()).stem for line in lists[0].read_text().split()]
        for stem in stems:
            if stem not in index:
                raise SplitError(f"{lists[0]} names {stem}, which the data set does not have")
            if stem in owner:
                raise SplitError(f"{stem} is listed for {owner[stem]} and for {part}: list it once")
            owner[stem] = part
        parts[part] = np.array([index[stem] for stem in stems], dtype=np.int64)
    return parts


def _by_longitude(
    longitudes: Sequence[float | None], fractions: Fractions
) -> dict[str, npt.NDArray[np.int64]]:
    if not longitudes or any(longitude is None for longitude in longitudes):
        raise SplitError(
            "a split by longitude needs the coordinates that only the GeoTIFFs carry: use a "
            "13-band source such as EuroSAT_MS.zip (--data.bands rgb renders it to RGB)"
        )
    order = np.argsort(np.array(longitudes, dtype=np.float64), kind="stable")
    cuts = np.rint(np.cumsum(fractions)[:2] * len(order)).astype(int)
    return dict(zip(PARTS, np.split(order, cuts), strict=True))
