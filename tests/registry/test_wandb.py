"""What W&B's client is asked for by the registry at W&B, whose server these tests do not have."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eurosat.errors import RegistryError
from eurosat.inference.runtime import open_model
from eurosat.registry.reference import parse_reference

STAGED = parse_reference("wandb:staging")


class Artifact:
    """What the client gives for a registered model, with one file."""

    version = "v3"

    def __init__(self, content: bytes, damaged: bool = False) -> None:
        self.content, self.damaged = content, damaged
        self.aliases = ["staging"]
        self.saved = False

    def download(self, root: str) -> None:
        (Path(root) / "eurosat.onnx").write_bytes(self.content)

    def verify(self, root: str) -> None:
        if self.damaged:
            raise ValueError("Digest mismatch for file: eurosat.onnx")

    def save(self) -> None:
        self.saved = True


class Run:
    """A run that notes what it is asked for."""

    def __init__(self, asked: list[Any]) -> None:
        self.asked = asked

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def log_artifact(self, artifact: Any) -> SimpleNamespace:
        self.asked.append(sorted(artifact.manifest.entries))
        return SimpleNamespace(wait=lambda: None)

    def link_artifact(self, artifact: Any, target: str, aliases: list[str]) -> None:
        self.asked.append((target, aliases))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, wandb_settings: None) -> list[Any]:
    """What the client is asked for, in a place with an account."""
    import wandb

    asked: list[Any] = []

    def init(project: str, **_: object) -> Run:
        asked.append(project)
        return Run(asked)

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "login", lambda **_: True)
    monkeypatch.setattr(wandb, "init", init)
    return asked


def have(artifact: Artifact, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client find an artifact, whatever its address."""

    def find(address: str, **_: object) -> Artifact:
        asked.append(address)
        return artifact

    monkeypatch.setattr("wandb.Api", lambda: SimpleNamespace(artifact=find))


def test_a_registered_model_is_fetched_and_moved_on(
    asked: list[Any],
    model_files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from eurosat.registry import wandb_registry

    artifact = Artifact(model_files["onnx"].read_bytes())
    have(artifact, asked, monkeypatch)
    wandb_registry.fetch(STAGED, tmp_path)
    assert open_model(tmp_path / "eurosat.onnx").card.classes
    assert wandb_registry.promote(STAGED, "production") == "eurosat v3 is now in production"
    assert artifact.saved
    assert artifact.aliases == ["staging", "production"]
    assert asked == ["wandb-registry-model/eurosat:staging"] * 2


def test_a_damaged_download_is_refused(
    asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eurosat.registry import wandb_registry

    have(Artifact(b"half of", damaged=True), asked, monkeypatch)
    with pytest.raises(RegistryError, match="wandb:eurosat@staging is damaged"):
        wandb_registry.fetch(STAGED, tmp_path)


def test_a_file_is_linked_with_all_that_belongs_to_it(
    asked: list[Any], model_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    from eurosat.registry import wandb_registry

    monkeypatch.setenv("WANDB_PROJECT", "fields")
    monkeypatch.setattr(wandb.Artifact, "version", "v0")  # given by the server
    wandb_registry.promote(model_files["openvino"], "staging")
    assert asked == [
        "fields",
        ["eurosat.bin", "eurosat.xml"],
        ("wandb-registry-model/eurosat", ["staging"]),
    ]
