"""The published EuroSAT data set: its archives on the HF hub, and the checksums."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from eurosat.labels import IMAGES_PER_CLASS


@dataclass(frozen=True)
class PublishedArchive:
    """An archive on the HF hub.

    Attributes:
        revision: Commit of the repository.
        file: Path of the archive in the repository.
        sha256: SHA-256 of the archive.
    """

    revision: str
    file: str
    sha256: str


HUB_REPOSITORY = "torchgeo/eurosat"
HUB_FILES = {
    # rgb: the archive, at the commits that torchvision and torchgeo pin
    True: PublishedArchive(
        "c877bcd43f099cd0196738f714544e355477f3fd",
        "EuroSAT.zip",
        "8ebea626349354c5328b142b96d0430e647051f26efc2dc974c843f25ecf70bd",
    ),
    False: PublishedArchive(
        "1ce6f1bfb56db63fd91b6ecc466ea67f2509774c",
        "EuroSATallBands.zip",
        "751f070f9bffa2eed48b24ca2dd0b02959280c08837e8c9a5532a67ba611df59",
    ),
}
"""The published archives on the HF hub: RGB JPEGs, and 13-band GeoTIFFs.

The checksum of ``EuroSAT.zip`` is from torchvision's prototype data sets, for the authors' server;
torchvision pins one MD5 for that server and for the hub. The checksum of ``EuroSATallBands.zip`` is
that of the file whose MD5 torchgeo pins at this commit.
"""

RGB_DIGEST = "feefa5e365ffbf7cf1bf39f68dc5e96efc80f5234d9c1b91889277593b3627e1"
"""SHA-256 of the lines ``<sha256 of file>  <Class>/<file>``, sorted, of the 27,000 JPEGs."""


def is_published_name(name: str) -> bool:
    """Whether EuroSAT has an image of this name, ``Class/Class_<n>`` with any suffix."""
    folder, _, file = name.rpartition("/")
    number = PurePosixPath(file).stem.removeprefix(f"{folder}_")
    return (
        number.isdecimal()
        and f"{folder}_{int(number)}" == PurePosixPath(file).stem
        and (1 <= int(number) <= IMAGES_PER_CLASS.get(folder, 0))
    )


def verify_published_files(names: Sequence[str], digests: Sequence[str]) -> bool | None:
    """Check a complete EuroSAT RGB data set against the checksum of the published files.

    Args:
        names: ``Class/file.jpg`` of every file.
        digests: SHA-256 of every file, in the order of ``names``.

    Returns:
        Whether the files are the published files; None if the names are not EuroSAT's 27,000
        names.
    """
    published = {
        f"{label}/{label}_{number}.jpg"
        for label, count in IMAGES_PER_CLASS.items()
        for number in range(1, count + 1)
    }
    if set(names) != published:
        return None
    lines = sorted(f"{name}\0{digest}" for name, digest in zip(names, digests, strict=True))
    text = "".join("{1}  {0}\n".format(*line.split("\0")) for line in lines)
    return hashlib.sha256(text.encode()).hexdigest() == RGB_DIGEST
