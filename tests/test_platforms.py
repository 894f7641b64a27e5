"""Windows and macOS: what imports there, and which verbs refuse Windows."""

import subprocess
import sys

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
    ended = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], capture_output=True, encoding="utf-8", cwd=REPOSITORY
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
