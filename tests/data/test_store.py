"""The store: decoded once, whole or not at all, whoever asks and whoever dies."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eurosat.data.datamodule import EuroSATDataModule
from eurosat.data.listing import Listing
from eurosat.data.sources import Source, find_source
from eurosat.data.store import Store, prepare
from eurosat.errors import DataSourceError
from eurosat.labels import CLASSES
from tests.conftest import REPOSITORY, jpeg, shared_data, write_zip

SETTINGS: dict[str, Any] = {"rgb": True, "classes": CLASSES, "verify": True}


def test_a_store_holds_what_the_source_holds(rgb_archive: Path, tmp_path: Path) -> None:
    source = find_source(str(rgb_archive), rgb=True)
    store = prepare(source, tmp_path / "store", **SETTINGS)
    found = source.list()
    assert store.names == found.names
    assert store.labels.tolist() == found.labels
    assert store.images.dtype == np.uint8
    for i in range(len(store)):
        assert np.array_equal(store.images[i], found.read(i)[0].pixels)
    assert store.card.verified is None
    assert store.card.images == 30
    assert not store.card.synthetic


def test_a_second_start_reads_nothing(
    rgb_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_source(str(rgb_archive), rgb=True)
    first = prepare(source, tmp_path / "store", **SETTINGS)
    unreadable = Source(source.name, source.fingerprint, False, lambda: pytest.fail("was listed"))
    assert prepare(unreadable, tmp_path / "store", **SETTINGS).card == first.card


def test_a_folder_with_another_store_or_anything_else_is_left_alone(
    rgb_archive: Path, tmp_path: Path, patches: dict[str, Any]
) -> None:
    first = prepare(find_source(str(rgb_archive), rgb=True), tmp_path / "store", **SETTINGS)
    other = write_zip(tmp_path / "other.zip", {"x/Forest/Forest_1.jpg": jpeg(patches["Forest_2"])})
    with pytest.raises(DataSourceError, match=r"holds other data \(EuroSAT_RGB\) than other"):
        prepare(find_source(str(other), rgb=True), tmp_path / "store", **SETTINGS)
    assert Store(tmp_path / "store").card == first.card
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(DataSourceError, match=r"full exists and is not a store"):
        prepare(find_source(str(other), rgb=True), tmp_path / "full", **SETTINGS)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


def test_equal_data_have_equal_fingerprints_wherever_they_lie(
    rgb_archive: Path, tmp_path: Path, patches: dict[str, Any]
) -> None:
    copy = tmp_path / "copy.zip"
    copy.write_bytes(rgb_archive.read_bytes())
    one, two = (
        prepare(find_source(str(path), rgb=True), tmp_path / path.stem, **SETTINGS).card.fingerprint
        for path in (rgb_archive, copy)
    )
    assert one == two
    other = {"x/Forest/Forest_1.jpg": jpeg(patches["Forest_2"])}
    three = prepare(
        find_source(str(write_zip(tmp_path / "other.zip", other)), rgb=True),
        tmp_path / "other",
        **SETTINGS,
    )
    assert three.card.fingerprint != one


def test_a_bad_image_leaves_nothing_behind(tmp_path: Path, patches: dict[str, Any]) -> None:
    files = {f"x/Forest/Forest_{i}.jpg": jpeg(patches["Forest_1"]) for i in range(9)}
    files["x/Forest/Forest_7.jpg"] = b"not a picture"
    root = tmp_path / "data"
    with pytest.raises(DataSourceError, match=r"Forest_7.jpg cannot be decoded"):
        prepare(
            find_source(str(write_zip(tmp_path / "a.zip", files)), rgb=True),
            root / "store",
            **SETTINGS,
        )
    assert [path.name for path in root.iterdir() if path.is_dir()] == []


def test_patches_of_two_sizes_are_refused(tmp_path: Path, patches: dict[str, Any]) -> None:
    files = {
        "x/Forest/1.jpg": jpeg(patches["Forest_1"]),
        "x/Forest/2.jpg": jpeg(patches["Forest_1"][:32]),
    }
    source = find_source(str(write_zip(tmp_path / "a.zip", files)), rgb=True)
    with pytest.raises(DataSourceError, match=r"Forest/2.jpg has 64x32 pixels.*64x64"):
        prepare(source, tmp_path / "data" / "store", **SETTINGS)


def test_an_empty_source_is_refused(tmp_path: Path) -> None:
    empty = Source(
        "empty", "0" * 64, False, lambda: Listing([], [], [], lambda _: pytest.fail("was read"))
    )
    with pytest.raises(DataSourceError, match="holds no images"):
        prepare(empty, tmp_path / "store", **SETTINGS)


def test_a_root_that_cannot_be_a_folder(rgb_archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataSourceError, match=r"choose another folder"):
        prepare(
            find_source(str(rgb_archive), rgb=True),
            tmp_path / "file" / "data" / "store",
            **SETTINGS,
        )


def test_a_damaged_store_says_so(rgb_archive: Path, tmp_path: Path) -> None:
    store = prepare(find_source(str(rgb_archive), rgb=True), tmp_path / "store", **SETTINGS)
    (store.path / "images.npy").write_bytes(b"")
    with pytest.raises(DataSourceError, match="delete the folder and prepare the data again"):
        Store(store.path)


@pytest.mark.parametrize("items", ["[]", "{}", '{"names": [], "splits": [], "longitudes": []}'])
def test_a_store_whose_files_do_not_fit_together(
    items: str, rgb_archive: Path, tmp_path: Path
) -> None:
    store = prepare(find_source(str(rgb_archive), rgb=True), tmp_path / "store", **SETTINGS)
    (store.path / "items.json").write_text(items)
    with pytest.raises(DataSourceError, match=r"cannot be read \(.*\): delete the folder"):
        Store(store.path)


_PREPARE = """
import sys, time
from pathlib import Path
from eurosat.data import store
from eurosat.data.sources import Source, find_source
from eurosat.labels import CLASSES

