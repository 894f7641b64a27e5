"""A registry whose DVC repository is a folder of a git repository (``dvc init --subdir``)."""

import json
import shutil
from pathlib import Path

import pytest

from eurosat.cli import main
from eurosat.errors import RegistryError
from eurosat.registry.find import find_model
from tests.pipeline import Checkout
from tests.registry.conftest import MODEL, refused, tags

FOLDER = "ml/land"


@pytest.fixture
def subfolder(
    template: Path, repository: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Checkout:
    """A DVC repository in a folder of a git repository with another one beside it."""
    for folder in (FOLDER, "other"):
        part = Checkout(tmp_path / "repository" / folder)
        part.folder.mkdir(parents=True)
        part.run("dvc", "init", "--quiet", "--subdir")
        part.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
        (part.folder / "models").mkdir()
        shutil.copy(template / MODEL, part.folder / MODEL)
        shutil.copy(template / "dvc.yaml", part.folder)
        part.run("dvc", "add", MODEL)
    repository.run("git", "rm", "-r", "--quiet", "--cached", ".dvc", "dvc.yaml")
    shutil.rmtree(repository.folder / ".dvc")
    (repository.folder / "dvc.yaml").unlink()
    repository.commit()
    repository.run("git", "push", "--quiet", "origin", "main")
    monkeypatch.chdir(repository.folder / FOLDER)
    return Checkout(repository.folder / FOLDER)


def fetched(reference: str, folder: Path) -> bytes:
    folder.mkdir()
    return find_model(reference, folder).read_bytes()


def test_a_model_is_promoted_shared_and_served(
    subfolder: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (subfolder.folder / MODEL).read_bytes()
    assert main(["promote", MODEL]) == 0
    monkeypatch.chdir(subfolder.folder / "models")
    assert main(["promote", Path(MODEL).name, "--push=true"]) == 0
    assert main(["promote", "registry:staging", "--stage=production", "--push=true"]) == 0
    registered = {f"{FOLDER}=eurosat{end}" for end in ("@v0.0.1", "#staging#1", "#production#2")}
    assert tags(subfolder) == registered
    assert fetched("registry:production", tmp_path / "here") == content

    monkeypatch.chdir(tmp_path)
    for number, place in enumerate((f"origin.git#{FOLDER}", f"repository/{FOLDER}")):
        monkeypatch.setenv("EUROSAT_REGISTRY", str(tmp_path / place))
        assert fetched("registry:production", tmp_path / str(number)) == content
    monkeypatch.setenv("EUROSAT_REGISTRY", str(tmp_path / "repository/other"))
    with pytest.raises(RegistryError, match="repository#other has no version of this model"):
        find_model("registry:production", tmp_path)


def test_equal_names_in_two_folders_do_not_meet(
    subfolder: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["promote", MODEL]) == 0
    monkeypatch.chdir(subfolder.folder.parents[1] / "other")
    assert "no version of this model" in refused(["promote", "registry:staging"], capsys)
    assert main(["promote", MODEL]) == 0
    assert {"other=eurosat@v0.0.1", f"{FOLDER}=eurosat@v0.0.1"} <= tags(subfolder)
    outside = str(subfolder.folder / MODEL)
    assert "lies outside of the DVC repository" in refused(["promote", outside], capsys)


def test_the_gate_compares_with_what_is_in_production(
    subfolder: Checkout, store_root: Path
) -> None:
    assert main(["promote", MODEL, "--stage=production"]) == 0
    gate = ["gate", MODEL, "--against=registry:production", "--source=synthetic", "--threads=1"]
    gate += [f"--root={store_root}", "--severities=[3]", "--max_latency_ratio=.inf"]
    assert main(gate) == 0
    found = json.loads((subfolder.folder / "outputs/gate/gate.json").read_text())
    assert found["baseline"]["md5"] == found["candidate"]["md5"]
