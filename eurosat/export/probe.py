"""Opening a new file in a process of its own, because a fault of a runtime ends its process."""

import subprocess
import sys
from pathlib import Path

from eurosat.errors import ExportError

_OPEN = (
    "import sys; from pathlib import Path; from eurosat.inference import open_model; "
    "open_model(Path(sys.argv[1]))"
)


def check_opens(path: Path) -> None:
    """Open a file and classify two patches in another process.

    OpenVINO's int8 kernels end the process on some CPUs with AMX
    (https://github.com/openvinotoolkit/openvino/issues/37577).

    Args:
        path: The file of an export.

    Raises:
        ExportError: The process was ended, which is no error that Python can catch.
    """
    command = [sys.executable, "-c", _OPEN, str(path)]
    code = subprocess.run(command, capture_output=True).returncode
    if code not in (0, 1):  # 1 is an error of Python, which opening the file here names
        raise ExportError(
            f"the runtime of the file crashes on this machine (exit code {code}): if the CPU has "
            "AMX, set the environment variable ONEDNN_MAX_CPU_ISA=AVX512_CORE_FP16 here and where "
            "the file is served, or choose a format that computes in float32"
        )
