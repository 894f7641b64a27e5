"""The run card is read whatever version wrote it, and damage is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from eurosat.errors import RunCardError
from eurosat.run_card import RunCard, RunData, RunSplit, read_run_card
from tests.conftest import Run

FIRST_LAYOUT = Path(__file__).parent / "fixtures" / "layout-1" / "run"


@pytest.fixture
def recorded() -> Any:
    """A run card of the first layout, which has no layout number."""
    return json.loads((FIRST_LAYOUT / "run.json").read_text())


def test_a_card_of_the_first_layout_is_read(recorded: Any) -> None:
    card = read_run_card(FIRST_LAYOUT)
    assert card is not None
    assert "layout" not in recorded
    written = card.to_json()
    assert {name: written[name] for name in recorded} == recorded
    assert card.data is not None
    assert card.data.bands == ("R", "G", "B")
    assert card.split is not None
    assert card.split.fractions == (0.8, 0.1, 0.1)
    assert card.monitor is None


def test_a_run_writes_the_card_that_is_read(trained: Run, recorded: Any) -> None:
    card = read_run_card(trained.folder)
    assert card is not None
    assert card.to_json() == trained.json("run.json")
    assert recorded.keys() <= trained.json("run.json").keys()
    assert (card.monitor, card.mode, card.layout) == ("val/accuracy", "max", 1)


def test_a_folder_without_a_card_has_none(tmp_path: Path) -> None:
    assert read_run_card(tmp_path) is None
    assert read_run_card(tmp_path / "missing") is None


def test_what_is_missing_has_its_default_and_what_is_unknown_is_ignored(
    tmp_path: Path, recorded: Any
) -> None:
    del recorded["split"]["fractions"]
    recorded["hardware"]["fans"] = 3
    unfinished = ("epochs", "best_checkpoint", "wall_seconds", "model", "packages")
    kept = {name: value for name, value in recorded.items() if name not in unfinished}
    (tmp_path / "run.json").write_text(json.dumps(kept | {"layout": 1, "weather": "fair"}))
    card = read_run_card(tmp_path)
    assert card is not None
    assert (card.epochs, card.best_checkpoint, card.model, card.packages) == (None, None, None, {})
    assert card.split is not None
    assert card.split.fractions is None
    assert card.seed == 42


def test_a_card_is_written_as_it_is_read(tmp_path: Path) -> None:
    card = RunCard(
        status="failed: <reason>",
        data=RunData("hub", ("B04",), ("Forest", "River"), 3, "abc"),
        split=RunSplit("stratified", "def", 1, 1, 1, seed=0, fractions=(0.5, 0.25, 0.25)),
    )
    card.write(tmp_path)
    assert read_run_card(tmp_path) == card


def test_a_card_of_a_newer_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"layout": 2, "status": ["a", "new", "type"]}')
    with pytest.raises(RunCardError, match=r"has layout 2, .* up to 1: upgrade eurosat"):
        read_run_card(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": 3}, "Expected `str`, got `int` - at `$.status`"),
        ({"epochs": "two"}, "Expected `int | null`, got `str` - at `$.epochs`"),
        ({"epochs": True}, "Expected `int | null`, got `bool` - at `$.epochs`"),
        ({"seed": 1.5}, "got `float` - at `$.seed`"),
        (
            {"images_per_second": "fast"},
            "Expected `float | null`, got `str` - at `$.images_per_second`",
        ),
        ({"mode": "best"}, "Invalid enum value 'best' - at `$.mode`"),
        ({"data": {"source": "hub"}}, "missing required field `bands` - at `$.data`"),
        ({"git": "abc"}, "got `str` - at `$.git`"),
        ({"packages": {"torch": 2}}, "got `int` - at `$.packages[...]`"),
        ({"layout": "two"}, "Expected `int`, got `str` - at `$.layout`"),
    ],
)
def test_a_value_of_another_type_is_named(
    change: dict[str, Any], reason: str, tmp_path: Path, recorded: Any
) -> None:
    (tmp_path / "run.json").write_text(json.dumps(recorded | change))
    with pytest.raises(RunCardError) as refused:
        read_run_card(tmp_path)
    assert f"{tmp_path / 'run.json'} is damaged" in str(refused.value)
    assert reason in str(refused.value)


@pytest.mark.parametrize("text", ["", "[]", '{"status": "fin', "\x80"])
def test_a_file_that_is_no_card_is_damaged(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RunCardError, match="is damaged"):
        read_run_card(tmp_path)
