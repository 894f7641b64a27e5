"""The store: decoded once, whole or not at all, whoever asks and whoever dies."""

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

from eurosat.data.sources import Listing, Source, find_source
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


def test_a_complete_data_set_with_other_contents_is_refused_unless_asked_for(
    tmp_path: Path, patches: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = dict.fromkeys(CLASSES, 2)  # rather than 27,000 images
    monkeypatch.setattr("eurosat.data.published.IMAGES_PER_CLASS", complete)
    data = jpeg(patches["Forest_1"][:8, :8])
    files = {
        f"EuroSAT_RGB/{name}/{name}_{number}.jpg": data
        for name, count in complete.items()
        for number in range(1, count + 1)
    }
    source = find_source(str(write_zip(tmp_path / "a.zip", files)), rgb=True)
    with pytest.raises(DataSourceError, match=r"not the published contents.*--data.verify false"):
        prepare(source, tmp_path / "data" / "store", **SETTINGS)
    assert (
        prepare(source, tmp_path / "data" / "store", **SETTINGS | {"verify": False}).card.verified
        is False
    )


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
