"""``eurosat drift`` refuses settings that cannot give a result."""

import pytest

from eurosat.cli import main

REPORT = ["drift", "report", "--reference=model.onnx", "--log=log"]
SERVE = ["drift", "serve", "--reference=model.onnx", "--log=log"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*REPORT, "--window=99"], "--window 99 is too few images to say anything: choose at"),
        ([*REPORT, "--since=yesterday"], "--since is 'yesterday', not a time: write a time"),
        ([*REPORT, "--until=noon"], "--until is 'noon', not a time: write a time"),
        ([*SERVE, "--interval=0"], "--interval and --lookback must be more than 0"),
    ],
)
def test_a_setting_without_a_result_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_an_empty_key_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EUROSAT_API_KEY", "")
    assert main(SERVE) == 2
    assert "EUROSAT_API_KEY is empty" in capsys.readouterr().err
