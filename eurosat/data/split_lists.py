"""Lists of file names that split a data set, as people have them."""

import codecs
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from eurosat.errors import SplitError
from eurosat.folders import is_hidden
from eurosat.pixels import IMAGE_SUFFIXES, UNREAD_SUFFIXES


def read_lists(
    folder: Path, splits: Sequence[str], names: Sequence[str], copies: Mapping[str, str]
) -> dict[str, list[int]]:
    """Read the lists of a folder.

    Args:
        folder: The folder, which holds one ``.txt`` file per split.
        splits: Names of the splits; the name of a split's file contains the name of the split.
        names: ``Class/file`` of every patch.
        copies: The name of the patch that was kept, by the name of each copy that was left out.

    Returns:
        Positions of the patches of each split.

    Raises:
        SplitError: A list is missing, names a file that the data set does not have, or names a
            patch again.
    """
    texts = [path for path in sorted(folder.glob("*.txt")) if not is_hidden([path.name])]
    index = _Index(names, copies)
    listed: dict[int, tuple[str, str]] = {}
    found: dict[str, list[int]] = {split: [] for split in splits}
    for split in splits:
        lists = [path for path in texts if split in path.stem.lower()]
        if len(lists) != 1:
            raise SplitError(
                f"{folder} holds {len(lists)} lists for {split}: keep exactly one *{split}*.txt"
            )
        for line in _lines(lists[0]):
            name, position = index.find(line, lists[0])
            other, earlier = listed.setdefault(position, (split, ""))
            if not earlier:
                listed[position] = (split, name)
                found[split].append(position)
            elif name == earlier:
                raise SplitError(f"{line} is listed for {other} and for {split}: list {line} once")
            elif other != split:
                raise SplitError(
                    f"{name} is listed for {split}, and {earlier}, which has the same pixels, for "
                    f"{other}: list one of the two"
                )
    return found


class _Index:
    """Finds patches by the lines of a list.

    The file name of a line suffices if it is unique; otherwise the line must name the folders.
    """

    def __init__(self, names: Sequence[str], copies: Mapping[str, str]) -> None:
        """Index the names of the patches and of their copies."""
        positions = {name: i for i, name in enumerate(names)}
        self.by_path: dict[tuple[str, ...], str] = {}
        self.by_file: defaultdict[str, list[str]] = defaultdict(list)
        self.positions = positions | {copy: positions[kept] for copy, kept in copies.items()}
        self.classes = {name.split("/")[0] for name in self.positions}
        for name in self.positions:
            *folders, file = _components(name)
            # "A/train/1.jpg" is the name of train/A/1.jpg where splits share file names.
            for order in (folders, folders[::-1]):
                self.by_path[(*order, file)] = name
            self.by_file[file].append(name)

    def find(self, line: str, path: Path) -> tuple[str, int]:
        """Find the patch of a line.

        Returns:
            Name of the patch or of its copy, and position of the patch.

        Raises:
            SplitError: There is no such patch, or several patches have the file name.
        """
        parts = _components(line)
        known = (self.by_path.get(parts[-count:]) for count in (3, 2))
        name = next(filter(None, known), None)
        if name is None:
            names = self.by_file.get(parts[-1], [])
            if len(names) > 1:
                raise SplitError(
                    f"{path} names {line}, and several images have this file name: write the "
                    f"folders before the name, such as {names[0]}, or rename the files"
                )
            other_class = len(parts) > 1 and parts[-2] in self.classes
            if not names or (other_class and parts[-2] not in names[0].split("/")[:-1]):
                raise SplitError(
                    f"{path} names {line}, which the data set does not have: correct the list, "
                    "which has one file name per line, without quotes and other columns, or give "
                    "the data set of the list"
                )
            name = names[0]
        return name, self.positions[name]


def _lines(path: Path) -> list[str]:
    """Read the lines of a list of file names, one name per line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SplitError(
            f"{path} cannot be read ({error.strerror}): replace it by a readable text file"
        ) from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # of Windows' PowerShell
        text = data.decode("utf-16", "replace")
    else:
        text = data.decode("utf-8-sig", "surrogateescape")
    return [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]


def _components(name: str) -> tuple[str, ...]:
    """The components of a path in composed form (NFC), without the suffix of an image.

    Other suffixes count, because a name without a suffix can have dots: ``tile_1.5`` is not the
    image ``tile_1.tif``.
    """
    path = PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/")))
    is_image = path.suffix.lower() in IMAGE_SUFFIXES | UNREAD_SUFFIXES
    return *path.parent.parts, path.stem if is_image else path.name
