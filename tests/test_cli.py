"""The command line, driven as a user drives it."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from eurosat.cli import TOOL_VERBS, TRAINER_VERBS, main
from eurosat.labels import CLASSES
from eurosat.metrics import metrics
from tests.conftest import CONFIGS, REPOSITORY, SMALL_MODEL, TINY, Run, files_in, jpeg

EXPERIMENTS = sorted(path.name for path in CONFIGS.glob("*.yaml"))
OVERLAYS = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob("[dtl]*/*.yaml"))


def print_config(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as exit_:
        main(["fit", *arguments, "--print_config"])
    assert exit_.value.code == 0
    parsed: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return parsed


@pytest.mark.process
def test_help_lists_every_verb_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from eurosat.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print([m for m in ('torch', 'lightning', 'numpy') if m in sys.modules])"
    )
    before = os.times()
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = os.times()
    for verb, line in (TRAINER_VERBS | TOOL_VERBS).items():
        assert verb in shown.stdout
        assert line in " ".join(shown.stdout.split())
    assert shown.stdout.endswith("[]\n")
    # Seconds of computing, which other programs do not make more.
    seconds = sum(after[2:4]) - sum(before[2:4])
    assert seconds < 2  # 0.06 s where nothing else runs


@pytest.mark.parametrize("arguments", [[], ["train"], ["fit", "--model.backbon=x"], ["fit", "-x"]])
def test_mistakes_in_usage_end_with_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert "error" in error
    assert "Traceback" not in error
    assert len(error.splitlines()) < 10  # the error is not lost below a list of all options


@pytest.mark.parametrize("verb", TRAINER_VERBS)
def test_the_help_of_a_trainer_verb_begins_with_its_use(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([verb, "--help"])
    usage, _, description, *_ = capsys.readouterr().out.splitlines()
    assert usage == f"usage: eurosat {verb} [--config FILE ...] [--option VALUE ...]"
    assert description.split()[0] in ("Train", "Evaluate", "Classify")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.source=nowhere.zip"], "no data at nowhere.zip"),
        (["--data.split=source"], "no splits of its own"),
        (["--model.backbone=resnet19"], "no model 'resnet19'"),
        (["--ckpt_path=nowhere.ckpt"], "no checkpoint nowhere.ckpt"),
        (["--model.pretrained=nowhere.pth"], "no weight file"),
    ],
)
def test_mistakes_in_settings_name_cause_and_hint(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *TINY, *SMALL_MODEL, *arguments]) == 2
    error = capsys.readouterr().err
    assert "eurosat fit: error: " in error
    assert message in error
    assert not list(tmp_path.glob("outputs/*/*/metrics.json"))


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_measuring_needs_a_checkpoint(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, *TINY]) == 2
    assert "pass --ckpt_path" in capsys.readouterr().err


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_complete_and_parsed(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = print_config(capsys, f"--config={CONFIGS / experiment}")
    assert config["model"]["optimizer"]["init_args"]["lr"] > 0
    assert config["trainer"]["precision"] == "auto"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_changes_an_experiment_and_keeps_the_rest(
    overlay: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = f"--config={CONFIGS / 'resnet.yaml'}"
    before = print_config(capsys, base)
    after = print_config(capsys, base, f"--config={CONFIGS / overlay}")
    wanted = yaml.safe_load((CONFIGS / overlay).read_text())
    for group, settings in wanted.items():
        for name, value in settings.items():
            if name == "callbacks+":
                kept = [item["class_path"] for item in before[group]["callbacks"]]
                added = [item["class_path"] for item in value]
                found = [item["class_path"] for item in after[group]["callbacks"]]
                assert found == kept + added
            elif isinstance(value, dict):
                assert after[group][name]["class_path"] == value["class_path"]
            else:
                assert after[group][name] == value
    assert after["model"] == before["model"]


@pytest.mark.training
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs(
    experiment: str, tmp_path: Path, store_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [f"--config={CONFIGS / experiment}", *TINY, f"--data.root={store_root}"]
    # ImageNet weights need the network; the rest of the experiment is run as it is.
    arguments += ["--model.pretrained=false", "--trainer.fast_dev_run=true"]
    assert main(["fit", *arguments]) == 0
    assert not (tmp_path / "outputs").exists()


def test_fit_leaves_everything_a_run_should_leave(trained: Run) -> None:
    files = {str(path.relative_to(trained.folder)) for path in trained.folder.rglob("*.*")}
    assert {
        "config.yaml",
        "run.json",
        "run.jsonl",
        "metrics.csv",
        "metrics.json",
        "predictions.csv",
        "mistakes.npz",
        "learning_curves.csv",
        "report.html",
        "checkpoints/last.ckpt",
        "figures/learning_curves.png",
        "figures/confusion_matrix.png",
        "figures/reliability_diagram.png",
        "figures/confident_mistakes.png",
    } <= files
    assert trained.best.name.startswith("best-epoch")
    scores = trained.json("metrics.json")
    assert list(scores) == [*(metric.name for metric in metrics()), "per_class"]
    assert list(scores["per_class"]) == list(CLASSES)
    card = trained.json("run.json")
    assert card["status"] == "finished"
    assert card["seed"] == 42
    assert card["synthetic"] is True
    assert card["split"]["train"] + card["split"]["val"] + card["split"]["test"] == 120
    assert card["split"]["fractions"] == [0.8, 0.1, 0.1]
    assert card["images_per_second"] > 0
    assert card["epochs"] == 2
    assert (trained.folder / card["best_checkpoint"]).is_file()
    assert len(card["data"]["fingerprint"]) == len(card["split"]["fingerprint"]) == 64
    assert "synthetic" in (trained.folder / "report.html").read_text()


def test_a_run_without_a_report_leaves_what_the_report_needs(
    run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    finished = run("fit", "--report=false")
    files = {path.name for path in finished.folder.iterdir()}
    assert not files & {"report.html", "figures"}
    assert {"run.json", "metrics.csv", "learning_curves.csv", "mistakes.npz"} <= files
    assert "'eurosat report' draws its report" in capsys.readouterr().out


def test_a_training_that_ends_within_an_epoch_has_its_speed_on_record(
    run: Callable[..., Run],
) -> None:
    finished = run("fit", "--trainer.max_steps=3", "--trainer.val_check_interval=2")
    card = finished.json("run.json")
    assert card["images_per_second"] > 0
    assert 0 < card["train_seconds"] < card["wall_seconds"]


def test_the_configuration_of_an_older_run_is_accepted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    older = REPOSITORY / "tests/fixtures/layout-1/run/config.yaml"
    with pytest.raises(SystemExit, match="0"):
        main(["fit", f"--config={older}", "--print_config"])
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["model"]["backbone_args"] == {"stem_width": 8, "widths": [8, 16]}


def test_the_metrics_are_those_of_the_predictions(trained: Run) -> None:
    with (trained.folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    metrics = trained.json("metrics.json")
    assert len(rows) == trained.json("run.json")["split"]["test"]
    right = [row["label"] == row["predicted"] for row in rows]
    assert metrics["accuracy"] == pytest.approx(sum(right) / len(right))
    for name, value in metrics["per_class"].items():
        own = [hit for hit, row in zip(right, rows, strict=True) if row["label"] == name]
        assert value == pytest.approx(sum(own) / len(own))
    for row in rows:
        probabilities = {name: float(row[name]) for name in CLASSES}
        assert max(probabilities, key=probabilities.__getitem__) == row["predicted"]
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-3)


def test_the_same_command_and_seed_give_the_same_metrics_to_the_last_bit(
    run: Callable[..., Run],
) -> None:
    options = (
        '--data.augmentations=[{"class_path": "albumentations.D4"}]',
        "--model.cutmix_alpha=1.0",
        "--trainer.max_epochs=2",
    )
    first, second = run("fit", *options), run("fit", *options)
    workers = run("fit", *options, "--data.num_workers=2")
    other_seed = run("fit", *options, "--seed_everything=1")
    metrics = [(r.folder / "metrics.json").read_bytes() for r in (first, second, workers)]
    assert metrics[0] == metrics[1] == metrics[2]
    assert (other_seed.folder / "metrics.json").read_bytes() != metrics[0]


def test_the_saved_config_repeats_the_run(trained: Run, run: Callable[..., Run]) -> None:
    config = f"--config={trained.folder / 'config.yaml'}"
    again = run("fit", config, "--output_root=outputs", model=())
    assert again.folder.parent.name == "tiny"
    assert again.json("metrics.json") == trained.json("metrics.json")


def test_a_resumed_run_ends_where_an_unbroken_one_does(run: Callable[..., Run]) -> None:
    options = (
        '--data.augmentations=[{"class_path": "albumentations.D4"}]',
        "--model.mixup_alpha=0.4",
        "--model.ema_decay=0.9",
        "--model.lr_scheduler=torch.optim.lr_scheduler.StepLR",
        "--model.lr_scheduler.init_args.step_size=1",
        # The loss grows, so the first epoch is the best one, before the cut.
        "--checkpoint.monitor=train/loss",
        "--model.optimizer=torch.optim.AdamW",
        "--model.optimizer.init_args.maximize=true",
    )
    unbroken = run("fit", *options, "--trainer.max_epochs=3")
    broken = run("fit", *options, "--trainer.max_epochs=1")
    last = broken.folder / "checkpoints" / "last.ckpt"
    earlier_best = broken.best.read_bytes()
    resumed = run("fit", *options, "--trainer.max_epochs=3", f"--ckpt_path={last}")
    one, other = (
        torch.load(r.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for r in (unbroken, resumed)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert resumed.best.name == unbroken.best.name == "best-epoch00.ckpt"
    assert resumed.json("metrics.json") == unbroken.json("metrics.json")
    assert resumed.json("run.json")["best_checkpoint"] == "checkpoints/best-epoch00.ckpt"
    assert broken.best.read_bytes() == earlier_best


def test_a_better_epoch_after_a_resume_takes_the_place_of_the_best(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    options = ("--checkpoint.monitor=train/loss", "--checkpoint.mode=min")
    broken = run("fit", *options)
    moved = Run(broken.folder.rename(tmp_path / "moved"))
    last = moved.folder / "checkpoints" / "last.ckpt"
    resumed = run("fit", *options, "--trainer.max_epochs=2", f"--ckpt_path={last}")
    assert resumed.best.name == "best-epoch01.ckpt"
    assert moved.best.name == "best-epoch00.ckpt"
    moved.best.unlink()
    again = run("fit", *options, "--trainer.max_epochs=2", f"--ckpt_path={last}")
    assert again.json("metrics.json") == resumed.json("metrics.json")


def test_what_a_checkpoint_cannot_change_the_command_line_still_can(
    trained: Run, run: Callable[..., Run]
) -> None:
    resumed = run(
        "fit",
        f"--ckpt_path={trained.folder / 'checkpoints' / 'last.ckpt'}",
        "--trainer.max_epochs=3",
        "--model.label_smoothing=0.3",
        model=(),
    )
    config = yaml.safe_load((resumed.folder / "config.yaml").read_text())
    assert config["model"]["label_smoothing"] == 0.3
    assert config["model"]["backbone"] == "patchnet"


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_a_checkpoint_is_measured_without_its_config(
    verb: str, trained: Run, run: Callable[..., Run]
) -> None:
    measured = run(verb, f"--ckpt_path={trained.best}", model=())
    if verb == "test":
        assert measured.json("metrics.json") == trained.json("metrics.json")


def test_a_checkpoint_of_other_bands_and_classes_brings_them_along(
    run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = run("fit", "--data.bands=[B08, B02]", "--data.classes=[Forest, SeaLake, River]")
    measured = run("test", f"--ckpt_path={fitted.best}", model=())
    assert measured.json("metrics.json") == fitted.json("metrics.json")
    assert measured.json("run.json")["data"]["bands"] == ["B08", "B02"]


def test_predict_writes_a_csv(
    trained: Run,
    patches: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for stem in ("Forest_1", "River_2", "SeaLake_3"):
        (tmp_path / "pictures" / f"{stem}.jpg").write_bytes(jpeg(patches[stem]))
    arguments = [f"--ckpt_path={trained.best}", "--data.images=pictures"]
    arguments += ["--data.batch_size=2", "--trainer.accelerator=cpu"]
    assert main(["predict", *arguments, "--predictions.path=out/classes.csv"]) == 0
    with (tmp_path / "out" / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file"]).name for row in rows] == [
        "Forest_1.jpg",
        "River_2.jpg",
        "SeaLake_3.jpg",
    ]
    assert all(row["predicted"] in CLASSES for row in rows)
    assert files_in(tmp_path) == {"out", "pictures"}
    capsys.readouterr()
    # An image that cannot be read keeps no other image from being classified.
    (tmp_path / "pictures" / "bad.jpg").write_bytes(b"not a picture")
    (tmp_path / "pictures" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(jpeg(patches["River_1"]))
    assert main(["predict", *arguments, "--predictions.path=out/bad.csv"]) == 1
    assert "1 of 5 images cannot be read" in capsys.readouterr().err
    with (tmp_path / "out" / "bad.csv").open(errors="surrogateescape") as file:
        found = {Path(row.pop("file")).name: row for row in csv.DictReader(file)}
    bad = found.pop("bad.jpg")
    assert "bad.jpg cannot be decoded: the file is not a JPEG" in bad.pop("error")
    assert set(bad.values()) == {""}
    assert os.fsdecode(b"caf\xe9.jpg") in found
    for row in rows:
        again = found[Path(row["file"]).name]
        assert float(again["Forest"]) == pytest.approx(float(row["Forest"]), rel=1e-4)
    # A folder that cannot be written is an error before the first image is read.
    (tmp_path / "file").touch()
    assert main(["predict", *arguments, "--predictions.path=file/found.csv"]) == 2
    assert "choose another --predictions.path" in capsys.readouterr().err


def test_a_checkpoint_of_a_gpu_is_measured_without_one(
    trained: Run, run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = torch.load

    def refuse_other_devices(*arguments: Any, **options: Any) -> Any:
        """What torch does with tensors of a GPU where there is none."""
        if options.get("map_location") is None:
            raise RuntimeError("Attempting to deserialize object on a CUDA device")
        return load(*arguments, **options)

    monkeypatch.setattr(torch, "load", refuse_other_devices)
    measured = run("test", f"--ckpt_path={trained.best}", model=())
    assert (measured.folder / "metrics.json").is_file()


PERIODIC = """
trainer:
  callbacks+:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {filename: 'every-{epoch}', every_n_epochs: 1, save_top_k: -1}
