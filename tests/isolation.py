"""The suite depends on nobody's environment."""

import atexit
import os
import shutil
import tempfile
import time
from pathlib import Path

_KEPT = {
    # Where programs and certificates are, and how to reach the network.
    *("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYENV_ROOT", "PYTHONPATH", "VIRTUAL_ENV"),
    *("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    # What the machine has, and how much of it to use.
    *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TEMP", "TMP", "TMPDIR", "XDG_CACHE_HOME"),
    # What the suite asks of Python, and the suite's own settings.
    *("CI", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "EUROSAT_SWEEPS_PYTHON"),
}
_KEPT_STARTS = ("COVERAGE_", "OPENBLAS_", "PIP_", "PYTEST_")
_DONE = "EUROSAT_TESTS_HOME"


def isolate() -> None:
    """Drop every environment variable that is not known to be harmless, and the user's settings.

    Variables such as WANDB_MODE, PORT, RANK, COLUMNS or GIT_DIR steer the program, and a new
    library brings new ones. So the list names what is kept rather than what is dropped. HOME
    becomes an empty folder, because ~/.gitconfig, ~/.netrc and ~/.config steer the program too.
    Processes that a test starts inherit the result, and keep what the test sets.
    """
    if _DONE in os.environ:
        return
    cache = Path.home() / ".cache"  # fonts and downloads, which change no result
    for name in list(os.environ):
        if name not in _KEPT and not name.startswith(_KEPT_STARTS):
            del os.environ[name]
    home = Path(tempfile.mkdtemp(prefix="eurosat-tests-home-"))
    atexit.register(_remove, home, os.getpid())
    (home / ".gitconfig").write_text("[safe]\n\tdirectory = *\n[init]\n\tdefaultBranch = main\n")
    os.environ.setdefault("XDG_CACHE_HOME", str(cache))
    os.environ |= {
        "HOME": str(home),
        "USERPROFILE": str(home),  # HOME on Windows
        "GIT_CONFIG_NOSYSTEM": "1",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "TZ": "UTC",
        _DONE: str(home),
    }
    time.tzset()


def _remove(home: Path, process: int) -> None:
    """Remove the home at the end of the process that made it, not of a fork of it."""
    if os.getpid() == process:
        shutil.rmtree(home, ignore_errors=True)
