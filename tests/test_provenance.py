"""What is recorded of the code's revision."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from eurosat import provenance

pytestmark = pytest.mark.process


def test_the_revision_is_that_of_the_package_and_not_of_a_repository_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True)

    installed = tmp_path / "venv" / "provenance.py"
    installed.parent.mkdir()
    shutil.copy(provenance.__file__, installed)
    (tmp_path / "other.txt").write_text("of another project")
    git("init", "--quiet")
    git("add", "other.txt")
    git("commit", "--quiet", "--message=Another project")
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert provenance.git_state() is None
    git("add", "venv")
    git("commit", "--quiet", "--message=With the package")
    state = provenance.git_state()
    assert state is not None
    assert state.dirty is False


@pytest.fixture
def uncommitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that holds the package and has no commit."""
    module = tmp_path / "checkout" / "provenance.py"
    module.parent.mkdir()
    shutil.copy(provenance.__file__, module)
    for command in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", "-C", str(module.parent), *command], check=True)
    monkeypatch.setattr(provenance, "__file__", str(module))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("EUROSAT_REVISION", raising=False)
    return module.parent


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}, "--add safe.directory {checkout}"),
        ({"PATH": "/nowhere"}, "No such file or directory: 'git'"),
        ({}, "unknown revision"),  # there is no commit
    ],
    ids=["another owner", "no git", "no commit"],
)
def test_a_revision_that_git_does_not_give_is_explained(
    variables: dict[str, str],
    words: str,
    uncommitted: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert provenance.git_state() is None
    (record,) = caplog.records
    assert "the revision of the code is not recorded, because git fails" in record.message
    assert words.format(checkout=uncommitted) in record.message
    monkeypatch.setenv("EUROSAT_REVISION", "abc")
    assert provenance.git_state() == provenance.GitState("abc", dirty=False)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("named", "dirty"), [("abc", False), ("abc-dirty", True)])
def test_a_container_image_names_its_revision(
    named: str, dirty: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("EUROSAT_REVISION", named)
    assert provenance.git_state() == provenance.GitState("abc", dirty)
    monkeypatch.setenv("EUROSAT_REVISION", "")
    assert provenance.git_state() is None