"""


def test_another_checkpoint_does_not_take_the_place_of_the_best(
    run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "periodic.yaml").write_text(PERIODIC)
    kept = run("fit", f"--config={tmp_path / 'periodic.yaml'}", "--trainer.max_epochs=2")
    assert len(list((kept.folder / "checkpoints").glob("every-*"))) == 2
    assert kept.json("run.json")["best_checkpoint"] == f"checkpoints/{kept.best.name}"
    assert f"checkpoints/{kept.best.name}" in capsys.readouterr().out


def test_the_last_epoch_is_saved_without_a_validation(run: Callable[..., Run]) -> None:
    options = ["--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2"]
    kept = run("fit", *options)
    last = torch.load(kept.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 2
    assert kept.best.name == "best-epoch01.ckpt"
    kept = run("fit", *options, "--checkpoint.monitor=null", "--experiment=unwatched")
    assert kept.best.name == "best-epoch02.ckpt"


@pytest.mark.training
def test_a_training_without_a_validation_says_that_nothing_was_tested(
    tmp_path: Path,
    store_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["fit", *TINY, *SMALL_MODEL, f"--data.root={store_root}"]
    assert main([*arguments, "--trainer.check_val_every_n_epoch=2"]) == 2
    assert "no validation measured val/accuracy" in capsys.readouterr().err
    assert list(tmp_path.glob("outputs/*/*/checkpoints/last.ckpt"))


def test_lightnings_own_logger_is_metrics_csv(run: Callable[..., Run]) -> None:
    kept = run("fit", "--trainer.logger=true")
    assert (kept.folder / "metrics.csv").is_file()
    assert not list(kept.folder.glob("lightning_logs*"))


@pytest.mark.training
def test_a_run_that_fails_says_so_in_its_record(
    tmp_path: Path, store_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    resize = '--data.augmentations=[{"class_path": "albumentations.Normalize"}]'
    assert main(["fit", *TINY, *SMALL_MODEL, f"--data.root={store_root}", resize]) == 2
    (folder,) = tmp_path.glob("outputs/*/*")
    assert Run(folder).json("run.json")["status"].startswith("failed: AugmentationError")
    assert not (folder / "metrics.json").exists()


def test_prepare_shows_what_it_prepared(
    rgb_archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["prepare", f"--source={rgb_archive}", f"--root={tmp_path}"]
    assert main([*arguments, "--split_fractions=[0.4,0.3,0.3]"]) == 0
    shown = capsys.readouterr().out
    assert "30, uint8, (64, 64, 3)" in shown
    assert all(name in shown for name in CLASSES)
    settings = tmp_path / "params.yaml"
    settings.write_text(
        yaml.safe_dump(
            {
                "data": {
                    "source": "synthetic",
                    "synthetic_images": 120,
                    "bands": ["B02", "B03", "B04", "B08"],  # as a list, for one
                    "root": str(tmp_path),
                    "batch_size": 128,
                },
                "model": {"backbone": "patchnet"},
            }
        )
    )
    assert main(["prepare", f"--settings={settings}"]) == 0
    assert "120, uint16, (64, 64, 13)" in capsys.readouterr().out
    beside = [f"--settings={settings}", "--source=synthetic", "--split_seed=7"]
    assert main(["prepare", *beside, f"--output={tmp_path / 'store'}"]) == 2
    error = capsys.readouterr().err
    assert "sets the data, so --source, --split_seed would have no effect: remove" in error
    assert not (tmp_path / "store").exists()
    settings.write_text("data: {sourc: synthetic}")
    assert main(["prepare", f"--settings={settings}"]) == 2
    assert "does not accept option 'sourc'" in capsys.readouterr().err
    assert main(["prepare", "--settings=none.yaml"]) == 2
    assert "none.yaml has no usable group 'data' ([Errno 2]" in capsys.readouterr().err
    assert main(["prepare", "--source=nowhere.zip"]) == 2
    assert "eurosat prepare: error: there are no data at nowhere.zip" in capsys.readouterr().err
