"""Folders and archives as people have them: links, stray files, foreign zips, twins."""

import os
import shlex
import shutil
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonargparse import ArgumentParser

from eurosat.bands import GEOTIFF_ORDER
from eurosat.data.listing import Listing
from eurosat.data.sources import find_source
from eurosat.errors import DataSourceError, SettingsError
from eurosat.pixels import find_images
from tests.conftest import geotiff, jpeg, write_zip

AB = ("A", "B")


@pytest.fixture(scope="module")
def images(patches: dict[str, Any]) -> list[bytes]:
    """Six different JPEGs."""
    return [jpeg(patches[f"{name}_{i}"]) for name in ("Forest", "River") for i in (1, 2, 3)]


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def listing(source: Path, classes: tuple[str, ...] = AB, **settings: Any) -> Listing:
    return find_source(
        str(source), rgb=settings.pop("rgb", True), classes=classes, **settings
    ).list()


STRAY = (
    *("labels.csv", "label_map.json", "Thumbs.db", "README", "A/Thumbs.db", "A/1.jpg.aux.xml"),
    *("A/.hidden.jpg", "A/._1.jpg", ".cache/A/2.jpg", "__MACOSX/A/._1.jpg", "A/@eaDir/1.jpg"),
    "A/classes.txt",
)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_stray_and_hidden_files_are_no_images(
    kind: str, images: list[bytes], tmp_path: Path
) -> None:
    files = {"A/1.jpg": images[0], "B/1.JPEG": images[1], **dict.fromkeys(STRAY, b"stray")}
    place = tmp_path / f"data.{kind}"
    found = listing(fill(place, files) if kind == "folder" else write_zip(place, files))
    assert found.names == ["A/1.jpg", "B/1.JPEG"]
    assert found.read(0)[1] == images[0]


@pytest.mark.parametrize("name", ["[2018] data", "a*b?", "{x}", "zip::a", "100 %", "日本", "..a"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_any_character_can_be_in_a_path(
    kind: str, name: str, images: list[bytes], tmp_path: Path
) -> None:
    files = {"A/[1].jpg": images[0], "B/x::y #2.jpg": images[1]}
    place = tmp_path / name
    if kind == "folder":
        found = listing(fill(place, files))
    else:
        place.mkdir()
        found = listing(write_zip(place / "a[b].zip", files))
    assert found.names == list(files)
    assert [found.read(i)[1] for i in range(2)] == images[:2]


def test_links_to_folders_and_files_are_followed(images: list[bytes], tmp_path: Path) -> None:
    real = fill(tmp_path / "real", {"some/1.jpg": images[0], "2.jpg": images[1]})
    source = tmp_path / "source"
    (source / "B").mkdir(parents=True)
    (source / "A").symlink_to(real / "some")
    (source / "B" / "1.jpg").symlink_to(real / "2.jpg")
    found = listing(source)
    assert found.names == ["A/1.jpg", "B/1.jpg"]
    assert [found.read(i)[1] for i in range(2)] == images[:2]
    assert [path.name for path in find_images([str(source)])] == ["1.jpg", "1.jpg"]


def link(path: str, target: str) -> Callable[[Path], None]:
    def make(source: Path) -> None:
        (source / path).symlink_to(target)

    return make


def loose(source: Path) -> None:
    (source / "A" / "1.jpg").rename(source / "A" / "1.webp")


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (link("A/2.jpg", "nowhere.jpg"), "A/2.jpg is a link to nowhere.jpg, which does not exist"),
        (link("C", "nowhere"), "C is a link to nowhere, which does not exist"),
        (link("A/self", "self"), "A/self is a link to self, which does not exist"),
        (link("A/up", ".."), "A/up is a link to .*, which contains the link"),
        (link("A/here", "."), "A/here is a link to .*, which contains the link"),
        (loose, r"holds .*A/1.webp, and .webp images are not read"),
    ],
    ids=["file", "folder", "itself", "loop", "own-folder", "webp"],
)
def test_what_would_be_lost_or_never_end_is_refused(
    break_it: Callable[[Path], None], reason: str, images: list[bytes], tmp_path: Path
) -> None:
    source = fill(tmp_path / "source", {"A/1.jpg": images[0], "B/1.jpg": images[1]})
    break_it(source)
    with pytest.raises(DataSourceError, match=reason):
        listing(source)


def test_a_pipe_is_not_waited_for(images: list[bytes], tmp_path: Path) -> None:
    source = fill(tmp_path / "source", {"A/1.jpg": images[0]})
    os.mkfifo(source / "A" / "2.jpg")
    assert listing(source).names == ["A/1.jpg"]
    assert [path.name for path in find_images([str(source)])] == ["1.jpg"]


