"""Loggers other than W&B's: what a run sends them, read back from their own files."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from eurosat.cli import main
from tests.conftest import CONFIGS, SMALL_MODEL, TINY, Run, files_in

TENSORBOARD = f"--config={CONFIGS / 'logger' / 'tensorboard.yaml'}"
MLFLOW = f"--config={CONFIGS / 'logger' / 'mlflow.yaml'}"
LIGHTNING = "lightning.pytorch.loggers"


def events_in(folder: Path) -> Any:
    """What TensorBoard reads from a folder of event files."""
    module = "tensorboard.backend.event_processing.event_accumulator"
    accumulator = pytest.importorskip(module, reason="needs tensorboard").EventAccumulator(
        str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}
    )
    return accumulator.Reload()


def stored_run(store: Path) -> tuple[Any, Any]:
    """MLflow's client of a store of files, and the only run in it."""
    tracking = pytest.importorskip("mlflow.tracking", reason="needs mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # as docs/howto/track.md says
        client = tracking.MlflowClient(store.as_uri())
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    return client, run


@pytest.fixture(scope="session")
def on_tensorboard(train_once: Callable[..., Run]) -> Run:
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    return train_once("on_tensorboard", TENSORBOARD, "--experiment=tiny")


@pytest.fixture(scope="session")
def on_mlflow(train_once: Callable[..., Run]) -> Run:
    pytest.importorskip("mlflow", reason="needs mlflow")
    log_model = "--trainer.logger.init_args.log_model=true"
    return train_once("on_mlflow", MLFLOW, log_model, "--experiment=tiny")


def test_tensorboard_shows_the_metrics(on_tensorboard: Run) -> None:
    events = events_in(on_tensorboard.folder / "tensorboard")
    scalars = set(events.Tags()["scalars"])
    assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy"} <= scalars
    accuracy = on_tensorboard.json("metrics.json")["accuracy"]
    for event in events.Scalars("test/accuracy"):
        assert event.value == pytest.approx(accuracy)


def test_tensorboard_shows_the_test(on_tensorboard: Run) -> None:
    events = events_in(on_tensorboard.folder / "tensorboard")
    images = set(events.Tags()["images"])
    assert "test/confusion_matrix" in images
    samples = images - {"test/confusion_matrix"}
    assert samples
    for tag in samples:
        (image,) = events.Images(tag)
        assert (image.width, image.height) == (64, 64)
    (table,) = events.Tensors("test/samples/text_summary")
    text = table.tensor_proto.string_val[0].decode()
    assert text.count("\n") == len(samples) + 1
    assert all(tag.rpartition(", ")[2] in text for tag in samples)


def test_tensorboard_has_all_settings_beside_the_metrics_of_the_test(on_tensorboard: Run) -> None:
    events = events_in(on_tensorboard.folder / "tensorboard")
    plugin = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    content = plugin.HParamsPluginData()
    content.ParseFromString(
        events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    )
    settings = content.session_start_info.hparams
    assert settings["model/backbone"].string_value == "patchnet"
    assert settings["seed_everything"].number_value == 42
    fingerprint = on_tensorboard.json("run.json")["data"]["fingerprint"]
    assert settings["record/data/fingerprint"].string_value == fingerprint
    content.ParseFromString(events.SummaryMetadata("_hparams_/experiment").plugin_data.content)
    assert "test/accuracy" in {each.name.tag for each in content.experiment.metric_infos}
    last = events.Tensors("hyperparameters/text_summary")[-1].tensor_proto.string_val[0].decode()
    shown = yaml.safe_load("\n".join(line[4:] for line in last.splitlines()))
    config = yaml.safe_load((on_tensorboard.folder / "config.yaml").read_text())
    assert shown["trainer"] == config["trainer"]


def test_mlflow_has_the_metrics_and_the_settings(on_mlflow: Run) -> None:
    _, run = stored_run(on_mlflow.folder / "mlruns")
    assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy"} <= set(run.data.metrics)
    accuracy = on_mlflow.json("metrics.json")["accuracy"]
    assert run.data.metrics["test/accuracy"] == pytest.approx(accuracy)
    assert run.data.params["model/backbone"] == "patchnet"
    fingerprint = on_mlflow.json("run.json")["data"]["fingerprint"]
    assert run.data.params["record/data/fingerprint"] == fingerprint
    assert run.data.tags["status"] == "finished"
    assert run.data.tags["run_folder"].endswith(on_mlflow.folder.name)
    assert run.info.status == "FINISHED"


def test_mlflow_has_the_test_the_record_and_the_checkpoint(on_mlflow: Run, tmp_path: Path) -> None:
    client, run = stored_run(on_mlflow.folder / "mlruns")
    folder = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
    assert {"config.yaml", "run.json", "metrics.json"} <= files_in(folder)
    for name in ("config.yaml", "metrics.json"):
        assert (folder / name).read_bytes() == (on_mlflow.folder / name).read_bytes()
    assert files_in(folder / "model") == {on_mlflow.best.name}
    assert (folder / "test" / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    header, *rows = (folder / "test" / "samples.csv").read_text().splitlines()
    assert header.startswith("picture,file,label,predicted,confidence,")
    assert {row.partition(",")[0] for row in rows} == files_in(folder / "test" / "samples")


@pytest.mark.parametrize(
    ("callback", "state", "status"),
    [("Interrupted", "KILLED", "interrupted"), ("Fails", "FAILED", "failed: ")],
)
@pytest.mark.slow
def test_mlflow_hears_how_a_run_ended(
    callback: str,
    state: str,
    status: str,
    store_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("mlflow", reason="needs mlflow")
    monkeypatch.chdir(tmp_path)
    arguments = ["fit", *TINY, *SMALL_MODEL, f"--data.root={store_root}", MLFLOW]
    with pytest.raises((SystemExit, ValueError)):
        main([*arguments, f"--trainer.callbacks=tests.breaking.{callback}"])
    (store,) = tmp_path.glob("outputs/*/*/mlruns")
    _, run = stored_run(store)
    assert run.info.status == state
    assert run.data.tags["status"].startswith(status)


@pytest.mark.training
def test_mlflow_hears_that_no_validation_took_place(
    store_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="needs mlflow")
    monkeypatch.chdir(tmp_path)
    arguments = ["fit", *TINY, *SMALL_MODEL, f"--data.root={store_root}", MLFLOW]
    assert main([*arguments, "--trainer.check_val_every_n_epoch=2"]) == 2
    (store,) = tmp_path.glob("outputs/*/*/mlruns")
    _, run = stored_run(store)
    assert run.info.status == "FAILED"


def test_loggers_of_lightning_save_into_the_run_folder_unless_told_otherwise(
    run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("tensorboard", "mlflow"):
        pytest.importorskip(package, reason=f"needs {package}")
    # Lightning's own MLflow logger sets the variable, which later tests must not see.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    chosen = tmp_path / "chosen"
    loggers = [
        {"class_path": "TensorBoardLogger"},
        {"class_path": f"{LIGHTNING}.MLFlowLogger", "init_args": {"experiment_name": "plain"}},
        {"class_path": "CSVLogger", "init_args": {"save_dir": str(chosen)}},
    ]
    finished = run("fit", f"--trainer.logger={json.dumps(loggers)}")
    events = events_in(finished.folder / "lightning_logs" / "version_0")
    assert "test/accuracy" in events.Tags()["scalars"]
    _, stored = stored_run(finished.folder / "mlruns")
    assert "test/accuracy" in stored.data.metrics
    assert (chosen / "lightning_logs" / "version_0" / "metrics.csv").is_file()
    recorded = (chosen / "lightning_logs" / "version_0" / "hparams.yaml").read_text()
    assert "backbone: patchnet" in recorded
    assert (finished.folder / "metrics.csv").is_file()
    # What a run saved can be run again, into another folder.
    again = run(
        "fit", f"--config={finished.folder / 'config.yaml'}", "--experiment=again", model=()
    )
    assert (again.folder / "lightning_logs" / "version_0").is_dir()
    assert not (finished.folder / "lightning_logs" / "version_1").exists()


@pytest.mark.parametrize("verb", ["test", "validate"])
def test_other_verbs_take_a_logger_by_its_short_name(
    verb: str, trained: Run, run: Callable[..., Run]
) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    arguments = ("--trainer.logger=TensorBoardLogger", "--trainer.logger.name=shown")
    measured = run(verb, *arguments, f"--ckpt_path={trained.best}", model=())
    scalars = events_in(measured.folder / "shown" / "version_0").Tags()["scalars"]
    assert f"{'val' if verb == 'validate' else 'test'}/accuracy" in scalars


def test_the_folder_of_another_run_is_left_alone(
    trained: Run, run: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    before = files_in(trained.folder)
    measured = run(
        "test",
        f"--ckpt_path={trained.best}",
        "--trainer.logger=CSVLogger",
        f"--trainer.logger.save_dir={trained.folder}",
        model=(),
    )
    assert (measured.folder / "lightning_logs").is_dir()
    assert files_in(trained.folder) == before


@pytest.mark.parametrize(
    ("logger", "hidden", "hint"),
    [
        ("WandbLogger", ("wandb",), "pip install 'eurosat[track]'"),
        ("eurosat.training.WandbTracker", ("wandb",), "pip install 'eurosat[track]'"),
        (
            "TensorBoardLogger",
            ("tensorboard", "tensorboardX"),
            "pip install 'eurosat[tensorboard]'",
        ),
        ("eurosat.training.MLflowTracker", ("mlflow",), "pip install 'eurosat[mlflow]'"),
        ("CometLogger", (), "comet-ml"),
    ],
)
def test_a_missing_package_is_named_before_anything_is_written(
    logger: str,
    hidden: tuple[str, ...],
    hint: str,
    store_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for package in hidden:
        monkeypatch.setitem(sys.modules, package, None)  # as Python has it where nothing is found
    arguments = ["fit", *TINY, *SMALL_MODEL, f"--data.root={store_root}"]
    assert main([*arguments, f"--trainer.logger={logger}"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert hint in line
    assert not list(tmp_path.glob("outputs/*/*"))


@pytest.mark.training
def test_a_logger_that_cannot_start_is_named_with_the_cause(
    store_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["fit", *TINY, *SMALL_MODEL, f"--data.root={store_root}"]
    assert main([*arguments, "--trainer.logger=tests.breaking.BrokenLogger"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert "BrokenLogger cannot start (RuntimeError: the service is retired): change" in line


def test_every_overlay_of_a_logger_is_documented() -> None:
    text = (CONFIGS.parent / "docs/howto/track.md").read_text("utf-8")
    for overlay in (CONFIGS / "logger").glob("*.yaml"):
        assert f"configs/logger/{overlay.name}" in text