def slow():
    Path(sys.argv[2], f"listed-{sys.argv[3]}").touch()
    listing = find.list()
    read = listing.read
    def wait(i):
        time.sleep(float(sys.argv[4]) if i else 0)  # the first is read before the rest
        return read(i)
    object.__setattr__(listing, "read", wait)
    return listing

find = find_source(sys.argv[1], rgb=True)
source = Source(find.name, find.fingerprint, False, slow)
folder = Path(sys.argv[2], "store")
print(store.prepare(source, folder, rgb=True, classes=CLASSES, verify=True).card.images)
"""


def _start(archive: Path, root: Path, name: str, delay: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", _PREPARE, str(archive), str(root), name, str(delay)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.process
def test_two_processes_that_start_together_decode_once(rgb_archive: Path, tmp_path: Path) -> None:
    both = [_start(rgb_archive, tmp_path, str(number), 0.02) for number in range(2)]
    assert [process.communicate(timeout=120)[0] for process in both] == ["30\n", "30\n"]
    assert len(list(tmp_path.glob("listed-*"))) == 1


@pytest.mark.process
def test_a_killed_process_leaves_no_store_and_the_next_one_succeeds(
    rgb_archive: Path, tmp_path: Path
) -> None:
    killed = _start(rgb_archive, tmp_path, "killed", 60)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".store.*/images.npy")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not list(tmp_path.glob("store/store.json"))
    assert _start(rgb_archive, tmp_path, "next", 0).communicate(timeout=120)[0] == "30\n"
    assert not [path for path in tmp_path.glob(".store.*") if path.is_dir()]


@pytest.mark.slow
def test_the_complete_real_data_set_is_verified(tmp_path: Path) -> None:
    archive = shared_data("EuroSAT_RGB.zip")
    store = prepare(find_source(str(archive), rgb=True), tmp_path / "store", **SETTINGS)
    assert store.card.verified is True
    assert len(store) == 27_000
    start = time.process_time()
    prepare(find_source(str(archive), rgb=True), tmp_path / "store", **SETTINGS)
    assert time.process_time() - start < 3  # about 0.15 s; benchmarks/prepare.py measures it


@pytest.fixture
def changed_copy(tmp_path: Path, patches: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive with all file names of EuroSAT, here 20 instead of 27,000, and other contents."""
    complete = dict.fromkeys(CLASSES, 2)
    monkeypatch.setattr("eurosat.data.published.IMAGES_PER_CLASS", complete)
    files = {
        f"EuroSAT_RGB/{name}/{name}_{number}.jpg": jpeg(patches[f"{name}_{number}"][:8, :8])
        for name, count in complete.items()
        for number in range(1, count + 1)
    }
    return write_zip(tmp_path / "a.zip", files)


def test_a_complete_data_set_with_other_contents_is_refused_unless_asked_for(
    changed_copy: Path, tmp_path: Path
) -> None:
    source = find_source(str(changed_copy), rgb=True)
    path = tmp_path / "data" / "store"
    accepted = SETTINGS | {"verify": False}
    with pytest.raises(DataSourceError, match=r"not the published contents.*--data.verify false"):
        prepare(source, path, **SETTINGS)
    assert prepare(source, path, **accepted).card.verified is False
    # One acceptance is not an acceptance for ever.
    with pytest.raises(DataSourceError, match=r"not the published contents.*--data.verify false"):
        prepare(source, path, **SETTINGS)
    assert prepare(source, path, **accepted).card.verified is False