def test_a_file_that_vanishes_says_so(images: list[bytes], tmp_path: Path) -> None:
    found = listing(fill(tmp_path / "source", {"A/1.jpg": images[0]}))
    (tmp_path / "source" / "A" / "1.jpg").unlink()
    with pytest.raises(DataSourceError, match=r"A/1.jpg cannot be read \(No such file"):
        found.read(0)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_an_image_outside_of_the_class_folders(
    kind: str, images: list[bytes], tmp_path: Path
) -> None:
    files = {"A/1.jpg": images[0], "preview.jpg": images[1]}
    if kind == "zip":
        place, reason = write_zip(tmp_path / "x.zip", files), "outside of any class folder"
    else:
        place, reason = fill(tmp_path / "x", files), "a class folder 'x'"
    with pytest.raises(DataSourceError, match=reason):
        listing(place)


def test_an_archive_of_windows_has_backslashes(images: list[bytes], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        for name, data in zip(("my\\A\\1.jpg", "my\\B\\1.jpg"), images, strict=False):
            archive.writestr(zipfile.ZipInfo(name), data)
        archive.writestr(zipfile.ZipInfo("my\\B\\"), b"")
    found = listing(tmp_path / "w.zip")
    assert found.names == ["A/1.jpg", "B/1.jpg"]
    assert found.read(1)[1] == images[1]


def test_an_archive_of_macos_has_decomposed_names_and_no_flag(
    images: list[bytes], tmp_path: Path
) -> None:
    name = unicodedata.normalize("NFD", "Wälder/Bäume 1.jpg").encode()
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x" * len(name), images[0])
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name))
    found = listing(path, classes=("Wälder",))
    assert found.names == ["Wälder/Bäume 1.jpg"]
    assert found.read(0)[1] == images[0]


@pytest.mark.parametrize("above", ["./", "../", "/data/", "./x//"])
def test_components_that_lead_nowhere_are_left_out(
    above: str, images: list[bytes], tmp_path: Path
) -> None:
    path = write_zip(
        tmp_path / "a.zip", {f"{above}A/1.jpg": images[0], f"{above}B/1.jpg": images[1]}
    )
    found = listing(path)
    assert found.names == ["A/1.jpg", "B/1.jpg"]
    assert [found.read(i)[1] for i in range(2)] == images[:2]


@pytest.mark.parametrize("name", ["B", "A/2.jpg"], ids=["folder", "file"])
def test_a_link_in_an_archive_is_refused(name: str, images: list[bytes], tmp_path: Path) -> None:
    link = zipfile.ZipInfo(name)
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("A/1.jpg", images[0])
        archive.writestr(link, "../elsewhere")
    with pytest.raises(DataSourceError, match=rf"a.zip holds {name} as a link"):
        listing(tmp_path / "a.zip")


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_archives_instead_of_images_are_named(kind: str, tmp_path: Path) -> None:
    files = {"README": b"", "parts/EuroSAT_RGB.zip": b"PK"}
    place = (
        fill(tmp_path / "x", files) if kind == "folder" else write_zip(tmp_path / "x.zip", files)
    )
    with pytest.raises(DataSourceError, match=r"the archive .*parts/EuroSAT_RGB.zip and no images"):
        listing(place)


def test_an_archive_of_another_kind_is_not_called_absent(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataSourceError, match=r"x.tar.gz is neither a .zip archive nor a folder"):
        listing(tmp_path / "x.tar.gz")


def test_splits_below_the_classes_are_refused(images: list[bytes], tmp_path: Path) -> None:
    names = [f"x/{c}/{split}/1.jpg" for c in AB for split in ("train", "test")]
    path = write_zip(tmp_path / "a.zip", dict(zip(names, images, strict=False)))
    with pytest.raises(DataSourceError, match=r"x/A/test/1.jpg, whose folder names a split, not a"):
        listing(path)
    found = listing(
        write_zip(tmp_path / "b.zip", {"car/1.jpg": images[0], "train/2.jpg": images[1]}),
        classes=("car", "train"),
    )
    assert found.labels == [0, 1]


@pytest.mark.parametrize("names", [("0", "1"), ("no", "yes"), ("crops, annual", "it's")])
def test_the_advice_for_own_classes_can_be_pasted(
    names: tuple[str, str], images: list[bytes], tmp_path: Path
) -> None:
    files = {f"{name}/1.jpg": image for name, image in zip(names, images, strict=False)}
    with pytest.raises(DataSourceError) as error:
        listing(write_zip(tmp_path / "a.zip", files))
    option, value = shlex.split(str(error.value).partition("classes pass ")[2])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument(option, type=tuple[str, ...])
    assert parser.parse_args([option, value])[option[2:]] == names


def patched(path: Path, *, flags: int | None = None, method: int | None = None) -> Path:
    """Change the flags or the method of an archive's only member in both headers."""
    data = bytearray(path.read_bytes())
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = data.index(signature)
        if flags is not None:
            data[start + at] |= flags
        if method is not None:
            data[start + at + 2] = method
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"flags": 1}, "is encrypted .* password"),
        ({"method": 9}, r"compression method.* unpack the archive with the program"),
        ({"method": 99}, r"compression method.* unpack the archive with the program"),
    ],
    ids=["encrypted", "deflate64", "aes"],
)
def test_archives_that_python_does_not_unpack(
    change: dict[str, int], reason: str, images: list[bytes], tmp_path: Path
) -> None:
    path = write_zip(tmp_path / "a.zip", {"A/1.jpg": images[0]})
    found = listing(patched(path, **change))
    with pytest.raises(DataSourceError, match=reason):
        found.read(0)


