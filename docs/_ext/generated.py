"""Pages that are made from the code at every build: commands, HTTP API, errors, metrics."""

import contextlib
import importlib
import inspect
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

from diagrams import DIAGRAMS
from sphinx.application import Sphinx

NOTE = "<!-- Made by docs/_ext/generated.py at every build. -->\n\n"


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages before Sphinx reads the folder."""
    app.connect("builder-inited", write_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_all(app: Sphinx) -> None:
    """Write the generated pages and diagrams."""
    source = Path(app.srcdir)
    write_pages(source / "reference")
    for name, draw in DIAGRAMS.items():
        drawn = f'<div class="diagram-frame">\n{draw()}</div>\n'
        (source / "explanation" / f"{name}.svg.html").write_text(drawn, "utf-8")


def write_pages(folder: Path) -> None:
    """Write every generated page that has changed."""
    pages = {
        "commands": commands(),
        "http-api": http_api(),
        "errors": errors(),
        "metrics": metrics(),
        "python-api": python_api(),
    }
    for name, content in pages.items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text("utf-8") != NOTE + content:
            path.write_text(NOTE + content, "utf-8")


def help_of(verb: str) -> str:
    """The help text of a verb."""
    from eurosat.cli import main

    shown, arguments = io.StringIO(), sys.argv
    columns = os.environ.get("COLUMNS")
    # Lightning warns if its arguments are not those of the process.
    sys.argv, os.environ["COLUMNS"] = ["eurosat", verb, "--help"], "96"
    try:
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            main()
    finally:
        sys.argv = arguments
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns
    return re.sub(r"[\x00-\x08]", "", shown.getvalue())  # argparse hides a space behind one


def commands() -> str:
    """Every verb with its usage, its description and its settings."""
    from eurosat.cli import TOOL_VERBS, TRAINER_VERBS

    page = [
        "# Commands",
        "Each section has the content of `eurosat VERB --help`. A YAML file can set the options of "
        "every command (`--config`).",
    ]
    for verb in TRAINER_VERBS | TOOL_VERBS:
        page.append(f"## eurosat {verb}")
        usage, *parts = help_of(verb).strip("\n").split("\n\n")
        page.append(f"```text\n{usage}\n```")
        for part in parts:
            title, _, rest = part.partition("\n")
            if title.endswith(":") and rest.startswith("  "):
                page.append(f"### {verb}: {_escape(title.removesuffix(':'))}")
                part = rest
            page += _settings(part) if part.startswith("  ") else [_escape(part)]
    return "\n\n".join(page) + "\n"


def _settings(group: str) -> list[str]:
    """Make definitions of the settings of a group, and paragraphs of the text before them."""
    text, *entries = re.split(r"^ {2}(?=\S)", group, flags=re.M)
    made = [_escape(text)] if text.strip() else []
    for entry in entries:
        head, meaning = re.split(r"\n| {2,}", entry, maxsplit=1) if " " in entry else (entry, "")
        made.append(f"`{head.strip()}`\n: {_escape(meaning) or 'No description.'}")
    return made


def _escape(text: str) -> str:
    """Make a paragraph of plain text, in which no character formats."""
    return re.sub(r"([\\`*_\[\]<>$|~#])", r"\\\1", " ".join(text.split()))


def http_api() -> str:
    """Every route of the service, from its OpenAPI description."""
    spec = openapi()
    page = [
        "# HTTP API",
        "The routes of `eurosat serve`, from the service's own OpenAPI description, which a "
        "running service shows at `/docs` and serves as `/openapi.json`. "
        "[Serving](../howto/serve.md) has the limits and the meaning of the answers.",
    ]
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            page.append(f"## {method.upper()} {path}")
            page += [operation[key] for key in ("summary", "description") if operation.get(key)]
            page += _parameters(operation.get("parameters", []))
            for content, body in operation.get("requestBody", {}).get("content", {}).items():
                page.append(
                    f"Body as `{content}`:\n\n```json\n{_json(body.get('schema', {}))}\n```"
                )
            rows = ["| status | meaning |", "| --- | --- |"]
            for status, answer in operation.get("responses", {}).items():
                rows.append(f"| {status} | {answer.get('description', '')} |")
            page.append("\n".join(rows))
    schemas = spec.get("components", {}).get("schemas", {})
    if schemas:
        page.append("## Schemas")
        page += [f"### {name}\n\n```json\n{_json(schema)}\n```" for name, schema in schemas.items()]
    return "\n\n".join(page) + "\n"


def openapi() -> dict[str, Any]:
    """The OpenAPI description of a service with an API key."""
    from typing import cast

    from fastapi import FastAPI

    from eurosat.inference import ModelCard
    from eurosat.labels import CLASSES
    from eurosat.serving.limits import Limits
    from eurosat.serving.open_inference import open_inference_routes
    from eurosat.serving.pages import add_pages
    from eurosat.serving.routes import routes
    from eurosat.serving.service import Service
    from eurosat.serving.vertex import vertex_routes

    card = ModelCard(
        version="1",
        classes=tuple(CLASSES),
        bands=("B04", "B03", "B02"),
        patch_size=64,
        backbone="patchnet",
        format="onnx",
        checkpoint="0" * 64,
    )
    # The description needs no worker.
    nothing = cast(Any, None)
    service = Service(card, nothing, nothing, Limits(256, 16 * 2**20, 128, 30.0))
    app = FastAPI(title="EuroSAT classifier")
    app.include_router(routes(service, None, with_metrics=True))
    app.include_router(vertex_routes(service, "/vertex/predict"))
    app.include_router(open_inference_routes(service))
    add_pages(app, {}, key_needed=True)
    return app.openapi()


def _parameters(parameters: list[dict[str, Any]]) -> list[str]:
    if not parameters:
        return []
    rows = ["| parameter | in | meaning |", "| --- | --- | --- |"]
    for entry in parameters:
        rows.append(f"| `{entry['name']}` | {entry['in']} | {entry.get('description', '')} |")
    return ["\n".join(rows)]


def _json(content: Any) -> str:
    import json

    return json.dumps(content, indent=2)


def errors() -> str:
    """Every error that the command line names, with its exit code."""
    from eurosat import errors as module

    rows = ["| error | exit code | cause |", "| --- | --- | --- |"]
    for name, error in vars(module).items():
        if inspect.isclass(error) and issubclass(error, module.EuroSATError):
            cause = " ".join((error.__doc__ or "").split())
            rows.append(f"| `{name}` | {error.exit_code} | {cause} |")
    page = [
        "# Errors and exit codes",
        "A mistake that a user can correct is shown as `eurosat VERB: error: cause: remedy`, "
        "without a traceback. In Python, the mistakes are these exceptions of `eurosat.errors`:",
        "\n".join(rows),
        "| exit code | meaning |\n| --- | --- |\n"
        "| 0 | the command did what it was asked to do |\n"
        "| 1 | a gate's check failed, or a training, a study, a job or a service ended early |\n"
        "| 2 | a mistake in usage, settings or data; nothing was written |\n"
        "| 143 | SIGTERM ended a training; the same command with `--resume auto` continues it |",
        "[Runs that fail or are stopped](../howto/track.md#runs-that-fail-or-are-stopped) lists "
        "how the record of a run tells its end.",
    ]
    return "\n\n".join(page) + "\n"


def metrics() -> str:
    """The list of metrics."""
    from eurosat.metrics import metrics as listed

    rows = ["| name | title | better | meaning |", "| --- | --- | --- | --- |"]
    for metric in listed():
        meaning = " ".join((inspect.getdoc(metric.score) or "").split("\n\n")[0].split())
        better = "larger" if metric.better == "max" else "smaller"
        rows.append(f"| `{metric.name}` | {metric.title} | {better} | {meaning} |")
    return (
        "# Metrics\n\nEvery validation logs `val/<name>` and every test `test/<name>`. "
        "[Add a metric](../howto/extend.md#a-metric) to add to the list.\n\n"
        + "\n".join(rows)
        + "\n"
    )


NAMES = {"metrics": ("Metric", "register_metric")}
"""Public names of modules that have no ``__all__``."""

FACES = ("data", "models", "training", "metrics", "inference", "gate", "evaluation", "serving")


def python_api() -> str:
    """The public names of every package, documented by their docstrings."""
    page = [
        "# Python API",
        "The public names. Other names may change in any version.",
    ]
    for face in FACES:
        module = importlib.import_module(f"eurosat.{face}")
        names = sorted(getattr(module, "__all__", None) or NAMES[face])
        page.append(f"## eurosat.{face}\n\n{(inspect.getdoc(module) or '').splitlines()[0]}")
        for name in names:
            thing = getattr(module, name)
            kind = "autoclass" if inspect.isclass(thing) else "autofunction"
            members = "\n:members:" if inspect.isclass(thing) else ""
            page.append(
                f"```{{eval-rst}}\n.. {kind}:: eurosat.{face}.{name}"
                f"{members.replace(chr(10), chr(10) + '   ')}\n```"
            )
    return "\n\n".join(page) + "\n"