def test_verify_counts_for_a_store_that_is_given_as_the_source(
    changed_copy: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    EuroSATDataModule(source=str(changed_copy), verify=False).prepare_store(store)
    EuroSATDataModule(source=str(store), verify=False).prepare_store()
    with pytest.raises(DataSourceError, match="not the published contents"):
        EuroSATDataModule(source=str(store)).prepare_store()


def test_copies_of_an_image_are_left_out(
    tmp_path: Path, patches: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    forest, river = jpeg(patches["Forest_1"]), jpeg(patches["River_1"])
    files = {
        "train/Forest/1.jpg": forest,
        "train/Forest/2.jpg": jpeg(patches["Forest_2"]),
        "train/River/3.jpg": river,
        "val/Forest/4.jpg": forest,
        "val/Forest/5.jpg": forest,
        "val/River/6.jpg": river,
        "val/River/7.jpg": jpeg(patches["River_2"]),
    }
    source = find_source(str(write_zip(tmp_path / "a.zip", files)), rgb=True)
    store = prepare(source, tmp_path / "store", **SETTINGS)
    kept = ["Forest/2.jpg", "Forest/4.jpg", "River/6.jpg", "River/7.jpg"]
    assert store.names == kept
    assert store.source_splits == ["train", "val", "val", "val"]
    assert store.labels.tolist() == [1, 1, 8, 8]
    assert store.card.images == len(store.images) == len(store.longitudes) == 4
    whole = source.list()
    for name, pixels in zip(kept, store.images, strict=True):
        np.testing.assert_array_equal(pixels, whole.read(whole.names.index(name))[0].pixels)
    assert "3 images of a are copies of other images and are left out" in caplog.text
    copies = {"Forest/1.jpg": "Forest/4.jpg", "Forest/5.jpg": "Forest/4.jpg"}
    assert store.copies == copies | {"River/3.jpg": "River/6.jpg"}
    # The store is the same as one of the images without the copies.
    alone = {path: data for path, data in files.items() if "/".join(path.split("/")[1:]) in kept}
    other = find_source(str(write_zip(tmp_path / "b.zip", alone)), rgb=True)
    expected = prepare(other, tmp_path / "other", **SETTINGS).card.fingerprint
    assert store.card.fingerprint == expected


def test_one_image_of_two_classes_is_refused(tmp_path: Path, patches: dict[str, Any]) -> None:
    data = jpeg(patches["Forest_1"])
    path = write_zip(tmp_path / "a.zip", {"Forest/1.jpg": data, "River/2.jpg": data})
    reason = r"Forest/1.jpg and River/2.jpg of a have the same pixels and different classes"
    with pytest.raises(DataSourceError, match=reason):
        prepare(find_source(str(path), rgb=True), tmp_path / "data" / "store", **SETTINGS)


def test_a_store_whose_source_has_changed(tmp_path: Path, patches: dict[str, Any]) -> None:
    archive, store = tmp_path / "a.zip", tmp_path / "store"
    for number in (1, 2):
        write_zip(archive, {"Forest/1.jpg": jpeg(patches[f"Forest_{number}"])})
        source = find_source(str(archive), rgb=True)
        if number == 1:
            prepare(source, store, **SETTINGS)
    with pytest.raises(DataSourceError, match="a has changed, or other settings are given, since"):
        prepare(source, store, **SETTINGS)


def test_a_root_that_cannot_be_written_names_the_option(
    rgb_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    source = find_source(str(rgb_archive), rgb=True)
    (tmp_path / "first.lock").mkdir()  # as root, a folder can be written whatever its rights
    with pytest.raises(DataSourceError, match=r"cannot be written to .*--data.root"):
        prepare(source, tmp_path / "first", **SETTINGS)
    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(DataSourceError, match=r"\(Permission denied\).*--data.root"):
        prepare(source, tmp_path / "second", **SETTINGS)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no space")
def test_a_full_disk_is_named_and_no_signal(
    rgb_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write into a mapped file on a full disk would end the process (SIGBUS)."""
    reserved: list[int] = []

    def full(handle: int, offset: int, size: int) -> None:
        reserved.append(offset + size)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataSourceError, match=r"\(No space left on device\).*free space"):
        prepare(find_source(str(rgb_archive), rgb=True), tmp_path / "store", **SETTINGS)
    assert reserved[0] >= 30 * 64 * 64 * 3  # the whole array
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_an_empty_folder_becomes_the_store(rgb_archive: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert len(prepare(find_source(str(rgb_archive), rgb=True), tmp_path / "store", **SETTINGS))


def test_a_source_with_a_long_name(rgb_archive: Path, tmp_path: Path) -> None:
    archive = tmp_path / ("水" * 80 + ".zip")  # 244 bytes
    try:
        archive.write_bytes(rgb_archive.read_bytes())
    except OSError:
        pytest.skip("this file system takes shorter names only")
    assert len(EuroSATDataModule(source=str(archive), root=str(tmp_path / "data")).prepare_store())


def test_the_first_layout_of_a_store_is_read_and_unknown_fields_are_ignored(
    tmp_path: Path,
) -> None:
    source = find_source("synthetic", rgb=True, synthetic_images=120)
    made = prepare(source, tmp_path / "store", **SETTINGS)
    first = json.loads((REPOSITORY / "tests/fixtures/layout-1/store.json").read_text())
    assert first["source_fingerprint"] == source.fingerprint  # the settings mean the same data
    # The last bits of the synthetic pixels differ between versions of NumPy and OpenCV.
    other = {"fingerprint": made.card.fingerprint, "a_later_field": 1}
    file = tmp_path / "store" / "store.json"
    file.write_text(json.dumps(first | other))
    assert prepare(source, tmp_path / "store", **SETTINGS).card == made.card
