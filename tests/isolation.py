"""Isolation of the test suite from the developer's environment and settings."""

import atexit
import os
import shutil
import tempfile
import time
from pathlib import Path

_KEPT = {
    # These variables locate programs and certificates and configure the network.
    *("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYENV_ROOT", "PYTHONPATH", "VIRTUAL_ENV"),
    *("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    # These variables select the resources and the temporary folders of the machine.
    *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TEMP", "TMP", "TMPDIR", "XDG_CACHE_HOME"),
    # These variables configure Python and the suite.
    *("CI", "PYTHONUNBUFFERED", "EUROSAT_SWEEPS_PYTHON", "EUROSAT_CLIENTS_PYTHON"),
}
_KEPT_STARTS = ("COVERAGE_", "OPENBLAS_", "PIP_", "PYTEST_")
_DONE = "EUROSAT_TESTS_HOME"


def isolate() -> None:
    """Remove the user's settings and every environment variable that is not known to be harmless.

    Variables such as WANDB_MODE, PORT, RANK, COLUMNS or GIT_DIR change the behaviour of the
    program, and each new library reads further variables. The lists above therefore name the
    variables to keep, not the variables to remove. PYTHONDONTWRITEBYTECODE is removed, because each
    process that a test starts would compile the program again. HOME becomes a new folder, because
    the user's ~/.gitconfig, ~/.netrc and ~/.config change the behaviour of the program too.
    Processes that a test starts inherit the environment, including the variables that the test
    sets.
    """
    if _DONE in os.environ:
        return
    cache = Path.home() / ".cache"  # fonts and downloads do not change results
    for name in list(os.environ):
        if name not in _KEPT and not name.startswith(_KEPT_STARTS):
            del os.environ[name]
    home = Path(tempfile.mkdtemp(prefix="eurosat-tests-home-"))
    atexit.register(_remove, home, os.getpid())
    (home / ".gitconfig").write_text("[safe]\n\tdirectory = *\n[init]\n\tdefaultBranch = main\n")
    os.environ.setdefault("XDG_CACHE_HOME", str(cache))
    os.environ |= {
        "HOME": str(home),
        "USERPROFILE": str(home),  # Windows reads USERPROFILE in place of HOME
        "GIT_CONFIG_NOSYSTEM": "1",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "TZ": "UTC",
        _DONE: str(home),
    }
    time.tzset()


def _remove(home: Path, process: int) -> None:
    """Remove the home folder at the exit of the process that made the folder, not of a fork."""
    if os.getpid() == process:
        shutil.rmtree(home, ignore_errors=True)
