"""`dvc repro`, what it runs again and what not, and its remote."""

import csv
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from eurosat.cli import main
from eurosat.inference.runtime import open_model
from tests.conftest import REPOSITORY
from tests.pipeline import (
    STAGES,
    Checkout,
    Tracer,
    committed_params,
    copy_repository,
    gcs_emulator,
    run_pipeline_once,
)
from tests.session_folder import SessionFolder

COMPUTING = {"prepare", "train", "evaluate", "export"}
PRESENTATION = {
    *(f"eurosat/evaluation/{name}.py" for name in ("colours", "figures", "page", "profile_table")),
    *(f"eurosat/evaluation/{name}.py" for name in ("run_figures", "run_files", "run_report")),
    *("eurosat/evaluation/page.html", "eurosat/tools/report.py"),
    *(f"eurosat/training/{name}_tracker.py" for name in ("mlflow", "tensorboard", "wandb")),
    *("eurosat/evaluation/profile_advice.py", "eurosat/training/next_steps.py"),
    *("eurosat/training/samples.py", "eurosat/wandb_client.py"),
}


@pytest.fixture(scope="module")
def tracer(session_folder: SessionFolder) -> Tracer:
    return run_pipeline_once(session_folder)[1]


@pytest.fixture(scope="module")
def checkout(session_folder: SessionFolder, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose pipeline has been run once, under the tracer."""
    folder = tmp_path_factory.mktemp("pipeline") / "one"
    shutil.copytree(run_pipeline_once(session_folder)[0], folder)
    return Checkout(folder)


def params() -> Any:
    return yaml.safe_load(committed_params())


def stage_settings(stage: str) -> Any:
    return yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"][stage]


def within(file: str, places: Iterable[str]) -> bool:
    """Whether a file is one of some places or lies in a folder that is."""
    return any(Path(place) in (Path(file), *Path(file).parents) for place in places)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_watches_every_file_that_it_reads(
    stage: str, checkout: Checkout, tracer: Tracer
) -> None:
    settings = stage_settings(stage)
    tracked = checkout.run("git", "ls-files").splitlines()
    read = tracer.files(stage).intersection(tracked)
    assert len(read) > 10
    # The parameters are watched key by key, and a stage's own results are not read by it.
    results = ["params.yaml", *(str(next(iter(m))) for m in settings.get("metrics", []))]
    assert {file for file in read if not within(file, [*settings["deps"], *results])} == set()
    code = [place for place in settings["deps"] if place.startswith(("configs/", "eurosat/"))]
    assert {place for place in code if not any(within(file, [place]) for file in read)} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_watches_the_environment(stage: str) -> None:
    locks = [place for place in stage_settings(stage)["deps"] if place.startswith("requirements/")]
    # An upgrade of torch changes the lock, and with it the stage's dependency.
    assert any("\ntorch==" in (REPOSITORY / lock).read_text() for lock in locks)


@pytest.mark.parametrize("stage", sorted(COMPUTING))
def test_a_stage_that_computes_neither_reads_nor_watches_presentation(
    stage: str, checkout: Checkout, tracer: Tracer
) -> None:
    assert all((checkout.folder / file).is_file() for file in PRESENTATION)
    assert not PRESENTATION.intersection(tracer.files(stage))
    watched = stage_settings(stage)["deps"]
    assert not {file for file in PRESENTATION if within(file, watched)}


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("eurosat/evaluation/page.html", {"report"}),
        ("eurosat/evaluation/colours.py", {"report"}),
        ("eurosat/evaluation/figures.py", {"report"}),
        ("eurosat/training/wandb_tracker.py", set()),
        ("eurosat/training/termination.py", {"train", "evaluate"}),
        ("eurosat/logs.py", {"train", "evaluate"}),
        ("eurosat/models/patchnet.py", {"train", "evaluate", "export"}),
        ("eurosat/files.py", {*STAGES} - {"prepare"}),
        ("eurosat/errors.py", {*STAGES}),
        ("eurosat/cli.py", {*STAGES}),
        ("requirements/train.txt", {*STAGES} - {"export"}),
        ("requirements/dev.txt", {"export"}),
        ("configs/fast.yaml", {"train", "evaluate"}),
    ],
)
def test_a_changed_file_runs_the_stages_that_read_it(
    file: str, stages: set[str], checkout: Checkout
) -> None:
    path = checkout.folder / file
    text = path.read_text()
    path.write_text(f"{text}\n")
    try:
        assert checkout.changed() == stages
    finally:
        path.write_text(text)


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"checkpoint": {"monitor": "val/loss"}}, {"train", "evaluate"}),
        ({"trainer": {"max_epochs": 3}}, {"train", "evaluate"}),
        ({"predictions": {"path": "elsewhere.csv"}}, {"train", "evaluate"}),
        ({"data": {"batch_size": 64}}, {"prepare", "train", "evaluate"}),
    ],
)
def test_every_key_of_the_parameters_counts(
    changes: dict[str, dict[str, object]], stages: set[str], checkout: Checkout
) -> None:
    text = (checkout.folder / "params.yaml").read_text()
    checkout.set_params(changes)
    try:
        assert checkout.changed() == stages
    finally:
        (checkout.folder / "params.yaml").write_text(text)


def test_another_style_of_the_report_trains_nothing(checkout: Checkout) -> None:
    style = checkout.folder / "eurosat/evaluation/page.html"
    style.write_text(style.read_text().replace("</style>", "h1 { color: teal; }\n</style>"))
    assert checkout.ran(checkout.run("dvc", "repro")) == ["report"]
    for run in ("train", "evaluate"):
        page = (checkout.folder / "pipeline/report" / run / "report.html").read_text()
        assert "h1 { color: teal; }" in page
        assert "Synthetic data" in page
        # The page's links lead to the files of the run that it shows.
        links = re.findall(r'<li><a href="([^"]+)"', page)
        assert f"../../{run}/run.json" in links
        assert all((checkout.folder / "pipeline/report" / run / link).is_file() for link in links)
    checkout.run("git", "checkout", "--quiet", ".")
    checkout.run("dvc", "checkout", "--quiet")


def test_it_leaves_a_model_that_knows_its_test(checkout: Checkout) -> None:
    metrics = json.loads((checkout.folder / "pipeline/evaluate/metrics.json").read_text())
    card = open_model(checkout.folder / "models/eurosat.onnx").card
    assert card.metrics == metrics
    assert card.format == "onnx-int8"
    assert card.synthetic
    # The whole configuration went into the run, and the run's folder can be run again.
    config = yaml.safe_load((checkout.folder / "pipeline/train/config.yaml").read_text())
    assert config["model"]["optimizer"]["init_args"]["weight_decay"] == 0.1  # of configs/fast.yaml
    assert config["data"]["batch_size"] == 32  # of params.yaml
    assert config["run_directory"] is None


def test_metrics_and_plots_are_shown(checkout: Checkout) -> None:
    shown = json.loads(checkout.run("dvc", "metrics", "show", "--json"))
    found = shown[""]["data"]["pipeline/evaluate/metrics.json"]["data"]
    metrics = json.loads((checkout.folder / "pipeline/evaluate/metrics.json").read_text())
    assert found == metrics
    experiments = checkout.run("dvc", "exp", "show", "--csv")
    (row, *_) = csv.DictReader(experiments.splitlines())
    assert float(row["accuracy"]) == metrics["accuracy"]
    assert float(row["model.optimizer.init_args.lr"]) == 0.003
    plots = json.loads(checkout.run("dvc", "plots", "show", "--json"))["data"]
    image = "pipeline/report/evaluate/figures/reliability_diagram.png"
    assert plots.keys() == {"Loss", "Accuracy", "Confusion matrix of the test", image}
    assert [plot["type"] for plot in plots[image]] == ["image"]
    for curve in ("Loss", "Accuracy"):  # one epoch, of training and of validation
        assert len(plots[curve][0]["content"]["data"]["values"]) == 2
    for values in plots.values():
        for plot in values:
            rows = plot["content"]["data"]["values"] if plot["type"] == "vega" else []
            # A blank would be drawn as a zero.
            assert all(row["dvc_inferred_y_value"] != "" for row in rows if "field" in row)
    assert len(plots["Confusion matrix of the test"][0]["content"]["data"]["values"]) == 30


def test_a_second_run_does_nothing(checkout: Checkout) -> None:
    assert "Data and pipelines are up to date" in checkout.run("dvc", "repro")
    assert checkout.run("git", "status", "--porcelain") == ""


def test_touched_data_are_prepared_again(checkout: Checkout) -> None:
    note = checkout.folder / "data/raw/new.txt"
    note.write_text("a new file")
    assert "modified:           data/raw" in checkout.run("dvc", "status")
    # The file is none of the data's: what is decoded stays the same, and nothing else runs.
    assert checkout.ran(checkout.run("dvc", "repro")) == ["prepare"]
    note.unlink()
    checkout.run("git", "checkout", "--quiet", ".")
    checkout.run("dvc", "checkout", "--quiet")


def test_an_experiment_of_other_data_and_a_new_key_runs_every_stage(checkout: Checkout) -> None:
    changes = ["-S", "data.synthetic_images=350", "-S", "+checkpoint.monitor=val/loss"]
    output = checkout.run("dvc", "exp", "run", *changes, "train")
    assert sorted(checkout.ran(output)) == ["prepare", "train"]
    assert checkout.changed() == {"evaluate", "report", "export"}
    config = yaml.safe_load((checkout.folder / "pipeline/train/config.yaml").read_text())
    assert config["checkpoint"]["monitor"] == "val/loss"
    assert config["data"]["synthetic_images"] == 350
    checkout.run("git", "checkout", "--quiet", ".")
    checkout.run("dvc", "checkout", "--quiet")


def test_an_unknown_parameter_is_named(checkout: Checkout) -> None:
    text = (checkout.folder / "params.yaml").read_text()
    checkout.set_params({"model": {"lernrate": 0.1}})
    try:
        output = checkout.run("dvc", "repro", "train", code=255)
        assert "lernrate" in output
        assert "Traceback" not in output
    finally:
        (checkout.folder / "params.yaml").write_text(text)
        checkout.run("dvc", "checkout", "--quiet")
    assert "up to date" in checkout.run("dvc", "status")


def test_another_clone_pulls_what_one_has_pushed(checkout: Checkout, tmp_path: Path) -> None:
    with gcs_emulator("models") as environment:
        one = Checkout(checkout.folder, environment)
        # The one command of the README that sets a bucket; --local, so that nothing is changed.
        one.run("dvc", "remote", "modify", "--local", "storage", "url", "gs://models/eurosat")
        assert "pushed" in one.run("dvc", "push")
        one.run("git", "clone", "--quiet", ".", str(tmp_path / "two"))
        two = Checkout(tmp_path / "two", environment)
        two.run("dvc", "remote", "modify", "--local", "storage", "url", "gs://models/eurosat")
        two.run("dvc", "pull")
        assert "up to date" in two.run("dvc", "repro")
        for name in ("models/eurosat.onnx", "data/prepared/images.npy"):
            assert (two.folder / name).read_bytes() == (one.folder / name).read_bytes()
        one.run("dvc", "remote", "modify", "--local", "storage", "url", "gs://no-such-bucket/x")
        assert "no-such-bucket" in one.run("dvc", "push", code=255)
    checkout.run("dvc", "remote", "modify", "--local", "--unset", "storage", "url")


def test_the_committed_remote_is_nobodys() -> None:
    assert "url = gs://your-bucket/eurosat" in (REPOSITORY / ".dvc/config").read_text()


def test_the_parameters_overlay_the_configuration_of_the_pipeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.yaml").write_text(committed_params())
    files = [f"--config={REPOSITORY}/configs/fast.yaml", f"--config={tmp_path}/params.yaml"]
    configs = []
    for arguments in (files[:1], files):
        with pytest.raises(SystemExit) as ended:
            main(["fit", *arguments, "--print_config"])
        assert ended.value.code == 0
        configs.append(yaml.safe_load(capsys.readouterr().out))
    # As committed it changes nothing: `dvc repro` and `eurosat fit` train the same.
    assert configs[0] == configs[1]


def test_the_stages_write_to_their_own_places() -> None:
    commands = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    assert [*commands] == STAGES
    assert all(stage["cmd"].startswith("python -m eurosat ") for stage in commands.values())
    assert params()["data"]["source"] == "hub"


@pytest.mark.process
def test_a_stage_runs_the_code_of_its_own_checkout(tmp_path: Path) -> None:
    """Wherever `eurosat` is installed from: DVC names an experiment after this folder's code."""
    copied = copy_repository(tmp_path / "copy")
    package = copied.folder / "eurosat/__init__.py"
    text = re.sub('__version__ = ".*"', '__version__ = "0.0.0-copy"', package.read_text())
    package.write_text(text)
    assert copied.run("python", "-m", "eurosat", "--version").strip() == "eurosat 0.0.0-copy"


def test_a_run_directory_that_is_in_use_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text("{}")
    arguments = ["--data.source=synthetic", f"--run_directory={tmp_path}"]
    assert main(["fit", *arguments]) == 2
    assert "exists and is not empty: delete" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
