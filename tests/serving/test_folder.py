"""The service's temporary folder: those of killed services are removed, and no other."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from eurosat.cli import main
from eurosat.errors import EuroSATError
from eurosat.operating_system import WINDOWS
from eurosat.serving import folder as module
from eurosat.serving.folder import service_folder

pytestmark = pytest.mark.skipif(WINDOWS, reason="the service does not run on Windows")

HOLD = (
    "import sys; from eurosat.serving.folder import service_folder\n"
    "with service_folder() as folder:\n"
    "    print(folder, flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files; pytest's own folders have paths too long for sockets."""
    with tempfile.TemporaryDirectory(prefix="eurosat-") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        monkeypatch.setenv("TMPDIR", name)
        yield Path(name)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_is_private_and_goes(temporary: Path) -> None:
    with service_folder() as folder:
        assert folder.parent == temporary
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "metrics").mkdir()
    assert names(temporary) == []


@pytest.mark.process
def test_a_living_service_keeps_its_folder_and_a_killed_one_loses_it(temporary: Path) -> None:
    command = [sys.executable, "-c", HOLD]
    service = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    other = Path(service.stdout.readline().strip())
    with service_folder() as own:
        assert {own, other} == set(temporary.iterdir())
    service.kill()
    service.communicate()
    assert names(temporary) == [other.name]
    with service_folder() as own:
        assert names(temporary) == [own.name]


def test_links_files_and_the_folders_of_others_stay(temporary: Path) -> None:
    target = temporary / "target"
    target.mkdir()
    (target / "kept").touch()
    (temporary / "eurosat-service-link").symlink_to(target)
    (temporary / "eurosat-service-file").touch()
    (temporary / "eurosat-other").mkdir()
    if os.geteuid() == 0:
        (temporary / "eurosat-service-foreign").mkdir()
        os.chown(temporary / "eurosat-service-foreign", 12345, 12345)
    before = names(temporary)
    with service_folder():
        pass
    assert names(temporary) == before
    assert (target / "kept").exists()


def test_a_folder_that_a_sweep_took_before_the_lock_is_made_again(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = tempfile.mkdtemp, []

    def swept(prefix: str) -> str:
        made.append(make(prefix=prefix))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    monkeypatch.setattr(module.tempfile, "mkdtemp", swept)
    with service_folder() as folder:
        assert [folder] == list(temporary.iterdir())
    assert len(made) == 2


def test_a_folder_for_temporary_files_that_cannot_be_used_is_named(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = temporary / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert main(["serve", "model.onnx"]) == 2
    assert "bytes: name a shorter folder in the environment variable TMPDIR" in (
        capsys.readouterr().err
    )
    assert names(long) == []
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "missing"))
    with pytest.raises(EuroSATError, match="cannot make a temporary folder: no such file"):
        service_folder().__enter__()
