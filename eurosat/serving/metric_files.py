"""The files by which the processes of a service share their metrics.

prometheus_client maps sparse files into memory. Where a disk is full, the kernel ends a process
that writes into such a file (SIGBUS). `MetricFile` reserves the space first; where it cannot, the
process keeps its metrics to itself and goes on.
"""

import logging
import os
import sys

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

_log = logging.getLogger(__name__)

_BYTES = 256 * 1024
"""Size of a file; the service's metrics have few labels, and take less than half of it."""


class MetricFile(MmapedDict):
    """The values of one kind of metric of one process."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        """Reserve the file and open it, or else memory of this process.

        Args:
            filename: The file.
            read_mode: Not used; prometheus_client reads in another way.
        """
        if sys.platform == "linux":
            try:
                with open(filename, "ab") as file:
                    os.posix_fallocate(file.fileno(), 0, _BYTES)
            except OSError as error:
                _log.error(
                    "the metrics of process %d are missing in the service's metrics, because %s "
                    "cannot be written (%s): free space in the folder for temporary files, or set "
                    "TMPDIR to another folder, and start the service again",
                    os.getpid(),
                    filename,
                    error.strerror,
                )
                filename = f"/proc/self/fd/{os.memfd_create('eurosat-metrics')}"
        super().__init__(filename)  # type: ignore[no-untyped-call]


values.MmapedDict = MetricFile  # type: ignore[attr-defined]  # there is no setting for it
