"""Settings of the data: one list, from the data module's signature."""

import re

import pytest

from eurosat.cli import main
from eurosat.data.settings import IMAGES, data_settings


def test_prepare_teaches_every_setting_of_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    shown = capsys.readouterr().out
    own = {"output", "settings", "config", "print_config"}
    assert set(re.findall(r"^  --(\w+)", shown, re.M)) == {*data_settings(), *own}
    assert "Commit of the hub data set" in " ".join(shown.split())
    assert set(IMAGES) < set(data_settings())
