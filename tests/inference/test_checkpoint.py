"""What a checkpoint's card takes from the record of its run."""

import pytest

from eurosat.inference import open_model
from tests.conftest import Run


def test_the_card_has_the_record_of_the_run(trained: Run) -> None:
    record, card = trained.json("run.json"), open_model(trained.best).card
    assert (card.data, card.split, card.git) == (record["data"], record["split"], record["git"])
    assert card.metrics == trained.json("metrics.json")


@pytest.mark.parametrize(
    ("file", "content"),
    [("run.json", '{"status": "fin'), ("run.json", '{"layout": 2}'), ("metrics.json", "[]")],
)
def test_a_record_that_cannot_be_read_is_told(
    file: str, content: str, own_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own_run.folder / file
    path.write_text(content)
    card = open_model(own_run.best).card
    assert card.metrics is None
    assert (card.data is None) is (file == "run.json")
    assert f"warning: {path}" in capsys.readouterr().err
