"""Windows and macOS: what imports there, which verbs refuse Windows, and how text is encoded."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

# The libraries have Windows builds of their own, so they are imported first, as on Linux. What is
# removed afterwards is missing for the modules of eurosat only.
IMPORT_ALL = """
import ast, importlib, os, signal, sys
from pathlib import Path

def imported_by(file):
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module

modules, libraries = [], set()
for file in sorted(Path("eurosat").rglob("*.py")):
    modules.append(".".join(file.with_suffix("").parts).removesuffix(".__init__"))
    libraries.update(imported_by(file))
absent = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
for name in sorted(libraries - absent):
    if name.partition(".")[0] != "eurosat":
        importlib.import_module(name)
assert not any(name.partition(".")[0] == "eurosat" for name in sys.modules)

for name in absent:
    sys.modules[name] = None  # `import name` raises ModuleNotFoundError
kept = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL", "SIG_IGN"}
for name in set(dir(signal)) - kept:
    if name.startswith("SIG") or name in ("alarm", "pause", "pthread_kill", "setitimer"):
        delattr(signal, name)
for name in (
    *("chown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getpgid", "getppid", "getuid"),
    *("killpg", "mkfifo", "pread", "register_at_fork", "sched_getaffinity", "sched_setaffinity"),
    *("setpgid", "setsid", "statvfs", "sysconf", "uname"),
):
    if hasattr(os, name):  # macOS has no sched_getaffinity
        delattr(os, name)
sys.platform = "win32"
for name in modules:
    importlib.import_module(name)
    print(name)
"""


@pytest.mark.process
def test_every_module_imports_without_what_windows_and_macos_lack() -> None:
    # A test that serves in this process leaves the variable, whose folder is gone.
    environment = dict(os.environ)
    environment.pop("PROMETHEUS_MULTIPROC_DIR", None)
    ended = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        capture_output=True,
        encoding="utf-8",
        cwd=REPOSITORY,
        env=environment,
    )
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.split()) == len(list((REPOSITORY / "eurosat").rglob("*.py")))


ON_WINDOWS = """
import sys

sys.platform, real = "win32", sys.platform
import eurosat.operating_system
sys.platform = real
from eurosat.cli import main

code = main()
print(*sorted({"filelock", "lightning", "litserve", "torch", "wandb"} & sys.modules.keys()))
sys.exit(code)
"""


@pytest.mark.process
@pytest.mark.parametrize(
    "arguments",
    [("serve", "model.onnx"), ("study", "study.yaml"), ("sweep", "sweep.yaml")],
    ids=lambda arguments: arguments[0],
)
def test_a_verb_that_needs_signals_refuses_windows_before_it_imports_libraries(
    arguments: tuple[str, str],
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ON_WINDOWS, *arguments],
        capture_output=True,
        encoding="utf-8",
        cwd=REPOSITORY,
    )
    assert ended.returncode == 2
    assert ended.stderr == (
        f"eurosat {arguments[0]}: error: 'eurosat {arguments[0]}' ends its processes by signals, "
        "which Windows does not have: run the command in WSL 2 (the Windows Subsystem for Linux), "
        "or in a Linux container\n"
    )
    assert ended.stdout.split() == []


def unnamed(call: ast.Call, method: str) -> bool:
    """Whether a call of a method leaves the encoding or the line ends of a text to the system."""
    given = {keyword.arg for keyword in call.keywords}
    values = [value.value for value in call.args if isinstance(value, ast.Constant)]
    match method:
        case "read_text":
            return not call.args and "encoding" not in given
        case "write_text":
            return len(call.args) < 2 or "newline" not in given
        case "open":
            mode = next((value for value in values if set(str(value)) <= set("rwaxbt+")), None)
            text = "b" not in mode if mode else "newline" in given or not (call.args or given)
            return text and "encoding" not in given
        case "run" | "Popen" | "check_output":
            return "text" in given
    return False


def unnamed_in(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            method = getattr(getattr(node, "func", None), "attr", "")  # of a call of a method
            if isinstance(node, ast.Call) and unnamed(node, method):
                yield f"{path.relative_to(REPOSITORY)}:{node.lineno} {method}"


@pytest.mark.parametrize("folder", ["eurosat", "benchmarks", "docker", "deploy"])
def test_the_encoding_of_every_text_file_is_named(folder: str) -> None:
    # Ruff's PLW1514 finds the functions, and methods where the line itself shows the type.
    assert not list(unnamed_in(REPOSITORY / folder))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("path.read_text()", True),
        ("path.read_text('utf-8')", False),
        ("path.write_text(text)", True),
        ("path.write_text(text, 'utf-8')", True),
        ("path.write_text(text, 'utf-8', newline='\\n')", False),
        ("path.open()", True),
        ("path.open('w')", True),
        ("path.open(newline='')", True),
        ("path.open('w', encoding='utf-8')", False),
        ("path.open('rb')", False),
        ("Image.open(path)", False),
        ("subprocess.run(command, text=True)", True),
        ("subprocess.run(command, encoding='utf-8')", False),
    ],
)
def test_an_unnamed_encoding_is_found(line: str, found: bool) -> None:
    (call,) = (node for node in ast.walk(ast.parse(line)) if isinstance(node, ast.Call))
    assert isinstance(call.func, ast.Attribute)
    assert unnamed(call, call.func.attr) == found
