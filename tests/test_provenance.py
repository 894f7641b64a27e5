"""What is recorded of the code's revision."""

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


@pytest.mark.parametrize(("named", "dirty"), [("abc", False), ("abc-dirty", True)])
def test_a_container_image_names_its_revision(
    named: str, dirty: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("EUROSAT_REVISION", named)
    assert provenance.git_state() == provenance.GitState("abc", dirty)
    monkeypatch.setenv("EUROSAT_REVISION", "")
    assert provenance.git_state() is None
