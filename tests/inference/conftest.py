"""Model files as an attacker would write them, and what notices that a file reaches out."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

LAYOUT_1 = REPOSITORY / "tests/fixtures/layout-1/run/checkpoints"
"""Model files of one small network in every format."""


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses that the process has asked for; every connection is refused."""
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")  # which asks for its newest version
    asked: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> None:
        asked.append(arguments)
        raise OSError("this test allows no connection")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    return asked


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that appears when the module ``trap`` is imported."""
    marker = tmp_path / "imported"
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "trap.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\nclass Trap: pass\n"
    )
    monkeypatch.syspath_prepend(folder)
    return marker


def largest_memory() -> int:
    """The largest memory of this process until now, in bytes; skips the test on Windows."""
    resource = pytest.importorskip("resource")
    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


@pytest.fixture
def bounded() -> Iterator[None]:
    """Fail a test that adds 300 MB to the largest memory of the process."""
    before = largest_memory()
    yield
    assert largest_memory() - before < 300e6
