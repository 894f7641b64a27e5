"""A runtime that crashes on a new file is named, and does not end the export."""

from pathlib import Path

import pytest

from eurosat.errors import ExportError
from eurosat.export import probe


@pytest.mark.process
@pytest.mark.parametrize(
    "body", ["pass", "raise ValueError"], ids=["answers", "fails as Python does"]
)
def test_a_file_that_answers_or_has_an_error_of_its_own(
    body: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(probe, "_OPEN", body)
    probe.check_opens(tmp_path / "model.xml")


@pytest.mark.process
def test_a_crash_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probe, "_OPEN", "import os; os.kill(os.getpid(), 11)")
    with pytest.raises(ExportError, match=r"crashes on this machine \(exit code -11\): if the CPU"):
        probe.check_opens(tmp_path / "model.xml")
