import pytest

from eurosat.evaluation.colours import COLOURS
from eurosat.labels import CLASSES, IMAGES_PER_CLASS, canonical_class


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
        ("Desert", None),
    ],
)
def test_foreign_spellings_are_matched_by_name(foreign: str, expected: str | None) -> None:
    assert canonical_class(foreign) == expected
