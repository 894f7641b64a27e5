"""`dvc repro`, what it runs again and what not, and its remote."""

import ast
import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from eurosat.cli import TOOL_VERBS, main
from eurosat.inference.runtime import open_model
from tests.conftest import REPOSITORY
from tests.pipeline import Checkout, committed_params, copy_repository, gcs_emulator

STAGES = ["prepare", "train", "evaluate", "export"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose pipeline has been run once."""
    made = copy_repository(tmp_path_factory.mktemp("pipeline") / "one")
    assert made.ran(made.run("dvc", "repro")) == STAGES
    made.commit("Results of the pipeline")
    return made


def params() -> Any:
    return yaml.safe_load(committed_params())


NO_PART_IN_RESULTS = {
    "eurosat": "the version's number",
    "eurosat.errors": "messages",
    "eurosat.files": "that a file appears whole or not at all",
    "eurosat.logs": "what is shown",
    "eurosat.training.run_folder": "where a record lies",
    "eurosat.training.termination": "how an interrupted run ends",
    "eurosat.tools": "empty",
}
"""Modules that stages import and need not watch, and what they do."""


def module_file(name: str) -> Path | None:
    path = REPOSITORY / name.replace(".", "/")
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def imported_modules(names: Iterable[str]) -> set[str]:
    """This project's modules that some modules import, at once, later, or by what they import."""
    found: set[str] = set()
    left = [*names]
    while left:
        name = left.pop()
        file = module_file(name) if name.startswith("eurosat") else None
        if file is None or name in found:
            continue
        found.add(name)
        left.append(name.rpartition(".")[0])  # its package
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Import(names=aliases):
                    left += [alias.name for alias in aliases]
                case ast.ImportFrom(module=str(module), names=aliases):
                    left += [module, *(f"{module}.{alias.name}" for alias in aliases)]
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_watches_the_code_that_it_runs(stage: str) -> None:
    settings = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"][stage]
    verb, *options = settings["cmd"].removeprefix("python -m eurosat ").split()
    start = [f"eurosat.tools.{verb}" if verb in TOOL_VERBS else "eurosat.training.cli"]
    for file in [option for option in options if option.endswith(".yaml")]:
        classes = re.findall(r"class_path: (eurosat\S+)", (REPOSITORY / file).read_text())
        start += [path.rpartition(".")[0] for path in classes]
    watched = [REPOSITORY / dependency for dependency in settings["deps"]]
    modules = imported_modules(start)
    assert len(modules) > 10
    for name in modules - NO_PART_IN_RESULTS.keys():
        file = module_file(name)
        assert file is not None
        assert any(place in (file, *file.parents) for place in watched), name


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
    image = "pipeline/evaluate/figures/reliability_diagram.png"
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


def test_an_experiment_with_another_learning_rate_runs_from_train(checkout: Checkout) -> None:
    output = checkout.run("dvc", "exp", "run", "-S", "model.optimizer.init_args.lr=0.01")
    assert checkout.ran(output) == STAGES[1:]
    config = yaml.safe_load((checkout.folder / "pipeline/train/config.yaml").read_text())
    assert config["model"]["optimizer"]["init_args"]["lr"] == 0.01
    checkout.run("git", "checkout", "--quiet", ".")
    checkout.run("dvc", "checkout", "--quiet")


def test_touched_data_run_all_again(checkout: Checkout) -> None:
    note = checkout.folder / "data/raw/new.txt"
    note.write_text("a new file")
    assert "modified:           data/raw" in checkout.run("dvc", "status")
    # The file is none of the data's: what is decoded stays the same, and nothing else runs.
    assert checkout.ran(checkout.run("dvc", "repro")) == ["prepare"]
    note.unlink()
    checkout.run("git", "checkout", "--quiet", ".")
    # Another number of patches makes other data: everything runs.
    output = checkout.run("dvc", "exp", "run", "-S", "data.synthetic_images=350")
    assert checkout.ran(output) == STAGES
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
