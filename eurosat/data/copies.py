"""Images with the same pixels, of which one is kept."""

import logging
from collections.abc import Sequence

from eurosat.data.listing import Listing
from eurosat.errors import DataSourceError

_log = logging.getLogger(__name__)


def find_copies(listing: Listing, contents: Sequence[bytes], source: str) -> dict[int, int]:
    """Find the patches to leave out, so that each content is in the store once.

    A copy in another split would let the model be tested on a patch that it was trained on. The
    copies of the source's own training split are therefore dropped first.

    Args:
        listing: The patches.
        contents: A digest of each patch's pixels.
        source: Name of the source, for messages.

    Returns:
        Position of the kept patch, by the position of each copy.

    Raises:
        DataSourceError: Patches of different classes have the same content.
    """
    first: dict[bytes, int] = {}
    copies = {}
    for i in sorted(range(len(contents)), key=lambda i: (listing.splits[i] == "train", i)):
        other = first.setdefault(contents[i], i)
        if listing.labels[i] != listing.labels[other]:
            raise DataSourceError(
                f"{listing.names[other]} and {listing.names[i]} of {source} have the same pixels "
                "and different classes: delete the image whose class is wrong"
            )
        if other != i:
            copies[i] = other
    if copies:
        _log.warning(
            "%d images of %s are copies of other images and are left out, such as %s, a copy of %s",
            *(len(copies), source, *(listing.names[i] for i in next(iter(copies.items())))),
        )
    return copies
