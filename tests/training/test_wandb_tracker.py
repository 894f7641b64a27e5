"""Weights & Biases: what a run sends there, read back from W&B's own file."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from eurosat.cli import main
from eurosat.labels import CLASSES
from eurosat.training.callbacks.test_results import Predictions
from eurosat.training.samples import sample_rows
from tests.conftest import CONFIGS, SMALL_MODEL, TINY, Run, wandb_without_account
from tests.tracked import TrackedRun, tracked_runs

OVERLAY = f"--config={CONFIGS / 'logger' / 'wandb.yaml'}"


@pytest.fixture(scope="module")
def tracked(
    tmp_path_factory: pytest.TempPathFactory, store_root: Path
) -> tuple[Run, TrackedRun, str]:
    """A run without an account: its folder, what W&B kept, and what was printed."""
    root = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in wandb_without_account(root / "home").items():
            environment.setenv(name, value)
        pytest.importorskip("wandb")
        environment.setenv("WANDB_X_STATS_SAMPLING_INTERVAL", "0.5")
        command = [sys.executable, "-m", "eurosat", "fit", *TINY, *SMALL_MODEL, OVERLAY]
        command += [f"--data.root={store_root}", "--trainer.max_epochs=2", "--experiment=tiny"]
        # An open pipe for standard input: whoever asked something would wait for ever.
        process = subprocess.Popen(
            command, cwd=root, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        printed = process.stderr.read()
        assert process.wait(timeout=100) == 0, printed
    (folder,) = root.glob("outputs/tiny/*")
    (kept,) = tracked_runs(folder)
    return Run(folder), kept, printed


def test_no_account_means_offline_and_one_line_says_so(tracked):
    _, kept, printed = tracked
    assert kept.folder.name.startswith("offline-run-")
    assert kept.project == "eurosat"
    assert kept.exit_code == 0
    assert printed.count("There is no account here") == 1
    # Where SLURM is installed, Lightning warns that srun has not started the command. The second
    # warning is about the split, which is tiny.
    expected = ("srun", "99 are needed to flag")
    warnings = [line for line in printed.splitlines() if "WARNING" in line]
    assert not [line for line in warnings if not any(text in line for text in expected)]
    assert "exists and is not empty" not in printed


def test_the_whole_configuration_arrives(tracked):
    run, kept, _ = tracked
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert {"model", "data", "trainer", "checkpoint", "seed_everything"} <= set(config)
    for name, value in config.items():
        assert json.dumps(kept.config[name], sort_keys=True) == json.dumps(value, sort_keys=True)


def test_the_run_is_linked_to_code_data_and_split(tracked):
    run, kept, _ = tracked
    card = run.json("run.json")
    for fact in ("git", "data", "split", "packages", "hardware", "seed", "command"):
        assert kept.config["record"][fact] == card[fact]
    assert kept.config["run_folder"].endswith(run.folder.name)


def test_metrics_arrive_by_epoch(tracked):
    run, kept, _ = tracked
    for name in ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr-AdamW/pg1"):
        assert len(kept.series(name)) == 2, name
    assert set(kept.series("epoch")) >= {0, 1}
    for name, value in run.json("metrics.json").items():
        if name != "per_class":
            assert kept.summary[f"test/{name}"] == pytest.approx(value)
    assert kept.summary["status"] == "finished"
    assert kept.summary["images_per_second"] > 0


def test_system_metrics_arrive(tracked):
    assert any(name.startswith("cpu") for name in tracked[1].system_metrics)
    assert any("memory" in name for name in tracked[1].system_metrics)


def test_the_confusion_matrix_arrives(tracked):
    run, kept, _ = tracked
    panel = kept.config["_wandb.visualize.test/confusion_matrix"]["panel_config"]
    assert panel["panelDefId"] == "wandb/confusion_matrix/v1"
    (path,) = kept.folder.glob("files/media/table/test/confusion_matrix_table*.json")
    table = json.loads(path.read_text())
    counts = {(actual, predicted): count for actual, predicted, count in table["data"]}
    assert set(counts) == {(one, other) for one in CLASSES for other in CLASSES}
    assert sum(counts.values()) == run.json("run.json")["split"]["test"]
    right = sum(counts[name, name] for name in CLASSES)
    assert right / sum(counts.values()) == pytest.approx(run.json("metrics.json")["accuracy"])


def test_sample_predictions_arrive_with_pictures_and_probabilities(tracked):
    _, kept, _ = tracked
    files = kept.files_of("testsamples")
    table = json.loads(files["test/samples.table.json"].read_text())
    assert table["columns"][:4] == ["picture", "file", "label", "predicted"]
    assert table["columns"][6:] == list(CLASSES)
    assert table["data"]
    for picture, file, label, predicted, right, confidence, *probabilities in table["data"]:
        assert picture["_type"] == "image-file"
        with Image.open(files[picture["path"]]) as opened:
            assert opened.size == (64, 64)
        assert file.startswith(label)
        assert right == (label == predicted)
        assert confidence == max(probabilities)
        assert CLASSES[probabilities.index(confidence)] == predicted


def test_samples_are_few_and_those_that_say_most():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet([1, 1, 1], size=300)
    predictions = Predictions(
        classes=("a", "b", "c"),
        files=[str(number) for number in range(300)],
        indices=np.arange(300),
        labels=generator.integers(0, 2, 300),  # none is a c
        probabilities=probabilities,
    )
    rows = sample_rows(predictions)
    assert len(rows) == len(set(rows)) == 16
    for label in (0, 1):
        for right in (True, False):
            of_kind = (predictions.labels == label) & (predictions.right == right)
            chosen = [row for row in rows if of_kind[row]]
            others = np.delete(predictions.confidence, chosen)[np.delete(of_kind, chosen)]
            assert len(chosen) == 4
            if right:
                assert predictions.confidence[chosen].max() <= others.min()
            else:
                assert predictions.confidence[chosen].min() >= others.max()


def test_the_best_checkpoint_is_an_artifact(tracked):
    run, kept, _ = tracked
    (model,) = (artifact for artifact in kept.artifacts if artifact.type == "model")
    card = run.json("run.json")
    assert set(model.aliases) == {"best", "latest"}
    metadata = json.loads(model.metadata)
    assert metadata["data"]["fingerprint"] == card["data"]["fingerprint"]
    assert metadata["split"]["fingerprint"] == card["split"]["fingerprint"]
    assert metadata["git"] == card["git"]
    assert metadata["test"] == run.json("metrics.json")
    assert kept.files_of("model-") == {"model.ckpt": run.best.resolve()}


def test_a_resume_with_nothing_left_to_train_still_sends_its_best_checkpoint(
    wandb_settings: None, run: Callable[..., Run]
) -> None:
    cut_off = run("fit")
    last = f"--ckpt_path={cut_off.folder / 'checkpoints' / 'last.ckpt'}"
    resumed = run("fit", OVERLAY, last)
    assert resumed.json("run.json")["epochs"] == 1
    assert resumed.json("metrics.json") == cut_off.json("metrics.json")
    (kept,) = tracked_runs(resumed.folder)
    assert kept.files_of("model-") == {"model.ckpt": resumed.best.resolve()}


def test_a_later_test_is_tracked_too(
    wandb_settings: None,
    trained: Run,
    run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "another")
    measured = run("test", OVERLAY, f"--ckpt_path={trained.best}", model=())
    (kept,) = tracked_runs(measured.folder)
    assert kept.project == "another"
    accuracy = measured.json("metrics.json")["accuracy"]
    assert kept.summary["test/accuracy"] == pytest.approx(accuracy)
    assert kept.config["record"]["data"] == measured.json("run.json")["data"]
    assert kept.files_of("testsamples")
    assert {artifact.type for artifact in kept.artifacts} == {"run_table"}


def test_disabled_leaves_nothing_of_wandb(
    wandb_settings: None, run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    finished = run("fit", OVERLAY)
    assert finished.json("run.json")["status"] == "finished"
    assert not tracked_runs(finished.folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WANDB_MODE": "online"}, "run 'wandb login' or set WANDB_API_KEY"),
        ({"WANDB_API_KEY": "short"}, "WANDB_API_KEY invalid"),
        (
            {
                "WANDB_API_KEY": 40 * "0",
                "WANDB_BASE_URL": "http://127.0.0.1:9",
                "WANDB_HTTP_TIMEOUT": "2",
            },
            "WANDB_BASE_URL names a server of your own",
        ),
    ],
    ids=["no account", "no key", "no server"],
)
def test_what_keeps_wandb_from_tracking_is_named(
    environment: dict[str, str],
    message: str,
    wandb_settings: None,
    store_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["fit", *TINY, *SMALL_MODEL, OVERLAY, f"--data.root={store_root}"]) == 2
    assert message in capsys.readouterr().err
    (record,) = tmp_path.glob("outputs/*/*/run.json")
    assert json.loads(record.read_text())["status"].startswith("failed: TrackingError")


def test_the_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as Python has it where nothing is found
    assert main(["fit", *TINY, *SMALL_MODEL, OVERLAY]) == 2
    assert "pip install 'eurosat[track]'" in capsys.readouterr().err
