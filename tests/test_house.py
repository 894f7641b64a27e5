"""The house: what may be imported without torch, and which names configurations may use."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import CONFIGS, REPOSITORY, Run
from tests.docs.pages import PAGES

LIGHT = ("eurosat.inference", "eurosat.evaluation", "eurosat.monitoring")
"""Packages that import no heavy library before a function needs it."""

IMPORT_ALL = """
import importlib, pkgutil, sys

heavy = {"torch", "lightning", "matplotlib", "timm", "torchmetrics", "albumentations", "datasets"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in heavy:
            raise ImportError(f"{name} is refused")

sys.meta_path.insert(0, Refuse())
for package in sys.argv[1:]:
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(module.__path__, f"{package}."):
        importlib.import_module(found.name)
        print(found.name)
"""


@pytest.mark.process
def test_every_light_module_imports_where_torch_lightning_and_matplotlib_cannot() -> None:
    command = [sys.executable, "-c", IMPORT_ALL, *LIGHT]
    # Another test of this process may have set the folder of a service's metrics.
    environment = {k: v for k, v in os.environ.items() if k != "PROMETHEUS_MULTIPROC_DIR"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment)
    assert ended.returncode == 0, ended.stderr
    imported = set(ended.stdout.split())
    for package in LIGHT:
        folder = REPOSITORY / Path(*package.split("."))
        files = {path for path in folder.rglob("*.py") if path.name != "__init__.py"}
        names = {".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in files}
        assert names <= imported


def named_in(text: str) -> set[str]:
    """Dotted names of this project's objects in a text, such as ``eurosat.models.WarmupCosine``."""
    found = set(re.findall(r"\beurosat(?:\.[a-z_]+)+\.[A-Z]\w*", text))
    for module, names in re.findall(r"from (eurosat[\w.]*) import ([\w, ]+)", text):
        found |= {f"{module}.{name.strip()}" for name in names.split(",")}
    return found


def documents() -> list[Path]:
    return [*CONFIGS.rglob("*.yaml"), *PAGES, REPOSITORY / "params.yaml"]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_configurations_and_documents_name_only_what_is_at_a_packages_face(path: Path) -> None:
    for name in named_in(path.read_text("utf-8")):
        module, _, attribute = name.rpartition(".")
        assert module.count(".") <= 1, f"{name} names a file behind a package's face"
        assert hasattr(importlib.import_module(module), attribute), f"there is no {name}"


def test_a_saved_configuration_names_only_what_is_at_a_packages_face(
    run: Callable[..., Run],
) -> None:
    schedule = ("--model.lr_scheduler=WarmupCosine", "--model.optimizer=torch.optim.AdamW")
    saved = run("fit", *schedule, "--trainer.limit_train_batches=1").folder / "config.yaml"
    assert "eurosat.models.WarmupCosine" in str(yaml.safe_load(saved.read_text()))
    assert all(name.count(".") == 2 for name in named_in(saved.read_text()))
