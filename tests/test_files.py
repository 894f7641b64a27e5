from pathlib import Path

import pytest

from eurosat.evaluation.tables import read_rows
from eurosat.files import atomic_write, atomic_write_folder, write_csv, write_json


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"b": 1})

    def fail_halfway() -> None:
        with atomic_write(path) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == '{\n  "b": 1\n}\n'
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


def test_a_table_with_names_that_are_not_utf_8_is_read_again(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["file"], [["caf\udce9.jpg"]])
    assert read_rows(tmp_path / "a.csv") == [{"file": "caf\udce9.jpg"}]


def test_csv_cells_with_commas_are_quoted(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["name", "value"], [["x,y", 1]])
    assert (tmp_path / "a.csv").read_text().splitlines() == ["name,value", '"x,y",1']


def test_the_cause_survives_where_a_file_cannot_take_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "new"

    def write() -> None:
        with atomic_write_folder(folder) as partial:
            for name in ("a", "b", "c"):
                (partial / name).write_text("text")
            (folder / "b").mkdir()

    with pytest.raises(IsADirectoryError, match="b"):
        write()
    assert {path.name for path in folder.iterdir()} == {"a", "b"}


def test_several_files_take_their_places_together(tmp_path: Path) -> None:
    folder = tmp_path / "new"

    def write(text: str, *, fail: bool = False) -> None:
        with atomic_write_folder(folder) as partial:
            for name in ("a", "b"):
                (partial / name).write_text(text)
            if fail:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        write("half", fail=True)
    assert not folder.exists()
    write("first")
    (folder / "other").touch()
    with pytest.raises(RuntimeError):
        write("half", fail=True)
    assert (folder / "a").read_text() == (folder / "b").read_text() == "first"
    write("second")
    assert (folder / "a").read_text() == (folder / "b").read_text() == "second"
    assert {path.name for path in folder.iterdir()} == {"a", "b", "other"}
