"""A checkpoint knows its images and their split, so that no training image is tested in silence."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from eurosat.cli import main
from tests.conftest import TINY, Run

SEED = "--data.split_seed=7"


@pytest.fixture(scope="session")
def of_seed_7(train_once: Callable[..., Run]) -> Run:
    return train_once("seed-7", SEED)


def test_a_test_takes_the_split_of_the_checkpoint(
    of_seed_7: Run, run: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    measured = run("test", f"--ckpt_path={of_seed_7.best}", model=())
    assert measured.json("metrics.json") == of_seed_7.json("metrics.json")
    assert measured.json("run.json")["split"] == of_seed_7.json("run.json")["split"]
    assert "the split is that of the checkpoint: --data.split_seed 7" in caplog.text


def test_a_resumed_fit_takes_the_split_of_the_checkpoint(
    of_seed_7: Run, run: Callable[..., Run]
) -> None:
    last = of_seed_7.folder / "checkpoints" / "last.ckpt"
    resumed = run("fit", f"--ckpt_path={last}", "--trainer.max_epochs=2", model=())
    assert resumed.json("run.json")["split"] == of_seed_7.json("run.json")["split"]


@pytest.mark.training
@pytest.mark.parametrize("verb", ["validate", "test", "fit"])
@pytest.mark.parametrize(
    ("option", "what"),
    [
        ("--data.split_seed=8", "another split of these images (--data.split stratified"),
        ("--data.split_fractions=[0.6, 0.2, 0.2]", "another split of these images"),
        ("--data.synthetic_images=121", "other images"),
    ],
)
def test_other_data_are_refused(
    verb: str,
    option: str,
    what: str,
    of_seed_7: Run,
    store_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [verb, *TINY, f"--data.root={store_root}", f"--ckpt_path={of_seed_7.best}"]
    assert main([*arguments, f"--output_root={tmp_path}", option]) == 2
    error = capsys.readouterr().err
    assert f"the checkpoint was trained on {what}" in error
    assert "pass --other_data true" in error
    assert not list(tmp_path.glob("*/*/metrics.json"))


def test_metrics_of_other_data_are_marked(
    of_seed_7: Run, run: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    options = ("--other_data=true", "--report=true")
    measured = run("test", f"--ckpt_path={of_seed_7.best}", *options, model=())
    assert measured.json("run.json")["split"]["seed"] == 42
    assert measured.json("metrics.json")["other_data"] is True
    assert "trained on another split" in caplog.text
    report = (measured.folder / "report.html").read_text()
    assert "test images may be images that it was trained on" in report
    assert "other_data" not in of_seed_7.json("metrics.json")


def test_a_training_that_went_on_with_other_data_stays_marked(
    of_seed_7: Run, run: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    last = of_seed_7.folder / "checkpoints" / "last.ckpt"
    options = ("--other_data=true", "--trainer.max_epochs=2", "--checkpoint.monitor=null")
    mixed = run("fit", f"--ckpt_path={last}", *options, model=())
    assert mixed.json("metrics.json")["other_data"] is True
    caplog.clear()
    measured = run("test", f"--ckpt_path={mixed.best}", model=())
    assert measured.json("run.json")["split"]["seed"] == 42
    assert measured.json("metrics.json")["other_data"] is True
    assert "a part of the checkpoint's training had other images" in caplog.text


def test_an_older_checkpoint_is_tested_with_a_warning(
    of_seed_7: Run, run: Callable[..., Run], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = torch.load(of_seed_7.best, weights_only=True)
    del content["EuroSATDataModule"]
    torch.save(content, tmp_path / "older.ckpt")
    measured = run("test", f"--ckpt_path={tmp_path / 'older.ckpt'}", SEED, model=())
    assert measured.json("metrics.json") == of_seed_7.json("metrics.json")
    assert "does not say which images it was trained on" in caplog.text
