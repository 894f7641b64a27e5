"""The make targets that CI runs on the registry: `deploy`, `check-data` and `check-release`."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml

from eurosat.cli import main
from tests.conftest import REPOSITORY
from tests.pipeline import Checkout
from tests.registry.conftest import MODEL, promote_openvino

pytestmark = pytest.mark.process

VARIABLES = {
    "GCP_PROJECT": "my-project",
    "GCP_REGION": "europe-west4",
    "GCP_IMAGES": "example.org/my-project/images",
    "GCP_SIDECAR": "example.org/sidecar:1",
    "GCP_RUN_ACCOUNT": "runner@example.org",
}


def make(checkout: Checkout, *arguments: str, code: int = 0) -> str:
    """Call make in another repository, with the environment of the tests and no installation."""
    tools = ("make", f"--file={REPOSITORY / 'Makefile'}", f"VENV={sys.prefix}")
    return checkout.run(*tools, f"--assume-old={sys.prefix}/.dev", *arguments, code=code)


@pytest.fixture
def gcloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gcloud that notes its arguments, one a line, and the variables of the repository."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "gcloud"
    command.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"{tmp_path}/calls"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return tmp_path / "calls"


def test_the_tag_of_a_stage_deploys_the_model(repository: Checkout, gcloud: Path) -> None:
    assert main(["promote", MODEL]) == 0
    assert main(["promote", "registry:staging", "--stage=production"]) == 0
    make(repository, "deploy", "TAG=eurosat#production#2")
    (fetched,) = (repository.folder / "outputs/registered").iterdir()
    assert fetched.read_bytes() == (repository.folder / MODEL).read_bytes()
    arguments = gcloud.read_text(encoding="utf-8").splitlines()
    assert arguments[:2] == ["builds", "submit"]
    given = dict(part.split("=") for part in arguments[-1].split(","))
    assert given == {
        "_IMAGE": "example.org/my-project/images/eurosat-serve:eurosat-production-2",
        "_SIDECAR": VARIABLES["GCP_SIDECAR"],
        "_ACCOUNT": VARIABLES["GCP_RUN_ACCOUNT"],
        "_REGION": VARIABLES["GCP_REGION"],
        "_MODEL": "outputs/registered",
        "_BACKEND": "onnx",
    }
    known = yaml.safe_load((REPOSITORY / "deploy/cloudrun/cloudbuild.yaml").read_text())
    assert given.keys() <= known["substitutions"].keys()


def test_an_openvino_model_is_deployed_with_its_backend(
    repository: Checkout, model_files: dict[str, Path], gcloud: Path
) -> None:
    promote_openvino(repository, model_files)
    make(repository, "deploy", "TAG=eurosat#staging#1")
    assert "_BACKEND=openvino" in gcloud.read_text(encoding="utf-8")


def test_what_is_not_the_newest_tag_of_a_stage_is_not_deployed(
    repository: Checkout, gcloud: Path
) -> None:
    assert "eurosat@v0.0.1 is no tag of a stage" in make(
        repository, "deploy", "TAG=eurosat@v0.0.1", code=2
    )
    missing = make(repository, "deploy", "TAG=eurosat#staging#1", code=2)
    assert "none is in this clone" in missing
    for number in range(1, 11):
        repository.run("git", "tag", f"eurosat#staging#{number}")
    older = make(repository, "deploy", "TAG=eurosat#staging#9", code=2)
    assert "not the stage's newest tag (eurosat#staging#10)" in older
    assert not gcloud.exists()


def test_a_deployment_names_the_variable_that_is_missing(
    repository: Checkout, gcloud: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GCP_SIDECAR")
    shown = make(repository, "deploy", "TAG=eurosat#staging#1", code=2)
    assert "make deploy needs GCP_SIDECAR" in shown


def test_changed_data_must_be_prepared_and_pushed(repository: Checkout, tmp_path: Path) -> None:
    repository.run("dvc", "remote", "add", "--force", "--default", "storage", str(tmp_path / "far"))
    (repository.folder / ".gitignore").write_text("outputs\n")
    prepare = "python -m eurosat prepare --source synthetic --output data/prepared"
    stage = {"cmd": f"{prepare} --synthetic_images 300", "deps": ["source"]}
    pipeline = {"stages": {"prepare": stage | {"outs": ["data/prepared"]}}}
    (repository.folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    (repository.folder / "source").write_text("first")
    repository.run("dvc", "repro", "prepare")
    repository.commit("Data")

    def forget() -> None:
        shutil.rmtree(repository.folder / ".dvc/cache")
        shutil.rmtree(repository.folder / "data")

    repository.run("dvc", "push", "data/prepared")
    forget()
    assert "300" in make(repository, "check-data")

    (repository.folder / "source").write_text("second")
    assert "is not made of the committed sources" in make(repository, "check-data", code=2)

    repository.run("git", "restore", "source")
    forget()
    shutil.rmtree(tmp_path / "far")
    assert "data/prepared" in make(repository, "check-data", code=2)


def test_a_release_has_the_version_of_its_tag_and_a_section_of_the_changelog(
    tmp_path: Path,
) -> None:
    folder = Checkout(tmp_path)
    (tmp_path / "pyproject.toml").write_text('version = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("## [Unreleased]\n")
    assert "make check-release needs TAG" in make(folder, "check-release", code=2)
    shown = make(folder, "check-release", "TAG=v1.2.1", code=2)
    assert "the tag is v1.2.1, and the version in pyproject.toml is 1.2.0" in shown
    assert "no section [1.2.0]" in make(folder, "check-release", "TAG=v1.2.0", code=2)
    (tmp_path / "CHANGELOG.md").write_text("## [Unreleased]\n\n## [1.2.0] - 2030-01-01\n")
    make(folder, "check-release", "TAG=v1.2.0")
