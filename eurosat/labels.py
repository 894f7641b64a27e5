"""EuroSAT's class names in index order, and how foreign spellings map to them.

Every other module imports the class names from this module.
"""

import re

CLASSES: tuple[str, ...] = (
    "AnnualCrop",
    "Forest",
    "HerbaceousVegetation",
    "Highway",
    "Industrial",
    "Pasture",
    "PermanentCrop",
    "Residential",
    "River",
    "SeaLake",
)
"""EuroSAT's ten class names in label order, which is alphabetical, as published."""

IMAGES_PER_CLASS: dict[str, int] = dict(
    zip(CLASSES, (3000, 3000, 3000, 2500, 2500, 2000, 2500, 3000, 2500, 3000), strict=True)
)
"""Images of each class in the complete data set (Helber et al., 2019), 27,000 in all."""

# Hub copies add words to some names ("Industrial Buildings", "Sea or Lake").
_FILLER_WORDS = {"buildings", "or", "and"}


def canonical_class(name: str, classes: tuple[str, ...] = CLASSES) -> str | None:
    """Match a foreign spelling of a class name to one of ``classes``.

    Case, spaces, punctuation and the filler words of the hub's copies are ignored, so that
    ``"Annual Crop"``, ``"annual_crop"`` and ``"AnnualCrop"`` are one class.

    Args:
        name: The name as a source spells it, such as a folder name or a hub label.
        classes: The class names to match against.

    Returns:
        The matching entry of ``classes``, or ``None`` if there is none.
    """
    if name in classes:
        return name
    wanted = _key(name)
    return next((entry for entry in classes if _key(entry) == wanted), None)


def _key(name: str) -> str:
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
    return "".join(word for word in map(str.lower, words) if word not in _FILLER_WORDS)
