"""`eurosat promote` and `eurosat serve registry:...`, on real repositories and a real bucket."""

import http.server
import json
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import yaml

from eurosat.cli import main
from eurosat.errors import RegistryError
from eurosat.export.runtime import open_model
from eurosat.registry.find import find_model
from tests.conftest import Run
from tests.pipeline import Checkout, gcs_emulator, gcs_environment


@pytest.fixture(scope="session")
def model_files(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model as ONNX and as OpenVINO file."""
    folder = tmp_path_factory.mktemp("models")
    files = {"onnx": folder / "eurosat.onnx", "openvino": folder / "eurosat.xml"}
    for format, path in files.items():
        assert main(["export", str(trained.best), f"--format={format}", f"--output={path}"]) == 0
    return files


@pytest.fixture(scope="session")
def template(model_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one committed model under DVC's care."""
    made = Checkout(tmp_path_factory.mktemp("registry") / "repository")
    (made.folder / "models").mkdir(parents=True)
    made.run("git", "init", "--quiet", "--initial-branch=main")
    made.run("dvc", "init", "--quiet")
    made.run("dvc", "remote", "add", "--default", "storage", "gs://your-bucket/eurosat")
    artifacts = {"eurosat": {"path": "models/eurosat.onnx", "type": "model"}}
    (made.folder / "dvc.yaml").write_text(yaml.safe_dump({"artifacts": artifacts}))
    shutil.copy(model_files["onnx"], made.folder / "models")
    made.run("dvc", "add", "models/eurosat.onnx")
    made.commit()
    return made.folder


@pytest.fixture
def repository(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A copy of it to change, which the command line is called in; its origin is beside it."""
    shutil.copytree(template, tmp_path / "repository")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Tester")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "tester@example.org")
    monkeypatch.delenv("EUROSAT_REGISTRY", raising=False)
    monkeypatch.chdir(tmp_path / "repository")
    checkout = Checkout(tmp_path / "repository")
    checkout.run("git", "init", "--quiet", "--bare", "--initial-branch=main", "../origin.git")
    checkout.run("git", "remote", "add", "origin", "../origin.git")
    checkout.run("git", "push", "--quiet", "origin", "main")
    return checkout


def tags(checkout: Checkout) -> set[str]:
    return set(checkout.run("git", "tag").split())


def change_model(checkout: Checkout, model_files: dict[str, Path]) -> None:
    """Commit another model file under the same name."""
    card = open_model(model_files["onnx"]).card
    path = checkout.folder / "models/eurosat.onnx"
    import onnx

    proto = onnx.load(model_files["onnx"])
    onnx.helper.set_model_props(proto, {"eurosat": card.to_json(), "note": "another"})
    path.unlink()
    onnx.save(proto, path)
    checkout.run("dvc", "add", "models/eurosat.onnx")
    checkout.commit("Another model")


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The error of a command that must fail with exit code 2."""
    assert main(arguments) == 2
    return capsys.readouterr().err


MODEL = "models/eurosat.onnx"


def test_a_model_goes_through_the_stages(
    repository: Checkout,
    model_files: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["promote", MODEL]) == 0
    assert "eurosat v0.0.1, now in staging" in capsys.readouterr().out
    assert main(["promote", "registry:staging", "--stage=production"]) == 0
    assert tags(repository) == {"eurosat@v0.0.1", "eurosat#staging#1", "eurosat#production#2"}

    change_model(repository, model_files)
    assert main(["promote", MODEL, "--version=v1.0.0"]) == 0
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    new = find_model("registry:staging", tmp_path / "new")
    old = find_model("registry:production", tmp_path / "old")
    assert new.read_bytes() == (repository.folder / MODEL).read_bytes()
    assert old.read_bytes() == model_files["onnx"].read_bytes() != new.read_bytes()
    assert find_model("registry:v0.0.1", tmp_path / "old").read_bytes() == (old.read_bytes())

    # Faster than a second, which is all that a tag's time tells.
    for version in ("v1.0.0", "v0.0.1", "v1.0.0"):
        assert main(["promote", f"registry:{version}", "--stage=production"]) == 0
    # The older file is still known, whatever HEAD has: production goes back to it and forth.
    assert main(["promote", "registry:v0.0.1", "--stage=production"]) == 0
    (tmp_path / "back").mkdir()
    back = find_model("registry:eurosat@production", tmp_path / "back")
    assert back.read_bytes() == old.read_bytes()


def test_the_version_says_what_it_is(repository: Checkout) -> None:
    assert main(["promote", MODEL]) == 0
    message = repository.run("git", "tag", "--list", "eurosat@v0.0.1", "--format=%(contents)")
    card = open_model(repository.folder / MODEL).card
    assert card.metrics is not None
    accuracy = f"{card.metrics['accuracy']:.2%}"
    assert message.strip() == (
        f"{card.version}, test accuracy {accuracy}, trained on synthetic data"
    )


def test_the_gate_compares_with_what_is_in_production(
    repository: Checkout, store_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = ["gate", MODEL, "--against=registry:production", "--source=synthetic", "--threads=1"]
    gate += [f"--root={store_root}", "--severities=[3]", "--max_latency_ratio=.inf"]
    assert "there is no registry:eurosat@production" in refused(gate, capsys)
    assert main(["promote", MODEL, "--stage=production"]) == 0
    assert main(gate) == 0
    output = repository.folder / "outputs/gate"
    found = json.loads((output / "gate.json").read_text())
    assert found["candidate"]["place"] == MODEL
    assert found["baseline"]["place"] == "registry:production"
    version = found["baseline"]["version"]
    assert version == open_model(repository.folder / MODEL).card.version
    for report in ("gate.md", "gate.html"):
        assert f"registry:production (version {version}" in (output / report).read_text()
    assert f"registry:production (version {version}" in capsys.readouterr().out


def test_both_files_of_an_openvino_model_are_registered(
    repository: Checkout, model_files: dict[str, Path], tmp_path: Path
) -> None:
    for part in (model_files["openvino"], model_files["openvino"].with_suffix(".bin")):
        shutil.copy(part, repository.folder / "models")
    repository.run("dvc", "add", "models/eurosat.xml", "models/eurosat.bin")
    artifacts = {"eurosat": {"path": "models/eurosat.xml", "type": "model"}}
    (repository.folder / "dvc.yaml").write_text(yaml.safe_dump({"artifacts": artifacts}))
    repository.commit()
    assert main(["promote", "models/eurosat.xml"]) == 0
    (tmp_path / "fetched").mkdir()
    path = find_model("registry:staging", tmp_path / "fetched")
    patches = np.zeros((2, 3, 64, 64), dtype=np.uint8)
    expected = open_model(model_files["openvino"]).predict(patches)
    np.testing.assert_array_equal(open_model(path).predict(patches), expected)


def set_bucket(checkout: Checkout, url: str = "gs://models/eurosat") -> None:
    """Commit and publish another address of the DVC remote."""
    checkout.run("dvc", "remote", "modify", "storage", "url", url)
    checkout.commit("Our bucket")
    checkout.run("git", "push", "--quiet", "origin", "main")


def pushed_tags(checkout: Checkout) -> set[str]:
    listed = checkout.run("git", "ls-remote", "--tags", "--refs", "../origin.git")
    return {line.partition("refs/tags/")[2] for line in listed.splitlines()}


def fetched_elsewhere(reference: str, origin: Path, environment: Mapping[str, str]) -> bytes:
    """The model's file, as a machine gets it that has nothing but the origin's address."""
    script = (
        "import sys; from pathlib import Path; from eurosat.registry.find import find_model; "
        "print(find_model(sys.argv[1], Path(sys.argv[2])))"
    )
    with TemporaryDirectory() as folder:
        elsewhere = Checkout(Path(folder), {**environment, "EUROSAT_REGISTRY": str(origin)})
        output = elsewhere.run("python", "-c", script, reference, folder)
        return Path(output.strip().splitlines()[-1]).read_bytes()


def test_a_pushed_model_is_served_elsewhere(repository: Checkout, tmp_path: Path) -> None:
    with gcs_emulator("models") as environment:
        here = Checkout(repository.folder, environment)
        set_bucket(here)
        here.run("eurosat", "promote", MODEL, "--stage=production", "--push=true")
        assert pushed_tags(here) == {"eurosat@v0.0.1", "eurosat#production#1"}
        found = fetched_elsewhere("registry:production", tmp_path / "origin.git", environment)
        assert found == (repository.folder / MODEL).read_bytes()


def test_a_stage_is_pushed_with_its_version(repository: Checkout, tmp_path: Path) -> None:
    with gcs_emulator("models") as environment:
        here = Checkout(repository.folder, environment)
        set_bucket(here)
        output = here.run("eurosat", "promote", MODEL)
        assert "git push origin eurosat@v0.0.1 eurosat#staging#1" in output
        production = ["promote", "registry:staging", "--stage=production", "--push=true"]
        assert "eurosat@v0.0.1, eurosat#production#2" in here.run("eurosat", *production)
        assert pushed_tags(here) == {"eurosat@v0.0.1", "eurosat#production#2"}
        found = fetched_elsewhere("registry:production", tmp_path / "origin.git", environment)
        assert found == (repository.folder / MODEL).read_bytes()
        # The version is on origin already; that is no obstacle.
        here.run("eurosat", "promote", "registry:v0.0.1", "--push=true", code=2)
        here.run("git", "tag", "--delete", "eurosat#staging#1")
        here.run("eurosat", "promote", "registry:v0.0.1", "--push=true")
        assert "eurosat#staging#3" in pushed_tags(here)


def test_an_older_version_is_pushed_from_where_it_was(repository: Checkout, tmp_path: Path) -> None:
    with gcs_emulator("models") as environment:
        here = Checkout(repository.folder, environment)
        here.run("eurosat", "promote", MODEL)
        set_bucket(here)  # which the version's own .dvc/config does not know
        expected = (repository.folder / MODEL).read_bytes()
        here.run("dvc", "remove", "models/eurosat.onnx.dvc")
        (repository.folder / MODEL).rename(repository.folder / "models/another.onnx")
        here.run("dvc", "add", "models/another.onnx")
        artifacts = {"another": {"path": "models/another.onnx", "type": "model"}}
        (repository.folder / "dvc.yaml").write_text(yaml.safe_dump({"artifacts": artifacts}))
        here.commit("Another name and place")
        back = ["promote", "registry:v0.0.1", "--stage=production", "--push=true"]
        here.run("eurosat", *back)
        found = fetched_elsewhere("registry:production", tmp_path / "origin.git", environment)
        assert found == expected


@pytest.fixture
def forbidding_port() -> Iterator[int]:
    """A server that refuses every request for want of rights."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def refuse(self) -> None:
            body = b'{"error": {"code": 403, "message": "no storage.objects.create access"}}'
            self.send_response(403)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = refuse  # noqa: N815  # the names that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


def test_what_cannot_be_pushed_is_not_registered(
    repository: Checkout, forbidding_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    push = ["promote", MODEL, "--push=true"]
    assert "no DVC remote is set up: `dvc remote modify" in refused(push, capsys)
    assert tags(repository) == set()

    repository.run("dvc", "remote", "modify", "storage", "url", "gs://missing/eurosat")
    repository.commit()
    with gcs_emulator("another") as environment:
        here = Checkout(repository.folder, environment)
        output = here.run("eurosat", *push, code=2)
    assert "models/eurosat.onnx cannot be pushed to gs://missing/eurosat" in output
    assert tags(repository) == set()

    here = Checkout(repository.folder, gcs_environment(forbidding_port))
    output = here.run("eurosat", *push, code=2)
    assert "check the address, the network and your rights" in output
    assert tags(repository) == set()

    here = Checkout(repository.folder, gcs_environment(9))  # nothing listens there
    assert "cannot be pushed to gs://missing/eurosat" in here.run("eurosat", *push, code=2)
    assert tags(repository) == set()


def test_a_file_that_nobody_has_is_not_registered(repository: Checkout) -> None:
    with gcs_emulator("models") as environment:
        here = Checkout(repository.folder, environment)
        set_bucket(here)
        # As in another's clone: dvc.lock names the file, and it is neither here nor in the bucket.
        model = (repository.folder / MODEL).read_bytes()
        shutil.rmtree(repository.folder / ".dvc/cache")
        (repository.folder / MODEL).unlink()
        (repository.folder / MODEL).write_bytes(model)
        output = here.run("eurosat", "promote", MODEL, "--push=true", code=2)
        assert "models/eurosat.onnx of eurosat v0.0.1 is neither in DVC's cache nor at gs" in output
        assert tags(repository) == pushed_tags(repository) == set()
        here.run("eurosat", "promote", MODEL)
        before = tags(repository)
        moved = ["promote", "registry:staging", "--stage=production", "--push=true"]
        assert "is neither in DVC's cache nor at gs" in here.run("eurosat", *moved, code=2)
        assert tags(repository) == before
        assert pushed_tags(repository) == set()


def test_an_origin_that_cannot_be_reached_registers_nothing(repository: Checkout) -> None:
    with gcs_emulator("models") as environment:
        here = Checkout(repository.folder, environment)
        here.run("dvc", "remote", "modify", "storage", "url", "gs://models/eurosat")
        here.run("git", "remote", "set-url", "origin", "../gone.git")
        here.commit()
        output = here.run("eurosat", "promote", MODEL, "--push=true", code=2)
    assert "(fatal: '../gone.git' does not appear to be a git repository): check origin" in output
    assert "Traceback" not in output
    assert "EUROSAT_REGISTRY" not in output
    assert tags(repository) == set()


def test_a_colleague_who_promoted_first_is_not_overwritten(
    repository: Checkout, model_files: dict[str, Path], tmp_path: Path
) -> None:
    with gcs_emulator("models") as environment:
        here = Checkout(repository.folder, environment)
        set_bucket(here)
        here.run("git", "clone", "--quiet", "../origin.git", str(tmp_path / "colleague"))
        colleague = Checkout(tmp_path / "colleague", environment)
        here.run("dvc", "push")
        colleague.run("dvc", "pull")
        colleague.run("eurosat", "promote", MODEL, "--push=true")
        theirs = pushed_tags(here)
        change_model(here, model_files)
        output = here.run("eurosat", "promote", MODEL, "--push=true", code=2)
        assert "(! [rejected] eurosat" in output
        assert "(already exists)): check origin" in output
        assert "`git fetch --tags`" in output
        assert tags(here) == set()
        assert pushed_tags(here) == theirs
        here.run("git", "fetch", "--quiet", "--tags")
        assert "eurosat v0.0.2, now in staging" in here.run(
            "eurosat", "promote", MODEL, "--push=true"
        )


def test_a_dirty_tree_is_refused(repository: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    with (repository.folder / "dvc.yaml").open("a") as file:
        file.write("# a change\n")
    error = refused(["promote", MODEL], capsys)
    assert "has changes that are not committed (dvc.yaml): commit them first" in error
    assert tags(repository) == set()


def test_a_file_that_dvc_does_not_keep_is_refused(
    repository: Checkout, model_files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(model_files["onnx"], "models/other.onnx")
    error = refused(["promote", "models/other.onnx"], capsys)
    assert "models/other.onnx is not under DVC's care at HEAD" in error
    repository.run("dvc", "add", "models/other.onnx")
    repository.commit()
    error = refused(["promote", "models/other.onnx"], capsys)
    assert "HEAD's dvc.yaml declares no artifact with the path models/other.onnx" in error
    assert tags(repository) == set()


def test_a_declaration_that_is_not_committed_does_not_count(
    repository: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.run("git", "rm", "--quiet", "--cached", "dvc.yaml")
    repository.run("git", "commit", "--quiet", "--message", "dvc.yaml forgotten")
    error = refused(["promote", MODEL], capsys)
    assert f"HEAD's dvc.yaml declares no artifact with the path {MODEL}" in error
    assert tags(repository) == set()


def test_a_file_that_is_not_the_committed_one_is_refused(
    repository: Checkout, model_files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    proto = onnx.load(MODEL)
    onnx.helper.set_model_props(
        proto, {"eurosat": open_model(Path(MODEL)).card.to_json(), "note": "changed"}
    )
    Path(MODEL).unlink()
    onnx.save(proto, MODEL)
    assert "is not the file that HEAD's" in refused(["promote", MODEL], capsys)
    Path(MODEL).write_bytes(b"not a model")
    assert "damaged or not an ONNX model" in refused(["promote", MODEL], capsys)
    assert tags(repository) == set()


def test_versions_and_stages_are_not_given_twice(
    repository: Checkout, model_files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["promote", MODEL, "--version=v0.1.0"]) == 0
    before = tags(repository)
    assert "eurosat v0.1.0 is in staging already" in refused(["promote", MODEL], capsys)
    error = refused(["promote", MODEL, "--stage=production", "--version=v0.2.0"], capsys)
    assert "is eurosat v0.1.0 already: leave out --version" in error
    change_model(repository, model_files)
    assert "v0.1.0" in refused(["promote", MODEL, "--version=v0.1.0"], capsys)
    assert "one" in refused(["promote", MODEL, "--version=one"], capsys)
    assert tags(repository) == before


@pytest.mark.parametrize("version", ["v1.0.0-rc1", "v2", "staging"])
def test_a_version_that_no_reference_reaches_is_refused(
    version: str, repository: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(["promote", MODEL, f"--version={version}"], capsys)
    assert f"eurosat {version} could not be served" in error
    assert tags(repository) == set()


def test_a_stage_that_cannot_be_assigned_takes_the_version_back(
    repository: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    # Tags are files: a folder in the way of the second one lets it fail after the first.
    repository.run("git", "tag", "eurosat#staging#1/in-the-way")
    assert "eurosat promote: error:" in refused(["promote", MODEL], capsys)
    assert tags(repository) == {"eurosat#staging#1/in-the-way"}


def test_outside_of_a_repository(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model_files: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("EUROSAT_REGISTRY", raising=False)
    error = refused(["promote", str(model_files["onnx"])], capsys)
    assert "not a git repository" in error
    assert error.strip().endswith("call eurosat inside it")  # promote reads no EUROSAT_REGISTRY
    error = refused(["serve", "registry:production"], capsys)
    assert "not a git repository" in error
    assert "call eurosat inside it, or set EUROSAT_REGISTRY" in error
    Checkout(tmp_path).run("git", "init", "--quiet")
    assert "run `dvc init`" in refused(["promote", str(model_files["onnx"])], capsys)


@pytest.mark.parametrize("place", ["/nowhere", "ssh://127.0.0.1:9/registry.git"])
def test_a_registry_that_cannot_be_opened_is_named(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EUROSAT_REGISTRY", place)
    error = refused(["serve", "registry:production"], capsys)
    assert f"the registry {place} cannot be opened" in error
    assert "check the path or address in EUROSAT_REGISTRY" in error


def test_without_git(repository: Checkout) -> None:
    eurosat = str(Path(sys.executable).with_name("eurosat"))
    without = Checkout(repository.folder, {"PATH": "/nowhere"})
    for arguments in (["promote", MODEL], ["serve", "registry:production"]):
        output = without.run(eurosat, *arguments, code=2)
        assert "git is not installed, and the registry lives in git" in output
        assert "Traceback" not in output


def test_what_is_not_registered_is_named(
    repository: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(["serve", "registry:production"], capsys)
    assert "there is no registry:eurosat@production" in error
    assert "has no version of it" in error
    assert main(["promote", MODEL]) == 0
    capsys.readouterr()
    assert "has v0.0.1 (staging)" in refused(["serve", "registry:production"], capsys)
    assert "there is no registry:other@staging" in refused(
        ["serve", "registry:other@staging"], capsys
    )
    assert "names no registered model" in refused(["serve", "registry:canary"], capsys)


def test_a_version_whose_file_is_in_git_is_named(
    repository: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.run("dvc", "remove", "models/eurosat.onnx.dvc")
    repository.run("git", "add", "--force", MODEL)
    repository.commit()
    repository.run("gto", "register", "eurosat", "--version=v1.0.0")
    error = refused(["serve", "registry:v1.0.0"], capsys)
    assert "models/eurosat.onnx of registry:eurosat@v1.0.0 is not under DVC's care" in error


def test_a_damaged_or_missing_file_is_not_served(repository: Checkout, tmp_path: Path) -> None:
    assert main(["promote", MODEL]) == 0
    (tmp_path / "fetched").mkdir()
    (cached,) = (path for path in Path(".dvc/cache/files").rglob("*") if path.is_file())
    good = cached.read_bytes()
    cached.chmod(0o644)
    cached.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(RegistryError, match=r"is damaged: its MD5 is not"):
        find_model("registry:staging", tmp_path / "fetched")
    assert list((tmp_path / "fetched").iterdir()) == []
    cached.unlink()
    with gcs_emulator("another") as environment:
        here = Checkout(repository.folder, environment)
        output = here.run("eurosat", "serve", "registry:staging", code=2)
    assert "neither in DVC's cache nor to be had from its remote" in output
    here = Checkout(repository.folder, gcs_environment(9))  # nothing listens there
    output = here.run("eurosat", "serve", "registry:staging", code=2)
    assert "neither in DVC's cache nor to be had from its remote" in output
    assert "your rights to it" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([MODEL, "--registry=wandb", "--version=v1.0.0"], "leave out --version and --push"),
        (["wandb:staging", "--push=true"], "leave out --version and --push"),
        (["registry:staging", "--registry=wandb"], "is in the registry in git"),
    ],
)
def test_options_of_the_other_registry_are_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(["promote", *arguments], capsys)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WANDB_MODE": "offline"}, "cannot be used offline"),
        ({}, "needs an account: run 'wandb login'"),
        ({"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}, "cannot be reached"),
    ],
)
@pytest.mark.parametrize("command", ["promote", "serve"])
def test_the_wandb_registry_without_wandb(
    environment: dict[str, str],
    message: str,
    command: str,
    tmp_path: Path,
    model_files: dict[str, Path],
) -> None:
    arguments = {
        "promote": ["promote", str(model_files["onnx"]), "--registry=wandb"],
        "serve": ["serve", "wandb:production"],
    }[command]
    nobody = {"HOME": str(tmp_path), "WANDB_MODE": "online", "WANDB_API_KEY": ""}
    output = Checkout(tmp_path, nobody | environment).run("eurosat", *arguments, code=2)
    assert message in output
    assert "Traceback" not in output
