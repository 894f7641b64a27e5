"""`eurosat promote --push true`, to a real bucket and a real origin."""

import http.server
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from tests.pipeline import Checkout, gcs_emulator, gcs_environment, impatience
from tests.registry.conftest import MODEL, change_model, refused, tags


def set_bucket(checkout: Checkout) -> None:
    """Commit and publish the address of a bucket."""
    checkout.run("dvc", "remote", "modify", "storage", "url", "gs://models/eurosat")
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
        # What was promoted earlier is shared later, however often; the version is there already.
        refused = here.run("eurosat", "promote", "registry:v0.0.1", code=2)
        assert "eurosat v0.0.1 is in staging already: pass --push true" in refused
        before = tags(here)
        for _ in range(2):
            here.run("eurosat", "promote", MODEL, "--push=true")
            assert pushed_tags(here) == before == tags(here)


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
    repository: Checkout,
    forbidding_port: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    push = ["promote", MODEL, "--push=true"]
    assert "no DVC remote is configured: run `dvc remote modify" in refused(push, capsys)
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

    nowhere = {**gcs_environment(9), **impatience(tmp_path / "impatience")}  # nothing listens there
    here = Checkout(repository.folder, nowhere)
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
