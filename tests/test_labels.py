import pytest

from eurosat.errors import SettingsError
from eurosat.evaluation.colours import COLOURS
from eurosat.labels import CLASSES, IMAGES_PER_CLASS, canonical_class, check_classes


def test_the_ten_classes_are_in_alphabetical_order_as_published() -> None:
    assert len(CLASSES) == 10
    assert list(CLASSES) == sorted(CLASSES)
    assert sum(IMAGES_PER_CLASS.values()) == 27_000
    assert len(set(COLOURS.values())) == 10


@pytest.mark.parametrize(
    ("foreign", "expected"),
    [
        ("AnnualCrop", "AnnualCrop"),
        ("Annual Crop", "AnnualCrop"),
        ("annual_crop", "AnnualCrop"),
        ("Industrial Buildings", "Industrial"),
        ("Sea or Lake", "SeaLake"),
        ("Herbaceous Vegetation", "HerbaceousVegetation"),
        ("Residential Buildings", "Residential"),
        ("ANNUAL-CROP", "AnnualCrop"),
        ("Desert", None),
        ("Forest and Buildings", None),
        ("Forest 2", None),
        ("Forêt", None),
        ("森林", None),
        ("", None),
        ("_", None),
    ],
)
def test_foreign_spellings_are_matched_by_name(foreign: str, expected: str | None) -> None:
    assert canonical_class(foreign) == expected


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [
        ("草地", ("森林", "水"), None),
        ("水", ("森林", "水"), "水"),
        ("лес", ("лес", "река"), "лес"),
        ("Лес", ("лес", "река"), "лес"),
        ("луг", ("лес", "река"), None),
        ("حقل", ("غابة", "نهر"), None),
        ("कृषि", ("वन", "नदी"), None),
        ("नदी", ("वन", "नदी"), "नदी"),
        ("Wa\u0308lder", ("W\u00e4lder",), "W\u00e4lder"),  # macOS decomposes letters
        ("W\u00e4lder", ("Wa\u0308lder",), "Wa\u0308lder"),
        ("Walder", ("Wälder",), None),
        ("C#", ("C", "C++"), None),
        ("zone 1.1", ("zone 11", "zone 1-1"), None),
        ("zone_1_1", ("zone 11", "zone 1-1"), "zone 1-1"),
        ("-1", ("1", "2"), None),
        ("-1", ("1", "-1"), "-1"),
        ("level -1", ("level 1", "level -1"), "level -1"),
        ("A-", ("A", "A+"), None),
        ("Annual - Crop", ("AnnualCrop",), "AnnualCrop"),
        ("Industrial Buildings", ("burnt", "Industrial"), "Industrial"),
        ("Sea or Lake", ("Sea", "Lake"), None),
    ],
)
def test_every_script_is_compared_whole(
    name: str, classes: tuple[str, ...], expected: str | None
) -> None:
    check_classes(classes)
    assert canonical_class(name, classes) == expected


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("森林", "水", "森林"), "names the class '森林' twice"),
        (("burnt", "Burnt"), "'burnt' twice, the second time as 'Burnt'"),
        (("burnt area", "burnt_area"), "twice"),
        (("Wa\u0308lder", "W\u00e4lder"), "twice"),
        (("лес", "ЛЕС"), "twice"),
        (("burnt", " "), "is blank"),
        (("burnt", "error"), "'error' is also the name of a column"),
        ((), "no class names"),
    ],
)
def test_classes_that_cannot_be_told_apart_are_refused(
    classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        check_classes(classes)
