"""`eurosat promote` and `eurosat serve registry:...`, on real repositories."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eurosat.cli import main
from eurosat.errors import RegistryError
from eurosat.inference.runtime import open_model
from eurosat.registry.find import find_model
from tests.pipeline import Checkout, gcs_emulator, gcs_environment, impatience
from tests.registry.conftest import MODEL, change_model, promote_openvino, refused, tags


def test_a_model_goes_through_the_stages(
    repository: Checkout,
    model_files: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["promote", MODEL]) == 0
    assert "eurosat v0.0.1, now in staging" in capsys.readouterr().out
    assert main(["promote", "registry:staging", "--stage=production"]) == 0
    assert tags(repository) == {"eurosat@v0.0.1", "eurosat#staging#1", "eurosat#production#2"}

    change_model(repository, model_files)
    assert main(["promote", MODEL, "--version=v1.0.0"]) == 0
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    new = find_model("registry:staging", tmp_path / "new")
    old = find_model("registry:production", tmp_path / "old")
    assert new.read_bytes() == (repository.folder / MODEL).read_bytes()
    assert old.read_bytes() == model_files["onnx"].read_bytes() != new.read_bytes()
    assert find_model("registry:v0.0.1", tmp_path / "old").read_bytes() == (old.read_bytes())

    # Faster than a second, which is all that a tag's time tells.
    for version in ("v1.0.0", "v0.0.1", "v1.0.0"):
        assert main(["promote", f"registry:{version}", "--stage=production"]) == 0
    # The older file is still known, whatever HEAD has: production goes back to it and forth.
    assert main(["promote", "registry:v0.0.1", "--stage=production"]) == 0
    (tmp_path / "back").mkdir()
    back = find_model("registry:eurosat@production", tmp_path / "back")
    assert back.read_bytes() == old.read_bytes()


def test_the_version_says_what_it_is(repository: Checkout) -> None:
    assert main(["promote", MODEL]) == 0
    message = repository.run("git", "tag", "--list", "eurosat@v0.0.1", "--format=%(contents)")
    card = open_model(repository.folder / MODEL).card
    assert card.metrics is not None
    accuracy = f"{card.metrics['accuracy']:.2%}"
    assert message.strip() == (
        f"{card.version}, test accuracy {accuracy}, trained on synthetic data"
    )


def test_the_gate_compares_with_what_is_in_production(
    repository: Checkout, store_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = ["gate", MODEL, "--against=registry:production", "--source=synthetic", "--threads=1"]
    gate += [f"--root={store_root}", "--severities=[3]", "--max_latency_ratio=.inf"]
    assert "registry:eurosat@production does not exist" in refused(gate, capsys)
    assert main(["promote", MODEL, "--stage=production"]) == 0
    assert main(gate) == 0
    output = repository.folder / "outputs/gate"
    found = json.loads((output / "gate.json").read_text())
    assert found["candidate"]["place"] == MODEL
    assert found["baseline"]["place"] == "registry:production"
    version = found["baseline"]["version"]
    assert version == open_model(repository.folder / MODEL).card.version
    for report in ("gate.md", "gate.html"):
        assert f"registry:production (version {version}" in (output / report).read_text()
    assert f"registry:production (version {version}" in capsys.readouterr().out


def test_both_files_of_an_openvino_model_are_registered(
    repository: Checkout, model_files: dict[str, Path], tmp_path: Path
) -> None:
    promote_openvino(repository, model_files)
    (tmp_path / "fetched").mkdir()
    path = find_model("registry:staging", tmp_path / "fetched")
    patches = np.zeros((2, 3, 64, 64), dtype=np.uint8)
    expected = open_model(model_files["openvino"]).predict(patches)
    np.testing.assert_array_equal(open_model(path).predict(patches), expected)


def test_a_dirty_tree_is_refused(repository: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    with (repository.folder / "dvc.yaml").open("a") as file:
        file.write("# a change\n")
    error = refused(["promote", MODEL], capsys)
    assert "has uncommitted changes (dvc.yaml): commit them" in error
    repository.run("git", "mv", "dvc.yaml", "größe.yaml")
    assert "größe.yaml): commit them" in refused(["promote", MODEL], capsys)
    assert tags(repository) == set()


def test_a_repository_without_a_commit_is_named(
    repository: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.run("git", "checkout", "--quiet", "--orphan", "empty")
    error = refused(["promote", MODEL], capsys)
    assert "does not have any commits yet): commit the code, dvc.yaml and the model" in error


def test_a_file_that_dvc_does_not_keep_is_refused(
    repository: Checkout, model_files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(model_files["onnx"], "models/other.onnx")
    error = refused(["promote", "models/other.onnx"], capsys)
    assert "DVC does not track models/other.onnx at HEAD" in error
    repository.run("dvc", "add", "models/other.onnx")
    repository.commit()
    error = refused(["promote", "models/other.onnx"], capsys)
    assert "HEAD's dvc.yaml declares no artifact with the path models/other.onnx" in error
    assert tags(repository) == set()


def test_a_declaration_that_is_not_committed_does_not_count(
    repository: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.run("git", "rm", "--quiet", "--cached", "dvc.yaml")
    repository.run("git", "commit", "--quiet", "--message", "dvc.yaml forgotten")
    error = refused(["promote", MODEL], capsys)
    assert f"HEAD's dvc.yaml declares no artifact with the path {MODEL}" in error
    assert tags(repository) == set()


def test_a_file_that_is_not_the_committed_one_is_refused(
    repository: Checkout, model_files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    proto = onnx.load(MODEL)
    onnx.helper.set_model_props(
        proto, {"eurosat": open_model(Path(MODEL)).card.to_json(), "note": "changed"}
    )
    Path(MODEL).unlink()
    onnx.save(proto, MODEL)
    assert "differs from the file of HEAD's" in refused(["promote", MODEL], capsys)
    Path(MODEL).write_bytes(b"not a model")
    assert "damaged, not an ONNX model" in refused(["promote", MODEL], capsys)
    assert tags(repository) == set()


def test_versions_and_stages_are_not_given_twice(
    repository: Checkout, model_files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["promote", MODEL, "--version=v0.1.0"]) == 0
    before = tags(repository)
    assert "eurosat v0.1.0 is in staging already" in refused(["promote", MODEL], capsys)
    error = refused(["promote", MODEL, "--stage=production", "--version=v0.2.0"], capsys)
    assert "is eurosat v0.1.0 already: remove --version" in error
    change_model(repository, model_files)
    assert "v0.1.0" in refused(["promote", MODEL, "--version=v0.1.0"], capsys)
    assert "one" in refused(["promote", MODEL, "--version=one"], capsys)
    assert tags(repository) == before


@pytest.mark.parametrize("version", ["v1.0.0-rc1", "v2", "staging"])
def test_a_version_that_no_reference_reaches_is_refused(
    version: str, repository: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(["promote", MODEL, f"--version={version}"], capsys)
    assert f"no reference could name eurosat {version}" in error
    assert tags(repository) == set()


def test_a_stage_that_cannot_be_assigned_takes_the_version_back(
    repository: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    # Tags are files: a folder in the way of the second one lets it fail after the first.
    repository.run("git", "tag", "eurosat#staging#1/in-the-way")
    assert "eurosat promote: error:" in refused(["promote", MODEL], capsys)
    assert tags(repository) == {"eurosat#staging#1/in-the-way"}


def test_outside_of_a_repository(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model_files: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("EUROSAT_REGISTRY", raising=False)
    error = refused(["promote", str(model_files["onnx"])], capsys)
    assert "not a git repository" in error
    assert error.strip().endswith("repository of the registry")  # promote reads no EUROSAT_REGISTRY
    error = refused(["serve", "registry:production"], capsys)
    assert "not a git repository" in error
    assert "git repository of the registry, or set EUROSAT_REGISTRY" in error
    Checkout(tmp_path).run("git", "init", "--quiet")
    assert "run `dvc init`" in refused(["promote", str(model_files["onnx"])], capsys)


@pytest.mark.process
@pytest.mark.parametrize("place", ["/nowhere", "ssh://127.0.0.1:9/registry.git"])
def test_a_registry_that_cannot_be_opened_is_named(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EUROSAT_REGISTRY", place)
    error = refused(["serve", "registry:production"], capsys)
    assert f"the registry {place} cannot be opened" in error
    assert "check the path or address in EUROSAT_REGISTRY" in error


def test_without_git(repository: Checkout) -> None:
    eurosat = str(Path(sys.executable).with_name("eurosat"))
    without = Checkout(repository.folder, {"PATH": "/nowhere"})
    for arguments in (["promote", MODEL], ["serve", "registry:production"]):
        output = without.run(eurosat, *arguments, code=2)
        assert "git is not installed, and the registry is a git repository" in output
        assert "Traceback" not in output


def test_a_repository_of_another_user_is_named(
    repository: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    error = refused(["promote", MODEL], capsys)
    assert "detected dubious ownership" in error
    assert f"run `git config --global --add safe.directory {repository.folder}`" in error


def test_a_registered_model_that_is_no_longer_declared_is_named(
    repository: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository.folder / "dvc.yaml").write_text("artifacts: {}\n")
    repository.commit()
    repository.run("gto", "register", "eurosat", "--version=v1.0.0")
    error = refused(["serve", "registry:v1.0.0"], capsys)
    assert "declares no artifact eurosat: declare the model under `artifacts:`" in error


def test_what_is_not_registered_is_named(
    repository: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(["serve", "registry:production"], capsys)
    assert "registry:eurosat@production does not exist" in error
    assert "has no version of this model" in error
    assert main(["promote", MODEL]) == 0
    capsys.readouterr()
    assert "has v0.0.1 (staging)" in refused(["serve", "registry:production"], capsys)
    assert "registry:other@staging does not exist" in refused(
        ["serve", "registry:other@staging"], capsys
    )
    assert "names no registered model" in refused(["serve", "registry:canary"], capsys)


def test_a_version_whose_file_is_in_git_is_named(
    repository: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.run("dvc", "remove", "models/eurosat.onnx.dvc")
    repository.run("git", "add", "--force", MODEL)
    repository.commit()
    repository.run("gto", "register", "eurosat", "--version=v1.0.0")
    error = refused(["serve", "registry:v1.0.0"], capsys)
    assert "DVC does not track models/eurosat.onnx of registry:eurosat@v1.0.0" in error


def test_a_damaged_or_missing_file_is_not_served(repository: Checkout, tmp_path: Path) -> None:
    assert main(["promote", MODEL]) == 0
    (tmp_path / "fetched").mkdir()
    (cached,) = (path for path in Path(".dvc/cache/files").rglob("*") if path.is_file())
    good = cached.read_bytes()
    cached.chmod(0o644)
    cached.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(RegistryError, match=r"is damaged: its MD5 is not"):
        find_model("registry:staging", tmp_path / "fetched")
    assert list((tmp_path / "fetched").iterdir()) == []
    cached.unlink()
    with gcs_emulator("another") as environment:
        here = Checkout(repository.folder, environment)
        output = here.run("eurosat", "serve", "registry:staging", code=2)
    assert "neither in DVC's cache nor on its remote" in output
    nowhere = {**gcs_environment(9), **impatience(tmp_path / "impatience")}  # nothing listens there
    here = Checkout(repository.folder, nowhere)
    output = here.run("eurosat", "serve", "registry:staging", code=2)
    assert "neither in DVC's cache nor on its remote" in output
    assert "your rights to it" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([MODEL, "--registry=wandb", "--version=v1.0.0"], "remove --version and --push"),
        (["wandb:staging", "--push=true"], "remove --version and --push"),
        (["registry:staging", "--registry=wandb"], "is not in the registry 'wandb'"),
        (["wandb:staging", "--registry=git"], "is not in the registry 'git'"),
    ],
)
def test_options_of_the_other_registry_are_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(["promote", *arguments], capsys)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WANDB_MODE": "offline"}, "needs W&B online"),
        ({}, "needs an account: run 'wandb login'"),
        ({"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}, "is unreachable"),
    ],
)
@pytest.mark.parametrize("command", ["promote", "serve"])
def test_the_wandb_registry_without_wandb(
    environment: dict[str, str],
    message: str,
    command: str,
    tmp_path: Path,
    model_files: dict[str, Path],
) -> None:
    arguments = {
        "promote": ["promote", str(model_files["onnx"]), "--registry=wandb"],
        "serve": ["serve", "wandb:production"],
    }[command]
    nobody = {"HOME": str(tmp_path), "WANDB_MODE": "online", "WANDB_API_KEY": ""}
    output = Checkout(tmp_path, nobody | environment).run("eurosat", *arguments, code=2)
    assert message in output
    assert "Traceback" not in output


@pytest.mark.process
def test_the_registry_leaves_the_handlers_of_logging_open() -> None:
    code = (
        "import logging, sys\n"
        "class Closing(logging.StreamHandler):\n"
        "    def close(self):\n"
        "        print('closed', flush=True)\n"
        "handler = Closing()\n"
        "import eurosat.registry.git\n"
        "print('imported', flush=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.split()[0] == "imported", ended.stderr