def test_a_compressed_member_that_is_damaged(images: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("A/1.jpg", images[0])
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    with pytest.raises(DataSourceError, match=r"is damaged at A/1.jpg .*: download it again"):
        listing(path).read(0)


def test_equal_names_in_split_folders_are_two_images(images: list[bytes], tmp_path: Path) -> None:
    files = {f"{split}/{name}/0001.jpg": b"" for split in ("test", "train") for name in AB}
    found = listing(fill(tmp_path / "x", dict(zip(files, images, strict=False))))
    assert found.names == [
        "A/test/0001.jpg",
        "B/test/0001.jpg",
        *(f"{c}/train/0001.jpg" for c in AB),
    ]
    assert found.splits == ["test", "test", "train", "train"]
    assert found.labels == [0, 1, 0, 1]
    assert [found.read(i)[1] for i in range(4)] == images[:4]


@pytest.mark.parametrize("rgb", [True, False], ids=["rgb", "bands"])
def test_of_jpegs_and_geotiffs_of_the_same_patches_one_is_read(
    rgb: bool, patches: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("Forest_1", "Forest_2", "River_1")
    files = {f"EuroSAT/{n.split('_')[0]}/{n}.jpg": jpeg(patches[n]) for n in names}
    files |= {f"EuroSATallBands/{n.split('_')[0]}/{n}.tif": geotiff(patches[n]) for n in names}
    found = listing(write_zip(tmp_path / "both.zip", files), ("Forest", "River"), rgb=rgb)
    suffix = "jpg" if rgb else "tif"
    assert found.names == [f"{name.split('_')[0]}/{name}.{suffix}" for name in names]
    assert "holds 3 images both as GeoTIFF and as JPEG or PNG" in caplog.text
    channels = 3 if rgb else 13
    assert found.read(0)[0].pixels.shape == (64, 64, channels)


@pytest.mark.parametrize(
    ("one", "two"), [("A/1.jpg", "A/1.png"), ("A/1.jpg", "A/1.JPG"), ("A/1.tif", "A/1.tiff")]
)
def test_twins_that_suit_equally_are_refused(
    one: str, two: str, images: list[bytes], tmp_path: Path
) -> None:
    path = write_zip(tmp_path / "a.zip", {one: images[0], two: images[1]})
    with pytest.raises(DataSourceError, match=r"two files named A/1 \(A/1\.\w+ and A/1\.\w+\)"):
        listing(path)


def test_two_folders_of_one_class_are_refused(images: list[bytes], tmp_path: Path) -> None:
    files = {"burnt area/1.jpg": images[0], "burnt_area/2.jpg": images[1]}
    with pytest.raises(DataSourceError, match=r"'burnt area' and 'burnt_area', two names of"):
        listing(write_zip(tmp_path / "a.zip", files), classes=("burnt area",))


def test_unknown_folders_are_refused_in_every_script(images: list[bytes], tmp_path: Path) -> None:
    files = dict(zip(("森林/1.jpg", "水/1.jpg", "草地/1.jpg"), images, strict=False))
    path = write_zip(tmp_path / "a.zip", files)
    with pytest.raises(DataSourceError, match="a class folder '草地', which is not among"):
        listing(path, classes=("森林", "水"))
    assert listing(path, classes=("森林", "水", "草地")).labels == [0, 1, 2]
    with pytest.raises(SettingsError, match="'水' twice"):
        listing(path, classes=("水", "水"))


def test_own_geotiffs_without_names_need_the_order(patches: dict[str, Any], tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"A/x.tif": geotiff(patches["Forest_1"])})
    with pytest.raises(DataSourceError, match=r"A/x.tif cannot be decoded.*--data.band_order"):
        listing(path, rgb=False).read(0)
    patch, _ = listing(path, rgb=False, band_order=GEOTIFF_ORDER).read(0)
    np.testing.assert_array_equal(patch.pixels, patches["Forest_1"])


def test_names_that_are_not_utf_8(images: list[bytes], tmp_path: Path) -> None:
    folder = tmp_path / "x" / "A"
    folder.mkdir(parents=True)
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")).write_bytes(images[0])
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    found = listing(tmp_path / "x")
    assert found.names == ["A/caf\udce9.jpg"]
    assert found.read(0)[1] == images[0]


def test_the_fingerprint_of_a_folder_follows_links(images: list[bytes], tmp_path: Path) -> None:
    source = fill(tmp_path / "x", {"A/1.jpg": images[0]})
    shutil.copytree(source, tmp_path / "y")
    before = find_source(str(source), rgb=True, classes=AB).fingerprint
    assert find_source(str(tmp_path / "y"), rgb=True, classes=AB).fingerprint == before
    (source / "B").symlink_to(fill(tmp_path / "z", {"1.jpg": images[1]}))
    assert find_source(str(source), rgb=True, classes=AB).fingerprint != before
