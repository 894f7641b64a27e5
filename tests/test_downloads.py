"""Downloads from the Hugging Face hub, by the real commands and libraries, from a stand-in hub."""

import hashlib
import io
import multiprocessing
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import pytest
import safetensors.torch
import timm
import torch
import yaml

from eurosat.data.published import HUB_FILES, HUB_REPOSITORY, PublishedArchive
from eurosat.data.store import Store
from eurosat.labels import CLASSES
from tests.conftest import CONFIGS, SMALL_MODEL, TINY, jpeg, write_zip
from tests.hub import Answer, Fault, Repository, StandInHub, recipe_tensors, run_command

COMMIT = "c0ffee" * 6 + "abcd"
OTHER_COMMIT = "beef" * 10
ARCHIVES = f"datasets/{HUB_REPOSITORY}"
ROWS = "datasets/owner/name"
RECIPES = {
    "resnet": ("timm/resnet18.a1_in1k", "layer1.0.conv1.weight"),
    "convnext": ("timm/convnext_atto.d2_in1k", "stages.0.blocks.0.conv_dw.weight"),
    "vit": ("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", "blocks.0.attn.qkv.weight"),
}
"""Repository and a tensor of the weights of each recipe with ``pretrained: true``."""


class HubUser:
    """A process whose hub, by HF_ENDPOINT, is a stand-in on a fixed port."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "hf"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("HF_ENDPOINT", f"http://127.0.0.1:{self.port}")
            environment.setenv("HF_HOME", str(self.home))
            environment.setenv("NO_PROXY", "127.0.0.1")
            environment.setenv("no_proxy", "127.0.0.1")
            self._pool.submit(os.getpid).result()  # starts the process

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._pool.submit(function, *arguments).result()

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture(scope="module")
def hub_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUser]:
    user = HubUser(tmp_path_factory.mktemp("hub"))
    yield user
    user.close()


@pytest.fixture
def hub(hub_user: HubUser) -> Iterator[StandInHub]:
    """A stand-in hub, and an empty cache."""
    shutil.rmtree(hub_user.home, ignore_errors=True)
    with StandInHub(hub_user.port) as hub:
        yield hub


@pytest.fixture(scope="module")
def archives(rgb_archive: Path, ms_archive: Path) -> dict[bool, PublishedArchive]:
    """Descriptions of two small archives in place of the published archives."""
    return {
        rgb: PublishedArchive(COMMIT, HUB_FILES[rgb].file, sha256(archive.read_bytes()))
        for rgb, archive in ((True, rgb_archive), (False, ms_archive))
    }


@pytest.fixture
def published(hub: StandInHub, rgb_archive: Path, ms_archive: Path) -> Repository:
    """The repository of EuroSAT with two small archives."""
    files = {True: rgb_archive.read_bytes(), False: ms_archive.read_bytes()}
    repository = Repository(COMMIT, {HUB_FILES[rgb].file: files[rgb] for rgb in files})
    hub.repositories[ARCHIVES] = repository
    return repository


@pytest.fixture
def prepare(
    hub_user: HubUser, archives: dict[bool, PublishedArchive], tmp_path: Path
) -> Callable[..., Answer]:
    """Run ``eurosat prepare``; after a failure, check that nothing half-written is left."""

    def run(*options: str) -> Answer:
        store = tmp_path / "data" / "store"
        arguments = ["prepare", "--split=all", f"--output={store}", *options]
        answer: Answer = hub_user.call(run_command, arguments, archives)
        if answer.code != 0:
            assert not [path for path in store.parent.iterdir() if path.suffix != ".lock"]
            assert not list(hub_user.home.rglob("*.incomplete"))
            assert not list(hub_user.home.glob("datasets/eurosat-*"))
        return answer

    return run


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def refused(answer: Answer, cause: str, remedy: str) -> None:
    """Check that a command ended with one sentence, the cause before the remedy."""
    sentence = answer.error.strip().splitlines()[-1]
    assert answer.code == 2, answer.error
    assert "Traceback" not in answer.error
    assert cause in sentence.partition(": error: ")[2]
    assert remedy in sentence.partition(cause)[2]


@pytest.mark.parametrize("bands", ["rgb", "all"])
def test_the_published_archives_are_downloaded_once(
    bands: str,
    hub: StandInHub,
    published: Repository,
    prepare: Callable[..., Answer],
    tmp_path: Path,
) -> None:
    file = HUB_FILES[bands == "rgb"].file
    assert prepare(f"--bands={bands}").code == 0
    assert hub.downloads(file) == [None]
    assert Store(tmp_path / "data" / "store").card.images == 30
    shutil.rmtree(tmp_path / "data")
    hub.faults.append(Fault("", 503))  # A commit that has been downloaded needs no hub.
    assert prepare(f"--bands={bands}").code == 0
    assert hub.downloads(file) == [None]


NO_COMMIT = {"X-Error-Code": "RevisionNotFound"}
FAILURES = {
    "token": (Fault("", 401), "(401)", "set HF_TOKEN to a valid token"),
    "rights": (Fault("", 403), "does not permit this (403)", "token that can read"),
    "commit": (Fault("", 404, NO_COMMIT), "no such commit (404)", "correct the commit"),
    "route": (Fault("", 404), "refuses the request (404)", "HF_ENDPOINT"),
    "requests": (Fault("", 429), "than the hub allows (429)", "wait some minutes"),
    "fault": (Fault("", 500), "out of order (500)", "try again later"),
    "later": (Fault("", 503), "out of order (503)", "try again later"),
    "portal": (Fault("", 200), "does not answer as the Hugging Face hub", "correct HF_ENDPOINT"),
}


@pytest.mark.parametrize("source", ["hub", "owner/name"])
@pytest.mark.parametrize("failure", sorted(FAILURES))
def test_what_the_hub_answers_is_told(
    failure: str,
    source: str,
    hub: StandInHub,
    published: Repository,
    prepare: Callable[..., Answer],
) -> None:
    fault, cause, remedy = FAILURES[failure]
    hub.faults.append(fault)
    hub.repositories[ROWS] = published
    answer = prepare(f"--source={source}", f"--revision={COMMIT}")
    refused(answer, cause, remedy)
    assert "check the network" not in answer.error
    if source == "hub":
        assert "download EuroSAT_RGB.zip from zenodo.org/records/7711810" in answer.error
    assert len(hub.requests) < 10
    assert answer.waited < 30


def test_a_repository_or_a_file_that_is_not_there(
    hub: StandInHub, prepare: Callable[..., Answer]
) -> None:
    refused(prepare(), "no such repository, or the repository is private (401)", "HF_TOKEN")
    hub.repositories[ARCHIVES] = Repository(COMMIT, {"README.md": b"moved"})
    answer = prepare("--source=owner/name", f"--revision={COMMIT}")
    refused(answer, "doesn't exist on the Hub", "correct the name")
    refused(prepare("--bands=all"), "no such file at this commit (404)", "EuroSAT_MS.zip")


@pytest.mark.parametrize("status", [401, 403])
def test_access_that_has_not_been_granted(
    status: int, hub: StandInHub, prepare: Callable[..., Answer]
) -> None:
    hub.faults.append(Fault("", status, {"X-Error-Code": "GatedRepo"}))
    refused(prepare(), f"has not granted access ({status})", "ask for access")
    answer = prepare("--source=owner/name", f"--revision={COMMIT}")
    refused(answer, "is a gated dataset", "set HF_TOKEN")


def test_no_connection(hub_user: HubUser, prepare: Callable[..., Answer]) -> None:
    shutil.rmtree(hub_user.home, ignore_errors=True)
    for options in ([], ["--source=owner/name", f"--revision={COMMIT}"]):
        answer = prepare(*options)
        refused(answer, f"http://127.0.0.1:{hub_user.port} cannot be reached", "check the network")
        assert answer.waited < 30


def test_an_interrupted_download_goes_on_where_it_stopped(
    hub: StandInHub,
    prepare: Callable[..., Answer],
    archives: dict[bool, PublishedArchive],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The hub's library writes blocks of 10 MB; what is shorter is fetched again.
    block, file = 10 * 2**20, archives[True].file
    padding = {"2750/notes.txt": bytes(block), "2750/more.txt": bytes(1000)}
    data = write_zip(tmp_path / "large.zip", padding).read_bytes()
    hub.repositories[ARCHIVES] = Repository(COMMIT, {file: data})
    hub.faults.append(Fault("GET .*/resolve/", kept=block + 500, times=1))
    monkeypatch.setitem(archives, True, PublishedArchive(COMMIT, file, sha256(data)))
    refused(prepare(), "holds no images", "give a source")  # after the complete download
    assert hub.downloads(file) == [None, f"bytes={block}-"]


@pytest.mark.parametrize("source", ["hub", "owner/name"])
def test_a_cache_that_cannot_be_written(
    source: str,
    hub: StandInHub,
    hub_user: HubUser,
    published: Repository,
    prepare: Callable[..., Answer],
) -> None:
    hub.repositories[ROWS] = published
    hub_user.home.write_text("a file in place of the folder")
    answer = prepare(f"--source={source}", f"--revision={COMMIT}")
    hub_user.home.unlink()
    refused(answer, f"{hub_user.home}", "HF_HOME")
    assert "cannot be written" in answer.error


def test_a_download_that_always_breaks_off_ends(
    hub: StandInHub, published: Repository, prepare: Callable[..., Answer]
) -> None:
    hub.faults.append(Fault("GET .*/resolve/", kept=1000))
    answer = prepare()
    refused(answer, "broke off", "run the command again")
    assert len(hub.downloads(HUB_FILES[True].file)) < 10
    assert answer.waited < 30


def test_a_file_with_another_checksum_is_refused_until_it_is_deleted(
    hub: StandInHub, published: Repository, prepare: Callable[..., Answer], rgb_archive: Path
) -> None:
    good = rgb_archive.read_bytes()
    published.files = {HUB_FILES[True].file: good[:-1] + b"x"}
    for _ in range(2):
        answer = prepare()
        refused(answer, "is not the published checksum", "delete this file")
    blob = Path(answer.error.partition("checksum of ")[2].partition(" is not")[0])
    blob.unlink()
    published.files = {HUB_FILES[True].file: good}
    assert prepare().code == 0


def test_a_file_that_was_damaged_on_its_way_is_refused_at_any_commit(
    hub: StandInHub, published: Repository, prepare: Callable[..., Answer]
) -> None:
    published.commit = OTHER_COMMIT  # has no published checksum, so the hub's counts
    hub.faults.append(Fault("GET .*/resolve/", flipped=200))
    answer = prepare(f"--revision={OTHER_COMMIT}")
    refused(answer, "is not the published checksum", "delete this file")


@pytest.fixture(scope="session")
def parquet(patches: dict[str, Any]) -> bytes:
    rows = {
        "image": [{"bytes": jpeg(patch), "path": f"{stem}.jpg"} for stem, patch in patches.items()],
        "label": [CLASSES.index(stem.split("_")[0]) for stem in patches],
    }
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=list(CLASSES))
    )
    file = io.BytesIO()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(file)
    return file.getvalue()


@pytest.fixture
def rows(hub: StandInHub, parquet: bytes) -> Repository:
    hub.repositories[ROWS] = Repository(COMMIT, {"data/train-00000-of-00001.parquet": parquet})
    return hub.repositories[ROWS]


def prepared(prepare: Callable[..., Answer], tmp_path: Path) -> Store:
    answer = prepare("--source=owner/name", f"--revision={COMMIT}")
    assert answer.code == 0, answer.error
    return Store(tmp_path / "data" / "store")


@pytest.mark.parametrize("form", ["parquet", "folder", "archives"])
def test_a_data_set_is_read_in_every_form(
    form: str,
    hub: StandInHub,
    rows: Repository,
    prepare: Callable[..., Answer],
    patches: dict[str, Any],
    tmp_path: Path,
) -> None:
    images = {f"{s.split('_')[0]}/{s}.jpg": jpeg(patch) for s, patch in patches.items()}
    if form == "folder":
        rows.files = {f"data/train/{name}": data for name, data in images.items()}
    elif form == "archives":
        rows.files = {}
        for label in CLASSES:
            own = {name: data for name, data in images.items() if name.startswith(label)}
            archive = write_zip(tmp_path / "images.zip", own)
            rows.files[f"train/{label}/images.zip"] = archive.read_bytes()
    store = prepared(prepare, tmp_path)
    assert sorted(store.names) == sorted(images)
    assert set(store.source_splits) == {"train"}


def test_rows_of_another_commit_are_never_taken(
    hub: StandInHub, rows: Repository, prepare: Callable[..., Answer], tmp_path: Path
) -> None:
    prepared(prepare, tmp_path)
    shutil.rmtree(tmp_path / "data")
    hub.faults.append(Fault("", 503))
    answer = prepare("--source=owner/name", f"--revision={OTHER_COMMIT}")
    refused(answer, "out of order (503)", "try again later")


def test_damaged_rows_are_refused(
    hub: StandInHub, rows: Repository, prepare: Callable[..., Answer]
) -> None:
    hub.faults.append(Fault("GET .*parquet", flipped=3000))
    answer = prepare("--source=owner/name", f"--revision={COMMIT}")
    refused(answer, "is not the published checksum", "delete this file")


def test_a_data_set_without_images_is_refused(
    hub: StandInHub, rows: Repository, prepare: Callable[..., Answer]
) -> None:
    rows.files = {"README.md": b"nothing yet"}
    answer = prepare("--source=owner/name", f"--revision={COMMIT}")
    refused(answer, "owner/name cannot be read (EmptyDatasetError", "choose a data set")


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        (
            {"train/metadata.csv": b"file_name,label\na.jpg,Forest\n"},
            "not the images: it lacks",
        ),
        ({"train.csv": b"label\n3\n"}, "has the columns label and lacks image"),
        ({"train/Forest/a.jpg": "Forest_1"}, "has the columns image and lacks label"),
    ],
    ids=["metadata alone", "no images", "one class"],
)
def test_the_column_that_is_missing_is_named(
    files: dict[str, Any],
    cause: str,
    rows: Repository,
    prepare: Callable[..., Answer],
    patches: dict[str, Any],
) -> None:
    rows.files = {
        name: jpeg(patches[data]) if isinstance(data, str) else data for name, data in files.items()
    }
    answer = prepare("--source=owner/name", f"--revision={COMMIT}")
    refused(answer, cause, "choose a data set that has the columns image and label")


def weights(recipe: str) -> tuple[dict[str, torch.Tensor], bytes]:
    """Random weights of a recipe's architecture, in the form in which timm publishes weights."""
    backbone = yaml.safe_load((CONFIGS / f"{recipe}.yaml").read_text())["model"]["backbone"]
    tensors = timm.create_model(backbone).state_dict()
    return tensors, safetensors.torch.save(tensors)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_the_recipes_load_timms_published_weights(
    recipe: str, hub: StandInHub, hub_user: HubUser
) -> None:
    repository, name = RECIPES[recipe]
    tensors, file = weights(recipe)
    hub.repositories[f"models/{repository}"] = Repository(COMMIT, {"model.safetensors": file})
    loaded = hub_user.call(recipe_tensors, str(CONFIGS / f"{recipe}.yaml"))
    assert hub.downloads("model.safetensors") == [None]
    assert loaded[name] == sha256(tensors[name].numpy().tobytes())


