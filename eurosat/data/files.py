"""Find image files on disk."""

from collections.abc import Sequence
from pathlib import Path

from eurosat.data.decode import IMAGE_SUFFIXES
from eurosat.errors import DataSourceError


def find_images(paths: Sequence[str]) -> list[Path]:
    """Find image files.

    Args:
        paths: Image files, and folders to search through.

    Returns:
        The files, those of a folder in sorted order.

    Raises:
        DataSourceError: A path does not exist, or a folder holds no images.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(f for f in path.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES)
            if not found:
                raise DataSourceError(f"{path} holds no .jpg, .png or .tif images")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise DataSourceError(f"{path} does not exist")
    return files
