"""EuroSAT's class names in index order, and how foreign spellings map to them.

Every other module imports the class names from this module.
"""

import re
import unicodedata
from collections.abc import Iterable

from eurosat.errors import EuroSATError, SettingsError
from eurosat.plain_text import plain

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

# The hub's copies spell some of EuroSAT's names with more words.
_ALIASES = {
    "industrialbuildings": "Industrial",
    "residentialbuildings": "Residential",
    "seaorlake": "SeaLake",
    "seaandlake": "SeaLake",
}


# Tables of predictions have one column per class besides these columns.
_COLUMNS = frozenset({"file", "label", "predicted", "confidence", "ood", "error", "picture"})


def canonical_class(name: str, classes: tuple[str, ...] = CLASSES) -> str | None:
    """Match a foreign spelling of a class name to one of ``classes``.

    Case, Unicode composition, spaces, hyphens and underscores are ignored, so that
    ``"Annual Crop"``, ``"annual_crop"`` and ``"AnnualCrop"`` are one class. Every other character
    counts, in every script, and so does a hyphen before a number or at the end, as a minus. The
    longer names of the hub's copies match EuroSAT's classes only.

    Args:
        name: The name as a source spells it, such as a folder name or a hub label.
        classes: The class names to match against; `check_classes` accepts these names.

    Returns:
        The matching entry of ``classes``, or ``None`` if there is none.
    """
    known = {_key(entry): entry for entry in classes}
    wanted = _key(name)
    alias = _ALIASES.get(wanted)
    return known.get(wanted) or (alias if alias in classes else None)


def check_classes(classes: tuple[str, ...]) -> None:
    """Refuse class names that `canonical_class` cannot tell apart.

    Raises:
        SettingsError: There is no class, a name is blank or the name of a column, or two names are
            spellings of one name.
    """
    if not classes:
        raise SettingsError("there are no class names: pass --data.classes '[burnt, intact]'")
    seen: dict[str, str] = {}
    for name in classes:
        if name in _COLUMNS:
            raise SettingsError(
                f"the class name {name!r} is also the name of a column in the tables of "
                "predictions: rename the class and its folder"
            )
        if not name.strip():
            raise SettingsError(
                "a class name in --data.classes is blank: name every class, or leave out the "
                "blank name"
            )
        other = seen.setdefault(_key(name), name)
        if other is not name or classes.count(name) > 1:
            raise SettingsError(
                f"--data.classes names the class {other!r} twice, the second time as {name!r}: "
                "case, spaces, hyphens and underscores do not tell classes apart; name each class "
                "once, or rename one of the classes and its folder"
            )


def check_class_names(names: Iterable[str]) -> None:
    """Check that class names can be printed.

    Raises:
        EuroSATError: A name has control characters.
    """
    for name in names:
        if plain(name) != name:
            raise EuroSATError(
                f"the class name '{plain(name)}' has control characters: rename the class"
            )


def _key(name: str) -> str:
    """What two spellings of one class name have in common."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    # A hyphen before a number or at the end is a minus: "-1" is not "1", and "A-" is not "A".
    folded = re.sub(r"(?<!\S)-(?=\d)|-(?=\s*$)", "\N{MINUS SIGN}", folded)
    # Between digits, a separator counts: "zone 1-1" is not "zone 11".
    apart = re.sub(r"(?<=\d)[\s_-]+(?=\d)", " ", folded)
    return re.sub(r"(?<!\d)[\s_-]+|[\s_-]+(?!\d)", "", apart)
