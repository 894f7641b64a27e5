"""The workflows: what they pin, what they may do, and the make targets that they run."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from eurosat.registry.reference import Stage
from tests.conftest import REPOSITORY

GITHUB = REPOSITORY / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))

every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text("utf-8")))


def triggers(workflow: dict[Any, Any]) -> dict[str, Any]:
    return dict(workflow[True])  # YAML 1.1 reads the key `on` as true


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def recipes() -> dict[str, str]:
    """The recipes of the Makefile by their targets."""
    text = (REPOSITORY / "Makefile").read_text("utf-8")
    return dict(re.findall(r"^([a-z][a-z-]*):(?!=).*\n((?:\t.*\n)*)", text, re.M))


def calls(path: Path) -> Iterator[tuple[str, set[str]]]:
    """The make targets that a workflow runs, each with the names of the variables that it gets."""
    workflow = read(path)
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            if "run" in step:
                call = re.fullmatch(r"make ([a-z-]+)((?: [A-Z_]+=\S+)*)", step["run"])
                assert call, f"`{step['run']}` is no call of make"
                given = {word.partition("=")[0] for word in call[2].split()}
                for scope in (workflow, job, step):
                    given |= set(scope.get("env", {}))
                yield call[1], given


@every_workflow
def test_every_action_is_pinned_by_a_hash_with_its_version(path: Path) -> None:
    used = re.findall(r"^.*\buses: *(.*)$", path.read_text("utf-8"), re.M)
    assert len(used) == sum("uses" in step for step in steps(path))
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[0-9.]+", action), action


def test_an_action_has_one_version() -> None:
    texts = [path.read_text("utf-8") for path in WORKFLOWS]
    used = {line for text in texts for line in re.findall(r"uses: (\S+@.*)", text)}
    names = [line.partition("@")[0] for line in used]
    assert len(names) == len(set(names)), sorted(used)


@every_workflow
def test_a_workflow_grants_nothing_and_a_job_only_what_it_names(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {}
    assert "concurrency" in workflow
    for name, job in workflow["jobs"].items():
        assert "permissions" in job, name
        assert 0 < job["timeout-minutes"] <= 90, name


@every_workflow
def test_no_job_keeps_credentials_or_a_cache(path: Path) -> None:
    for step in steps(path):
        settings = step.get("with", {})
        action = step.get("uses", "").partition("@")[0]
        assert action != "actions/cache"
        assert not {"cache", "cache-from", "cache-to"} & settings.keys(), step
        if action == "actions/checkout":
            assert settings["persist-credentials"] is False
        if action == "astral-sh/setup-uv":
            assert settings["enable-cache"] is False


@every_workflow
def test_what_runs_is_a_make_target_that_gets_its_variables(path: Path) -> None:
    known = recipes()
    for target, given in calls(path):
        assert target in known, f"the Makefile has no target {target}"
        required = re.findall(r"\$\(call REQUIRE,([A-Z_ ]+)\)", known[target])
        assert set(" ".join(required).split()) <= given, target


def test_the_recipes_are_found() -> None:
    assert "GCP_PROJECT" in recipes()["deploy"]
    assert "lint-imports" in recipes()["lint"]


def test_branch_protection_needs_one_job() -> None:
    jobs = read(GITHUB / "workflows/check.yml")["jobs"]
    check = jobs["check"]
    assert set(check["needs"]) == jobs.keys() - {"check"}
    assert check["if"] == "always()"
    (step,) = check["steps"]
    assert step["uses"].startswith("re-actors/alls-green@")
    skipped = set(step["with"]["allowed-skips"].split(","))
    assert skipped == {name for name, job in jobs.items() if "if" in job} - {"check"}


def test_the_tag_of_a_stage_deploys_and_no_other_tag_does() -> None:
    patterns = triggers(read(GITHUB / "workflows/model-registry.yml"))["push"]["tags"]
    for stage in get_args(Stage):
        assert any(fnmatchcase(f"eurosat#{stage}#12", pattern) for pattern in patterns), stage
    for tag in ("eurosat@v0.0.1", "v0.1.0", "eurosat#production!#13"):
        assert not any(fnmatchcase(tag, pattern) for pattern in patterns), tag


@pytest.mark.parametrize("name", ["release", "images"])
def test_a_release_is_a_tag_of_a_version(name: str) -> None:
    (pattern,) = triggers(read(GITHUB / f"workflows/{name}.yml"))["push"]["tags"]
    expression = pattern.replace(".", r"\.")  # GitHub's other signs here mean the same
    assert re.fullmatch(expression, "v10.2.0")
    for tag in ("eurosat@v0.0.1", "v1.0.0rc1", "1.0.0", "eurosat#production#1"):
        assert not re.fullmatch(expression, tag), tag


def test_ci_and_the_image_install_with_one_version_of_uv() -> None:
    uses = [step for path in WORKFLOWS for step in steps(path) if "setup-uv" in str(step)]
    (version,) = {step["with"]["version"] for step in uses}
    for name in (".ci/run", "docker/train.Dockerfile"):
        text = (REPOSITORY / name).read_text("utf-8")
        assert re.findall(r"uv==([\d.]+)", text) == [version], name


def test_every_dependency_update_waits() -> None:
    updates = read(GITHUB / "dependabot.yml")["updates"]
    ecosystems = {update["package-ecosystem"] for update in updates}
    assert {"github-actions", "docker", "pip"} <= ecosystems
    for update in updates:
        assert update["cooldown"]["default-days"] >= 7
        assert update["groups"]


def test_the_citation_has_the_version_of_the_package() -> None:
    version = re.search(
        r'^version = "(.+)"', (REPOSITORY / "pyproject.toml").read_text("utf-8"), re.M
    )
    assert version
    assert read(REPOSITORY / "CITATION.cff")["version"] == version[1]


def test_the_hooks_of_a_commit_need_no_network() -> None:
    for repository in read(REPOSITORY / ".pre-commit-config.yaml")["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["language"] == "system"
            assert hook["entry"].startswith((".venv/bin/", "make ")), hook["id"]
