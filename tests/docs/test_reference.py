"""Every verb, setting, error and environment variable is documented, and links lead somewhere."""

import importlib
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from eurosat import errors
from eurosat.cli import TOOL_VERBS, TRAINER_VERBS
from tests.conftest import REPOSITORY
from tests.docs.pages import GENERATED, PAGES

VERBS = TRAINER_VERBS | TOOL_VERBS
WRITTEN = {path.relative_to(REPOSITORY): path.read_text("utf-8") for path in PAGES}
"""Contents of the pages that people write."""


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    """The module that makes the generated pages."""
    sys.path.insert(0, str(REPOSITORY / "docs/_ext"))
    return importlib.import_module("generated")


@pytest.mark.parametrize("verb", VERBS)
def test_a_how_to_or_the_tutorial_uses_the_verb(verb: str) -> None:
    pages = [text for path, text in WRITTEN.items() if path.parts[:2] != ("docs", "reference")]
    assert any(re.search(rf"\beurosat {verb}\b", text) for text in pages)


def test_the_tests_that_the_threat_model_names_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", WRITTEN[Path("docs/explanation/threat-model.md")]))
    tests = "\n".join(path.read_text("utf-8") for path in REPOSITORY.glob("tests/**/test_*.py"))
    assert len(named) > 30
    assert named <= set(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))


@pytest.fixture(scope="module")
def commands(generated: ModuleType) -> str:
    return generated.commands()


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_every_setting_of_the_verb_has_a_meaning(verb: str, commands: str) -> None:
    section = commands.split(f"\n## eurosat {verb}\n")[1].split("\n## ")[0]
    settings = re.findall(r"^`(.+)`\n: (.*)$", section, re.M)
    assert len(settings) >= len(re.findall(r"^`-", section, re.M)) > 1
    for name, meaning in settings:
        words = re.sub(r"\((required|type|default).*", "", meaning).split()
        assert len(words) >= 3, name
        assert "No description" not in meaning, name


@pytest.mark.slow
def test_every_parameter_of_the_service_has_a_meaning(generated: ModuleType) -> None:
    paths = generated.openapi()["paths"]
    operations = [operation for methods in paths.values() for operation in methods.values()]
    assert all(operation["summary"] for operation in operations)
    parameters = [entry for operation in operations for entry in operation.get("parameters", [])]
    assert parameters
    assert all(entry.get("description") for entry in parameters)


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        error
        for error in vars(errors).values()
        if inspect.isclass(error) and issubclass(error, errors.EuroSATError)
    ],
)
def test_every_error_has_a_cause(error: type[errors.EuroSATError], generated: ModuleType) -> None:
    cause = vars(error).get("__doc__")  # not the base class's
    assert cause
    assert f"| `{error.__name__}` | {error.exit_code} | {cause.split()[0]}" in generated.errors()


def test_every_environment_variable_of_the_code_is_documented() -> None:
    used = {
        name
        for path in Path(errors.__file__).parent.rglob("*.py")
        for name in re.findall(
            r'"((?:EUROSAT|AIP|CLOUD_ML|CLUSTER)_[A-Z_]+)"', path.read_text("utf-8")
        )
    }
    page = WRITTEN[Path("docs/reference/configuration.md")]
    private = {"EUROSAT_RUN_DIRECTORY"}  # processes of one run use it among themselves
    assert {name for name in used - private if f"`{name}`" not in page} == set()
    assert "EUROSAT_API_KEY" in used


def anchors(text: str) -> set[str]:
    """The anchors that headings get, on the site and in GitHub's view of a page."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    headings = re.findall(r"^#+ (.*)$", outside, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", WRITTEN, ids=str)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", WRITTEN[page], flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (REPOSITORY / page.parent / name).resolve() if name else REPOSITORY / page
        if path.stem in GENERATED and path.parent.name == "reference":
            assert page.parts[0] == "docs", f"{target} exists only on the site"
            continue
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text("utf-8")), target


def test_no_page_and_no_style_loads_from_elsewhere() -> None:
    """Pages may link to other sites, but a reader's browser asks only the site's own."""
    settings = (REPOSITORY / "docs/conf.py").read_text("utf-8")
    styles = "".join(path.read_text("utf-8") for path in (REPOSITORY / "docs/_static").iterdir())
    images = re.findall(r"!\[[^]]*\]\(([^)]+)\)", "".join(WRITTEN.values()))
    assert images
    assert not [path for path in images if "//" in path]
    assert "http" not in settings + styles