def test_every_recipe_with_published_weights_is_tested() -> None:
    models = {
        path.stem: yaml.safe_load(path.read_text())["model"] for path in CONFIGS.glob("*.yaml")
    }
    assert {name for name, model in models.items() if model.get("pretrained")} == set(RECIPES)


def fit(hub_user: HubUser, tmp_path: Path, *options: str) -> Answer:
    arguments = ["fit", *TINY, *SMALL_MODEL, f"--data.root={tmp_path}", f"--output_root={tmp_path}"]
    arguments += ["--model.backbone=resnet18", "--model.backbone_args={}", *options]
    answer: Answer = hub_user.call(run_command, [*arguments, "--model.pretrained=true"], {})
    return answer


@pytest.mark.parametrize("failure", ["fault", "later", "portal", "requests", "token"])
def test_weights_that_cannot_be_downloaded(
    failure: str, hub: StandInHub, hub_user: HubUser, tmp_path: Path
) -> None:
    fault, cause, remedy = FAILURES[failure]
    hub.faults.append(fault)
    answer = fit(hub_user, tmp_path)
    refused(answer, cause, remedy)
    assert "the weights of resnet18 cannot be downloaded" in answer.error
    assert "--model.pretrained <weights file>" in answer.error


def test_damaged_weights_are_refused(hub: StandInHub, hub_user: HubUser, tmp_path: Path) -> None:
    files = {"model.safetensors": weights("convnext")[1]}
    hub.repositories["models/timm/convnext_atto.d2_in1k"] = Repository(COMMIT, files)
    for place in (2, 100_000):  # in the header, which timm notices, and in a tensor
        shutil.rmtree(hub_user.home, ignore_errors=True)
        hub.faults = [Fault("GET .*/resolve/", flipped=place)]
        answer = fit(hub_user, tmp_path, "--model.backbone=convnext_atto")
        refused(answer, "is not the published checksum", "delete this file")


def test_a_model_without_published_weights(hub_user: HubUser, tmp_path: Path) -> None:
    answer = fit(hub_user, tmp_path, "--model.backbone=patchnet")
    refused(answer, "timm publishes no weights of patchnet", "--model.pretrained false")
